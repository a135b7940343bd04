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
    OUTSIDE_PART,
    REFERENCE_X,
    REFERENCE_Y,
    TEST_POLYGON,
    WHOLE,
    count_cells,
    fill_cells,
    group_cells,
)
from worldengine_envs.simulation.tables import GrowingTable

CELL_M = 1.5  # side of a cell [m]; larger where a map would need more than MAX_CELLS
MAX_CELLS = 1 << 20
MAX_EXTENT_M = 50_000.0
MAX_ENTRIES = 1 << 26  # polygons by cell, and edges by cell, of one map: more are many polygons over one another
MAX_LANES_AT_POINT = 16  # lanes that may lie over one another

DRIVABLE = (1 << MapLayer.ROADBLOCK) | (1 << MapLayer.INTERSECTION) | (1 << MapLayer.CARPARK_AREA) | (1 << MapLayer.DRIVABLE_AREA)
LANES = (1 << MapLayer.LANE) | (1 << MapLayer.LANE_CONNECTOR)


class MapIndex(NamedTuple):
    """Arrays of all maps, flat; everything of map ``m`` is counted from its offsets.

    A cell belongs to a group: cells without any border share one group for each set of covering polygons, a cell with a border is
    a group of its own.
    """

    origin: np.ndarray  # (maps, 2) float64: x, y of the grid's lower corner [m]
    inverse_cell: np.ndarray  # (maps,) float64: cells a metre
    shape: np.ndarray  # (maps, 2) int64: cells along x, y
    cell_offset: np.ndarray  # (maps + 1,) int64
    cell_group: np.ndarray  # (cells,) int32 group, counted from the map's first one; 0 = no polygon
    group_offset: np.ndarray  # (maps + 1,) int64
    group_whole: np.ndarray  # (groups,) int32: bit 1 << layer set where a polygon of that layer covers the cell wholly
    group_part: np.ndarray  # (groups,) int32: the same for polygons that cover it partly
    group_entry: np.ndarray  # (groups + 1,) int64: rows of entries
    entry_polygon: np.ndarray  # (entries,) int32: row of the polygon in its map
    entry_layer: np.ndarray  # (entries,) int32: 1 << layer
    entry_kind: np.ndarray  # (entries,) int8: OUTSIDE_PART, INSIDE_PART, WHOLE, TEST_POLYGON (see map_raster)
    entry_edge: np.ndarray  # (entries + 1,) int64: rows of edges
    edges: np.ndarray  # (edges,) int32: vertex of the polygon's ring at which the edge ends
    polygon_offset: np.ndarray  # (maps + 1,) int64
    polygon_start: np.ndarray  # (polygons + 1,) int64: rows of vertices
    polygon_xy: np.ndarray  # (vertices, 2) float64 [m]
    polygon_layer: np.ndarray  # (polygons,) int8, MapLayer


class _Part(NamedTuple):
    """One map, compiled: the same arrays as in ``MapIndex``, offsets from 0."""

    origin: tuple[float, float]
    cell: float
    shape: tuple[int, int]
    cell_group: np.ndarray
    group_whole: np.ndarray
    group_part: np.ndarray
    group_entry: np.ndarray
    entry_polygon: np.ndarray
    entry_layer: np.ndarray
    entry_kind: np.ndarray
    entry_edge: np.ndarray
    edges: np.ndarray
    polygon_start: np.ndarray
    polygon_xy: np.ndarray
    polygon_layer: np.ndarray


def _compile(xy, offsets, layers, cell_m=CELL_M) -> _Part:
    """Lays the grid over one map."""
    xy = np.ascontiguousarray(xy, dtype=np.float64).reshape(-1, 2)
    offsets = np.ascontiguousarray(offsets, dtype=np.int64)
    layers = np.ascontiguousarray(layers, dtype=np.int8)
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
    grid = (origin[0], origin[1], cell, nx, ny)
    _check_overlap(xy, offsets, cell)
    entries, edge_counts = count_cells(xy, offsets, *grid)
    if max(entries.sum(), edge_counts.sum()) > MAX_ENTRIES:
        raise _too_dense(int(max(entries.sum(), edge_counts.sum())), MAX_ENTRIES)
    cell_entry, cell_edge = np.concatenate([[0], np.cumsum(entries)]), np.concatenate([[0], np.cumsum(edge_counts)])
    polygon, kind, entry_edge, edges = fill_cells(xy, offsets, *grid, cell_entry, cell_edge)
    group, first = group_cells(cell_entry, polygon, kind)
    return _gather(origin, cell, (nx, ny), group, first, cell_entry, polygon, kind, entry_edge, edges, offsets, xy, layers)


