"""Layouts of streets: a corridor that the ego drives along, with junctions, cross streets and a parallel street."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from worldengine_envs.city.exact import Draw, turn_of
from worldengine_envs.city.lines import Line, curvature_line, join, straight_line
from worldengine_envs.city.network import CROSSWALK_SETBACK, LEFT, PI, RIGHT, STRAIGHT, Junction, Network, Road, RoadProfile
from worldengine_envs.city.placing import speed_limits

SPEED_LIMITS = (8.33, 11.11, 13.89, 16.67)  # 30, 40, 50, 60 km/h
LATERAL_ACCELERATION = 2.2  # that drivers accept in bends [m/s2]


@dataclass(frozen=True, eq=False)
class Street:
    """A network and the part of it that the ego's story is about."""

    kind: str
    network: Network
    corridor: tuple[Road, ...]  # in the ego's direction
    junctions: tuple[Junction, ...]  # junction i joins corridor roads i and i + 1
    main: int  # corridor road on which the ego starts
    cross_roads: tuple[Road, ...]  # roads off the corridor

    @property
    def road(self) -> Road:
        return self.corridor[self.main]


@dataclass(frozen=True, eq=False)
class LanePath:
    """Lanes one after another, and the line through them."""

    lanes: tuple[int, ...]
    line: Line
    starts: tuple[float, ...]  # arclength where each lane begins [m]


def lane_path(network: Network, lane: int, movements: tuple[str, ...] = ()) -> LanePath:
    """Follows lanes from one lane on, turning as told at each junction and going straight (else right, else left) after that."""
    lanes, turns = [lane], list(movements)
    while len(lanes) < 12:
        options = {network.movement[row]: row for row in network.successors[lanes[-1]]}
        if network.movement[lanes[-1]]:
            lanes.append(network.successors[lanes[-1]][0])
            continue
        wish = turns.pop(0) if turns else None
        row = next((options[m] for m in (wish, STRAIGHT, RIGHT, LEFT) if m in options), None)
        if row is None or row in lanes:
            break
        lanes.append(row)
    lines = [network.lanes[row] for row in lanes]
    starts = np.concatenate(([0.0], np.cumsum([line.length for line in lines])))[:-1]
    return LanePath(tuple(lanes), join(lines), tuple(float(s) for s in starts))


def _bends(kind: str, length: float, draw: Draw) -> tuple[list[float], list[float], float]:
    """Returns (knots, curvature) of the main road and the tightest radius [m] (inf if straight)."""
    if kind != "curved":
        return [0.0, length], [0.0, 0.0], np.inf
    radius = draw.uniform(70.0, 220.0)
    sign = draw.choice((-1.0, 1.0))
    turn = draw.uniform(0.5, 1.1)  # [rad]
    ramp = draw.uniform(15.0, 30.0)
    arc = max(5.0, min(turn * radius - ramp, 0.55 * length - 2.0 * ramp))
    lead = draw.uniform(30.0, 60.0)
    knots, curvature = [0.0, lead], [0.0, 0.0]

    def bend(k: float, plateau: float) -> None:
        s = knots[-1]
        knots.extend((s + ramp, s + ramp + plateau, s + 2 * ramp + plateau))
        curvature.extend((k, k, 0.0))

    bend(sign / radius, arc)
    if knots[-1] + 2.0 * ramp + 40.0 < length and draw.chance(0.6):  # the other way after it
        bend(-sign / radius, min(arc, length - knots[-1] - 2.0 * ramp - 25.0))
    knots.append(max(length, knots[-1] + 20.0))
    curvature.append(0.0)
    return knots, curvature, radius


def _profiles(kind: str, draw: Draw, lanes: int | None) -> tuple[RoadProfile, RoadProfile]:
    forward = lanes or draw.choice((1, 1, 2, 2, 3))
    backward = max(1, forward - draw.choice((0, 0, 1)))
    width = draw.choice((3.25, 3.5, 3.5, 3.75))
    limit = draw.choice(SPEED_LIMITS[:3] if forward == 1 else SPEED_LIMITS[1:])
    parking = [draw.uniform(2.2, 2.5) if kind != "curved" and limit < 14.0 and draw.chance(0.6) else 0.0 for _ in range(2)]
    shoulder = draw.uniform(0.3, 1.2)
    main = RoadProfile(forward, backward, width, limit, parking[0], parking[1], shoulder, draw.uniform(2.5, 4.5))
    count = draw.choice((1, 1, 2))
    parking = draw.uniform(2.2, 2.5) if draw.chance(0.5) else 0.0
    cross = RoadProfile(count, count, 3.5, draw.choice(SPEED_LIMITS[:2]), parking, parking, 0.5, draw.uniform(2.5, 4.0))
    return main, cross


