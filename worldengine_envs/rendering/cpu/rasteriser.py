"""One frame from placed parts: the stages one after the other, each over the threads that it may use."""

from __future__ import annotations

import numpy as np

from worldengine_envs.rendering.cpu.binning import BUCKETS, fill, make_room
from worldengine_envs.rendering.cpu.blending import BLOCKS, JOBS, TileWork, blend
from worldengine_envs.rendering.cpu.projection import project
from worldengine_envs.rendering.cpu.simd import LANES
from worldengine_envs.rendering.cpu.stages import FIELDS, TILE, Canvas, Placed, Splats, TileLists, View
from worldengine_envs.rendering.cpu.store import GROUPS, PART_FIELDS, Part
from worldengine_envs.rendering.cpu.threads import over
from worldengine_envs.rendering.frames import RenderSettings

GROWTH = 1.25
LINE = 64  # bytes of a cache line


class Rasteriser:
    """Draws frames one at a time; keeps the arrays of the last one, and their memory for the next.

    Attributes:
        splats: ``Splats`` of the last frame.
        lists: ``TileLists`` of the last frame, sorted.
    """

    def __init__(self):
        self.splats = self.lists = None
        self._work: list[TileWork] = []
        self._scratch = aligned((0, FIELDS, LANES))

    def draw(self, placed: Placed, view: View, canvas: Canvas, threads: int = 1) -> None:
        """Draws a frame. The canvas does not depend on the number of threads.

        Args:
            placed: The parts.
            view: The camera.
            canvas: Written.
            threads: How many threads work on it.
        """
        across, down = -(-view.width // TILE), -(-view.height // TILE)
        self._prepare(int(placed.chunks[-1]), across * down, threads)
        over(threads, lambda t: project(t, threads, placed, view, self.splats, self.lists.cursors, self._scratch))
        self._grow_lists(make_room(self.lists.offsets, self.lists.cursors))
        over(threads, lambda t: fill(t, self.splats, self.lists, view.width, view.height))
        bounds = self._share(across * down, threads)
        over(threads, lambda t: self._blend(int(bounds[t]), int(bounds[t + 1]), t, view, canvas))

    def _blend(self, start: int, stop: int, thread: int, view: View, canvas: Canvas) -> None:
        blend(start, stop, self.splats, self.lists, view, canvas, self._work[thread])

    def _share(self, tiles: int, threads: int) -> np.ndarray:
        """Returns (threads + 1,) bounds of ranges of tiles that cost about the same."""
        cost = self.lists.offsets + 64 * np.arange(tiles + 1)
        bounds = np.searchsorted(cost, cost[-1] * np.arange(threads + 1) / threads)
        bounds[-1] = tiles
        return bounds

    def _prepare(self, chunks: int, tiles: int, threads: int) -> None:
        """Makes the arrays large enough."""
        room = -(-chunks // threads) * GROUPS * LANES
        capacity = room * threads
        starts, counts = np.arange(threads, dtype=np.int64) * room, np.zeros(threads, np.int64)
        records = self.splats.records if self.splats is not None else np.zeros((0, FIELDS), np.float32)
        if len(records) < capacity:
            records = aligned((int(GROWTH * capacity), FIELDS))
        self.splats = Splats(records, records.view(np.int32), starts, counts)
        if self.lists is None or self.lists.cursors.shape != (threads, tiles):
            entries, spare = (np.zeros(0, np.int64),) * 2 if self.lists is None else (self.lists.entries, self.lists.spare)
            self.lists = TileLists(np.zeros(tiles + 1, np.int64), entries, spare, np.zeros((threads, tiles), np.int64))
        while len(self._work) < threads:
            self._work.append(_make_work())
        if len(self._scratch) < threads:
            self._scratch = aligned((threads, FIELDS, LANES))

    def _grow_lists(self, total: int) -> None:
        if len(self.lists.entries) < total:
            size = int(GROWTH * total)
            self.lists = self.lists._replace(entries=np.empty(size, np.int64), spare=np.empty(size, np.int64))


def _make_work() -> TileWork:
    """Returns what one thread needs to blend."""
    blocks = TILE * BLOCKS
    hot, cold, jobs, pixels = aligned((blocks, 4, LANES)), aligned((blocks, 4, LANES)), aligned((4, JOBS)), aligned((3, LANES))
    whole = [array.view(np.int32) for array in (cold, jobs, pixels)]
    buckets, alive = np.zeros((2, BUCKETS), np.int32), np.zeros(blocks, np.uint8)
    return TileWork(buckets, hot, cold, whole[0], alive, jobs, whole[1], pixels, whole[2])


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Returns an empty float32 array that begins at a cache line."""
    size = int(np.prod(shape)) * 4
    memory = np.empty(size + LINE, np.uint8)
    skip = -memory.ctypes.data % LINE
    return memory[skip : skip + size].view(np.float32).reshape(shape)


def make_view(settings: RenderSettings, intrinsics: np.ndarray, height: int, width: int) -> View:
    """Returns a camera with intrinsics (4,) fx, fy, cx, cy [px]."""
    f = np.float32
    lens = tuple(f(value) for value in intrinsics)
    limits = f(settings.near), f(settings.far), f(settings.eps2d)
    return View(*lens, width, height, *limits, bool(settings.antialiased), *(f(value) for value in settings.background))


def make_canvas(height: int, width: int, outputs: tuple[str, ...]) -> Canvas:
    """Returns empty images; ``outputs`` are names of the fields of ``Canvas``."""
    kinds = {"rgb8": ((3,), np.uint8), "rgb": ((3,), np.float32), "node": ((), np.int32), "last": ((), np.int32)}
    images = {}
    for name in Canvas._fields:
        tail, dtype = kinds.get(name, ((), np.float32))
        images[name] = np.empty((height if name in outputs else 0, width, *tail), dtype)
    return Canvas(**images)


def place(parts: list[Part], rotation, scale, translation, node, world_to_camera: np.ndarray) -> Placed:
    """Returns the parts of one frame as its camera sees them.

    Args:
        parts: One an instance.
        rotation: (instances, 3, 3) float64 of the instances.
        scale: (instances, 3) float64, > 0.
        translation: (instances, 3) float64 [m].
        node: (instances,) int32.
        world_to_camera: (4, 4) float64.
    """
    n = len(parts)
    turn, shift = world_to_camera[:3, :3], world_to_camera[:3, 3]
    eye = -turn.T @ shift
    eyes = np.einsum("nji,nj->ni", rotation, eye - translation) / scale
    high = eyes.astype(np.float32)
    matrices = np.einsum("ij,njk,nk->nik", turn, rotation, scale)
    counts = np.zeros((2, n + 1), np.int64)
    counts[0, 1:] = np.cumsum([part.size for part in parts])
    counts[1, 1:] = np.cumsum([len(part.bounds) for part in parts])
    return Placed(
        np.array([part.row for part in parts], np.int64).reshape(n, PART_FIELDS),
        np.ascontiguousarray(matrices, np.float32),
        np.stack([high, (eyes - high).astype(np.float32)], 1),
        np.ascontiguousarray(scale, np.float32),
        np.ascontiguousarray(node, np.int32),
        counts[0],
        counts[1],
    )
