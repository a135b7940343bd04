"""What stands on the ground in a LiDAR sweep: points above it, in clusters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label, median_filter, minimum_filter
from scipy.spatial import cKDTree

CELL_M = 2.0  # of the ground's map
STEEPEST = 0.15  # rise of the ground from cell to cell, of the cell's side
DEEPEST_M = 1.0  # what is so far below the ground around is a mirror image
LOWEST_M, HIGHEST_M = 0.3, 4.8  # above the ground: what may belong to an actor
GRID_M = 0.2  # of the map in which clusters are found
FEWEST = 12  # points of a cluster
LARGEST_M = (20.0, 5.0)  # sides of a rectangle around an actor
FARTHEST_M = 60.0  # beyond, returns are too few to tell who is who


@dataclass(frozen=True, slots=True)
class Clusters:
    """The clusters of one sweep that could be actors."""

    label: np.ndarray  # (points,) int64 row of the cluster, -1 = none
    height: np.ndarray  # (points,) above the ground [m]
    count: int

    def rows(self, cluster: int) -> np.ndarray:
        """Returns the points of a cluster."""
        return np.flatnonzero(self.label == cluster)


def find_clusters(xyz: np.ndarray, sensor: np.ndarray) -> Clusters:
    """Groups what stands on the ground.

    Args:
        xyz: (N, 3) points of one sweep, z up [m].
        sensor: (3,) where it was taken from.
    """
    height = above_ground(xyz)
    far = np.linalg.norm(xyz[:, :2] - sensor[:2], axis=1)
    rows = np.flatnonzero((height > LOWEST_M) & (height < HIGHEST_M) & (far < FARTHEST_M) & (far > 2.0))
    found = np.full(len(xyz), -1, np.int64)
    if len(rows):
        found[rows] = _compact(xyz[rows, :2])
    kept = np.unique(found[found >= 0])
    rename = np.full(int(found.max()) + 2, -1, np.int64)
    rename[kept] = np.arange(len(kept))
    return Clusters(rename[found], height, len(kept))


def above_ground(xyz: np.ndarray) -> np.ndarray:
    """Returns (N,) heights above the lowest ground that rises no steeper than ``STEEPEST`` [m]."""
    cell = np.floor(xyz[:, :2] / CELL_M).astype(np.int64)
    cell -= cell.min(0)
    shape = cell.max(0) + 1
    index = cell[:, 0] * shape[1] + cell[:, 1]
    order = np.lexsort((xyz[:, 2], index))
    first = np.concatenate([[0], np.flatnonzero(np.diff(index[order])) + 1])
    many = np.diff(np.concatenate([first, [len(index)]]))
    low = np.full(shape[0] * shape[1], np.inf)
    low[index[order[first]]] = xyz[order[first + many // 10], 2]
    low = low.reshape(shape)
    known = np.isfinite(low)
    usual = median_filter(np.where(known, low, np.median(low[known])), size=9, mode="nearest")
    ground = np.where(low < usual - DEEPEST_M, np.inf, low)
    for _ in range(int(max(shape)) if len(xyz) else 0):
        lower = np.minimum(ground, minimum_filter(ground, size=3, mode="nearest") + STEEPEST * CELL_M)
        if np.array_equal(lower, ground):
            break
        ground = lower
    return xyz[:, 2] - ground.ravel()[index]


def _compact(xy: np.ndarray) -> np.ndarray:
    """Returns (N,) cluster of each point on the ground plane, -1 where it is too small or too large to be an actor."""
    cell = np.floor(xy / GRID_M).astype(np.int64)
    cell -= cell.min(0)
    grid = np.zeros(cell.max(0) + 1, bool)
    grid[cell[:, 0], cell[:, 1]] = True
    cells = label(grid, structure=np.ones((3, 3)))[0][cell[:, 0], cell[:, 1]] - 1
    good = np.bincount(cells) >= FEWEST
    for k in np.flatnonzero(good):
        sides = sorted(rectangle(xy[cells == k])[2], reverse=True)
        good[k] = sides[0] < LARGEST_M[0] and sides[1] < LARGEST_M[1]
    return np.where(good[cells], cells, -1)


def rectangle(xy: np.ndarray, heading: float | None = None) -> tuple[np.ndarray, float, np.ndarray]:
    """Returns centre (2,) [m], heading [rad] and sides (2,) [m] of a rectangle around points (N, 2).

    Without a heading, it is that of the rectangle to whose sides the points lie nearest (Zhang et al. 2017).
    """
    if heading is None:
        turns = np.radians(np.arange(0.0, 90.0, 3.0))
        along = xy @ np.stack([np.cos(turns), np.sin(turns)])
        across = xy @ np.stack([-np.sin(turns), np.cos(turns)])
        near = [np.minimum(a - a.min(0), a.max(0) - a) for a in (along, across)]
        heading = float(turns[(1.0 / np.maximum(np.minimum(*near), 0.05)).sum(0).argmax()])
    axes = np.array([[np.cos(heading), np.sin(heading)], [-np.sin(heading), np.cos(heading)]])
    low, high = np.percentile(xy @ axes.T, [1.0, 99.0], axis=0)
    return (0.5 * (low + high)) @ axes, heading, high - low


def overlap(xyz: np.ndarray, others: cKDTree, radius_m: float = 0.3) -> float:
    """Returns which share of points (N, 3) has one of ``others`` near."""
    return float(np.isfinite(others.query(xyz, distance_upper_bound=radius_m)[0]).mean()) if len(xyz) else 0.0
