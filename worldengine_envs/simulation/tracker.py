"""The LQR tracker that turns a planned trajectory into commands (nuPlan's, as in NAVSIM v1.1).

Speeds and curvatures along the plan are least-squares fits. With the speeds and curvatures themselves as unknowns (instead of a
start value and its derivatives) both systems are banded, so a plan of n steps costs O(n). A plan is poses (n + 1, 3): x, y [m],
yaw [rad] of the rear axle every 0.1 s from now on; n is at least 1 and at most MAX_STEPS.
"""

from __future__ import annotations

import math

import numpy as np

from worldengine_envs.scenario.types import STEP_S
from worldengine_envs.simulation.bicycle import STATE_SIZE, STEERING, VX, YAW, X, Y, advance_with_tangent
from worldengine_envs.simulation.geometry import wrap_angle
from worldengine_envs.simulation.kernels import kernel

MAX_STEPS = 512
TRACKING_STEPS = 10  # look-ahead of the controller [steps]
Q_SPEED, Q_LATERAL, Q_HEADING = 10.0, 1.0, 10.0  # weights of the errors; those of both commands are 1
STOPPING_GAIN, STOPPING_SPEED = 0.5, 0.2  # below this speed [m/s] a proportional controller brings the car to rest
ACCELERATION_PENALTY, CURVATURE_RATE_PENALTY, INITIAL_CURVATURE_PENALTY = 1e-4, 1e-2, 1e-10

_SPEED_COUPLING = ACCELERATION_PENALTY / STEP_S**4
_CURVATURE_COUPLING = CURVATURE_RATE_PENALTY / STEP_S**2
_SPEED_GAIN = Q_SPEED * TRACKING_STEPS * STEP_S / (Q_SPEED * (TRACKING_STEPS * STEP_S) ** 2 + 1.0)


def _inverse_pivots(coupling: float) -> np.ndarray:
    """Inverse pivots of the speeds' tridiagonal system, which do not depend on the plan."""
    pivots = np.empty(MAX_STEPS)
    pivots[0] = 1.0 + coupling
    for i in range(1, MAX_STEPS):
        pivots[i] = 1.0 + 2.0 * coupling - coupling**2 / pivots[i - 1]
    return 1.0 / pivots


_INVERSE_PIVOTS = _inverse_pivots(_SPEED_COUPLING)


@kernel
def velocity_profile(poses, out):
    """Fits speeds to the displacements along a plan.

    Minimises squared displacement errors plus a penalty on squared accelerations; as in the reference, the last penalised
    quantity is the difference of the last two accelerations instead.

    Args:
        poses: (n + 1, 3) x, y [m], yaw [rad].
        out: (n,) speeds [m/s], written.
    """
    n, w = len(out), _SPEED_COUPLING
    for i in range(n):
        dx, dy = poses[i + 1, 0] - poses[i, 0], poses[i + 1, 1] - poses[i, 1]
        out[i] = (dx * math.cos(poses[i, 2]) + dy * math.sin(poses[i, 2])) / STEP_S
    if n < 3:
        return
    for i in range(n - 3):
        out[i + 1] += w * _INVERSE_PIVOTS[i] * out[i]
    pivot = 1.0 + w
    if n > 3:
        pivot += w - w * w * _INVERSE_PIVOTS[n - 4]
    _solve_last_three(pivot, w, out)
    for i in range(n - 4, -1, -1):
        out[i] = (out[i] + w * out[i + 1]) * _INVERSE_PIVOTS[i]


@kernel
def _solve_last_three(pivot, w, out):
    """Solves the last three equations: rows (pivot, -2w, w), (-2w, 1 + 4w, -2w), (w, -2w, 1 + w)."""
    n = len(out)
    u, v = 2.0 * w / pivot, w / pivot
    b, c = out[n - 2] + u * out[n - 3], out[n - 1] - v * out[n - 3]
    m11, m12, m22 = 1.0 + 4.0 * w - 2.0 * w * u, -2.0 * w + 2.0 * w * v, 1.0 + w - w * v
    last = (c - m12 / m11 * b) / (m22 - m12 * m12 / m11)
    middle = (b - m12 * last) / m11
    out[n - 3] = (out[n - 3] + 2.0 * w * middle - w * last) / pivot
    out[n - 2], out[n - 1] = middle, last


