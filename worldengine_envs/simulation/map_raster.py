"""Lays polygons over a grid of cells: which cells each covers wholly, and which edges pass through the others."""

from __future__ import annotations

import math

import numpy as np

from worldengine_envs.simulation.kernels import allocating_kernel

# What an entry of a cell says about its polygon. In the first two the cell's reference point lies outside or inside, and the
# entry's edges decide about other points. TEST_POLYGON: the reference point is too near the border to serve, test all edges.
OUTSIDE_PART, INSIDE_PART, WHOLE, TEST_POLYGON = 0, 1, 2, 3

# A cell's view of a polygon. Its edges are a run along the ring: all edges that pass through the cell, and those between them.
ENTRY = np.dtype(
    [
        ("polygon", np.int32),  # row of the polygon in its map
        ("edge", np.int32),  # vertex of the ring at which the run's first edge ends
        ("count", np.int16),  # edges of the run
        ("layer", np.int8),  # MapLayer
        ("kind", np.int8),
    ],
    align=True,
)
MAX_RUN = 2**15 - 1  # edges of a run; where more are needed all edges are tested
GROUP = np.dtype(
    [
        ("whole", np.int16),  # bit 1 << layer set where a polygon of that layer covers the cell wholly
        ("part", np.int16),  # the same for polygons that cover it partly
        ("entry", np.int32),  # row of its first entry; they end where those of the next group begin
    ],
    align=True,
)
TILE = 8  # cells along a side of a tile: empty tiles of a grid are not stored
REFERENCE_X, REFERENCE_Y = 0.4871, 0.5213  # the reference point within its cell [cells]
PAD_M = 1e-6  # a border this near to a cell counts as passing through it
NEAR_M = 1e-9  # a reference point this near to a border does not serve


@allocating_kernel
def _cell_range(low, high, origin, cell, count):
    """Returns the first and the last cell that an interval touches."""
    first, last = int((low - PAD_M - origin) / cell), int((high + PAD_M - origin) / cell)
    return max(first, 0), min(last, count - 1)


@allocating_kernel
def _edge_row_range(ax, ay, bx, by, row_low, row_high):
    """Returns the x interval of the part of an edge between two heights."""
    if ay == by:
        return min(ax, bx), max(ax, bx)
    t0, t1 = (row_low - PAD_M - ay) / (by - ay), (row_high + PAD_M - ay) / (by - ay)
    t0, t1 = min(max(min(t0, t1), 0.0), 1.0), min(max(max(t0, t1), 0.0), 1.0)
    x0, x1 = ax + t0 * (bx - ax), ax + t1 * (bx - ax)
    return min(x0, x1), max(x0, x1)


@allocating_kernel
def _is_near(ax, ay, bx, by, x, y):
    """Whether a point lies within NEAR_M of an edge."""
    ux, uy, vx, vy = bx - ax, by - ay, x - ax, y - ay
    length2 = ux * ux + uy * uy
    t = 0.0
    if length2 > 0.0:
        t = min(max((vx * ux + vy * uy) / length2, 0.0), 1.0)
    return abs(vx - t * ux) < NEAR_M and abs(vy - t * uy) < NEAR_M


@allocating_kernel
def _crossings(xy, start, end, first_row, last_row, origin_y, cell):
    """Returns where a ring crosses the horizontal lines through the reference points of rows of cells.

    Returns:
        begin: (rows + 1,) first place of each row.
        x: (crossings,) [m], ascending within a row: between the first and the second of them the line is inside, and so on.
    """
    begin = np.zeros(last_row - first_row + 2, np.int64)
    x = np.empty(0)
    for filling in (False, True):
        j = end - 1
        for i in range(start, end):
            ax, ay, bx, by = xy[j, 0], xy[j, 1], xy[i, 0], xy[i, 1]
            j = i
            low, high = min(ay, by), max(ay, by)
            row = max(int((low - origin_y) / cell - REFERENCE_Y) - 1, first_row)
            while row <= last_row:
                y = origin_y + (row + REFERENCE_Y) * cell
                if y >= high:
                    break
                if y >= low:
                    if filling:
                        here = ax + (y - ay) * (bx - ax) / (by - ay)
                        k = begin[row - first_row]
                        begin[row - first_row] += 1
                        x[k] = here
                    else:
                        begin[row - first_row + 1] += 1
                row += 1
        if not filling:
            for r in range(len(begin) - 1):
                begin[r + 1] += begin[r]
            x = np.empty(begin[-1])
    for r in range(len(begin) - 1, 0, -1):  # filling has moved each row's first place to its end
        begin[r] = begin[r - 1]
    begin[0] = 0
    for r in range(len(begin) - 1):
        x[begin[r] : begin[r + 1]].sort()
    return begin, x


_CELL, _POLYGON, _KIND, _FIRST, _LAST, _GAP, _AFTER = range(7)  # columns of a trace


