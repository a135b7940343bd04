"""The map of a log on its way to a ``VectorMap``: what a format gives, then everything it lacks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import MapLayer, VectorMap
from worldengine_envs.sources.areas import drivable_area, intersection_areas, simple_rings
from worldengine_envs.sources.lane_graph import complete_graph
from worldengine_envs.sources.lane_shapes import clean_line, clean_ring, complete_polygons
from worldengine_envs.sources.optional import require

MAP_RADIUS_M = 200.0  # how far from the ego's path the map is kept
MAX_LANE_M = 10_000.0  # a longer lane is a mistake, and would be resampled to any number of points


@dataclass
class RawLane:
    """One lane as a format gives it; what it does not say is None, NaN or empty."""

    token: str
    center: np.ndarray  # (n, 2) m, in driving direction
    polygon: np.ndarray | None = None  # (m, 2) m, open ring
    half_width: np.ndarray | None = None  # (n, 2) m: left, right; 0 = unknown
    connector: bool | None = None  # inside an intersection
    speed_limit: float = math.nan  # m/s
    successors: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)  # same direction, nearest first
    right: list[str] = field(default_factory=list)


@dataclass
class RawRoad:
    """Everything about the ground that a log gives, local coordinates [m]."""

    lanes: list[RawLane]
    drivable: object | None = None  # shapely geometry, where the format has it
    drivable_is_whole: bool = True  # false: it leaves out car parks and the like
    extra_drivable: list[np.ndarray] = field(default_factory=list)  # rings of driveways and the like
    bike_lanes: list[RawLane] = field(default_factory=list)  # drivable, but no lanes for cars
    edges: list[np.ndarray] = field(default_factory=list)  # (n, 2) physical road edges
    crosswalks: list[np.ndarray] = field(default_factory=list)  # rings
    carparks: list[np.ndarray] = field(default_factory=list)


def build_map(road: RawRoad, ego_xy: np.ndarray, swept: np.ndarray | None, derived: set[str]) -> VectorMap:
    """Returns the map within 200 m of the ego's path, with all that the format lacks derived.

    Args:
        road: What the format gives.
        ego_xy: (steps, 2) m, the ego's path.
        swept: (steps, 4, 2) m, the ego's boxes; where the drivable area is derived, it includes them.
        derived: Names of derived fields; added to.

    Raises:
        DataError: No usable lane is near the ego's path.
    """
    shapely = require("shapely")
    near = shapely.LineString(np.vstack([ego_xy, ego_xy[-1:] + 0.1])).simplify(0.5).buffer(MAP_RADIUS_M, quad_segs=4)
    road.lanes = _usable(road.lanes, near)
    road.bike_lanes = _usable(road.bike_lanes, near)
    if not road.lanes:
        raise DataError(f"no lane lies within {MAP_RADIUS_M:g} m of the ego's path", field="map_features")
    complete_polygons(road.lanes + road.bike_lanes, road.edges, derived)
    graph = complete_graph(road.lanes, derived)
    rings = [
        (MapLayer.LANE_CONNECTOR if c else MapLayer.LANE, lane.polygon) for lane, c in zip(road.lanes, graph.connector, strict=True)
    ]
    rings += [(MapLayer.INTERSECTION, ring) for ring in intersection_areas(road.lanes, graph.connector, derived)]
    area = drivable_area(road, near, swept, derived)
    rings += [(MapLayer.DRIVABLE_AREA, ring) for ring in simple_rings(area)]
    for layer, areas in ((MapLayer.CROSSWALK, road.crosswalks), (MapLayer.CARPARK_AREA, road.carparks)):
        cleaned = [clean_ring(ring) for ring in areas]
        rings += [(layer, ring) for ring in cleaned if ring is not None and near.intersects(shapely.Polygon(ring))]
    return _assemble(road.lanes, graph, rings)


def _usable(lanes: list[RawLane], near) -> list[RawLane]:
    """Drops lanes that are far away or have no length, and repeated points of the others; raises DataError for endless ones."""
    shapely = require("shapely")
    out, seen = [], set()
    for lane in lanes:
        center, keep = clean_line(lane.center)
        if center is None or lane.token in seen or not near.intersects(shapely.LineString(center)):
            continue
        length = np.hypot(*np.diff(center, axis=0).T).sum()
        if length > MAX_LANE_M:
            raise DataError(f"is {length:.3g} m long, more than {MAX_LANE_M:g}", field=f"lane {lane.token[:60]}")
        lane.center = center
        lane.half_width = lane.half_width[keep] if lane.half_width is not None and len(lane.half_width) == len(keep) else None
        lane.polygon = None if lane.polygon is None else clean_ring(lane.polygon)
        seen.add(lane.token)
        out.append(lane)
    return out


def _assemble(lanes, graph, rings) -> VectorMap:
    centers = [_thin(lane.center) for lane in lanes]
    limits = [lane.speed_limit if 0.5 < lane.speed_limit < 60.0 else math.nan for lane in lanes]
    return VectorMap(
        lane_tokens=tuple(lane.token for lane in lanes),
        lane_is_connector=graph.connector,
        lane_speed_limit=np.array(limits, np.float64),
        lane_roadblock=graph.roadblock,
        lane_left=graph.left,
        lane_right=graph.right,
        lane_polygon=np.arange(len(lanes), dtype=np.int32),
        centerline=np.concatenate(centers),
        centerline_offsets=offsets_of(centers),
        successors=np.concatenate([np.array(s, np.int32) for s in graph.successors]),
        successor_offsets=offsets_of(graph.successors),
        polygon_xy=np.concatenate([ring for _, ring in rings]),
        polygon_offsets=offsets_of([ring for _, ring in rings]),
        polygon_layer=np.array([layer for layer, _ in rings], np.int8),
    )


def _thin(line: np.ndarray) -> np.ndarray:
    """Returns the line without points that lie within 1 cm of the line through their neighbours."""
    return np.asarray(require("shapely").LineString(line).simplify(0.01).coords)


def offsets_of(parts) -> np.ndarray:
    """Returns (len(parts) + 1,) int32 offsets of ragged parts laid end to end."""
    return np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int32)
