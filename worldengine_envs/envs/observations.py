"""State observations: what is around the ego, in its own frame (rear axle, x forward, y left), as a Dict of float32 arrays.

Every number is a physical quantity over a scale, clipped to [-10, 10]: lengths of the scene over 20 m, speeds over 10 m/s, sizes
over 5 m, room beside a lane over 10 m. Rows that do not exist are zeros and have 0 in the mask beside them.

ego (17): speed / 10, acceleration / 4, steering / 0.5, steering rate / 0.5, yaw rate / 0.5, offset from the route / 2 (left
    positive), sine and cosine of the heading against the route, speed limit / 10, 1 if the limit is known, time left / 4,
    progress so far / 20, NC so far, TTC so far, last command: acceleration / 8 and steering rate / 0.5, speed over limit / 10.
route (24, 4): points every 3 m along the route from the ego's place on it: x, y, room to the left and right of it on the road.
agents (32, 12): the nearest, nearest first: x, y, cos, sin, vx, vy, length, width, one of vehicle, pedestrian, bicycle, static.
map (64, 11): lane points every 5 m near the route ahead: x, y, cos, sin, room left and right, on the route, in an intersection,
    light green, yellow, red.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from gymnasium import spaces

from worldengine_envs.envs.map_tables import MAP_POINTS, ROUTE_SPACING_M, STATION_EVERY
from worldengine_envs.scenario.types import STEP_S
from worldengine_envs.simulation.bicycle import AX, STEERING, STEERING_RATE, VX, YAW, YAW_RATE, X, Y
from worldengine_envs.simulation.kernels import inlined_kernel, kernel

LIMIT = 10.0
SCENE_M, SPEED, SIZE_M, ROOM_M = 20.0, 10.0, 5.0, 10.0
EGO_FEATURES, ROUTE_POINTS, AGENTS = 17, 24, 32
ROUTE_PERIOD_M = 3.0
AGENT_FEATURES, ROUTE_FEATURES, MAP_FEATURES = 12, 4, 11
SEARCH_M = 6.0  # the ego's place on the route table lies this close to the one that the scorer knows, or is looked for everywhere


class StateObservation(NamedTuple):
    """Preallocated observations of W worlds."""

    ego: np.ndarray  # (W, EGO_FEATURES) float32
    route: np.ndarray  # (W, ROUTE_POINTS, ROUTE_FEATURES) float32
    agents: np.ndarray  # (W, AGENTS, AGENT_FEATURES) float32
    agents_mask: np.ndarray  # (W, AGENTS) float32
    map: np.ndarray  # (W, MAP_POINTS, MAP_FEATURES) float32
    map_mask: np.ndarray  # (W, MAP_POINTS) float32
    nearest: np.ndarray  # (W, AGENTS) int64 scratch
    distance: np.ndarray  # (W, AGENTS) float64 scratch


SHAPES = {
    "ego": (EGO_FEATURES,),
    "route": (ROUTE_POINTS, ROUTE_FEATURES),
    "agents": (AGENTS, AGENT_FEATURES),
    "agents_mask": (AGENTS,),
    "map": (MAP_POINTS, MAP_FEATURES),
    "map_mask": (MAP_POINTS,),
}


def state_space() -> spaces.Dict:
    """Returns the space of one world's observation."""
    bounds = {name: (0.0, 1.0) if name.endswith("_mask") else (-LIMIT, LIMIT) for name in SHAPES}
    return spaces.Dict({name: spaces.Box(*bounds[name], shape, np.float32) for name, shape in SHAPES.items()})


def make_observation(num_worlds: int) -> StateObservation:
    """Returns room for the observations of ``num_worlds`` worlds."""
    arrays = {name: np.zeros((num_worlds, *shape), np.float32) for name, shape in SHAPES.items()}
    return StateObservation(**arrays, nearest=np.zeros((num_worlds, AGENTS), np.int64), distance=np.zeros((num_worlds, AGENTS)))


@inlined_kernel
def _clip(value):
    return min(max(value, -LIMIT), LIMIT)


