"""Gaussians to ellipses on the image, eight at a time.

The mean goes through the camera exactly, the covariance by the projection's Jacobian at the mean (EWA splatting, Zwicker et al.
2001) with gsplat's limits. The covariance on the image is F F^T with F = J M R diag(s) (2 x 3); its determinant is the sum of the
squares of F's 2 x 2 minors, so that long thin Gaussians lose nothing to cancellation. Colours: real spherical harmonics to degree 3
of the direction from the camera in the part's own axes (an actor that turns takes its highlights with it).
"""

from __future__ import annotations

import math

import numpy as np

from worldengine_envs.rendering.cpu.simd import (
    LANES,
    any_of,
    as_floats,
    as_ints,
    bits_of_mask,
    float_at,
    floats,
    fma,
    int_at,
    ints,
    larger,
    load_floats,
    root,
    save,
    select,
    smaller,
    to_floats,
)
from worldengine_envs.rendering.cpu.stages import (
    ACROSS,
    ALONG,
    COMPENSATION,
    DEPTH,
    FIELDS,
    HALF_LOG2E,
    NODE,
    OPACITY,
    POWER,
    RANK,
    REACH_X,
    REACH_Y,
    RED,
    SLOPE,
    TILE,
    X,
    Y,
)
from worldengine_envs.rendering.cpu.store import (
    BOUNDS,
    BOUNDS_AT,
    COLORS_AT,
    GEOMETRY,
    GEOMETRY_AT,
    GROUPS,
    NUM_GROUPS,
    ORDER_AT,
    SH_DEGREE,
)
from worldengine_envs.simulation.kernels import inlined_kernel, kernel

MIN_ALPHA = 1.0 / 255.0
MIN_COMPENSATION = 0.005
WIDEST = 0.3  # a mean outside the image by more than this share of half of its angle has the Jacobian of that place
MAX_EXTEND = 3.34  # no Gaussian reaches further, in standard deviations: sqrt(2 ln 255), rounded up
LOG2_255 = 7.994353436858858
FINITE = 3e38
ZERO, HALF, ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
UP = np.float32(0.999)  # int(x + UP) is the ceiling of x >= 0, or now and then the floor: one more row does no harm
BRIGHTEST = 1e15  # colour: its square and its gradients stay finite


@kernel
def project(thread, threads, placed, view, splats, cursors, scratch):
    """Projects chunks ``thread``, ``thread + threads``, ...: writes splats and counts how many of them touch each tile.

    Args:
        thread: Writes region ``thread`` of ``splats``, and its counts.
        threads: Number of regions.
        placed: ``Placed``, the parts of the frame.
        view: ``View``.
        splats: ``Splats``; a region needs room for all Gaussians of its chunks.
        cursors: (threads, tiles) int64 of ``TileLists``; row ``thread`` is set to the counts.
        scratch: (threads, FIELDS, LANES) float32.
    """
    start = splats.starts[thread]
    n, instance = start, 0
    for tile in range(cursors.shape[1]):
        cursors[thread, tile] = 0
    for chunk in range(thread, placed.chunks[-1], threads):
        while chunk >= placed.chunks[instance + 1]:
            instance += 1
        local = chunk - placed.chunks[instance]
        if not _outside(placed, view, instance, local):
            groups = placed.parts[instance, NUM_GROUPS]
            for group in range(local * GROUPS, min((local + 1) * GROUPS, groups)):
                n = _project_group(thread, placed, view, instance, group, splats, n, scratch)
    splats.counts[thread] = n - start
    for row in range(start, n):
        x0, x1, y0, y1 = tile_range(splats.records, row, view.width, view.height)
        for y in range(y0, y1):
            for x in range(x0, x1):
                cursors[thread, y * tiles_across(view.width) + x] += 1


@inlined_kernel
def tiles_across(pixels):
    """Returns the number of tiles that cover so many pixels."""
    return (pixels + TILE - 1) // TILE


@inlined_kernel
def tile_range(records, row, width, height):
    """Returns columns x0 to x1 - 1 and rows y0 to y1 - 1 of the tiles with pixel centres that a splat reaches (maybe none)."""
    x, y, reach_x, reach_y = records[row, X] - HALF, records[row, Y] - HALF, records[row, REACH_X], records[row, REACH_Y]
    left, right = int(max(x - reach_x + UP, ZERO)), int(min(x + reach_x, np.float32(width - 1)) + ONE) - 1
    top, bottom = int(max(y - reach_y + UP, ZERO)), int(min(y + reach_y, np.float32(height - 1)) + ONE) - 1
    if left > right or top > bottom:
        return 0, 0, 0, 0
    return left // TILE, right // TILE + 1, top // TILE, bottom // TILE + 1


