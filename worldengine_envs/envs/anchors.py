"""Vocabularies of plans for the action kind `anchor`: k-means over what logged drivers did, or over a fan of kinematic plans.

A vocabulary is an array (n, 8, 3): x, y [m], yaw [rad] of the rear axle every 0.5 s for 4 s, relative to the present one; on disk
an .npy file of float32. The one that ships was made by
``worldengine anchors starter --split common_train rare_train --size 256 --fan 20000 --out worldengine_envs/envs/anchors_256.npy``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from worldengine_envs.envs.actions import PLAN_STEPS, POSE_PERIOD_S, POSES
from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import STEP_S, Scenario

DEFAULT_FILE = Path(__file__).with_name("anchors_256.npy")
MAX_ANCHORS = 65_536
MAX_VALUE = 1e6  # of a pose [m], [rad]
DIVISORS = tuple(k for k in range(1, PLAN_STEPS + 1) if PLAN_STEPS % k == 0)  # numbers of poses that fit the 4 s
YAW_ARM_M = 2.5  # a difference of 1 rad in yaw counts like this many metres
MIN_SPEED = 0.5  # logged plans that move less than this on average add nothing but copies of standing still [m/s]


def load_vocabulary(anchors: str | os.PathLike | np.ndarray | None = None) -> np.ndarray:
    """Returns a vocabulary (n, K, 3) float64 from an .npy file or an array; None = the one that ships.

    K poses are equally spaced over 4 s, so K divides 40.

    Raises:
        DataError: No such file, a pickle, a wrong shape, or values that are not finite.
    """
    file = DEFAULT_FILE if anchors is None else anchors
    if not isinstance(file, np.ndarray):
        try:
            # mapped: a claim of more rows than there are bytes fails
            poses = np.lib.format.open_memmap(os.fspath(file), mode="r")
        except (OSError, ValueError, EOFError, TypeError) as error:
            remedy = "Make one with `worldengine anchors PACK --size N --out FILE`"
            raise DataError(f"not a vocabulary ({error})", file=file, field="anchors", remedy=remedy) from error
    else:
        poses, file = anchors, None
    if poses.ndim != 3 or poses.shape[2] != 3 or not 1 <= len(poses) <= MAX_ANCHORS or poses.shape[1] not in DIVISORS:
        raise DataError(f"shape {poses.shape}, not (1 to {MAX_ANCHORS}, poses over 4 s, 3)", file=file, field="anchors")
    if poses.dtype.kind != "f" or not (np.abs(poses) <= MAX_VALUE).all():
        raise DataError(f"type {poses.dtype}, or values that are not finite or over {MAX_VALUE:g}", file=file, field="anchors")
    return np.array(poses, np.float64)


def logged_plans(scenario: Scenario, agents: bool = True) -> np.ndarray:
    """Returns (plans, 8, 3): what the ego (and, with ``agents``, other vehicles) did in the 4 s after each 0.5 s of a recording.

    Other vehicles are taken by their box centre moved back by the ego's proportion of length, as the rear axle of a car.
    """
    tracks, every = scenario.tracks, round(POSE_PERIOD_S / STEP_S)
    back = scenario.ego.rear_axle_to_center / scenario.ego.length
    rows = range(len(tracks)) if agents else range(1)
    plans = []
    for a in rows:
        if tracks.types[a] != 0:
            continue
        x, y, yaw = tracks.state[a, :, :3].T
        shift = back * tracks.size[a, :, 0] if a else scenario.ego.rear_axle_to_center
        pose = np.stack([x - shift * np.cos(yaw), y - shift * np.sin(yaw), yaw], axis=1)
        for k in range(0, tracks.steps - PLAN_STEPS, every):
            if tracks.valid[a, k : k + PLAN_STEPS + 1].all():
                plan = relative_poses(pose[k], pose[k + every : k + PLAN_STEPS + 1 : every])
                if np.hypot(*plan[-1, :2]) >= 4.0 * MIN_SPEED:
                    plans.append(plan)
    return np.array(plans) if plans else np.zeros((0, POSES, 3))


def relative_poses(origin: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """Returns poses (..., 3) x, y [m], yaw [rad, in -pi..pi] as seen from a pose (3,)."""
    dx, dy = poses[..., 0] - origin[0], poses[..., 1] - origin[1]
    cos, sin = np.cos(origin[2]), np.sin(origin[2])
    yaw = (poses[..., 2] - origin[2] + np.pi) % (2 * np.pi) - np.pi
    return np.stack([cos * dx + sin * dy, cos * dy - sin * dx, yaw], axis=-1)


def kinematic_fan(count: int, seed: int = 0) -> np.ndarray:
    """Returns (count, 8, 3) plans that a car can drive: constant and stopping accelerations, turns and swerves at 0 to 20 m/s.

    The curvature is a constant plus one period of a sine (a swerve to a side and back), with at most 4 m/s2 to the side.
    """
    random = np.random.default_rng(seed)
    speed = random.uniform(0.0, 20.0, count)
    acceleration = np.where(random.random(count) < 0.5, random.uniform(-2.0, 2.0, count), random.uniform(-8.0, 3.0, count))
    turn, swerve = random.uniform(-1.0, 1.0, count) ** 3, random.uniform(-1.0, 1.0, count) ** 3
    bend = np.minimum(4.0 / np.maximum(speed, 1.0) ** 2, 0.2)  # [1/m]
    dt = STEP_S / 2
    pose, plans = np.zeros((count, 3)), np.empty((count, POSES, 3))
    per_pose = round(POSE_PERIOD_S / dt)
    for k in range(POSES * per_pose):
        curvature = bend * (turn + swerve * np.sin(2 * np.pi * k * dt / 3.0)) if k * dt < 3.0 else bend * turn
        step = dt * np.maximum(speed + acceleration * (k + 0.5) * dt, 0.0)
        middle = pose[:, 2] + 0.5 * step * curvature
        pose += np.stack([step * np.cos(middle), step * np.sin(middle), step * curvature], axis=1)
        if (k + 1) % per_pose == 0:
            plans[:, k // per_pose] = pose
    return plans


def cluster(plans: np.ndarray, size: int, seed: int = 0, iterations: int = 30) -> np.ndarray:
    """Returns (size, K, 3) float32 centres of k-means over plans (n, K, 3), the slowest first; the same for the same input.

    Distances are Euclidean over x, y and 2.5 m times yaw of all poses. Starts are drawn as in k-means++; a cluster that runs empty
    takes the plan that is furthest from its centre.

    Raises:
        DataError: Fewer different plans than clusters.
    """
    scale = np.array([1.0, 1.0, YAW_ARM_M])
    rows = np.unique((plans * scale).reshape(len(plans), -1).round(3), axis=0) if len(plans) else plans.reshape(0, 1)
    if not 1 <= size <= min(len(rows), MAX_ANCHORS):
        remedy = "Ask for fewer anchors or give more recordings"
        raise DataError(f"{size} anchors from {len(rows)} different plans", field="size", remedy=remedy)
    centers = _spread(rows, size, np.random.default_rng(seed))
    for _ in range(iterations):
        nearest, distance = _assign(rows, centers)
        counts = np.bincount(nearest, minlength=size)
        sums = np.stack([np.bincount(nearest, rows[:, c], size) for c in range(rows.shape[1])], axis=1)
        moved = sums / np.maximum(counts, 1)[:, None]
        empty = np.flatnonzero(counts == 0)
        moved[empty] = rows[np.argsort(-distance, kind="stable")[: len(empty)]]
        if np.abs(moved - centers).max() < 1e-3:
            break
        centers = moved
    order = np.lexsort((centers[:, 1], centers[:, -3].round(1)))
    return (centers[order].reshape(size, *plans.shape[1:]) / scale).astype(np.float32)


def _assign(rows: np.ndarray, centers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns nearest centre and squared distance to it, (n,) each."""
    nearest, distance = np.empty(len(rows), np.int64), np.empty(len(rows))
    norms = (centers**2).sum(1)
    for start in range(0, len(rows), 4096):
        part = rows[start : start + 4096]
        d2 = norms - 2.0 * part @ centers.T
        nearest[start : start + 4096] = d2.argmin(1)
        distance[start : start + 4096] = d2.min(1) + (part**2).sum(1)
    return nearest, distance


