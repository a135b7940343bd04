"""Worlds side by side: what both environments stand on. One kernel call drives a range of worlds over one decision."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from worldengine_envs.envs.actions import (
    ANCHOR,
    CONTROL,
    PLAN_STEPS,
    POSE_SCALE,
    POSES,
    TRAJECTORY,
    going_on,
    plan_from_poses,
    scaled_command,
)
from worldengine_envs.envs.library import library
from worldengine_envs.envs.observations import SHAPES, make_observation, write_observation
from worldengine_envs.envs.selection import Selection
from worldengine_envs.scenario.types import STEP_S, Scenario
from worldengine_envs.scoring.live import has_failed, live_reset, live_update, make_live_score
from worldengine_envs.simulation.bank import ScenarioBank
from worldengine_envs.simulation.bicycle import AX, STEERING_RATE, VX, YAW_RATE
from worldengine_envs.simulation.kernels import announce_compiling, kernel
from worldengine_envs.simulation.threads import run_over_worlds
from worldengine_envs.simulation.tracker import curvature_profile, lqr_command, velocity_profile
from worldengine_envs.simulation.world import make_worlds, move_ego, reset_world, step_world

if TYPE_CHECKING:
    from worldengine_envs.envs.camera_observations import CameraObserver
    from worldengine_envs.envs.camera_settings import CameraSettings

MAX_ACTION = float(np.finfo(np.float32).max)  # spaces are float32; what is larger would overflow in the tracker


class Decisions(NamedTuple):
    """What W egos decide, and how it is carried out."""

    kind: int  # CONTROL, TRAJECTORY or ANCHOR
    perfect: bool  # plans are followed exactly instead of by LQR and bicycle
    substeps: int  # steps of 0.1 s between two decisions
    horizon_steps: int
    control: np.ndarray  # (W, 2) float64 in [-1, 1]
    poses: np.ndarray  # (W, 8, 3) float64 `trajectory` actions
    pose_scale: np.ndarray  # (3,) float64
    anchor: np.ndarray  # (W,) int64
    vocabulary: np.ndarray  # (n, K, 3) float64 x, y [m], yaw [rad]
    active: np.ndarray  # (W,) bool: step or reset this world
    row: np.ndarray  # (W,) int32 scenario to reset to
    command: np.ndarray  # (W, 2) float64 last command: acceleration [m/s2], steering rate [rad/s]
    metric: np.ndarray  # (W, 8, 3) float64 scratch: poses in metres
    plan: np.ndarray  # (W, 41, 3) float64 x, y [m], yaw [rad] in the world
    profile: np.ndarray  # (W, 3, 40) float64 speed [m/s] and curvature [1/m] along the plan, scratch
    reward: np.ndarray  # (W,) float64 results of a decision
    terminated: np.ndarray  # (W,) bool
    truncated: np.ndarray  # (W,) bool


@kernel
def make_plan(worlds, d, w):
    """Makes the plan of world ``w`` from its action, and the tracker's profiles."""
    if d.kind == TRAJECTORY:
        speed, yaw_rate = worlds.ego[w, VX], worlds.ego[w, YAW_RATE]
        count = d.metric.shape[1]
        for j in range(count):
            x, y, yaw = going_on(speed, yaw_rate, (j + 1) * PLAN_STEPS * STEP_S / count)
            d.metric[w, j, 0] = x + d.pose_scale[0] * d.poses[w, j, 0]
            d.metric[w, j, 1] = y + d.pose_scale[1] * d.poses[w, j, 1]
            d.metric[w, j, 2] = yaw + d.pose_scale[2] * d.poses[w, j, 2]
        plan_from_poses(d.metric[w], worlds.ego[w], d.plan[w])
    else:
        plan_from_poses(d.vocabulary[d.anchor[w]], worlds.ego[w], d.plan[w])
    if not d.perfect:
        velocity_profile(d.plan[w], d.profile[w, 0])
        curvature_profile(d.plan[w], d.profile[w, 0], d.profile[w, 1], d.profile[w, 2])


@kernel
def choose_command(bank, worlds, d, w, k):
    """Returns acceleration [m/s2] and steering rate [rad/s] of world ``w``'s ego, ``k`` steps after the decision."""
    if d.kind == CONTROL:
        return scaled_command(d.control[w, 0], d.control[w, 1])
    wheel_base = bank.scenarios[worlds.scenario[w]].wheel_base
    return lqr_command(worlds.ego[w], d.plan[w], k, d.profile[w, 0], d.profile[w, 1], wheel_base)


