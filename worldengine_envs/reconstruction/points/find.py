"""Where Gaussians start: LiDAR first, then what is seen from several places, else random depths."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.camera_log import CameraLog
from worldengine_envs.reconstruction.pictures import Pictures
from worldengine_envs.reconstruction.points.bodies import triangulate_bodies
from worldengine_envs.reconstruction.points.boxes import Boxes
from worldengine_envs.reconstruction.points.colour import colour
from worldengine_envs.reconstruction.points.features import triangulate
from worldengine_envs.reconstruction.points.lidar import stack
from worldengine_envs.reconstruction.points.maps import DepthMaps
from worldengine_envs.reconstruction.points.random import random_points
from worldengine_envs.reconstruction.points.types import Points
from worldengine_envs.reconstruction.points.voxels import Cloud, join, spacing, thin
from worldengine_envs.reconstruction.settings import PointSettings
from worldengine_envs.reconstruction.split import Split
from worldengine_envs.rendering.witnesses import choose_witnesses

FEWEST = 500  # points of the background under which random ones are added
MOST_VIEWS = 240  # points are the same with more
COARSER = 1.15  # factor of the voxels' sides while there are too many points


def find_points(log: CameraLog, pictures: Pictures, split: Split, settings: PointSettings, maps: DepthMaps | None = None) -> Points:
    """Returns coloured points on the surfaces of the background and of actors, found in nothing but what may be learned from.

    Args:
        log: What was recorded.
        pictures: Its images.
        split: What may be learned from.
        settings: How many, how dense, how far.
        maps: Depths of the images, where they are kept for more than this.

    Raises:
        DataError: There is no image to learn from.
    """
    if not len(split.train):
        raise DataError("no image is left to learn from", field="views", remedy="Hold out fewer")
    boxes, problems = Boxes(log), []
    centers = cKDTree(np.array([log.views[i].camera_to_world[:3, 3] for i in split.train]))
    views = spread_views(log, split.train)
    lidar = colour(stack(log, split, settings, centers, boxes), log, pictures, views, boxes)
    maps = maps or DepthMaps(log, pictures, split.train, settings.farthest_m)
    features = triangulate(log, pictures, maps, views, boxes, lidar, centers, settings.voxel_m)
    bodies = triangulate_bodies(log, pictures, views, boxes, lidar, centers, settings.voxel_m)
    clouds, source = [lidar, features, bodies], "lidar" if (lidar.node < 0).sum() >= FEWEST else "features"
    if (lidar.node < 0).sum() + len(features.xyz) < FEWEST:
        clouds, source = [*clouds, random_points(log, pictures, split.train, settings)], "random"
        problems.append("hardly anything is seen from two places, and there is no LiDAR: depths are guesses")
    cloud = _capped(join(clouds), settings, centers)
    rgb = np.clip(np.rint(cloud.rgb), 0, 255).astype(np.uint8)
    near = spacing(cloud.xyz, cloud.node, settings.voxel_m)
    return Points(cloud.xyz.astype(np.float32), rgb, cloud.node.astype(np.int32), near, source, tuple(problems))


def spread_views(log: CameraLog, train: np.ndarray) -> np.ndarray:
    """Returns the training views in which points are looked for: all cameras of evenly spread times."""
    moments = [(log.views[i].traversal, log.views[i].time_us) for i in train]
    return np.asarray(train)[choose_witnesses(moments, MOST_VIEWS)]


def _capped(cloud: Cloud, settings: PointSettings, centers: cKDTree) -> Cloud:
    """Returns at most as many points as there may be: the voxels grow until they are few enough."""
    voxel_m = settings.voxel_m
    while len(cloud.xyz) > settings.max_points:
        voxel_m *= COARSER
        cloud = thin(cloud, centers, voxel_m)
    return cloud
