"""The scene graph that training starts from: a Gaussian at each point, and a sphere of them for the sky."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from worldengine_envs.reconstruction.camera_log import CameraLog
from worldengine_envs.reconstruction.scene_graph import BACKGROUND, FIRST_ACTOR, SKY, SceneGraph
from worldengine_envs.reconstruction.settings import ReconstructionSettings
from worldengine_envs.rendering.gaussians import sh_from_rgb

if TYPE_CHECKING:
    from worldengine_envs.reconstruction.points import Points

OPACITY = 0.3  # of a Gaussian to begin with
SKY_OPACITY = 0.9
SMALLEST_M, LARGEST_M = 0.02, 2.0  # standard deviations to begin with
SKY_RADIUS_M = 500.0  # or twice the scene's extent
SKY_LOWEST = math.sin(math.radians(-3.0))  # sine of the elevation at which the sky begins
SKY_COLOR = 0.8


def start_graph(log: CameraLog, points: Points, settings: ReconstructionSettings) -> SceneGraph:
    """Returns the scene graph before its first iteration.

    Args:
        log: Gives actors and traversals.
        points: Where Gaussians begin.
        settings: Number of Gaussians of the sky, degree of the spherical harmonics.
    """
    centers = np.stack([view.camera_to_world[:3, 3] for view in log.views])
    sky, spacing = sky_points(centers, points.xyz[points.node < 0], settings.sky_gaussians)
    n, m = len(points.xyz), len(sky)
    means = np.concatenate((points.xyz, sky)).astype(np.float32)
    size = np.concatenate((np.clip(points.spacing, SMALLEST_M, LARGEST_M), np.full(m, 0.6 * spacing)))
    rgb = np.concatenate((points.rgb / 255.0, np.full((m, 3), SKY_COLOR)))
    opacity = np.concatenate((np.full(n, OPACITY), np.full(m, SKY_OPACITY)))
    node = np.concatenate((np.where(points.node < 0, BACKGROUND, FIRST_ACTOR + points.node), np.full(m, SKY)))
    quats = np.zeros((n + m, 4), np.float32)
    quats[:, 0] = 1.0
    tables = {
        "means": means,
        "quats": quats,
        "scales": np.repeat(np.log(size)[:, None], 3, axis=1),
        "opacities": np.log(opacity / (1.0 - opacity)),
        "dc": sh_from_rgb(rgb),
        "rest": np.zeros((n + m, (settings.sh_degree + 1) ** 2 - 1, 3)),
    }
    if len(log.traversals) > 1:
        tables["looks"] = np.zeros((n + m, len(log.traversals), 3))
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
