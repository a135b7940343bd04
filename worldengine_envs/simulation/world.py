"""One world's state and its step of 0.1 s: the ego by nuPlan's kinematic bicycle, then everyone else.

All state is in arrays over worlds; one function steps one world, and worlds share nothing but the bank that they read.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


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
    acceleration: np.ndarray  # (W, A) float64 last acceleration of IDM agents [m/s2]
    ego_history: np.ndarray  # (W, H + 1, 11) float64 states of the ego at steps 0..step


def make_worlds(num_worlds: int, max_agents: int, horizon_steps: int, plan_steps: int = 0) -> Worlds:
    """Returns worlds of zeros; ``reset_world`` puts a scenario into each."""
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
        acceleration=np.zeros((w, a)),
        ego_history=np.zeros((w, horizon_steps + 1, 11)),
    )
