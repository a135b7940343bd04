"""Point queries on many vector maps at once: which lanes hold a point, is it drivable.

A uniform grid lies over every map. A cell knows the polygons that cover it wholly, and for those that cover it partly the few
edges that pass through it, so a query tests a handful of edges and no whole polygon. Answers equal strict point-in-polygon tests
(the border is outside). Rows of polygons are those of the ``VectorMap``; ``m`` is the number of the map in the index.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import MapLayer, VectorMap
from worldengine_envs.simulation.geometry import point_in_polygon
from worldengine_envs.simulation.kernels import inlined_kernel, kernel
from worldengine_envs.simulation.map_raster import (
    ENTRY,
    GROUP,
    OUTSIDE_PART,
    REFERENCE_X,
    REFERENCE_Y,
    TEST_POLYGON,
    TILE,
    WHOLE,
    cut_tiles,
    group_cells,
    trace,
)
from worldengine_envs.simulation.tables import GrowingTable

CELL_M = 1.5  # side of a cell [m]; larger where a map would need more than MAX_CELLS
MAX_CELLS = 1 << 20
MAX_EXTENT_M = 50_000.0
MAX_ENTRIES = 1 << 23  # polygons by cell, and edges by cell, of one map (real ones: 30,000): 0.5 GB while it is compiled
MAX_LANES_AT_POINT = 16  # lanes that may lie over one another

DRIVABLE = (1 << MapLayer.ROADBLOCK) | (1 << MapLayer.INTERSECTION) | (1 << MapLayer.CARPARK_AREA) | (1 << MapLayer.DRIVABLE_AREA)
LANES = (1 << MapLayer.LANE) | (1 << MapLayer.LANE_CONNECTOR)
_KEEPS_WHOLE = np.isin(np.arange(len(MapLayer)), [MapLayer.LANE, MapLayer.LANE_CONNECTOR])  # queries ask which of these it is
_TILE_SHIFT, _TILE_MASK = TILE.bit_length() - 1, TILE - 1


GRID = np.dtype(
    [
        ("x", np.float64),  # the grid's lower corner [m]
        ("y", np.float64),
        ("inverse_cell", np.float64),  # cells a metre
        ("nx", np.int64),  # cells along x, y
        ("ny", np.int64),
        ("tile", np.int64),  # row of its first tile in `tile`
        ("across", np.int64),  # tiles along x
        ("group", np.int64),  # row of its group 0 in `groups`
    ]
)


class MapIndex(NamedTuple):
    """Arrays of all maps, flat.

    A cell belongs to a group: cells without any border share one group for each set of covering polygons, a cell with a border is
    a group of its own. A group has entries for polygons that cover it partly, and for lanes and connectors that cover it wholly.
    """

    grid: np.ndarray  # (maps,) GRID
    tile: np.ndarray  # (tiles of all grids,) int32 row of `cells`, -1 = no polygon there
    cells: np.ndarray  # (rows, TILE * TILE) int32 group, counted from the map's group 0, which is no polygon
    groups: np.ndarray  # (groups,) GROUP
    entries: np.ndarray  # (entries,) ENTRY
    polygon_offset: np.ndarray  # (maps + 1,) int64: rows of polygons
    polygon_start: np.ndarray  # (polygons + 1,) int64: rows of vertices
    polygon_xy: np.ndarray  # (vertices, 2) float64 [m]
    polygon_layer: np.ndarray  # (polygons,) int8, MapLayer


class _Part(NamedTuple):
    """One map, compiled: as in ``MapIndex``, rows counted from 0."""

    grid: np.ndarray  # (1,)
    tile: np.ndarray
    cells: np.ndarray
    groups: np.ndarray
    entries: np.ndarray


def _compile(xy: np.ndarray, offsets: np.ndarray, layers: np.ndarray, cell_m: float) -> _Part:
    """Lays the grid over one map."""
    if len(offsets) != len(layers) + 1 or (
        len(offsets) and (offsets[0] != 0 or offsets[-1] != len(xy) or np.any(np.diff(offsets) < 3))
    ):
        raise DataError("offsets do not cut the vertices into rings of 3 or more", field="vector_map.polygon_offsets")
    if len(layers) and not 0 <= layers.min() <= layers.max() < len(MapLayer):
        raise DataError(f"{layers.min()}..{layers.max()} is no MapLayer", field="vector_map.polygon_layer")
    if not np.isfinite(xy).all():
        raise DataError(f"{np.sum(~np.isfinite(xy))} values are not finite", field="vector_map.polygon_xy")
    low, high = (xy.min(0), xy.max(0)) if len(xy) else (np.zeros(2), np.zeros(2))
    extent = high - low
    if extent.max() > MAX_EXTENT_M:
        raise DataError(
            f"the map is {extent.max():.3g} m wide, more than {MAX_EXTENT_M:.0f} m",
            field="vector_map.polygon_xy",
            remedy="Cut it to the scenario",
        )
    cell = max(cell_m, math.sqrt((extent[0] + 2.0) * (extent[1] + 2.0) / MAX_CELLS))
    origin = low - cell * np.array([0.7310585, 0.6180339])  # odd offsets keep borders on round coordinates off the cells' lines
    nx, ny = (int(n) for n in np.ceil((high - origin) / cell).astype(np.int64) + 1)
    _check_overlap(xy, offsets, cell)
    rows, whole, too_many = trace(xy, offsets, layers, _KEEPS_WHOLE, origin[0], origin[1], cell, nx, ny, MAX_ENTRIES)
    if too_many:
        raise _too_dense(MAX_ENTRIES)
    group, groups, entries = group_cells(rows, whole, offsets, layers)
    tile, cells = cut_tiles(group, nx, ny)
    grid = np.array([(origin[0], origin[1], 1.0 / cell, nx, ny, 0, tile.shape[1], 0)], GRID)
    return _Part(grid, tile.reshape(-1), cells, groups, entries)


def _check_overlap(xy: np.ndarray, offsets: np.ndarray, cell: float) -> None:
    """Refuses polygons whose boxes cover, or whose edges cross, so many cells that even counting them would take minutes."""
    if len(offsets) < 2:
        return
    size = np.maximum.reduceat(xy, offsets[:-1]) - np.minimum.reduceat(xy, offsets[:-1])
    covered = np.prod(size / cell + 1.0, axis=1).sum()
    crossed = np.abs(np.diff(xy, axis=0)).sum() / cell + len(xy)
    if max(covered, crossed) > 16 * MAX_ENTRIES:
        raise _too_dense(16 * MAX_ENTRIES)


def _too_dense(limit: int) -> DataError:
    problem = f"polygons lie over one another: more than {limit} times one covers a cell"
    return DataError(problem, field="vector_map.polygon_xy", remedy="Merge polygons of one layer, or cut the map to the scenario")


_LAYOUT = {  # dtype and columns of the index's tables
    "grid": (GRID,),
    "tile": (np.int32,),
    "cells": (np.int32, (TILE * TILE,)),
    "groups": (GROUP,),
    "entries": (ENTRY,),
    "polygon_offset": (np.int64,),
    "polygon_start": (np.int64,),
    "polygon_xy": (np.float64, (2,)),
    "polygon_layer": (np.int8,),
}


class MapIndexBuilder:
    """Collects maps one by one into arrays that grow by doubling; each is compiled once, and ``index()`` copies nothing."""

    def __init__(self, cell_m: float = CELL_M):
        self._cell_m = cell_m
        self._tables = {name: GrowingTable(f"map_index.{name}", *layout) for name, layout in _LAYOUT.items()}
        for name in ("polygon_offset", "polygon_start"):
            self._tables[name].append_row(0)

    def __len__(self) -> int:
        return self._tables["grid"].rows

    def add(self, vector_map: VectorMap) -> int:
        """Compiles a map and returns its number. Raises DataError where polygons are not finite or too far apart."""
        return self.add_polygons(vector_map.polygon_xy, vector_map.polygon_offsets, vector_map.polygon_layer)

    def add_polygons(self, xy: np.ndarray, offsets: np.ndarray, layers: np.ndarray) -> int:
        """The same from polygon rows: xy (vertices, 2) [m], offsets (polygons + 1,), layers (polygons,) MapLayer."""
        xy = np.ascontiguousarray(xy, dtype=np.float64).reshape(-1, 2)
        offsets = np.ascontiguousarray(offsets, dtype=np.int64)
        layers = np.ascontiguousarray(layers, dtype=np.int8)
        part, tables = _compile(xy, offsets, layers, self._cell_m), self._tables
        part.tile[part.tile >= 0] += tables["cells"].rows
        part.groups["entry"] += tables["entries"].rows
        part.grid["tile"], part.grid["group"] = tables["tile"].rows, tables["groups"].rows
        for name, rows in part._asdict().items():
            tables[name].append(rows)
        tables["polygon_offset"].append_row(tables["polygon_layer"].append(layers) + len(layers))
        tables["polygon_start"].append(tables["polygon_xy"].append(xy) + offsets[1:])
        return len(self) - 1

    def index(self) -> MapIndex:
        """Returns the arrays of all maps added so far, shared with the builder."""
        return MapIndex(**{name: table.used for name, table in self._tables.items()})


def build_map_index(vector_maps: Sequence[VectorMap]) -> MapIndex:
    """Returns the index of several maps, numbered in their order."""
    builder = MapIndexBuilder()
    for vector_map in vector_maps:
        builder.add(vector_map)
    return builder.index()


@inlined_kernel
def find_group(index, m, x, y):
    """Returns the group (row of ``groups``) of the cell at (x, y), -1 outside the grid or over no polygon."""
    grid = index.grid[m]
    gx, gy = (x - grid.x) * grid.inverse_cell, (y - grid.y) * grid.inverse_cell
    if not (gx >= 0.0 and gy >= 0.0 and gx < grid.nx and gy < grid.ny):
        return -1
    column, row = int(gx), int(gy)
    tile = index.tile[grid.tile + (row >> _TILE_SHIFT) * grid.across + (column >> _TILE_SHIFT)]
    if tile < 0:
        return -1
    group = index.cells[tile, ((row & _TILE_MASK) << _TILE_SHIFT) | (column & _TILE_MASK)]
    return grid.group + group if group > 0 else -1


@inlined_kernel
def in_entry(index, m, e, x, y):
    """Whether (x, y), a point of the entry's cell, lies strictly inside the polygon of entry ``e``."""
    entry = index.entries[e]
    kind = entry.kind
    if kind == WHOLE:
        return True
    polygon = index.polygon_offset[m] + entry.polygon
    first, last = index.polygon_start[polygon], index.polygon_start[polygon + 1] - 1
    if kind == TEST_POLYGON:
        return point_in_polygon(index.polygon_xy, first, last + 1, x, y)
    # Walk from the cell's reference point to (x, y): each edge crossed on the way changes sides.
    grid = index.grid[m]
    cell = 1.0 / grid.inverse_cell
    rx = grid.x + (math.floor((x - grid.x) * grid.inverse_cell) + REFERENCE_X) * cell
    ry = grid.y + (math.floor((y - grid.y) * grid.inverse_cell) + REFERENCE_Y) * cell
    inside = kind != OUTSIDE_PART
    dx, dy = x - rx, y - ry
    xy = index.polygon_xy
    end = first + entry.edge
    start = end - 1 if end > first else last
    for _ in range(entry.count):
        ax, ay, bx, by = xy[start, 0], xy[start, 1], xy[end, 0], xy[end, 1]
        ux, uy = bx - ax, by - ay
        point_side = ux * (y - ay) - uy * (x - ax)
        if point_side == 0.0 and (x - ax) * (x - bx) <= 0.0 and (y - ay) * (y - by) <= 0.0:
            return False
        reference_side = ux * (ry - ay) - uy * (rx - ax)
        if (point_side > 0.0) != (reference_side > 0.0) and (dx * (ay - ry) - dy * (ax - rx) > 0.0) != (
            dx * (by - ry) - dy * (bx - rx) > 0.0
        ):
            inside = not inside
        start = end
        end = end + 1 if end < last else first
    return inside


