"""The bank: many scenarios and maps compiled into flat arrays that the world step, the scorer and the observations read.

Row ``s`` is a scenario, ``m`` a map, ``k`` a step since the scenario's start (0.1 s each), ``a`` a row of its tracks (0 = ego).
Ragged tables are flat; a scenario knows the row where its part begins. Arrays have spare capacity at their ends, which holds zeros.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from worldengine_envs.simulation.map_index import MapIndex

LOG, IDM, PLAN = 0, 1, 2  # who moves an agent: its log, the driver model along its own path, or a plan handed in


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
