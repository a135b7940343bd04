"""The renderer on CUDA devices: gsplat's kernels, frames of many worlds and scenes in one batch, images as torch tensors.

gsplat renders one set of Gaussians for many cameras. Here every frame has a set of its own, so the stages are called one by one:
the Gaussians of all instances of all frames are put into their cameras' frames (one flat list, no padding), projected as if one
camera at the origin saw them all, then binned and blended with the number of their frame as gsplat's image id. Nothing is copied
to the host but how many Gaussians are seen and how many entries tiles have.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldengine_envs.errors import DataError
from worldengine_envs.rendering.differentiable import Rendering
from worldengine_envs.rendering.frames import EVERYWHERE, Frames, Images, RenderSettings
from worldengine_envs.rendering.gaussians import SH_C0, Gaussians
from worldengine_envs.rendering.gsplat_parts import Parts, harmonics, transformed

TILE = 16  # edge of a tile [px]; the only size that all of gsplat's kernels are built for
ROWS_AT_ONCE = 8_000_000  # Gaussians of all frames that are projected together: about 2 GB of passing arrays
PIXELS_AT_ONCE = 2**26  # of all frames that are blended together: about 1 GB; gsplat counts their channels in int32
EXTENT = 3.33  # standard deviations at which gsplat cuts a Gaussian off
MAX_ALPHA, MIN_ALPHA = 0.99, 1 / 255
MEDIAN_STEP = 16  # Gaussians of each tile that the node image blends at once


class _Splats(NamedTuple):
    """Gaussians on the images, n of all frames together, in the order of the frames' instances."""

    means: Tensor  # (n, 2) float32 [px]
    radii: Tensor  # (n, 2) int32 [px]
    depths: Tensor  # (n,) float32 [m]
    conics: Tensor  # (n, 3) float32 inverse covariances [1/px^2]
    opacities: Tensor  # (n,) float32, compensation included
    colors: Tensor  # (n, 3) float32
    frames: Tensor  # (n,) int64 number of the frame in the chunk
    nodes: Tensor  # (n,) int32


class _Instances(NamedTuple):
    """What stands in the frames of a chunk."""

    frame: np.ndarray  # (instances,) int64 number of the frame in the chunk
    part: np.ndarray  # (instances,) int32
    rows: np.ndarray  # (instances,) int64 rows of ``Frames``
    counts: np.ndarray  # (instances,) int64 Gaussians