@kernel
def _move(bank, worlds, d, w, k):
    """Moves world ``w`` on by one step, the ``k``-th since the decision."""
    ego = worlds.ego[w]
    is_control = d.kind == CONTROL
    if d.perfect and not is_control:
        move_ego(bank, worlds, w, d.plan[w, k + 1, 0], d.plan[w, k + 1, 1], d.plan[w, k + 1, 2])
        acceleration, steering_rate = ego[AX], ego[STEERING_RATE]
    else:
        acceleration, steering_rate = choose_command(bank, worlds, d, w, k)
        step_world(bank, worlds, w, acceleration, steering_rate, is_control)  # as in the scorer, a plan may lead backwards
    d.command[w, 0], d.command[w, 1] = acceleration, steering_rate


@kernel
def drive_worlds(start, stop, bank, worlds, score, tables, d, observation):
    """Carries out one decision in the active worlds of start..stop-1 and writes rewards, ends and observations."""
    for w in range(start, stop):
        if not d.active[w]:
            continue
        if d.kind != CONTROL:
            make_plan(worlds, d, w)
        reward, failed, k = 0.0, False, 0
        while k < d.substeps and worlds.step[w] < d.horizon_steps and not failed:
            _move(bank, worlds, d, w, k)
            reward += live_update(bank, worlds, score, w, worlds.step[w] == d.horizon_steps)
            failed = has_failed(score, w)
            k += 1
        d.reward[w], d.terminated[w] = reward, failed
        d.truncated[w] = not failed and worlds.step[w] >= d.horizon_steps
        write_observation(bank, worlds, score, tables, d.command, d.horizon_steps, observation, w)


@kernel
def begin_worlds(start, stop, bank, worlds, score, tables, d, observation):
    """Resets the active worlds of start..stop-1 to their scenarios and writes their first observations."""
    for w in range(start, stop):
        if d.active[w]:
            reset_world(bank, worlds, w, d.row[w])
            live_reset(bank, worlds, score, w)
            d.command[w, 0] = d.command[w, 1] = 0.0
            write_observation(bank, worlds, score, tables, d.command, d.horizon_steps, observation, w)


def _grown(new: NamedTuple, old: NamedTuple) -> NamedTuple:
    """Copies arrays into larger ones of the same kind."""
    for mine, theirs in zip(new, old, strict=True):
        mine[tuple(slice(0, n) for n in theirs.shape)] = theirs
    return new


