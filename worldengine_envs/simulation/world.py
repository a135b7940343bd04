"""One world's state and its step of 0.1 s: the ego by nuPlan's kinematic bicycle, then everyone else.

All state is in arrays over worlds; one function steps one world, and worlds share nothing but the bank that they read.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from worldengine_envs.scenario.types import STEP_S
from worldengine_envs.simulation.bank import LOG
from worldengine_envs.simulation.bicycle import (
    AX,
    AY,
    STEERING,
    STEERING_RATE,
    VX,
    VY,
    YAW,
    YAW_ACCELERATION,
    YAW_RATE,
    X,
    Y,
    advance,
)
from worldengine_envs.simulation.geometry import wrap_angle
from worldengine_envs.simulation.kernels import kernel
from worldengine_envs.simulation.traffic import accelerate_agents, move_agents, place, start_on_path


class Worlds(NamedTuple):
    """State of W worlds with room for A agents each (A >= the bank's ``max_agents``), over a horizon of H steps."""

    scenario: np.ndarray  # (W,) int32 row s of the bank
    step: np.ndarray  # (W,) int32 steps since the start, 0 after a reset
    ego: np.ndarray  # (W, 11) float64 state of the ego's rear axle, order as in simulation.bicycle
    agents: np.ndarray  # (W, A, 8) float64 x, y, yaw, vx, vy, speed, cos yaw, sin yaw of box centres; row 0 is the ego
    agent_size: np.ndarray  # (W, A, 2) float64 length, width [m]
    present: np.ndarray  # (W, A) bool; the ego (row 0) always is; False from the scenario's number of agents on
    mode: np.ndarray  # (W, A) int8 LOG, IDM or PLAN: taken from the bank at a reset, may be changed right after it
    plans: np.ndarray  # (W, A, P, 4) float64 x, y, yaw, speed at steps 1..P, for PLAN agents; filled by the caller after a reset
    path_position: np.ndarray  # (W, A) float64 arclength of IDM agents on their paths [m]
    path_segment: np.ndarray  # (W, A) int32 straight piece of the path that an IDM agent is on
    path_offset: np.ndarray  # (W, A, 3) float64 x, y [m], yaw [rad] of IDM agents relative to their paths; fades as they drive
    acceleration: np.ndarray  # (W, A) float64 last acceleration of IDM agents [m/s2]
    crowd: np.ndarray  # (W, A, 4) float64 scratch of the leader search
    ego_history: np.ndarray  # (W, H + 1, 11) float64 states of the ego at steps 0..step


def make_worlds(num_worlds: int, max_agents: int, horizon_steps: int, plan_steps: int = 0) -> Worlds:
    """Returns worlds of zeros; ``reset_world`` puts a scenario into each. The horizon must not exceed the bank's."""
    w, a = num_worlds, max_agents
    return Worlds(
        scenario=np.zeros(w, np.int32),
        step=np.zeros(w, np.int32),
        ego=np.zeros((w, 11)),
        agents=np.zeros((w, a, 8)),
        agent_size=np.zeros((w, a, 2)),
        present=np.zeros((w, a), np.bool_),
        mode=np.zeros((w, a), np.int8),
        plans=np.zeros((w, a, plan_steps, 4)),
        path_position=np.zeros((w, a)),
        path_segment=np.zeros((w, a), np.int32),
        path_offset=np.zeros((w, a, 3)),
        acceleration=np.zeros((w, a)),
        crowd=np.zeros((w, a, 4)),
        ego_history=np.zeros((w, horizon_steps + 1, 11)),
    )


@kernel
def record_ego(ego, to_center, box, history, k):
    """Writes the ego's box into its agent row (8,) and its state into row ``k`` of the history (H + 1, 11)."""
    cos, sin = math.cos(ego[YAW]), math.sin(ego[YAW])
    box[0], box[1], box[2] = ego[X] + to_center * cos, ego[Y] + to_center * sin, ego[YAW]
    box[3], box[4], box[5] = ego[VX] * cos, ego[VX] * sin, ego[VX]
    box[6], box[7] = cos, sin
    for c in range(11):
        history[k, c] = ego[c]


@kernel
def reset_world(bank, worlds, w, s):
    """Puts world ``w`` at the start of scenario ``s``: everyone who is valid there exists, where the log has them."""
    worlds.scenario[w], worlds.step[w] = s, 0
    scenario, records, log, valid, path = bank.scenarios[s], bank.agents, bank.log, bank.log_valid, bank.path
    ego, agents, sizes, present, mode = worlds.ego[w], worlds.agents[w], worlds.agent_size[w], worlds.present[w], worlds.mode[w]
    position, offset, acceleration = worlds.path_position[w], worlds.path_offset[w], worlds.acceleration[w]
    agents[:], sizes[:], present[:], mode[:], worlds.crowd[w] = 0.0, 0.0, False, LOG, 0.0
    position[:], offset[:], acceleration[:], worlds.path_segment[w] = 0.0, 0.0, 0.0, 0
    for c in range(11):
        ego[c] = scenario.ego[c]
    present[0], sizes[0, 0], sizes[0, 1] = True, scenario.length, scenario.width
    record_ego(ego, scenario.rear_axle_to_center, agents[0], worlds.ego_history[w], 0)
    for a in range(1, scenario.num_agents):
        record, row = records[scenario.agent_start + a], scenario.log_start + a
        mode[a] = record.mode
        if valid[row]:
            place(log[row], agents[a], sizes[a])
            present[a] = True
            position[a] = start_on_path(record, path, agents[a], offset[a])


@kernel
def _stop_at_zero(ego, speed, yaw_rate):
    """Corrects a state whose speed has fallen below 0: it came to a stand within the step, from ``speed`` and ``yaw_rate``."""
    ego[AX] = (0.0 - speed) / STEP_S
    ego[VX] = 0.0
    ego[YAW_RATE] = 0.0
    ego[YAW_ACCELERATION] = (0.0 - yaw_rate) / STEP_S


@kernel
def drive_ego(ego, acceleration, steering_rate, wheel_base, stop_at_zero):
    """Moves an ego's state (11,) on by one step of the bicycle; see ``step_world``."""
    speed, yaw_rate = ego[VX], ego[YAW_RATE]
    advance(ego, acceleration, steering_rate, wheel_base)
    if stop_at_zero and ego[VX] < 0.0:
        _stop_at_zero(ego, speed, yaw_rate)


@kernel
def step_world(bank, worlds, w, acceleration, steering_rate, stop_at_zero=True):
    """Moves world ``w`` on by 0.1 s: IDM agents decide, the ego moves by the bicycle, then everyone else.

    A world that has reached the horizon stays as it is.

    Args:
        acceleration: Command to the ego [m/s2], before the bicycle's lag.
        steering_rate: Command to the ego [rad/s], before the bicycle's lag.
        stop_at_zero: Whether the ego stands once its speed would fall below 0 (the environments'); else it reverses (the scorer's).
    """
    if worlds.step[w] + 1 >= worlds.ego_history.shape[1]:
        return  # the bank knows no more of its recording
    accelerate_agents(bank, worlds, w)
    scenario, ego = bank.scenarios[worlds.scenario[w]], worlds.ego[w]
    drive_ego(ego, acceleration, steering_rate, scenario.wheel_base, stop_at_zero)
    k = worlds.step[w] + 1
    worlds.step[w] = k
    record_ego(ego, scenario.rear_axle_to_center, worlds.agents[w, 0], worlds.ego_history[w], k)
    move_agents(bank, worlds, w, k)


@kernel
def move_ego(bank, worlds, w, x, y, yaw):
    """As ``step_world``, but the ego is put at a rear-axle pose (``perfect`` tracking); its motion follows by differences."""
    if worlds.step[w] + 1 >= worlds.ego_history.shape[1]:
        return
    accelerate_agents(bank, worlds, w)
    scenario, ego = bank.scenarios[worlds.scenario[w]], worlds.ego[w]
    put_ego(ego, x, y, yaw, scenario.wheel_base)
    k = worlds.step[w] + 1
    worlds.step[w] = k
    record_ego(ego, scenario.rear_axle_to_center, worlds.agents[w, 0], worlds.ego_history[w], k)
    move_agents(bank, worlds, w, k)


@kernel
def put_ego(ego, x, y, yaw, wheel_base):
    """Moves the ego's state (11,) to a pose and derives speed, acceleration, steering and yaw rate from the difference."""
    speed, yaw_rate, steering = ego[VX], ego[YAW_RATE], ego[STEERING]
    turn = wrap_angle(yaw - ego[YAW])
    bearing = ego[YAW] + 0.5 * turn  # of the chord of an arc
    ego[VX] = ((x - ego[X]) * math.cos(bearing) + (y - ego[Y]) * math.sin(bearing)) / STEP_S
    ego[X], ego[Y], ego[YAW] = x, y, wrap_angle(yaw)
    ego[AX] = (ego[VX] - speed) / STEP_S
    ego[YAW_RATE] = turn / STEP_S
    ego[YAW_ACCELERATION] = (ego[YAW_RATE] - yaw_rate) / STEP_S
    if abs(ego[VX]) >= 1.0:
        ego[STEERING] = math.atan(wheel_base * ego[YAW_RATE] / ego[VX])
    ego[STEERING_RATE] = (ego[STEERING] - steering) / STEP_S
    ego[VY] = ego[AY] = 0.0


@kernel
def reset_worlds(start, stop, bank, worlds, scenarios):
    """Resets worlds start..stop-1 to ``scenarios`` (W,) int32; a negative one leaves its world alone. For ``run_over_worlds``."""
    for w in range(start, stop):
        if scenarios[w] >= 0:
            reset_world(bank, worlds, w, scenarios[w])


@kernel
def step_worlds(start, stop, bank, worlds, commands):
    """Steps worlds start..stop-1 by ``commands`` (W, 2): acceleration [m/s2], steering rate [rad/s]. For ``run_over_worlds``."""
    for w in range(start, stop):
        step_world(bank, worlds, w, commands[w, 0], commands[w, 1])
