"""Tables that make the map part of an observation a lookup: nearest lane points by place along the route, room beside the route.

Everything is relative to the route, so turning or moving a whole scenario changes nothing that an agent sees.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from worldengine_envs.scenario.types import Scenario, VectorMap
from worldengine_envs.simulation.kernels import kernel
from worldengine_envs.simulation.map_index import DRIVABLE, MAX_LANES_AT_POINT, in_layers, lanes_at
from worldengine_envs.simulation.tables import GrowingTable

MAP_POINTS = 64  # lane points in an observation
LANE_SPACING_M = 5.0  # between points of a lane
ROUTE_SPACING_M = 2.0  # between points of the route table
STATION_EVERY = 2  # every so many route points have a list of lane points
AHEAD_M = 15.0  # lane points are the nearest to the point this far ahead on the route
REACH_M = 80.0  # and no further from it than this
MAX_ROOM_M = 10.0  # room beside a point is looked for this far
ROOM_STEP_M, SEAM_M = 0.5, 0.05


PLACE = np.dtype(
    [
        ("route_start", np.int64),  # first row of the scenario's route in `route`
        ("route_count", np.int64),  # points of its route, ROUTE_SPACING_M apart
        ("near_start", np.int64),  # first row of its stations in `near`, one for STATION_EVERY route points
    ]
)
NEAR = np.dtype(
    [
        ("point", np.int64),  # row of `point`, -1 = none
        ("light", np.int32),  # light l of the scenario that governs the point's lane, -1 = none
        ("on_route", np.float32),  # 1 where the point's lane is on the route
    ],
    align=True,
)


class MapTables(NamedTuple):
    """Flat tables of all scenarios of a bank."""

    places: np.ndarray  # (S,) PLACE
    route: np.ndarray  # (rows, 6) float64 x, y [m], yaw [rad], room to the left, right [m], speed limit [m/s], NaN = unknown
    near: np.ndarray  # (rows, MAP_POINTS) NEAR, nearest first
    point: np.ndarray  # (rows, 7) float64 x, y [m], cos yaw, sin yaw, room to the left, right [m], 1 on connectors


LAYOUT = {"places": (PLACE,), "route": (np.float64, (6,)), "near": (NEAR, (MAP_POINTS,)), "point": (np.float64, (7,))}


class MapTableBuilder:
    """Makes the tables of the scenarios of a bank, in the order of their rows."""

    def __init__(self):
        self._tables = {name: GrowingTable(name, *layout) for name, layout in LAYOUT.items()}
        self._maps: dict[int, tuple[VectorMap, int, np.ndarray]] = {}  # by id(): map, first row in `point`, lane of each point
        self.arrays = self._view()

    def __len__(self) -> int:
        return self._tables["places"].rows

    def _view(self) -> MapTables:
        return MapTables(**{name: table.data for name, table in self._tables.items()})

    def extend(self, bank, scenarios: list[Scenario]) -> None:
        """Adds the scenarios of the bank's rows ``len(self)`` onwards; ``bank`` already holds them."""
        for scenario in scenarios:
            m = int(bank.scenarios["map_row"][len(self)])
            first, lanes = self._add_map(bank.map_index, m, scenario.vector_map)
            self._add_scenario(bank.map_index, m, scenario, first, lanes)
        self.arrays = self._view()

    def _add_map(self, index, m: int, vector_map: VectorMap) -> tuple[int, np.ndarray]:
        """Returns the first row of the map's lane points and the lane (points,) of each."""
        if id(vector_map) not in self._maps:
            points, lanes = sample_lanes(vector_map, LANE_SPACING_M)
            room, yaw = np.empty((len(points), 2)), points[:, 2]
            measure_room(index, m, points, room)
            connector = vector_map.lane_is_connector[lanes].astype(float)
            first = self._tables["point"].append(np.column_stack([points[:, :2], np.cos(yaw), np.sin(yaw), room, connector]))
            self._maps[id(vector_map)] = vector_map, first, lanes
        return self._maps[id(vector_map)][1:]

    def _add_scenario(self, index, m: int, scenario: Scenario, first: int, lanes: np.ndarray) -> None:
        tables, vector_map = self._tables, scenario.vector_map
        route = resample(scenario.route.centerline[:, :2], ROUTE_SPACING_M)
        room, limit = np.empty((len(route), 2)), np.empty(len(route))
        measure_room(index, m, route, room)
        lane_of_polygon = np.full(vector_map.num_polygons, -1)
        lane_of_polygon[vector_map.lane_polygon] = np.arange(vector_map.num_lanes)
        on_route = np.zeros(vector_map.num_lanes, np.bool_)
        on_route[scenario.route.lanes] = True
        polygons = np.empty(MAX_LANES_AT_POINT, np.int32)
        limits_along(index, m, route, lane_of_polygon, on_route, vector_map.lane_speed_limit, polygons, limit)
        route_start = tables["route"].append(np.column_stack([route, room, limit]))
        points = tables["point"].data[first : first + len(lanes), :2]
        stations = np.minimum(np.arange(0, len(route), STATION_EVERY) + round(AHEAD_M / ROUTE_SPACING_M), len(route) - 1)
        found = np.empty((len(stations), MAP_POINTS), np.int64)
        nearest_points(route[stations, :2], points, REACH_M, np.empty(MAP_POINTS, np.int64), found)
        light_of_lane = np.full(vector_map.num_lanes, -1)
        light_of_lane[scenario.lights.lanes] = np.arange(len(scenario.lights.lanes))
        lane, near = np.append(lanes, 0)[found], np.zeros(found.shape, NEAR)
        near["point"] = np.where(found >= 0, found + first, -1)
        near["light"] = np.where(found >= 0, np.append(light_of_lane, -1)[lane], -1)
        near["on_route"] = (found >= 0) & np.append(on_route, False)[lane]
        tables["places"].append(np.array([(route_start, len(route), tables["near"].append(near))], PLACE))


