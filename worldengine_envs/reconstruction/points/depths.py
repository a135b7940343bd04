"""Depths in single images that training may look at, made when they are asked for."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from worldengine_envs.reconstruction.camera_log import CameraLog
from worldengine_envs.reconstruction.pictures import Pictures
from worldengine_envs.reconstruction.points.boxes import Boxes
from worldengine_envs.reconstruction.points.colour import hidden, project
from worldengine_envs.reconstruction.points.lidar import sweep_points
from worldengine_envs.reconstruction.points.maps import DepthMaps
from worldengine_envs.reconstruction.points.types import DepthSamples
from worldengine_envs.reconstruction.settings import PointSettings
from worldengine_envs.reconstruction.split import Split

MAX_SAMPLES = 20_000  # for one image
MAX_BYTES = 256 * 2**20  # of the samples that are kept
FADE_US = 250_000  # so much between image and sweep halves the weight: what moves has no box in every log
SURE_PX = 10.0  # parallax of a triangulated depth that counts as much as a LiDAR's
STEP_PX = 2  # of triangulated depths every so-many-th row and column is kept


class ViewDepths:
    """Measured depths of images: from the LiDAR sweep nearest in time, or triangulated from neighbouring images.

    Attributes:
        maps: Triangulated depths, by view.

    Args:
        log: What was recorded.
        pictures: Its images.
        split: What may be learned from; other sweeps and images are not read.
        settings: Range.
        max_bytes: Of the samples that are kept, and as much again for ``maps``.
    """

    def __init__(self, log: CameraLog, pictures: Pictures, split: Split, settings: PointSettings, max_bytes: int = MAX_BYTES):
        self.log, self.pictures, self.settings, self.max_bytes = log, pictures, settings, max_bytes
        self.boxes = Boxes(log)
        self.sweeps = np.asarray(split.train_sweeps, np.int64)
        self.sweep_times = np.array([log.sweeps[s].time_us for s in self.sweeps], np.int64)
        self.sweep_traversals = np.array([log.sweeps[s].traversal for s in self.sweeps], dtype=object)
        self.maps = DepthMaps(log, pictures, split.train, settings.farthest_m, max_bytes)
        self._train = frozenset(int(i) for i in split.train)
        self._kept: OrderedDict[int, DepthSamples] = OrderedDict()
        self._bytes = 0

    def get(self, view: int) -> DepthSamples:
        """Returns the samples of a training view's image; none, if there is neither a sweep nor an image to triangulate with."""
        if view in self._kept:
            self._kept.move_to_end(view)
            return self._kept[view]
        samples = self._from_sweep(view)
        if samples is None:
            samples = self._from_flow(view)
        self._kept[view] = samples
        self._bytes += _bytes(samples)
        while self._bytes > self.max_bytes and len(self._kept) > 1:
            self._bytes -= _bytes(self._kept.popitem(last=False)[1])
        return samples

    def _from_sweep(self, i: int) -> DepthSamples | None:
        view = self.log.views[i]
        fitting = np.flatnonzero(self.sweep_traversals == view.traversal)
        if not len(fitting):
            return None
        late = np.abs(self.sweep_times[fitting] - view.time_us)
        sweep, late = self.log.sweeps[self.sweeps[fitting[late.argmin()]]], int(late.min())
        xyz, node = self.boxes.divide(sweep_points(sweep, self.settings.farthest_m), sweep.time_us, sweep.traversal)
        xyz, there = self.boxes.gather(xyz, node, view.time_us, view.traversal)
        intrinsics, height, width = self.pictures.lens(i)
        world_to_camera = np.linalg.inv(view.camera_to_world)
        rows, row, column, depth = project(xyz[there], world_to_camera, intrinsics, height, width)
        weight = np.where(node[there][rows] < 0, 0.5 ** (late / FADE_US), 1.0)
        seen = ~hidden(row, column, depth, height, width)
        return _limited((row * width + column)[seen], depth[seen], weight[seen])

    def _from_flow(self, i: int) -> DepthSamples:
        if i not in self._train:
            return DepthSamples.none()
        found = self.maps[i]
        sparse = np.zeros(found.depth.shape, bool)
        sparse[::STEP_PX, ::STEP_PX] = True
        pixel = np.flatnonzero(sparse & (found.depth > 0.0))
        weight = np.minimum(found.parallax.reshape(-1)[pixel] / SURE_PX, 1.0)
        return _limited(pixel, found.depth.reshape(-1)[pixel], weight)


def view_depths(
    log: CameraLog, pictures: Pictures, split: Split, settings: PointSettings, max_bytes: int = MAX_BYTES
) -> ViewDepths:
    """Returns ``ViewDepths``, whose ``get`` gives an image's ``DepthSamples``."""
    return ViewDepths(log, pictures, split, settings, max_bytes)


def _limited(pixel: np.ndarray, depth: np.ndarray, weight: np.ndarray) -> DepthSamples:
    """Returns the samples, evenly thinned if they are too many."""
    chosen = slice(None, None, max(-(-len(pixel) // MAX_SAMPLES), 1))
    return DepthSamples(pixel[chosen].astype(np.int64), depth[chosen].astype(np.float32), weight[chosen].astype(np.float32))


def _bytes(samples: DepthSamples) -> int:
    return sum(array.nbytes for array in samples)
