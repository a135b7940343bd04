"""Points of LiDAR sweeps, stacked in one frame."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from worldengine_envs.reconstruction.camera_log import CameraLog, Sweep
from worldengine_envs.reconstruction.points.boxes import Boxes
from worldengine_envs.reconstruction.points.voxels import Cloud, join, lonely, no_points, thin
from worldengine_envs.reconstruction.settings import PointSettings
from worldengine_envs.reconstruction.split import Split

NEAREST_M = 2.0  # what is nearer to a LiDAR is the car that carries it
STACKED = 1_000_000  # points, before they are thinned and after: memory does not grow with the number of sweeps
COARSER = 1.15  # factor of the voxels' sides while there are too many points


def sweep_points(sweep: Sweep, farthest_m: float) -> np.ndarray:
    """Returns (N, 3) float64 the points of a sweep in the world [m]; those that are not finite, too near or too far left out."""
    xyz = np.asarray(sweep.read(), np.float64)[:, :3]
    with np.errstate(invalid="ignore"):
        distance = np.linalg.norm(xyz, axis=1)
        kept = (distance > NEAREST_M) & (distance < farthest_m)
    return xyz[kept] @ sweep.lidar_to_world[:3, :3].T + sweep.lidar_to_world[:3, 3]


def stack(log: CameraLog, split: Split, settings: PointSettings, centers: cKDTree, boxes: Boxes) -> Cloud:
    """Returns the thinned points of all sweeps that may be learned from, without colours; those in boxes in the boxes' frames.

    Args:
        log: What was recorded.
        split: Which sweeps.
        settings: Side of the voxels, range.
        centers: Of the cameras.
        boxes: Of the actors.
    """
    held, cloud, voxel_m = [], no_points(), settings.voxel_m
    for s in split.train_sweeps:
        sweep = log.sweeps[s]
        xyz, node = boxes.divide(sweep_points(sweep, settings.farthest_m), sweep.time_us, sweep.traversal)
        n = len(xyz)
        held.append(Cloud(xyz, node, np.zeros((n, 3), np.float32), np.full(n, sweep.time_us), np.ones(n)))
        if sum(len(part.xyz) for part in held) > STACKED:
            held, cloud = [], thin(join([cloud, *held]), centers, voxel_m)
            while len(cloud.xyz) > STACKED:
                voxel_m *= COARSER
                cloud = thin(cloud, centers, voxel_m)
    cloud = thin(join([cloud, *held]), centers, voxel_m)
    return cloud.take(~lonely(cloud.xyz, cloud.node))