def resample(xy: np.ndarray, spacing: float) -> np.ndarray:
    """Returns (points, 3) x, y [m], yaw [rad] every `spacing` metres along a polyline (n, 2), at least two points."""
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
    at = np.arange(max(math.floor(s[-1] / spacing) + 1, 2)) * spacing
    return np.column_stack([np.interp(at, s, xy[:, 0]), np.interp(at, s, xy[:, 1]), _directions(xy, s, at)])


def _directions(xy: np.ndarray, s: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Returns the direction [rad] of the pieces of a polyline with arclengths `s` at arclengths `at`; repeated points have none."""
    piece = np.clip(np.searchsorted(s, at, side="right") - 1, 0, np.flatnonzero(np.diff(s, append=s[-1]) > 1e-9).max(initial=0))
    step = xy[np.minimum(piece + 1, len(xy) - 1)] - xy[piece]
    return np.arctan2(step[:, 1], step[:, 0])


def sample_lanes(vector_map: VectorMap, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns (points, 3) x, y [m], yaw [rad] in the middle of pieces of about `spacing` metres of all lanes, and their lanes."""
    xy, offsets = vector_map.centerline, vector_map.centerline_offsets
    steps = np.hypot(*np.diff(xy, axis=0).T) if len(xy) else np.zeros(0)
    steps[offsets[1:-1] - 1] = 0.0  # no way leads from the end of a lane to the start of the next one
    s = np.concatenate([[0.0], np.cumsum(steps)])
    start, length = s[offsets[:-1]], s[offsets[1:] - 1] - s[offsets[:-1]]
    pieces = np.where(length > 1e-6, np.maximum(np.rint(length / spacing), 1), 0).astype(np.int64)
    lanes = np.repeat(np.arange(len(pieces)), pieces)
    number = np.arange(len(lanes)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    at = start[lanes] + (number + 0.5) * length[lanes] / pieces[lanes]
    return np.column_stack([np.interp(at, s, xy[:, 0]), np.interp(at, s, xy[:, 1]), _directions(xy, s, at)]), lanes


@kernel
def measure_room(index, m, points, out):
    """Writes how far the drivable area reaches to the left and right of points (n, 3 or more) x, y, yaw to ``out`` (n, 2) [m].

    At most MAX_ROOM_M; 0 where the point itself is off it. A border between two polygons is in neither of them: where the point
    lies on one, the better of two places SEAM_M before and behind it counts.
    """
    for i in range(len(points)):
        cos, sin = math.cos(points[i, 2]), math.sin(points[i, 2])
        for side in range(2):
            sign = 1.0 if side == 0 else -1.0
            nx, ny = -sign * sin, sign * cos
            out[i, side] = _reach(index, m, points[i, 0], points[i, 1], nx, ny)
            if out[i, side] == 0.0:
                for shift in (-SEAM_M, SEAM_M):
                    x, y = points[i, 0] + shift * cos, points[i, 1] + shift * sin
                    out[i, side] = max(out[i, side], _reach(index, m, x, y, nx, ny))


@kernel
def _reach(index, m, x, y, nx, ny):
    """How far one can go from (x, y) along a unit vector on the drivable area: steps of ROOM_STEP_M, then bisection to 1 cm [m]."""
    if not in_layers(index, m, DRIVABLE, x, y):
        return 0.0
    inside, outside = 0.0, ROOM_STEP_M
    while in_layers(index, m, DRIVABLE, x + outside * nx, y + outside * ny):
        inside, outside = outside, outside + ROOM_STEP_M
        if inside >= MAX_ROOM_M:
            return MAX_ROOM_M
    while outside - inside > 0.01:
        middle = 0.5 * (inside + outside)
        if in_layers(index, m, DRIVABLE, x + middle * nx, y + middle * ny):
            inside = middle
        else:
            outside = middle
    return inside


@kernel
def limits_along(index, m, points, lane_of_polygon, on_route, limits, polygons, out):
    """Writes the speed limit [m/s] at points (n, 2 or more) to ``out`` (n,): of a lane on the route, else of any lane, else NaN.

    ``polygons`` (MAX_LANES_AT_POINT,) int32 is overwritten.
    """
    for i in range(len(points)):
        out[i] = math.nan
        best = False
        for j in range(lanes_at(index, m, points[i, 0], points[i, 1], polygons)):
            lane = lane_of_polygon[polygons[j]]
            if lane >= 0 and limits[lane] == limits[lane] and (out[i] != out[i] or (on_route[lane] and not best)):
                out[i], best = limits[lane], on_route[lane]


@kernel
def nearest_points(centers, points, reach, best, out):
    """Writes the rows of the points (n, 2) nearest to each centre (c, 2), nearest first, to ``out`` (c, k); -1 = none within reach.

    Distances are compared in millimetres and ties go to the lower row, so that rounding does not decide. ``best`` (k,) int64 is
    overwritten.
    """
    k = out.shape[1]
    for c in range(len(centers)):
        count = 0
        for i in range(len(points)):
            dx, dy = points[i, 0] - centers[c, 0], points[i, 1] - centers[c, 1]
            if abs(dx) > reach or abs(dy) > reach:
                continue
            distance = np.int64(math.floor(1000.0 * math.sqrt(dx * dx + dy * dy) + 0.5))
            if distance > 1000.0 * reach or (count == k and distance >= best[k - 1]):
                continue
            j = min(count, k - 1)
            while j > 0 and best[j - 1] > distance:
                best[j], out[c, j] = best[j - 1], out[c, j - 1]
                j -= 1
            best[j], out[c, j] = distance, i
            count = min(count + 1, k)
        for j in range(count, k):
            out[c, j] = -1
