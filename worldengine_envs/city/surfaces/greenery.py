"""Trees, hedges and fences."""

from __future__ import annotations

import math

from worldengine_envs.city.surfaces.parts import Parts
from worldengine_envs.city.surfaces.textures import Texture

BARK = (0.33, 0.26, 0.20)
LEAVES = ((0.31, 0.49, 0.22), (0.38, 0.53, 0.24), (0.28, 0.44, 0.25), (0.46, 0.53, 0.25))
HEDGE, PLANKS = (0.28, 0.43, 0.21), (0.50, 0.42, 0.33)


def tree(parts: Parts, at, height: float, crown: float, seed: int) -> None:
    """Adds a tree at x, y [m] of this height, with a crown of this diameter [m]."""
    x, y = at
    leaves = LEAVES[seed % len(LEAVES)]
    clear = max(0.36 * height, 2.6)  # below the crown
    parts.cylinder((x, y, 0.5 * clear + 0.2), 0.24, clear + 0.4, BARK)
    turn = 0.7 * (seed % 9)
    parts.ellipsoid((x, y, clear + 0.52 * (height - clear)), (crown, crown, height - clear), leaves, Texture.FOLIAGE, seed=seed)
    for k in range(2):
        dx, dy = 0.24 * crown * math.cos(turn + 2.6 * k), 0.24 * crown * math.sin(turn + 2.6 * k)
        size = (0.68 * crown, 0.68 * crown, 0.6 * (height - clear))
        at_height = clear + (0.36 + 0.3 * k) * (height - clear)
        parts.ellipsoid((x + dx, y + dy, at_height), size, tuple(1.06 * c for c in leaves), Texture.FOLIAGE, seed=seed + k + 1)


def hedge(parts: Parts, at, length: float, yaw: float, seed: int) -> None:
    """Adds a hedge of this length [m] in the direction yaw."""
    parts.box((*at, 0.65), (length, 0.8, 1.3), HEDGE, Texture.FOLIAGE, yaw=yaw, seed=seed)


def fence(parts: Parts, at, length: float, yaw: float, seed: int) -> None:
    """Adds a fence of boards."""
    parts.box((*at, 0.7), (length, 0.1, 1.4), PLANKS, Texture.FENCE, yaw=yaw, seed=seed)
