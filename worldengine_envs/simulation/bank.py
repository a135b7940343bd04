"""The bank: many scenarios and maps compiled into flat arrays that the world step, the scorer and the observations read.

Row ``s`` is a scenario, ``m`` a map, ``k`` a step since the scenario's start (0.1 s each), ``a`` a row of its tracks (0 = ego).
Ragged tables are flat; a scenario knows the row where its part begins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import LOOKAHEAD_STEPS, STEP_S, AgentType, Scenario, VectorMap, initial_ego_state
from worldengine_envs.simulation.idm import parameter_table
from worldengine_envs.simulation.map_index import MapIndex, MapIndexBuilder
from worldengine_envs.simulation.paths import build_path, is_static, nearest_lane, straight_segments
from worldengine_envs.simulation.recordings import check_lane_rows, check_lanes, check_tracks, compile_lights, compile_log
from worldengine_envs.simulation.stop_lines import governed_lanes, stop_lines
from worldengine_envs.simulation.tables import GrowingTable

LOG, IDM, PLAN = 0, 1, 2  # who moves an agent: its log, the driver model along its own path, or a plan handed in
MODES = {"log": LOG, "idm": IDM, "plan": PLAN}
_LAST_MOVER = int(AgentType.BICYCLE)


SCENARIO = np.dtype(
    [
        ("map_row", np.int32),  # row m of its map
        ("start_step", np.int32),  # step of the recording at which driving starts (k = 0)
        ("num_agents", np.int32),  # rows of its tracks, the ego (row 0) included
        ("num_lights", np.int32),
        ("log_start", np.int64),  # agent a at step k is row log_start + k * num_agents + a of `log` and `log_valid`
        ("agent_start", np.int64),  # agent a is row agent_start + a of `agents`
        ("light_start", np.int64),  # light l at step k is row light_start + k * num_lights + l of `light_state`
        ("light_lane_start", np.int64),  # light l governs lane light_lane[light_lane_start + l]
        ("route_start", np.int64),  # first row of its route in `route` and `route_s`
        ("route_count", np.int64),  # points of its route
        ("on_route_start", np.int64),  # polygon p of its map is on the route if on_route[on_route_start + p]
        ("speed_limit", np.float64),  # limit of the lane where the ego starts [m/s], NaN = unknown
        ("p_ref", np.float64),  # progress of the reference motion over the bank's horizon [m], NaN = none stored
        ("goal_x", np.float64),  # [m]
        ("goal_y", np.float64),
        ("length", np.float64),  # the ego vehicle [m]
        ("width", np.float64),
        ("wheel_base", np.float64),
        ("rear_axle_to_center", np.float64),
        ("ego", np.float64, (11,)),  # state of the ego at k = 0, order as in simulation.bicycle
    ],
    align=True,
)
AGENT = np.dtype(
    [
        ("type", np.int8),  # AgentType
        ("mode", np.int8),  # LOG, IDM or PLAN
        ("first", np.int32),  # first step k >= 0 at which it is valid, -1 = never again
        ("path_count", np.int32),  # points of its path; 0 = none: as an IDM agent it stays (it hardly moves in the whole recording)
        ("segment_count", np.int32),  # straight pieces of its path
        ("stop_count", np.int32),  # stop lines on its path
        ("path_start", np.int64),  # first row of its path in `path`
        ("segment_start", np.int64),  # first row of its straight pieces in `segments`
        ("stop_start", np.int64),  # first row of its stop lines in `stops`
        ("path_ds", np.float64),  # spacing of its path's points [m]
        ("path_s0", np.float64),  # arclength on its path at step `first` [m]
    ],
    align=True,
)
STOP = np.dtype([("s", np.float64), ("light", np.int64)])  # arclength on the path [m], ascending; light l that governs it
MAP = np.dtype(
    [("polygons", np.int64), ("lane_start", np.int64), ("lane_count", np.int64)]
)  # lane l is row lane_start + l of `lanes`
LANE = np.dtype(
    [
        ("polygon", np.int32),  # row of its polygon in the map
        ("connector", np.bool_),  # inside an intersection
        ("limit", np.float64),  # speed limit [m/s], NaN = unknown
        ("point_start", np.int64),  # first row of its centreline in `lane_point`
        ("point_count", np.int64),
    ],
    align=True,
)


class Bank(NamedTuple):
    """All compiled scenarios and maps. Records, not more arrays: numba's compile time grows with the number of fields here."""

    scenarios: np.ndarray  # (S,) SCENARIO
    agents: np.ndarray  # (rows,) AGENT, row agent_start + a
    log: np.ndarray  # (rows, 10) float64 x, y, yaw, vx, vy, speed, cos yaw, sin yaw, length, width; box centre, time-major
    log_valid: np.ndarray  # (rows,) bool; gaps up to 1 s filled, tracks alive at the end extrapolated LOOKAHEAD_STEPS
    path: np.ndarray  # (points, 4) float64 x, y [m], yaw [rad, unwrapped], desired speed [m/s], at equal spacing
    segments: np.ndarray  # (rows, 6) float64 the same paths in straight pieces: x, y [m], direction x, y, arclength, length [m]
    stops: np.ndarray  # (rows,) STOP, stop lines on paths
    idm: np.ndarray  # (3, 7) float64 driver model's parameters by AgentType, columns as named in idm
    light_state: np.ndarray  # (rows,) int8 LightState; the last one is held for LOOKAHEAD_STEPS past the end
    light_lane: np.ndarray  # (rows,) int32 lane rows of the map
    route: np.ndarray  # (rows, 3) float64 x, y [m], yaw [rad]
    route_s: np.ndarray  # (rows,) float64 arclength from the route's first point [m]
    on_route: np.ndarray  # (rows,) bool by polygon of the scenario's map (lanes and connectors on the route)
    maps: np.ndarray  # (M,) MAP
    lanes: np.ndarray  # (rows,) LANE
    lane_point: np.ndarray  # (points, 3) float64 x, y [m], yaw [rad] of the centrelines, in driving direction
    map_index: MapIndex  # polygons of all maps: is_drivable(bank.map_index, m, x, y), ...


