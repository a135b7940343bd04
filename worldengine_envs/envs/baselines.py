"""Baselines that every closed-loop table shows: the log, constant velocity, full braking, IDM along the route, PDM-Closed.

Each is made for a ``DrivingVectorEnv`` of its action kind and called with observations, which it ignores: it looks at the worlds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from worldengine_envs.envs.actions import PLAN_STEPS, POSE_PERIOD_S, POSES, poses_to_action
from worldengine_envs.envs.anchors import relative_poses
from worldengine_envs.envs.baseline_idm import IdmRoutes, plan_idm
from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import STEP_S, Scenario
from worldengine_envs.simulation.bicycle import VX, YAW_RATE
from worldengine_envs.simulation.kernels import announce_compiling
from worldengine_envs.simulation.threads import run_over_worlds

EVERY = round(POSE_PERIOD_S / STEP_S)


class Baseline(ABC):
    """A policy for all worlds of a vector environment (or any object with its ``batch``).

    Args:
        envs: ``DrivingVectorEnv`` made with ``action=Baseline.action``.
    """

    action: ClassVar[str] = "trajectory"

    def __init__(self, envs):
        self.batch = envs.batch

    @abstractmethod
    def __call__(self, observations: dict | None = None, envs=None) -> np.ndarray:
        """Returns the actions of all worlds."""


class Planner(Baseline):
    """A baseline that decides on poses."""

    def __call__(self, observations=None, envs=None) -> np.ndarray:
        ego = self.batch.worlds.ego
        return poses_to_action(self.poses(), ego[:, VX], ego[:, YAW_RATE])

    @abstractmethod
    def poses(self) -> np.ndarray:
        """Returns (worlds, 8, 3) x, y [m], yaw [rad] relative to the rear axle, every 0.5 s."""

    def local(self, plans: np.ndarray) -> np.ndarray:
        """Returns poses (worlds, 8, 3) relative to the rear axles for poses in the world."""
        return np.stack([relative_poses(ego[:3], plan) for ego, plan in zip(self.batch.worlds.ego, plans, strict=True)])


class Log(Planner):
    """Follows the logged driver through the tracker; past the end of the log it goes on at constant velocity."""

    def __init__(self, envs):
        super().__init__(envs)
        self._paths: dict[int, np.ndarray] = {}  # by row of the bank

    def poses(self) -> np.ndarray:
        worlds, plans = self.batch.worlds, []
        for s, k in zip(worlds.scenario, worlds.step, strict=True):
            if s not in self._paths:
                self._paths[s] = logged_poses(self.batch.scenarios[s], self.batch.horizon_steps + PLAN_STEPS)
            plans.append(self._paths[s][k + EVERY : k + PLAN_STEPS + 1 : EVERY])
        return self.local(np.array(plans))


class ConstantVelocity(Planner):
    """Goes straight on at the present speed."""

    def poses(self) -> np.ndarray:
        poses = np.zeros((self.batch.num_worlds, POSES, 3))
        poses[:, :, 0] = self.batch.worlds.ego[:, VX, None] * POSE_PERIOD_S * np.arange(1, POSES + 1)
        return poses


class Brake(Baseline):
    """Brakes fully, the wheel as it is."""

    action = "control"

    def __call__(self, observations=None, envs=None) -> np.ndarray:
        return np.tile(np.array([-1.0, 0.0], np.float32), (self.batch.num_worlds, 1))


class Idm(Planner):
    """The Intelligent Driver Model along the route, for agents and red lights ahead on it; it never leaves its lane."""

    def __init__(self, envs):
        super().__init__(envs)
        self._routes, self._poses = IdmRoutes(self.batch), np.zeros((self.batch.num_worlds, POSES, 3))

    def poses(self) -> np.ndarray:
        bank, worlds, score, tables, *_ = self.batch.arguments
        stops = self._routes.stops()
        run_over_worlds(
            plan_idm, self.batch.num_worlds, bank, worlds, score, tables, stops.start, stops.s, stops.light, self._poses
        )
        return self.local(self._poses)


class PdmClosed(Planner):
    """The rule-based planner PDM-Closed."""

    def __init__(self, envs):
        super().__init__(envs)
        self._driver, self._room = None, 0

    def poses(self) -> np.ndarray:
        from worldengine_envs.scoring.pdm_closed import plan
        from worldengine_envs.scoring.pdm_closed_world import PdmClosedDriver

        batch = self.batch
        room = batch.worlds.present.shape[1]
        if self._driver is None or room > self._room:
            announce_compiling((plan,), "PDM-Closed (half a minute or so)")
            self._driver, self._room = PdmClosedDriver(room), room
        plans = self._driver.plan(batch.arguments[0], batch.worlds, np.arange(batch.num_worlds))
        return self.local(plans[:, EVERY : PLAN_STEPS + 1 : EVERY])


BASELINES: dict[str, type[Baseline]] = {
    "log": Log,
    "constant-velocity": ConstantVelocity,
    "brake": Brake,
    "idm": Idm,
    "pdm-closed": PdmClosed,
}


def baseline(name: str) -> type[Baseline]:
    """Returns a baseline by its name; raises DataError for an unknown one."""
    if name not in BASELINES:
        raise DataError(f"no baseline {name!r}", field="policy", remedy=f"Baselines: {', '.join(BASELINES)}")
    return BASELINES[name]


def logged_poses(scenario: Scenario, steps: int) -> np.ndarray:
    """Returns (steps + 1, 3) x, y [m], yaw [rad] of the logged rear axle every 0.1 s from the start.

    Steps that the log lacks are interpolated; past its end it goes on at constant velocity.
    """
    tracks, first = scenario.tracks, scenario.start_step
    known = np.flatnonzero(tracks.valid[0, first:])
    x, y, yaw, vx, vy = tracks.state[0, first + known].T
    at = np.arange(steps + 1)
    beyond = STEP_S * np.maximum(at - known[-1], 0)
    yaw = np.interp(at, known, np.unwrap(yaw))
    back = scenario.ego.rear_axle_to_center
    x, y = np.interp(at, known, x) + vx[-1] * beyond, np.interp(at, known, y) + vy[-1] * beyond
    return np.stack([x - back * np.cos(yaw), y - back * np.sin(yaw), yaw], axis=1)
