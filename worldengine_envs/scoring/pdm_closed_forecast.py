"""What PDM-Closed believes others will do: go on at constant velocity along their box, seen once at the start of a plan."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from worldengine_envs.scenario.types import AgentType
from worldengine_envs.simulation.geometry import boxes_overlap, wrap_angle
from worldengine_envs.simulation.kernels import kernel

RADIUS = 100.0  # objects farther from the ego's centre are not seen [m]
MAX_VEHICLES, MAX_PEDESTRIANS, MAX_BICYCLES, MAX_STATIC = 50, 25, 10, 50
MAX_OBJECTS = MAX_STATIC + MAX_VEHICLES + MAX_PEDESTRIANS + MAX_BICYCLES
FORECAST_EVERY = 2  # the forecast of step k is that of step 2 * (k // 2)

_VEHICLE, _PEDESTRIAN, _BICYCLE = int(AgentType.VEHICLE), int(AgentType.PEDESTRIAN), int(AgentType.BICYCLE)


class Forecast(NamedTuple):
    """The objects that are looked at, the static ones first, then vehicles, pedestrians, bicycles, each group nearest first."""

    count: np.ndarray  # (1,) int64 objects in use
    row: np.ndarray  # (objects,) int64 row in the list that was handed in
    type: np.ndarray  # (objects,) int8 AgentType
    box: np.ndarray  # (objects, 6) x, y [m] at step 0, cosine and sine of yaw, half length, half width [m]
    yaw: np.ndarray  # (objects,) [rad]
    speed: np.ndarray  # (objects,) [m/s], 0 for static types
    velocity: np.ndarray  # (objects, 2) of the forecast [m/s]
    ignored: np.ndarray  # (objects,) bool: touches the ego at step 0


def empty_forecast() -> Forecast:
    """Room for the most objects that a plan looks at."""
    n = MAX_OBJECTS
    return Forecast(
        np.zeros(1, np.int64),
        np.zeros(n, np.int64),
        np.zeros(n, np.int8),
        np.zeros((n, 6)),
        np.zeros(n),
        np.zeros(n),
        np.zeros((n, 2)),
        np.zeros(n, np.bool_),
    )


@kernel
def _group(kind):
    if kind == _VEHICLE:
        return 1
    if kind == _PEDESTRIAN:
        return 2
    return 3 if kind == _BICYCLE else 0


@kernel
def _forecast_velocity(obj, out):
    """Speed along the box, reversed where the object moves at 90 degrees or more to it."""
    yaw, speed = obj[2], math.hypot(obj[5], obj[6])
    if abs(wrap_angle(yaw - math.atan2(obj[6], obj[5]))) >= math.pi / 2:
        speed = -speed
    out[0], out[1] = math.cos(yaw) * speed, math.sin(yaw) * speed


@kernel
def make_forecast(objects, types, x, y, cos, sin, half_length, half_width, distance, out):
    """Chooses the objects that a plan looks at.

    Args:
        objects: (n, 7) x, y [m] of the box centre, yaw [rad], length, width [m], vx, vy [m/s], without the ego.
        types: (n,) int8 AgentType.
        x, y, cos, sin, half_length, half_width: Box of the ego.
        distance: (n,) is overwritten.
        out: Forecast to fill.
    """
    n = len(objects)
    for i in range(n):
        distance[i] = math.hypot(objects[i, 0] - x, objects[i, 1] - y)
    count = 0
    for group in range(4):
        limit = MAX_STATIC if group == 0 else MAX_VEHICLES if group == 1 else MAX_PEDESTRIANS if group == 2 else MAX_BICYCLES
        for _ in range(limit):
            nearest = -1
            for i in range(n):
                if distance[i] <= RADIUS and _group(types[i]) == group and (nearest < 0 or distance[i] < distance[nearest]):
                    nearest = i
            if nearest < 0:
                break
            distance[nearest] = math.inf
            _add(objects[nearest], types[nearest], nearest, count, out)
            box = out.box[count]
            out.ignored[count] = boxes_overlap(
                x, y, cos, sin, half_length, half_width, box[0], box[1], box[2], box[3], box[4], box[5]
            )
            count += 1
    out.count[0] = count


@kernel
def _add(obj, kind, row, at, out):
    out.row[at], out.type[at], out.yaw[at] = row, kind, obj[2]
    out.box[at, 0], out.box[at, 1] = obj[0], obj[1]
    out.box[at, 2], out.box[at, 3] = math.cos(obj[2]), math.sin(obj[2])
    out.box[at, 4], out.box[at, 5] = obj[3] / 2, obj[4] / 2
    out.speed[at], out.velocity[at, 0], out.velocity[at, 1] = 0.0, 0.0, 0.0
    if _group(kind) > 0:
        out.speed[at] = math.hypot(obj[5], obj[6])
        _forecast_velocity(obj, out.velocity[at])
