"""From where surfaces are seen, what houses hide, and how finely surfaces are split."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from worldengine_envs.city.surfaces.textures import Texture
from worldengine_envs.simulation.kernels import inlined_kernel, kernel

EYE_HEIGHT = 1.5  # of cameras over the ground [m]
SECTORS = 256  # directions around an eye
WALLS = 5  # houses that are kept one behind the other in a direction
BEHIND = 2.0  # what is so little behind a house's wall may be the wall itself [m]
FACADE = int(Texture.FACADE)


class Viewing(NamedTuple):
    """From where surfaces are seen, and how finely they are split."""

    distance: np.ndarray  # (rows, columns) float32 distance of the nearest camera [m] by place; (1, 1) = everywhere the same
    origin: np.ndarray  # (2,) float64 x, y [m] of the corner of cell 0, 0
    cell: float  # [m]
    beyond: float  # what the way of a cell beyond the table adds to the distance [m]
    eyes: np.ndarray  # (eyes, 2) float64 x, y [m] of some places of cameras; none = seen from everywhere
    wall: np.ndarray  # (eyes, SECTORS, WALLS) float32 distance of houses in each direction [m], inf = no more
    slope: np.ndarray  # (eyes, SECTORS, WALLS) float32 rise over run to their tops
    largest: float  # patches are at most so wide as an angle [rad]
    smallest: float  # patches that are smaller are not split
    error: float  # most squared error of colours times solid angle of one patch
    spread: float  # standard deviation of a patch's Gaussian over its root mean square extent
    logit: float  # of the opacity


def coarseness(detail: float) -> float:
    """Returns the factor on angles that patches may have; with it the number of Gaussians is about in proportion to ``detail``."""
    return detail**-0.75


def everywhere() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns ``eyes``, ``wall`` and ``slope`` of what is seen from everywhere."""
    nothing = np.empty((0, SECTORS, WALLS), np.float32)
    return np.empty((0, 2)), nothing, nothing


@inlined_kernel
def nearest_eye(viewing, x, y):
    """Returns the distance [m] of the nearest camera from a place; outside of the table the way to its rim is added."""
    rows, columns = viewing.distance.shape
    u, v = (x - viewing.origin[0]) / viewing.cell, (y - viewing.origin[1]) / viewing.cell
    cu, cv = min(max(u, 0.0), columns - 1.0), min(max(v, 0.0), rows - 1.0)
    return viewing.distance[int(cv), int(cu)] + viewing.beyond * math.sqrt((u - cu) ** 2 + (v - cv) ** 2)


@inlined_kernel
def _sector(dx, dy):
    return int((math.atan2(dy, dx) / (2.0 * math.pi) + 1.0) * SECTORS) % SECTORS


@inlined_kernel
def _is_behind(viewing, e, sector, distance, slope):
    """Returns whether a nearer house rises higher in one sector of an eye."""
    for k in range(WALLS):
        if viewing.wall[e, sector, k] + BEHIND > distance:
            return False
        if viewing.slope[e, sector, k] > slope:
            return True
    return False


@inlined_kernel
def is_seen(viewing, x, y, z, top, nx, ny, nz, reach):
    """Returns whether an eye sees a piece of a surface.

    Args:
        viewing: ``Viewing``.
        x, y, z: Its middle [m].
        top: Height of its highest point [m].
        nx, ny, nz: Normal; the eye is in front of the plane, or less than ``reach`` [m] behind it.
        reach: 0 for what is flat.
    """
    eyes = viewing.eyes
    if len(eyes) == 0:
        return True
    for e in range(len(eyes)):
        dx, dy = x - eyes[e, 0], y - eyes[e, 1]
        if dx * nx + dy * ny + (z - EYE_HEIGHT) * nz < reach:
            distance, middle = math.sqrt(dx * dx + dy * dy), _sector(dx, dy)
            slope = (top - EYE_HEIGHT) / max(distance, 0.1)
            for k in range(-1, 2):
                if not _is_behind(viewing, e, (middle + k) % SECTORS, distance, slope):
                    return True
    return False


@kernel
def find_walls(primitives, eyes, wall, slope):
    """Writes the houses around eyes: ``wall`` and ``slope`` of ``Viewing``, nearest first."""
    wall[:], slope[:] = np.inf, 0.0
    for i in range(len(primitives)):
        if primitives[i].texture != FACADE:
            continue
        m, unit = primitives[i].from_unit, primitives[i].to_unit
        top = m[2, 3] + abs(m[2, 0]) + abs(m[2, 1]) + abs(m[2, 2])
        radius = math.sqrt(m[0, 0] ** 2 + m[1, 0] ** 2) + math.sqrt(m[0, 1] ** 2 + m[1, 1] ** 2)
        for e in range(len(eyes)):
            x, y = m[0, 3] - eyes[e, 0], m[1, 3] - eyes[e, 1]
            center = math.sqrt(x * x + y * y)
            half = math.asin(min(radius / max(center, 1e-6), 1.0))
            first, count = _sector(x, y), int(half / (2.0 * math.pi) * SECTORS) + 1
            ox, oy = unit[0, 0] * -x + unit[0, 1] * -y, unit[1, 0] * -x + unit[1, 1] * -y
            for k in range(-count, count + 1):
                sector = (first + k) % SECTORS
                angle = (sector + 0.5) / SECTORS * 2.0 * math.pi
                distance = _enter(unit, ox, oy, math.cos(angle), math.sin(angle))
                if distance > 0.0:
                    _insert(wall[e, sector], slope[e, sector], distance, (top - EYE_HEIGHT) / distance)


@inlined_kernel
def _enter(unit, ox, oy, dx, dy):
    """Returns how far along a ray on the ground [m] it enters a box, -1 where it does not; ox, oy: its start in the unit box."""
    u, v = unit[0, 0] * dx + unit[0, 1] * dy, unit[1, 0] * dx + unit[1, 1] * dy
    u, v = (u if abs(u) > 1e-12 else 1e-12), (v if abs(v) > 1e-12 else 1e-12)
    a, b, c, d = (-1.0 - ox) / u, (1.0 - ox) / u, (-1.0 - oy) / v, (1.0 - oy) / v
    near, far = max(min(a, b), min(c, d)), min(max(a, b), max(c, d))
    return near if near <= far and near > 0.0 else -1.0


@inlined_kernel
def _insert(wall, slope, distance, rise):
    """Puts a house into the list of a direction; the farthest one falls out where it is full."""
    if distance >= wall[WALLS - 1]:
        return
    k = WALLS - 1
    while k > 0 and wall[k - 1] > distance:
        wall[k], slope[k] = wall[k - 1], slope[k - 1]
        k -= 1
    wall[k], slope[k] = distance, rise
