"""An independent scorer of executed motion: numpy, shapely and scipy, written from the definition of ``pdms-live``, slow and plain.

It reads a recorded rollout and knows nothing of the compiled scorer: no shared geometry, no shared map index, no running state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy.signal import savgol_filter
from shapely.geometry import LineString, Point, Polygon

DRIVABLE = {0, 3, 4, 5}  # roadblock, intersection, car park, drivable area
LANES = {1, 2}
INTERSECTION = 3


@dataclass
class Rollout:
    """What happened in one world, step by step."""

    ego: list[np.ndarray]  # (11,) rear-axle states at steps 0..n
    boxes: list[dict[int, tuple]]  # by step: agent row -> x, y, yaw, length, width, vx, vy of those who are there
    log: list[dict[int, tuple]]  # by step, 9 steps longer: the recording, extrapolated past its end; the same columns
    types: np.ndarray  # (agents,) 0..2 agents, above: static
    replayed: np.ndarray  # (agents,) bool
    polygons: list[np.ndarray]  # (vertices, 2) rings
    layers: list[int]
    centerline: np.ndarray  # (points, 2)
    vehicle: tuple[float, float, float]  # length, width, rear axle to centre
    p_ref: float
    horizon: int  # steps of the episode


@dataclass
class Verdict:
    """Terms and score of the motion so far, after each step."""

    nc: list[float] = field(default_factory=list)
    dac: list[float] = field(default_factory=list)
    ttc: list[float] = field(default_factory=list)
    ep: list[float] = field(default_factory=list)
    comfort: list[float] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    hit_without_fault: int = 0
    infractions: list[tuple] = field(default_factory=list)  # (term, step, agent) as they happen


def box_polygon(x, y, yaw, length, width) -> Polygon:
    c, s = math.cos(yaw), math.sin(yaw)
    corners = [(length / 2, width / 2), (-length / 2, width / 2), (-length / 2, -width / 2), (length / 2, -width / 2)]
    return Polygon([(x + a * c - b * s, y + a * s + b * c) for a, b in corners])


def bearing_degrees(state, point) -> float:
    """Angle between the ego's heading and the direction to a point, NaN where the product of unit vectors exceeds 1."""
    to = np.array([point.x - state[0], point.y - state[1]])
    norm = np.linalg.norm(to)
    if norm == 0:
        return math.nan
    cosine = math.cos(state[2]) * (to[0] / norm) + math.sin(state[2]) * (to[1] / norm)
    return math.nan if abs(cosine) > 1 else math.degrees(math.acos(cosine))