@allocating_kernel
def trace(xy, offsets, layers, keeps_whole, origin_x, origin_y, cell, nx, ny, limit):
    """Walks along all polygons and notes every cell that each touches, in the order of polygons.

    Args:
        layers: (polygons,) MapLayer.
        keeps_whole: By layer, whether a cell that a polygon covers wholly gets an entry; its bit is always set.
        limit: Give up when there are more entries, or edges by cell, than this.

    Returns:
        (entries, 7) int32 rows: cell, polygon, kind, first and last edge that passes through, longest gap between such edges,
        and the edge behind that gap; (cells,) int16 bits of the layers that cover the cell wholly; whether the limit was passed.
    """
    rows = np.empty((4096, 7), np.int32)
    count, edges = 0, 0
    whole = np.zeros(nx * ny, np.int16)
    newest = np.full(nx * ny, -1, np.int32)  # the last entry of each cell
    for q in range(len(offsets) - 1):
        start, end = offsets[q], offsets[q + 1]
        mine = count  # first entry of this polygon
        bit, keep = np.int16(1 << layers[q]), keeps_whole[layers[q]]
        j = end - 1
        for i in range(start, end):
            ax, ay, bx, by = xy[j, 0], xy[j, 1], xy[i, 0], xy[i, 1]
            first_row, last_row = _cell_range(min(ay, by), max(ay, by), origin_y, cell, ny)
            for row in range(first_row, last_row + 1):
                low, high = _edge_row_range(ax, ay, bx, by, origin_y + row * cell, origin_y + (row + 1) * cell)
                first, last = _cell_range(low, high, origin_x, cell, nx)
                edges += last + 1 - first
                if max(edges, count) > limit:
                    return rows[:0], whole, True
                for column in range(first, last + 1):
                    c = row * nx + column
                    e = newest[c]
                    if e >= mine:
                        gap = i - start - rows[e, _LAST]
                        if gap > rows[e, _GAP]:
                            rows[e, _GAP], rows[e, _AFTER] = gap, i - start
                        rows[e, _LAST] = i - start
                    else:
                        if count == len(rows):
                            rows = _doubled(rows)
                        rows[count] = 0
                        rows[count, _CELL], rows[count, _POLYGON], rows[count, _KIND] = c, q, OUTSIDE_PART
                        rows[count, _FIRST] = rows[count, _LAST] = i - start
                        newest[c] = e = count
                        count += 1
                    x, y = origin_x + (column + REFERENCE_X) * cell, origin_y + (row + REFERENCE_Y) * cell
                    if _is_near(ax, ay, bx, by, x, y):
                        rows[e, _KIND] = TEST_POLYGON
            j = i
        low_y, high_y = xy[start:end, 1].min(), xy[start:end, 1].max()
        first_row, last_row = _cell_range(low_y, high_y, origin_y, cell, ny)
        begin, crossings = _crossings(xy, start, end, first_row, last_row, origin_y, cell)
        for row in range(first_row, last_row + 1):
            for k in range(begin[row - first_row], begin[row - first_row + 1] - 1, 2):
                first = max(math.ceil((crossings[k] - origin_x) / cell - REFERENCE_X), 0)
                last = min(math.floor((crossings[k + 1] - origin_x) / cell - REFERENCE_X), nx - 1)
                for c in range(row * nx + first, row * nx + last + 1):  # their reference points lie inside
                    e = newest[c]
                    if e >= mine:
                        if rows[e, _KIND] == OUTSIDE_PART:
                            rows[e, _KIND] = INSIDE_PART
                        continue
                    whole[c] |= bit
                    if keep:
                        if count == limit:
                            return rows[:0], whole, True
                        if count == len(rows):
                            rows = _doubled(rows)
                        rows[count] = 0
                        rows[count, _CELL], rows[count, _POLYGON], rows[count, _KIND] = c, q, WHOLE
                        count += 1
    return rows[:count], whole, False


@allocating_kernel
def _doubled(rows):
    grown = np.empty((2 * len(rows), rows.shape[1]), rows.dtype)
    grown[: len(rows)] = rows
    return grown


@allocating_kernel
def _sorted_by_cell(rows, cells):
    """Returns (cells + 1,) first places of each cell and (entries,) rows by place; the order within a cell stays."""
    begin = np.zeros(cells + 1, np.int32)
    for r in range(len(rows)):
        begin[rows[r, _CELL] + 1] += 1
    for c in range(cells):
        begin[c + 1] += begin[c]
    order, place = np.empty(len(rows), np.int32), begin[:-1].copy()
    for r in range(len(rows)):
        c = rows[r, _CELL]
        order[place[c]] = r
        place[c] += 1
    return begin, order


