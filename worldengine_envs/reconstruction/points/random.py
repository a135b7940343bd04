"""Points at random depths, where nothing better is known."""

from __future__ import annotations

import numpy as np

from worldengine_envs.reconstruction.camera_log import CameraLog
from worldengine_envs.reconstruction.pictures import Pictures
from worldengine_envs.reconstruction.points.features import rays
from worldengine_envs.reconstruction.points.voxels import Cloud, join
from worldengine_envs.reconstruction.settings import PointSettings

NEAREST_M = 2.0
VIEWS = 200  # images that are looked at, at most
SEED = 0


def random_points(log: CameraLog, pictures: Pictures, views: np.ndarray, settings: PointSettings) -> Cloud:
    """Returns ``settings.random_points`` points on the rays of pixels, with their colours; even in inverse depth.

    Args:
        log: What was recorded.
        pictures: Its images.
        views: (V,) rows of the views that may be looked at.
        settings: Number and range.
    """
    generator = np.random.default_rng(SEED)
    chosen = np.asarray(views)[np.unique(np.linspace(0, len(views) - 1, VIEWS).round().astype(int))]
    share, clouds = -(-settings.random_points // len(chosen)), []
    for i in chosen:
        picture = pictures[int(i)]
        usable = np.flatnonzero(picture.usable)
        if not len(usable):
            continue
        pixel = generator.choice(usable, share)
        depth = 1.0 / generator.uniform(1.0 / settings.farthest_m, 1.0 / NEAREST_M, share)
        center, directions = rays(picture, pixel)
        rgb = picture.rgb.reshape(-1, 3)[pixel].astype(np.float32)
        times = np.full(share, log.views[i].time_us)
        clouds.append(Cloud(center + depth[:, None] * directions, np.full(share, -1, np.int32), rgb, times, np.ones(share)))
    cloud = join(clouds)
    return cloud.take(np.sort(generator.permutation(len(cloud.xyz))[: settings.random_points]))
