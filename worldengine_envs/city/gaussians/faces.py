"""Boxes, ellipsoids and cylinders as flat Gaussians: charts split where their texture varies and at their rims.

A patch stays whole where one colour, and the blur of one Gaussian at sides where the colour changes, are errors too small to see
from where cameras come nearest. Else it is cut where that helps most: between two colours, or a strip along a blurred side. Round
things that look small are solid Gaussians. What lies inside of another shape is left out.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from worldengine_envs.city.gaussians import charts
from worldengine_envs.city.gaussians.charts import (
    BOX,
    CYLINDER,
    ELLIPSOID,
    bounding_radius,
    chart_normal,
    chart_point,
    column_length,
    find_neighbours,
    is_inside,
    normal_in_world,
    tangents,
    to_world,
)
from worldengine_envs.city.gaussians.cloud import THICKNESS, Cloud, add_patch
from worldengine_envs.city.gaussians.samples import CHANNELS, SIDE, best_split, sample_patch, sample_point, set_look
from worldengine_envs.city.gaussians.viewing import EYE_HEIGHT, Viewing, is_seen, nearest_eye
from worldengine_envs.city.surfaces.textures import Texture
from worldengine_envs.simulation.kernels import inlined_kernel, kernel

PLAIN = int(Texture.PLAIN)
CHARTS = charts.CHARTS
STACK, NEAR = 128, 64
REACH = 1.3  # standard deviations from a Gaussian's centre to where it seems to end
BLUR = 0.12  # squared error along a side, over squared contrast, the patch's width and the side's length
RIM_WIDTH = 1.5  # of the strips along the rim of a face, in sizes of the smallest patches
RINGS = 4  # of strips, each twice as wide as the one around it
GRADED = 1e-4  # "contrast" of a patch with a smaller one
LARGE = 6.0  # patches that are larger are not asked whether they are seen [m]
FOOT = 0.3  # what starts lower has no rim at its foot [m]
OVERLAP, TOWARDS_RIM = 0.15, 0.5  # of the usual overlap, across a change of colour and towards smaller patches
ROD, SMALL = 1.4, 2.0  # half the width of thin cylinders and ellipsoids that are solid Gaussians, in sizes of the smallest patches
CURVED, ROUND = 0.8, 4.0  # most width of a patch on a round shape, over its radius and in sizes of the smallest patches
SUNK = 1.4  # how far such patches sink in, over their sagitta


class Work(NamedTuple):
    """Memory that the kernels work on."""

    samples: np.ndarray  # (SIDE, SIDE, CHANNELS) float64
    sums: np.ndarray  # (SIDE + 1, 6) float64
    stack: np.ndarray  # (STACK, 8) float64: u and v from, u and v to, squared contrast at these four sides
    near: np.ndarray  # (NEAR,) int64 rows of primitives


def sample_primitives(primitives: np.ndarray, viewing: Viewing, cloud: Cloud) -> None:
    """Adds the Gaussians of primitives (n,) PRIMITIVE to a cloud."""
    work = Work(np.empty((SIDE, SIDE, CHANNELS)), np.empty((SIDE + 1, 6)), np.empty((STACK, 8)), np.empty(NEAR, np.int64))
    sample_all(primitives, viewing, cloud, work, np.empty((len(primitives), 4)))


@kernel
def sample_all(primitives, viewing, cloud, work, spheres):
    """As ``sample_primitives``, with memory to work on: a ``Work``, and ``spheres`` (n, 4) float64 for bounding spheres."""
    for i in range(len(primitives)):
        m = primitives[i].from_unit
        spheres[i, 0], spheres[i, 1], spheres[i, 2], spheres[i, 3] = m[0, 3], m[1, 3], m[2, 3], bounding_radius(m)
    for i in range(len(primitives)):
        near = find_neighbours(spheres, i, work.near)
        m, shape = primitives[i].from_unit, primitives[i].shape
        distance = _distance(viewing, m[0, 3], m[1, 3], m[2, 3])
        a, b, c = column_length(m, 0), column_length(m, 1), column_length(m, 2)
        if shape == CYLINDER and max(a, b) < ROD * viewing.smallest * distance:
            _add_rod(primitives, i, viewing, cloud, work, c, distance)
        elif shape == ELLIPSOID and max(a, b, c) < SMALL * viewing.smallest * distance:
            _add_solid(primitives, i, viewing, cloud, work, -1.0, 1.0, 1.0 / REACH)
        else:
            for chart in range(CHARTS):
                _add_chart(primitives, i, chart, near, viewing, cloud, work)


@inlined_kernel
def _distance(viewing, x, y, z):
    """Returns how far off the nearest camera is from a point [m]."""
    flat = nearest_eye(viewing, x, y)
    return math.sqrt(flat * flat + (z - EYE_HEIGHT) ** 2)


@inlined_kernel
def _add_rod(primitives, i, viewing, cloud, work, half, distance):
    """Adds a thin cylinder as solid Gaussians in a row."""
    step = viewing.largest * distance
    if primitives[i].texture != PLAIN:
        step = min(step, 6.0 * viewing.smallest * distance)
    n = max(math.ceil(2.0 * half / step), 1)
    for k in range(n):
        over = viewing.spread / math.sqrt(12.0) if n > 1 else 0.5 / REACH
        _add_solid(primitives, i, viewing, cloud, work, -1.0 + 2.0 * k / n, -1.0 + 2.0 * (k + 1) / n, 2.0 * over)


@inlined_kernel
def _add_solid(primitives, i, viewing, cloud, work, w0, w1, along):
    """Adds the part w0 to w1 of a round primitive as one solid Gaussian; ``along`` is its deviation over half the part's length."""
    m, f, w = primitives[i].from_unit, 0.5 * (w1 - w0) * along, 0.5 * (w0 + w1)
    x, y, z = to_world(m, 0.0, 0.0, w)
    row = add_patch(
        cloud, x, y, z,
        m[0, 2] * f, m[1, 2] * f, m[2, 2] * f,
        m[0, 0] / REACH, m[1, 0] / REACH, m[2, 0] / REACH,
        column_length(m, 1) / REACH, viewing.logit,
    )  # fmt: skip
    if row < 0:
        return
    for k in range(4):
        u, v = math.cos(0.5 * math.pi * k), math.sin(0.5 * math.pi * k)
        for a in range(SIDE):
            h = w0 + (a + 0.5) / SIDE * (w1 - w0)
            flat = math.sqrt(1.0 - h * h) if primitives[i].shape == ELLIPSOID else 1.0
            sample_point(primitives, i, flat * u, flat * v, h, False, work.samples[a, k])
    set_look(cloud, row, primitives, i, 4, SIDE, work.samples)
    # light from the side: as much as on average over what the road sees of it
    cloud.normal[row, 0] = cloud.normal[row, 1] = cloud.normal[row, 2] = 0.0


