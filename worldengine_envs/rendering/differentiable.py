"""The CPU rasteriser as a function of torch: images of Gaussians, and the gradients of what is made of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from worldengine_envs.errors import DataError
from worldengine_envs.rendering.cpu.blending import blend
from worldengine_envs.rendering.cpu.blending_backward import FLOW, WORK, ImageGradients, blending_backward, find_rows, gather
from worldengine_envs.rendering.cpu.projection import project
from worldengine_envs.rendering.cpu.projection_backward import CHUNK, Camera, Parameters, projection_backward
from worldengine_envs.rendering.cpu.rasteriser import Rasteriser, make_canvas, make_view, over, place
from worldengine_envs.rendering.cpu.stages import REACH_X, REACH_Y
from worldengine_envs.rendering.cpu.store import Part, pack
from worldengine_envs.rendering.frames import EVERYWHERE, RenderSettings
from worldengine_envs.rendering.gaussians import Gaussians
from worldengine_envs.simulation.kernels import announce_compiling
from worldengine_envs.simulation.threads import num_threads


class Rendering(NamedTuple):
    """What C cameras see; float32."""

    rgb: torch.Tensor  # (C, H, W, 3), the background included, not clipped from above
    alpha: torch.Tensor  # (C, H, W) in [0, 1]
    depth: torch.Tensor  # (C, H, W) expected depth along the camera's z [m], 0 where nothing is


class ScreenStatistics:
    """Where Gaussians are on the images and how the loss pulls them there: what densification goes by.

    Attributes:
        reach: (C, N) float32 larger half of the box in which a Gaussian shows [px], 0 if it is not drawn. Set by ``rasterise``.
        gradient: (C, N, 2) float32 gradient of its centre on the image [1/px]. Set by the backward pass.
        absolute: (C, N, 2) float32 the same, with the absolute values of the pixels' shares added up.
    """

    def __init__(self):
        self.reach = self.gradient = self.absolute = None


def rasterise(
    means: torch.Tensor,
    quats: torch.Tensor,
    scales: torch.Tensor,
    opacities: torch.Tensor,
    sh: torch.Tensor,
    world_to_camera: torch.Tensor,
    intrinsics: torch.Tensor,
    width: int,
    height: int,
    settings: RenderSettings | None = None,
    statistics: ScreenStatistics | None = None,
) -> Rendering:
    """Draws N Gaussians as C cameras see them; differentiable by all of the Gaussians' parameters and by ``world_to_camera``.

    Rules, constants and parameters are those of 3D Gaussian Splatting (Kerbl et al. 2023) as in gsplat. What the cut-offs drop
    (alpha under 1/255, behind a transmittance of 1e-4) gets no gradient, nor do alpha above 0.99, colours under 0 and compensation
    at its floor. A Gaussian with a parameter that is not finite is not drawn and gets gradients of 0.

    Args:
        means: (N, 3) centres [m].
        quats: (N, 4) w, x, y, z, need not be of length one.
        scales: (N, 3) natural logarithm of the standard deviations along the axes [m].
        opacities: (N,) logit.
        sh: (N, K, 3) spherical harmonics, K = 1, 4, 9 or 16.
        world_to_camera: (C, 4, 4) rigid; camera x right, y down, z forward. The camera's centre is -R^T t.
        intrinsics: (C, 4) fx, fy, cx, cy [px]; the first pixel's centre is at 0.5, 0.5. Gets no gradient.
        width: [px]
        height: [px]
        settings: How Gaussians are drawn.
        statistics: Filled, if given.

    Raises:
        DataError: Shapes that do not fit, or tensors that are not on the CPU.
    """
    tensors = {"means": means, "quats": quats, "scales": scales, "opacities": opacities, "sh": sh}
    tensors |= {"world_to_camera": world_to_camera, "intrinsics": intrinsics}
    _check(tensors)
    announce_compiling((project, blend, blending_backward, projection_backward), "the differentiable rasteriser")
    images = _Rasterise.apply(*tensors.values(), width, height, settings or RenderSettings(), statistics)
    return Rendering(*images)


def _check(tensors: dict[str, torch.Tensor]) -> None:
    n, cameras = len(tensors["means"]), len(tensors["world_to_camera"])
    coefficients = tensors["sh"].shape[1] if tensors["sh"].dim() == 3 else 0
    shapes = {"means": (n, 3), "quats": (n, 4), "scales": (n, 3), "opacities": (n,), "sh": (n, coefficients, 3)}
    shapes |= {"world_to_camera": (cameras, 4, 4), "intrinsics": (cameras, 4)}
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != shapes[name] or (name == "sh" and coefficients not in (1, 4, 9, 16)):
            raise DataError(f"has the shape {tuple(tensor.shape)}, not {shapes[name]}", field=name)
        if tensor.device.type != "cpu":
            raise DataError(f"is on {tensor.device}", field=name, remedy="Use gsplat_renderer.rasterise on a GPU")


class _Shot(NamedTuple):
    """What the backward pass needs of one camera's frame."""

    rasteriser: Rasteriser
    camera: Camera
    through: np.ndarray
    depth: np.ndarray
    last: np.ndarray


