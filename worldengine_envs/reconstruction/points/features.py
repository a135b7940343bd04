"""Points of what images show from several places."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from worldengine_envs.reconstruction.camera_log import CameraLog
from worldengine_envs.reconstruction.pictures import Picture, Pictures
from worldengine_envs.reconstruction.points.boxes import Boxes
from worldengine_envs.reconstruction.points.flow import flow_depth
from worldengine_envs.reconstruction.points.neighbours import Neighbours
from worldengine_envs.reconstruction.points.voxels import Cloud, join, lonely, no_points, thin
from worldengine_envs.reconstruction.settings import PointSettings

STACKED = 1_000_000  # points that are held before they are thinned


def rays(picture: Picture, pixel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns a camera's centre (3,) in the world [m] and (N, 3) the vectors from there to one metre deep at pixels (N,)."""
    camera_to_world, width = np.linalg.inv(picture.world_to_camera), picture.usable.shape[1]
    fx, fy, cx, cy = picture.intrinsics
    u, v = pixel % width + 0.5, pixel // width + 0.5
    local = np.stack(((u - cx) / fx, (v - cy) / fy, np.ones(len(pixel))), axis=1)
    return camera_to_world[:3, 3], local @ camera_to_world[:3, :3].T


def triangulate(
    log: CameraLog, pictures: Pictures, views: np.ndarray, settings: PointSettings, centers: cKDTree, boxes: Boxes
) -> Cloud:
    """Returns thinned and coloured points of the background, and of actors in their boxes' frames.

    Args:
        log: What was recorded.
        pictures: Its images.
        views: (V,) rows of the views that may be looked at.
        settings: Side of the voxels, range.
        centers: Of the cameras.
        boxes: Of the actors. Flow between two times is meaningless where one moves: those points are left out.
    """
    neighbours, held, cloud = Neighbours(log, views), [], no_points()
    for i in neighbours.views:
        partners = neighbours.of(int(i))
        if not partners:
            continue
        found = _of_view(log, pictures, int(i), partners, settings, boxes)
        held.append(thin(found, centers, settings.voxel_m))
        held[-1] = held[-1]._replace(count=np.ones(len(held[-1].xyz)))
        if sum(len(part.xyz) for part in held) > STACKED:
            held, cloud = [], thin(join([cloud, *held]), centers, settings.voxel_m)
    cloud = thin(join([cloud, *held]), centers, settings.voxel_m)
    return cloud.take(~lonely(cloud.xyz, cloud.node))


def _of_view(log: CameraLog, pictures: Pictures, i: int, partners: list[int], settings: PointSettings, boxes: Boxes) -> Cloud:
    """Returns the background's points at the pixels of one image whose depth is found."""
    picture, view = pictures[i], log.views[i]
    found = flow_depth(picture, [pictures[j] for j in partners], settings.farthest_m)
    pixel = np.flatnonzero(found.depth > 0.0)
    center, directions = rays(picture, pixel)
    xyz = center + directions * found.depth.reshape(-1)[pixel, None]
    placed, node = boxes.divide(xyz, view.time_us, view.traversal)
    rgb = picture.rgb.reshape(-1, 3)[pixel].astype(np.float32)
    n = len(pixel)
    return Cloud(placed, node, rgb, np.full(n, view.time_us), np.ones(n)).take(node < 0)