@kernel
def place_on_route(route, first, count, low_s, high_s, x, y):
    """Returns arclength and offset to the left [m] of a point on a route of ``MapTables``, looked for between two arclengths."""
    low = min(max(int(low_s / ROUTE_SPACING_M), 0), count - 2)
    high = min(max(int(high_s / ROUTE_SPACING_M) + 1, low + 1), count - 1)
    best, at, offset = math.inf, 0.0, 0.0
    for i in range(low, high):
        ax, ay = route[first + i, 0], route[first + i, 1]
        ux, uy = route[first + i + 1, 0] - ax, route[first + i + 1, 1] - ay
        vx, vy = x - ax, y - ay
        length2 = ux * ux + uy * uy
        t = min(max((vx * ux + vy * uy) / length2, 0.0), 1.0) if length2 > 0.0 else 0.0
        ex, ey = vx - t * ux, vy - t * uy
        d2 = ex * ex + ey * ey
        if d2 < best:
            best, at = d2, (i + t) * ROUTE_SPACING_M
            offset = math.copysign(math.sqrt(d2), ux * vy - uy * vx)
    return at, offset


@kernel
def write_observation(bank, worlds, score, tables, command, horizon_steps, observation, w):
    """Writes what world ``w`` looks like from the ego.

    Args:
        bank, worlds, score: The state of simulation and scorer. The scorer's place of the ego on its route says where to look
            for it on the route of the tables: both measure along the same line, up to its corners.
        tables: ``MapTables`` of the bank's scenarios.
        command: (W, 2) last commands: acceleration [m/s2], steering rate [rad/s].
        horizon_steps: Length of an episode.
        observation: ``StateObservation``, row ``w`` is written.
    """
    s = worlds.scenario[w]
    scenario, place = bank.scenarios[s], tables.places[s]
    ego, agents = worlds.ego[w], worlds.agents[w]
    x, y, cos, sin = ego[X], ego[Y], agents[0, 6], agents[0, 7]
    segment = scenario.route_start + score.route_row[w]
    low, high = bank.route_s[segment] - SEARCH_M, bank.route_s[segment + 1] + SEARCH_M
    at, offset = place_on_route(tables.route, place.route_start, place.route_count, low, high, x, y)
    out = observation.ego[w]
    row = tables.route[place.route_start + min(int(at / ROUTE_SPACING_M), place.route_count - 1)]
    _write_ego(ego, row[2], row[5], offset, out)
    out[10] = _clip((horizon_steps - worlds.step[w]) * STEP_S / 4.0)
    out[11] = _clip(score.progress[w] / SCENE_M)
    out[12], out[13] = score.nc[w], score.ttc[w]
    out[14], out[15] = _clip(command[w, 0] / 8.0), _clip(command[w, 1] / 0.5)
    _write_route(tables.route, place.route_start, place.route_count, observation.route[w], at, x, y, cos, sin)
    nearest = observation.nearest[w]
    count = _find_nearest(agents, worlds.present[w], scenario.num_agents, nearest, observation.distance[w], x, y)
    _write_agents(
        agents,
        worlds.agent_size[w],
        bank.agents,
        scenario.agent_start,
        nearest,
        count,
        observation.agents[w],
        observation.agents_mask[w],
        x,
        y,
    )
    station = place.near_start + min(int(at / ROUTE_SPACING_M + 0.5), place.route_count - 1) // STATION_EVERY
    lights = scenario.light_start + worlds.step[w] * scenario.num_lights
    near = tables.near[station]
    _write_map(near, tables.point, bank.light_state, lights, observation.map[w], observation.map_mask[w], x, y, cos, sin)


@kernel
def _write_ego(ego, route_yaw, limit, offset, out):
    error = ego[YAW] - route_yaw
    known = limit == limit
    out[0] = _clip(ego[VX] / SPEED)
    out[1] = _clip(ego[AX] / 4.0)
    out[2] = _clip(ego[STEERING] / 0.5)
    out[3] = _clip(ego[STEERING_RATE] / 0.5)
    out[4] = _clip(ego[YAW_RATE] / 0.5)
    out[5] = _clip(offset / 2.0)
    out[6], out[7] = math.sin(error), math.cos(error)
    out[8] = _clip(limit / SPEED) if known else 0.0
    out[9] = 1.0 if known else 0.0
    out[16] = _clip(max(ego[VX] - limit, 0.0) / SPEED) if known else 0.0


