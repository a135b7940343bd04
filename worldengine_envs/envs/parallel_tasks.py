"""Who drives in a world of many agents, and what each one's task is: its own vehicle, its own way, its own measure of progress.

Agents are the ego and the vehicles nearest to it that are valid at the start and move over 2 m within the horizon. A vehicle that
nobody could drive is none, it stays traffic: its box touches another one at the start, or a corner of it is off the road (by the
scorer's rules), or it leaves the map within the horizon. Else it does not matter what its log does later: it may fail.

The ego keeps the scenario's vehicle, route and reference. Everybody else has its own box, a wheelbase of 0.6 of its length, its
logged path (and the lanes that follow) as route, and as reference how far its own log gets along it: until the horizon, or as long
as it was seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from worldengine_envs.scenario.start import box_corners, boxes_touch
from worldengine_envs.scenario.types import STEP_S, AgentType, ProgressReference, Route, Scenario, Tracks, VehicleParameters
from worldengine_envs.scoring.areas import first_corner_off_road
from worldengine_envs.scoring.live_route import project_on_route
from worldengine_envs.simulation.bank import Bank
from worldengine_envs.simulation.kernels import kernel
from worldengine_envs.simulation.map_index import MAX_LANES_AT_POINT, lanes_at
from worldengine_envs.simulation.paths import build_path, is_static
from worldengine_envs.simulation.recordings import SPEED, X, Y, compile_log

MIN_MOVE_M = 2.0
WHEEL_BASE = 0.6  # of a vehicle's length
BEHIND_M, BEYOND_M = 20.0, 100.0  # how far a route reaches: back from the start, and on past where an agent can get
MAX_ACCELERATION = 3.0  # with which it can get there [m/s2]
MAX_LANE_ANGLE = math.radians(45.0)  # between an agent's path and the lanes that it counts as its route


def agent_tasks(scenario: Scenario, bank: Bank, s: int, horizon_s: float, limit: int) -> list[tuple[int, Scenario]]:
    """Returns the tracks of the agents with their tasks: the ego, then the others, nearest first, at most ``limit`` in all.

    A task is the scenario with that vehicle as ego and, the ego's apart, as the only track.

    Args:
        scenario, s: Compiled as row ``s`` of the bank.
        horizon_s: Length of an episode [s].
    """
    tasks = [(0, scenario)]
    for a in _drivable(scenario, bank, s, round(horizon_s / STEP_S)):
        if len(tasks) == limit:
            break
        own = _own_scenario(scenario, bank, s, a, horizon_s)
        if own is not None:
            tasks.append((a, own))
    return tasks


def _drivable(scenario: Scenario, bank: Bank, s: int, horizon_steps: int) -> Iterator[int]:
    """Yields the tracks of vehicles that move and that somebody could drive from their start, the nearest to the ego first."""
    k, tracks, index, m = scenario.start_step, scenario.tracks, bank.map_index, int(bank.scenarios["map_row"][s])
    place, valid = tracks.state[:, k : k + horizon_steps + 1, :2], tracks.valid[:, k : k + horizon_steps + 1]
    away = np.where(valid, np.hypot(*(place - place[:, :1]).transpose(2, 0, 1)), 0.0).max(1)
    moving = valid[:, 0] & (away > MIN_MOVE_M) & (tracks.types == AgentType.VEHICLE)
    moving[0] = False
    others = np.flatnonzero(moving)
    distance = np.hypot(*(place[others, 0] - place[0, 0]).T)
    there = np.flatnonzero(valid[:, 0])
    boxes = box_corners(tracks.state[there, k, :3], tracks.size[there, k, :2])
    for a in others[np.argsort(distance, kind="stable")]:
        box, rest = boxes[there == a][0], boxes[there != a]
        jitters = is_static(tracks.state[a, tracks.valid[a], :2], AgentType.VEHICLE)  # a parked one with a few wild positions
        if not jitters and first_corner_off_road(index, m, box) < 0 and not boxes_touch(box, rest).any():
            yield int(a)


def _own_scenario(scenario: Scenario, bank: Bank, s: int, a: int, horizon_s: float) -> Scenario | None:
    """Returns the task of the vehicle in track ``a``, None where it leaves the map within the horizon."""
    k, tracks, mine, steps = scenario.start_step, scenario.tracks, slice(a, a + 1), round(horizon_s / STEP_S)
    length, width = (float(size) for size in tracks.size[a, k, :2])
    own = Tracks((tracks.tokens[a],), tracks.types[mine], tracks.state[mine], tracks.size[mine], tracks.valid[mine])
    log, valid = (part[: tracks.steps, 0] for part in compile_log(own))
    path = build_path(log, valid, int(AgentType.VEHICLE), scenario.vector_map, horizon_s)
    last = k + int(np.flatnonzero(tracks.valid[a, k : k + steps + 1])[-1])
    left = (k + steps - last) * STEP_S * log[last, SPEED]  # way to go when it was last seen, at the same speed
    if left > 0.0 and path.s_at_step[last] + left + 0.5 * length > (len(path.points) - 1) * path.spacing:
        return None
    reach = log[k, SPEED] * horizon_s + 0.5 * MAX_ACCELERATION * horizon_s**2 + BEYOND_M
    first = max(math.floor((path.s_at_step[k] - BEHIND_M) / path.spacing), 0)
    end = max(math.ceil((path.s_at_step[k] + reach) / path.spacing), first + 1)
    line = np.ascontiguousarray(path.points[first : end + 1, :3])
    goal = log[np.flatnonzero(valid)[-1], :2].copy()
    return replace(
        scenario,
        id=f"{scenario.id}.{tracks.tokens[a]}",
        tracks=own,
        route=Route(_route_lanes(scenario, bank, s, line), line, goal),
        ego=replace(VehicleParameters.from_box(length, width), wheel_base=WHEEL_BASE * length),
        reference=ProgressReference("log", {horizon_s: _progress(line, log[k], log[last])}),
    )


def _progress(line: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    """Returns how far it is along a line (points, 2 or more) from one row of the log to another, as the scorer measures it [m]."""
    at = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line[:, :2], axis=0).T))])
    first, last = (project_on_route(line, at, 0, len(line), 0, row[X], row[Y])[0] for row in (start, end))
    return max(last - first, 0.0)


def _route_lanes(scenario: Scenario, bank: Bank, s: int, line: np.ndarray) -> np.ndarray:
    """Returns the rows of the lanes that a path (points, 3) follows, and of those beside them."""
    vector_map, m = scenario.vector_map, int(bank.scenarios["map_row"][s])
    lane_of_polygon = np.full(vector_map.num_polygons, -1)
    lane_of_polygon[vector_map.lane_polygon] = np.arange(vector_map.num_lanes)
    lanes, polygons = np.full(len(line), -1), np.empty(MAX_LANES_AT_POINT, np.int32)
    lanes_along(bank.map_index, m, line, lane_of_polygon, vector_map.centerline, vector_map.centerline_offsets, polygons, lanes)
    followed = np.unique(lanes[lanes >= 0])
    beside = np.isin(vector_map.lane_roadblock, vector_map.lane_roadblock[followed])
    beside[followed] = True
    return np.flatnonzero(beside).astype(np.int32)


@kernel
def lanes_along(index, m, line, lane_of_polygon, centerline, offsets, polygons, out):
    """Writes the lane that a path follows at each of its points (n, 3) x, y, yaw to ``out`` (n,), -1 = none.

    Of the lanes that hold the point and lead the same way, it is the one with the nearest centreline (1 rad counts as 4 m).
    ``polygons`` (MAX_LANES_AT_POINT,) int32 is overwritten.
    """
    for i in range(len(line)):
        x, y, best = line[i, 0], line[i, 1], math.inf
        j, h = min(i + 1, len(line) - 1), max(i - 1, 0)
        yaw = math.atan2(line[j, 1] - line[h, 1], line[j, 0] - line[h, 0])  # of the way: who backs up faces the other way
        out[i] = -1
        for c in range(lanes_at(index, m, x, y, polygons)):
            lane = lane_of_polygon[polygons[c]]
            if lane < 0:
                continue
            for p in range(offsets[lane], offsets[lane + 1] - 1):
                ux, uy = centerline[p + 1, 0] - centerline[p, 0], centerline[p + 1, 1] - centerline[p, 1]
                vx, vy = x - centerline[p, 0], y - centerline[p, 1]
                length2 = ux * ux + uy * uy
                if length2 == 0.0:
                    continue
                t = min(max((vx * ux + vy * uy) / length2, 0.0), 1.0)
                ex, ey = vx - t * ux, vy - t * uy
                angle = abs((math.atan2(uy, ux) - yaw + math.pi) % (2.0 * math.pi) - math.pi)
                cost = math.sqrt(ex * ex + ey * ey) + 4.0 * angle
                if angle <= MAX_LANE_ANGLE and cost < best:
                    best, out[i] = cost, lane
