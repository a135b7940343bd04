"""IDM of the ego along its route: follow the centreline, brake for who is on it and for red lights."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from worldengine_envs.envs.actions import POSE_PERIOD_S
from worldengine_envs.envs.map_tables import ROUTE_SPACING_M
from worldengine_envs.envs.observations import SEARCH_M, place_on_route
from worldengine_envs.scenario.types import STEP_S, LightState
from worldengine_envs.simulation.bicycle import VX, X, Y
from worldengine_envs.simulation.idm import A_MAX, B_MAX, free_acceleration, interaction, look_ahead
from worldengine_envs.simulation.kernels import kernel
from worldengine_envs.simulation.stop_lines import governed_lanes, stop_lines

DEFAULT_LIMIT = 15.0  # where the map knows none [m/s]
MARGIN_M = 0.3  # added to the half widths when looking for who is in the way
RETURN_M = 15.0  # an offset from the centreline shrinks to 1/e over this way
RED = int(LightState.RED)


class Stops(NamedTuple):
    """Stop lines on the routes of all scenarios."""

    start: np.ndarray  # (S + 1,) int64: scenario s has the rows start[s]..start[s + 1] - 1
    s: np.ndarray  # (rows,) float64 arclength on the route [m]
    light: np.ndarray  # (rows,) int32 light of the scenario


class IdmRoutes:
    """Stop lines of the scenarios of a batch, found when first needed."""

    def __init__(self, batch):
        self._batch, self._lines = batch, []
        self._stops = Stops(np.zeros(1, np.int64), np.zeros(0), np.zeros(0, np.int32))

    def stops(self) -> Stops:
        """Returns the stop lines of all scenarios compiled so far."""
        scenarios, tables = self._batch.scenarios, self._batch.arguments[3]
        if len(self._lines) < len(scenarios):
            for s in range(len(self._lines), len(scenarios)):
                first, count = int(tables.places["route_start"][s]), int(tables.places["route_count"][s])
                lanes = governed_lanes(scenarios[s].vector_map, scenarios[s].lights.lanes)
                self._lines.append(stop_lines(tables.route[first : first + count], ROUTE_SPACING_M, lanes))
            start = np.cumsum([0] + [len(line[0]) for line in self._lines]).astype(np.int64)
            at, light = (np.concatenate([line[i] for line in self._lines]) for i in (0, 1))
            self._stops = Stops(start, at, light.astype(np.int32))
        return self._stops


@kernel
def _obstacle(bank, worlds, tables, s, w, at, half_width, reach):
    """Returns gap from the rear axle to the nearest box on the way [m], infinity if none, and its speed along the route [m/s]."""
    scenario, place = bank.scenarios[s], tables.places[s]
    best, speed = math.inf, 0.0
    ego = worlds.ego[w]
    for a in range(1, scenario.num_agents):
        agent = worlds.agents[w, a]
        half_length, half = 0.5 * worlds.agent_size[w, a, 0], 0.5 * worlds.agent_size[w, a, 1]
        if not worlds.present[w, a] or math.hypot(agent[0] - ego[X], agent[1] - ego[Y]) > reach + half_length + half:
            continue
        there, offset = place_on_route(tables.route, place.route_start, place.route_count, at, at + reach, agent[0], agent[1])
        yaw = tables.route[place.route_start + int(there / ROUTE_SPACING_M), 2]
        along, across = abs(math.cos(agent[2] - yaw)), abs(math.sin(agent[2] - yaw))
        gap = there - along * half_length - across * half - at
        if there > at + 0.01 and gap < best and abs(offset) <= half_width + MARGIN_M + across * half_length + along * half:
            best, speed = gap, agent[3] * math.cos(yaw) + agent[4] * math.sin(yaw)
    return best, speed


@kernel
def _red_line(bank, worlds, stop_s, stop_light, first, last, s, w, front, speed, braking):
    """Returns the distance from an arclength to the next red line where stopping is possible [m], infinity if there is none."""
    scenario = bank.scenarios[s]
    now = scenario.light_start + worlds.step[w] * scenario.num_lights
    for i in range(first, last):
        gap = stop_s[i] - front
        if gap > 0.0 and bank.light_state[now + stop_light[i]] == RED and speed * speed <= 2.0 * braking * gap:
            return gap
    return math.inf


@kernel
def _route_pose(route, first, count, at, offset, slope, out):
    """Writes x, y, yaw of a point ``offset`` to the left of the route at an arclength; past its end the route goes straight on."""
    position = at / ROUTE_SPACING_M
    i = min(max(int(position), 0), count - 2)
    t, a, b = position - i, route[first + i], route[first + i + 1]
    cos, sin = math.cos(a[2]), math.sin(a[2])
    out[0] = a[0] + t * (b[0] - a[0]) - offset * sin
    out[1] = a[1] + t * (b[1] - a[1]) + offset * cos
    out[2] = a[2] + min(max(t, 0.0), 1.0) * (b[2] - a[2]) + math.atan(slope)


@kernel
def plan_idm(start, stop, bank, worlds, score, tables, stop_start, stop_s, stop_light, out):
    """Writes poses (worlds, 8, 3) in the world for worlds start..stop-1: the driver model rolled out, the leader going on."""
    for w in range(start, stop):
        s = worlds.scenario[w]
        scenario, place, ego, p = bank.scenarios[s], tables.places[s], worlds.ego[w], bank.idm[0]
        segment = scenario.route_start + score.route_row[w]
        low, high = bank.route_s[segment] - SEARCH_M, bank.route_s[segment + 1] + SEARCH_M
        first, count = place.route_start, place.route_count
        at, offset = place_on_route(tables.route, first, count, low, high, ego[X], ego[Y])
        speed = max(ego[VX], 0.0)
        front = scenario.rear_axle_to_center + 0.5 * scenario.length
        reach = look_ahead(p, speed) + front
        gap, leader_speed = _obstacle(bank, worlds, tables, s, w, at, 0.5 * scenario.width, reach)
        red = _red_line(bank, worlds, stop_s, stop_light, stop_start[s], stop_start[s + 1], s, w, at + front, speed, p[B_MAX])
        limit = tables.route[first + min(int(at / ROUTE_SPACING_M), count - 1), 5]
        desired = limit if limit == limit and limit > 0.0 else DEFAULT_LIMIT
        way, gap = 0.0, gap - front
        for j in range(out.shape[1]):
            for _ in range(round(POSE_PERIOD_S / STEP_S)):
                braking = max(interaction(p, speed, gap - way, leader_speed), interaction(p, speed, red - way, 0.0))
                wanted = min(max(free_acceleration(p, speed, desired) - braking, -p[B_MAX]), p[A_MAX])
                before = speed
                speed = max(speed + wanted * STEP_S, 0.0)
                way += 0.5 * (before + speed) * STEP_S
                gap += leader_speed * STEP_S
            fade = math.exp(-way / RETURN_M)
            _route_pose(tables.route, first, count, at + way, offset * fade, -offset * fade / RETURN_M, out[w, j])