@kernel
def curvature_profile(poses, velocity, out, scratch):
    """Fits curvatures to the changes of yaw along a plan, given its fitted speeds.

    Minimises squared yaw errors plus penalties on squared curvature rates and, tiny, on the squared first curvature. The system
    is a weighted chain, eliminated from its end with sums of positive terms only, so it keeps its precision at rest.

    Args:
        poses: (n + 1, 3) x, y [m], yaw [rad].
        velocity: (n,) speeds [m/s] from ``velocity_profile``.
        out: (n,) curvatures [1/m], written.
        scratch: (n,) overwritten.
    """
    n, w = len(out), _CURVATURE_COUPLING
    excess = right = ratio = 0.0
    for i in range(n - 1, -1, -1):
        step = velocity[i] * STEP_S
        excess = step * step + excess * ratio
        right = step * wrap_angle(poses[i + 1, 2] - poses[i, 2]) + right * ratio
        inverse = 1.0 / (w + excess)
        ratio = w * inverse
        scratch[i], out[i] = ratio, right * inverse
    out[0] = right / (excess + INITIAL_CURVATURE_PENALTY)
    for i in range(1, n):
        out[i] += scratch[i] * out[i - 1]


@kernel
def lqr_command(state, poses, k, velocity, curvature, wheel_base):
    """Commands that bring the ego nearer to its plan.

    Args:
        state: (11,) of the ego, see ``bicycle``.
        poses: (n + 1, 3) the plan; pose k belongs to the present moment.
        k: Step of the plan, 0..n - 1.
        velocity, curvature: (n,) profiles of the plan [m/s], [1/m].
        wheel_base: [m]

    Returns:
        Acceleration [m/s2] and steering rate [rad/s].
    """
    last = len(velocity) - 1
    target = min(k + TRACKING_STEPS, last)
    speed, target_speed = state[VX], velocity[target]
    if target_speed <= STOPPING_SPEED and speed <= STOPPING_SPEED:
        return -STOPPING_GAIN * (speed - target_speed), 0.0
    acceleration = -_SPEED_GAIN * (speed - target_speed)
    cos, sin = math.cos(poses[k, 2]), math.sin(poses[k, 2])
    lateral = (state[Y] - poses[k, 1]) * cos - (state[X] - poses[k, 0]) * sin
    heading = wrap_angle(state[YAW] - poses[k, 2])
    # Roll the linear error model on without steering, and with it the errors that one unit of steering rate would make.
    steer = state[STEERING] / wheel_base
    lateral_unit = heading_unit = steering_unit = 0.0
    v, dv = speed * STEP_S, acceleration * STEP_S * STEP_S
    for j in range(k, k + TRACKING_STEPS):
        lateral += v * heading
        heading += v * (steer - curvature[min(j, target)])
        lateral_unit += v * heading_unit
        heading_unit += v * steering_unit / wheel_base
        steering_unit += STEP_S
        v += dv
    heading = wrap_angle(heading)
    gain = Q_LATERAL * lateral_unit * lateral_unit + Q_HEADING * heading_unit * heading_unit + 1.0
    return acceleration, -(Q_LATERAL * lateral_unit * lateral + Q_HEADING * heading_unit * heading) / gain


@kernel
def track_into(poses, states, velocity, curvature, scratch, wheel_base):
    """Simulates the ego along a plan.

    Args:
        poses: (n + 1, 3) x, y [m], yaw [rad].
        states: (n + 1, 11) row 0 is the start, the others are written.
        velocity, curvature: (n,) profiles, written.
        scratch: (n,) overwritten.
        wheel_base: [m]
    """
    velocity_profile(poses, velocity)
    curvature_profile(poses, velocity, curvature, scratch)
    tangent = math.tan(states[0, STEERING])
    for k in range(len(velocity)):
        acceleration, steering_rate = lqr_command(states[k], poses, k, velocity, curvature, wheel_base)
        for i in range(STATE_SIZE):
            states[k + 1, i] = states[k, i]
        tangent = advance_with_tangent(states[k + 1], acceleration, steering_rate, wheel_base, tangent)


def track(poses: np.ndarray, initial_state: np.ndarray, wheel_base: float) -> np.ndarray:
    """Returns (n + 1, 11) states of the ego driven along ``poses`` (n + 1, 3) from ``initial_state`` (11,)."""
    n = len(poses) - 1
    if not 1 <= n <= MAX_STEPS:
        raise ValueError(f"a plan has 2 to {MAX_STEPS + 1} poses, not {len(poses)}")
    states = np.empty((n + 1, STATE_SIZE))
    states[0] = initial_state
    track_into(np.asarray(poses, dtype=np.float64), states, np.empty(n), np.empty(n), np.empty(n), wheel_base)
    return states