@inlined_kernel
def _add_chart(primitives, i, chart, near, viewing, cloud, work):
    """Adds the Gaussians of one chart of a primitive."""
    shape, m, stack = primitives[i].shape, primitives[i].from_unit, work.stack
    x, y, z = chart_point(shape, chart, 0.0, 0.0)
    nx, ny, nz = chart_normal(shape, chart, x, y, z)
    nx, ny, nz = normal_in_world(primitives[i].to_unit, nx, ny, nz)
    x, y, z = to_world(m, x, y, z)
    is_flat = shape == BOX or (shape == CYLINDER and chart >= 4)
    reach = 0.0 if is_flat else 3.0 * abs(nx * (x - m[0, 3]) + ny * (y - m[1, 3]) + nz * (z - m[2, 3]))
    round_limit = 1e9 if is_flat else CURVED * min(column_length(m, 0), column_length(m, 1))
    stack[0, 0], stack[0, 1], stack[0, 2], stack[0, 3] = -1.0, -1.0, 1.0, 1.0
    stack[0, 4] = stack[0, 5] = stack[0, 6] = stack[0, 7] = 0.0
    top = 1
    if is_flat:
        top = _cut_rims(shape, chart, m, viewing, stack)
    while top > 0:
        top -= 1
        patch = stack[top]
        if not _is_seen(viewing, m, shape, chart, patch, nx, ny, nz, reach) or _is_hidden(
            primitives, m, shape, chart, near, work.near, patch
        ):
            continue
        du, dv, distance = _extent(shape, chart, m, viewing, patch)
        axis, cut, contrast, nu, nv = _decide(primitives, i, chart, viewing, work, patch, du, dv, distance, round_limit)
        if cut > 0.0 and top + 2 <= STACK:
            other = stack[top + 1]
            for k in range(8):
                other[k] = patch[k]
            w = patch[axis] + cut * (patch[axis + 2] - patch[axis])
            patch[axis + 2] = other[axis] = w
            patch[axis + 6] = other[axis + 4] = contrast
            top += 2
        else:
            if nu == 0:
                nu = nv = 1
                sample_patch(primitives, i, chart, patch[0], patch[1], patch[2], patch[3], 1, 1, work.samples)
            _emit(cloud, viewing, primitives, i, chart, is_flat, patch, nu, nv, du, dv, work.samples)


