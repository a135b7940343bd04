"""Boxes, ellipsoids and cylinders as flat Gaussians: charts split where their texture varies, finer where cameras come near."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from worldengine_envs.city.gaussians.cloud import THICKNESS, add_patch
from worldengine_envs.city.surfaces.textures import Texture, surface_color
from worldengine_envs.city.surfaces.types import Glow, Shape
from worldengine_envs.simulation.kernels import inlined_kernel, kernel

BOX, ELLIPSOID, CYLINDER = int(Shape.BOX), int(Shape.ELLIPSOID), int(Shape.CYLINDER)
NEVER, ALWAYS, FACADE = int(Glow.NEVER), int(Glow.ALWAYS), int(Texture.FACADE)
EYE_HEIGHT = 1.5  # of cameras over the ground [m]
REACH = 1.3  # standard deviations from a Gaussian's centre to where it should seem to end
CHARTS = 6  # of each shape: sides of a box, of the cube around an ellipsoid; four quarters of a cylinder and its ends
SIDE = 8  # most samples along one side of a patch
STACK = 64


class Viewing(NamedTuple):
    """From where surfaces will be seen, and how finely they are split."""

    distance: np.ndarray  # (rows, columns) float32 distance of the nearest camera [m] by place; (1, 1) = everywhere the same
    origin: np.ndarray  # (2,) float64 x, y [m] of the corner of cell 0, 0
    cell: float  # [m]
    beyond: float  # what a cell's way beyond the table adds to the distance [m]
    eyes: np.ndarray  # (eyes, 3) float64 some places of cameras [m]; none = from everywhere
    largest: float  # patches are at most so wide as an angle [rad]
    smallest: float  # patches that are smaller are not split
    error: float  # most squared colour error times solid angle of one patch
    unseen: float  # factor on the distance of what no eye is in front of
    spread: float  # standard deviation of a patch's Gaussian over its root mean square extent
    logit: float  # opacity


@inlined_kernel
def nearest_eye(viewing, x, y):
    """Returns the distance [m] of the nearest camera from a place; outside of the table the way to its rim is added."""
    rows, columns = viewing.distance.shape
    u, v = (x - viewing.origin[0]) / viewing.cell, (y - viewing.origin[1]) / viewing.cell
    cu, cv = min(max(u, 0.0), columns - 1.0), min(max(v, 0.0), rows - 1.0)
    return viewing.distance[int(cv), int(cu)] + viewing.beyond * math.sqrt((u - cu) ** 2 + (v - cv) ** 2)


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
def _world(m, x, y, z):
    """Returns the point (3) of a (3, 4) affine map."""
    return (
        m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3],
        m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3],
        m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3],
    )


@inlined_kernel
def _world_normal(to_unit, x, y, z):
    """Returns the unit normal (3) in the world of a normal of the unit shape (transposed inverse)."""
    nx = to_unit[0, 0] * x + to_unit[1, 0] * y + to_unit[2, 0] * z
    ny = to_unit[0, 1] * x + to_unit[1, 1] * y + to_unit[2, 1] * z
    nz = to_unit[0, 2] * x + to_unit[1, 2] * y + to_unit[2, 2] * z
    inv = 1.0 / math.sqrt(max(nx * nx + ny * ny + nz * nz, 1e-30))
    return nx * inv, ny * inv, nz * inv


@inlined_kernel
def _is_seen(viewing, x, y, z, nx, ny, nz, reach):
    """Returns whether some eye is in front of a plane through a point, or of its edge ``reach`` [m] around."""
    if len(viewing.eyes) == 0:
        return True
    for e in range(len(viewing.eyes)):
        dx, dy, dz = viewing.eyes[e, 0] - x, viewing.eyes[e, 1] - y, viewing.eyes[e, 2] - z
        if dx * nx + dy * ny + dz * nz > -reach:
            return True
    return False


@inlined_kernel
def _sample(primitives, i, chart, u0, v0, u1, v1, nu, nv, samples):
    """Writes albedo (3), glow (3) and the share that shines for nu x nv points of a patch to ``samples`` (SIDE, SIDE, 7)."""
    shape, facade = primitives[i].shape, primitives[i].texture == FACADE
    for a in range(nv):
        for b in range(nu):
            u, v = u0 + (b + 0.5) / nu * (u1 - u0), v0 + (a + 0.5) / nv * (v1 - v0)
            x, y, z = chart_point(shape, chart, u, v)
            row = samples[a, b]
            row[0], row[1], row[2], shines = surface_color(primitives, i, x, y, z, False)
            row[3] = row[4] = row[5] = row[6] = 0.0
            if shines:
                row[3], row[4], row[5], row[6] = row[0], row[1], row[2], 1.0
            elif facade:
                r, g, s, shines = surface_color(primitives, i, x, y, z, True)
                if shines:
                    row[3], row[4], row[5], row[6] = r, g, s, 1.0


@inlined_kernel
def _best_split(samples, nu, nv, sums):
    """Returns (error, gain, axis, place): mean squared error of one colour for all, and the split that lowers it most.

    ``axis`` is 0 for a split of u, 1 of v, behind ``place`` samples; colours are the first six channels.
    """
    n = nu * nv
    error, best, axis, place = 0.0, 0.0, 0, 0
    for c in range(6):
        sums[SIDE, c] = 0.0
    for a in range(nv):
        for b in range(nu):
            for c in range(6):
                sums[SIDE, c] += samples[a, b, c]
                error += samples[a, b, c] * samples[a, b, c]
    for c in range(6):
        error -= sums[SIDE, c] * sums[SIDE, c] / n
    for side in range(2):
        lines, other = (nu, nv) if side == 0 else (nv, nu)
        for c in range(6):
            sums[0, c] = 0.0
        for k in range(1, lines):
            gain = 0.0
            for c in range(6):
                for m in range(other):
                    sums[0, c] += samples[m, k - 1, c] if side == 0 else samples[k - 1, m, c]
                rest = sums[SIDE, c] - sums[0, c]
                gain += sums[0, c] * sums[0, c] / (k * other) + rest * rest / ((lines - k) * other)
                gain -= sums[SIDE, c] * sums[SIDE, c] / n
            if gain > best:
                best, axis, place = gain, side, k
    return max(error, 0.0) / n, best / n, axis, place


@inlined_kernel
def _narrowed(low, high, spread, at_low, at_high):
    """Returns (middle, standard deviation) along one side of a patch; at the rim of a face it keeps inside of the face."""
    width = high - low
    deviation = spread * width / math.sqrt(12.0)
    over = REACH * deviation - 0.5 * width  # how far neighbours lap over each other
    a, b = (0.0 if at_low else over), (0.0 if at_high else over)
    return 0.5 * (low + high + b - a), (width + a + b) / (2.0 * REACH)


@inlined_kernel
def _emit(cloud, viewing, primitives, i, chart, u0, v0, u1, v1, nu, nv, samples):
    """Adds the Gaussian of a patch."""
    p = primitives[i]
    shape, m = p.shape, p.from_unit
    flat = shape == BOX or (shape == CYLINDER and chart >= 4)
    u, du = _narrowed(u0, u1, viewing.spread, flat and u0 <= -1.0, flat and u1 >= 1.0)
    bounded = flat or shape == CYLINDER
    v, dv = _narrowed(v0, v1, viewing.spread, bounded and v0 <= -1.0, bounded and v1 >= 1.0)
    x, y, z = chart_point(shape, chart, u, v)
    h = 1e-3
    xa, ya, za = chart_point(shape, chart, u + h, v)
    xb, yb, zb = chart_point(shape, chart, u, v + h)
    ax, ay, az = (xa - x) / h * du, (ya - y) / h * du, (za - z) / h * du
    bx, by, bz = (xb - x) / h * dv, (yb - y) / h * dv, (zb - z) / h * dv
    px, py, pz = _world(m, x, y, z)
    row = add_patch(
        cloud,
        px, py, pz,
        m[0, 0] * ax + m[0, 1] * ay + m[0, 2] * az,
        m[1, 0] * ax + m[1, 1] * ay + m[1, 2] * az,
        m[2, 0] * ax + m[2, 1] * ay + m[2, 2] * az,
        m[0, 0] * bx + m[0, 1] * by + m[0, 2] * bz,
        m[1, 0] * bx + m[1, 1] * by + m[1, 2] * bz,
        m[2, 0] * bx + m[2, 1] * by + m[2, 2] * bz,
        THICKNESS, viewing.logit,
    )  # fmt: skip
    if row < 0:
        return
    n = nu * nv
    for c in range(3):
        total = glow = shine = 0.0
        for a in range(nv):
            for b in range(nu):
                total += samples[a, b, c]
                glow += samples[a, b, 3 + c]
                shine += samples[a, b, 6]
        cloud.albedo[row, c] = total / n
        cloud.glow[row, c] = glow / shine if shine > 0.0 else 0.0
        cloud.glow[row, 3] = shine / n
        if p.glow_when != NEVER:
            cloud.glow[row, c], cloud.glow[row, 3] = p.glow[c], 1.0
    cloud.always[row] = p.glow_when == ALWAYS
    nx, ny, nz = chart_normal(shape, chart, x, y, z)
    cloud.normal[row, 0], cloud.normal[row, 1], cloud.normal[row, 2] = _world_normal(p.to_unit, nx, ny, nz)


@kernel
def sample_primitives(primitives, viewing, cloud, samples, sums, stack):
    """Adds the Gaussians of primitives.

    Args:
        primitives: (n,) PRIMITIVE.
        viewing: ``Viewing``.
        cloud: ``Cloud``, appended to.
        samples: (SIDE, SIDE, 7) float64, sums: (SIDE + 1, 6) float64, stack: (STACK, 4) float64; to work on.
    """
    for i in range(len(primitives)):
        for chart in range(CHARTS):
            _sample_chart(primitives, i, chart, viewing, cloud, samples, sums, stack)


@inlined_kernel
def _sample_chart(primitives, i, chart, viewing, cloud, samples, sums, stack):
    shape, m, to_unit = primitives[i].shape, primitives[i].from_unit, primitives[i].to_unit
    x, y, z = chart_point(shape, chart, 0.0, 0.0)
    nx, ny, nz = chart_normal(shape, chart, x, y, z)
    nx, ny, nz = _world_normal(to_unit, nx, ny, nz)
    x, y, z = _world(m, x, y, z)
    reach = 0.0 if shape == BOX else 3.0 * abs(nx * (x - m[0, 3]) + ny * (y - m[1, 3]) + nz * (z - m[2, 3]))
    unseen = 1.0 if _is_seen(viewing, x, y, z, nx, ny, nz, reach) else viewing.unseen
    stack[0, 0], stack[0, 1], stack[0, 2], stack[0, 3] = -1.0, -1.0, 1.0, 1.0
    top = 1
    while top > 0:
        top -= 1
        u0, v0, u1, v1 = stack[top, 0], stack[top, 1], stack[top, 2], stack[top, 3]
        du, dv, distance = _extent(shape, chart, m, viewing, u0, v0, u1, v1)
        distance *= unseen
        axis, cut, nu, nv = (0 if du > dv else 1), 0.5, 1, 1
        longest, split = max(du, dv), True
        if longest < viewing.largest * distance:
            fine = viewing.smallest * distance
            nu, nv = min(max(int(du / fine * 2.0), 2), SIDE), min(max(int(dv / fine * 2.0), 2), SIDE)
            _sample(primitives, i, chart, u0, v0, u1, v1, nu, nv, samples)
            error, gain, side, place = _best_split(samples, nu, nv, sums)
            split = longest > fine and error * du * dv / (distance * distance) > viewing.error
            if split and gain > 0.25 * error:
                axis, cut = side, place / (nu if side == 0 else nv)
        if split and top + 2 <= STACK:
            w = u0 + cut * (u1 - u0) if axis == 0 else v0 + cut * (v1 - v0)
            stack[top, 0], stack[top, 1], stack[top, 2], stack[top, 3] = u0, v0, u1, v1
            stack[top + 1, 0], stack[top + 1, 1], stack[top + 1, 2], stack[top + 1, 3] = u0, v0, u1, v1
            stack[top, 2 + axis] = w
            stack[top + 1, axis] = w
            top += 2
        else:
            _emit(cloud, viewing, primitives, i, chart, u0, v0, u1, v1, nu, nv, samples)


@inlined_kernel
def _extent(shape, chart, m, viewing, u0, v0, u1, v1):
    """Returns the lengths [m] of a patch along u and v, and how far off the nearest camera is [m].

    Lengths of curved patches count more: a flat Gaussian stands for at most about an eighth of the way around.
    """
    u, v = 0.5 * (u0 + u1), 0.5 * (v0 + v1)
    x, y, z = chart_point(shape, chart, u, v)
    h = 1e-3
    xa, ya, za = chart_point(shape, chart, u + h, v)
    xb, yb, zb = chart_point(shape, chart, u, v + h)
    x3, y3, z3 = _world(m, x, y, z)
    xa, ya, za = _world(m, xa, ya, za)
    xb, yb, zb = _world(m, xb, yb, zb)
    du = (u1 - u0) / h * math.sqrt((xa - x3) ** 2 + (ya - y3) ** 2 + (za - z3) ** 2)
    dv = (v1 - v0) / h * math.sqrt((xb - x3) ** 2 + (yb - y3) ** 2 + (zb - z3) ** 2)
    flat = nearest_eye(viewing, x3, y3)
    return du, dv, math.sqrt(flat * flat + (z3 - EYE_HEIGHT) ** 2)
