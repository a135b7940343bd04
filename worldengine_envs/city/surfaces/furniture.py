"""Cones, barriers, signs, boxes and traffic lights, in their own frame: x forward, z up from the middle of the box."""

from __future__ import annotations

from worldengine_envs.city.surfaces.parts import Parts
from worldengine_envs.city.surfaces.textures import Texture
from worldengine_envs.city.surfaces.types import Glow

ORANGE, RED, WHITE, STEEL, DARK = (0.95, 0.42, 0.08), (0.80, 0.12, 0.10), (0.93, 0.93, 0.92), (0.50, 0.51, 0.53), (0.10, 0.10, 0.11)
LAMPS = {"red": (1.0, 0.14, 0.10), "yellow": (1.0, 0.78, 0.12), "green": (0.10, 0.95, 0.45)}
LIGHT_SIZE = (0.5, 0.8, 4.9)  # of a traffic light with its pole [m]


def cone(size) -> Parts:
    """Returns a traffic cone: rings that get narrower, with white bands."""
    parts, (length, width, height) = Parts(), size
    parts.box((0.0, 0.0, -0.47 * height), (length, width, 0.06 * height), (0.16, 0.16, 0.17))
    steps = 5
    for k in range(steps):
        low, high = 0.06 + 0.94 * k / steps, 0.06 + 0.94 * (k + 1) / steps
        color = WHITE if k in (1, 3) else ORANGE
        wide = 0.74 * (1.0 - 0.78 * (k + 0.5) / steps)
        parts.ellipsoid(
            (0.0, 0.0, (0.5 * (low + high) - 0.5) * height), (wide * length, wide * width, 1.7 * (high - low) * height / 1.6), color
        )
        parts.cylinder((0.0, 0.0, (0.5 * (low + high) - 0.5) * height), wide * length, (high - low) * height, color)
    return parts


def barrier(size) -> Parts:
    """Returns a road works barrier: red and white boards on feet, across x."""
    parts, (length, width, height) = Parts(), size
    for z, tall in ((0.34, 0.30), (-0.10, 0.26)):
        parts.box((0.0, 0.0, z * height), (0.16 * length + 0.02, width, tall * height), RED, Texture.CHEVRON)
    for side in (-0.42, 0.42):
        parts.box((0.0, side * width, -0.02 * height), (0.2 * length, 0.06, 0.96 * height), STEEL)
        parts.box((0.0, side * width, -0.47 * height), (length, 0.16, 0.06 * height), DARK)
        parts.ellipsoid(
            (0.0, side * width, 0.47 * height),
            (0.14, 0.14, 0.06 * height),
            (0.9, 0.6, 0.1),
            glow=(1.0, 0.7, 0.1),
            glow_when=Glow.DARK,
        )
    return parts


def sign(size) -> Parts:
    """Returns a sign for road works: a board with chevrons on a post."""
    parts, (length, width, height) = Parts(), size
    parts.box((0.0, 0.0, 0.24 * height), (0.06, width, 0.52 * height), ORANGE, Texture.CHEVRON)
    parts.box((-0.04, 0.0, -0.1 * height), (0.06, 0.08, 0.76 * height), STEEL)
    parts.box((0.0, 0.0, -0.47 * height), (length, 0.7 * width, 0.06 * height), DARK)
    return parts


def crate(size, color) -> Parts:
    """Returns something that lies or stands about: a box with a lid."""
    parts, (length, width, height) = Parts(), size
    parts.box((0.0, 0.0, -0.06 * height), (0.96 * length, 0.96 * width, 0.88 * height), color, Texture.STONE)
    parts.box((0.0, 0.0, 0.44 * height), (length, width, 0.12 * height), tuple(0.75 * c for c in color))
    return parts


def traffic_light(shown: str | None) -> Parts:
    """Returns a traffic light on its pole that looks along x and shows "red", "yellow", "green" or nothing.

    Larger than real ones, so that it can be read in small pictures.
    """
    parts, (_, width, height) = Parts(), LIGHT_SIZE
    top, tall = 0.5 * height, 2.1
    parts.cylinder((-0.13, 0.0, -0.2), 0.14, height - 0.4, STEEL)
    parts.box((-0.02, 0.0, top - 0.5 * tall), (0.08, width, tall), DARK)
    parts.box((0.06, 0.0, top - 0.5 * tall), (0.16, 0.62, tall - 0.12), (0.13, 0.13, 0.13))
    for k, (name, color) in enumerate(LAMPS.items()):
        at = (0.15, 0.0, top - 0.38 - 0.67 * k)
        if name == shown:
            parts.ellipsoid(at, (0.16, 0.58, 0.58), color, glow=color, glow_when=Glow.ALWAYS)
        else:
            parts.ellipsoid(at, (0.06, 0.50, 0.50), tuple(0.10 + 0.10 * c for c in color))
    return parts
