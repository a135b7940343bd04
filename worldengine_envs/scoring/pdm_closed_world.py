"""PDM-Closed in the loop: plans for simulated worlds, from what is there at their current step."""

from __future__ import annotations

import math
import threading
from typing import NamedTuple

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import LightState, VehicleParameters
from worldengine_envs.scoring.pdm_closed import MAX_RED_LIGHTS, ClosedRoom, ClosedRoute, make_room, make_route, plan
from worldengine_envs.scoring.pdm_closed_idm import TRAJECTORY_STEPS
from worldengine_envs.scoring.pdm_closed_paths import ClosedPaths, Corridor, empty_corridor
from worldengine_envs.simulation.bank import Bank
from worldengine_envs.simulation.geometry import wrap_angle
from worldengine_envs.simulation.kernels import kernel
from worldengine_envs.simulation.map_index import MAX_LANES_AT_POINT, lanes_at
from worldengine_envs.simulation.threads import run_over_worlds
from worldengine_envs.simulation.world import Worlds

_RED = int(LightState.RED)


class Sight(NamedTuple):
    """Room for what the planner sees of one world."""

    objects: np.ndarray  # (A, 7) x, y [m], yaw [rad], length, width [m], vx, vy [m/s]
    types: np.ndarray  # (A,) int8
    red: np.ndarray  # (lights,) int64 polygon rows of red connectors
    lanes: np.ndarray  # (lanes,) int32 scratch


def make_sight(max_agents: int) -> Sight:
    """Returns room for worlds of at most ``max_agents`` agents."""
    return Sight(
        np.zeros((max_agents, 7)),
        np.zeros(max_agents, np.int8),
        np.zeros(MAX_RED_LIGHTS, np.int64),
        np.zeros(MAX_LANES_AT_POINT, np.int32),
    )


def route_of(bank: Bank, s: int) -> ClosedRoute:
    """Prepares the route of scenario ``s`` of a bank. Raises DataError where its centreline or its lights are not usable."""
    row = bank.scenarios[s]
    line = bank.route[row["route_start"] : row["route_start"] + row["route_count"]]
    polygons = bank.maps[row["map_row"]]["polygons"]
    on_route = bank.on_route[row["on_route_start"] : row["on_route_start"] + polygons].copy()
    lanes = bank.light_lane[row["light_lane_start"] : row["light_lane_start"] + row["num_lights"]]
    lights = int(on_route[bank.lanes[bank.maps[row["map_row"]]["lane_start"] + lanes]["polygon"]].sum())
    if lights > MAX_RED_LIGHTS:
        raise DataError(f"{lights} lights on the route, more than {MAX_RED_LIGHTS}", field="lights", remedy="Cut the route shorter")
    vehicle = VehicleParameters(*(float(row[name]) for name in ("length", "width", "wheel_base", "rear_axle_to_center")))
    return make_route(line, vehicle, int(row["map_row"]), on_route)


@kernel
def _see_objects(bank, worlds, w, sight):
    """Fills objects and types with everyone present and returns their number."""
    scenario, count = bank.scenarios[worlds.scenario[w]], 0
    for a in range(1, scenario.num_agents):
        if not worlds.present[w, a]:
            continue
        agent, out = worlds.agents[w, a], sight.objects[count]
        out[0], out[1], out[2] = agent[0], agent[1], agent[2]
        out[3], out[4] = worlds.agent_size[w, a, 0], worlds.agent_size[w, a, 1]
        out[5], out[6] = agent[3], agent[4]
        sight.types[count] = bank.agents[scenario.agent_start + a].type
        count += 1
    return count


@kernel
def _see_lights(bank, worlds, w, on_route, sight):
    """Fills ``red`` with the polygons of red lanes on the route and returns their number."""
    scenario, count = bank.scenarios[worlds.scenario[w]], 0
    first_lane = bank.maps[scenario.map_row].lane_start
    now = scenario.light_start + np.int64(worlds.step[w]) * scenario.num_lights
    for light in range(scenario.num_lights):
        polygon = bank.lanes[first_lane + bank.light_lane[scenario.light_lane_start + light]].polygon
        if bank.light_state[now + light] == _RED and on_route[polygon]:  # there is room: see route_of
            sight.red[count] = polygon
            count += 1
    return count