class GsplatRenderer:
    """Draws with gsplat on a CUDA device; ``Images`` hold torch tensors on it."""

    def __init__(self, settings: RenderSettings | None = None, device: str = "cuda", backend: ModuleType | None = None):
        """Makes a renderer without parts.

        Args:
            settings: How Gaussians are drawn.
            device: The CUDA device.
            backend: In place of gsplat, something with its functions of the same names.
        """
        self.settings = RenderSettings() if settings is None else settings
        self.device = str(device)
        self._gsplat = importlib.import_module("gsplat") if backend is None else backend
        self._parts = Parts(torch.device(device))

    def add(self, gaussians: Gaussians) -> int:
        """Copies Gaussians to the device and returns their handle; one that is not finite, or has no rotation, is never drawn."""
        return self._parts.add(gaussians)

    def remove(self, part: int) -> None:
        """Forgets a part; its handle may be given again."""
        self._parts.remove(part)

    @torch.no_grad()
    def render(self, frames: Frames, outputs: tuple[str, ...] = ("rgb",)) -> Images:
        """Returns the images named in ``outputs`` ("rgb", "alpha", "depth", "node") of all frames, as tensors on the device.

        Raises:
            DataError: An unknown output, or a frame with a part that was not added.
        """
        unknown = [name for name in outputs if name not in Images._fields]
        if unknown:
            raise DataError(f"{unknown[0]!r} is none of {', '.join(Images._fields)}", field="outputs")
        shape = (len(frames), frames.height, frames.width)
        make = {
            "rgb": lambda: torch.empty((*shape, 3), dtype=torch.uint8, device=self.device),
            "alpha": lambda: torch.empty(shape, device=self.device),
            "depth": lambda: torch.empty(shape, device=self.device),
            "node": lambda: torch.empty(shape, dtype=torch.int32, device=self.device),
        }
        images = Images(*(make[name]() if name in outputs else None for name in Images._fields))
        for numbers in _chunks(frames, self._parts.counts(frames.part)):
            self._draw(frames, numbers, images)
        return images

    def _draw(self, frames: Frames, numbers: np.ndarray, images: Images) -> None:
        """Draws the frames ``numbers``, whose intrinsics are the same, into their images."""
        splats = self._splats(frames, numbers)
        grid = -(-frames.width // TILE), -(-frames.height // TILE)
        offsets, ids = self._tile_lists(splats, len(numbers), *grid)
        colors = splats.colors if images.depth is None else torch.cat([splats.colors, splats.depths[:, None]], dim=1)
        if len(splats.means):
            rgbd, alpha = self._gsplat.rasterize_to_pixels(
                splats.means, splats.conics, colors, splats.opacities, frames.width, frames.height, TILE, offsets, ids, packed=True
            )
        else:
            rgbd = torch.zeros((len(numbers), frames.height, frames.width, colors.shape[1]), device=self.device)
            alpha = torch.zeros((*rgbd.shape[:3], 1), device=self.device)
        where = torch.as_tensor(numbers, device=self.device)
        if images.rgb is not None:
            rgb = rgbd[..., :3]
            if any(self.settings.background):
                rgb = rgb + (1 - alpha) * torch.tensor(self.settings.background, device=self.device)
            images.rgb[where] = (rgb.clamp(0, 1) * 255).round_().to(torch.uint8)
        if images.alpha is not None:
            images.alpha[where] = alpha[..., 0]
        if images.depth is not None:
            images.depth[where] = rgbd[..., 3] / alpha[..., 0].clamp_min(1e-10)
        if images.node is not None:
            images.node[where] = _median_nodes(splats, offsets, ids, frames.height, frames.width)

    def _tile_lists(self, splats: _Splats, frames: int, columns: int, rows: int) -> tuple[Tensor, Tensor]:
        """Returns (frames, rows, columns) where each tile's list begins, and the lists, front to back."""
        if len(splats.means) == 0:
            return torch.zeros((frames, rows, columns), dtype=torch.int32, device=self.device), splats.nodes
        _, keys, ids = self._gsplat.isect_tiles(
            splats.means, splats.radii, splats.depths, TILE, columns, rows,
            packed=True, n_images=frames, image_ids=splats.frames, gaussian_ids=splats.frames,
        )  # fmt: skip
        return self._gsplat.isect_offset_encode(keys, frames, columns, rows).reshape(frames, rows, columns), ids

    def _splats(self, frames: Frames, numbers: np.ndarray) -> _Splats:
        """Returns what is seen of the frames' Gaussians."""
        spans = [np.arange(frames.offsets[f], frames.offsets[f + 1]) for f in numbers]
        rows = np.concatenate(spans)
        frame = np.repeat(np.arange(len(numbers)), [len(span) for span in spans])
        what = _Instances(frame, frames.part[rows], rows, self._parts.counts(frames.part[rows]))
        if _is_one_scene(frames, what, len(numbers)):
            return self._splats_of_one_scene(frames, numbers, what)
        return self._splats_of_many(frames, numbers, what)

    def _splats_of_one_scene(self, frames: Frames, numbers: np.ndarray, what: _Instances) -> _Splats:
        """As ``_splats``, where all frames show one and the same part that stands in the world as it is: gsplat's own case."""
        parts, first, n = self._parts, int(self._parts.starts(what.part)[0]), int(what.counts[0])
        here = slice(first, first + n)
        view = self._upload(frames.world_to_camera[numbers])
        fields = self._project(parts.means[here], parts.covars[here], parts.opacities[here], view, frames, numbers)
        seen = (fields[0] > 0).all(-1).flatten().nonzero()[:, 0]
        frame, row = seen // n, seen % n
        toward = None
        if parts.sh.shape[1] > 1:
            eyes = -np.einsum("fji,fj->fi", frames.world_to_camera[numbers, :3, :3], frames.world_to_camera[numbers, :3, 3])
            toward = parts.means[here][row] - self._upload(eyes)[frame]
        node = self._upload(frames.node[what.rows])[frame]
        return self._gather(fields, seen, row + first, toward, frame, node)

    def _splats_of_many(self, frames: Frames, numbers: np.ndarray, what: _Instances) -> _Splats:
        """As ``_splats``, for any instances: all Gaussians are first put into the frames of their cameras."""
        parts = self._parts
        to_camera = frames.world_to_camera[numbers][what.frame]
        turn = to_camera[:, :3, :3] @ frames.rotation[what.rows]
        move = np.einsum("iab,ib->ia", to_camera[:, :3, :3], frames.translation[what.rows]) + to_camera[:, :3, 3]
        stretch = frames.scale[what.rows]
        matrix, turn, move = self._upload(turn * stretch[:, None, :]), self._upload(turn), self._upload(move)
        before = np.cumsum(what.counts) - what.counts
        shift = self._upload(parts.starts(what.part) - before)
        counts, total = self._upload(what.counts), int(what.counts.sum())
        instance = torch.repeat_interleave(torch.arange(len(counts), device=self.device), counts, output_size=total)
        row = torch.arange(total, device=self.device) + shift[instance]
        means = (matrix[instance] * parts.means[row, None, :]).sum(-1) + move[instance]

        reach = parts.reach[row] * self._upload(stretch.max(axis=1))[instance]
        near = self._may_be_seen(means, reach, frames, numbers).nonzero()[:, 0]
        if len(near) == 0:
            return self._nothing()
        instance, row, means = instance[near], row[near], means[near]
        covars = transformed(matrix[instance], parts.covars[row])
        view = torch.eye(4, device=self.device)[None]
        fields = self._project(means, covars, parts.opacities[row], view, frames, numbers[:1])
        seen = (fields[0] > 0).all(-1).flatten().nonzero()[:, 0]
        instance = instance[seen]
        toward = None
        if parts.sh.shape[1] > 1:  # colours turn with the part: the direction is one of the part's frame
            toward = (turn[instance] * means[seen, :, None]).sum(1)
        frame, node = self._upload(what.frame)[instance], self._upload(frames.node[what.rows])[instance]
        return self._gather(fields, seen, row[seen], toward, frame, node)

    def _nothing(self) -> _Splats:
        """Returns no splats."""
        real, whole = torch.zeros(0, device=self.device), torch.zeros(0, dtype=torch.int32, device=self.device)
        pairs, triples = real.reshape(0, 2), real.reshape(0, 3)
        return _Splats(pairs, whole.reshape(0, 2), real, triples, real, triples, whole.long(), whole)

    def _may_be_seen(self, means: Tensor, reach: Tensor, frames: Frames, numbers: np.ndarray) -> Tensor:
        """Returns (n,) False for Gaussians whose box on the image lies outside of it for sure.

        The bound takes the Gaussian for a ball of its largest axis and the slope of the view at its clamped limit.
        """
        fx, fy, cx, cy = frames.intrinsics[numbers[0]]
        depth = means[:, 2]
        seen = (depth >= self.settings.near) & (depth <= self.settings.far)
        for axis, focal, center, size in ((0, fx, cx, frames.width), (1, fy, cy, frames.height)):
            slope = max(center, size - center) / focal + 0.15 * size / focal
            radius = EXTENT * ((focal * np.hypot(1, slope)) * reach / depth + self.settings.eps2d**0.5) + 1
            seen &= (focal * means[:, axis] / depth + (center - 0.5 * size)).abs() <= 0.5 * size + radius
        return seen

    def _project(self, means, covars, opacities, view, frames: Frames, numbers: np.ndarray):
        """Returns gsplat's radii, means, depths, conics and compensations (cameras, n, ...) of Gaussians seen by cameras ``view``.

        Not packed: where compensations are asked for, version 1.5's packed projection counts its rows without them.
        """
        s, fx, fy, cx, cy = self.settings, *frames.intrinsics[numbers].T
        zero, one = np.zeros(len(numbers)), np.ones(len(numbers))
        matrix = np.stack([fx, zero, cx, zero, fy, cy, zero, zero, one], axis=1).reshape(-1, 3, 3)
        return self._gsplat.fully_fused_projection(
            means, covars, None, None, view, self._upload(matrix), frames.width, frames.height,
            eps2d=s.eps2d, near_plane=s.near, far_plane=s.far,
            packed=False, calc_compensations=s.antialiased, opacities=opacities,
        )  # fmt: skip

    def _gather(self, fields, seen: Tensor, row: Tensor, toward: Tensor | None, frame: Tensor, node: Tensor) -> _Splats:
        radii, means, depths, conics, compensations = fields
        opacities = self._parts.opacities[row]
        if compensations is not None:
            opacities = opacities * compensations.flatten()[seen]
        sh = self._parts.sh[row]
        color = SH_C0 * sh[:, 0] if toward is None else harmonics(toward, sh)
        return _Splats(
            means.reshape(-1, 2)[seen],
            radii.reshape(-1, 2)[seen],
            depths.flatten()[seen],
            conics.reshape(-1, 3)[seen],
            opacities,
            (color + 0.5).clamp_min(0),
            frame,
            node,
        )

    def _upload(self, array: np.ndarray) -> Tensor:
        """Returns the array on the device, floats as float32."""
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def rasterise(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    sh: Tensor,
    world_to_camera: Tensor,
    intrinsics: Tensor,
    width: int,
    height: int,
    settings: RenderSettings | None = None,
) -> Rendering:
    """Draws one set of Gaussians for several cameras with gsplat; differentiable by all parameters and ``world_to_camera``.

    As ``differentiable.rasterise``, for tensors on a CUDA device.

    Args:
        means, quats, scales, opacities, sh: (N, 3), (N, 4), (N, 3) logarithms, (N,) logits, (N, (degree + 1)^2, 3) float32.
        world_to_camera: (C, 4, 4) float32.
        intrinsics: (C, 4) float32 fx, fy, cx, cy [px].
        width: [px]
        height: [px]
        settings: How Gaussians are drawn.
    """
    gsplat = importlib.import_module("gsplat")
    s = RenderSettings() if settings is None else settings
    matrix = torch.zeros((len(intrinsics), 3, 3), device=means.device)
    matrix[:, [0, 1, 0, 1], [0, 1, 2, 2]] = intrinsics
    matrix[:, 2, 2] = 1
    rgbd, alpha, _ = gsplat.rasterization(
        means, quats, scales.exp(), opacities.sigmoid(), sh, world_to_camera, matrix, width, height,
        near_plane=s.near, far_plane=s.far, eps2d=s.eps2d, sh_degree=round(sh.shape[1] ** 0.5) - 1, packed=False,
        render_mode="RGB+ED", rasterize_mode="antialiased" if s.antialiased else "classic",
    )  # fmt: skip
    rgb = rgbd[..., :3] + (1 - alpha) * torch.tensor(s.background, device=means.device)
    return Rendering(rgb, alpha[..., 0], rgbd[..., 3])


def _chunks(frames: Frames, counts: np.ndarray) -> Iterator[np.ndarray]:
    """Yields numbers of frames with the same intrinsics and together not too many Gaussians (one frame may have more).

    Args:
        frames: All frames.
        counts: (instances,) Gaussians of the instances.
    """
    rows = np.diff(np.append(0, np.cumsum(counts))[frames.offsets])
    share = np.maximum(rows / ROWS_AT_ONCE, frames.height * frames.width / PIXELS_AT_ONCE)
    _, group = np.unique(frames.intrinsics, axis=0, return_inverse=True)
    group = group.reshape(-1)
    for g in range(group.max() + 1 if len(group) else 0):
        numbers = np.flatnonzero(group == g)
        chunk = np.floor(np.cumsum(share[numbers]) - 1e-9)
        for c in np.unique(chunk):
            yield numbers[chunk == c]


def _is_one_scene(frames: Frames, what: _Instances, count: int) -> bool:
    """Whether each of the frames shows just the same part, unmoved."""
    rows = what.rows
    return (
        len(rows) == count
        and len(np.unique(what.frame)) == count
        and what.counts[0] > 0
        and (what.part == what.part[0]).all()
        and (frames.rotation[rows] == np.eye(3)).all()
        and (frames.scale[rows] == 1).all()
        and (frames.translation[rows] == 0).all()
    )


def _median_nodes(splats: _Splats, offsets: Tensor, ids: Tensor, height: int, width: int) -> Tensor:
    """Returns (frames, height, width) int32 nodes of the Gaussians at which the transmittance falls below 0.5.

    gsplat has no such image; tiles are blended here side by side, some Gaussians of each at a time. Not made for speed.
    """
    frames, rows, columns = offsets.shape
    starts = offsets.reshape(-1).long()
    ends = torch.cat([starts[1:], starts.new_tensor([len(ids)])])
    tile = torch.arange(len(starts), device=starts.device) % (rows * columns)
    inside = torch.arange(TILE, device=starts.device) + 0.5
    x = ((tile % columns) * TILE)[:, None, None] + inside.repeat(TILE)  # (tiles, 1, pixels of a tile)
    y = ((tile // columns) * TILE)[:, None, None] + inside.repeat_interleave(TILE)
    node = torch.full((len(starts), TILE * TILE), EVERYWHERE, dtype=torch.int32, device=starts.device)
    left = torch.ones(node.shape, device=starts.device)
    longest = int((ends - starts).max()) if len(ids) else 0
    for begin in range(0, longest, MEDIAN_STEP):
        place = starts[:, None] + begin + torch.arange(MEDIAN_STEP, device=starts.device)
        splat = ids[place.clamp_max(len(ids) - 1)].long()  # (tiles, step)
        dx, dy = (splats.means[splat][..., axis, None] - pixel for axis, pixel in ((0, x), (1, y)))
        a, b, c = (splats.conics[splat][..., k, None] for k in range(3))
        sigma = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
        alpha = (splats.opacities[splat][..., None] * torch.exp(-sigma)).clamp_max(MAX_ALPHA)
        alpha = torch.where((place < ends[:, None])[..., None] & (sigma >= 0) & (alpha >= MIN_ALPHA), alpha, 0)
        after = left[:, None] * torch.cumprod(1 - alpha, dim=1)
        below = after < 0.5
        found = below.any(1) & (left >= 0.5)
        node = torch.where(found, splats.nodes[splat].gather(1, below.int().argmax(1)), node)
        left = after[:, -1]
    image = node.reshape(frames, rows, columns, TILE, TILE).permute(0, 1, 3, 2, 4)
    return image.reshape(frames, rows * TILE, columns * TILE)[:, :height, :width]
