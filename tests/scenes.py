"""Gaussian scenes for tests."""

from __future__ import annotations

import numpy as np

from worldengine_envs.rendering.gaussians import Gaussians
from worldengine_envs.rendering.scene import GaussianScene, Node


def random_gaussians(rng: np.random.Generator, n: int, degree: int = 0, extent: float = 40.0) -> Gaussians:
    """Gaussians around the origin, of plausible sizes and colours."""
    sh = rng.normal(0.0, 0.1, (n, (degree + 1) ** 2, 3))
    sh[:, 0] = rng.uniform(-1.5, 1.5, (n, 3))
    arrays = (
        rng.uniform(-extent, extent, (n, 3)),
        rng.normal(size=(n, 4)),
        rng.normal(-2.0, 1.0, (n, 3)),
        rng.normal(0.0, 3.0, n),
        sh,
    )
    return Gaussians(*(array.astype(np.float32) for array in arrays))


def random_scene(seed: int = 0, n: int = 300, kind: str = "reconstructed") -> GaussianScene:
    """Background in two appearances, a sky that always looks the same, and one actor."""
    rng = np.random.default_rng(seed)
    background, sky, car = (
        random_gaussians(rng, n, 3),
        random_gaussians(rng, n // 4, 0, 900.0),
        random_gaussians(rng, n // 3, 1, 2.0),
    )
    nodes = {
        "background": Node(background, {"day": background.sh, "night": (0.3 * background.sh).astype(np.float32)}),
        "sky": Node(sky),
        "car 1/ä": Node(car, {"day": car.sh, "night": random_gaussians(rng, n // 3, 2).sh}, (4.5, 1.9, 1.6)),
    }
    return GaussianScene("street_1", kind, nodes, ("day", "night"))
