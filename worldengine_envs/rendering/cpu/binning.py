"""Lists of what touches each tile, front to back."""

from __future__ import annotations

from worldengine_envs.rendering.cpu.projection import tile_range, tiles_across
from worldengine_envs.rendering.cpu.simd import bits_of
from worldengine_envs.rendering.cpu.stages import DEPTH, RANK
from worldengine_envs.simulation.kernels import inlined_kernel, kernel

DIGIT = 11  # bits that one pass of the sort looks at
BUCKETS = 1 << DIGIT
SHORT = 48  # entries that are sorted by insertion


@kernel
def make_room(offsets, cursors):
    """Turns the numbers of entries of each thread and tile into where they begin, and returns how many there are in all."""
    total = 0
    for tile in range(cursors.shape[1]):
        offsets[tile] = total
        for thread in range(cursors.shape[0]):
            count = cursors[thread, tile]
            cursors[thread, tile] = total
            total += count
    offsets[cursors.shape[1]] = total
    return total


@kernel
def fill(thread, splats, lists, width, height):
    """Writes the splats of one region to the lists of the tiles that they touch."""
    start, across = splats.starts[thread], tiles_across(width)
    for row in range(start, start + splats.counts[thread]):
        x0, x1, y0, y1 = tile_range(splats.records, row, width, height)
        entry = (int(bits_of(splats.records[row, DEPTH])) << 32) | row
        for y in range(y0, y1):
            for x in range(x0, x1):
                tile = y * across + x
                lists.entries[lists.cursors[thread, tile]] = entry
                lists.cursors[thread, tile] += 1


@kernel
def sort_tile(tile, splats, lists, buckets):
    """Sorts the list of a tile by depth, then by rank.

    Two passes of a radix sort over the leading bits of the tile's range of depths; then what these bits do not tell apart.

    Args:
        tile: Its list is sorted.
        splats: ``Splats``.
        lists: ``TileLists``.
        buckets: (2, BUCKETS) int32.
    """
    start, stop = lists.offsets[tile], lists.offsets[tile + 1]
    if stop - start <= SHORT:
        _sort_by_insertion(start, stop, splats, lists.entries)
        return
    low, high = lists.entries[start] >> 32, lists.entries[start] >> 32
    for i in range(start, stop):
        low, high = min(low, lists.entries[i] >> 32), max(high, lists.entries[i] >> 32)
    shift = 32
    while (high - low) >> (shift - 32) >= BUCKETS * BUCKETS:
        shift += 1
    base = low << 32
    for digit in range(2):
        for bucket in range(BUCKETS):
            buckets[digit, bucket] = 0
    for i in range(start, stop):
        key = (lists.entries[i] - base) >> shift
        buckets[0, key & (BUCKETS - 1)] += 1
        buckets[1, key >> DIGIT] += 1
    first, second = 0, 0
    for bucket in range(BUCKETS):
        count = buckets[0, bucket]
        buckets[0, bucket] = first
        first += count
        count = buckets[1, bucket]
        buckets[1, bucket] = second
        second += count
    for i in range(start, stop):
        bucket = ((lists.entries[i] - base) >> shift) & (BUCKETS - 1)
        lists.spare[start + buckets[0, bucket]] = lists.entries[i]
        buckets[0, bucket] += 1
    for i in range(start, stop):
        bucket = ((lists.spare[i] - base) >> shift) >> DIGIT
        lists.entries[start + buckets[1, bucket]] = lists.spare[i]
        buckets[1, bucket] += 1
    _sort_runs(start, stop, base, shift, splats, lists.entries)


@inlined_kernel
def _before(a, b, splats):
    """Whether entry a is in front of entry b."""
    depth_a, depth_b = a >> 32, b >> 32
    if depth_a != depth_b:
        return depth_a < depth_b
    return splats.integers[a & 0xFFFFFFFF, RANK] < splats.integers[b & 0xFFFFFFFF, RANK]


@inlined_kernel
def _sort_runs(start, stop, base, shift, splats, entries):
    """Sorts each run of entries whose leading bits are the same."""
    run = start
    while run < stop:
        key, end = (entries[run] - base) >> shift, run + 1
        while end < stop and (entries[end] - base) >> shift == key:
            end += 1
        if end - run > SHORT:
            _sort_by_heap(run, end, splats, entries)
        elif end - run > 1:
            _sort_by_insertion(run, end, splats, entries)
        run = end


@kernel
def _sort_by_insertion(start, stop, splats, entries):
    for i in range(start + 1, stop):
        entry, j = entries[i], i
        while j > start and _before(entry, entries[j - 1], splats):
            entries[j] = entries[j - 1]
            j -= 1
        entries[j] = entry


@kernel
def _sort_by_heap(start, stop, splats, entries):
    n = stop - start
    for root in range(n // 2 - 1, -1, -1):
        _sift(start, root, n, splats, entries)
    for last in range(n - 1, 0, -1):
        entries[start], entries[start + last] = entries[start + last], entries[start]
        _sift(start, 0, last, splats, entries)


@inlined_kernel
def _sift(start, root, n, splats, entries):
    """Lets an entry sink until both below it are in front of it."""
    while 2 * root + 1 < n:
        child = 2 * root + 1
        if child + 1 < n and _before(entries[start + child], entries[start + child + 1], splats):
            child += 1
        if not _before(entries[start + root], entries[start + child], splats):
            return
        entries[start + root], entries[start + child] = entries[start + child], entries[start + root]
        root = child