def make_street(kind: str, draw: Draw, lanes: int | None = None) -> Street:
    """Returns a street of kind straight, curved or crossing; lanes = lanes in the ego's direction, drawn where None."""
    profile, cross = _profiles(kind, draw, lanes)
    yaw = draw.uniform(-PI, PI)
    if kind == "crossing":
        lengths, main = [draw.uniform(50, 80), draw.uniform(180, 230), draw.uniform(180, 220), draw.uniform(60, 90)], 1
    else:
        lengths, main = [draw.uniform(60, 100), draw.uniform(250, 320), draw.uniform(150, 190)], 1
    knots, curvature, radius = _bends(kind, lengths[main], draw)
    if radius < np.inf:
        allowed = float(np.sqrt(LATERAL_ACCELERATION * radius))
        limit = max(v for v in SPEED_LIMITS if v <= max(allowed, SPEED_LIMITS[0]))
        profile = replace(profile, speed_limit=min(profile.speed_limit, limit))
    corner = draw.uniform(5.0, 8.0)
    network = Network()
    half = cross.left_kerb + corner + CROSSWALK_SETBACK  # cross streets are symmetric
    x, y, roads, centres = 0.0, 0.0, [], []
    for i, length in enumerate(lengths):
        shape = (knots, curvature) if i == main else ([0.0, length], [0.0, 0.0])
        line = curvature_line(x, y, yaw, *shape) if any(shape[1]) else straight_line(x, y, yaw, shape[0][-1])
        roads.append(network.add_road(line, profile))
        x, y, yaw = float(line.x[-1]), float(line.y[-1]), float(line.yaw[-1])
        sine, cosine = turn_of(yaw)
        centres.append((x + half * cosine, y + half * sine, yaw))
        x, y = x + 2 * half * cosine, y + 2 * half * sine
    sides = [_side(network, draw, kind, side, profile, cross, corner, centres[:-1]) for side in (1, -1)]
    junctions = []
    for i in range(len(roads) - 1):
        mouths = [(roads[i + 1], False), (sides[0][0][i], False), (roads[i], True), (sides[1][0][i], False)]
        junctions.append(network.add_junction(mouths))
    network.link()
    cross_roads = tuple(road for arms, others in sides for road in (*arms, *others))
    return Street(kind, network, tuple(roads), tuple(junctions), main, cross_roads)


def _side(network, draw, kind, side, profile, cross, corner, centres) -> tuple[list[Road], list[Road]]:
    """Adds the cross streets on one side (1 left, -1 right) and, on straight corridors, a parallel street."""
    kerb = profile.left_kerb if side > 0 else -profile.right_kerb
    start = kerb + corner + CROSSWALK_SETBACK
    length = draw.uniform(110.0, 170.0) if kind != "curved" else draw.uniform(60.0, 80.0)
    arms = []
    for x, y, yaw in centres:
        sine, cosine = turn_of(yaw)
        line = straight_line(x - side * start * sine, y + side * start * cosine, yaw + side * PI / 2, length)
        arms.append(network.add_road(line, cross))
    if kind == "curved":
        return arms, []
    half = cross.left_kerb + corner + CROSSWALK_SETBACK
    yaw = centres[0][2]
    sine, cosine = turn_of(yaw)
    away = start + length + half  # from the corridor's reference line to that of the parallel street
    nodes = [(x - side * away * sine, y + side * away * cosine) for x, y, _ in centres]
    stub = draw.uniform(40.0, 70.0)
    x, y = nodes[0]
    links = [network.add_road(straight_line(x - (half + stub) * cosine, y - (half + stub) * sine, yaw, stub), cross)]
    for (x, y), (x1, y1) in pairwise(nodes):
        gap = float(np.sqrt((x1 - x) * (x1 - x) + (y1 - y) * (y1 - y))) - 2 * half
        links.append(network.add_road(straight_line(x + half * cosine, y + half * sine, yaw, gap), cross))
    x, y = nodes[-1]
    links.append(network.add_road(straight_line(x + half * cosine, y + half * sine, yaw, stub), cross))
    for i, arm in enumerate(arms):
        around = [(links[i + 1], False), (links[i], True), (arm, True)]
        network.add_junction(around if side > 0 else [around[0], around[2], around[1]])
    return arms, links


def speed_table(line: Line, length: int = 1024) -> np.ndarray:
    """Returns (length,) speed [m/s] by metre of arclength that bends allow, with braking at 1.5 m/s2 before them."""
    limit = np.empty(length)
    speed_limits(line.table, LATERAL_ACCELERATION, 1.5, limit)
    return limit
