"""Lays polygons over a grid of cells: which cells each covers wholly, and which edges pass through the others."""

from __future__ import annotations

import numpy as np

from worldengine_envs.simulation.geometry import point_in_polygon
from worldengine_envs.simulation.kernels import allocating_kernel

# What an entry of a cell says about its polygon. In the first two the cell's reference point lies outside or inside, and the
# entry's edges decide about other points. TEST_POLYGON: the reference point is too near the border to serve, test all edges.
OUTSIDE_PART, INSIDE_PART, WHOLE, TEST_POLYGON = 0, 1, 2, 3

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
def _ring_box(xy, start, end):
    low_x = high_x = xy[start, 0]
    low_y = high_y = xy[start, 1]
    for i in range(start + 1, end):
        low_x, high_x = min(low_x, xy[i, 0]), max(high_x, xy[i, 0])
        low_y, high_y = min(low_y, xy[i, 1]), max(high_y, xy[i, 1])
    return low_x, low_y, high_x, high_y


@allocating_kernel
def count_cells(xy, offsets, origin_x, origin_y, cell, nx, ny):
    """Returns (cells,) numbers of entries and (cells,) numbers of edges. Cells are numbered row by row, x fastest."""
    entries, edges = np.zeros(nx * ny, np.int64), np.zeros(nx * ny, np.int64)
    stamp = np.zeros(nx * ny, np.int64)  # 1 + the polygon whose border was here last
    for q in range(len(offsets) - 1):
        start, end = offsets[q], offsets[q + 1]
        j = end - 1
        for i in range(start, end):
            ax, ay, bx, by = xy[j, 0], xy[j, 1], xy[i, 0], xy[i, 1]
            first_row, last_row = _cell_range(min(ay, by), max(ay, by), origin_y, cell, ny)
            for row in range(first_row, last_row + 1):
                low, high = _edge_row_range(ax, ay, bx, by, origin_y + row * cell, origin_y + (row + 1) * cell)
                first, last = _cell_range(low, high, origin_x, cell, nx)
                for c in range(row * nx + first, row * nx + last + 1):
                    edges[c] += 1
                    if stamp[c] != q + 1:
                        stamp[c] = q + 1
                        entries[c] += 1
            j = i
        low_x, low_y, high_x, high_y = _ring_box(xy, start, end)
        first, last = _cell_range(low_x, high_x, origin_x, cell, nx)
        first_row, last_row = _cell_range(low_y, high_y, origin_y, cell, ny)
        for row in range(first_row, last_row + 1):
            known = inside = False
            for column in range(first, last + 1):
                c = row * nx + column
                if stamp[c] == q + 1:
                    known = False
                    continue
                if not known:  # one test for a run of cells without a border
                    x, y = origin_x + (column + REFERENCE_X) * cell, origin_y + (row + REFERENCE_Y) * cell
                    known, inside = True, point_in_polygon(xy, start, end, x, y)
                if inside:
                    entries[c] += 1
    return entries, edges


@allocating_kernel
def _reference_kind(xy, start, end, x, y):
    """Returns what an entry says, from where its cell's reference point lies."""
    j = end - 1
    for i in range(start, end):
        ux, uy = xy[i, 0] - xy[j, 0], xy[i, 1] - xy[j, 1]
        vx, vy = x - xy[j, 0], y - xy[j, 1]
        length2 = ux * ux + uy * uy
        t = 0.0
        if length2 > 0.0:
            t = min(max((vx * ux + vy * uy) / length2, 0.0), 1.0)
        if abs(vx - t * ux) < NEAR_M and abs(vy - t * uy) < NEAR_M:
            return TEST_POLYGON
        j = i
    return INSIDE_PART if point_in_polygon(xy, start, end, x, y) else OUTSIDE_PART


