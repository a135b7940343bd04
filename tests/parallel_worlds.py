"""Worlds of many agents for tests: what to drive in, how to replay logs, and a record for the independent scorer."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from factory import Agent, moved, straight_scenario
from live_oracle import Rollout
from live_worlds import _boxes_at

from worldengine_envs.city import make_scenario
from worldengine_envs.envs.actions import poses_to_action
from worldengine_envs.envs.anchors import relative_poses
from worldengine_envs.scenario.types import AgentType, LightState, ProgressReference, Scenario, Tracks, VehicleParameters
from worldengine_envs.simulation.bank import LOG

LEAD = straight_scenario([Agent(22.0, 0.0, 8.0), Agent(-14.0, 3.5, 9.0), Agent(45.0, 3.5)], id="lead", light=LightState.GREEN)
CROWD = moved(
    straight_scenario(
        [Agent(14.0 * (i // 2) - 30.0, 3.5 * (i % 2), 10.0 - 0.3 * i) for i in range(10) if i != 4]
        + [Agent(30.0, -3.0, 1.2, 1.57, AgentType.PEDESTRIAN), Agent(18.0, 7.2, 5.0, kind=AgentType.BICYCLE)],
        id="crowd",
        lanes=3,
    ),
    1.1,
    40.0,
    -20.0,
)


def with_reference(scenario: Scenario) -> Scenario:
    """The scenario with the length of its logged driver's way as progress reference."""
    k = scenario.start_step
    way = np.hypot(*np.diff(scenario.tracks.state[0, k : k + 41, :2], axis=0).T).sum()
    return replace(scenario, reference=ProgressReference("log", {4.0: float(way)}))


@lru_cache
def city(family: str, seed: int) -> Scenario:
    """A scenario of the city."""
    return with_reference(make_scenario(family, seed))


NAMES = ("lead", "crowd", "cut_in 3", "turn 1", "stop_at_light 1")


def world(name: str) -> Scenario:
    """One of the worlds with these names: hand-made, or family and seed of the city's."""
    if " " not in name:
        return {"lead": LEAD, "crowd": CROWD}[name]
    family, seed = name.split()
    return city(family, int(seed))


def seen_from(scenario: Scenario, own: Scenario, a: int) -> Scenario:
    """The scenario with track ``a`` in the ego's place, and its own vehicle, route and reference."""
    rows = np.arange(len(scenario.tracks))
    rows[0], rows[a] = a, 0
    tracks = scenario.tracks
    swapped = Tracks(
        tuple(tracks.tokens[r] for r in rows), *(x[rows] for x in (tracks.types, tracks.state, tracks.size, tracks.valid))
    )
    return replace(scenario, tracks=swapped, route=own.route, ego=own.ego, reference=own.reference)


def rear_axle(scenario: Scenario, a: int, vehicle: VehicleParameters, steps: int) -> np.ndarray:
    """Logged rear-axle poses (steps + 1, 3) of a track from the start; where it ends, it goes on at its last velocity."""
    k, tracks = scenario.start_step, scenario.tracks
    poses = np.empty((steps + 1, 3))
    for i in range(steps + 1):
        step = k + i
        last = step if step < tracks.steps and tracks.valid[a, step] else np.flatnonzero(tracks.valid[a, :step])[-1]
        x, y, yaw, vx, vy = tracks.state[a, last]
        dt, back = 0.1 * (step - last), vehicle.rear_axle_to_center
        poses[i] = x + dt * vx - back * np.cos(yaw), y + dt * vy - back * np.sin(yaw), yaw
    return poses


def replay(env, paths: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`trajectory` actions of all agents that follow poses (steps + 1, 3) given by agent."""
    actions = {}
    for agent in env.agents:
        i = env.possible_agents.index(agent)
        ego, step = env.batch.worlds.ego[i], int(env.batch.master.step[0])
        at = np.minimum(step + 5 * np.arange(1, 9), len(paths[agent]) - 1)
        actions[agent] = poses_to_action(relative_poses(ego[:3], paths[agent][at]), ego[3], ego[9])
    return actions


class Record:
    """Notes every step of the one world of a ``DrivingParallelEnv`` with decisions of 0.1 s."""

    def __init__(self, env):
        self.env, self.bodies, self.boxes = env, [], []
        self.note()

    def note(self) -> None:
        """Notes the present state, off the master world."""
        master = self.env.batch.master
        self.bodies.append(self.env.batch.worlds.ego.copy())
        rows = np.flatnonzero(master.present[0])
        self.boxes.append({int(a): (*master.agents[0, a, :3], *master.agent_size[0, a], *master.agents[0, a, 3:5]) for a in rows})

    def rollout(self, i: int, steps: int) -> Rollout:
        """What happened to agent ``i`` in its first ``steps`` steps."""
        batch = self.env.batch
        scenario, own, row = batch.scenario_of(0), batch.tasks.scenarios[i], int(batch.tasks.rows[i])
        boxes = [{a: box for a, box in now.items() if a != row} for now in self.boxes[: steps + 1]]
        log = [_boxes_at(scenario, scenario.start_step + k) for k in range(steps + 11)]
        polygons = [scenario.vector_map.polygon(p) for p in range(scenario.vector_map.num_polygons)]
        vehicle = (own.ego.length, own.ego.width, own.ego.rear_axle_to_center)
        replayed = batch.master.mode[0] == LOG
        return Rollout(
            [bodies[i] for bodies in self.bodies[: steps + 1]], boxes, log, scenario.tracks.types, replayed, polygons,
            scenario.vector_map.polygon_layer.tolist(), own.route.centerline[:, :2], vehicle, own.reference.progress[4.0], 40,
        )  # fmt: skip