def _check_overlap(xy: np.ndarray, offsets: np.ndarray, cell: float) -> None:
    """Refuses polygons whose boxes cover, or whose edges cross, so many cells that even counting them would take minutes."""
    if len(offsets) < 2:
        return
    size = np.maximum.reduceat(xy, offsets[:-1]) - np.minimum.reduceat(xy, offsets[:-1])
    covered = np.prod(size / cell + 1.0, axis=1).sum()
    crossed = np.abs(np.diff(xy, axis=0)).sum() / cell + len(xy)
    if max(covered, crossed) > 16 * MAX_ENTRIES:
        raise _too_dense(int(max(covered, crossed)), 16 * MAX_ENTRIES)


def _too_dense(count: int, limit: int) -> DataError:
    problem = f"polygons lie over one another: {count} times one covers a cell, more than {limit}"
    return DataError(problem, field="vector_map.polygon_xy", remedy="Merge polygons of one layer, or cut the map to the scenario")


def _gather(origin, cell, shape, group, first, cell_entry, polygon, kind, entry_edge, edges, offsets, xy, layers) -> _Part:
    """Keeps the entries of one cell for each group (``first``) and their edges."""
    counts = cell_entry[first + 1] - cell_entry[first]
    counts[0] = 0  # group 0: no polygon
    group_entry = np.concatenate([[0], np.cumsum(counts)])
    rows = np.repeat(cell_entry[first] - group_entry[:-1], counts) + np.arange(group_entry[-1])
    edge_counts = entry_edge[rows + 1] - entry_edge[rows]
    new_edge = np.concatenate([[0], np.cumsum(edge_counts)])
    edge_rows = np.repeat(entry_edge[rows] - new_edge[:-1], edge_counts) + np.arange(new_edge[-1])
    bits = (1 << layers.astype(np.int32))[polygon[rows]]
    whole, part = np.zeros(len(first), np.int32), np.zeros(len(first), np.int32)
    owner = np.repeat(np.arange(len(first)), counts)
    is_whole = kind[rows] == WHOLE
    np.bitwise_or.at(whole, owner[is_whole], bits[is_whole])
    np.bitwise_or.at(part, owner[~is_whole], bits[~is_whole])
    return _Part(
        (float(origin[0]), float(origin[1])),
        cell,
        shape,
        group,
        whole,
        part,
        group_entry,
        polygon[rows],
        bits.astype(np.int32),
        kind[rows],
        new_edge,
        edges[edge_rows],
        offsets,
        xy,
        layers,
    )


_CHAINED = ("cell_offset", "group_offset", "polygon_offset", "group_entry", "entry_edge", "polygon_start")  # end at a total


def _join(parts: Sequence[_Part]) -> MapIndex:
    """Puts compiled maps behind one another."""
    builder = MapIndexBuilder()
    for part in parts:
        builder.add_part(part)
    return builder.index()


class MapIndexBuilder:
    """Collects maps one by one into arrays that grow by doubling; each is compiled once, and ``index()`` copies nothing."""

    def __init__(self, cell_m: float = CELL_M):
        self._cell_m = cell_m
        floats, links = {"origin": (2,), "inverse_cell": (), "polygon_xy": (2,)}, {"shape": (2,)}
        small = {"entry_kind": np.int8, "polygon_layer": np.int8}
        self._tables = {}
        for name in MapIndex._fields:
            dtype = np.float64 if name in floats else np.int64 if name in (*links, *_CHAINED) else small.get(name, np.int32)
            self._tables[name] = GrowingTable(f"map_index.{name}", dtype, floats.get(name, links.get(name, ())))
        for name in _CHAINED:
            self._tables[name].append_row(0)

    def __len__(self) -> int:
        return self._tables["inverse_cell"].rows

    def add(self, vector_map: VectorMap) -> int:
        """Compiles a map and returns its number. Raises DataError where polygons are not finite or too far apart."""
        return self.add_polygons(vector_map.polygon_xy, vector_map.polygon_offsets, vector_map.polygon_layer)

    def add_polygons(self, xy: np.ndarray, offsets: np.ndarray, layers: np.ndarray) -> int:
        """The same from polygon rows: xy (vertices, 2) [m], offsets (polygons + 1,), layers (polygons,) MapLayer."""
        return self.add_part(_compile(xy, offsets, layers, self._cell_m))

    def add_part(self, part: _Part) -> int:
        """Puts a compiled map behind the others and returns its number."""
        lengths = {
            "cell_offset": len(part.cell_group),
            "group_offset": len(part.group_whole),
            "polygon_offset": len(part.polygon_layer),
        }
        for name, table in self._tables.items():
            if name == "inverse_cell":
                table.append_row(1.0 / part.cell)
            elif name in ("origin", "shape"):
                table.append_row(getattr(part, name))
            elif name in lengths:
                table.append_row(table.used[-1] + lengths[name])
            elif name in _CHAINED:
                table.append(table.used[-1] + getattr(part, name)[1:])
            else:
                table.append(getattr(part, name))
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


def append_map(index: MapIndex, vector_map: VectorMap) -> MapIndex:
    """Returns a new index with one more map behind the others (use ``MapIndexBuilder`` for many)."""
    return _join(
        [
            *(_part(index, m) for m in range(len(index.origin))),
            _compile(vector_map.polygon_xy, vector_map.polygon_offsets, vector_map.polygon_layer),
        ]
    )