LAYOUT = {  # dtype and columns of the bank's growing tables
    "scenarios": (SCENARIO,),
    "agents": (AGENT,),
    "log": (np.float64, (10,)),
    "log_valid": (np.bool_,),
    "path": (np.float64, (4,)),
    "segments": (np.float64, (6,)),
    "stops": (STOP,),
    "light_state": (np.int8,),
    "light_lane": (np.int32,),
    "route": (np.float64, (3,)),
    "route_s": (np.float64,),
    "on_route": (np.bool_,),
    "maps": (MAP,),
    "lanes": (LANE,),
    "lane_point": (np.float64, (3,)),
}
PATH_FIELDS = ("path_start", "path_count", "path_ds", "segment_start", "segment_count", "stop_start", "stop_count")
NO_PATH = ((0, 0, 1.0, 0, 0, 0, 0), None)  # PATH_FIELDS; arclength by step


def _headings(vector_map: VectorMap) -> np.ndarray:
    """Returns (points,) direction [rad] of the centrelines at their points: that of the piece that begins there, or of the last."""
    offsets = vector_map.centerline_offsets
    steps = np.diff(vector_map.centerline, axis=0, append=0.0)
    yaw = np.arctan2(steps[:, 1], steps[:, 0])
    length = np.diff(offsets)
    yaw[offsets[1:][length > 1] - 1] = yaw[offsets[1:][length > 1] - 2]
    yaw[offsets[:-1][length == 1]] = 0.0
    return yaw


def start_speed_limit(scenario: Scenario) -> float:
    """Limit of the lane nearest to the ego's start [m/s], NaN = unknown or no lane within 3 m."""
    x, y, yaw = scenario.tracks.state[0, scenario.start_step, :3]
    vector_map = scenario.vector_map
    lane, _ = nearest_lane(vector_map.centerline, vector_map.centerline_offsets, x, y, yaw, 3.0, math.radians(60.0))
    return float(vector_map.lane_speed_limit[lane]) if lane >= 0 else math.nan


