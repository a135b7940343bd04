"""PDM-Closed, the rule-based planner of NAVSIM: fifteen proposals along the route, tracked, scored, the best one driven.

``PdmClosedPlanner`` prepares one route; each plan is one compiled call that allocates nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import STEP_S, AgentType, VehicleParameters
from worldengine_envs.scoring.pdm_closed_forecast import (
    FORECAST_EVERY,
    MAX_OBJECTS,
    Forecast,
    empty_forecast,
    make_forecast,
)
from worldengine_envs.scoring.pdm_closed_idm import (
    NUM_PROPOSALS,
    Proposals,
    RedLights,
    empty_proposals,
    empty_red_lights,
    extend,
    see_red_lights,
    unroll,
)
from worldengine_envs.scoring.pdm_closed_paths import ClosedPaths, Corridor, build_closed_paths, empty_corridor
from worldengine_envs.scoring.pdms import COMFORT_WEIGHT, MIN_PROGRESS, PROGRESS_WEIGHT, TTC_WEIGHT
from worldengine_envs.scoring.pdms_kernel import (
    COMFORT,
    DAC,
    NC,
    PROGRESS,
    TERMS,
    TTC,
    Scratch,
    make_scratch,
    score_one,
    start_on_centerline,
)
from worldengine_envs.scoring.scene import (
    BOX_RADIUS,
    CHUNK_STEPS,
    CHUNKS,
    OBSERVED_STEPS,
    TTC_STEPS,
    SceneArrays,
    num_polygons,
)
from worldengine_envs.scoring.trajectories import PLAN_STEPS
from worldengine_envs.simulation.kernels import kernel
from worldengine_envs.simulation.map_index import MapIndex

MAX_RED_LIGHTS = 32
_LAST_AGENT_TYPE = int(AgentType.BICYCLE)


class ClosedRoute(NamedTuple):
    """One route, prepared once."""

    paths: ClosedPaths
    corridor: Corridor  # room for the corridors of a plan
    centerline: np.ndarray  # (points, 2) x, y [m]
    vehicle: np.ndarray  # (4,) length, width, wheel base, rear axle to centre of the ego [m]
    m: int  # number of the map in the index
    on_route: np.ndarray  # (polygons,) bool: lanes and connectors of the route


class ClosedRoom(NamedTuple):
    """Working memory of one thread, for any route; after a plan it holds the details of it."""

    forecast: Forecast
    lights: RedLights
    proposals: Proposals
    ego_state: np.ndarray  # (11,)
    boxes: np.ndarray  # (objects, steps, 7) see scene.SceneArrays
    valid: np.ndarray  # (objects, steps) bool
    bounds: np.ndarray  # (objects, CHUNKS, 4)
    is_agent: np.ndarray  # (objects,) bool
    speed: np.ndarray  # (objects,)
    scratch: Scratch  # of the scorer
    states: np.ndarray  # (15, 41, 11) simulated
    terms: np.ndarray  # (15, TERMS)
    scores: np.ndarray  # (15,) PDM Scores
    distance: np.ndarray  # (objects handed in,) scratch
    ring: np.ndarray  # (4, 2) scratch
    other: np.ndarray  # (4, 2) scratch
    end: np.ndarray  # (4,) scratch


class ClosedPlan(NamedTuple):
    """What the planner decided."""

    trajectory: np.ndarray  # (51, 3) x, y [m], yaw [rad] of the rear axle every 0.1 s from now
    choice: int  # row of the proposal: 5 * path + policy
    scores: np.ndarray  # (15,) PDM Scores of the proposals


def make_route(centerline: np.ndarray, vehicle: VehicleParameters, m: int, on_route: np.ndarray) -> ClosedRoute:
    """Prepares a route.

    Args:
        centerline: (points, 3) x, y [m], yaw [rad].
        vehicle: Size of the ego.
        m: Number of the map in the index.
        on_route: (polygons,) bool: lanes and connectors of the route.

    Raises:
        DataError: The centreline is not usable.
    """
    paths = build_closed_paths(centerline)
    size = np.array([vehicle.length, vehicle.width, vehicle.wheel_base, vehicle.rear_axle_to_center])
    line = np.ascontiguousarray(paths.pose[0, :, :2])
    return ClosedRoute(paths, empty_corridor(paths), line, size, m, np.ascontiguousarray(on_route, dtype=np.bool_))


def make_room(max_objects: int = 512) -> ClosedRoom:
    """Returns working memory for plans that are handed at most ``max_objects`` objects."""
    n = MAX_OBJECTS
    return ClosedRoom(
        forecast=empty_forecast(),
        lights=empty_red_lights(MAX_RED_LIGHTS),
        proposals=empty_proposals(MAX_RED_LIGHTS),
        ego_state=np.zeros(11),
        boxes=np.zeros((n, OBSERVED_STEPS, 7)),
        valid=np.zeros((n, OBSERVED_STEPS), np.bool_),
        bounds=np.zeros((n, CHUNKS, 4)),
        is_agent=np.zeros(n, np.bool_),
        speed=np.zeros(n),
        scratch=make_scratch(PLAN_STEPS),
        states=np.zeros((NUM_PROPOSALS, PLAN_STEPS + 1, 11)),
        terms=np.zeros((NUM_PROPOSALS, TERMS)),
        scores=np.zeros(NUM_PROPOSALS),
        distance=np.zeros(max_objects),
        ring=np.zeros((4, 2)),
        other=np.zeros((4, 2)),
        end=np.zeros(4),
    )


@kernel
def _lay_out_forecast(forecast, boxes, valid, bounds, is_agent, speed):
    """Writes the forecast for the scorer (see ``scene.SceneArrays``); ignored objects are never valid."""
    for a in range(forecast.count[0]):
        box, velocity = forecast.box[a], forecast.velocity[a]
        radius = math.hypot(box[4], box[5])
        is_agent[a], speed[a] = forecast.type[a] <= _LAST_AGENT_TYPE, forecast.speed[a]
        for k in range(OBSERVED_STEPS):
            dt = STEP_S * FORECAST_EVERY * (k // FORECAST_EVERY)
            out = boxes[a, k]
            out[0], out[1] = box[0] + dt * velocity[0], box[1] + dt * velocity[1]
            out[2], out[3], out[4], out[5], out[BOX_RADIUS] = box[2], box[3], box[4], box[5], radius
            valid[a, k] = not forecast.ignored[a]
        for chunk in range(CHUNKS):  # the motion is straight, so its ends bound it
            first = boxes[a, chunk * CHUNK_STEPS]
            last = boxes[a, min((chunk + 1) * CHUNK_STEPS - 1, PLAN_STEPS) + TTC_STEPS]
            low_high = bounds[a, chunk]
            low_high[0], low_high[1] = min(first[0], last[0]) - radius, min(first[1], last[1]) - radius
            low_high[2], low_high[3] = max(first[0], last[0]) + radius, max(first[1], last[1]) + radius
            if forecast.ignored[a]:
                low_high[0], low_high[2] = math.inf, -math.inf


@kernel
def _copy(rows, out):
    """Writes the first rows of (n, columns) to ``out`` (at most n, columns)."""
    for k in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[k, j] = rows[k, j]


@kernel
def _rate(terms, scores):
    """Fills the scores of all proposals, their progress compared with the best of them, and returns the first best row."""
    most, best = 0.0, 0
    for p in range(NUM_PROPOSALS):
        most = max(most, terms[p, PROGRESS] * terms[p, NC] * terms[p, DAC])
    for p in range(NUM_PROPOSALS):
        multiplier = terms[p, NC] * terms[p, DAC]
        ep = 1.0 if multiplier > 0.0 else 0.0
        if most > MIN_PROGRESS:
            ep = terms[p, PROGRESS] * multiplier / most
        weighted = PROGRESS_WEIGHT * ep + TTC_WEIGHT * terms[p, TTC] + COMFORT_WEIGHT * terms[p, COMFORT]
        scores[p] = multiplier * (weighted / (PROGRESS_WEIGHT + TTC_WEIGHT + COMFORT_WEIGHT))
        if scores[p] > scores[best]:
            best = p
    return best


@kernel
def plan(index, route, room, state, objects, types, red, speed_limit):
    """Plans once.

    Args:
        index: MapIndex.
        route: ClosedRoute.
        room: ClosedRoom; afterwards ``room.proposals.pose[choice]`` is the trajectory, ``room.scores`` the scores.
        state: (11,) the ego's state.
        objects: (n, 7) x, y [m] of box centres, yaw [rad], length, width [m], vx, vy [m/s], now, without the ego.
        types: (n,) int8 AgentType.
        red: (r,) int64 polygon rows of the map: red connectors on the route.
        speed_limit: Of the ego's lane [m/s], NaN = unknown.

    Returns:
        Row of the chosen proposal: 5 * path + policy.
    """
    length, width, ahead = route.vehicle[0], route.vehicle[1], route.vehicle[3]
    cos, sin = math.cos(state[2]), math.sin(state[2])
    x, y = state[0] + ahead * cos, state[1] + ahead * sin
    for i in range(11):
        room.ego_state[i] = state[i]
    make_forecast(objects, types, x, y, cos, sin, length / 2, width / 2, room.distance, room.forecast)
    see_red_lights(index, route.m, red, x, y, cos, sin, length / 2, width / 2, room.ring, room.lights)
    ego = (length, width, ahead)
    xy, paths, corridor = index.polygon_xy, route.paths, route.corridor
    forecast, lights, proposals, ring, other, end = room.forecast, room.lights, room.proposals, room.ring, room.other, room.end
    unroll(paths, corridor, forecast, lights, xy, state, speed_limit, ego, end, ring, other, proposals)
    _lay_out_forecast(forecast, room.boxes, room.valid, room.bounds, room.is_agent, room.speed)
    n, scratch = forecast.count[0], room.scratch
    scene = SceneArrays(
        room.ego_state, route.vehicle, index, route.m, route.on_route, route.centerline, paths.s[0],
        room.boxes[:n], room.valid[:n], room.bounds[:n], room.is_agent[:n], room.speed[:n],
        np.int64(PLAN_STEPS),
    )  # fmt: skip
    start_s = start_on_centerline(scene)
    for p in range(NUM_PROPOSALS):
        _copy(proposals.pose[p], scratch.poses)
        score_one(scene, scratch, start_s, False)
        _copy(scratch.states, room.states[p])
        for j in range(TERMS):
            room.terms[p, j] = scratch.terms[j]
    choice = _rate(room.terms, room.scores)
    extend(paths, corridor, forecast, lights, xy, choice, speed_limit, ego, end, ring, other, proposals)
    return choice


class PdmClosedPlanner:
    """PDM-Closed on one route.

    Args:
        centerline: (points, 3) x, y [m], yaw [rad] of the route.
        vehicle: Size of the ego.
        map_index, m: Index and number of the map.
        on_route: (polygons,) bool: lanes and connectors of the route.
        max_objects: Most objects that a plan may be given.

    Raises:
        DataError: The centreline is not usable, or the flags are not those of the map.
    """

    def __init__(self, centerline, vehicle: VehicleParameters, map_index: MapIndex, m: int, on_route, max_objects: int = 512):
        if np.shape(on_route) != (num_polygons(map_index, m),):
            raise DataError(f"shape {np.shape(on_route)}; the map has {num_polygons(map_index, m)} polygons", field="on_route")
        self.map_index, self.route, self.room = map_index, make_route(centerline, vehicle, m, on_route), make_room(max_objects)

    def plan(self, state: np.ndarray, objects: np.ndarray, types: np.ndarray, red=(), speed_limit: float = math.nan) -> ClosedPlan:
        """Plans from one moment; arguments as in the function ``plan``.

        Raises:
            DataError: Too many objects or red lights, shapes that do not fit together, or values that are not finite.
        """
        room, red = self.room, np.asarray(red, dtype=np.int64)
        polygons = len(self.route.on_route)
        if np.shape(state) != (11,) or np.ndim(types) != 1 or (np.shape(objects) != (len(types), 7) and len(types) + len(objects)):
            shapes = f"{np.shape(state)}, {np.shape(objects)}, {np.shape(types)}"
            raise DataError(f"shapes {shapes} are not (11,), (n, 7), (n,)", field="state, objects, types")
        if red.ndim != 1 or ((red < 0) | (red >= polygons)).any():
            raise DataError(f"{red} are not rows of the map's {polygons} polygons", field="red")
        if len(objects) > len(room.distance) or len(red) > MAX_RED_LIGHTS:
            raise DataError(
                f"{len(objects)} objects, {len(red)} red lights; there is room for {len(room.distance)}, {MAX_RED_LIGHTS}"
            )
        objects = np.ascontiguousarray(objects, dtype=np.float64).reshape(-1, 7)
        if not (np.isfinite(state).all() and np.isfinite(objects).all()):
            raise DataError("state or objects are not finite", field="objects")
        types, state = np.ascontiguousarray(types, dtype=np.int8), np.ascontiguousarray(state, dtype=np.float64)
        choice = plan(self.map_index, self.route, room, state, objects, types, red, float(speed_limit))
        return ClosedPlan(room.proposals.pose[choice].copy(), int(choice), room.scores.copy())
