"""Rare: a car that backs out of its parking bay into the ego's way."""

from __future__ import annotations

import numpy as np

from worldengine_envs.city.contact import FRONT_OVERHANG, WIDTH
from worldengine_envs.city.driving import REAR
from worldengine_envs.city.exact import Draw, sin_cos
from worldengine_envs.city.families.people import BRAKING, LATEST, REACTION, Pace, spot, underway
from worldengine_envs.city.lines import Line, connectors, curvature_line
from worldengine_envs.city.network import PI
from worldengine_envs.city.scene import AXLE_TO_CENTER, START, STEP, STEPS, Scene, Walker
from worldengine_envs.city.solution import solve
from worldengine_envs.scenario.types import AgentType

STREETS = ("straight", "curved", "crossing", "four_way", "t_junction", "blocks")
CARS = ((4.5, 1.85, 1.5), (4.2, 1.78, 1.48), (4.8, 1.9, 1.65), (3.9, 1.7, 1.5))
FASTEST = 2.2  # backwards [m/s]
STEERING = 1.0  # way along which the wheel is turned [m]


def backing_out(draw: Draw, difficulty: float) -> Scene:
    """A car backs out of a bay at right angles to the road; it stops half way, or turns and drives off ahead of the ego."""
    scene = underway(draw, STREETS, "perpendicular", outermost=True)
    ego, profile = scene.vehicles[0], scene.street.road.profile
    speed, half, size = float(ego.v[0]), 0.5 * profile.lane_width, draw.choice(CARS)
    tail = -half - draw.uniform(0.1, 0.5)  # rear bumper in the bay [m to the left of the ego's path]
    pace = min(draw.uniform(0.9, 1.5) + 0.7 * difficulty, FASTEST)
    # its rear has been in the ego's way for so long when the ego comes
    warning = speed / (2.0 * BRAKING) + REACTION - 0.1 + 1.3 * (1.0 - difficulty) + draw.uniform(-0.1, 0.2)
    out = -0.5 * WIDTH - tail  # until the rear is in the way
    back = _backwards(draw, tail - REAR * size[0])
    if draw.chance(0.6):
        stages = [(back.length, pace, draw.uniform(0.4, 1.0)), (60.0, draw.uniform(4.0, 7.0), 0.0)]
    else:  # the driver has seen somebody
        stages = [(min(out + draw.uniform(0.9, 2.6), back.length - 0.2), pace, 0.0)]
    motion = Pace.of(stages, 1.2)
    meeting = motion.time(out) + warning  # since it has set out
    contact = STEP * round(min(max(meeting + draw.uniform(-0.3, 0.6), 2.0), LATEST) / STEP)
    at = spot(scene, float(ego.s[0]) + (START * STEP + contact) * speed + FRONT_OVERHANG)
    way = motion.at(STEP * (np.arange(STEPS) - START) - contact + meeting)
    ahead, left, yaw = _drives(back, way, size[0])
    near = _near_side(ahead, left, yaw, size, START + round(contact / STEP))
    x, y = at.point(left, ahead - near - 0.3)
    scene.walkers.append(Walker(np.stack((x, y), axis=1), at.yaw + yaw, size, AgentType.VEHICLE, "backing"))
    return solve(scene, difficulty)


def _backwards(draw: Draw, axle: float) -> Line:
    """Returns the way of a rear axle out of a bay, ``axle`` [m] to the left of the ego's path: straight, then turning its tail
    against the traffic; in the frame of the road (x ahead, y to the left), headed as it moves."""
    straight, radius, turn = draw.uniform(1.0, 1.6), draw.uniform(4.4, 5.2), draw.uniform(0.75, 1.0)
    end = straight + 0.5 * STEERING + radius * turn
    knots, bend = np.array([0.0, straight, straight + STEERING, end]), 1.0 / radius
    return curvature_line(0.0, axle, 0.5 * PI, knots, np.array([0.0, 0.0, bend, bend]), 0.5)


def _drives(back: Line, way: np.ndarray, length: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns ahead, left [m] and yaw [rad] of the centre of a car by the way covered [m]: backwards, then into the ego's lane."""
    x, y, yaw, _ = back.at(np.minimum(way, back.length))
    yaw = yaw - PI
    last = float(back.yaw[-1]) - PI
    ends = np.array([[back.x[-1], back.y[-1], last]]), np.array([[back.x[-1] + 14.0, 0.0, 0.0]])
    onward = connectors(*ends)[0].at(np.maximum(way - back.length, 0.0))
    x, y, yaw = (np.where(way > back.length, b, a) for a, b in zip((x, y, yaw), onward[:3], strict=True))
    sine, cosine = sin_cos(yaw)
    return x + AXLE_TO_CENTER * length * cosine, y + AXLE_TO_CENTER * length * sine, yaw


def _near_side(ahead: np.ndarray, left: np.ndarray, yaw: np.ndarray, size, step: int) -> float:
    """Returns how far ahead [m] the nearest part of the car that is in the ego's way lies at a step."""
    sine, cosine = (float(a) for a in sin_cos(yaw[step]))
    corners = [(u * size[0], w * size[1]) for u, w in ((0.5, 0.5), (0.5, -0.5), (-0.5, -0.5), (-0.5, 0.5))]
    ring = [(float(ahead[step]) + u * cosine - w * sine, float(left[step]) + u * sine + w * cosine) for u, w in corners]
    nearest = [p for p in ring if p[1] > -0.5 * WIDTH]
    for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1], strict=True):
        if (y0 > -0.5 * WIDTH) != (y1 > -0.5 * WIDTH):
            nearest.append((x0 + (x1 - x0) * (-0.5 * WIDTH - y0) / (y1 - y0), -0.5 * WIDTH))
    return min(x for x, _ in nearest)