@allocating_kernel
def group_cells(rows, whole, offsets, layers):
    """Groups cells: those without any border share one group for each set of covering polygons, others have their own.

    Args:
        rows, whole: As ``trace`` returns them.
        offsets, layers: Of the polygons.

    Returns:
        group: (cells,) int32; 0 = no polygon.
        groups: (groups + 1,) GROUP, the last one only for where entries end.
        entries: (entries,) ENTRY of all groups.
    """
    begin, order = _sorted_by_cell(rows, len(whole))
    group = np.zeros(len(whole), np.int32)
    groups, entries = np.zeros(1024, GROUP), np.zeros(len(rows), ENTRY)
    first, key = np.zeros(1024, np.int32), np.zeros(1024, np.int64)  # a cell of each group, the hash of its polygons
    table = np.full(1024, -1, np.int32)  # open addressing: shared groups by hash
    count, shared, used = 1, 0, 0
    for c in range(len(whole)):
        if begin[c] == begin[c + 1] and whole[c] == 0:
            continue
        uniform, mine = True, np.int64(whole[c])
        for r in order[begin[c] : begin[c + 1]]:
            uniform = uniform and rows[r, _KIND] == WHOLE
            mine = (mine * np.int64(1000003)) ^ np.int64(rows[r, _POLYGON] + 1)
        if uniform:
            slot = _slot(table, mine)
            while table[slot] >= 0 and not _alike(first[table[slot]], c, begin, order, rows, whole):
                slot = (slot + 1) & (len(table) - 1)
            if table[slot] >= 0:
                group[c] = table[slot]
                continue
            table[slot] = count
            shared += 1
        if count + 1 == len(groups):
            groups, first, key = _longer(groups), _longer(first), _longer(key)
        group[c], first[count], key[count] = count, c, mine
        groups[count].whole, groups[count].entry = whole[c], used
        for r in order[begin[c] : begin[c + 1]]:
            _write_entry(entries, used, rows[r], offsets, layers)
            if rows[r, _KIND] != WHOLE:
                groups[count].part |= np.int16(1 << layers[rows[r, _POLYGON]])
            used += 1
        count += 1
        if 2 * shared > len(table):
            table = _rehashed(table, key)
    groups[count].entry = used
    return group, groups[: count + 1].copy(), entries[:used].copy()


@allocating_kernel
def _slot(table, key):
    return (key ^ (key >> 17)) & (len(table) - 1)


@allocating_kernel
def _rehashed(table, key):
    """Returns a table of twice the size with the same groups."""
    larger = np.full(2 * len(table), -1, np.int32)
    for g in table:
        if g >= 0:
            slot = _slot(larger, key[g])
            while larger[slot] >= 0:
                slot = (slot + 1) & (len(larger) - 1)
            larger[slot] = g
    return larger


@allocating_kernel
def _alike(a, b, begin, order, rows, whole):
    """Whether the same polygons lie over two cells."""
    if whole[a] != whole[b] or begin[a + 1] - begin[a] != begin[b + 1] - begin[b]:
        return False
    for i in range(begin[b + 1] - begin[b]):
        if rows[order[begin[a] + i], _POLYGON] != rows[order[begin[b] + i], _POLYGON]:
            return False
    return True


@allocating_kernel
def _write_entry(entries, e, row, offsets, layers):
    """Writes one entry; its run of edges is the shortest one along the ring that has all edges which pass through the cell."""
    entry, q, kind = entries[e], row[_POLYGON], row[_KIND]
    ring, gap = offsets[q + 1] - offsets[q], row[_GAP]
    edge, count = row[_FIRST], row[_LAST] - row[_FIRST] + 1
    if row[_FIRST] + ring - row[_LAST] < gap:  # the longest gap is not the one over the ring's first vertex
        edge, count = row[_AFTER], ring - gap + 1
    if kind == WHOLE or kind == TEST_POLYGON:
        edge = count = 0
    elif count > MAX_RUN:
        edge, count, kind = 0, 0, TEST_POLYGON
    entry.polygon, entry.edge, entry.count, entry.layer, entry.kind = q, edge, count, layers[q], kind


@allocating_kernel
def _longer(values):
    grown = np.zeros(2 * len(values), values.dtype)
    grown[: len(values)] = values
    return grown


@allocating_kernel
def cut_tiles(group, nx, ny):
    """Cuts a grid into tiles of TILE x TILE cells.

    Returns:
        tile: (tiles along y, tiles along x) int32 row of each tile, -1 = nothing but group 0.
        cells: (rows, TILE * TILE) int32 group by cell of a tile, x fastest.
    """
    across, up = (nx + TILE - 1) // TILE, (ny + TILE - 1) // TILE
    tile = np.full((up, across), -1, np.int32)
    count = 0
    for c in range(len(group)):
        if group[c] > 0 and tile[c // nx // TILE, c % nx // TILE] < 0:
            tile[c // nx // TILE, c % nx // TILE] = count
            count += 1
    cells = np.zeros((count, TILE * TILE), np.int32)
    for c in range(len(group)):
        if group[c] > 0:
            row, column = c // nx, c % nx
            cells[tile[row // TILE, column // TILE], row % TILE * TILE + column % TILE] = group[c]
    return tile, cells
