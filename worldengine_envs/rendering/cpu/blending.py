"""Blending of a tile: its splats front to back, eight pixels of a row at a time.

A pixel stops before the splat that would bring its transmittance to 1e-4 or less; eight that have all stopped are not looked at any
more, and a tile ends when all have. The transmittance of a pixel that has stopped is kept with a minus sign.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from worldengine_envs.rendering.cpu.binning import sort_tile
from worldengine_envs.rendering.cpu.projection import LOG2_255, tiles_across
from worldengine_envs.rendering.cpu.simd import (
    LANE_BITS,
    LANES,
    any_of,
    as_floats,
    as_ints,
    compress,
    count_of,
    floats,
    fma,
    ints,
    lane_numbers,
    larger,
    load,
    prefetch,
    root,
    save,
    select,
    smaller,
    to_floats,
    to_ints,
)
from worldengine_envs.rendering.cpu.stages import (
    ACROSS,
    ALONG,
    BLUE,
    DEPTH,
    FIELDS,
    GREEN,
    NODE,
    POWER,
    REACH_Y,
    RED,
    SLOPE,
    TILE,
    X,
    Y,
)
from worldengine_envs.simulation.kernels import inlined_kernel, kernel

MAX_ALPHA = 0.99
MIN_TRANSMITTANCE = 1e-4
ONE, UP = np.float32(1.0), np.float32(0.999)  # floor and ceiling (maybe a row more) by cutting off what is behind the point
SLACK = 0.01  # by which a row of a splat is taken wider, against rounding [px]
BLOCKS = TILE // LANES  # of a row of a tile
TRANSMITTANCE, PLANE_RED, PLANE_GREEN, PLANE_BLUE = 0, LANES, 2 * LANES, 3 * LANES  # of a block, in ``hot``
PLANE_DEPTH, PLANE_NODE, PLANE_LAST = 0, LANES, 2 * LANES  # in ``cold``
BLOCK = 4 * LANES
JOBS = 1024  # room for blocks that wait to be blended
OFFSET, REST = 0, JOBS  # rows of ``jobs``
BLOCK_OF, ENTRY_OF = 2 * JOBS, 3 * JOBS
AHEAD = 16  # records are asked for so many entries before they are read


class TileWork(NamedTuple):
    """What a thread needs to blend a tile; a block is LANES pixels of a row, ``BLOCKS * row + column`` its number."""

    buckets: np.ndarray  # (2, BUCKETS) int32 to sort
    hot: np.ndarray  # (TILE * BLOCKS, 4, LANES) float32 transmittance, red, green, blue
    cold: np.ndarray  # (TILE * BLOCKS, 4, LANES) float32 depth, and int32 node and last
    cold_integers: np.ndarray  # the same memory as int32
    alive: np.ndarray  # (TILE * BLOCKS,) uint8 whether some pixel has not stopped
    jobs: np.ndarray  # (4, JOBS) float32 offset and rest, and int32 block and entry of what waits to be blended
    job_integers: np.ndarray  # the same memory as int32
    pixels: np.ndarray  # (3, LANES) float32
    pixel_integers: np.ndarray  # the same memory as int32


@kernel
def blend(start, stop, splats, lists, view, canvas, work):
    """Sorts and blends tiles ``start`` to ``stop - 1`` and writes their pixels.

    Args:
        start: First tile.
        stop: Tile after the last.
        splats: ``Splats``.
        lists: ``TileLists``, filled; sorted here.
        view: ``View``.
        canvas: ``Canvas``.
        work: ``TileWork``.
    """
    rich = len(canvas.depth) + len(canvas.node) + len(canvas.last) > 0
    for tile in range(start, stop):
        sort_tile(tile, splats, lists, work.buckets)
        row, column = tile // tiles_across(view.width), tile % tiles_across(view.width)
        _blend_tile(tile, row * TILE, column * TILE, rich, splats, lists, view, work)
        _write_tile(row * TILE, column * TILE, view, canvas, work)


@inlined_kernel
def exp2(y):
    """Returns 2^y of eight floats for y in [-126, 126], relative error 1e-7; anything elsewhere."""
    magic = floats(12582912.0)  # 1.5 * 2^23: adding it rounds to a whole number, which stands in the last bits
    shifted = y + magic
    f = y - (shifted - magic)
    p = fma(floats(0.0013276456430686948), f, floats(0.00967554121158565))
    p = fma(fma(p, f, floats(0.05550713321647657)), f, floats(0.24022119726899147))
    p = fma(fma(p, f, floats(0.6931469670352672)), f, floats(1.0000000716537416))
    return as_floats(as_ints(p) + (as_ints(shifted) << ints(23)))


@inlined_kernel
def set_up_rows(x, y, along, slope, across, power, first, columns):
    """Returns where a splat is seen in LANES rows of a tile, from row ``first`` on, as vectors with a lane for each row.

    Args:
        x: Of the splat's centre, from the centre of the tile's first pixel [px], float32; so is y.
        y: See x.
        along, slope, across, power: Of the splat's record.
        first: Row of the tile.
        columns: Number of columns of the tile.

    Returns:
        rest: POWER - v^2.
        middle: x where alpha is largest.
        block: First block in the row where alpha may be 1/255 or more.
        count: Number of such blocks.
    """
    dy = lane_numbers() + floats(np.float32(first) - y)
    v = floats(across) * dy
    rest, middle = fma(-v, v, floats(power)), fma(floats(slope), dy, floats(x))
    half = fma(root(larger(rest + floats(LOG2_255), floats(0.0))), floats(np.float32(1.0) / along), floats(SLACK))
    left = smaller(larger(middle - half, floats(0.0)), floats(TILE))
    right = larger(smaller(middle + half, floats(columns - 1.0)), floats(-1.0))
    block = to_ints(left) >> ints(LANE_BITS)
    count = (to_ints(right) >> ints(LANE_BITS)) - block + ints(1)
    return rest, middle, block, select(left <= right, count, ints(0))


@inlined_kernel
def _blend_tile(tile, top, left, rich, splats, lists, view, work):
    height, columns = min(TILE, view.height - top), min(TILE, view.width - left)
    records, entries, start, stop = splats.records, lists.entries, lists.offsets[tile], lists.offsets[tile + 1]
    remaining, waiting = _clear(height, columns, work), 0
    for i in range(start, stop):
        if i + AHEAD < stop:
            prefetch(records, (entries[i + AHEAD] & 0xFFFFFFFF) * FIELDS)
        row = entries[i] & 0xFFFFFFFF
        x, y = records[row, X] - np.float32(left + 0.5), records[row, Y] - np.float32(top + 0.5)
        reach = records[row, REACH_Y]
        first, last = int(max(y - reach + UP, np.float32(0.0))), int(min(y + reach, np.float32(height - 1)) + ONE) - 1
        along, slope, across, power = records[row, ALONG], records[row, SLOPE], records[row, ACROSS], records[row, POWER]
        for iy in range(first, last + 1, LANES):
            rest, middle, block, count = set_up_rows(x, y, along, slope, across, power, iy, columns)
            count = select(lane_numbers() <= floats(last - iy), count, ints(0))
            waiting = _queue(iy, i, rest, middle, block, count, waiting, work)
        if waiting > JOBS - TILE * BLOCKS - LANES:
            remaining -= _blend_jobs(waiting, start, rich, splats, entries, work)
            waiting = 0
            if remaining == 0:
                return
    _blend_jobs(waiting, start, rich, splats, entries, work)


@inlined_kernel
def _queue(iy, entry, rest, middle, block, count, n, work):
    """Queues blocks of LANES rows from ``iy`` on as jobs from n on; returns the number of jobs."""
    offset = to_floats(block << ints(LANE_BITS)) - middle
    block = block + row_starts() + ints(iy * BLOCKS)
    wanted = count > ints(0)
    while any_of(wanted):
        save(work.jobs, OFFSET + n, compress(offset, wanted))
        save(work.jobs, REST + n, compress(rest, wanted))
        save(work.job_integers, BLOCK_OF + n, compress(block, wanted))
        save(work.job_integers, ENTRY_OF + n, ints(entry))
        n += count_of(wanted)
        offset, block, count = offset + floats(LANES), block + ints(1), count - ints(1)
        wanted = count > ints(0)
    return n


@inlined_kernel
def row_starts():
    """Returns the numbers of the first blocks of LANES rows."""
    return to_ints(lane_numbers() * floats(BLOCKS))


@inlined_kernel
def _clear(height, columns, work):
    """Empties a tile and returns the number of blocks with pixels of the image."""
    blocks = (columns + LANES - 1) // LANES
    for block in range(TILE * BLOCKS):
        at = block * BLOCK
        save(work.hot, at + TRANSMITTANCE, floats(1.0))
        save(work.hot, at + PLANE_RED, floats(0.0))
        save(work.hot, at + PLANE_GREEN, floats(0.0))
        save(work.hot, at + PLANE_BLUE, floats(0.0))
        save(work.cold, at + PLANE_DEPTH, floats(0.0))
        save(work.cold_integers, at + PLANE_NODE, ints(-1))
        save(work.cold_integers, at + PLANE_LAST, ints(0))
        work.alive[block] = block // BLOCKS < height and block % BLOCKS < blocks
    return height * blocks


@inlined_kernel
def _blend_jobs(count, start, rich, splats, entries, work):
    """Blends the jobs that wait; returns how many blocks have stopped."""
    records, hot, cold, cold_integers = splats.records, work.hot, work.cold, work.cold_integers
    done = 0
    for k in range(count):
        block = work.job_integers[2, k]
        if not work.alive[block]:
            continue
        at, entry = block * BLOCK, work.job_integers[3, k]
        row = entries[entry] & 0xFFFFFFFF
        u = floats(records[row, ALONG]) * (lane_numbers() + floats(work.jobs[0, k]))
        y = fma(-u, u, floats(work.jobs[1, k]))
        alpha = smaller(exp2(y), floats(MAX_ALPHA))
        before = load(hot, at + TRANSMITTANCE)
        after = fma(-alpha, before, before)
        seen = (y >= floats(-LOG2_255)) & (before > floats(0.0))
        added = seen & (after > floats(MIN_TRANSMITTANCE))
        weight = select(added, alpha * before, floats(0.0))
        save(hot, at + PLANE_RED, fma(weight, floats(records[row, RED]), load(hot, at + PLANE_RED)))
        save(hot, at + PLANE_GREEN, fma(weight, floats(records[row, GREEN]), load(hot, at + PLANE_GREEN)))
        save(hot, at + PLANE_BLUE, fma(weight, floats(records[row, BLUE]), load(hot, at + PLANE_BLUE)))
        if rich:
            save(cold, at + PLANE_DEPTH, fma(weight, floats(records[row, DEPTH]), load(cold, at + PLANE_DEPTH)))
            last, node = load(cold_integers, at + PLANE_LAST), load(cold_integers, at + PLANE_NODE)
            save(cold_integers, at + PLANE_LAST, select(added, ints(entry - start + 1), last))
            half = added & (before >= floats(0.5)) & (after < floats(0.5))
            save(cold_integers, at + PLANE_NODE, select(half, ints(splats.integers[row, NODE]), node))
        stopped = seen & (after <= floats(MIN_TRANSMITTANCE))
        result = select(added, after, select(stopped, -before, before))
        save(hot, at + TRANSMITTANCE, result)
        if any_of(stopped) and not any_of(result > floats(0.0)):
            work.alive[block] = 0
            done += 1
    return done


@inlined_kernel
def _write_tile(top, left, view, canvas, work):
    """Writes a tile to the images that are wanted."""
    for iy in range(min(TILE, view.height - top)):
        for block in range((min(TILE, view.width - left) + LANES - 1) // LANES):
            number = iy * BLOCKS + block
            _write_block(top + iy, left + block * LANES, number, view, canvas, work)


@inlined_kernel
def _write_block(y, x, number, view, canvas, work):
    hot, at, pixels, integers = work.hot, number * BLOCK, work.pixels, work.pixel_integers
    through = load(hot, at + TRANSMITTANCE)
    through = larger(through, -through)
    red = fma(through, floats(view.red), load(hot, at + PLANE_RED))
    green = fma(through, floats(view.green), load(hot, at + PLANE_GREEN))
    blue = fma(through, floats(view.blue), load(hot, at + PLANE_BLUE))
    lanes = min(LANES, view.width - x)
    if len(canvas.rgb8):
        save(integers, 0, _to_byte(red))
        save(integers, LANES, _to_byte(green))
        save(integers, 2 * LANES, _to_byte(blue))
        for k in range(lanes):
            for channel in range(3):
                canvas.rgb8[y, x + k, channel] = integers[channel, k]
    if len(canvas.rgb):
        save(pixels, 0, red)
        save(pixels, LANES, green)
        save(pixels, 2 * LANES, blue)
        for k in range(lanes):
            for channel in range(3):
                canvas.rgb[y, x + k, channel] = pixels[channel, k]
    alpha = floats(1.0) - through
    save(pixels, 0, alpha)
    save(pixels, 2 * LANES, through)
    save(pixels, LANES, load(work.cold, number * BLOCK + PLANE_DEPTH) / larger(alpha, floats(1e-10)))
    for k in range(lanes):
        if len(canvas.alpha):
            canvas.alpha[y, x + k] = pixels[0, k]
        if len(canvas.through):
            canvas.through[y, x + k] = pixels[2, k]
        if len(canvas.depth):
            canvas.depth[y, x + k] = pixels[1, k]
        if len(canvas.node):
            canvas.node[y, x + k] = work.cold_integers[number, 1, k]
        if len(canvas.last):
            canvas.last[y, x + k] = work.cold_integers[number, 2, k]


@inlined_kernel
def _to_byte(value):
    """Returns a colour in [0, 1] as 0 to 255, rounded; what is outside is clipped."""
    return to_ints(fma(smaller(larger(value, floats(0.0)), floats(1.0)), floats(255.0), floats(0.5)))
