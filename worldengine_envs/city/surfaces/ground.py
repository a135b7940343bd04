"""The ground of a street: what covers it, where the road ends, and its markings."""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np

from worldengine_envs.city.surfaces import fields, lanes, markings
from worldengine_envs.city.surfaces.textures import Area
from worldengine_envs.city.surfaces.types import Ground
from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import MapLayer, Scenario, VectorMap

CELL, BIN = 0.5, 4.0  # of the area map and of the bins of stripes [m]
MARGIN = 110.0  # of the map around where cameras will be [m]
REACH = 12.0  # from the road, how far its distance is known [m]
RIM = 1.5  # from the edge, how far the distance is known on the road [m]
DRIVABLE = (MapLayer.DRIVABLE_AREA, MapLayer.ROADBLOCK, MapLayer.INTERSECTION, MapLayer.CARPARK_AREA)  # as in the scores
MAX_CELLS = 2**25  # of the map: 2.9 km square, about 0.9 GB while it is made
DENSE_PERCENT = 65  # of maps have closed rows of houses; the others have gardens


class Road(NamedTuple):
    """Cells around where cameras will be."""

    origin: np.ndarray  # (2,) corner of the first cell [m]
    cell: float  # [m]
    area: np.ndarray  # (rows, columns) uint8 Area
    edge: np.ndarray  # (rows, columns) float32 distance from the road's edge [m], negative on the road, from -RIM to REACH
    near: np.ndarray  # (polygons,) bool: polygons of the map that may touch the cells


def map_seed(vector_map: VectorMap) -> int:
    """Returns a number that depends on the map alone: scenarios that share a map look alike."""
    return zlib.crc32(np.rint(vector_map.polygon_xy * 100.0).astype("<i4").tobytes())


def is_dense(seed: int) -> bool:
    """Returns whether closed rows of houses stand on paving along a map's streets, rather than houses in gardens."""
    return seed // 1000 % 100 < DENSE_PERCENT


def camera_path(scenario: Scenario) -> np.ndarray:
    """Returns (points, 2) x, y [m] of where the ego drove or is meant to drive, at about 1 m."""
    tracks = scenario.tracks
    logged = tracks.state[0, tracks.valid[0], :2]
    if len(logged) > 1:
        ahead = np.hypot(*np.diff(logged, axis=0).T)
        rows = np.floor(np.concatenate(([0.0], np.cumsum(ahead))))
        logged = logged[np.unique(rows, return_index=True)[1]]
    return np.concatenate((logged, scenario.route.centerline[:, :2]))


def _rings(vector_map: VectorMap, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rings of these polygons as flat vertices and offsets."""
    if not len(chosen):
        return np.empty((0, 2)), np.zeros(1, np.int64)
    rings = [vector_map.polygon(row) for row in chosen]
    return np.concatenate(rings), np.concatenate(([0], np.cumsum([len(ring) for ring in rings])))


def _bounds(xy: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Returns (rings, 4) lowest x, y, highest x, y [m] of rings, flat vertices and offsets."""
    if len(offsets) == 1:
        return np.empty((0, 4))
    return np.hstack([bound.reduceat(xy, offsets[:-1], axis=0) for bound in (np.minimum, np.maximum)])


def make_road(scenario: Scenario, path: np.ndarray) -> Road:
    """Returns the cells around a path (points, 2) [m]: which are road, and how far the others are from it.

    Raises:
        DataError: The path goes so far that there were too many cells.
    """
    m = scenario.vector_map
    origin = np.floor((path.min(0) - MARGIN) / BIN) * BIN
    bins = np.ceil((path.max(0) + MARGIN - origin) / BIN).astype(int)
    columns, rows = (bins * round(BIN / CELL)).tolist()
    if rows * columns > MAX_CELLS:
        problem = f"the ego's path needs a map of {columns * CELL:.0f} x {rows * CELL:.0f} m, too large for a street"
        raise DataError(problem, scenario=scenario.id, field="tracks.state", remedy="Cut the recording into shorter ones")
    bounds = _bounds(m.polygon_xy, m.polygon_offsets)
    near = (bounds[:, :2] < origin + bins * BIN + REACH).all(1) & (bounds[:, 2:] > origin - REACH).all(1)
    layer = m.polygon_layer
    drivable = np.flatnonzero(np.isin(layer, DRIVABLE) & near)
    if not len(drivable):  # a map that has but lanes
        drivable = np.flatnonzero(np.isin(layer, (MapLayer.LANE, MapLayer.LANE_CONNECTOR)) & near)
    order = np.array([Area.ROAD] * len(MapLayer), np.uint8)
    order[MapLayer.INTERSECTION], order[MapLayer.CARPARK_AREA] = Area.JUNCTION, Area.CARPARK
    drivable = drivable[np.argsort(order[layer[drivable]], kind="stable")]
    area = np.full((rows, columns), Area.PAVED if is_dense(map_seed(m)) else Area.GRASS, np.uint8)
    xy, offsets = _rings(m, drivable)
    edge = np.full((rows, columns), REACH, np.float32)
    fields.edge_distance(edge, origin, CELL, xy, offsets, REACH)
    fields.fill(area, origin, CELL, xy, offsets, order[layer[drivable]])
    rim = np.full((rows, columns), RIM, np.float32)
    fields.rim_distance(rim, origin, CELL, xy, offsets, bounds[drivable], RIM)
    np.negative(rim, out=edge, where=area >= Area.ROAD)
    return Road(origin, CELL, area, edge, near)


def lane_rows(m: VectorMap, near: np.ndarray) -> np.ndarray:
    """Returns (lanes,) int32 the lanes that are marked as such: all but the connectors that turn or are crossed."""
    here = near[m.lane_polygon]
    connectors = np.flatnonzero(m.lane_is_connector & here)
    simple = connectors[lanes.uncrossed(connectors, m.centerline, m.centerline_offsets)]
    return np.sort(np.concatenate((np.flatnonzero(~m.lane_is_connector & here), simple))).astype(np.int32)


def make_ground(scenario: Scenario, road: Road) -> tuple[Ground, lanes.LaneSamples]:
    """Returns the ground of a road, without lamps and shadows, and its lanes metre by metre."""
    m, (origin, _, area, edge, near) = scenario.vector_map, road
    rows_of_lanes = lane_rows(m, near)
    lane_at = np.full(area.shape, -1, np.int32)
    fields.fill(lane_at, origin, CELL, *_rings(m, m.lane_polygon[rows_of_lanes]), rows_of_lanes)
    samples = lanes.sample_lanes(rows_of_lanes, scenario, edge, lane_at, origin, CELL)
    rows, columns = (round(n * CELL / BIN) for n in area.shape)
    stripes, colors = markings.paint(scenario, samples, np.stack((origin, origin + BIN * np.array((columns, rows)))), map_seed(m))
    bin_offsets, bin_stripes = markings.bin_stripes(stripes, origin, BIN, rows, columns)
    lit, shadow = np.zeros(area.shape, np.float32), np.zeros(area.shape, np.float32)
    return Ground(origin, CELL, area, stripes, colors, BIN, bin_offsets, bin_stripes, columns, edge, lit, shadow), samples
