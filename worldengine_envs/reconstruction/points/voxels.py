"""Thinning of points: one in each voxel, voxels growing with the distance from where the cameras are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

NEAR_M = 15.0  # up to this distance from the nearest camera voxels have the side that was asked for; it doubles with the distance
LEVELS = 5
ACTOR_LEVEL = -1  # actors are seen from near, and turned
NEIGHBOURS = 3  # as 3D Gaussian Splatting, for the spacing
FAR_AWAY = 1e6  # [m] between the frames of two nodes, in a fourth dimension


class Cloud(NamedTuple):
    """N points, some of which stand for several."""

    xyz: np.ndarray  # (N, 3) float64 in the node's frame [m]
    node: np.ndarray  # (N,) int32
    rgb: np.ndarray  # (N, 3) float32 in [0, 255]
    time_us: np.ndarray  # (N,) int64 when it was measured (one of the times)
    count: np.ndarray  # (N,) float64 how many points it stands for

    def take(self, rows: np.ndarray) -> Cloud:
        """Returns the points in ``rows``."""
        return Cloud(*(array[rows] for array in self))


def no_points() -> Cloud:
    """Returns an empty cloud."""
    return Cloud(np.zeros((0, 3)), np.zeros(0, np.int32), np.zeros((0, 3), np.float32), np.zeros(0, np.int64), np.zeros(0))


def join(clouds: list[Cloud]) -> Cloud:
    """Returns the points of all clouds."""
    return Cloud(*(np.concatenate(arrays) for arrays in zip(no_points(), *clouds, strict=True)))


def sides(xyz: np.ndarray, node: np.ndarray, centers: cKDTree, voxel_m: float) -> np.ndarray:
    """Returns (N,) sides of the voxels in which points are thinned [m]; actors' are the finest."""
    distance, _ = centers.query(xyz)
    level = np.floor(np.log2(np.maximum(distance / NEAR_M, 1.0)))
    return voxel_m * 2.0 ** np.where(node < 0, np.minimum(level, LEVELS), ACTOR_LEVEL)


def thin(cloud: Cloud, centers: cKDTree, voxel_m: float) -> Cloud:
    """Returns one point, the mean, for each voxel that holds any; the order depends on nothing but the points' places.

    Args:
        cloud: Points, which count as often as they stand for others.
        centers: Of the cameras.
        voxel_m: Side of the voxels near cameras [m].
    """
    if not len(cloud.xyz):
        return cloud
    side = sides(cloud.xyz, cloud.node, centers, voxel_m)
    cells = np.floor(cloud.xyz / side[:, None]).astype(np.int64)
    level = np.rint(np.log2(side / voxel_m)).astype(np.int64)
    _, first, voxel = np.unique(_hash(*cells.T, level, cloud.node.astype(np.int64)), return_index=True, return_inverse=True)
    count = np.bincount(voxel, cloud.count)
    xyz = np.stack([np.bincount(voxel, cloud.count * column) for column in cloud.xyz.T], axis=1) / count[:, None]
    rgb = np.stack([np.bincount(voxel, cloud.count * column) for column in cloud.rgb.T], axis=1) / count[:, None]
    return Cloud(xyz, cloud.node[first], rgb.astype(np.float32), cloud.time_us[first], count)


def _hash(*columns: np.ndarray) -> np.ndarray:
    """Returns (N,) uint64 mixtures of integers (Steele et al. 2014, SplitMix64); equal ones are practically the same voxel."""
    mixed = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        mixed = (mixed ^ column.view(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed


def neighbour_distances(xyz: np.ndarray, node: np.ndarray, neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns distances [m] and rows (N, neighbours) of the nearest of the same node; inf and N where there are fewer."""
    tree = cKDTree(np.column_stack((xyz, FAR_AWAY * node)))
    distance, row = tree.query(tree.data, neighbours + 1, distance_upper_bound=0.5 * FAR_AWAY)
    return distance[:, 1:], row[:, 1:]


def spacing(xyz: np.ndarray, node: np.ndarray, fallback_m: float) -> np.ndarray:
    """Returns (N,) float32 mean distance of the nearest three points of the same node [m]; ``fallback_m`` for lonely points."""
    if not len(xyz):
        return np.zeros(0, np.float32)
    distance, _ = neighbour_distances(xyz, node, NEIGHBOURS)
    found = np.isfinite(distance)
    mean = np.where(found, distance, 0.0).sum(1) / np.maximum(found.sum(1), 1)
    return np.where(found.any(1), mean, fallback_m).astype(np.float32)


def lonely(xyz: np.ndarray, node: np.ndarray, times: float = 3.0, neighbours: int = 4) -> np.ndarray:
    """Returns (N,) bool who is so many times farther from its 4th neighbour than its neighbours are from theirs (the median)."""
    if len(xyz) <= neighbours:
        return np.zeros(len(xyz), bool)
    distance, row = neighbour_distances(xyz, node, neighbours)
    reach = np.append(distance[:, -1], np.nan)
    near = np.where(np.isfinite(reach[row]), reach[row], np.nan)
    known = np.isfinite(near).any(axis=1)
    usual = np.full(len(xyz), np.inf)
    usual[known] = np.nanmedian(near[known], axis=1)
    return reach[:-1] > times * usual
