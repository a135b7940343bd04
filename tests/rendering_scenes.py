"""Sets of Gaussians and cameras for tests of rasterisers."""

from __future__ import annotations

import numpy as np
import torch

from worldengine_envs.rendering.gaussians import Gaussians

WIDTH, HEIGHT = 52, 38  # neither a multiple of a tile
INTRINSICS = np.array([44.0, 47.0, 25.0, 20.5])


def look(position=(0.0, 0.0, 0.0), yaw=0.0, pitch=0.0, roll=0.0) -> np.ndarray:
    """Returns (4, 4) world to camera of a camera that stands at a position; without turns it looks along the world's z, y down."""
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (yaw, pitch, roll))
    turn = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    turn = turn @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, -turn @ np.asarray(position, float)
    return pose


def random_gaussians(seed: int, n: int, degree: int, *, size=(-2.5, -0.7), depth=(0.5, 12.0), spread=1.2) -> Gaussians:
    """Returns Gaussians of many shapes in front of ``look()``, some beside and behind it."""
    random = np.random.default_rng(seed)
    z = random.uniform(*depth, n)
    z[: n // 10] *= -1.0  # behind
    means = np.stack([random.uniform(-spread, spread, n) * z, random.uniform(-spread, spread, n) * z, z], 1)
    sh = 0.25 * random.normal(size=(n, (degree + 1) ** 2, 3))
    sh[:, 0] += 0.7 * random.normal(size=(n, 3))
    arrays = (
        means,
        random.normal(size=(n, 4)) * random.uniform(0.2, 3.0, (n, 1)),
        random.uniform(*size, (n, 3)),
        random.normal(0.5, 1.5, n),
        sh,
    )
    return Gaussians(*(array.astype(np.float32) for array in arrays))


def tensors(gaussians: Gaussians, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Returns the parameters as torch tensors of their own memory: means, quats, scales, opacities, sh."""
    arrays = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.sh)
    return [torch.tensor(array, dtype=dtype) for array in arrays]
