"""Junctions: the intersection, crosswalks and links between the lanes of the roads that meet."""

from __future__ import annotations

import numpy as np

from worldengine_envs.city.network import (
    JOINED,
    LEFT,
    LIGHTS,
    PI,
    PRIORITY,
    STRAIGHT,
    Arm,
    Junction,
    Network,
    Road,
    turn_between,
)
from worldengine_envs.scenario.types import MapLayer

CROSSWALK_WIDTH = 3.0  # along the crossed road [m]
CROSSWALK_SETBACK = 4.0  # from the mouth of a junction to where its corners begin to bend [m]


def make_arm(network: Network, road: Road, at_end: bool, lights: bool, yields: bool = False) -> Arm:
    """Returns the mouth of a road at a junction, with a light group of its own."""
    line, k = road.line, -1 if at_end else 0
    yaw = line.yaw[k] + PI if at_end else line.yaw[k]
    return Arm(road, at_end, (float(line.x[k]), float(line.y[k]), float(yaw)), network.new_group(lights), yields)


def add_junction(network: Network, mouths: list[tuple[Road, bool]], side_roads: tuple[Road, ...] = ()) -> Junction:
    """Joins roads: adds the intersection, crosswalks and links.

    Args:
        network: Is added to.
        mouths: ``(road, at_end)`` counter-clockwise.
        side_roads: Roads that give way to the others; where there are none, lights stand at the junction.
    """
    arms = [make_arm(network, road, at_end, not side_roads, road in side_roads) for road, at_end in mouths]
    network.add_polygon(MapLayer.INTERSECTION, _intersection(arms))
    for arm in arms:
        add_crosswalk(network, arm)
    for arm in arms:
        for other in arms:
            if arm is not other and arm.lanes_in and other.lanes_out:
                _link(network, arm, other)
    junction = Junction(tuple(arms), PRIORITY if side_roads else LIGHTS)
    network.junctions.append(junction)
    return junction


def add_crosswalk(network: Network, arm: Arm) -> None:
    """Adds the crosswalk inside the mouth of an arm, from kerb to kerb."""
    right, left = arm.kerbs
    near, far = -0.5, -0.5 - CROSSWALK_WIDTH
    corners = (arm.point(near, right), arm.point(near, left), arm.point(far, left), arm.point(far, right))
    network.add_polygon(MapLayer.CROSSWALK, np.array(corners))


def _link(network: Network, arm: Arm, other: Arm) -> None:
    """Links the lanes in of one arm with the lanes out of another: all straight on, the innermost left, the outermost right."""
    turn, last = turn_between(arm, other), len(other.lanes_out) - 1
    if turn == STRAIGHT:
        pairs = [(lane, other.lanes_out[min(i, last)]) for i, lane in enumerate(arm.lanes_in)]
    else:
        pairs = [(arm.lanes_in[0], other.lanes_out[0])] if turn == LEFT else [(arm.lanes_in[-1], other.lanes_out[-1])]
    block = network.new_roadblock()
    rank = 2 * arm.yields + (turn == LEFT)
    for start, end in pairs:
        network.add_link(start, end, turn, arm.group, block, 0.5 * arm.road.profile.lane_width, rank)


def _intersection(arms: list[Arm]) -> np.ndarray:
    """Returns the ring through all mouths, with rounded kerbs between neighbouring arms."""
    ring = []
    for arm, following in zip(arms, arms[1:] + arms[:1], strict=True):
        right, left = arm.kerbs
        next_right = following.kerbs[0]
        ring += [arm.point(0.0, right), arm.point(0.0, left)]
        turn = following.pose[2] - arm.pose[2]
        turn -= 2 * PI * round(turn / (2 * PI))
        if not PI / 6 < turn < 5 * PI / 6:
            continue  # opposite arms: a straight kerb
        a, b = arm.point(-CROSSWALK_SETBACK, left), following.point(-CROSSWALK_SETBACK, next_right)
        (sine, cosine), (sine2, cosine2) = arm.turn, following.turn
        along = ((b[0] - a[0]) * sine2 - (b[1] - a[1]) * cosine2) / (cosine * sine2 - sine * cosine2)
        corner = a[0] + along * cosine, a[1] + along * sine
        for u in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
            p, q, r = (1 - u) * (1 - u), 2 * u * (1 - u), u * u
            ring.append((p * a[0] + q * corner[0] + r * b[0], p * a[1] + q * corner[1] + r * b[1]))
    return np.array(ring)


def add_joint(network: Network, before: Road, after: Road, ramp: Road | None = None) -> Junction:
    """Lets a road go on into another: lanes begin (fed by a ramp from the right) or end at the outside of the forward direction.

    The roads lie on one line with a gap in which lanes shift. Forward lanes beyond those of ``after`` merge into its outermost
    one and give way; a ramp feeds the outermost lane of ``after``.
    """
    ahead, behind = arms = [make_arm(network, after, False, False), make_arm(network, before, True, False)]
    outline = [behind.point(0.0, k) for k in behind.kerbs]
    if ramp:
        arms.append(make_arm(network, ramp, True, False))
        outline += [arms[2].point(0.0, k) for k in arms[2].kerbs]
    outline += [ahead.point(0.0, k) for k in ahead.kerbs]
    network.add_polygon(MapLayer.DRIVABLE_AREA, np.array(outline))
    width, last = 0.5 * before.profile.lane_width, len(after.forward) - 1
    block = network.new_roadblock()
    for i, lane in enumerate(before.forward):
        network.add_link(lane, after.forward[min(i, last)], STRAIGHT, -1, block, width, int(i > last))
    block = network.new_roadblock()
    for start, end in zip(after.backward, before.backward, strict=True):
        network.add_link(start, end, STRAIGHT, -1, block, width)
    if ramp:
        block = network.new_roadblock()
        for start, end in zip(ramp.forward, after.forward[len(before.forward) :], strict=True):
            network.add_link(start, end, STRAIGHT, -1, block, width)
    junction = Junction(tuple(arms), JOINED)
    network.junctions.append(junction)
    return junction
