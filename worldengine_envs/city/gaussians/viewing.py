"""From where surfaces are seen, and how finely they are split for it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from worldengine_envs.simulation.kernels import inlined_kernel

EYE_HEIGHT = 1.5  # of cameras over the ground [m]


class Viewing(NamedTuple):
    """From where surfaces are seen, and how finely they are split."""

    distance: np.ndarray  # (rows, columns) float32 distance of the nearest camera [m] by place; (1, 1) = everywhere the same
    origin: np.ndarray  # (2,) float64 x, y [m] of the corner of cell 0, 0
    cell: float  # [m]
    beyond: float  # what the way of a cell beyond the table adds to the distance [m]
    eyes: np.ndarray  # (eyes, 3) float64 some places of cameras [m]; none = from everywhere
    largest: float  # patches are at most so wide as an angle [rad]
    smallest: float  # patches that are smaller are not split
    error: float  # most squared error of colours times solid angle of one patch
    spread: float  # standard deviation of a patch's Gaussian over its root mean square extent
    logit: float  # of the opacity


@inlined_kernel
def nearest_eye(viewing, x, y):
    """Returns the distance [m] of the nearest camera from a place; outside of the table the way to its rim is added."""
    rows, columns = viewing.distance.shape
    u, v = (x - viewing.origin[0]) / viewing.cell, (y - viewing.origin[1]) / viewing.cell
    cu, cv = min(max(u, 0.0), columns - 1.0), min(max(v, 0.0), rows - 1.0)
    return viewing.distance[int(cv), int(cu)] + viewing.beyond * math.sqrt((u - cu) ** 2 + (v - cv) ** 2)


@inlined_kernel
def is_seen(viewing, x, y, z, nx, ny, nz, reach):
    """Returns whether some eye is in front of a plane through a point, or less than ``reach`` [m] behind it."""
    if len(viewing.eyes) == 0:
        return True
    for e in range(len(viewing.eyes)):
        dx, dy, dz = viewing.eyes[e, 0] - x, viewing.eyes[e, 1] - y, viewing.eyes[e, 2] - z
        if dx * nx + dy * ny + dz * nz > -reach:
            return True
    return False
