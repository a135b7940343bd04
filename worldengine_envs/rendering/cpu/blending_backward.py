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

from worldengine_envs.rendering.cpu.blending import BLOCKS, MAX_ALPHA, ONE, UP, exp2, row_starts, set_up_rows
from worldengine_envs.rendering.cpu.projection import LOG2_255, tiles_across
from worldengine_envs.rendering.cpu.simd import (
    LANE_BITS,
    LANES,
    any_of,
    compress,
    count_of,
    floats,
    fma,
    ints,
    lane_numbers,
    larger,
    load,
    pair_sums,
    prefetch,
    save,
    select,
    smaller,
    to_floats,
)
from worldengine_envs.rendering.cpu.stages import (
    ACROSS,
    ALONG,
    BLUE,
    DEPTH,
    FIELDS,
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
from worldengine_envs.simulation.kernels import inlined_kernel, kernel

AHEAD = 8  # records are asked for so many entries before they are read
# Of a block of LANES pixels in a thread's work
THROUGH, BEHIND, V_R, V_G, V_B, V_Z, LAST = (k * LANES for k in range(7))
DEEPEST = 7 * LANES  # the largest of LAST
BLOCK = 8 * LANES
JOBS = TILE * BLOCKS + LANES  # room for the blocks of a splat
OFFSET, REST, HEIGHT, NUMBER = (TILE * BLOCKS * BLOCK + k * JOBS for k in range(4))  # of jobs, behind the blocks
WORK = NUMBER + JOBS
# Columns of sums and of the flow
V_S, V_U, V_W, V_UU, V_UW, V_WW = 0, 1, 2, 3, 4, 5  # sum over pixels of the gradient of sigma times 1, u, w, u^2, u w, w^2
V_RED, V_GREEN, V_BLUE, V_DEPTH = 6, 7, 8, 9
V_ABS_X, V_ABS_Y = 10, 11  # sum over pixels of the absolute gradient of the centre on the image
FLOW = 16  # four more to spare: a row is a cache line


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
            save(sums, e * FLOW, floats(0.0))
            save(sums, e * FLOW + LANES, floats(0.0))
        for place in range(deepest - 1, -1, -1):
            if place >= AHEAD:
                prefetch(records, (entries[begin + place - AHEAD] & 0xFFFFFFFF) * FIELDS)
            record = records[entries[begin + place] & 0xFFFFFFFF]
            jobs = _queue(record, place, rows, columns, top, left, work)
            _take_away(record, place, jobs, absolute, work, begin + place, sums)


@kernel
def _load_tile(image, top, left, work):
    """Fills the blocks of a tile; returns the largest of its last places."""
    height, width = image.last.shape
    deepest = 0
    red, green, blue = image.background[0], image.background[1], image.background[2]
    for block in range(TILE * BLOCKS):
        at, y = block * BLOCK, top + block // BLOCKS
        deepest_here = 0
        for k in range(LANES):
            x = left + block % BLOCKS * LANES + k
            if y >= height or x >= width:
                for plane in range(DEEPEST // LANES):
                    work[at + plane * LANES + k] = 0.0
                continue
            through, last, alpha = image.through[y, x], image.last[y, x], np.float32(1.0) - image.through[y, x]
            v_r, v_g, v_b = image.v_rgb[y, x, 0], image.v_rgb[y, x, 1], image.v_rgb[y, x, 2]
            v_sum = image.v_depth[y, x] / alpha if last > 0 else np.float32(0.0)  # depth = sum / alpha
            v_alpha = image.v_alpha[y, x] - v_sum * image.depth[y, x] - (v_r * red + v_g * green + v_b * blue)
            work[at + THROUGH + k], work[at + BEHIND + k], work[at + LAST + k] = through, -through * v_alpha, last
            work[at + V_R + k], work[at + V_G + k], work[at + V_B + k], work[at + V_Z + k] = v_r, v_g, v_b, v_sum
            deepest_here = max(deepest_here, last)
        work[at + DEEPEST] = deepest_here
        deepest = max(deepest, deepest_here)
    return deepest


@inlined_kernel
def _queue(record, place, rows, columns, top, left, work):
    """Queues the blocks where a splat may be seen, as ``blending`` does to the last bit; returns their number."""
    x, y, reach = record[X] - np.float32(left + 0.5), record[Y] - np.float32(top + 0.5), record[REACH_Y]
    along, slope, across, power = record[ALONG], record[SLOPE], record[ACROSS], record[POWER]
    first, last = int(max(y - reach + UP, np.float32(0.0))), int(min(y + reach, np.float32(rows - 1)) + ONE) - 1
    n = 0
    for row in range(first, last + 1, LANES):
        rest, middle, block, count = set_up_rows(x, y, along, slope, across, power, row, columns)
        count = select(lane_numbers() <= floats(last - row), count, ints(0))
        height = floats(across) * (lane_numbers() + floats(np.float32(row) - y))
        offset = to_floats(block << ints(LANE_BITS)) - middle
        number = to_floats(block + row_starts() + ints(row * BLOCKS))
        wanted = count > ints(0)
        while any_of(wanted):
            save(work, OFFSET + n, compress(offset, wanted))
            save(work, REST + n, compress(rest, wanted))
            save(work, HEIGHT + n, compress(height, wanted))
            save(work, NUMBER + n, compress(number, wanted))
            n += count_of(wanted)
            offset, number, count = offset + floats(LANES), number + floats(1.0), count - ints(1)
            wanted = count > ints(0)
    return n


@inlined_kernel
def _take_away(record, place, jobs, absolute, work, row, sums):
    """Takes a splat away from the blocks that were queued, and writes its sums to a row."""
    zero, one, most, here = floats(0.0), floats(1.0), floats(MAX_ALPHA), floats(place)
    along, tilt, across = floats(record[ALONG]), floats(record[SLOPE] * record[ALONG]), floats(record[ACROSS])
    red, green, blue, depth = floats(record[RED]), floats(record[GREEN]), floats(record[BLUE]), floats(record[DEPTH])
    s, s_u, s_w, s_uu, s_uw, s_ww = zero, zero, zero, zero, zero, zero
    s_r, s_g, s_b, s_z, s_ax, s_ay = zero, zero, zero, zero, zero, zero
    for job in range(jobs):
        at = int(work[NUMBER + job]) * BLOCK
        if work[at + DEEPEST] <= place:
            continue
        u, w = along * (lane_numbers() + floats(work[OFFSET + job])), floats(work[HEIGHT + job])
        exponent = fma(-u, u, floats(work[REST + job]))
        seen = (exponent >= floats(-LOG2_255)) & (here < load(work, at + LAST))
        full = exp2(exponent)
        alpha = select(seen, smaller(full, most), zero)
        opening = one / (one - alpha)
        through = load(work, at + THROUGH) * opening
        weight = alpha * through
        v_r, v_g, v_b, v_z = load(work, at + V_R), load(work, at + V_G), load(work, at + V_B), load(work, at + V_Z)
        carried = fma(red, v_r, fma(green, v_g, fma(blue, v_b, depth * v_z)))
        behind = load(work, at + BEHIND)
        save(work, at + THROUGH, through)
        save(work, at + BEHIND, fma(weight, carried, behind))
        s_r, s_g, s_b, s_z = fma(weight, v_r, s_r), fma(weight, v_g, s_g), fma(weight, v_b, s_b), fma(weight, v_z, s_z)
        v_alpha = through * carried - behind * opening
        v_sigma = select(seen & (full <= most), -(alpha * v_alpha), zero)  # the clamp at 0.99 lets nothing pass
        v_u, v_w = v_sigma * u, v_sigma * w
        s, s_u, s_w = s + v_sigma, s_u + v_u, s_w + v_w
        s_uu, s_uw, s_ww = fma(v_u, u, s_uu), fma(v_u, w, s_uw), fma(v_w, w, s_ww)
        if absolute:
            v_y = across * v_w - tilt * v_u
            s_ax, s_ay = s_ax + larger(v_u, -v_u), s_ay + larger(v_y, -v_y)
    # records count u and w in other units, and the offset from the centre to the pixel: here it is the other way round
    k, turned = floats(1.0 / HALF_LOG2E), floats(-math.sqrt(1.0 / HALF_LOG2E))
    some = totals(s, turned * s_u, turned * s_w, k * s_uu, k * s_uw, k * s_ww, s_r, s_g)
    rest = totals(s_b, s_z, k * along * s_ax, k * s_ay, zero, zero, zero, zero)
    save(sums, row * FLOW, some)
    save(sums, row * FLOW + LANES, rest)


@inlined_kernel
def totals(a, b, c, d, e, f, g, h):
    """Returns the sums over lanes of eight vectors."""
    return pair_sums(pair_sums(pair_sums(a, b), pair_sums(c, d)), pair_sums(pair_sums(e, f), pair_sums(g, h)))


@kernel
def gather(first, last, offsets, entries, sums, flow):
    """Adds up the sums of each splat in rows first to last - 1, in the order of the tiles.

    Args:
        first, last: Rows of the records.
        offsets, entries: As in ``TileLists``.
        sums: (entries, FLOW) float32, see ``blending_backward``.
        flow: (rows, FLOW) float32, written.
    """
    flow[first:last] = 0.0
    for e in range(offsets[len(offsets) - 1]):
        row = entries[e] & 0xFFFFFFFF
        if first <= row < last:
            save(flow, row * FLOW, load(flow, row * FLOW) + load(sums, e * FLOW))
            save(flow, row * FLOW + LANES, load(flow, row * FLOW + LANES) + load(sums, e * FLOW + LANES))


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
