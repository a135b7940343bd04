"""The Intelligent Driver Model (Treiber, Hennecke, Helbing 2000), with parameters for each kind of agent, in SI units."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

import numpy as np

from worldengine_envs.simulation.kernels import kernel


@dataclass(frozen=True, slots=True)
class IDMParameters:
    """Driver model of one kind of agent."""

    max_acceleration: float  # a [m/s2]
    comfortable_deceleration: float  # b [m/s2]
    max_deceleration: float  # hard bound of what the model may ask for [m/s2]
    min_gap: float  # s0, gap at standstill [m]
    headway: float  # T, time gap [s]
    lateral_margin: float  # added to the half widths when looking for who is in the way [m]
    path_spacing: float  # spacing of the points of its path [m]
    static_displacement: float  # tracks that stay this near to their median position are parked [m]


VEHICLE = IDMParameters(1.5, 2.0, 6.0, 2.0, 1.2, 0.2, 1.0, 1.0)
PEDESTRIAN = IDMParameters(1.0, 1.5, 3.0, 0.4, 0.4, 0.05, 0.25, 0.5)
BICYCLE = IDMParameters(1.0, 1.5, 4.0, 1.0, 0.9, 0.15, 1.0, 1.0)

PARAMETERS = (VEHICLE, PEDESTRIAN, BICYCLE)  # by AgentType
A_MAX, B_COMFORT, B_MAX, MIN_GAP, HEADWAY, MARGIN, APPROACH = range(7)  # columns of parameter_table

MAX_LOOK_AHEAD = 100.0  # leaders further away along the path are not looked for [m]
MIN_LOOK_AHEAD = 8.0  # [m]
CLOSEST_GAP = 0.1  # gaps are clipped here: closer, and overlapping, both mean full braking [m]


def parameter_table() -> np.ndarray:
    """Returns (3, 7) float64 by AgentType: the first six of IDMParameters, then 2 sqrt(a b)."""
    return np.array([(*astuple(p)[:6], 2.0 * math.sqrt(p.max_acceleration * p.comfortable_deceleration)) for p in PARAMETERS])


@kernel
def desired_gap(p, speed, approach):
    """Returns s* [m] for a speed [m/s] and an approach rate towards the leader [m/s]; never below the gap at standstill."""
    dynamic = speed * p[HEADWAY] + speed * approach / p[APPROACH]
    return p[MIN_GAP] + max(dynamic, 0.0)


@kernel
def free_acceleration(p, speed, desired_speed):
    """Returns a (1 - (v / v0)^4), no stronger than comfortable braking [m/s2]."""
    ratio = speed / desired_speed
    ratio *= ratio
    return max(p[A_MAX] * (1.0 - ratio * ratio), -p[B_COMFORT])


@kernel
def interaction(p, speed, gap, leader_speed):
    """Returns the braking term a (s* / gap)^2 [m/s2] for a leader ``gap`` metres ahead."""
    ratio = desired_gap(p, speed, speed - leader_speed) / max(gap, CLOSEST_GAP)
    return p[A_MAX] * ratio * ratio


@kernel
def look_ahead(p, speed):
    """Returns how far ahead leaders matter [m]: twice the gap wanted behind a standing one, where it brakes with a / 4."""
    return min(max(2.0 * desired_gap(p, speed, speed), MIN_LOOK_AHEAD), MAX_LOOK_AHEAD)