@allocating_kernel
def fill_cells(xy, offsets, origin_x, origin_y, cell, nx, ny, cell_entry, cell_edge):
    """Writes the entries that ``count_cells`` counted.

    Args:
        cell_entry, cell_edge: (cells + 1,) first rows of each cell.

    Returns:
        Per entry its polygon (int32), kind (int8) and first edge (entries + 1, int64); edges (int32): the vertex of the ring at
        which each ends.
    """
    polygon, kind = np.empty(cell_entry[-1], np.int32), np.empty(cell_entry[-1], np.int8)
    entry_edge, edges = np.empty(cell_entry[-1] + 1, np.int64), np.empty(cell_edge[-1], np.int32)
    entry_edge[cell_entry[-1]] = cell_edge[-1]
    next_entry, next_edge = cell_entry.copy(), cell_edge.copy()
    stamp = np.zeros(nx * ny, np.int64)  # 1 + the polygon whose border was here last
    for q in range(len(offsets) - 1):
        start, end = offsets[q], offsets[q + 1]
        j = end - 1
        for i in range(start, end):
            ax, ay, bx, by = xy[j, 0], xy[j, 1], xy[i, 0], xy[i, 1]
            first_row, last_row = _cell_range(min(ay, by), max(ay, by), origin_y, cell, ny)
            for row in range(first_row, last_row + 1):
                low, high = _edge_row_range(ax, ay, bx, by, origin_y + row * cell, origin_y + (row + 1) * cell)
                first, last = _cell_range(low, high, origin_x, cell, nx)
                for column in range(first, last + 1):
                    c = row * nx + column
                    if stamp[c] != q + 1:
                        stamp[c] = q + 1
                        e = next_entry[c]
                        next_entry[c] += 1
                        x, y = origin_x + (column + REFERENCE_X) * cell, origin_y + (row + REFERENCE_Y) * cell
                        polygon[e], kind[e], entry_edge[e] = q, _reference_kind(xy, start, end, x, y), next_edge[c]
                    edges[next_edge[c]] = i - start
                    next_edge[c] += 1
            j = i
        low_x, low_y, high_x, high_y = _ring_box(xy, start, end)
        first, last = _cell_range(low_x, high_x, origin_x, cell, nx)
        first_row, last_row = _cell_range(low_y, high_y, origin_y, cell, ny)
        for row in range(first_row, last_row + 1):
            known = inside = False
            for column in range(first, last + 1):
                c = row * nx + column
                if stamp[c] == q + 1:
                    known = False
                    continue
                if not known:
                    x, y = origin_x + (column + REFERENCE_X) * cell, origin_y + (row + REFERENCE_Y) * cell
                    known, inside = True, point_in_polygon(xy, start, end, x, y)
                if inside:
                    e = next_entry[c]
                    next_entry[c] += 1
                    polygon[e], kind[e], entry_edge[e] = q, WHOLE, next_edge[c]
    return polygon, kind, entry_edge, edges


@allocating_kernel
def _same_entries(polygon, a, b, count):
    for i in range(count):
        if polygon[a + i] != polygon[b + i]:
            return False
    return True


@allocating_kernel
def group_cells(cell_entry, polygon, kind):
    """Groups cells that the same polygons cover wholly.

    Returns:
        group: (cells,) int32; 0 = no polygon.
        first: (groups,) int64, one cell of each group (of group 0 any cell).
    """
    cells = len(cell_entry) - 1
    group = np.zeros(cells, np.int32)
    first = np.zeros(cells + 1, np.int64)
    groups = 1
    size = 1
    while size < 2 * cells + 2:
        size *= 2
    table = np.full(size, -1, np.int64)  # open addressing: group by hash of its polygons
    for c in range(cells):
        start, count = cell_entry[c], cell_entry[c + 1] - cell_entry[c]
        if count == 0:
            continue
        uniform = True
        key = np.int64(count)
        for e in range(start, start + count):
            uniform = uniform and kind[e] == WHOLE
            key = (key * np.int64(1000003)) ^ np.int64(polygon[e] + 1)
        slot = -1
        if uniform:
            slot = (key ^ (key >> 17)) & (size - 1)
            while table[slot] >= 0:
                other = first[table[slot]]
                if cell_entry[other + 1] - cell_entry[other] == count and _same_entries(polygon, start, cell_entry[other], count):
                    break
                slot = (slot + 1) & (size - 1)
            if table[slot] >= 0:
                group[c] = table[slot]
                continue
            table[slot] = groups
        group[c] = groups
        first[groups] = c
        groups += 1
    return group, first[:groups].copy()