@inlined_kernel
def in_layers(index, m, layers, x, y):
    """Whether (x, y) lies strictly inside a polygon of one of the layers, given as a sum of ``1 << MapLayer``."""
    group = find_group(index, m, x, y)
    return group >= 0 and group_in_layers(index, m, group, layers, x, y)


@inlined_kernel
def group_in_layers(index, m, group, layers, x, y):
    """As ``in_layers``, for a point whose group is known (0 or more)."""
    if index.groups[group].whole & layers:
        return True
    if index.groups[group].part & layers:
        for entry in range(index.groups[group].entry, index.groups[group + 1].entry):
            if (1 << index.entries[entry].layer) & layers and in_entry(index, m, entry, x, y):
                return True
    return False


@kernel
def in_layer(index, m, layer, x, y):
    """Whether (x, y) lies strictly inside a polygon of a layer (MapLayer)."""
    return in_layers(index, m, 1 << layer, x, y)


@kernel
def is_drivable(index, m, x, y):
    """Whether (x, y) lies strictly inside a roadblock, intersection, car park or drivable-area polygon."""
    return in_layers(index, m, DRIVABLE, x, y)


@kernel
def lanes_at(index, m, x, y, out):
    """Writes the polygon rows of the lanes and lane connectors that hold (x, y) to ``out`` (int32); returns their number.

    At most ``len(out)`` are written; MAX_LANES_AT_POINT is room enough.
    """
    group = find_group(index, m, x, y)
    count = 0
    if group < 0 or not (index.groups[group].whole | index.groups[group].part) & LANES:
        return count
    for entry in range(index.groups[group].entry, index.groups[group + 1].entry):
        if (1 << index.entries[entry].layer) & LANES and count < len(out) and in_entry(index, m, entry, x, y):
            out[count] = index.entries[entry].polygon
            count += 1
    return count


@inlined_kernel
def on_lane_of(index, m, flags, x, y):
    """Whether (x, y) lies strictly inside a lane or connector whose polygon row is flagged in ``flags`` (polygons,) bool."""
    group = find_group(index, m, x, y)
    if group < 0 or not (index.groups[group].whole | index.groups[group].part) & LANES:
        return False
    for entry in range(index.groups[group].entry, index.groups[group + 1].entry):
        if (1 << index.entries[entry].layer) & LANES and flags[index.entries[entry].polygon] and in_entry(index, m, entry, x, y):
            return True
    return False
