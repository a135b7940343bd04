"""The bank: many scenarios and maps compiled into flat arrays that the world step, the scorer and the observations read.

Row ``s`` is a scenario, ``m`` a map, ``k`` a step since the scenario's start (0.1 s each), ``a`` a row of its tracks (0 = ego).
Ragged tables are flat; a scenario knows the row where its part begins. Arrays have spare capacity at their ends, which holds zeros.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import STEP_S, AgentType, Scenario, VectorMap, initial_ego_state
from worldengine_envs.simulation.idm import parameter_table
from worldengine_envs.simulation.map_index import MapIndex, MapIndexBuilder
from worldengine_envs.simulation.paths import build_path, is_static, nearest_lane
from worldengine_envs.simulation.recordings import check_tracks, compile_lights, compile_log
from worldengine_envs.simulation.stop_lines import governed_lanes, stop_lines
from worldengine_envs.simulation.tables import GrowingTable

LOG, IDM, PLAN = 0, 1, 2  # who moves an agent: its log, the driver model along its own path, or a plan handed in
MODES = {"log": LOG, "idm": IDM, "plan": PLAN}


class Bank(NamedTuple):
    """Flat arrays of all compiled scenarios and maps; see the module for what the indices mean."""

    # scenarios: (S, ...)
    map_row: np.ndarray  # (S,) int32 row m of its map
    start_step: np.ndarray  # (S,) int32 step of the recording at which driving starts (k = 0)
    num_agents: np.ndarray  # (S,) int32 rows of its tracks, the ego (row 0) included
    ego_start: np.ndarray  # (S, 11) float64 state of the ego at k = 0, order as in simulation.bicycle
    vehicle: np.ndarray  # (S, 4) float64 length, width, wheel base, rear axle to centre of the ego [m]
    speed_limit: np.ndarray  # (S,) float64 limit of the lane where the ego starts [m/s], NaN = unknown
    p_ref: np.ndarray  # (S,) float64 progress of the reference motion over the bank's horizon [m], NaN = none stored
    goal: np.ndarray  # (S, 2) float64 x, y [m]
    route_start: np.ndarray  # (S,) int64 first row of its route in `route` and `route_s`
    route_count: np.ndarray  # (S,) int32 points of its route
    on_route_start: np.ndarray  # (S,) int64: polygon p of its map is on the route if on_route[on_route_start[s] + p]
    log_start: np.ndarray  # (S,) int64: agent a at step k is row log_start[s] + k * num_agents[s] + a of `log` and `log_valid`
    agent_start: np.ndarray  # (S,) int64: agent a is row agent_start[s] + a of the arrays agent_*
    light_start: np.ndarray  # (S,) int64: light l at step k is row light_start[s] + k * num_lights[s] + l of `light_state`
    num_lights: np.ndarray  # (S,) int32
    light_lane_start: np.ndarray  # (S,) int64: light l governs lane light_lane[light_lane_start[s] + l]
    # routes, logs, lights: flat
    route: np.ndarray  # (rows, 3) float64 x, y [m], yaw [rad]
    route_s: np.ndarray  # (rows,) float64 arclength from the route's first point [m]
    on_route: np.ndarray  # (rows,) bool by polygon of the scenario's map (lanes and connectors on the route)
    log: np.ndarray  # (rows, 10) float64 x, y, yaw, vx, vy, speed, cos yaw, sin yaw, length, width; box centre, time-major
    log_valid: np.ndarray  # (rows,) bool; gaps up to 1 s filled, tracks alive at the end extrapolated LOOKAHEAD_STEPS
    light_state: np.ndarray  # (rows,) int8 LightState; the last one is held for LOOKAHEAD_STEPS past the end
    light_lane: np.ndarray  # (rows,) int32 lane rows of the map
    # agents of a scenario: flat, row agent_start[s] + a
    agent_type: np.ndarray  # (rows,) int8 AgentType
    agent_mode: np.ndarray  # (rows,) int8 LOG, IDM or PLAN
    agent_first: np.ndarray  # (rows,) int32 first step k >= 0 at which it is valid, -1 = never again
    agent_static: np.ndarray  # (rows,) bool: it hardly moves in the whole recording; as an IDM agent it stays
    path_s0: np.ndarray  # (rows,) float64 arclength on its path at step agent_first [m]
    path_start: np.ndarray  # (rows,) int64 first row of its path in `path`
    path_count: np.ndarray  # (rows,) int32 points of its path, 0 = none
    path_ds: np.ndarray  # (rows,) float64 spacing of its path's points [m]
    stop_start: np.ndarray  # (rows,) int64 first row of the stop lines on its path
    stop_count: np.ndarray  # (rows,) int32
    path: np.ndarray  # (points, 4) float64 x, y [m], yaw [rad, unwrapped], desired speed [m/s], at equal spacing
    stop_s: np.ndarray  # (rows,) float64 arclength of the stop line [m], ascending in a path
    stop_light: np.ndarray  # (rows,) int32 light l of the scenario that governs it
    idm: np.ndarray  # (3, 8) float64 driver model's parameters by AgentType, order of idm.IDMParameters
    # maps: (M,), lanes and their points flat
    map_polygons: np.ndarray  # (M,) int32 number of polygons
    map_lane_start: np.ndarray  # (M,) int64: lane l of map m is row map_lane_start[m] + l of the arrays lane_*
    map_lane_count: np.ndarray  # (M,) int32
    lane_polygon: np.ndarray  # (lanes,) int32 polygon row of the map
    lane_limit: np.ndarray  # (lanes,) float64 speed limit [m/s], NaN = unknown
    lane_connector: np.ndarray  # (lanes,) bool inside an intersection
    lane_point_start: np.ndarray  # (lanes,) int64 first row of its centreline in `lane_point`
    lane_point_count: np.ndarray  # (lanes,) int32
    lane_point: np.ndarray  # (points, 3) float64 x, y [m], yaw [rad] of the centreline, in driving direction
    map_index: MapIndex  # polygons of all maps: is_drivable(bank.map_index, m, x, y), ...


LAYOUT = {  # dtype and columns of the bank's growing tables
    **dict.fromkeys(("map_row", "start_step", "num_agents", "route_count", "num_lights", "light_lane", "agent_first"), (np.int32,)),
    **dict.fromkeys(("path_count", "stop_count", "stop_light", "map_polygons", "map_lane_count", "lane_polygon"), (np.int32,)),
    **dict.fromkeys(("route_start", "on_route_start", "log_start", "agent_start", "light_start", "light_lane_start"), (np.int64,)),
    **dict.fromkeys(("path_start", "stop_start", "map_lane_start", "lane_point_start"), (np.int64,)),
    **dict.fromkeys(("on_route", "log_valid", "agent_static", "lane_connector"), (np.bool_,)),
    **dict.fromkeys(("light_state", "agent_type", "agent_mode"), (np.int8,)),
    **dict.fromkeys(("speed_limit", "p_ref", "route_s", "path_s0", "path_ds", "stop_s", "lane_limit"), (np.float64,)),
    "lane_point_count": (np.int32,),
    "ego_start": (np.float64, (11,)),
    "vehicle": (np.float64, (4,)),
    "goal": (np.float64, (2,)),
    "route": (np.float64, (3,)),
    "log": (np.float64, (10,)),
    "path": (np.float64, (4,)),
    "lane_point": (np.float64, (3,)),
}
NO_PATH = (True, 0, 0, 1.0, 0, 0, None)  # static, path start, count, spacing, stop start, count, arclength by step


def _headings(xy: np.ndarray) -> np.ndarray:
    """Returns (points,) direction [rad] of a centreline at its points, that of the piece that begins there."""
    if len(xy) < 2:
        return np.zeros(len(xy))
    steps = np.diff(xy, axis=0)
    yaw = np.arctan2(steps[:, 1], steps[:, 0])
    return np.append(yaw, yaw[-1])


def _start_speed_limit(scenario: Scenario) -> float:
    """Limit of the lane nearest to the ego's start [m/s], NaN = unknown or no lane within 3 m."""
    x, y, yaw = scenario.tracks.state[0, scenario.start_step, :3]
    vector_map = scenario.vector_map
    lane, _ = nearest_lane(vector_map.centerline, vector_map.centerline_offsets, x, y, yaw, 3.0, math.radians(60.0))
    return float(vector_map.lane_speed_limit[lane]) if lane >= 0 else math.nan


