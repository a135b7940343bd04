"""Colours of points: from the image that is nearest in time among those that see them."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from worldengine_envs.reconstruction.camera_log import CameraLog
from worldengine_envs.reconstruction.pictures import Pictures
from worldengine_envs.reconstruction.points.boxes import Boxes
from worldengine_envs.reconstruction.points.kernels import project_into
from worldengine_envs.reconstruction.points.voxels import FAR_AWAY, Cloud

NEAREST_M = 0.3  # from a camera
CELL_PX = 6  # side of the cells in each of which a point hides those behind it
HIDDEN = 1.15  # that much farther than the nearest in its cell
HIDDEN_S = 1e4  # a view in which a point is hidden counts as if it were so much later


def project(xyz: np.ndarray, world_to_camera: np.ndarray, intrinsics: np.ndarray, height: int, width: int):
    """Returns rows of the points (N, 3) that are in an image, their row and column there [px, int] and depth (float64) [m]."""
    n = len(xyz)
    rows, row, column, depth = (np.empty(n, kind) for kind in (np.int64, np.int64, np.int64, np.float64))
    xyz, pose = np.ascontiguousarray(xyz, np.float64), np.ascontiguousarray(world_to_camera, np.float64)
    lens = np.ascontiguousarray(intrinsics, np.float64)
    found = project_into(xyz, pose, lens, height, width, NEAREST_M, rows, row, column, depth)
    return rows[:found], row[:found], column[:found], depth[:found]


def hidden(row: np.ndarray, column: np.ndarray, depth: np.ndarray, height: int, width: int, cell: int = CELL_PX) -> np.ndarray:
    """Returns (N,) bool which of the points of an image are behind another that is in the same cell of pixels."""
    across = width // cell + 1
    index = (row // cell) * across + column // cell
    nearest = np.full((height // cell + 1) * across, np.inf)
    np.minimum.at(nearest, index, depth)
    return depth > HIDDEN * nearest[index]


def colour(cloud: Cloud, log: CameraLog, pictures: Pictures, views: np.ndarray, boxes: Boxes) -> Cloud:
    """Returns the points that any view sees, with colours.

    Args:
        cloud: Points in the frames of their nodes.
        log: What was recorded.
        pictures: Its images.
        views: (V,) rows of the views that may be looked at.
        boxes: Of the actors.
    """
    best, rgb = np.full(len(cloud.xyz), np.inf), cloud.rgb.copy()
    for i in views:
        view = log.views[i]
        placed, there = boxes.gather(cloud.xyz, cloud.node, view.time_us, view.traversal)
        rows = np.flatnonzero(there)
        picture = pictures[i]
        height, width = picture.usable.shape
        seen, row, column, depth = project(placed[rows], picture.world_to_camera, picture.intrinsics, height, width)
        late = np.abs(cloud.time_us[rows[seen]] - view.time_us) * 1e-6
        late = late + HIDDEN_S * hidden(row, column, depth, height, width)
        better = picture.usable[row, column] & (late < best[rows[seen]])
        chosen = rows[seen][better]
        best[chosen], rgb[chosen] = late[better], picture.rgb[row[better], column[better]]
    kept = np.isfinite(best)
    _borrow(rgb, cloud, kept & (best < HIDDEN_S), kept & (best >= HIDDEN_S))
    return cloud._replace(rgb=rgb).take(kept)


def _borrow(rgb: np.ndarray, cloud: Cloud, seen: np.ndarray, unseen: np.ndarray) -> None:
    """Gives points that are behind something in every image, whose colour that would be, that of the nearest of their node."""
    if seen.any() and unseen.any():
        where = np.column_stack((cloud.xyz, FAR_AWAY * cloud.node))
        distance, nearest = cKDTree(where[seen]).query(where[unseen], distance_upper_bound=0.5 * FAR_AWAY)
        found = np.isfinite(distance)
        rgb[np.flatnonzero(unseen)[found]] = rgb[np.flatnonzero(seen)[nearest[found]]]
