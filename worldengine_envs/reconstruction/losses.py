"""What a reconstruction minimises: how images and depths differ, and shapes that Gaussians should not take.

Terms are those of MTGS (Li et al. 2025), section 3.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.scene_graph import FIRST_ACTOR, SHADOW_REACH, SKY
from worldengine_envs.reconstruction.shape_kernels import weigh_shapes
from worldengine_envs.reconstruction.ssim_kernels import (
    C1,
    C2,
    REACH,
    WINDOW,
    gradient_rows,
    load_planes,
    plane_shape,
    similarity_rows,
)
from worldengine_envs.rendering.cpu.simd import LANES
from worldengine_envs.rendering.cpu.threads import over
from worldengine_envs.simulation.kernels import announce_compiling
from worldengine_envs.simulation.threads import num_threads

NEAREST_M, FARTHEST_M = 0.1, 80.0  # measured depths that count
FAINTEST = 0.05  # alpha under which a drawn depth says nothing
THINNEST = 10.0  # ratio of the two longest axes that is free
LARGEST_RATIO = 20.0  # logarithm; more does not count more
OUTSIDE_M = 0.1  # by which an actor's Gaussians may leave its box
SHADOW_M = 0.1  # above the bottom of the box Gaussians may be of its shadow


class ImageLoss(NamedTuple):
    """How an image differs from what it should be, means over usable pixels and channels; scalars."""

    l1: Tensor  # absolute difference
    ssim: Tensor  # structural similarity
    mse: Tensor  # squared difference, colours held to [0, 1]; has no gradient


def l1_ssim(rendered: Tensor, target: np.ndarray, usable: np.ndarray) -> ImageLoss:
    """Returns how an image differs from what it should be, differentiable by the image.

    Similarity (Wang et al. 2004): Gaussian window of 11 pixels, sigma 1.5,
    C1 = 0.01^2, C2 = 0.03^2, zeros beyond the edge; under the window, pixels that are not usable count as drawn perfectly.

    Args:
        rendered: (H, W, 3) float32, colours in [0, 1]; what is outside is not clipped.
        target: (H, W, 3) uint8.
        usable: (H, W) bool.

    Raises:
        DataError: Shapes or dtypes that do not fit, or no usable pixel.
    """
    height, width = usable.shape
    if tuple(rendered.shape) != (height, width, 3) or target.shape != (height, width, 3) or target.dtype != np.uint8:
        shapes = f"{tuple(rendered.shape)}, {target.shape} {target.dtype} and {usable.shape}"
        raise DataError(f"images of {shapes} do not belong together", field="target")
    if not usable.any():
        raise DataError("has no usable pixel", field="usable", remedy="Look at the masks of this camera")
    if rendered.device.type == "cpu":
        announce_compiling((load_planes, similarity_rows, gradient_rows), "the losses of images")
        return ImageLoss(*_L1Ssim.apply(rendered, target, usable))
    return _l1_ssim_torch(rendered, torch.from_numpy(target).to(rendered.device), torch.from_numpy(usable).to(rendered.device))


def _l1_ssim_torch(rendered: Tensor, target: Tensor, usable: Tensor) -> ImageLoss:
    """As ``l1_ssim``, in torch."""
    wanted = target.to(rendered.dtype) / 255.0
    drawn, count = torch.where(usable[..., None], rendered, wanted), 3 * usable.sum()
    x, y = (image.permute(2, 0, 1)[:, None] for image in (drawn, wanted))
    stack, window = torch.cat((x, y, x * x, y * y, x * y)), torch.from_numpy(WINDOW).to(rendered)
    stack = functional.conv2d(stack, window[None, None, :, None], padding=(REACH, 0))
    mean_x, mean_y, xx, yy, xy = functional.conv2d(stack, window[None, None, None, :], padding=(0, REACH)).split(3)
    a = (2 * mean_x * mean_y + C1) * (2 * (xy - mean_x * mean_y) + C2)
    b = (mean_x**2 + mean_y**2 + C1) * ((xx - mean_x**2) + (yy - mean_y**2) + C2)
    squares = (drawn.detach().clamp(0.0, 1.0) - wanted).square().sum()
    return ImageLoss((drawn - wanted).abs().sum() / count, (a / b * usable).sum() / count, squares / count)


class _L1Ssim(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rendered, target, usable):
        image = np.ascontiguousarray(rendered.detach().float().numpy())
        height, width = usable.shape
        shape, threads = plane_shape(height, width), min(num_threads(), height)
        bounds = [height * t // threads for t in range(threads + 1)]
        x, y, weight = np.zeros((3, *shape), np.float32), np.zeros((3, *shape), np.float32), np.zeros(shape, np.float32)
        v, sums = np.zeros((3, 3, *shape), np.float32), np.empty((threads, 5, shape[1]), np.float32)
        counts, totals = np.empty((height, 3)), np.empty((height, 3, LANES), np.float32)
        over(threads, lambda t: load_planes(bounds[t], bounds[t + 1], image, target, usable, x, y, weight, counts))
        over(threads, lambda t: similarity_rows(bounds[t], bounds[t + 1], x, y, weight, sums[t], totals, v))
        count, error, squares = counts.sum(0) * (3.0, 1.0, 1.0)
        ctx.planes, ctx.bounds, ctx.count, ctx.like = (x, y, weight, v), bounds, count, (rendered.shape, rendered.dtype)
        losses = [rendered.new_tensor(total / count) for total in (error, totals.sum(dtype=np.float64), squares)]
        ctx.mark_non_differentiable(losses[2])
        return tuple(losses)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_l1, v_ssim, _):
        bounds, planes = ctx.bounds, ctx.planes
        threads, pitch = len(bounds) - 1, planes[0].shape[2]
        scale = np.float32(float(v_l1) / ctx.count), np.float32(float(v_ssim) / ctx.count)
        work = np.empty((threads, 2, 3, pitch), np.float32)
        shape, dtype = ctx.like
        image = np.empty(shape, np.float32)
        over(threads, lambda t: gradient_rows(bounds[t], bounds[t + 1], *planes, *scale, work[t, 0], work[t, 1], image))
        return torch.from_numpy(image).to(dtype), None, None


def inverse_depth(depth: Tensor, alpha: Tensor, samples) -> Tensor:
    """Returns the weighted mean of alpha |1 / depth - 1 / measured depth| [1/m] where depth was measured; alpha gets no gradient.

    Args:
        depth: (H, W) expected depth [m].
        alpha: (H, W)
        samples: ``pixel`` (S,) int64 row * W + column, ``depth`` (S,) [m] and ``weight`` (S,); arrays. Those beyond ``FARTHEST_M``
            or nearer than ``NEAREST_M`` do not count.
    """
    counted = (samples.depth > NEAREST_M) & (samples.depth < FARTHEST_M)
    pixel, measured, weight = (
        torch.from_numpy(np.ascontiguousarray(array[counted])).to(depth.device)
        for array in (samples.pixel, samples.depth, samples.weight)
    )
    drawn, opaque = depth.reshape(-1)[pixel], alpha.detach().reshape(-1)[pixel]
    weight = weight.to(depth)
    apart = (1.0 / drawn.clamp(min=NEAREST_M) - 1.0 / measured.to(depth)).abs()
    apart = torch.where(opaque > FAINTEST, opaque * apart, torch.zeros_like(apart))
    return (weight * apart).sum() / weight.sum().clamp(min=1e-8)


def shapes(scales: Tensor, node: Tensor, flatness: float, needles: float) -> Tensor:
    """Returns what shapes cost: flatness * mean of the shortest axes [m] + needles * mean of what axes are too long.

    Surfaces are flat. The longest axis is too long by what it has over ``THINNEST`` times the second: where a needle is seen from
    the side for the first time, it is a streak across the image. Gaussians of the sky do not count.

    Args:
        scales: (N, 3) logarithms of the standard deviations.
        node: (N,) int64 as in ``SceneGraph``.
        flatness: Weight.
        needles: Weight.
    """
    if scales.device.type == "cpu":
        return _Shapes.apply(scales, node, flatness, needles)
    return _shapes_torch(scales, node, flatness, needles)


def _shapes_torch(scales: Tensor, node: Tensor, flatness: float, needles: float) -> Tensor:
    """As ``shapes``, in torch."""
    scales = scales[node != SKY]
    if not len(scales):
        return scales.sum()
    length = scales.sort(dim=1, descending=True).values
    ratio = (length[:, 0] - length[:, 1]).clamp(max=LARGEST_RATIO).exp()
    return flatness * length[:, 2].exp().mean() + needles * (ratio.clamp(min=THINNEST) - THINNEST).mean()


class _Shapes(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scales, node, flatness, needles):
        values, counted = scales.detach().float().contiguous().numpy(), (node != SKY).numpy()
        gradient = np.zeros_like(values)
        total = weigh_shapes(values, counted, flatness, needles, THINNEST, LARGEST_RATIO, gradient)
        ctx.gradient, ctx.dtype = gradient, scales.dtype
        return scales.new_tensor(total)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_loss):
        return torch.from_numpy(ctx.gradient).to(ctx.dtype) * v_loss, None, None, None


def out_of_box(means: Tensor, opacities: Tensor, node: Tensor, sizes: Tensor) -> Tensor:
    """Returns the mean of -log(1 - opacity) over actors' Gaussians, those inside their box counting 0: outside they fade.

    On the ground, where its shadow is, the box is ``SHADOW_REACH`` times as long and wide.

    Args:
        means: (N, 3) in the frame of the node [m].
        opacities: (N,) logit.
        node: (N,) int64 as in ``SceneGraph``.
        sizes: (actors, 3) length, width, height [m].
    """
    rows = torch.nonzero(node >= FIRST_ACTOR).flatten()
    if not len(rows):
        return opacities.new_zeros(())
    place, half = means.detach()[rows], 0.5 * sizes[node[rows] - FIRST_ACTOR]
    on_ground = place[:, 2] < SHADOW_M - half[:, 2]
    half = half * torch.where(on_ground, SHADOW_REACH, 1.0)[:, None]
    outside = (place.abs() > half + OUTSIDE_M).any(dim=1)
    return (functional.softplus(opacities[rows]) * outside).sum() / len(rows)