class Oracle:
    """Scores one rollout."""

    def __init__(self, rollout: Rollout):
        self.r = rollout
        self.rings = [Polygon(ring) for ring in rollout.polygons]
        self.line = LineString(rollout.centerline)

    def ego_box(self, state, ahead_m=0.0) -> Polygon:
        length, width, offset = self.r.vehicle
        c, s = math.cos(state[2]), math.sin(state[2])
        return box_polygon(state[0] + (offset + ahead_m) * c, state[1] + (offset + ahead_m) * s, state[2], length, width)

    def holding(self, xy, layers) -> set[int]:
        return {i for i, ring in enumerate(self.rings) if self.r.layers[i] in layers and ring.contains(Point(xy))}

    def off_road(self, state) -> bool:
        return any(not self.holding(corner, DRIVABLE) for corner in list(self.ego_box(state).exterior.coords)[:4])

    def multiple_lanes(self, state) -> bool:
        held = [self.holding(corner, LANES) for corner in list(self.ego_box(state).exterior.coords)[:4]]
        return len(set.union(*held)) > 1 and not set.intersection(*held)

    def progress(self, k) -> float:
        at = [self.line.project(self.ego_box(self.r.ego[i]).centroid) for i in (0, k)]
        return max(at[1] - at[0], 0.0)

    def future_box(self, k, agent, ahead):
        """The agent's box ``ahead`` steps after step k as the scorer sees it at step k, or None."""
        there = self.r.boxes[k].get(agent)
        if ahead == 0:
            return there
        if not self.r.replayed[agent]:
            if there is None:
                return None
            dt = 0.1 * ahead
            return (there[0] + dt * there[5], there[1] + dt * there[6], *there[2:])
        if there is None and agent in self.r.log[k]:
            return None  # held back: it is not in the world, though its recording is
        return self.r.log[k + ahead].get(agent)

    def contacts(self, k, ignored, verdict) -> None:
        state, nc = self.r.ego[k], verdict.nc[-1]
        ego = self.ego_box(state)
        speed = math.hypot(state[3], state[4])
        for agent, box in sorted(self.r.boxes[k].items()):
            other = box_polygon(*box[:5])
            if agent in ignored or not ego.intersects(other):
                continue
            is_agent = self.r.types[agent] <= 2
            front = LineString([ego.exterior.coords[0], ego.exterior.coords[3]])
            if speed <= 0.05:
                fault = False
            elif not is_agent or math.hypot(box[5], box[6]) <= 0.05:
                fault = True
            elif bearing_degrees(state, other.centroid) > 150:
                fault = False
            elif front.intersects(other):
                fault = True
            else:
                fault = self.multiple_lanes(state) or self.off_road(state)
            if fault:
                credit = 0.0 if is_agent else 0.5
                if credit < nc:
                    nc = credit
                    verdict.infractions.append(("collision", k, agent))
            else:
                ignored.add(agent)
                verdict.hit_without_fault += 1
        verdict.nc[-1] = nc

    def threats(self, k, ignored, verdict) -> None:
        state = self.r.ego[k]
        speed = math.hypot(state[3], state[4])
        if speed < 0.005:
            return
        everyone = set(self.r.boxes[k]) | {a for ahead in (3, 6, 9) for a in self.r.log[k + ahead] if self.r.replayed[a]}
        for agent in sorted(everyone):
            for ahead in (0, 3, 6, 9):
                box = self.future_box(k, agent, ahead)
                if agent in ignored or box is None:
                    continue
                other = box_polygon(*box[:5])
                if not self.ego_box(state, speed * 0.1 * ahead).intersects(other):
                    continue
                angle = bearing_degrees(state, other.centroid)
                bad_area = self.multiple_lanes(state) or self.off_road(state) or self.holding(state[:2], {INTERSECTION})
                if angle < 30 or (bad_area and not angle > 150):
                    if verdict.ttc[-1] > 0:
                        verdict.infractions.append(("time_to_collision", k, agent))
                    verdict.ttc[-1] = 0.0
                else:
                    ignored.add(agent)

    def comfortable(self, k) -> bool:
        return is_comfortable(np.stack(self.r.ego[: k + 1]))

    def run(self) -> Verdict:
        r, v = self.r, Verdict()
        ignored_contact, ignored_ttc, before = set(), set(), 0.0
        for k in range(len(r.ego)):
            v.nc.append(v.nc[-1] if v.nc else 1.0)
            v.dac.append(v.dac[-1] if v.dac else 1.0)
            v.ttc.append(v.ttc[-1] if v.ttc else 1.0)
            self.contacts(k, ignored_contact, v)
            self.threats(k, ignored_ttc, v)
            if self.off_road(r.ego[k]) and v.dac[-1] > 0:
                v.dac[-1] = 0.0
                v.infractions.append(("off_road", k, -1))
            multiplier = v.nc[-1] * v.dac[-1]
            m = multiplier * self.progress(k)
            most = max(m, r.p_ref)
            v.ep.append(0.0 if multiplier == 0 else m / most if most > 5.0 else 1.0)
            v.comfort.append(float(self.comfortable(k)) if k == r.horizon else 1.0)
            score = multiplier * (5 * v.ep[-1] + 5 * v.ttc[-1] + 2 * v.comfort[-1]) / 12
            v.score.append(score)
            if k > 0:
                v.rewards.append(score - before)
                before = score
        return v


def is_comfortable(states: np.ndarray) -> bool:
    """Comfort of (n, 11) states with SciPy's filters; windows shortened to n."""
    n = len(states)

    def smooth(x, window, order, derivative=0):
        window = min(window, n)
        return np.round(savgol_filter(x, window, min(order, window - 1), deriv=derivative, delta=0.1), 8)

    ax, ay, yaw = states[:, 5], states[:, 6], np.unwrap(states[:, 2])
    checks = [
        (smooth(ax, 41, 2), -4.05, 2.40),
        (smooth(ay, 41, 2), -4.89, 4.89),
        (smooth(smooth(np.hypot(ax, ay), 8, 2), 41, 2, 1), -8.37, 8.37),
        (smooth(smooth(ax, 8, 2), 41, 2, 1), -4.13, 4.13),
        (smooth(yaw, 5, 3, 2), -1.93, 1.93),
        (smooth(yaw, 5, 2, 1), -0.95, 0.95),
    ]
    return all((low < values).all() and (values < high).all() for values, low, high in checks)


def gravest(infractions: list[tuple], types: np.ndarray) -> tuple | None:
    """The infraction that a record shows: the first failure, else the first half credit, else the first time to collision."""

    def rank(item):
        term, _, agent = item
        if term == "time_to_collision":
            return 1
        return 2 if term == "collision" and types[agent] > 2 else 3

    return max(infractions, key=rank, default=None)