@inlined_kernel
def _outside(placed, view, instance, chunk):
    """Whether no Gaussian of a chunk can reach the image: its sphere is behind one of six planes."""
    at, k = placed.parts[instance, BOUNDS_AT], chunk * BOUNDS
    m = placed.matrices
    dx = float_at(at, k) - placed.eyes[instance, 0, 0]
    dy = float_at(at, k + 1) - placed.eyes[instance, 0, 1]
    dz = float_at(at, k + 2) - placed.eyes[instance, 0, 2]
    x = m[instance, 0, 0] * dx + m[instance, 0, 1] * dy + m[instance, 0, 2] * dz
    y = m[instance, 1, 0] * dx + m[instance, 1, 1] * dy + m[instance, 1, 2] * dz
    z = m[instance, 2, 0] * dx + m[instance, 2, 1] * dy + m[instance, 2, 2] * dz
    stretch = max(placed.axes[instance, 0], placed.axes[instance, 1], placed.axes[instance, 2])
    stretch *= 1.001
    radius, spread = stretch * float_at(at, k + 3) + 1e-5 * (abs(x) + abs(y) + abs(z)), stretch * MAX_EXTEND * float_at(at, k + 4)
    if z + radius < view.near or z - radius > view.far:
        return True
    blur = MAX_EXTEND * math.sqrt(view.eps2d) + 1.0
    fx, fy, right, below = view.fx, view.fy, view.width - view.cx, view.height - view.cy
    steep_x = math.sqrt(1.0 + (max(view.cx, right) / fx + WIDEST * 0.5 * view.width / fx) ** 2)
    steep_y = math.sqrt(1.0 + (max(view.cy, below) / fy + WIDEST * 0.5 * view.height / fy) ** 2)
    grow_x, grow_y = spread * fx * steep_x, spread * fy * steep_y
    return (
        _behind(fx * x, view.cx + blur, z, fx, radius, grow_x)
        or _behind(-fx * x, right + blur, z, fx, radius, grow_x)
        or _behind(fy * y, view.cy + blur, z, fy, radius, grow_y)
        or _behind(-fy * y, below + blur, z, fy, radius, grow_y)
    )


@inlined_kernel
def _behind(side, pixels, z, focal, radius, grow):
    """Whether focal x + pixels z + grow < 0 for all points of a sphere: each Gaussian's box ends before the image begins."""
    return side + pixels * z + radius * math.sqrt(focal * focal + pixels * pixels) + grow < 0.0


@inlined_kernel
def log2(value):
    """Returns the logarithm to base 2 of eight positive normal floats; error below 3e-7 near 1, relative elsewhere."""
    raw = as_ints(value)
    exponent = to_floats((raw >> ints(23)) - ints(127))
    mantissa = as_floats((raw & ints(0x7FFFFF)) | ints(0x3F800000))
    high = mantissa > floats(1.4142135)
    mantissa = select(high, mantissa * floats(0.5), mantissa)
    exponent = select(high, exponent + floats(1.0), exponent)
    s = (mantissa - floats(1.0)) / (mantissa + floats(1.0))
    q = s * s
    series = fma(
        fma(fma(fma(floats(0.32059889), q, floats(0.41219858)), q, floats(0.57707802)), q, floats(0.96179669)),
        q,
        floats(2.8853900818),
    )
    return fma(s, series, exponent)


