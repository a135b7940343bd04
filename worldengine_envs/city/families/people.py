"""What the families of people and cyclists share: when something becomes noticeable, who stands where, and how people walk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldengine_envs.city.contact import FRONT_OVERHANG
from worldengine_envs.city.exact import Draw, arctan2, turn_of
from worldengine_envs.city.families.story import begin
from worldengine_envs.city.network import PI
from worldengine_envs.city.scene import START, STEP, STEPS, Scene, Unfit, Walker
from worldengine_envs.city.streets import make_street
from worldengine_envs.scenario.types import AgentType

BRAKING = 8.0  # full braking [m/s2]
REACTION = 0.4  # [s]
LATEST = 3.6  # contact after the start [s]
JUNCTION = 8.0  # nobody steps out nearer to the end of the road [m]
CORRIDOR = 1.75  # from the ego's path to somebody who is just not in its way [m]


@dataclass(frozen=True)
class Moment:
    """When and where an ego that goes on at its speed meets somebody, and how long before that it can be noticed."""

    contact: float  # [s] after the start, at a whole step
    s: float  # arclength of the ego's front at the contact, on its path [m]
    notice: float  # from setting out to the contact [s]
    warning: float  # from coming into the ego's way to the contact [s]


def moment(scene: Scene, difficulty: float) -> Moment:
    """Draws the moment of contact: the harder, the less time is left beyond what reacting and full braking need.

    The contact is at a whole step: between two steps a car's front may pass over a person, and the score then sees a contact
    at its side.
    """
    draw, ego = scene.draw, scene.vehicles[0]
    speed = float(ego.v[0])
    ease = 1.0 - difficulty
    notice = speed / (2.0 * BRAKING) + REACTION + ease * (0.1 * speed + 1.3) + draw.uniform(0.0, 0.3)
    warning = speed / 12.0 + 1.6 * ease - 0.3 + draw.uniform(-0.15, 0.15)
    contact = min(max(notice + draw.uniform(0.0, 0.9), 2.0), LATEST)
    contact = STEP * round(contact / STEP)
    s = float(ego.s[0]) + (START * STEP + contact) * speed + FRONT_OVERHANG
    return Moment(contact, s, min(notice, contact + 1.3), max(warning, 0.5))


def underway(draw: Draw, kinds: tuple[str, ...], parking: str | None = None, outermost: bool = False) -> Scene:
    """Returns a scene with the ego under way in any lane of a street, so that it stays before the junction up to the contact."""
    street = make_street(draw.choice(kinds), draw, parking=parking)
    last = len(street.road.forward) - 1
    lane = last if outermost else draw.integer(0, last)
    speed = street.road.profile.speed_limit * draw.uniform(0.8, 1.0)
    most = street.road.line.length - JUNCTION - FRONT_OVERHANG - LATEST * speed - 1.0
    if most < 3.0:
        raise Unfit("the road is too short for its speed")
    return begin(street, draw, lane, draw.uniform(3.0, min(50.0, most)), speed)


@dataclass(frozen=True)
class Spot:
    """A point of the ego's path and the direction there."""

    x: float
    y: float
    yaw: float
    sine: float
    cosine: float

    def point(self, left: float, ahead: float = 0.0) -> tuple[float, float]:
        """Returns x, y [m] of what lies this far to the left and ahead [m]."""
        return self.x + ahead * self.cosine - left * self.sine, self.y + ahead * self.sine + left * self.cosine


def spot(scene: Scene, s: float) -> Spot:
    """Returns the point of the ego's path at arclength s [m]."""
    x, y, yaw, _ = (float(a) for a in scene.paths[scene.vehicles[0].path].line.at(s))
    return Spot(x, y, yaw, *turn_of(yaw))


def standing(scene: Scene, s: float, left: float, size, name: str, turned: float = 0.0) -> Walker:
    """Returns a vehicle that stands for good with its centre at arclength s [m] and left [m] of the ego's path, turned [rad]."""
    at = spot(scene, s)
    xy = np.empty((STEPS, 2))
    xy[:] = at.point(left)
    return Walker(xy, np.full(STEPS, at.yaw + turned), size, AgentType.VEHICLE, name)


