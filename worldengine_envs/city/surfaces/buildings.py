"""Houses along the pavements, and taller ones behind them."""

from __future__ import annotations

import math

from worldengine_envs.city.surfaces.parts import Parts
from worldengine_envs.city.surfaces.textures import Texture

FLOOR = 3.1  # [m]
WALLS = (
    (0.62, 0.40, 0.32),  # brick
    (0.70, 0.48, 0.38),
    (0.80, 0.73, 0.60),  # cream
    (0.74, 0.66, 0.53),
    (0.66, 0.66, 0.65),  # concrete
    (0.77, 0.76, 0.73),
    (0.82, 0.69, 0.47),  # ochre
    (0.63, 0.68, 0.70),
)
TILES, METAL = (0.50, 0.28, 0.22), (0.48, 0.49, 0.50)


def block(parts: Parts, at, size, yaw: float, seed: int, wall) -> None:
    """Adds a house with a flat roof.

    Args:
        parts: Where to.
        at: x, y [m] of its middle.
        size: Length along the street, depth, height [m].
        yaw: Direction of the street [rad].
        seed: Which windows it has.
        wall: Colour.
    """
    length, depth, height = size
    parts.box((*at, 0.5 * height), size, wall, Texture.FACADE, yaw=yaw, seed=seed)
    rim = tuple(0.86 * c for c in wall)
    parts.box((*at, height + 0.2), (length + 0.3, depth + 0.3, 0.4), rim, yaw=yaw)
    if height > 9.0:
        cos, sin, shift = math.cos(yaw), math.sin(yaw), (seed % 7 - 3) * 0.06 * length
        parts.box((at[0] + shift * cos, at[1] + shift * sin, height + 1.4), (3.5, 3.0, 2.4), METAL, yaw=yaw)


def house(parts: Parts, at, size, yaw: float, seed: int, wall) -> None:
    """Adds a house of one or two floors with a sloping roof; arguments as ``block``, the height without the roof."""
    length, depth, height = size
    rise, lean = 0.32 * depth, 0.27 * depth
    parts.box((*at, 0.5 * height), size, wall, Texture.FACADE, yaw=yaw, seed=seed)
    tone = 0.75 + 0.06 * (seed % 6)
    roof = tuple(tone * c for c in TILES)
    for side in (-1.0, 1.0):  # two halves that lean against each other
        turned = yaw + 0.5 * math.pi
        middle = side * (0.25 * depth - 0.5 * lean + 0.2)
        x, y = at[0] + middle * math.cos(turned), at[1] + middle * math.sin(turned)
        parts.box((x, y, height + 0.5 * rise), (0.5 * depth + 0.4, length + 0.5, rise), roof, yaw=turned, lean=-side * lean)
    cos, sin = math.cos(yaw), math.sin(yaw)
    parts.box((at[0] + 0.3 * length * cos, at[1] + 0.3 * length * sin, height + rise), (0.7, 0.7, 1.6), WALLS[0], yaw=yaw)