@inlined_kernel
def _project_group(thread, placed, view, instance, group, splats, n, scratch):
    """Projects one group, appends those that may be seen as records from row n on and returns the next row."""
    at, k, m, eyes = placed.parts[instance, GEOMETRY_AT], group * (GEOMETRY * LANES), placed.matrices, placed.eyes
    px = load_floats(at, k) - floats(eyes[instance, 0, 0]) - floats(eyes[instance, 1, 0])
    py = load_floats(at, k + LANES) - floats(eyes[instance, 0, 1]) - floats(eyes[instance, 1, 1])
    pz = load_floats(at, k + 2 * LANES) - floats(eyes[instance, 0, 2]) - floats(eyes[instance, 1, 2])
    m00, m01, m02 = floats(m[instance, 0, 0]), floats(m[instance, 0, 1]), floats(m[instance, 0, 2])
    m10, m11, m12 = floats(m[instance, 1, 0]), floats(m[instance, 1, 1]), floats(m[instance, 1, 2])
    m20, m21, m22 = floats(m[instance, 2, 0]), floats(m[instance, 2, 1]), floats(m[instance, 2, 2])
    z = fma(m20, px, fma(m21, py, m22 * pz))
    opacity = load_floats(at, k + 12 * LANES)
    drawn = (z >= floats(view.near)) & (z <= floats(view.far)) & (opacity >= floats(MIN_ALPHA))
    if not any_of(drawn):
        return n
    inverse = floats(1.0) / z
    x_z, y_z = fma(m00, px, fma(m01, py, m02 * pz)) * inverse, fma(m10, px, fma(m11, py, m12 * pz)) * inverse
    x, y = fma(floats(view.fx), x_z, floats(view.cx)), fma(floats(view.fy), y_z, floats(view.cy))
    wide_x, wide_y = WIDEST * 0.5 * view.width, WIDEST * 0.5 * view.height
    x_z = smaller(larger(x_z, floats(-(view.cx + wide_x) / view.fx)), floats((view.width - view.cx + wide_x) / view.fx))
    y_z = smaller(larger(y_z, floats(-(view.cy + wide_y) / view.fy)), floats((view.height - view.cy + wide_y) / view.fy))
    fx_z, fy_z = floats(view.fx) * inverse, floats(view.fy) * inverse
    a0, a1, a2 = fx_z * (m00 - x_z * m20), fx_z * (m01 - x_z * m21), fx_z * (m02 - x_z * m22)
    b0, b1, b2 = fy_z * (m10 - y_z * m20), fy_z * (m11 - y_z * m21), fy_z * (m12 - y_z * m22)
    g0, g1, g2 = load_floats(at, k + 3 * LANES), load_floats(at, k + 6 * LANES), load_floats(at, k + 9 * LANES)
    f0, h0 = fma(a0, g0, fma(a1, g1, a2 * g2)), fma(b0, g0, fma(b1, g1, b2 * g2))
    g0, g1, g2 = load_floats(at, k + 4 * LANES), load_floats(at, k + 7 * LANES), load_floats(at, k + 10 * LANES)
    f1, h1 = fma(a0, g0, fma(a1, g1, a2 * g2)), fma(b0, g0, fma(b1, g1, b2 * g2))
    g0, g1, g2 = load_floats(at, k + 5 * LANES), load_floats(at, k + 8 * LANES), load_floats(at, k + 11 * LANES)
    f2, h2 = fma(a0, g0, fma(a1, g1, a2 * g2)), fma(b0, g0, fma(b1, g1, b2 * g2))
    xx, xy, yy = fma(f0, f0, fma(f1, f1, f2 * f2)), fma(f0, h0, fma(f1, h1, f2 * h2)), fma(h0, h0, fma(h1, h1, h2 * h2))
    n0, n1, n2 = f1 * h2 - f2 * h1, f2 * h0 - f0 * h2, f0 * h1 - f1 * h0
    sharp, eps2d = fma(n0, n0, fma(n1, n1, n2 * n2)), floats(view.eps2d)
    det = sharp + eps2d * (xx + yy + eps2d)
    xx, yy = xx + eps2d, yy + eps2d
    compensation = floats(1.0)
    if view.antialiased:
        compensation = root(larger(sharp / det, floats(MIN_COMPENSATION * MIN_COMPENSATION)))
    opacity = opacity * compensation
    drawn = drawn & (det > floats(0.0)) & (det < floats(FINITE)) & (opacity >= floats(MIN_ALPHA)) & (yy > floats(0.0))
    power = log2(opacity)
    extend = larger(power + floats(LOG2_255), floats(0.0)) * floats(1.0002 / HALF_LOG2E) + floats(1e-5)
    reach_x, reach_y = root(extend * xx), root(extend * yy)
    drawn = drawn & (x + reach_x > floats(0.0)) & (x - reach_x < floats(view.width))
    drawn = drawn & (y + reach_y > floats(0.0)) & (y - reach_y < floats(view.height))
    if not any_of(drawn):
        return n
    base = thread * (FIELDS * LANES)
    save(scratch, base + X * LANES, x)
    save(scratch, base + Y * LANES, y)
    save(scratch, base + ALONG * LANES, root(yy / det * floats(HALF_LOG2E)))
    save(scratch, base + SLOPE * LANES, xy / yy)
    save(scratch, base + ACROSS * LANES, root(floats(HALF_LOG2E) / yy))
    save(scratch, base + POWER * LANES, power)
    save(scratch, base + DEPTH * LANES, z)
    save(scratch, base + REACH_X * LANES, reach_x)
    save(scratch, base + REACH_Y * LANES, reach_y)
    save(scratch, base + OPACITY * LANES, opacity)
    save(scratch, base + COMPENSATION * LANES, compensation)
    degree, colors, axes = placed.parts[instance, SH_DEGREE], placed.parts[instance, COLORS_AT], placed.axes
    dx, dy, dz = px * floats(axes[instance, 0]), py * floats(axes[instance, 1]), pz * floats(axes[instance, 2])
    _shade(degree, colors, group * (3 * (degree + 1) * (degree + 1) * LANES), dx, dy, dz, scratch, base + RED * LANES)
    return _append(thread, placed, instance, group, bits_of_mask(drawn), splats, n, scratch)


