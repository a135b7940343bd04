"""Depth images of training views, kept for as long as there is room."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from worldengine_envs.reconstruction.camera_log import CameraLog
from worldengine_envs.reconstruction.pictures import Pictures
from worldengine_envs.reconstruction.points.flow import Depth, flow_depth
from worldengine_envs.reconstruction.points.neighbours import Neighbours

MAX_BYTES = 256 * 2**20


class DepthMaps:
    """The depth of each image by the flow to its neighbours, made when it is asked for.

    Args:
        log: What was recorded.
        pictures: Its images.
        views: (V,) rows of the views that may be looked at.
        farthest_m: Depths beyond are left out.
        max_bytes: Of the depths that are kept.
    """

    def __init__(self, log: CameraLog, pictures: Pictures, views: np.ndarray, farthest_m: float, max_bytes: int = MAX_BYTES):
        self.pictures, self.farthest_m, self.max_bytes = pictures, farthest_m, max_bytes
        self.neighbours = Neighbours(log, views)
        self._kept: OrderedDict[int, Depth] = OrderedDict()
        self._bytes = 0

    def __getitem__(self, view: int) -> Depth:
        """Returns depth and parallax (H, W) float32 of a training view, 0 where not known."""
        if view not in self._kept:
            others = [self.pictures[j] for j in self.neighbours.of(view)]
            found = flow_depth(self.pictures[view], others, self.farthest_m)
            self._kept[view] = Depth(*(array.astype(np.float16) for array in found))
            self._bytes += _bytes(self._kept[view])
            while self._bytes > self.max_bytes and len(self._kept) > 1:
                self._bytes -= _bytes(self._kept.popitem(last=False)[1])
        self._kept.move_to_end(view)
        return Depth(*(array.astype(np.float32) for array in self._kept[view]))


def _bytes(depth: Depth) -> int:
    return depth.depth.nbytes + depth.parallax.nbytes
