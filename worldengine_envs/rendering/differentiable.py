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
from worldengine_envs.rendering.cpu.rasteriser import Rasteriser, make_canvas, make_view, place
from worldengine_envs.rendering.cpu.sight import find_in_sight
from worldengine_envs.rendering.cpu.stages import REACH_X, REACH_Y
from worldengine_envs.rendering.cpu.store import Harmonics, Part, apart, pack_arrays, together
from worldengine_envs.rendering.cpu.threads import over
from worldengine_envs.rendering.frames import EVERYWHERE, RenderSettings
from worldengine_envs.simulation.kernels import announce_compiling
from worldengine_envs.simulation.threads import num_threads


class Rendering(NamedTuple):
    """What C cameras see; float32."""

    rgb: torch.Tensor  # (C, H, W, 3), the background included, not clipped from above
    alpha: torch.Tensor  # (C, H, W) in [0, 1]
    depth: torch.Tensor  # (C, H, W) expected depth along the camera's z [m], 0 where nothing is


class Directional(NamedTuple):
    """The part of Gaussians' colours that depends on where they are seen from, in a table of its own."""

    rest: torch.Tensor  # (N, K - 1, 3) spherical harmonics but the first, K = 1, 4, 9 or 16
    degree: int  # that is in use; gets a gradient of None if it is 0
    plain: torch.Tensor | None = None  # (N,) bool who looks the same from everywhere; None = nobody


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
    directional: Directional | None = None,
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
        sh: (N, K, 3) spherical harmonics, K = 1, 4, 9 or 16; with ``directional`` K = 1.
        world_to_camera: (C, 4, 4) rigid; camera x right, y down, z forward. The camera's centre is -R^T t.
        intrinsics: (C, 4) fx, fy, cx, cy [px]; the first pixel's centre is at 0.5, 0.5. Gets no gradient.
        width: [px]
        height: [px]
        settings: How Gaussians are drawn.
        statistics: Filled, if given.
        directional: The other spherical harmonics, if they are in a table of their own. This spares copies where there are many.

    Raises:
        DataError: Shapes that do not fit, or tensors that are not on the CPU.
    """
    tensors = {"means": means, "quats": quats, "scales": scales, "opacities": opacities, "sh": sh}
    tensors |= {"world_to_camera": world_to_camera, "intrinsics": intrinsics}
    _check(tensors, directional)
    announce_compiling((project, blend, blending_backward, projection_backward), "the differentiable rasteriser")
    rest, *use = directional or (None, 0, None)
    images = _Rasterise.apply(*tensors.values(), rest, *use, width, height, settings or RenderSettings(), statistics)
    return Rendering(*images)


def _check(tensors: dict[str, torch.Tensor], directional: Directional | None) -> None:
    n, cameras = len(tensors["means"]), len(tensors["world_to_camera"])
    coefficients = tensors["sh"].shape[1] if tensors["sh"].dim() == 3 else 0
    shapes = {"means": (n, 3), "quats": (n, 4), "scales": (n, 3), "opacities": (n,), "sh": (n, coefficients, 3)}
    shapes |= {"world_to_camera": (cameras, 4, 4), "intrinsics": (cameras, 4)}
    if directional is not None:
        used = (directional.degree + 1) ** 2
        if coefficients != 1 or directional.degree not in range(4) or directional.rest.shape[1] + 1 < used:
            problem = f"degree {directional.degree} does not fit {coefficients} and {directional.rest.shape[1]} coefficients"
            raise DataError(problem, field="directional")
        tensors = tensors | {"rest": directional.rest}
        shapes["rest"] = (n, directional.rest.shape[1], 3)
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
    def forward(ctx, means, quats, scales, opacities, sh, poses, lenses, rest, degree, plain, width, height, settings, statistics):
        tables, use = (means, quats, scales, opacities, sh, rest), (degree, np.zeros(0, bool) if plain is None else plain.numpy())
        ctx.save_for_backward(*tables)
        ctx.pose_dtype, ctx.use = poses.dtype, use
        poses, lenses, shape = poses.detach().double().numpy(), lenses.detach().float().numpy(), (len(poses), height, width)
        gaussians = _parameters(tables, *use)
        part = pack_arrays(*gaussians, _in_sight(gaussians, poses, lenses, width, height, settings), num_threads())
        images = np.empty((*shape, 3), np.float32), np.empty(shape, np.float32), np.empty(shape, np.float32)
        shots = [_shoot(part, *camera, width, height, settings) for camera in zip(poses, lenses, *images, strict=True)]
        if statistics is not None:
            statistics.reach = torch.zeros(len(shots), len(means))
            for c, shot in enumerate(shots):
                statistics.reach[c] = torch.from_numpy(_reach(shot, len(means)))
        ctx.shots, ctx.settings, ctx.statistics = shots, settings, statistics
        return tuple(torch.from_numpy(image) for image in images)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_rgb, v_alpha, v_depth):
        parameters, cameras = _parameters(ctx.saved_tensors, *ctx.use), len(ctx.shots)
        wanted = ctx.statistics is not None
        v_tables = [None if tensor is None else np.zeros(tensor.shape, np.float32) for tensor in ctx.saved_tensors]
        gradients = Parameters(*v_tables[:4], _harmonics(*v_tables[4:], *ctx.use))
        v_poses = np.zeros((cameras, 4, 4))
        v_screen = np.zeros((cameras, len(parameters.means) if wanted else 0, 4), np.float32)
        background = np.array(ctx.settings.background, np.float32)
        for c, shot in enumerate(ctx.shots):
            v_images = (np.ascontiguousarray(v[c].numpy()) for v in (v_rgb, v_alpha, v_depth))
            image = ImageGradients(shot.through, shot.depth, shot.last, background, *v_images)
            v_poses[c, :3] = _backward(shot, image, parameters, gradients, v_screen[c])
        if wanted:
            screen = torch.from_numpy(v_screen)
            ctx.statistics.gradient, ctx.statistics.absolute = screen[..., :2], screen[..., 2:]
        if ctx.use[0] == 0:
            v_tables[5] = None
        tables = zip(v_tables, ctx.saved_tensors, strict=True)
        *tables, v_rest = (None if v is None else torch.from_numpy(v).to(tensor.dtype) for v, tensor in tables)
        return *tables, torch.from_numpy(v_poses).to(ctx.pose_dtype), None, v_rest, *[None] * 6


def _in_sight(gaussians: Parameters, poses, lenses, width: int, height: int, settings: RenderSettings) -> np.ndarray:
    """Returns (M,) int32 rows of the Gaussians that some camera may draw."""
    n, threads, seen = len(gaussians.means), num_threads(), np.empty(len(gaussians.means), bool)
    tables, limits = (gaussians.means, gaussians.scales, gaussians.opacities), (settings.near, settings.far, settings.eps2d)
    view = poses, lenses.astype(np.float64), width, height, tuple(float(limit) for limit in limits), seen
    over(threads, lambda t: find_in_sight(n * t // threads, n * (t + 1) // threads, *tables, *view))
    return np.flatnonzero(seen).astype(np.int32)


def _parameters(tables, degree: int, plain: np.ndarray) -> Parameters:
    """Returns the arrays of tensors means, quats, scales, opacities, sh and rest."""
    arrays = [None if tensor is None else _numpy(tensor) for tensor in tables]
    return Parameters(*arrays[:4], _harmonics(*arrays[4:], degree, plain))


def _harmonics(sh: np.ndarray, rest: np.ndarray | None, degree: int, plain: np.ndarray) -> Harmonics:
    return together(sh) if rest is None else apart(sh, rest, (degree + 1) ** 2, plain)


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