class _Recording:
    """What the windows of one recording share: its log, lights and paths, as rows of the bank's tables."""

    def __init__(self, scenario: Scenario, log_start: int, valid: np.ndarray, light_start: int, light_lane_start: int):
        self.keep = (scenario.tracks, scenario.vector_map, scenario.lights)  # identities stay valid while they are referenced
        self.log_start, self.valid = log_start, valid
        self.light_start, self.light_lane_start = light_start, light_lane_start
        self.paths: dict[int, tuple] = {}  # by agent
        self.governed: tuple | None = None  # lanes with lights, as stop_lines needs them


class ScenarioBank:
    """Compiles scenarios into a ``Bank``; adding is cheap, and windows of one recording share its tables.

    Args:
        horizon_s: Length of an episode [s]: which progress reference is stored and how far recordings must reach.
        traffic: "log", "idm" or "plan" for all agents, or a mapping from track token to one of them ("*" = all others, else "log").
            Static objects (cones, barriers, ...) always follow the log. Learned behaviour comes as plans.
    """

    def __init__(self, horizon_s: float = 4.0, traffic: str | Mapping[str, str] = "log"):
        self.horizon_s, self.horizon_steps = horizon_s, round(horizon_s / STEP_S)
        self._traffic = {"*": traffic} if isinstance(traffic, str) else dict(traffic)
        for token, mode in self._traffic.items():
            if mode not in MODES:
                raise DataError(f"{mode!r} is not one of {', '.join(MODES)}", field=f"traffic[{token!r}]")
        self.max_agents = 1
        self._tables = {name: GrowingTable(name, *layout) for name, layout in LAYOUT.items()}
        self._maps = MapIndexBuilder()
        self._idm = parameter_table()
        self._rows: dict[tuple, int] = {}  # (scenario id, recording) -> s
        self._recordings: dict[tuple, _Recording] = {}
        self._map_rows: dict[int, tuple[int, VectorMap]] = {}
        self._bank: Bank | None = None

    def __len__(self) -> int:
        return self._tables["map_row"].rows

    @property
    def arrays(self) -> Bank:
        """The arrays of everything added so far; ask again after ``add``."""
        if self._bank is None:
            arrays = {name: table.data for name, table in self._tables.items()}
            self._bank = Bank(**arrays, idm=self._idm, map_index=self._maps.index())
        return self._bank

    def add(self, scenario: Scenario) -> int:
        """Compiles a scenario, or finds it compiled, and returns its row.

        Raises:
            DataError: The recording is shorter than the horizon, or a field cannot be compiled.
        """
        recording_key = (id(scenario.tracks), id(scenario.vector_map), id(scenario.lights))
        key = (scenario.id, scenario.start_step, recording_key)
        if key in self._rows:
            return self._rows[key]
        if not 0 <= scenario.start_step <= scenario.tracks.steps - 1 - self.horizon_steps:
            raise DataError(
                f"{scenario.steps_ahead} recorded steps after the start, {self.horizon_steps} needed",
                scenario=scenario.id,
                field="tracks.state",
                remedy="Choose a shorter horizon or leave the scenario out",
            )
        self._bank = None
        map_row = self._add_map(scenario.vector_map)
        if recording_key not in self._recordings:
            self._recordings[recording_key] = self._add_recording(scenario)
        s = self._add_scenario(scenario, self._recordings[recording_key], map_row)
        self._rows[key] = s
        self.max_agents = max(self.max_agents, len(scenario.tracks))
        return s

    def _add_map(self, vector_map: VectorMap) -> int:
        if id(vector_map) in self._map_rows:
            return self._map_rows[id(vector_map)][0]
        row = self._maps.add(vector_map)
        tables, offsets = self._tables, vector_map.centerline_offsets
        heading = np.concatenate([_headings(vector_map.lane_centerline(i)) for i in range(vector_map.num_lanes)] or [np.zeros(0)])
        points = tables["lane_point"].append(np.column_stack([vector_map.centerline, heading]))
        tables["map_polygons"].append_row(vector_map.num_polygons)
        tables["map_lane_start"].append_row(tables["lane_polygon"].rows)
        tables["map_lane_count"].append_row(vector_map.num_lanes)
        tables["lane_polygon"].append(vector_map.lane_polygon)
        tables["lane_limit"].append(vector_map.lane_speed_limit)
        tables["lane_connector"].append(vector_map.lane_is_connector)
        tables["lane_point_start"].append(points + offsets[:-1].astype(np.int64))
        tables["lane_point_count"].append(np.diff(offsets))
        self._map_rows[id(vector_map)] = (row, vector_map)
        return row

    def _add_recording(self, scenario: Scenario) -> _Recording:
        check_tracks(scenario.tracks, scenario.id)
        lights = compile_lights(scenario.lights, scenario.tracks.steps, scenario.id)
        log, valid = compile_log(scenario.tracks)
        log_start = self._tables["log"].append(log.reshape(-1, 10))
        self._tables["log_valid"].append(valid.reshape(-1))
        light_start = self._tables["light_state"].append(lights.reshape(-1))
        light_lane_start = self._tables["light_lane"].append(scenario.lights.lanes)
        return _Recording(scenario, log_start, valid, light_start, light_lane_start)

    def _add_scenario(self, scenario: Scenario, recording: _Recording, map_row: int) -> int:
        tables, agents, k = self._tables, len(scenario.tracks), scenario.start_step
        tables["start_step"].append_row(k)
        tables["num_agents"].append_row(agents)
        tables["ego_start"].append_row(initial_ego_state(scenario))
        ego = scenario.ego
        tables["vehicle"].append_row((ego.length, ego.width, ego.wheel_base, ego.rear_axle_to_center))
        tables["speed_limit"].append_row(_start_speed_limit(scenario))
        progress = scenario.reference.progress if scenario.reference else {}
        tables["p_ref"].append_row(progress.get(self.horizon_s, np.nan))
        tables["goal"].append_row(scenario.route.goal)
        self._add_route(scenario)
        tables["log_start"].append_row(recording.log_start + k * agents)
        tables["light_start"].append_row(recording.light_start + k * len(scenario.lights.lanes))
        tables["num_lights"].append_row(len(scenario.lights.lanes))
        tables["light_lane_start"].append_row(recording.light_lane_start)
        tables["agent_start"].append_row(tables["agent_type"].rows)
        self._add_agents(scenario, recording)
        return tables["map_row"].append_row(map_row)  # last: its rows are the bank's length

    def _add_route(self, scenario: Scenario) -> None:
        tables, xyz = self._tables, scenario.route.centerline
        if xyz.ndim != 2 or xyz.shape[1] != 3 or len(xyz) < 2 or not np.isfinite(xyz).all():
            raise DataError(f"{xyz.shape} is not 2 or more finite points x, y, yaw", scenario=scenario.id, field="route.centerline")
        tables["route_start"].append_row(tables["route"].append(xyz))
        tables["route_count"].append_row(len(xyz))
        tables["route_s"].append(np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xyz[:, :2], axis=0).T))]))
        flags = np.zeros(scenario.vector_map.num_polygons, np.bool_)
        flags[scenario.vector_map.lane_polygon[scenario.route.lanes]] = True
        tables["on_route_start"].append_row(tables["on_route"].append(flags))

    def _add_agents(self, scenario: Scenario, recording: _Recording) -> None:
        """Adds the rows agent_*, path_* and stop_* of every track."""
        tables, tracks, k = self._tables, scenario.tracks, scenario.start_step
        ahead = recording.valid[k:]
        first = np.where(ahead.any(0), ahead.argmax(0), -1)
        mode = np.array([self._mode(token, kind) for token, kind in zip(tracks.tokens, tracks.types, strict=True)], np.int8)
        tables["agent_type"].append(tracks.types)
        tables["agent_mode"].append(mode)
        tables["agent_first"].append(first)
        for a in range(len(tracks)):
            static, start, count, spacing, stop_start, stop_count, s_at_step = NO_PATH
            if a > 0 and mode[a] == IDM and first[a] >= 0:
                if a not in recording.paths:
                    recording.paths[a] = self._add_path(scenario, recording, a)
                static, start, count, spacing, stop_start, stop_count, s_at_step = recording.paths[a]
            tables["agent_static"].append_row(static)
            tables["path_start"].append_row(start)
            tables["path_count"].append_row(count)
            tables["path_ds"].append_row(spacing)
            tables["path_s0"].append_row(s_at_step[k + first[a]] if count else 0.0)
            tables["stop_start"].append_row(stop_start)
            tables["stop_count"].append_row(stop_count)

    def _mode(self, token: str, kind: int) -> int:
        if kind > AgentType.BICYCLE:
            return LOG
        return MODES[self._traffic.get(token, self._traffic.get("*", "log"))]

    def _add_path(self, scenario: Scenario, recording: _Recording, a: int) -> tuple:
        """Builds the path and the stop lines of an IDM agent and returns their rows, in the order of NO_PATH."""
        agents, steps = recording.valid.shape[1], scenario.tracks.steps
        rows = recording.log_start + np.arange(steps) * agents + a
        log, valid, kind = self._tables["log"].data[rows], recording.valid[:steps, a], int(scenario.tracks.types[a])
        if is_static(log[valid, :2], kind):
            return NO_PATH
        path = build_path(log, valid, kind, scenario.vector_map, self.horizon_s)
        if recording.governed is None:
            recording.governed = governed_lanes(scenario.vector_map, scenario.lights.lanes)
        s, lights = stop_lines(path.points, path.spacing, recording.governed)
        if kind == AgentType.PEDESTRIAN:
            s, lights = s[:0], lights[:0]  # lights of lanes are for those who drive on them
        start = self._tables["path"].append(path.points)
        stop_start = self._tables["stop_s"].append(s)
        self._tables["stop_light"].append(lights)
        return False, start, len(path.points), path.spacing, stop_start, len(s), path.s_at_step
