"""What ``DrivingParallelEnv`` stands on: one world, its agents' tasks, and a view of the world for each of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from worldengine_envs.envs.batch import WorldBatch
from worldengine_envs.envs.library import Library
from worldengine_envs.envs.map_tables import MapTableBuilder, MapTables
from worldengine_envs.envs.parallel_step import begin_agents, drive_agents
from worldengine_envs.envs.parallel_tasks import agent_tasks
from worldengine_envs.envs.selection import Selection
from worldengine_envs.scenario.types import Scenario, initial_ego_state
from worldengine_envs.simulation.bank import Bank, start_speed_limit
from worldengine_envs.simulation.world import make_worlds

MAX_TASKS = 256  # scenarios whose agents' tasks are kept compiled (up to 2 MB each)

_compiled: WeakKeyDictionary[Library, OrderedDict[tuple, Tasks]] = WeakKeyDictionary()
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Tasks:
    """The agents of one scenario and what each is to do."""

    rows: np.ndarray  # (n,) int32 their tracks; the ego is the first
    scenarios: tuple[Scenario, ...]  # the scenario as each one's own; behind the first, their track is the only one
    records: np.ndarray  # (n,) bank.SCENARIO: the scenario's record with each one's vehicle, route, reference and start
    route: np.ndarray  # (points, 3) float64 x, y [m], yaw [rad] of all routes
    route_s: np.ndarray  # (points,) float64 arclength [m]
    on_route: np.ndarray  # (n * polygons,) bool
    tables: MapTables  # of the n own scenarios

    def bank(self, bank: Bank) -> Bank:
        """Returns the bank with the agents' own tasks as its scenarios."""
        return bank._replace(scenarios=self.records, route=self.route, route_s=self.route_s, on_route=self.on_route)


def compile_tasks(scenario: Scenario, bank: Bank, s: int, horizon_s: float, limit: int) -> Tasks:
    """Returns the tasks of at most ``limit`` agents of a scenario, which is row ``s`` of the bank."""
    rows, scenarios = zip(*agent_tasks(scenario, bank, s, horizon_s, limit), strict=True)
    polygons, routes = scenario.vector_map.num_polygons, [own.route.centerline for own in scenarios]
    records = np.repeat(bank.scenarios[s : s + 1], len(rows))
    on_route = np.zeros((len(rows), polygons), np.bool_)
    for i, own in enumerate(scenarios):
        on_route[i, scenario.vector_map.lane_polygon[own.route.lanes]] = True
        if i > 0:  # the ego's record is that of the scenario
            _write_record(records[i : i + 1], own, horizon_s)
    records["route_count"] = [len(route) for route in routes]
    records["route_start"] = np.cumsum(records["route_count"]) - records["route_count"]
    records["on_route_start"] = polygons * np.arange(len(rows))
    lengths = [np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(route[:, :2], axis=0).T))]) for route in routes]
    builder = MapTableBuilder()
    builder.extend(bank._replace(scenarios=records), list(scenarios))
    return Tasks(
        np.array(rows, np.int32),
        scenarios,
        records,
        np.concatenate(routes),
        np.concatenate(lengths),
        on_route.reshape(-1),
        builder.arrays,
    )


def _write_record(record: np.ndarray, own: Scenario, horizon_s: float) -> None:
    """Writes an agent's vehicle, reference and start into its record (1,)."""
    for name in ("length", "width", "wheel_base", "rear_axle_to_center"):
        record[name] = getattr(own.ego, name)
    record["goal_x"], record["goal_y"] = own.route.goal
    record["speed_limit"], record["p_ref"] = start_speed_limit(own), own.reference.progress[horizon_s]
    record["ego"] = initial_ego_state(own)


class AgentBatch(WorldBatch):
    """One world driven by up to W agents: world ``i`` of this batch is the world as agent ``i`` is scored in it and sees it.

    Args:
        selection, horizon_s, traffic, kind, substeps, perfect, vocabulary: As ``WorldBatch``.
        max_agents: W.
    """

    compiled = (begin_agents, drive_agents), "the world step of many agents (half a minute or so)"

    def __init__(self, selection: Selection, max_agents, horizon_s, traffic, kind, substeps, perfect=False, vocabulary=None):
        super().__init__(selection, max_agents, horizon_s, traffic, kind, substeps, perfect, vocabulary)
        self.master = make_worlds(1, 1, self.horizon_steps, self.horizon_steps)
        self.tasks: Tasks | None = None  # of the scenario that the world is in

    def load(self, ids: list[str]) -> None:
        """As ``WorldBatch.load``, with room in the master world too."""
        super().load(ids)
        room = self.worlds.present.shape[1]
        if room > self.master.present.shape[1]:  # its old state is not needed: loading comes before a start
            self.master = make_worlds(1, room, self.horizon_steps, self.horizon_steps)

    def tasks_of(self, scenario_id: str) -> Tasks:
        """Compiles the tasks of a scenario's agents, or finds them compiled.

        Raises:
            DataError: The scenario cannot be read or compiled.
        """
        self.load([scenario_id])
        key, s = (scenario_id, self.num_worlds), self.library.row(scenario_id)
        with _lock:
            known = _compiled.setdefault(self.library, OrderedDict())
            if key not in known:
                known[key] = compile_tasks(self.library.scenarios[s], self.library.arrays[0], s, self.horizon_s, self.num_worlds)
                if len(known) > MAX_TASKS:
                    known.popitem(last=False)
            known.move_to_end(key)
            return known[key]

    @property
    def arguments(self) -> tuple:
        """own bank, views, score, own tables, decisions, observation: what kernels over worlds take."""
        return self.tasks.bank(self.library.arrays[0]), self.worlds, self.score, self.tasks.tables, self.decisions, self.observation

    def begin_agents(self, scenario_id: str) -> None:
        """Starts the world in a scenario; its agents are ``tasks.rows``."""
        self.tasks = self.tasks_of(scenario_id)
        self.scenario_row = self.library.row(scenario_id)
        begin_agents(self.library.arrays[0], self.master, self.scenario_row, self.tasks.rows, *self.arguments)
        if self.cameras is not None:
            self.cameras.begin(np.arange(len(self.tasks.rows)))

    def drive_agents(self, active: np.ndarray, actions: np.ndarray) -> None:
        """Carries out the actions (W, ...) of the active agents (W,) bool; results are in ``decisions`` and ``observation``.

        Raises:
            ValueError: An action of an active agent is not finite or not in the vocabulary.
        """
        self.decide(active, actions)
        drive_agents(self.library.arrays[0], self.master, self.tasks.rows, *self.arguments)

    def scenario_of(self, w: int) -> Scenario:
        """Returns the scenario that the world is in."""
        return self.library.scenarios[self.scenario_row]
