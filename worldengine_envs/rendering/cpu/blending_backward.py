"""Backward pass of blending: from the gradients of the images to those of the ellipses.

A pixel shows the sum of w f, w = T alpha, where T is what those in front let through and f whatever the Gaussian carries (colour,
depth). Back to front, with B = the sum of w f over those behind:

    gradient of w = colour . v_color + z v_z =: f,    gradient of alpha = T f - B / (1 - alpha).

The gradient of what is let through in the end (background, alpha) is one more term of B, behind all. With
alpha = opacity exp(-sigma), sigma = (u^2 + w^2) / 2 and (u, w) the offset from the
pixel to the centre in units of standard deviations, all that the ellipse
needs are the sums over pixels of v_sigma times 1, u, w, u^2, u w and w^2: unlike moments in pixels they lose nothing where it is
long and thin.

Every entry of the tiles' lists has a row of its own for its sums, and rows are added up in the order of tiles: results do not
depend on the number of threads.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from worldengine_envs.rendering.cpu.blending import MAX_ALPHA, SLACK, exp2
from worldengine_envs.rendering.cpu.projection import LOG2_255, tiles_across
from worldengine_envs.rendering.cpu.simd import (
    LANES,
    any_of,
    floats,
    fma,
    lane_numbers,
    larger,
    load,
    save,
    select,
    smaller,
    total,
)
from worldengine_envs.rendering.cpu.stages import (
    ACROSS,
    ALONG,
    BLUE,
    DEPTH,
    GREEN,
    HALF_LOG2E,
    POWER,
    RANK,
    REACH_Y,
    RED,
    SLOPE,
    TILE,
    X,
    Y,
)
from worldengine_envs.simulation.kernels import kernel

PLANE = TILE * TILE
THROUGH, BEHIND, V_R, V_G, V_B, V_Z, LAST = (k * PLANE for k in range(7))  # planes of a tile's work
WORK = 7 * PLANE
# Columns of sums and of the flow
V_S, V_U, V_W, V_UU, V_UW, V_WW = 0, 1, 2, 3, 4, 5  # sum over pixels of the gradient of sigma times 1, u, w, u^2, u w, w^2
V_RED, V_GREEN, V_BLUE, V_DEPTH = 6, 7, 8, 9
V_ABS_X, V_ABS_Y = 10, 11  # sum over pixels of the absolute gradient of the centre on the image
FLOW = 12


class ImageGradients(NamedTuple):
    """What one frame showed, and the gradients of the loss by it; float32."""

    through: np.ndarray  # (H, W) transmittance in the end
    depth: np.ndarray  # (H, W) expected depth [m]
    last: np.ndarray  # (H, W) int32 as in Canvas
    background: np.ndarray  # (3,)
    v_rgb: np.ndarray  # (H, W, 3)
    v_alpha: np.ndarray  # (H, W)
    v_depth: np.ndarray  # (H, W)


@kernel
def blending_backward(first, last, image, records, offsets, entries, absolute, work, sums):
    """Writes the sums of all entries of tiles first to last - 1.

    Args:
        first, last: Numbers of tiles.
        image: ``ImageGradients``.
        records: (capacity, FIELDS) float32 splats.
        offsets, entries: As in ``TileLists``.
        absolute: Whether V_ABS_X and V_ABS_Y are wanted.
        work: (WORK,) float32, of this thread.
        sums: (entries, FLOW) float32, written.
    """
    height, width = image.last.shape
    for tile in range(first, last):
        top, left = tile // tiles_across(width) * TILE, tile % tiles_across(width) * TILE
        rows, columns = min(TILE, height - top), min(TILE, width - left)
        deepest = _load_tile(image, top, left, work)
        begin, end = offsets[tile], offsets[tile + 1]
        for e in range(begin + deepest, end):
            for k in range(FLOW):
                sums[e, k] = 0.0
        for place in range(deepest - 1, -1, -1):
            row = entries[begin + place] & 0xFFFFFFFF
            _splat_backward(records[row], place, rows, columns, top, left, absolute, work, sums[begin + place])


@kernel
def _load_tile(image, top, left, work):
    """Fills the planes of a tile; returns the largest of its last places."""
    height, width = image.last.shape
    deepest = 0
    red, green, blue = image.background[0], image.background[1], image.background[2]
    for i in range(TILE):
        for j in range(TILE):
            at, y, x = i * TILE + j, top + i, left + j
            if y >= height or x >= width:
                for plane in range(7):
                    work[plane * PLANE + at] = 0.0
                continue
            through, alpha = image.through[y, x], np.float32(1.0) - image.through[y, x]
            v_r, v_g, v_b = image.v_rgb[y, x, 0], image.v_rgb[y, x, 1], image.v_rgb[y, x, 2]
            v_sum = image.v_depth[y, x] / alpha if image.last[y, x] > 0 else np.float32(0.0)  # depth = sum / alpha
            v_alpha = image.v_alpha[y, x] - v_sum * image.depth[y, x] - (v_r * red + v_g * green + v_b * blue)
            work[THROUGH + at], work[BEHIND + at] = through, -through * v_alpha
            work[V_R + at], work[V_G + at], work[V_B + at], work[V_Z + at] = v_r, v_g, v_b, v_sum
            work[LAST + at] = image.last[y, x]
            deepest = max(deepest, image.last[y, x])
    return deepest


@kernel
def _splat_backward(record, place, rows, columns, top, left, absolute, work, sums):
    """Takes a splat away from the pixels of a tile, and writes its sums.

    Where it is seen is worked out as in ``blending``, to the last bit.
    """
    x, y, reach = record[X] - left - 0.5, record[Y] - top - 0.5, record[REACH_Y]
    along, slope, across, power = record[ALONG], record[SLOPE], record[ACROSS], record[POWER]
    zero, one, most, here = floats(0.0), floats(1.0), floats(MAX_ALPHA), floats(place)
    red, green, blue, depth = floats(record[RED]), floats(record[GREEN]), floats(record[BLUE]), floats(record[DEPTH])
    s, s_u, s_w, s_uu, s_uw, s_ww = zero, zero, zero, zero, zero, zero
    s_r, s_g, s_b, s_z, s_ax, s_ay = zero, zero, zero, zero, zero, zero
    for row in range(math.ceil(max(y - reach, 0.0)), math.floor(min(y + reach, rows - 1.0)) + 1):
        dy = row - y
        v = across * dy
        rest = power - v * v
        half = math.sqrt(max(rest + LOG2_255, 0.0)) * (1.0 / along) + SLACK
        middle = x + slope * dy
        from_x, to_x = max(middle - half, 0.0), min(middle + half, columns - 1.0)
        if not from_x <= to_x:
            continue
        row_s, row_u, row_uu = zero, zero, zero
        for block in range(int(from_x) // LANES, int(to_x) // LANES + 1):
            at = row * TILE + block * LANES
            u = floats(along) * (lane_numbers() + floats(block * LANES - middle))
            exponent = fma(-u, u, floats(rest))
            seen = (exponent >= floats(-LOG2_255)) & (here < load(work, LAST + at))
            if not any_of(seen):
                continue
            full = exp2(exponent)
            alpha = select(seen, smaller(full, most), zero)
            opening = one / (one - alpha)
            through = load(work, THROUGH + at) * opening
            weight = alpha * through
            v_r, v_g, v_b, v_z = load(work, V_R + at), load(work, V_G + at), load(work, V_B + at), load(work, V_Z + at)
            carried = fma(red, v_r, fma(green, v_g, fma(blue, v_b, depth * v_z)))
            behind = load(work, BEHIND + at)
            v_alpha = through * carried - behind * opening
            save(work, THROUGH + at, through)
            save(work, BEHIND + at, fma(weight, carried, behind))
            s_r, s_g, s_b, s_z = fma(weight, v_r, s_r), fma(weight, v_g, s_g), fma(weight, v_b, s_b), fma(weight, v_z, s_z)
            v_sigma = select(seen & (full <= most), -(alpha * v_alpha), zero)  # the clamp at 0.99 lets nothing pass
            v_u = v_sigma * u
            row_s, row_u, row_uu = row_s + v_sigma, row_u + v_u, fma(v_u, u, row_uu)
            if absolute:
                v_y = floats(across * v) * v_sigma - floats(slope * along) * v_u
                s_ax, s_ay = s_ax + larger(v_u, -v_u), s_ay + larger(v_y, -v_y)
        s, s_u, s_uu = s + row_s, s_u + row_u, s_uu + row_uu
        s_w, s_uw, s_ww = fma(row_s, floats(v), s_w), fma(row_u, floats(v), s_uw), fma(row_s, floats(v * v), s_ww)
    # records count u and w in other units, and the offset from the centre to the pixel: here it is the other way round
    k = 1.0 / HALF_LOG2E
    sums[V_S], sums[V_U], sums[V_W] = total(s), -math.sqrt(k) * total(s_u), -math.sqrt(k) * total(s_w)
    sums[V_UU], sums[V_UW], sums[V_WW] = k * total(s_uu), k * total(s_uw), k * total(s_ww)
    sums[V_RED], sums[V_GREEN], sums[V_BLUE], sums[V_DEPTH] = total(s_r), total(s_g), total(s_b), total(s_z)
    sums[V_ABS_X], sums[V_ABS_Y] = k * along * total(s_ax), k * total(s_ay)


@kernel
def gather(first, last, offsets, entries, sums, flow):
    """Adds up the sums of each splat in rows first to last - 1, in the order of the tiles.

    Args:
        first, last: Rows of the records.
        offsets, entries: As in ``TileLists``.
        sums: (entries, FLOW) float32, see ``blending_backward``.
        flow: (rows, FLOW) float64, written.
    """
    flow[first:last] = 0.0
    for e in range(offsets[len(offsets) - 1]):
        row = entries[e] & 0xFFFFFFFF
        if first <= row < last:
            for k in range(FLOW):
                flow[row, k] += sums[e, k]


@kernel
def find_rows(splats, rows):
    """Writes which row of the records each Gaussian of a frame has, -1 for one that is not drawn.

    Args:
        splats: ``Splats``.
        rows: (N,) int32, written, by rank.

    Returns:
        Number of rows, those between included that are of no use.
    """
    rows[:] = -1
    used = 0
    for thread in range(len(splats.starts)):
        for row in range(splats.starts[thread], splats.starts[thread] + splats.counts[thread]):
            rows[splats.integers[row, RANK]] = row
            used = row + 1
    return used
