"""What an agent may decide: pedals and wheel (`control`), a plan (`trajectory`), or one plan of a vocabulary (`anchor`).

Plans are poses (x [m], y [m], yaw [rad]) of the rear axle every 0.5 s for 4 s, relative to the rear axle at the moment of decision.
"""

from __future__ import annotations

import math

import numpy as np
from gymnasium import spaces

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import STEP_S
from worldengine_envs.simulation.geometry import wrap_angle
from worldengine_envs.simulation.kernels import kernel

CONTROL, TRAJECTORY, ANCHOR = 0, 1, 2
ACTION_KINDS = {"control": CONTROL, "trajectory": TRAJECTORY, "anchor": ANCHOR}
DECISION_PERIOD_S = {"control": 0.1, "trajectory": 0.5, "anchor": 0.5}

MAX_ACCELERATION, MAX_DECELERATION, MAX_STEERING_RATE = 3.0, 8.0, 0.5  # scales of `control` [m/s2], [m/s2], [rad/s]
PLAN_S = 4.0  # length of a plan [s]
PLAN_STEPS = round(PLAN_S / STEP_S)
POSES, POSE_PERIOD_S = 8, 0.5
POSE_SCALE = np.array([10.0, 5.0, math.pi / 4])  # of `trajectory`: x [m], y [m], yaw [rad]


def action_space(kind: str, anchors: int = 0) -> spaces.Space:
    """Returns the space of one decision; ``anchors`` is the size of the vocabulary.

    Raises:
        DataError: No such kind of action.
    """
    if kind == "control":
        return spaces.Box(-1.0, 1.0, (2,), np.float32)
    if kind == "trajectory":
        return spaces.Box(-1.0, 1.0, (POSES, 3), np.float32)
    if kind == "anchor":
        return spaces.Discrete(anchors)
    raise DataError(f"{kind!r} is not one of {', '.join(ACTION_KINDS)}", field="action")


@kernel
def scaled_command(u1, u2):
    """Returns acceleration [m/s2] and steering rate [rad/s] of a `control` action; outside [-1, 1] it is clipped."""
    u1, u2 = min(max(u1, -1.0), 1.0), min(max(u2, -1.0), 1.0)
    return u1 * (MAX_ACCELERATION if u1 >= 0.0 else MAX_DECELERATION), u2 * MAX_STEERING_RATE


@kernel
def going_on(speed, yaw_rate, t):
    """Returns x, y [m], yaw [rad] after ``t`` seconds at constant speed [m/s] and yaw rate [rad/s] (an arc)."""
    half = 0.5 * yaw_rate * t
    chord = speed * t * (math.sin(half) / half if abs(half) > 1e-8 else 1.0)
    return chord * math.cos(half), chord * math.sin(half), yaw_rate * t


@kernel
def plan_from_poses(poses, ego, plan):
    """Fills a plan for the tracker from poses at equal periods that end at 4 s.

    Args:
        poses: (K, 3) x, y [m], yaw [rad] relative to the rear axle, the first one a period from now.
        ego: (11,) state of the ego.
        plan: (41, 3) x, y [m], yaw [rad] in the world every 0.1 s from now on, linear between poses, yaw unwrapped; written.
    """
    cos, sin = math.cos(ego[2]), math.sin(ego[2])
    per_pose = PLAN_STEPS // len(poses)
    plan[0, 0], plan[0, 1], plan[0, 2] = ego[0], ego[1], ego[2]
    x0 = y0 = yaw0 = 0.0
    for j in range(len(poses)):
        x1, y1 = poses[j, 0], poses[j, 1]
        yaw1 = yaw0 + wrap_angle(poses[j, 2] - yaw0)
        for i in range(1, per_pose + 1):
            t = i / per_pose
            x, y = x0 + t * (x1 - x0), y0 + t * (y1 - y0)
            k = j * per_pose + i
            plan[k, 0], plan[k, 1] = ego[0] + cos * x - sin * y, ego[1] + sin * x + cos * y
            plan[k, 2] = ego[2] + yaw0 + t * (yaw1 - yaw0)
        x0, y0, yaw0 = x1, y1, yaw1


def constant_motion(speed: np.ndarray, yaw_rate: np.ndarray) -> np.ndarray:
    """Returns (..., 8, 3) poses of going on at constant speed (...) [m/s] and yaw rate (...) [rad/s]: what zeros mean."""
    speed, yaw_rate = np.broadcast_arrays(np.asarray(speed, float), np.asarray(yaw_rate, float))
    poses = np.empty((*speed.shape, POSES, 3))
    for at in np.ndindex(speed.shape):
        for j in range(POSES):
            poses[(*at, j)] = going_on(speed[at], yaw_rate[at], POSE_PERIOD_S * (j + 1))
    return poses


def action_to_poses(action: np.ndarray, speed: np.ndarray, yaw_rate: np.ndarray) -> np.ndarray:
    """Returns metric poses (..., 8, 3) of `trajectory` actions (..., 8, 3), given speed [m/s] and yaw rate [rad/s] (...)."""
    return constant_motion(speed, yaw_rate) + np.asarray(action, float) * POSE_SCALE


def poses_to_action(poses: np.ndarray, speed: np.ndarray, yaw_rate: np.ndarray) -> np.ndarray:
    """Returns `trajectory` actions (..., 8, 3) float64 for metric poses (..., 8, 3): the inverse of ``action_to_poses``.

    Plans that differ much from going on (hard braking at speed) lie outside [-1, 1]; environments take such actions as they are.
    """
    offset = np.asarray(poses, float) - constant_motion(speed, yaw_rate)
    offset[..., 2] = (offset[..., 2] + np.pi) % (2 * np.pi) - np.pi
    return offset / POSE_SCALE


def command_to_control(acceleration: np.ndarray, steering_rate: np.ndarray) -> np.ndarray:
    """Returns `control` actions (..., 2) for accelerations [m/s2] and steering rates [rad/s] (...), clipped to [-1, 1]."""
    acceleration, steering_rate = np.broadcast_arrays(np.asarray(acceleration, float), np.asarray(steering_rate, float))
    up = acceleration / np.where(acceleration >= 0, MAX_ACCELERATION, MAX_DECELERATION)
    return np.clip(np.stack([up, steering_rate / MAX_STEERING_RATE], axis=-1), -1.0, 1.0).astype(np.float32)