def _part(index: MapIndex, m: int) -> _Part:
    """Cuts one map out of an index again."""
    cells, groups = slice(*index.cell_offset[m : m + 2]), slice(*index.group_offset[m : m + 2])
    group_entry = index.group_entry[groups.start : groups.stop + 1]
    entries = slice(group_entry[0], group_entry[-1])
    entry_edge = index.entry_edge[entries.start : entries.stop + 1]
    polygons = slice(*index.polygon_offset[m : m + 2])
    start = index.polygon_start[polygons.start : polygons.stop + 1]
    return _Part(
        tuple(index.origin[m]),
        1.0 / index.inverse_cell[m],
        tuple(index.shape[m]),
        index.cell_group[cells],
        index.group_whole[groups],
        index.group_part[groups],
        group_entry - group_entry[0],
        index.entry_polygon[entries],
        index.entry_layer[entries],
        index.entry_kind[entries],
        entry_edge - entry_edge[0],
        index.edges[entry_edge[0] : entry_edge[-1]],
        start - start[0],
        index.polygon_xy[start[0] : start[-1]],
        index.polygon_layer[polygons],
    )


@inlined_kernel
def find_group(index, m, x, y):
    """Returns the group (row of the ``group_*`` arrays) of the cell at (x, y), -1 outside the grid or over no polygon."""
    inverse = index.inverse_cell[m]
    gx, gy = (x - index.origin[m, 0]) * inverse, (y - index.origin[m, 1]) * inverse
    nx, ny = index.shape[m, 0], index.shape[m, 1]
    if not (gx >= 0.0 and gy >= 0.0 and gx < nx and gy < ny):
        return -1
    group = index.cell_group[index.cell_offset[m] + int(gy) * nx + int(gx)]
    return index.group_offset[m] + group if group > 0 else -1


@inlined_kernel
def in_entry(index, m, entry, x, y):
    """Whether (x, y), a point of the entry's cell, lies strictly inside the entry's polygon."""
    kind = index.entry_kind[entry]
    if kind == WHOLE:
        return True
    if kind == TEST_POLYGON:
        row = index.polygon_offset[m] + index.entry_polygon[entry]
        return point_in_polygon(index.polygon_xy, index.polygon_start[row], index.polygon_start[row + 1], x, y)
    # Walk from the cell's reference point to (x, y): each edge crossed on the way changes sides.
    cell = 1.0 / index.inverse_cell[m]
    ox, oy = index.origin[m, 0], index.origin[m, 1]
    rx = ox + (math.floor((x - ox) * index.inverse_cell[m]) + REFERENCE_X) * cell
    ry = oy + (math.floor((y - oy) * index.inverse_cell[m]) + REFERENCE_Y) * cell
    inside = kind != OUTSIDE_PART
    dx, dy = x - rx, y - ry
    xy = index.polygon_xy
    polygon = index.polygon_offset[m] + index.entry_polygon[entry]
    first, last = index.polygon_start[polygon], index.polygon_start[polygon + 1] - 1
    for e in range(index.entry_edge[entry], index.entry_edge[entry + 1]):
        end = first + index.edges[e]
        start = end - 1 if end > first else last
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
    return inside


@inlined_kernel
def in_layers(index, m, layers, x, y):
    """Whether (x, y) lies strictly inside a polygon of one of the layers, given as a sum of ``1 << MapLayer``."""
    group = find_group(index, m, x, y)
    return group >= 0 and group_in_layers(index, m, group, layers, x, y)


@inlined_kernel
def group_in_layers(index, m, group, layers, x, y):
    """As ``in_layers``, for a point whose group is known (0 or more)."""
    if index.group_whole[group] & layers:
        return True
    if index.group_part[group] & layers:
        for entry in range(index.group_entry[group], index.group_entry[group + 1]):
            if index.entry_layer[entry] & layers and in_entry(index, m, entry, x, y):
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
    if group < 0 or not (index.group_whole[group] | index.group_part[group]) & LANES:
        return count
    for entry in range(index.group_entry[group], index.group_entry[group + 1]):
        if index.entry_layer[entry] & LANES and count < len(out) and in_entry(index, m, entry, x, y):
            out[count] = index.entry_polygon[entry]
            count += 1
    return count


@inlined_kernel
def on_lane_of(index, m, flags, x, y):
    """Whether (x, y) lies strictly inside a lane or connector whose polygon row is flagged in ``flags`` (polygons,) bool."""
    group = find_group(index, m, x, y)
    if group < 0 or not (index.group_whole[group] | index.group_part[group]) & LANES:
        return False
    for entry in range(index.group_entry[group], index.group_entry[group + 1]):
        if index.entry_layer[entry] & LANES and flags[index.entry_polygon[entry]] and in_entry(index, m, entry, x, y):
            return True
    return False