@dataclass(frozen=True)
class Pace:
    """Motion along a line from standing to standing: stages of (length [m], pace [m/s], pause at its end [s])."""

    times: np.ndarray  # (knots,) [s], from 0 on
    speeds: np.ndarray  # (knots,) [m/s], linear between the knots
    ways: np.ndarray  # (knots,) [m]

    @classmethod
    def of(cls, stages: list[tuple[float, float, float]], acceleration: float) -> Pace:
        """Speeds up and slows down at ``acceleration`` [m/s2]; without a pause one stage runs into the next."""
        t, v, way, knots = 0.0, 0.0, 0.0, [(0.0, 0.0, 0.0)]
        for i, (length, pace, pause) in enumerate(stages):
            stops = pause > 0.0 or i == len(stages) - 1
            peak = min(pace, float(np.sqrt(acceleration * length + 0.5 * v * v))) if stops else pace
            up, down = abs(peak - v) / acceleration, peak / acceleration if stops else 0.0
            cruise = max(length - 0.5 * up * (v + peak) - 0.5 * down * peak, 0.0) / peak
            for span, to in ((up, peak), (cruise, peak), (down, 0.0), (pause, 0.0)):
                if span > 0.0:
                    way += 0.5 * span * (v + to)
                    t, v = t + span, to
                    knots.append((t, v, way))
        return cls(*(np.array(column) for column in zip(*knots, strict=True)))

    def time(self, way: float) -> float:
        """Returns when a way [m] has first been covered [s]."""
        i = max(int(np.searchsorted(self.ways, way, side="left")) - 1, 0)
        i = min(i, len(self.ways) - 2)
        v, rest = float(self.speeds[i]), way - float(self.ways[i])
        rate = float((self.speeds[i + 1] - self.speeds[i]) / (self.times[i + 1] - self.times[i]))
        root = float(np.sqrt(max(v * v + 2.0 * rate * rest, 0.0)))
        return float(self.times[i]) + (2.0 * rest / (v + root) if rest > 0.0 else 0.0)

    def at(self, times: np.ndarray) -> np.ndarray:
        """Returns the ways [m] covered at times [s]: 0 before 0, the whole length in the end."""
        t = np.clip(times, 0.0, self.times[-1])
        i = np.clip(np.searchsorted(self.times, t, side="right") - 1, 0, len(self.times) - 2)
        rate = (self.speeds[i + 1] - self.speeds[i]) / (self.times[i + 1] - self.times[i])
        since = t - self.times[i]
        return self.ways[i] + since * (self.speeds[i] + 0.5 * rate * since)


def pace_for(length: float, time: float, acceleration: float) -> float:
    """Returns the pace [m/s] at which a length [m] is covered from standing in a time [s]; infinity where nobody could."""
    # length = pace * (time - pace / (2 acceleration))
    inside = acceleration * acceleration * time * time - 2.0 * acceleration * length
    return acceleration * time - float(np.sqrt(inside)) if inside >= 0.0 else float("inf")


def on_foot(start, end, pace: Pace, reach: float, contact: float, size, name: str) -> Walker:
    """Returns a person who walks straight from start to end (x, y) [m] and has covered ``reach`` [m] at ``contact`` [s]."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = float(np.sqrt(dx * dx + dy * dy))
    way = pace.at(STEP * (np.arange(STEPS) - START) - contact + pace.time(reach)) / length
    xy = np.stack((start[0] + dx * way, start[1] + dy * way), axis=1)
    return Walker(xy, np.full(STEPS, float(arctan2(dy, dx))), size, name=name)


def adult(draw: Draw) -> tuple[float, float, float]:
    """Returns the size of a grown-up [m]."""
    return draw.uniform(0.45, 0.75), draw.uniform(0.5, 0.75), draw.uniform(1.5, 1.9)


def child(draw: Draw) -> tuple[float, float, float]:
    """Returns the size of a child [m]."""
    return draw.uniform(0.35, 0.5), draw.uniform(0.35, 0.5), draw.uniform(0.95, 1.35)


@dataclass(frozen=True)
class Place:
    """A lane or strip beside the ego's lane where vehicles may stand."""

    side: float  # -1 right, 1 left of the ego's lane
    left: float  # offset of its centre from that of the ego's lane [m]
    width: float  # [m]
    parked: bool  # a parking strip, not a lane
    turned: float  # yaw of those who stand there against the ego's [rad]


def places(scene: Scene) -> list[Place]:
    """Returns where vehicles may stand beside the ego's lane: the next lanes or strips."""
    profile, lane = scene.street.road.profile, scene.lane
    width, found = profile.lane_width, []
    outermost = lane == profile.forward - 1
    if not outermost:
        found.append(Place(-1.0, -width, width, False, 0.0))
    elif 2.0 <= profile.parking_right < 4.0:
        found.append(Place(-1.0, -0.5 * (width + profile.parking_right), profile.parking_right, True, 0.0))
    found.append(Place(1.0, width, width, False, 0.0 if lane > 0 else PI))
    if lane == 0 and profile.backward == 1 and 2.0 <= profile.parking_left < 4.0:
        found.append(Place(1.0, 1.5 * width + 0.5 * profile.parking_left, profile.parking_left, True, PI))
    return found