class _Recording:
    """What the windows of one recording share: its log, lights and paths, as rows of the bank's tables."""

    def __init__(
        self, scenario: Scenario, log: np.ndarray, valid: np.ndarray, log_start: int, light_start: int, light_lane_start: int
    ):
        self.keep = (scenario.tracks, scenario.vector_map, scenario.lights)  # identities stay valid while they are referenced
        self.log: np.ndarray | None = log  # while the first window is compiled; afterwards it is in the bank's table
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
        return self._tables["scenarios"].rows

    @property
    def arrays(self) -> Bank:
        """The arrays of everything added so far, shared with the bank; ask again after ``add``."""
        if self._bank is None:
            arrays = {name: table.used for name, table in self._tables.items()}
            self._bank = Bank(**arrays, idm=self._idm, map_index=self._maps.index())
        return self._bank

    def add(self, scenario: Scenario, alone: bool = False) -> int:
        """Compiles a scenario, or finds it compiled, and returns its row.

        Args:
            scenario: What to compile. Windows that share their arrays (tracks, map, lights) share what they are compiled to.
            alone: It comes once and shares nothing: of its log only the steps that driving needs are kept.

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
        map_row = self._add_map(scenario.vector_map, scenario.id, alone)
        recording = self._recordings.get(recording_key) or self._add_recording(scenario, alone)
        if not alone:
            self._recordings[recording_key] = recording
        s = self._add_scenario(scenario, recording, map_row)
        recording.log = None
        if not alone:
            self._rows[key] = s
        self.max_agents = max(self.max_agents, len(scenario.tracks))
        return s

    def _add_map(self, vector_map: VectorMap, scenario: str, alone: bool) -> int:
        if id(vector_map) in self._map_rows:
            return self._map_rows[id(vector_map)][0]
        check_lanes(vector_map, scenario)
        row = self._maps.add(vector_map)
        tables, count = self._tables, vector_map.num_lanes
        points = tables["lane_point"].append(np.column_stack([vector_map.centerline, _headings(vector_map)]))
        lanes = np.zeros(count, LANE)
        lanes["polygon"], lanes["connector"] = vector_map.lane_polygon, vector_map.lane_is_connector
        lanes["limit"] = vector_map.lane_speed_limit
        lanes["point_start"] = points + vector_map.centerline_offsets[:-1].astype(np.int64)
        lanes["point_count"] = np.diff(vector_map.centerline_offsets)
        tables["maps"].append_row((vector_map.num_polygons, tables["lanes"].append(lanes), count))
        if not alone:
            self._map_rows[id(vector_map)] = (row, vector_map)
        return row

    def _add_recording(self, scenario: Scenario, alone: bool) -> _Recording:
        check_tracks(scenario.tracks, scenario.id)
        check_lane_rows(scenario.lights.lanes, scenario.vector_map.num_lanes, scenario.id, "lights.lanes")
        lights = compile_lights(scenario.lights, scenario.tracks.steps, scenario.id)
        log, valid = compile_log(scenario.tracks)
        k, agents = scenario.start_step, len(scenario.tracks)
        kept = slice(k, k + self.horizon_steps + LOOKAHEAD_STEPS + 1) if alone else slice(0, len(log))
        log_start = self._tables["log"].append(log[kept].reshape(-1, 10)) - kept.start * agents
        self._tables["log_valid"].append(valid[kept].reshape(-1))
        light_start = self._tables["light_state"].append(lights.reshape(-1))
        light_lane_start = self._tables["light_lane"].append(scenario.lights.lanes)
        return _Recording(scenario, log, valid, log_start, light_start, light_lane_start)

    def _add_scenario(self, scenario: Scenario, recording: _Recording, map_row: int) -> int:
        ego, lights, agents, k = scenario.ego, len(scenario.lights.lanes), len(scenario.tracks), scenario.start_step
        route_start, on_route_start = self._add_route(scenario)
        progress = scenario.reference.progress if scenario.reference else {}
        fields = {
            "map_row": map_row,
            "start_step": k,
            "num_agents": agents,
            "num_lights": lights,
            "log_start": recording.log_start + k * agents,
            "agent_start": self._tables["agents"].append(self._agents(scenario, recording)),
            "light_start": recording.light_start + k * lights,
            "light_lane_start": recording.light_lane_start,
            "route_start": route_start,
            "route_count": len(scenario.route.centerline),
            "on_route_start": on_route_start,
            "speed_limit": start_speed_limit(scenario),
            "p_ref": progress.get(self.horizon_s, math.nan),
            "goal_x": scenario.route.goal[0],
            "goal_y": scenario.route.goal[1],
            "length": ego.length,
            "width": ego.width,
            "wheel_base": ego.wheel_base,
            "rear_axle_to_center": ego.rear_axle_to_center,
            "ego": initial_ego_state(scenario),
        }
        return self._tables["scenarios"].append_row(tuple(fields[name] for name in SCENARIO.names))

    def _add_route(self, scenario: Scenario) -> tuple[int, int]:
        """Returns the first rows of the route's points and of the flags by polygon."""
        tables, poses = self._tables, scenario.route.centerline
        if poses.ndim != 2 or poses.shape[1] != 3 or len(poses) < 2 or not np.isfinite(poses).all():
            problem = f"shape {poses.shape} is not 2 or more finite points x, y, yaw"
            raise DataError(problem, scenario=scenario.id, field="route.centerline")
        check_lane_rows(scenario.route.lanes, scenario.vector_map.num_lanes, scenario.id, "route.lanes")
        flags = np.zeros(scenario.vector_map.num_polygons, np.bool_)
        flags[scenario.vector_map.lane_polygon[scenario.route.lanes]] = True
        start = tables["route"].append(poses)
        tables["route_s"].append(np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(poses[:, :2], axis=0).T))]))
        return start, tables["on_route"].append(flags)

    def _agents(self, scenario: Scenario, recording: _Recording) -> np.ndarray:
        """Returns (agents,) AGENT rows; paths of IDM agents are built where the recording has none yet."""
        tracks, k = scenario.tracks, scenario.start_step
        rows, ahead = np.zeros(len(tracks), AGENT), recording.valid[k:]
        rows["type"] = tracks.types
        rows["mode"] = [self._mode(token, kind) for token, kind in zip(tracks.tokens, tracks.types.tolist(), strict=True)]
        rows["first"] = np.where(ahead.any(0), ahead.argmax(0), -1)
        for a in 1 + np.flatnonzero((rows["mode"][1:] == IDM) & (rows["first"][1:] >= 0)):
            if a not in recording.paths:
                recording.paths[a] = self._add_path(scenario, recording, a)
            fields, s_at_step = recording.paths[a]
            for name, value in zip(PATH_FIELDS, fields, strict=True):
                rows[a][name] = value
            rows[a]["path_s0"] = 0.0 if s_at_step is None else s_at_step[k + rows[a]["first"]]
        return rows

    def _mode(self, token: str, kind: int) -> int:
        if kind > _LAST_MOVER:
            return LOG
        return MODES[self._traffic.get(token, self._traffic.get("*", "log"))]

    def _add_path(self, scenario: Scenario, recording: _Recording, a: int) -> tuple:
        """Builds the path and the stop lines of an IDM agent and returns their rows, as in NO_PATH."""
        agents, steps = recording.valid.shape[1], scenario.tracks.steps
        if recording.log is not None:
            log = np.ascontiguousarray(recording.log[:steps, a])
        else:
            log = self._tables["log"].used[recording.log_start + np.arange(steps) * agents + a]
        valid, kind = recording.valid[:steps, a], int(scenario.tracks.types[a])
        if is_static(log[valid, :2], kind):
            return NO_PATH
        path = build_path(log, valid, kind, scenario.vector_map, self.horizon_s)
        if recording.governed is None:
            recording.governed = governed_lanes(scenario.vector_map, scenario.lights.lanes)
        s, lights = stop_lines(path.points, path.spacing, recording.governed)
        if kind == AgentType.PEDESTRIAN:
            s, lights = s[:0], lights[:0]  # lights of lanes are for those who drive on them
        stops = np.zeros(len(s), STOP)
        stops["s"], stops["light"] = s, lights
        start, stop_start = self._tables["path"].append(path.points), self._tables["stops"].append(stops)
        segments = straight_segments(path.points, path.spacing)
        segment_start = self._tables["segments"].append(segments)
        return (start, len(path.points), path.spacing, segment_start, len(segments), stop_start, len(s)), path.s_at_step