@inlined_kernel
def _cut_rims(shape, chart, m, viewing, stack):
    """Puts the patch of a whole face on the stack as rings of strips along its rim and what is left; returns their number.

    Strips are wider and wider inwards: a wide Gaussian near to the rim would show beyond it. The foot of a wall has none.
    """
    x, y, z = chart_point(shape, chart, 0.0, -1.0)
    x, y, z = to_world(m, x, y, z)
    has_foot, top = z < FOOT and chart < 4, 1
    for k in range(4 * RINGS):
        side, axis = k % 4, k % 2
        strip, rest = stack[top - 1], stack[top]
        du, dv, distance = _extent(shape, chart, m, viewing, strip)
        width = du if axis == 0 else dv
        share = RIM_WIDTH * viewing.smallest * distance * 2.0 ** (k // 4) / max(width, 1e-6)
        if share > 0.3 or (side == 1 and has_foot):
            continue
        for j in range(8):
            rest[j] = strip[j]
        if side < 2:
            w = strip[axis] + share * (strip[axis + 2] - strip[axis])
            strip[axis + 2] = rest[axis] = w
        else:
            w = strip[axis + 2] - share * (strip[axis + 2] - strip[axis])
            strip[axis] = rest[axis + 2] = w
        rest[4 + side] = GRADED
        top += 1
    return top


@inlined_kernel
def _extent(shape, chart, m, viewing, patch):
    """Returns the lengths [m] of a patch along u and v, and how far off the nearest camera is [m]."""
    u, v = 0.5 * (patch[0] + patch[2]), 0.5 * (patch[1] + patch[3])
    ax, ay, az, bx, by, bz = tangents(shape, chart, m, u, v)
    x, y, z = chart_point(shape, chart, u, v)
    x, y, z = to_world(m, x, y, z)
    du = (patch[2] - patch[0]) * math.sqrt(ax * ax + ay * ay + az * az)
    dv = (patch[3] - patch[1]) * math.sqrt(bx * bx + by * by + bz * bz)
    return du, dv, _distance(viewing, x, y, z)


@inlined_kernel
def _decide(primitives, i, chart, viewing, work, patch, du, dv, distance, round_limit):
    """Returns (axis, cut, contrast, nu, nv): where to cut a patch (0 = leave it whole), and how many samples were taken of it.

    ``cut`` is a share of its extent along axis 0 (u) or 1 (v), ``contrast`` the squared one between the two parts.
    """
    axis = 0 if du > dv else 1
    fine = viewing.smallest * distance
    if max(du, dv) > viewing.largest * distance:
        return axis, 0.5, 0.0, 0, 0
    if primitives[i].shape == ELLIPSOID and max(du, dv) > max(round_limit, ROUND * fine):
        return axis, 0.5, 0.0, 0, 0
    if primitives[i].shape == CYLINDER and chart < 4 and du > max(round_limit, ROUND * fine):
        return 0, 0.5, 0.0, 0, 0
    if primitives[i].texture == PLAIN:
        nu = nv = 1
    else:
        nu, nv = min(max(int(du / fine * 2.0), 2), SIDE), min(max(int(dv / fine * 2.0), 2), SIDE)
    sample_patch(primitives, i, chart, patch[0], patch[1], patch[2], patch[3], nu, nv, work.samples)
    error, gain, side, place = best_split(work.samples, nu, nv, work.sums)
    limit = viewing.error * distance * distance
    total, worst, which = error * du * dv, 0.0, 0
    for k in range(4):
        blur = BLUR * patch[4 + k] * du * dv
        if (du if k % 2 == 0 else dv) > 1.5 * fine:
            total += blur
            if blur > worst:
                worst, which = blur, k
    if total <= limit:
        return axis, 0.0, 0.0, nu, nv
    if gain * du * dv > worst and (du if side == 0 else dv) > fine:
        share = place / (nu if side == 0 else nv)
        return side, share, gain / (share * (1.0 - share)), nu, nv
    if worst > 0.0:
        width, length = (du, dv) if which % 2 == 0 else (dv, du)
        strip = min(max(0.4 * limit / (BLUR * patch[4 + which] * length), fine), 0.5 * width) / width
        return which % 2, strip if which < 2 else 1.0 - strip, 0.0, nu, nv
    return axis, 0.0, 0.0, nu, nv


@inlined_kernel
def _is_seen(viewing, m, shape, chart, patch, nx, ny, nz, reach):
    """Returns whether an eye sees some of a patch. Large ones are seen as far as their corners or their middle are."""
    x, y, z = chart_point(shape, chart, 0.5 * (patch[0] + patch[2]), 0.5 * (patch[1] + patch[3]))
    x, y, z = to_world(m, x, y, z)
    top, far = z, 0.0
    for k in range(4):
        p, q, r = chart_point(shape, chart, patch[0] if k & 1 else patch[2], patch[1] if k & 2 else patch[3])
        p, q, r = to_world(m, p, q, r)
        top, far = max(top, r), max(far, abs(p - x) + abs(q - y))
    if far > LARGE:  # its parts will be asked for
        return True
    return is_seen(viewing, x, y, z, top, nx, ny, nz, reach)


@inlined_kernel
def _is_hidden(primitives, m, shape, chart, near, neighbours, patch):
    """Returns whether the corners and the middle of a patch lie in one neighbour (all shapes are convex)."""
    for k in range(near):
        j, hidden = neighbours[k], True
        for corner in range(5):
            u = 0.5 * (patch[0] + patch[2]) if corner == 4 else patch[0] if corner & 1 else patch[2]
            v = 0.5 * (patch[1] + patch[3]) if corner == 4 else patch[1] if corner & 2 else patch[3]
            x, y, z = chart_point(shape, chart, u, v)
            x, y, z = to_world(m, x, y, z)
            if not is_inside(primitives, j, x, y, z):
                hidden = False
                break
        if hidden:
            return True
    return False


@inlined_kernel
def _narrowed(low, high, spread, at_low, at_high):
    """Returns (middle, standard deviation) along one side of a patch.

    ``at_low`` and ``at_high`` say how much of the usual overlap it has there: 1 with more of the same, 0 at the rim of a face.
    """
    width = high - low
    over = REACH * spread * width / math.sqrt(12.0) - 0.5 * width
    a, b = at_low * over, at_high * over
    return 0.5 * (low + high + b - a), (width + a + b) / (2.0 * REACH)


@inlined_kernel
def _overlap(contrast, is_rim):
    """Returns the share of the usual overlap at a side."""
    return 0.0 if is_rim else OVERLAP if contrast > 2.0 * GRADED else TOWARDS_RIM if contrast > 0.5 * GRADED else 1.0


@inlined_kernel
def _emit(cloud, viewing, primitives, i, chart, is_flat, patch, nu, nv, du, dv, samples):
    """Adds the Gaussian of a patch."""
    shape, m = primitives[i].shape, primitives[i].from_unit
    has_ends = is_flat or shape == CYLINDER
    u, su = _narrowed(
        patch[0],
        patch[2],
        viewing.spread,
        _overlap(patch[4], is_flat and patch[0] <= -1.0),
        _overlap(patch[6], is_flat and patch[2] >= 1.0),
    )
    v, sv = _narrowed(
        patch[1],
        patch[3],
        viewing.spread,
        _overlap(patch[5], has_ends and patch[1] <= -1.0),
        _overlap(patch[7], has_ends and patch[3] >= 1.0),
    )
    x, y, z = chart_point(shape, chart, u, v)
    ax, ay, az, bx, by, bz = tangents(shape, chart, m, u, v)
    nx, ny, nz = chart_normal(shape, chart, x, y, z)
    nx, ny, nz = normal_in_world(primitives[i].to_unit, nx, ny, nz)
    px, py, pz = to_world(m, x, y, z)
    if not is_flat:  # a flat Gaussian on a round shape stands out at its sides
        sunk = SUNK * du * du / (8.0 * column_length(m, 0))
        if shape == ELLIPSOID:
            sunk = 0.5 * (sunk + SUNK * dv * dv / (8.0 * column_length(m, 2)))
        px, py, pz = px - sunk * nx, py - sunk * ny, pz - sunk * nz
    row = add_patch(cloud, px, py, pz, ax * su, ay * su, az * su, bx * sv, by * sv, bz * sv, THICKNESS, viewing.logit)
    if row >= 0:
        set_look(cloud, row, primitives, i, nu, nv, samples)
        cloud.normal[row, 0], cloud.normal[row, 1], cloud.normal[row, 2] = nx, ny, nz