@kernel
def _heading_error(bank, lane, x, y, yaw):
    """Angle [rad] between a heading and a lane's centreline at its point nearest to (x, y)."""
    nearest, error = math.inf, math.pi
    for i in range(lane.point_start, lane.point_start + lane.point_count):
        dx, dy = bank.lane_point[i, 0] - x, bank.lane_point[i, 1] - y
        d2 = dx * dx + dy * dy
        if d2 < nearest:
            nearest, error = d2, abs(wrap_angle(bank.lane_point[i, 2] - yaw))
    return error


@kernel
def speed_limit_here(bank, worlds, w, on_route, lanes):
    """Speed limit [m/s] of the on-route lane under the rear axle that points most like the ego, else that of the start."""
    scenario, ego = bank.scenarios[worlds.scenario[w]], worlds.ego[w]
    row = bank.maps[scenario.map_row]
    limit, smallest = scenario.speed_limit, math.inf
    count = lanes_at(bank.map_index, scenario.map_row, ego[0], ego[1], lanes)
    for i in range(count):
        if not on_route[lanes[i]]:
            continue
        for number in range(row.lane_start, row.lane_start + row.lane_count):
            lane = bank.lanes[number]
            if lane.polygon != lanes[i]:
                continue
            error = _heading_error(bank, lane, ego[0], ego[1], ego[2])
            if error < smallest:
                limit, smallest = lane.limit, error
    return limit


@kernel
def see(bank, worlds, w, on_route, sight):
    """Fills ``sight`` with what the planner sees of world ``w``; returns numbers of objects and red lights, speed limit [m/s]."""
    return (
        _see_objects(bank, worlds, w, sight),
        _see_lights(bank, worlds, w, on_route, sight),
        speed_limit_here(bank, worlds, w, on_route, sight.lanes),
    )


class PdmClosedDriver:
    """PDM-Closed for the worlds of one bank; routes are prepared when first met, threads have their own working memory.

    Args:
        max_agents: Most agents of a world.
    """

    def __init__(self, max_agents: int):
        self._max_agents = max_agents
        self._routes: dict[int, ClosedRoute] = {}
        self._local = threading.local()

    def plan(self, bank: Bank, worlds: Worlds, rows: np.ndarray | list[int]) -> np.ndarray:
        """Plans for worlds ``rows`` (n,), each from its current step.

        Returns:
            (n, 51, 3) x, y [m], yaw [rad] of the rear axle every 0.1 s from now.

        Raises:
            DataError: A route is not usable.
        """
        out = np.zeros((len(rows), TRAJECTORY_STEPS + 1, 3))
        for w in rows:
            s = int(worlds.scenario[w])
            if s not in self._routes:
                self._routes[s] = route_of(bank, s)
        run_over_worlds(self._plan_range, len(rows), bank, worlds, rows, out)
        return out

    def _plan_range(self, start: int, stop: int, bank: Bank, worlds: Worlds, rows, out: np.ndarray) -> None:
        room, sight = self._memory()
        for i in range(start, stop):
            w = int(rows[i])
            route = self._routes[int(worlds.scenario[w])]
            # a route's corridors are working memory too, and two threads may drive the same route
            route = route._replace(corridor=self._corridor(route.paths))
            count, lights, limit = see(bank, worlds, w, route.on_route, sight)
            objects, types, red = sight.objects[:count], sight.types[:count], sight.red[:lights]
            choice = plan(bank.map_index, route, room, worlds.ego[w], objects, types, red, limit)
            out[i] = room.proposals.pose[choice]

    def _memory(self) -> tuple[ClosedRoom, Sight]:
        if not hasattr(self._local, "memory"):
            self._local.memory = make_room(self._max_agents), make_sight(self._max_agents)
            self._local.corridor = None
        return self._local.memory

    def _corridor(self, paths: ClosedPaths) -> Corridor:
        """Returns this thread's corridor, with room for the longest route so far."""
        corridor = self._local.corridor
        if corridor is None or corridor.xy.shape[1] < paths.s.shape[1] + 2:
            corridor = self._local.corridor = empty_corridor(paths)
        return corridor
