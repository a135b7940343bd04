"""From the poses that a planner puts out to the poses that the tracker follows (rules 1 and 2 of the PDM Score).

Times pass through float seconds and are cut to whole microseconds, knots and queries alike, as in the reference: some queries lie
a microsecond early, which moves a pose by up to 6e-5 m.
"""

from __future__ import annotations

import math

import numpy as np

from worldengine_envs.scenario.types import STEP_S
from worldengine_envs.simulation.geometry import wrap_angle
from worldengine_envs.simulation.kernels import kernel

PLAN_STEPS = 40  # tracked and scored steps (4 s)


def query_times(time_us: int, steps: int = PLAN_STEPS) -> np.ndarray:
    """Returns (steps + 1,) int64 times [us] at which a trajectory that starts at ``time_us`` is read."""
    seconds = np.arange(0.0, steps * STEP_S + STEP_S, STEP_S)[: steps + 1] + time_us * 1e-6
    return (seconds * 1e6).astype(np.int64)


def knot_times(time_us: int, poses: int, interval: float) -> np.ndarray:
    """Returns (poses + 1,) int64 times [us] of the start and of a planner's poses, ``interval`` seconds apart."""
    seconds = np.arange(0.0, poses * interval, interval)[:poses] + interval + time_us * 1e-6
    return np.concatenate([[time_us], (seconds * 1e6).astype(np.int64)])


def interpolation(knots: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each query lies between knots.

    Args:
        knots: (n,) increasing times [us].
        queries: (q,) times [us], clipped to the range of the knots.

    Returns:
        (q,) int64 row of the knot before, (q,) weight in [0, 1] of the knot after.
    """
    queries = np.clip(queries, knots[0], knots[-1])
    before = np.clip(np.searchsorted(knots, queries) - 1, 0, len(knots) - 2)
    return before, (queries - knots[before]) / (knots[before + 1] - knots[before])


@kernel
def interpolate_poses(knots, before, weight, out):
    """Reads poses (q, 3) x, y [m], yaw [rad] into ``out``; yaw goes the short way round and is wrapped.

    Args:
        knots: (n, 3) poses; their yaw is unwrapped in place.
        before, weight: (q,) from ``interpolation``.
    """
    for i in range(1, len(knots)):
        knots[i, 2] = knots[i - 1, 2] + wrap_angle(knots[i, 2] - knots[i - 1, 2])
    for q in range(len(before)):
        i, w = before[q], weight[q]
        out[q, 0] = knots[i, 0] + w * (knots[i + 1, 0] - knots[i, 0])
        out[q, 1] = knots[i, 1] + w * (knots[i + 1, 1] - knots[i, 1])
        out[q, 2] = wrap_angle(knots[i, 2] + w * (knots[i + 1, 2] - knots[i, 2]))


@kernel
def compose_poses(x, y, yaw, relative, out):
    """Writes the pose (x, y, yaw) and behind it the poses (n, 3) relative to it to ``out`` (n + 1, 3), in the outer frame."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    out[0, 0], out[0, 1], out[0, 2] = x, y, yaw
    for i in range(len(relative)):
        dx, dy = relative[i, 0], relative[i, 1]
        out[i + 1, 0] = x + cos * dx - sin * dy
        out[i + 1, 1] = y + sin * dx + cos * dy
        out[i + 1, 2] = yaw + relative[i, 2]
