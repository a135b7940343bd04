"""Demonstrations of the logged driver: at every decision, which anchors come close to where the log goes on from here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worldengine_envs.envs.actions import PLAN_STEPS
from worldengine_envs.envs.baselines import logged_poses
from worldengine_envs.envs.vector_env import DrivingVectorEnv
from worldengine_rl.mirror import mirrored, mirrored_poses
from worldengine_rl.pretraining import CloneSettings, Demonstrations
from worldengine_rl.randomness import derived_seed
from worldengine_rl.views import Views, concatenate_views
from worldengine_rl.worlds import PackSet, drive


def anchor_distances(anchors: np.ndarray, ego: np.ndarray, path: np.ndarray, step: int) -> np.ndarray:
    """Returns (anchors,) mean distance [m] of each anchor's poses to where the log is at their times.

    Args:
        anchors: (anchors, poses, 3) x, y [m], yaw [rad] relative to the rear axle, at equal periods that end at 4 s.
        ego: (>= 3,) x, y [m], yaw [rad] of the rear axle now.
        path: (steps + 1, >= 2) x, y [m] of the logged rear axle since the start; poses past its end do not count.
        step: steps since the start.

    Raises:
        ValueError: the log ends before the first pose.
    """
    poses = anchors.shape[1]
    at = step + np.arange(1, poses + 1) * (PLAN_STEPS // poses)
    at = at[at < len(path)]
    if len(at) == 0:
        raise ValueError(f"the log ends at step {len(path) - 1}, before the first pose after step {step}")
    dx, dy = path[at, 0] - ego[0], path[at, 1] - ego[1]
    cos, sin = np.cos(ego[2]), np.sin(ego[2])
    target = np.stack([cos * dx + sin * dy, cos * dy - sin * dx], axis=1)  # (known, 2)
    return np.linalg.norm(anchors[:, : len(at), :2] - target, axis=2).mean(1)


def soft_targets(distances: np.ndarray, softness_m: float) -> np.ndarray:
    """Returns probabilities softmax(-distance / softness) over the last axis."""
    weights = np.exp(-(distances - distances.min(-1, keepdims=True)) / softness_m)
    return weights / weights.sum(-1, keepdims=True)


class LoggedDriver:
    """Drives along the log by the anchors closest to it; with a probability by one of the close ones, drawn at random."""

    def __init__(self, settings: CloneSettings, seed: int, perturbed: float):
        self.settings, self.perturbed = settings, perturbed
        self.random = np.random.default_rng(seed)
        self.paths: dict[str, np.ndarray] = {}
        self.distances = np.zeros((0, 0))  # (worlds, anchors) of the last decision [m]
        self.in_mirror = np.zeros((0, 0))  # the same in the mirrored situations

    def __call__(self, observations: dict, envs: DrivingVectorEnv) -> np.ndarray:
        worlds, anchors = envs.batch.worlds, envs.batch.decisions.vocabulary
        self.distances, self.in_mirror = np.zeros((2, envs.num_envs, len(anchors)))
        mirrored_anchors = mirrored_poses(anchors)
        for w in range(envs.num_envs):
            scenario = envs.batch.scenario_of(w)
            if scenario.id not in self.paths:
                self.paths[scenario.id] = logged_poses(scenario, scenario.steps_ahead)
            at = worlds.ego[w], self.paths[scenario.id], int(worlds.step[w])
            self.distances[w] = anchor_distances(anchors, *at)
            self.in_mirror[w] = anchor_distances(mirrored_anchors, *at)
        best = self.distances.argmin(1)
        wide = soft_targets(self.distances, 4 * self.settings.softness_m)
        drawn = (wide.cumsum(1) > self.random.random((len(wide), 1))).argmax(1)
        return np.where(self.random.random(len(best)) < self.perturbed, drawn, best)


def collect_demonstrations(
    envs: DrivingVectorEnv, packs: PackSet, scenarios: Sequence[str], settings: CloneSettings, seed: int
) -> Demonstrations:
    """Drives every scenario ``settings.rounds`` times along its log and keeps observations, soft targets and returns to go.

    The first round follows the log as well as anchors can; the others are perturbed. Decisions that led to a failure are kept: the
    target is where the log is, not what was done. Every situation is kept as it is and in the mirror.
    """
    parts: list[Demonstrations] = []
    recordings = np.array([packs.recording(name) for name in scenarios])
    for number in range(settings.rounds):
        perturbed = 0.0 if number == 0 else settings.perturbed
        driver = LoggedDriver(settings, derived_seed(seed, "demonstrations", number), perturbed)
        rows: list[tuple] = []

        def keep(slots, observations, actions, rewards, driver=driver, rows=rows):
            busy = np.flatnonzero(slots >= 0)
            targets = [soft_targets(distances[busy], settings.softness_m) for distances in (driver.distances, driver.in_mirror)]
            rows.append((slots[busy], {name: value[busy] for name, value in observations.items()}, *targets, rewards[busy]))

        drive(envs, driver, scenarios, seed=derived_seed(seed, "worlds", number), on_step=keep)
        slots, targets, in_mirror, rewards = (np.concatenate([row[i] for row in rows]) for i in (0, 2, 3, 4))
        observations = {name: np.concatenate([row[1][name] for row in rows]) for name in rows[0][1]}
        images = {name: observations.pop(name) for name in list(observations) if observations[name].dtype == np.uint8}
        returns = returns_to_go(slots, rewards)
        plain = Demonstrations(observations, targets.astype(np.float32), returns, recordings[slots])
        other = Demonstrations(mirrored(observations), in_mirror.astype(np.float32), returns, recordings[slots])
        parts.append(concatenate([plain, other], _both_ways(images)))
    return concatenate(parts, concatenate_views([part.views for part in parts]) if parts[0].views is not None else None)


def _both_ways(images: dict[str, np.ndarray]) -> Views | None:
    """Returns the views of decisions as they are followed by the same in the mirror; None without cameras."""
    if not images:
        return None
    count = len(next(iter(images.values())))
    return Views(images, np.tile(np.arange(count), 2), np.repeat([False, True], count))


def returns_to_go(slots: np.ndarray, rewards: np.ndarray) -> np.ndarray:
    """Returns (decisions,) float32 sum of the rewards from each decision to the end of its episode.

    Args:
        slots: (decisions,) which episode each decision belongs to.
        rewards: (decisions,) in the order of time within each episode.
    """
    totals = np.zeros(slots.max() + 1)
    result = np.zeros(len(slots), np.float32)
    for i in range(len(slots) - 1, -1, -1):
        totals[slots[i]] += rewards[i]
        result[i] = totals[slots[i]]
    return result


def concatenate(parts: Sequence[Demonstrations], views: Views | None = None) -> Demonstrations:
    """Returns all parts as one, with the views given."""
    return Demonstrations(
        {name: np.concatenate([part.observations[name] for part in parts]) for name in parts[0].observations},
        np.concatenate([part.targets for part in parts]),
        np.concatenate([part.returns for part in parts]),
        np.concatenate([part.recordings for part in parts]),
        views,
    )