class WorldBatch:
    """Scenarios compiled on demand, and W worlds that run them.

    Args:
        selection: Where scenarios come from.
        num_worlds: W.
        horizon_s: Length of an episode [s].
        traffic: As in ``ScenarioBank``.
        kind: CONTROL, TRAJECTORY or ANCHOR.
        substeps: Steps of 0.1 s between two decisions.
        perfect: Plans are followed exactly.
        vocabulary: (n, K, 3) plans for ANCHOR.
    """

    compiled = (begin_worlds, drive_worlds), "the world step (half a minute or so)"

    def __init__(self, selection: Selection, num_worlds, horizon_s, traffic, kind, substeps, perfect=False, vocabulary=None):
        announce_compiling(*self.compiled)
        self.selection, self.num_worlds, self.kind = selection, num_worlds, kind
        self.horizon_s, self.horizon_steps = horizon_s, round(horizon_s / STEP_S)
        self.library = library(selection.pack, horizon_s, traffic)
        w = num_worlds
        self.worlds = make_worlds(w, 1, self.horizon_steps)
        self.score = make_live_score(w, 1, self.horizon_steps)
        self.observation = make_observation(w)
        self.keys: tuple[str, ...] = tuple(SHAPES)  # of the state that is observed
        self.cameras: CameraObserver | None = None
        self.decisions = Decisions(
            kind=kind,
            perfect=bool(perfect),
            substeps=substeps,
            horizon_steps=self.horizon_steps,
            control=np.zeros((w, 2)),
            poses=np.zeros((w, POSES, 3)),
            pose_scale=POSE_SCALE.copy(),
            anchor=np.zeros(w, np.int64),
            vocabulary=np.zeros((1, POSES, 3)) if vocabulary is None else np.ascontiguousarray(vocabulary, np.float64),
            active=np.zeros(w, np.bool_),
            row=np.zeros(w, np.int32),
            command=np.zeros((w, 2)),
            metric=np.zeros((w, POSES, 3)),
            plan=np.zeros((w, PLAN_STEPS + 1, 3)),
            profile=np.zeros((w, 3, PLAN_STEPS)),
            reward=np.zeros(w),
            terminated=np.zeros(w, np.bool_),
            truncated=np.zeros(w, np.bool_),
        )

    def see(self, settings: CameraSettings, on_device: bool = False) -> None:
        """Lets worlds be seen by cameras from the next start on; arguments as ``CameraObserver``."""
        from worldengine_envs.envs.camera_observations import CameraObserver

        self.cameras = CameraObserver(settings, self, on_device)

    def look(self, worlds: np.ndarray) -> None:
        """Draws what worlds (n,) look like now; once after each start and each decision."""
        if self.cameras is not None:
            self.cameras.look(worlds)

    def look_on(self, worlds: np.ndarray) -> None:
        """As ``look``, after decisions: episodes are truncated where ``min_confidence`` says so."""
        self.look(worlds)
        if self.cameras is None or self.cameras.settings.min_confidence <= 0.0:
            return
        cameras, d = self.cameras, self.decisions
        low = cameras.confidence[worlds] < cameras.settings.min_confidence
        cameras.low[worlds] = low & ~d.terminated[worlds] & ~d.truncated[worlds]  # who is at the horizon ends by that
        d.truncated[worlds] |= cameras.low[worlds]

    @property
    def observed(self) -> dict[str, np.ndarray]:
        """What all worlds observe, (W, ...) by name: images, then state. Overwritten by what comes next."""
        images = {} if self.cameras is None else self.cameras.images
        return images | {name: getattr(self.observation, name) for name in self.keys}

    @property
    def bank(self) -> ScenarioBank:
        """Everything compiled so far, by this and other batches of the same pack, horizon and traffic."""
        return self.library.bank

    @property
    def scenarios(self) -> list[Scenario]:
        """Scenarios by row of the bank."""
        return self.library.scenarios

    def load(self, ids: list[str]) -> None:
        """Compiles the scenarios of these ids that are not there yet and makes room for their agents.

        Raises:
            DataError: One cannot be read or compiled.
        """
        self.library.load(ids)
        if self.bank.max_agents > self.worlds.present.shape[1]:
            room = max(self.bank.max_agents, 2 * self.worlds.present.shape[1])
            self.worlds = _grown(make_worlds(self.num_worlds, room, self.horizon_steps), self.worlds)
            self.score = _grown(make_live_score(self.num_worlds, room, self.horizon_steps), self.score)

    @property
    def arguments(self) -> tuple:
        """bank, worlds, score, tables, decisions, observation: what kernels over worlds take."""
        bank, tables = self.library.arrays
        return bank, self.worlds, self.score, tables, self.decisions, self.observation

    def begin(self, worlds: np.ndarray, ids: list[str]) -> None:
        """Resets worlds (n,) to the scenarios of these ids (n)."""
        self.load(ids)
        d = self.decisions
        d.active[:] = False
        d.active[worlds] = True
        d.row[worlds] = [self.library.row(name) for name in ids]
        run_over_worlds(begin_worlds, self.num_worlds, *self.arguments)
        if self.cameras is not None:
            self.cameras.begin(worlds)

    def drive(self, active: np.ndarray | bool, actions: np.ndarray) -> None:
        """Carries out the actions (W, ...) in the active worlds (W,); results are in ``decisions`` and ``observation``.

        Raises:
            ValueError: An action of an active world is not finite or not in the vocabulary.
        """
        self.decide(active, actions)
        run_over_worlds(drive_worlds, self.num_worlds, *self.arguments)

    def decide(self, active: np.ndarray | bool, actions: np.ndarray) -> None:
        """Checks the actions of the active worlds and stores them, without carrying them out; as ``drive``."""
        d = self.decisions
        d.active[:] = active
        target = (d.control, d.poses, d.anchor)[self.kind]
        actions = np.asarray(actions)
        if actions.shape != target.shape or (self.kind == ANCHOR and actions.dtype.kind not in "iu"):
            raise ValueError(f"actions have shape {actions.shape} and type {actions.dtype}, not {target.shape} {target.dtype}")
        target[:] = actions
        chosen = target[d.active]
        if self.kind == ANCHOR:
            if ((chosen < 0) | (chosen >= len(d.vocabulary))).any():
                raise ValueError(f"anchors must be in 0..{len(d.vocabulary) - 1}, got {chosen.min()}..{chosen.max()}")
        elif not (np.abs(chosen) <= MAX_ACTION).all():
            raise ValueError("an action is not finite, or no float32")

    def scenario(self, scenario_id: str) -> Scenario:
        """Returns a scenario that is compiled, by its id."""
        return self.scenarios[self.library.row(scenario_id)]

    def scenario_of(self, w: int) -> Scenario:
        """Returns the scenario that world ``w`` is in."""
        return self.scenarios[self.worlds.scenario[w]]
