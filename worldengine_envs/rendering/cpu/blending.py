"""Blending of a tile: its splats front to back, eight pixels of a row at a time.

A pixel stops before the splat that would bring its transmittance to 1e-4 or less; eight that have all stopped are not looked at any
more, and a tile ends when all have. The transmittance of a pixel that has stopped is kept with a minus sign.
"""

from __future__ import annotations

import math

from worldengine_envs.rendering.cpu.binning import sort_tile
from worldengine_envs.rendering.cpu.projection import LOG2_255, tiles_across
from worldengine_envs.rendering.cpu.simd import (
    LANES,
    any_of,
    as_floats,
    as_ints,
    floats,
    fma,
    ints,
    lane_numbers,
    load,
    prefetch,
    save,
    select,
    smaller,
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
BLOCKS = TILE // LANES  # of a row
PIXELS = TILE * TILE
TRANSMITTANCE, PLANE_RED, PLANE_GREEN, PLANE_BLUE, PLANE_DEPTH, PLANE_NODE, PLANE_LAST = range(7)
PLANES = 7
SLACK = 0.01  # by which a row of a splat is taken wider, against rounding [px]
AHEAD = 6  # records are asked for so many entries before they are read


@kernel
def blend(start, stop, thread, splats, lists, view, canvas, buckets, planes, integers, alive):
    """Sorts and blends tiles ``start`` to ``stop - 1`` and writes their pixels.

    Args:
        start: First tile.
        stop: Tile after the last.
        thread: Uses row ``thread`` of the arrays that follow ``canvas``.
        splats: ``Splats``.
        lists: ``TileLists``, filled; sorted here.
        view: ``View``.
        canvas: ``Canvas``.
        buckets: (threads, 2, BUCKETS) int32.
        planes: (threads, PLANES, TILE, TILE) float32.
        integers: The same memory as int32.
        alive: (threads, TILE, BLOCKS) uint8.
    """
    rich = len(canvas.depth) + len(canvas.node) + len(canvas.last) > 0
    for tile in range(start, stop):
        sort_tile(thread, tile, splats, lists, buckets)
        row, column = tile // tiles_across(view.width), tile % tiles_across(view.width)
        _blend_tile(tile, row * TILE, column * TILE, thread, rich, splats, lists, view, planes, integers, alive)
        _write_tile(row * TILE, column * TILE, thread, view, canvas, planes, integers)


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
def _blend_tile(tile, top, left, thread, rich, splats, lists, view, planes, integers, alive):
    rows, columns = min(TILE, view.height - top), min(TILE, view.width - left)
    records, entries, stop = splats.records, lists.entries, lists.offsets[tile + 1]
    base = thread * (PLANES * PIXELS)
    remaining = _clear(rows, columns, thread, base, planes, integers, alive)
    for i in range(lists.offsets[tile], stop):
        if i + AHEAD < stop:
            prefetch(records, (entries[i + AHEAD] & 0xFFFFFFFF) * FIELDS)
        row = entries[i] & 0xFFFFFFFF
        x, y = records[row, X] - left - 0.5, records[row, Y] - top - 0.5
        reach = records[row, REACH_Y]
        first, last = math.ceil(max(y - reach, 0.0)), math.floor(min(y + reach, rows - 1.0))
        along, slope, across, power = records[row, ALONG], records[row, SLOPE], records[row, ACROSS], records[row, POWER]
        narrow = 1.0 / along
        for iy in range(int(first), int(last) + 1):
            dy = iy - y
            v = across * dy
            rest = power - v * v
            half = math.sqrt(max(rest + LOG2_255, 0.0)) * narrow + SLACK
            middle = x + slope * dy
            from_x, to_x = max(middle - half, 0.0), min(middle + half, columns - 1.0)
            if not from_x <= to_x:
                continue
            for block in range(int(from_x) // LANES, int(to_x) // LANES + 1):
                if alive[thread, iy, block]:
                    at, offset = base + iy * TILE + block * LANES, block * LANES - middle
                    if _blend_block(at, along, offset, rest, row, i - lists.offsets[tile], rich, splats, planes, integers):
                        alive[thread, iy, block] = 0
                        remaining -= 1
        if remaining == 0:
            break


@inlined_kernel
def _clear(rows, columns, thread, base, planes, integers, alive):
    """Empties the planes of a tile and returns the number of blocks with pixels of the image."""
    for at in range(base, base + TILE * TILE, LANES):
        save(planes, at + TRANSMITTANCE * PIXELS, floats(1.0))
        save(planes, at + PLANE_RED * PIXELS, floats(0.0))
        save(planes, at + PLANE_GREEN * PIXELS, floats(0.0))
        save(planes, at + PLANE_BLUE * PIXELS, floats(0.0))
        save(planes, at + PLANE_DEPTH * PIXELS, floats(0.0))
        save(integers, at + PLANE_NODE * PIXELS, ints(-1))
        save(integers, at + PLANE_LAST * PIXELS, ints(0))
    blocks = (columns + LANES - 1) // LANES
    for iy in range(TILE):
        for block in range(BLOCKS):
            alive[thread, iy, block] = iy < rows and block < blocks
    return rows * blocks


@inlined_kernel
def _blend_block(at, along, offset, rest, row, place, rich, splats, planes, integers):
    """Adds a splat to eight pixels; returns whether all of them have stopped now."""
    u = floats(along) * (lane_numbers() + floats(offset))
    y = fma(-u, u, floats(rest))
    alpha = smaller(exp2(y), floats(MAX_ALPHA))
    before = load(planes, at + TRANSMITTANCE * PIXELS)
    after = fma(-alpha, before, before)
    seen = (y >= floats(-LOG2_255)) & (before > floats(0.0))
    added = seen & (after > floats(MIN_TRANSMITTANCE))
    weight = select(added, alpha * before, floats(0.0))
    records = splats.records
    save(planes, at + PLANE_RED * PIXELS, fma(weight, floats(records[row, RED]), load(planes, at + PLANE_RED * PIXELS)))
    save(planes, at + PLANE_GREEN * PIXELS, fma(weight, floats(records[row, GREEN]), load(planes, at + PLANE_GREEN * PIXELS)))
    save(planes, at + PLANE_BLUE * PIXELS, fma(weight, floats(records[row, BLUE]), load(planes, at + PLANE_BLUE * PIXELS)))
    if rich:
        depth, last = load(planes, at + PLANE_DEPTH * PIXELS), load(integers, at + PLANE_LAST * PIXELS)
        save(planes, at + PLANE_DEPTH * PIXELS, fma(weight, floats(records[row, DEPTH]), depth))
        save(integers, at + PLANE_LAST * PIXELS, select(added, ints(place + 1), last))
        half = added & (before >= floats(0.5)) & (after < floats(0.5))
        node = load(integers, at + PLANE_NODE * PIXELS)
        save(integers, at + PLANE_NODE * PIXELS, select(half, ints(splats.integers[row, NODE]), node))
    stopped = seen & (after <= floats(MIN_TRANSMITTANCE))
    result = select(added, after, select(stopped, -before, before))
    save(planes, at + TRANSMITTANCE * PIXELS, result)
    return any_of(stopped) and not any_of(result > floats(0.0))


@inlined_kernel
def _write_tile(top, left, thread, view, canvas, planes, integers):
    """Writes a tile to the images that are wanted."""
    for iy in range(min(TILE, view.height - top)):
        for ix in range(min(TILE, view.width - left)):
            y, x = top + iy, left + ix
            through = abs(planes[thread, TRANSMITTANCE, iy, ix])
            red = planes[thread, PLANE_RED, iy, ix] + through * view.red
            green = planes[thread, PLANE_GREEN, iy, ix] + through * view.green
            blue = planes[thread, PLANE_BLUE, iy, ix] + through * view.blue
            if len(canvas.rgb8):
                canvas.rgb8[y, x, 0] = int(255.0 * min(red, 1.0) + 0.5)
                canvas.rgb8[y, x, 1] = int(255.0 * min(green, 1.0) + 0.5)
                canvas.rgb8[y, x, 2] = int(255.0 * min(blue, 1.0) + 0.5)
            if len(canvas.rgb):
                canvas.rgb[y, x, 0], canvas.rgb[y, x, 1], canvas.rgb[y, x, 2] = red, green, blue
            if len(canvas.alpha):
                canvas.alpha[y, x] = 1.0 - through
            if len(canvas.depth):
                canvas.depth[y, x] = planes[thread, PLANE_DEPTH, iy, ix] / max(1.0 - through, 1e-10)
            if len(canvas.node):
                canvas.node[y, x] = integers[thread, PLANE_NODE, iy, ix]
            if len(canvas.last):
                canvas.last[y, x] = integers[thread, PLANE_LAST, iy, ix]
            if len(canvas.through):
                canvas.through[y, x] = through
