"""Parts that layouts are made of: cross sections, and corridors with side streets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from worldengine_envs.city.exact import Draw, turn_of
from worldengine_envs.city.junctions import CROSSWALK_SETBACK, add_junction
from worldengine_envs.city.lines import curvature_line, straight_line
from worldengine_envs.city.network import LIGHTS, PI, PRIORITY, ROUNDABOUT, Network, Road, RoadProfile
from worldengine_envs.city.roundabouts import RingSize, add_roundabout
from worldengine_envs.city.streets.types import LATERAL_ACCELERATION, SPEED_LIMITS, Street

BOTH, ON_LEFT, ON_RIGHT = (1, -1), (1,), (-1,)  # sides of the corridor on which a node has a side street


@dataclass(frozen=True)
class Node:
    """A junction on a corridor."""

    kind: str = LIGHTS
    sides: tuple[int, ...] = BOTH
    skew: float = 0.0  # by which side streets are turned from the right angle, counter-clockwise [rad]

    def reach(self, own: float, crossed: float, corner: float) -> float:
        """Returns how far from the centre the mouth of a road lies [m].

        Args:
            own, crossed: Half the width of the road, and of the one that it crosses [m].
            corner: From where the kerbs meet to where the corner begins to bend [m].
        """
        sine, cosine = turn_of(abs(self.skew))
        return (crossed + own * sine) / cosine + corner + CROSSWALK_SETBACK + 6.0 * abs(self.skew)  # more room for sharp turns


@dataclass(frozen=True)
class Plan:
    """A corridor: what road i is like, with node i between roads i and i + 1."""

    kind: str
    lengths: tuple[float, ...]  # of the roads [m]
    nodes: tuple[Node, ...]
    main: int = 1
    far: tuple[float, float] = (60.0, 90.0)  # range of the length of side streets [m]
    block: bool = False  # parallel streets join the side streets at their far ends


def draw_profiles(draw: Draw, lanes: int | None, parking: str | None, parked: bool = True) -> tuple[RoadProfile, RoadProfile]:
    """Returns the cross sections of the main road and of side streets."""
    forward = lanes or draw.choice((1, 1, 2, 2, 3))
    backward = max(1, forward - draw.choice((0, 0, 1)))
    width = draw.choice((3.25, 3.5, 3.5, 3.75))
    limit = draw.choice(SPEED_LIMITS[:3] if forward == 1 else SPEED_LIMITS[1:])
    strips = [draw.uniform(2.2, 2.5) if parked and limit < 14.0 and draw.chance(0.6) else 0.0 for _ in range(2)]
    shoulder = draw.uniform(0.3, 1.2)
    main = RoadProfile(forward, backward, width, limit, strips[0], strips[1], shoulder, draw.uniform(2.5, 4.5))
    count = draw.choice((1, 1, 2))
    strip = draw.uniform(2.2, 2.5) if draw.chance(0.5) else 0.0
    cross = RoadProfile(count, count, 3.5, draw.choice(SPEED_LIMITS[:2]), strip, strip, 0.5, draw.uniform(2.5, 4.0))
    return with_parking(main, parking, draw), cross


def with_parking(profile: RoadProfile, parking: str | None, draw: Draw) -> RoadProfile:
    """Returns the cross section with the parking asked for (see ``make_street``); slow where cars back out of bays."""
    if parking is None:
        return profile
    if parking == "none":
        return replace(profile, parking_right=0.0, parking_left=0.0)
    if parking == "parallel":
        return replace(profile, parking_right=draw.uniform(2.2, 2.5), parking_left=draw.uniform(2.2, 2.5))
    left = draw.choice((0.0, draw.uniform(2.2, 2.5), 5.2))
    return replace(profile, speed_limit=min(profile.speed_limit, 11.11), parking_right=5.2, parking_left=left)


def bends(length: float, draw: Draw) -> tuple[list[float], list[float], float]:
    """Returns (knots, curvature) of a winding road and its tightest radius [m]."""
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


def bend_limit(profile: RoadProfile, radius: float) -> RoadProfile:
    """Returns the cross section with a speed limit that a bend of this radius [m] allows."""
    allowed = float(np.sqrt(LATERAL_ACCELERATION * radius))
    limit = max(v for v in SPEED_LIMITS if v <= max(allowed, SPEED_LIMITS[0]))
    return replace(profile, speed_limit=min(profile.speed_limit, limit))


def lay_out(plan: Plan, yaw: float, profile: RoadProfile, cross: RoadProfile, draw: Draw, bent=None) -> Street:
    """Builds a corridor with junctions and side streets.

    Args:
        plan: What to build.
        yaw: Direction of the first road [rad].
        profile, cross: Cross sections of the corridor and of side streets.
        draw: Random numbers.
        bent: (knots, curvature) of the main road, straight where None.
    """
    corner = draw.uniform(5.0, 8.0)
    sizes = [RingSize.drawn(draw) if node.kind == ROUNDABOUT else None for node in plan.nodes]
    network = Network()
    kerb = max(profile.left_kerb, -profile.right_kerb)
    x, y, roads, centres = 0.0, 0.0, [], []
    for i, length in enumerate(plan.lengths):
        line = curvature_line(x, y, yaw, *bent) if bent and i == plan.main else straight_line(x, y, yaw, length)
        roads.append(network.add_road(line, profile))
        if i == len(plan.nodes):
            break
        x, y, yaw = float(line.x[-1]), float(line.y[-1]), float(line.yaw[-1])
        sine, cosine = turn_of(yaw)
        away = sizes[i].mouth if sizes[i] else plan.nodes[i].reach(kerb, cross.left_kerb, corner)  # side streets are symmetric
        centres.append((x + away * cosine, y + away * sine, yaw))
        x, y = x + 2 * away * cosine, y + 2 * away * sine
    sides = {side: _side(network, draw, plan, side, profile, cross, corner, centres, sizes) for side in BOTH}
    junctions = []
    for i, node in enumerate(plan.nodes):
        arms = {side: [(sides[side][0][i], False)] if side in node.sides else [] for side in BOTH}
        mouths = [(roads[i + 1], False), *arms[1], (roads[i], True), *arms[-1]]
        if node.kind == ROUNDABOUT:
            junctions.append(add_roundabout(network, mouths, centres[i][:2], sizes[i]))
        else:
            side_roads = tuple(mouth[0] for mouth in (*arms[1], *arms[-1])) if node.kind == PRIORITY else ()
            junctions.append(add_junction(network, mouths, side_roads))
    network.link()
    cross_roads = tuple(road for arms, others in sides.values() for road in (*arms.values(), *others))
    return Street(plan.kind, network, tuple(roads), tuple(junctions), plan.main, cross_roads)


def _side(network, draw, plan, side, profile, cross, corner, centres, sizes) -> tuple[dict[int, Road], list[Road]]:
    """Adds the side streets on one side (1 left, -1 right), by node, and the parallel street that joins them if asked for."""
    kerb = profile.left_kerb if side > 0 else -profile.right_kerb
    length = draw.uniform(*plan.far)
    arms = {}
    for i, (node, (x, y, yaw)) in enumerate(zip(plan.nodes, centres, strict=True)):
        if side not in node.sides:
            continue
        away = sizes[i].mouth if sizes[i] else node.reach(cross.left_kerb, kerb, corner)
        direction = yaw + side * PI / 2 + node.skew
        sine, cosine = turn_of(direction)
        line = straight_line(x + away * cosine, y + away * sine, direction, length)
        arms[i] = network.add_road(line, cross)
    if not plan.block:
        return arms, []
    half = cross.left_kerb + corner + CROSSWALK_SETBACK
    yaw = centres[0][2]
    sine, cosine = turn_of(yaw)
    away = kerb + corner + CROSSWALK_SETBACK + length + half  # from the corridor's reference line to that of the parallel street
    nodes = [(x - side * away * sine, y + side * away * cosine) for x, y, _ in centres]
    stub = draw.uniform(40.0, 70.0)
    x, y = nodes[0]
    links = [network.add_road(straight_line(x - (half + stub) * cosine, y - (half + stub) * sine, yaw, stub), cross)]
    for (x, y), (x1, y1) in pairwise(nodes):
        gap = float(np.sqrt((x1 - x) * (x1 - x) + (y1 - y) * (y1 - y))) - 2 * half
        links.append(network.add_road(straight_line(x + half * cosine, y + half * sine, yaw, gap), cross))
    x, y = nodes[-1]
    links.append(network.add_road(straight_line(x + half * cosine, y + half * sine, yaw, stub), cross))
    for i, arm in arms.items():
        around = [(links[i + 1], False), (links[i], True), (arm, True)]
        add_junction(network, around if side > 0 else [around[0], around[2], around[1]])
    return arms, links