class _Rasterise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, means, quats, scales, opacities, sh, world_to_camera, intrinsics, width, height, settings, statistics):
        gaussians = Gaussians(*(_numpy(tensor) for tensor in (means, quats, scales, opacities, sh)))
        poses, lenses = world_to_camera.detach().double().numpy(), intrinsics.detach().float().numpy()
        part, shape = pack(gaussians, in_order=True), (len(poses), height, width)
        images = np.empty((*shape, 3), np.float32), np.empty(shape, np.float32), np.empty(shape, np.float32)
        shots = [_shoot(part, *camera, width, height, settings) for camera in zip(poses, lenses, *images, strict=True)]
        if statistics is not None:
            statistics.reach = torch.zeros(len(shots), len(gaussians))
            for c, shot in enumerate(shots):
                statistics.reach[c] = torch.from_numpy(_reach(shot, len(gaussians)))
        ctx.save_for_backward(means, quats, scales, opacities, sh)
        ctx.shots, ctx.settings, ctx.statistics = shots, settings, statistics
        ctx.dtypes = [tensor.dtype for tensor in (means, quats, scales, opacities, sh, world_to_camera)]
        return tuple(torch.from_numpy(image) for image in images)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_rgb, v_alpha, v_depth):
        parameters, cameras = Parameters(*(_numpy(tensor) for tensor in ctx.saved_tensors)), len(ctx.shots)
        gradients = Parameters(*(np.zeros_like(array) for array in parameters))
        v_poses = np.zeros((cameras, 4, 4))
        v_screen = np.zeros((cameras, len(parameters.means) if ctx.statistics is not None else 0, 4), np.float32)
        background = np.array(ctx.settings.background, np.float32)
        for c, shot in enumerate(ctx.shots):
            v_images = (np.ascontiguousarray(v[c].numpy()) for v in (v_rgb, v_alpha, v_depth))
            image = ImageGradients(shot.through, shot.depth, shot.last, background, *v_images)
            v_poses[c, :3] = _backward(shot, image, parameters, gradients, v_screen[c])
        if ctx.statistics is not None:
            screen = torch.from_numpy(v_screen)
            ctx.statistics.gradient, ctx.statistics.absolute = screen[..., :2], screen[..., 2:]
        arrays = [torch.from_numpy(array).to(dtype) for array, dtype in zip((*gradients, v_poses), ctx.dtypes, strict=True)]
        return *arrays, *[None] * 5


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().float().numpy())


def _shoot(part: Part, pose, lens, rgb, alpha, depth, width: int, height: int, settings: RenderSettings) -> _Shot:
    """Draws one camera's images, which are written, and returns what the backward pass needs."""
    rasteriser, one = Rasteriser(), np.ones((1, 3))
    canvas = make_canvas(height, width, ("last", "through"))._replace(rgb=rgb, alpha=alpha, depth=depth)
    placed = place([part], np.eye(3)[None], one, 0 * one, np.full(1, EVERYWHERE, np.int32), pose)
    rasteriser.draw(placed, make_view(settings, lens, height, width), canvas, num_threads())
    lens = tuple(float(value) for value in lens)
    camera = Camera(pose[:3].copy(), *lens, width, height, float(settings.eps2d), bool(settings.antialiased))
    return _Shot(rasteriser, camera, canvas.through, depth.copy(), canvas.last)  # the caller may write to what it gets


def _reach(shot: _Shot, n: int) -> np.ndarray:
    """Returns (N,) float32 larger half of the boxes [px], 0 for what is not drawn."""
    rows = np.empty(n, np.int32)
    find_rows(shot.rasteriser.splats, rows)
    return np.where(rows < 0, np.float32(0), shot.rasteriser.splats.records[rows, REACH_X : REACH_Y + 1].max(1))


def _backward(shot: _Shot, image: ImageGradients, parameters, gradients, v_screen: np.ndarray) -> np.ndarray:
    """Adds the gradients that come from one camera; returns those of its pose (3, 4)."""
    splats, lists = shot.rasteriser.splats, shot.rasteriser.lists
    threads, n, offsets = num_threads(), len(parameters.means), lists.offsets
    sums, work = np.empty((offsets[-1], FLOW), np.float32), np.empty((threads, WORK), np.float32)
    tiles = np.searchsorted(offsets, offsets[-1] * np.arange(threads + 1) / threads)
    tiles[0], tiles[-1] = 0, len(offsets) - 1
    over(
        threads,
        lambda t: blending_backward(
            tiles[t], tiles[t + 1], image, splats.records, offsets, lists.entries, len(v_screen) > 0, work[t], sums
        ),
    )
    rows = np.empty(n, np.int32)
    used = find_rows(splats, rows)
    flow, chunks = np.empty((used, FLOW), np.float32), -(-n // CHUNK)
    v_pose = np.empty((chunks, 3, 4))
    over(threads, lambda t: gather(used * t // threads, used * (t + 1) // threads, offsets, lists.entries, sums, flow))
    over(
        threads,
        lambda t: projection_backward(
            chunks * t // threads,
            chunks * (t + 1) // threads,
            rows,
            flow,
            splats.records,
            shot.camera,
            parameters,
            gradients,
            v_pose,
            v_screen,
        ),
    )
    return v_pose.sum(0)