@inlined_kernel
def _append(thread, placed, instance, group, lanes, splats, n, scratch):
    """Copies the lanes that are set from the scratch to records from row n on; returns the next row."""
    order, node, rank = placed.parts[instance, ORDER_AT], placed.nodes[instance], placed.ranks[instance]
    for lane in range(LANES):
        if (lanes >> lane) & 1:
            for field in range(NODE):
                splats.records[n, field] = scratch[thread, field, lane]
            splats.integers[n, NODE] = node
            splats.integers[n, RANK] = rank + int_at(order, group * LANES + lane)
            n += 1
    return n


@inlined_kernel
def _shade(degree, colors, at, x, y, z, scratch, out):
    """Writes R, G, B >= 0 of a group: spherical harmonics of the direction (x, y, z), plus 0.5 (Kerbl et al. 2023)."""
    c, step = floats(0.28209479177387814), 3 * LANES
    r = fma(c, load_floats(colors, at), floats(0.5))
    g = fma(c, load_floats(colors, at + LANES), floats(0.5))
    b = fma(c, load_floats(colors, at + 2 * LANES), floats(0.5))
    if degree >= 1:
        scale = floats(1.0) / root(fma(x, x, fma(y, y, z * z)))
        x, y, z, at = x * scale, y * scale, z * scale, at + step
        c = floats(0.4886025119029199)
        r, g, b, at = _add(-c * y, colors, at, r, g, b)
        r, g, b, at = _add(c * z, colors, at, r, g, b)
        r, g, b, at = _add(-c * x, colors, at, r, g, b)
    if degree >= 2:
        xx, yy, zz, xy, yz, xz = x * x, y * y, z * z, x * y, y * z, x * z
        c = floats(1.0925484305920792)
        r, g, b, at = _add(c * xy, colors, at, r, g, b)
        r, g, b, at = _add(-c * yz, colors, at, r, g, b)
        r, g, b, at = _add(floats(0.31539156525252005) * (floats(2.0) * zz - xx - yy), colors, at, r, g, b)
        r, g, b, at = _add(-c * xz, colors, at, r, g, b)
        r, g, b, at = _add(floats(0.5462742152960396) * (xx - yy), colors, at, r, g, b)
        if degree >= 3:
            r, g, b, at = _add(floats(-0.5900435899266435) * y * (floats(3.0) * xx - yy), colors, at, r, g, b)
            r, g, b, at = _add(floats(2.890611442640554) * xy * z, colors, at, r, g, b)
            r, g, b, at = _add(floats(-0.4570457994644658) * y * (floats(4.0) * zz - xx - yy), colors, at, r, g, b)
            r, g, b, at = _add(floats(0.3731763325901154) * z * (floats(2.0) * zz - floats(3.0) * (xx + yy)), colors, at, r, g, b)
            r, g, b, at = _add(floats(-0.4570457994644658) * x * (floats(4.0) * zz - xx - yy), colors, at, r, g, b)
            r, g, b, at = _add(floats(1.445305721320277) * z * (xx - yy), colors, at, r, g, b)
            r, g, b, at = _add(floats(-0.5900435899266435) * x * (xx - floats(3.0) * yy), colors, at, r, g, b)
    save(scratch, out, smaller(larger(r, floats(0.0)), floats(BRIGHTEST)))
    save(scratch, out + LANES, smaller(larger(g, floats(0.0)), floats(BRIGHTEST)))
    save(scratch, out + 2 * LANES, smaller(larger(b, floats(0.0)), floats(BRIGHTEST)))


@inlined_kernel
def _add(basis, colors, at, r, g, b):
    """Returns the colour with one harmonic added, and where the next one's coefficients are."""
    r = fma(basis, load_floats(colors, at), r)
    g = fma(basis, load_floats(colors, at + LANES), g)
    b = fma(basis, load_floats(colors, at + 2 * LANES), b)
    return r, g, b, at + 3 * LANES
