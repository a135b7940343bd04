"""The ego's motion model: a kinematic bicycle with first-order lags on both commands (nuPlan's, as in NAVSIM).

State vector (11,) of the ego, used by the simulator, the scorer and the planner alike:

    0 x, 1 y [m], 2 yaw [rad] of the rear axle | 3 vx, 4 vy [m/s] | 5 ax, 6 ay [m/s2], body frame |
    7 steering angle [rad] | 8 steering rate [rad/s] | 9 yaw rate [rad/s] | 10 yaw acceleration [rad/s2]
"""

from __future__ import annotations

import math

from worldengine_envs.scenario.types import STEP_S
from worldengine_envs.simulation.geometry import wrap_angle
from worldengine_envs.simulation.kernels import kernel

X, Y, YAW, VX, VY, AX, AY, STEERING, STEERING_RATE, YAW_RATE, YAW_ACCELERATION = range(11)
STATE_SIZE = 11

ACCELERATION_LAG_S = 0.2
STEERING_LAG_S = 0.05
MAX_STEERING = math.pi / 3  # [rad]
_ACCELERATION_GAIN = STEP_S / (STEP_S + ACCELERATION_LAG_S)
_STEERING_GAIN = STEP_S / (STEP_S + STEERING_LAG_S)


@kernel
def advance(state, acceleration_command, steering_rate_command, wheel_base):
    """Moves the state (11,) on by one step of 0.1 s, in place (explicit Euler).

    Position and yaw use the old speed, yaw and steering angle; the speed uses the new acceleration and may become negative.

    Args:
        state: (11,) see the module's docstring.
        acceleration_command: [m/s2]
        steering_rate_command: [rad/s]
        wheel_base: [m]
    """
    advance_with_tangent(state, acceleration_command, steering_rate_command, wheel_base, math.tan(state[STEERING]))


@kernel
def advance_with_tangent(state, acceleration_command, steering_rate_command, wheel_base, tan_steering):
    """As ``advance`` with the tangent of the steering angle at hand; returns the tangent of the new one."""
    vx, yaw, steering, yaw_rate = state[VX], state[YAW], state[STEERING], state[YAW_RATE]
    state[X] += vx * math.cos(yaw) * STEP_S
    state[Y] += vx * math.sin(yaw) * STEP_S
    state[YAW] = wrap_angle(yaw + vx * tan_steering / wheel_base * STEP_S)
    state[AX] += _ACCELERATION_GAIN * (acceleration_command - state[AX])
    state[VX] = vx + state[AX] * STEP_S
    state[VY] = state[AY] = 0.0
    state[STEERING_RATE] = _STEERING_GAIN * steering_rate_command
    state[STEERING] = min(max(steering + state[STEERING_RATE] * STEP_S, -MAX_STEERING), MAX_STEERING)
    tan_steering = math.tan(state[STEERING])
    state[YAW_RATE] = state[VX] * tan_steering / wheel_base
    state[YAW_ACCELERATION] = (state[YAW_RATE] - yaw_rate) / STEP_S
    return tan_steering
