"""Boxes, ellipsoids and cylinders as charts: maps of squares onto their surfaces."""

from __future__ import annotations

import math

from worldengine_envs.city.surfaces.types import Shape
from worldengine_envs.simulation.kernels import inlined_kernel

BOX, ELLIPSOID, CYLINDER = int(Shape.BOX), int(Shape.ELLIPSOID), int(Shape.CYLINDER)
CHARTS = 6  # of each shape: sides of a box, of the cube around an ellipsoid; four quarters of a cylinder and its ends
MARGIN = 0.01  # what is this deep in another shape is hidden [m]


@inlined_kernel
def chart_point(shape, chart, u, v):
    """Returns the point (3) of the unit shape at u, v in [-1, 1]^2 of a chart."""
    if shape == CYLINDER:
        if chart < 4:
            angle = (chart + 0.5 * u) * (0.5 * math.pi)
            return math.cos(angle), math.sin(angle), v
        x, y = u * math.sqrt(1.0 - 0.5 * v * v), v * math.sqrt(1.0 - 0.5 * u * u)
        return (x, y, 1.0) if chart == 4 else (y, x, -1.0)
    if chart == 0:
        x, y, z = 1.0, u, v
    elif chart == 1:
        x, y, z = -1.0, -u, v
    elif chart == 2:
        x, y, z = -u, 1.0, v
    elif chart == 3:
        x, y, z = u, -1.0, v
    elif chart == 4:
        x, y, z = u, v, 1.0
    else:
        x, y, z = v, u, -1.0
    if shape == ELLIPSOID:
        inv = 1.0 / math.sqrt(x * x + y * y + z * z)
        return x * inv, y * inv, z * inv
    return x, y, z


@inlined_kernel
def chart_normal(shape, chart, x, y, z):
    """Returns the outward normal (3) of the unit shape at its point x, y, z."""
    if shape == ELLIPSOID:
        return x, y, z
    if shape == CYLINDER:
        return (x, y, 0.0) if chart < 4 else (0.0, 0.0, z)
    if chart < 2:
        return x, 0.0, 0.0
    if chart < 4:
        return 0.0, y, 0.0
    return 0.0, 0.0, z


@inlined_kernel
def to_world(m, x, y, z):
    """Returns the point (3) of a (3, 4) affine map."""
    return (
        m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3],
        m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3],
        m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3],
    )


@inlined_kernel
def turned(m, x, y, z):
    """Returns the vector (3) that the linear part of a (3, 4) map makes of another."""
    return (
        m[0, 0] * x + m[0, 1] * y + m[0, 2] * z,
        m[1, 0] * x + m[1, 1] * y + m[1, 2] * z,
        m[2, 0] * x + m[2, 1] * y + m[2, 2] * z,
    )


@inlined_kernel
def normal_in_world(to_unit, x, y, z):
    """Returns the unit normal (3) in the world of a normal of the unit shape (transposed inverse)."""
    nx = to_unit[0, 0] * x + to_unit[1, 0] * y + to_unit[2, 0] * z
    ny = to_unit[0, 1] * x + to_unit[1, 1] * y + to_unit[2, 1] * z
    nz = to_unit[0, 2] * x + to_unit[1, 2] * y + to_unit[2, 2] * z
    inv = 1.0 / math.sqrt(max(nx * nx + ny * ny + nz * nz, 1e-30))
    return nx * inv, ny * inv, nz * inv


@inlined_kernel
def tangents(shape, chart, m, u, v):
    """Returns the derivatives (3 + 3) of the point in the world by u and by v."""
    h = 1e-3
    x, y, z = chart_point(shape, chart, u, v)
    xa, ya, za = chart_point(shape, chart, u + h, v)
    xb, yb, zb = chart_point(shape, chart, u, v + h)
    ax, ay, az = turned(m, (xa - x) / h, (ya - y) / h, (za - z) / h)
    bx, by, bz = turned(m, (xb - x) / h, (yb - y) / h, (zb - z) / h)
    return ax, ay, az, bx, by, bz


@inlined_kernel
def column_length(m, k):
    """Returns the length of a column of a (3, 4) map: half the size of a shape along one of its axes [m]."""
    return math.sqrt(m[0, k] * m[0, k] + m[1, k] * m[1, k] + m[2, k] * m[2, k])


@inlined_kernel
def is_inside(primitives, i, x, y, z):
    """Returns whether a point of the world lies in a primitive, deeper than MARGIN."""
    u, v, w = to_world(primitives[i].to_unit, x, y, z)
    m, shape = primitives[i].from_unit, primitives[i].shape
    a, b, c = column_length(m, 0), column_length(m, 1), column_length(m, 2)
    if shape == BOX:
        return abs(u) < 1.0 - MARGIN / a and abs(v) < 1.0 - MARGIN / b and abs(w) < 1.0 - MARGIN / c
    if shape == CYLINDER:
        return u * u + v * v < (1.0 - MARGIN / min(a, b)) ** 2 and a > MARGIN and b > MARGIN and abs(w) < 1.0 - MARGIN / c
    least = min(a, b, c)
    return least > MARGIN and u * u + v * v + w * w < (1.0 - MARGIN / least) ** 2


@inlined_kernel
def bounding_radius(m):
    """Returns a radius [m] around the middle that holds a shape."""
    return column_length(m, 0) + column_length(m, 1) + column_length(m, 2)


@inlined_kernel
def find_neighbours(spheres, i, near):
    """Writes the rows of the bounding spheres (n, 4) x, y, z, radius [m] that touch sphere i, and returns their number."""
    n, x, y, z, radius = 0, spheres[i, 0], spheres[i, 1], spheres[i, 2], spheres[i, 3]
    for j in range(len(spheres)):
        dx, dy, dz, reach = spheres[j, 0] - x, spheres[j, 1] - y, spheres[j, 2] - z, spheres[j, 3] + radius
        if dx * dx + dy * dy + dz * dz < reach * reach and j != i and n < len(near):
            near[n] = j
            n += 1
    return n