@kernel
def _write_route(route, first, count, out, at, x, y, cos, sin):
    for j in range(ROUTE_POINTS):
        position = min((at + ROUTE_PERIOD_M * j) / ROUTE_SPACING_M, float(count - 1))
        i = min(int(position), count - 2)
        t = position - i
        a, b = route[first + i], route[first + i + 1]
        dx, dy = a[0] + t * (b[0] - a[0]) - x, a[1] + t * (b[1] - a[1]) - y
        out[j, 0], out[j, 1] = _clip((cos * dx + sin * dy) / SCENE_M), _clip((cos * dy - sin * dx) / SCENE_M)
        out[j, 2], out[j, 3] = (a[3] + t * (b[3] - a[3])) / ROOM_M, (a[4] + t * (b[4] - a[4])) / ROOM_M


@kernel
def _find_nearest(agents, present, num_agents, nearest, distance, x, y):
    """Writes the rows of the nearest agents, nearest first, and returns their number (at most AGENTS).

    They are kept sorted while going through all: an insertion only where one is nearer than the last kept.
    """
    count = 0
    for a in range(1, num_agents):
        if not present[a]:
            continue
        dx, dy = agents[a, 0] - x, agents[a, 1] - y
        d2 = dx * dx + dy * dy
        if count == AGENTS and d2 >= distance[AGENTS - 1]:
            continue
        j = min(count, AGENTS - 1)
        while j > 0 and distance[j - 1] > d2:
            distance[j], nearest[j] = distance[j - 1], nearest[j - 1]
            j -= 1
        distance[j], nearest[j] = d2, a
        count = min(count + 1, AGENTS)
    return count


@kernel
def _write_agents(agents, sizes, kinds, first, nearest, count, out, mask, x, y):
    cos, sin = agents[0, 6], agents[0, 7]
    for j in range(count):
        a = nearest[j]
        agent = agents[a]
        dx, dy = agent[0] - x, agent[1] - y
        out[j, 0], out[j, 1] = _clip((cos * dx + sin * dy) / SCENE_M), _clip((cos * dy - sin * dx) / SCENE_M)
        out[j, 2], out[j, 3] = cos * agent[6] + sin * agent[7], cos * agent[7] - sin * agent[6]
        out[j, 4] = _clip((cos * agent[3] + sin * agent[4]) / SPEED)
        out[j, 5] = _clip((cos * agent[4] - sin * agent[3]) / SPEED)
        out[j, 6], out[j, 7] = _clip(sizes[a, 0] / SIZE_M), _clip(sizes[a, 1] / SIZE_M)
        kind = min(kinds[first + a].type, 3)
        for c in range(4):
            out[j, 8 + c] = 1.0 if kind == c else 0.0
        mask[j] = 1.0
    mask[count:] = 0.0
    out[count:] = 0.0


@kernel
def _write_map(near, points, light_state, lights, out, mask, x, y, cos, sin):
    count = 0
    for j in range(MAP_POINTS):
        row = near[j].point
        if row < 0:
            break
        point = points[row]
        dx, dy = point[0] - x, point[1] - y
        out[j, 0], out[j, 1] = _clip((cos * dx + sin * dy) / SCENE_M), _clip((cos * dy - sin * dx) / SCENE_M)
        out[j, 2], out[j, 3] = cos * point[2] + sin * point[3], cos * point[3] - sin * point[2]
        out[j, 4], out[j, 5] = point[4] / ROOM_M, point[5] / ROOM_M
        out[j, 6], out[j, 7] = near[j].on_route, point[6]
        light = near[j].light
        state = light_state[lights + light] if light >= 0 else 0
        for c in range(3):
            out[j, 8 + c] = 1.0 if state == c + 1 else 0.0
        mask[j] = 1.0
        count += 1
    mask[count:] = 0.0
    out[count:] = 0.0
