"""The scene graph that training starts from: a Gaussian at each point, and a sphere of them for the sky."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from worldengine_envs.reconstruction.camera_log import CameraLog
from worldengine_envs.reconstruction.scene_graph import BACKGROUND, FIRST_ACTOR, SKY, SceneGraph
from worldengine_envs.reconstruction.settings import PointSettings, ReconstructionSettings
from worldengine_envs.reconstruction.surfels import surfels
from worldengine_envs.reconstruction.unseen import SHADOW_OPACITY, complete, shadows
from worldengine_envs.rendering.gaussians import sh_from_rgb

if TYPE_CHECKING:
    from worldengine_envs.reconstruction.points import Points

OPACITY = 0.3  # of a Gaussian to begin with
SKY_OPACITY = 0.9
SMALLEST_M, LARGEST_M = 0.02, 2.0  # standard deviations to begin with
SKY_RADIUS_M = 500.0  # or twice the scene's extent
SKY_LOWEST = math.sin(math.radians(-3.0))  # sine of the elevation at which the sky begins
SKY_COLOR = 0.8


def within_cap(settings: ReconstructionSettings) -> PointSettings:
    """Returns the settings of points, with no more of them than Gaussians may be."""
    most = max(settings.max_gaussians - sky_count(settings), 1)
    return replace(settings.points, max_points=min(settings.points.max_points, most))


def sky_count(settings: ReconstructionSettings) -> int:
    """Returns the number of Gaussians of the sky: a quarter of all, at the most."""
    return min(settings.sky_gaussians, settings.max_gaussians // 4)


def thinned(points: Points, most: int) -> Points:
    """Returns the points, or so many of them, evenly chosen."""
    if len(points.xyz) <= most:
        return points
    rows = np.linspace(0, len(points.xyz) - 1, most).astype(np.int64)
    arrays = (array[rows] for array in (points.xyz, points.rgb, points.node, points.spacing))
    return replace(points, **dict(zip(("xyz", "rgb", "node", "spacing"), arrays, strict=True)))


def start_graph(log: CameraLog, points: Points, settings: ReconstructionSettings) -> SceneGraph:
    """Returns the scene graph before its first iteration.

    Args:
        log: Gives actors and traversals.
        points: Where Gaussians begin.
        settings: Number of Gaussians of the sky, degree of the spherical harmonics.
    """
    centers = np.stack([view.camera_to_world[:3, 3] for view in log.views])
    sky, spacing = sky_points(centers, points.xyz[points.node < 0], sky_count(settings))
    room = settings.max_gaussians - len(sky)
    dark = shadows(log, room // 4)
    points = thinned(complete(points, log), room - len(dark.xyz))
    n, m, k = len(points.xyz), len(dark.xyz), len(sky)
    quats, size = surfels(points.xyz, points.node, np.clip(points.spacing, SMALLEST_M, LARGEST_M))
    upright = np.tile((1.0, 0.0, 0.0, 0.0), (m + k, 1))
    rgb = np.concatenate((points.rgb / 255.0, np.zeros((m, 3)), np.full((k, 3), SKY_COLOR)))
    opacity = np.concatenate((np.full(n, OPACITY), np.full(m, SHADOW_OPACITY), np.full(k, SKY_OPACITY)))
    tables = {
        "means": np.concatenate((points.xyz, dark.xyz, sky)),
        "quats": np.concatenate((quats, upright)),
        "scales": np.log(np.concatenate((size, dark.sizes, np.full((k, 3), 0.6 * spacing)))),
        "opacities": np.log(opacity / (1.0 - opacity)),
        "dc": sh_from_rgb(rgb),
        "rest": np.zeros((n + m + k, (settings.sh_degree + 1) ** 2 - 1, 3)),
    }
    if len(log.traversals) > 1:
        tables["looks"] = np.zeros((n + m + k, len(log.traversals), 3))
    node = np.where(points.node < 0, BACKGROUND, FIRST_ACTOR + points.node)
    node = np.concatenate((node, FIRST_ACTOR + dark.actor, np.full(k, SKY)))
    device = torch.device(settings.device)
    tensors = {name: torch.from_numpy(np.asarray(table, np.float32)).to(device) for name, table in tables.items()}
    sizes = np.array([actor.size for actor in log.actors], np.float32).reshape(-1, 3)
    where = torch.from_numpy(node.astype(np.int64)).to(device)
    return SceneGraph(tensors, where, torch.from_numpy(sizes).to(device), len(log.traversals))


def sky_points(centers: np.ndarray, points: np.ndarray, count: int) -> tuple[np.ndarray, float]:
    """Returns (count, 3) points, evenly on the upper part of a sphere around all cameras, and the distance of neighbours [m].

    Args:
        centers: (V, 3) of cameras [m].
        points: (P, 3) of the background [m]; the sphere lies beyond them.
        count: Number of points; golden-angle spiral.
    """
    middle = centers.mean(0)
    reach = np.linalg.norm(points - middle, axis=1).max(initial=0.0)
    radius = max(SKY_RADIUS_M, 2.0 * reach, 4.0 * np.linalg.norm(centers - middle, axis=1).max())
    i = np.arange(count) + 0.5
    z = SKY_LOWEST + (1.0 - SKY_LOWEST) * i / max(count, 1)
    angle = i * math.pi * (3.0 - math.sqrt(5.0))
    flat = np.sqrt(1.0 - z * z)
    directions = np.stack((flat * np.cos(angle), flat * np.sin(angle), z), axis=1)
    spacing = radius * math.sqrt(2.0 * math.pi * (1.0 - SKY_LOWEST) / max(count, 1))
    return middle + radius * directions, spacing