def _spread(rows: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """Draws starts in proportion to their squared distance from those drawn before (k-means++)."""
    chosen = [int(random.integers(len(rows)))]
    distance = ((rows - rows[chosen[0]]) ** 2).sum(1)
    for _ in range(size - 1):
        total = np.cumsum(distance)
        chosen.append(min(int(np.searchsorted(total, random.random() * total[-1], side="right")), len(rows) - 1))
        distance = np.minimum(distance, ((rows - rows[chosen[-1]]) ** 2).sum(1))
    return rows[chosen]


def make_vocabulary(scenarios: Iterable[Scenario], size: int, fan: int = 0, seed: int = 0) -> np.ndarray:
    """Returns a vocabulary (size, 8, 3) float32 from the recordings of scenarios, each once, and ``fan`` kinematic plans."""
    plans, seen = [kinematic_fan(fan, seed)], set()
    keep = []  # tracks stay referenced, so that id() tells them apart
    for scenario in scenarios:
        if id(scenario.tracks) not in seen:
            seen.add(id(scenario.tracks))
            keep.append(scenario.tracks)
            plans.append(logged_plans(scenario))
    vocabulary = cluster(np.concatenate(plans), size, seed)
    vocabulary[np.argmin(np.abs(vocabulary).sum((1, 2)))] = 0.0  # one anchor is to stand still, exactly
    return vocabulary


def save_vocabulary(vocabulary: np.ndarray, file: str | os.PathLike) -> None:
    """Writes a vocabulary, whole or not at all."""
    file = Path(file)
    part = file.with_name(file.name + ".part")
    with open(part, "wb") as stream:
        np.save(stream, np.asarray(vocabulary, np.float32), allow_pickle=False)
    part.replace(file)
