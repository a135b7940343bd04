"""The renderer for CPUs: needs nothing but numpy and numba."""

from __future__ import annotations

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.rendering.cpu.binning import fill, make_room
from worldengine_envs.rendering.cpu.blending import blend
from worldengine_envs.rendering.cpu.projection import project
from worldengine_envs.rendering.cpu.rasteriser import Rasteriser, make_canvas, make_view, place
from worldengine_envs.rendering.cpu.stages import Canvas
from worldengine_envs.rendering.cpu.store import Part, pack
from worldengine_envs.rendering.cpu.threads import over
from worldengine_envs.rendering.frames import Frames, Images, RenderSettings
from worldengine_envs.rendering.gaussians import Gaussians
from worldengine_envs.simulation.kernels import announce_compiling
from worldengine_envs.simulation.threads import num_threads

OUTPUTS = ("rgb", "alpha", "depth", "node")
SH_COEFFICIENTS = (1, 4, 9, 16)  # of degree 0 to 3


class CpuRenderer:
    """Draws frames of Gaussians on the threads of this machine (``WORLDENGINE_THREADS`` or all).

    Frames are shared out over threads, what is left over is drawn by all threads together; images do not depend on how many there
    are. A renderer draws one batch at a time: give each thread that calls one its own.

    Args:
        settings: How Gaussians are drawn.
    """

    device = "cpu"

    def __init__(self, settings: RenderSettings | None = None):
        self.settings = settings or RenderSettings()
        self._parts: dict[int, Part] = {}
        self._free: list[int] = []
        self._rasterisers: list[Rasteriser] = []
        announce_compiling((project, make_room, fill, blend), "the rasteriser")

    def add(self, gaussians: Gaussians) -> int:
        """Takes over Gaussians for good and returns their handle. Those with numbers that are not finite are never drawn.

        Raises:
            DataError: Arrays of shapes that do not fit.
        """
        _check_gaussians(gaussians)
        handle = self._free.pop() if self._free else len(self._parts)
        self._parts[handle] = pack(gaussians)
        return handle

    def remove(self, part: int) -> None:
        """Forgets a part; its handle may be given again.

        Raises:
            DataError: There is no such part.
        """
        if part not in self._parts:
            raise DataError(f"{part} is no part of this renderer", field="part")
        del self._parts[part]
        self._free.append(part)

    def render(self, frames: Frames, outputs: tuple[str, ...] = ("rgb",)) -> Images:
        """Returns the images named in ``outputs`` ("rgb", "alpha", "depth", "node") of all frames.

        Raises:
            DataError: An unknown output, a frame with a part that was not added, or arrays of shapes that do not fit.
        """
        _check_frames(frames)
        unknown = [name for name in outputs if name not in OUTPUTS]
        if unknown:
            raise DataError(f"{unknown[0]!r} is none of {', '.join(OUTPUTS)}", field="outputs")
        missing = set(np.unique(frames.part).tolist()) - self._parts.keys()
        if missing:
            raise DataError(f"{min(missing)} is no part of this renderer", field="frames.part")
        images = _make_images(frames, outputs)
        threads = num_threads()
        while len(self._rasterisers) < threads:
            self._rasterisers.append(Rasteriser())
        together = len(frames) - len(frames) % threads  # these are drawn one a thread
        over(threads, lambda t: [self._draw(frames, f, images, t, 1) for f in range(t, together, threads)])
        for f in range(together, len(frames)):
            self._draw(frames, f, images, 0, threads)
        return images

    def _draw(self, frames: Frames, f: int, images: Images, rasteriser: int, threads: int) -> None:
        """Draws one frame."""
        here = slice(int(frames.offsets[f]), int(frames.offsets[f + 1]))
        parts = [self._parts[int(handle)] for handle in frames.part[here]]
        stand = frames.rotation[here], frames.scale[here], frames.translation[here], frames.node[here]
        placed = place(parts, *stand, frames.world_to_camera[f])
        view = make_view(self.settings, frames.intrinsics[f], frames.height, frames.width)
        empty = _nothing(frames.width)
        wanted = {name: image[f] for name, image in images._asdict().items() if image is not None}
        if "rgb" in wanted:
            wanted["rgb8"] = wanted.pop("rgb")
        self._rasterisers[rasteriser].draw(placed, view, empty._replace(**wanted), threads)


def _check_gaussians(gaussians: Gaussians) -> None:
    """Refuses arrays that kernels, which do not look at bounds, would read past."""
    n, g = len(gaussians.means), gaussians
    coefficients = g.sh.shape[1] if g.sh.ndim == 3 else 0
    if coefficients not in SH_COEFFICIENTS:
        raise DataError(f"has the shape {g.sh.shape}, not (N, 1, 4, 9 or 16, 3)", field="sh")
    shapes = {"means": (n, 3), "quats": (n, 4), "scales": (n, 3), "opacities": (n,), "sh": (n, coefficients, 3)}
    _check_shapes(gaussians, shapes)


def _check_frames(frames: Frames) -> None:
    """As ``_check_gaussians``."""
    n, f = len(frames.part), len(frames)
    shapes = {"part": (n,), "rotation": (n, 3, 3), "scale": (n, 3), "translation": (n, 3), "node": (n,)}
    _check_shapes(frames, shapes | {"offsets": (f + 1,), "world_to_camera": (f, 4, 4), "intrinsics": (f, 4)})


def _check_shapes(arrays, shapes: dict[str, tuple[int, ...]]) -> None:
    for name, shape in shapes.items():
        if getattr(arrays, name).shape != shape:
            raise DataError(f"has the shape {getattr(arrays, name).shape}, not {shape}", field=name)


def _nothing(width: int) -> Canvas:
    return make_canvas(0, width, ())


def _make_images(frames: Frames, outputs: tuple[str, ...]) -> Images:
    shape = (len(frames), frames.height, frames.width)
    makers = {
        "rgb": lambda: np.empty((*shape, 3), np.uint8),
        "alpha": lambda: np.empty(shape, np.float32),
        "depth": lambda: np.empty(shape, np.float32),
        "node": lambda: np.empty(shape, np.int32),
    }
    return Images(**{name: make() if name in outputs else None for name, make in makers.items()})
