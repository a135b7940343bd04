"""Roundabouts of one lane: the ring, its entries and exits, and the ground between the kerbs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldengine_envs.city.exact import Draw, sin_cos, turn_of
from worldengine_envs.city.junctions import add_crosswalk, make_arm
from worldengine_envs.city.lines import Line, connectors
from worldengine_envs.city.network import (
    AROUND,
    BEND_ACCELERATION,
    ENTRY,
    EXIT,
    JOINT,
    PI,
    ROUNDABOUT,
    Arm,
    Junction,
    Network,
    Ring,
    Road,
)
from worldengine_envs.scenario.types import MapLayer

MERGE_ANGLE = 0.66  # on the ring from the axis of an arm to where its entry joins and its exit leaves [rad]
APPROACH = 1.07  # from there to the arm's mouth, along the arm [radii]
SPACING = 1.2  # of points on the ring [m]
PULLS = (1.1, 0.42)  # of entries, for wide bends (``lines.connectors``); found by trying
MARGIN = 0.4  # of ground outside the lane of the ring [m]
APRON = 0.8  # of ground inside it [m]


@dataclass(frozen=True)
class RingSize:
    """Measures of a roundabout [m]."""

    radius: float  # of the lane's centre
    width: float  # of the lane

    @classmethod
    def drawn(cls, draw: Draw) -> RingSize:
        radius = draw.uniform(13.0, 20.0)
        return cls(radius, 5.6 - 0.06 * radius)

    @property
    def mouth(self) -> float:
        """From the centre to the mouths of the arms."""
        return self.radius * (turn_of(MERGE_ANGLE)[1] + APPROACH)


def add_roundabout(network: Network, mouths: list[tuple[Road, bool]], centre: tuple[float, float], size: RingSize) -> Junction:
    """Joins roads of one lane each way by a roundabout: ``mouths`` (road, at_end) counter-clockwise, ``RingSize.mouth`` away."""
    arms = [make_arm(network, road, at_end, False, True) for road, at_end in mouths]
    radius, row, count = size.radius, len(network.junctions), len(arms)
    limit = float(np.sqrt(BEND_ACCELERATION * radius))
    at = [arm.pose[2] for arm in arms]  # direction in which each arm lies
    until = [_after(a, b) for a, b in zip(at, at[1:] + at[:1], strict=True)]
    between = [(a + MERGE_ANGLE, b - MERGE_ANGLE) for a, b in zip(at, until, strict=True)]
    lines = _arcs(centre, radius, between + [(a - MERGE_ANGLE, a + MERGE_ANGLE) for a in at])
    half, block = 0.5 * size.width, network.new_roadblock
    rows = []
    for i, line in enumerate(lines):
        ring = np.concatenate((line.shifted(half), line.shifted(-half)[::-1]))
        rows.append(network.add_lane(line, ring, limit, block(), *((AROUND, -1, 0, row) if i >= count else ())))
    lanes, around = rows[:count], rows[count:]
    for i, arm in enumerate(arms):
        network.successors[lanes[i - 1]].append(around[i])
        network.successors[around[i]].append(lanes[i])
        network.add_link(arm.lanes_in[0], lanes[i], ENTRY, arm.group, block(), half, 1, (0.0, 1.0 / radius), PULLS)
        network.add_link(lanes[i - 1], arm.lanes_out[0], EXIT, -1, block(), half, 0, (1.0 / radius, 0.0), PULLS[::-1])
    for ring in _sectors(network, arms, until, lines[:count], centre, size):
        network.add_polygon(MapLayer.INTERSECTION, ring)
    for arm in arms:
        add_crosswalk(network, arm)
    junction = Junction(tuple(arms), ROUNDABOUT, Ring(centre, radius, size.width, tuple(lanes)))
    network.junctions.append(junction)
    return junction


def _after(a: float, b: float) -> float:
    """Returns angle b plus whole turns [rad], so that it follows a counter-clockwise."""
    return b + 2 * PI * float(np.ceil((a - b) / (2 * PI) + 1e-9))


def _arcs(centre: tuple[float, float], radius: float, spans: list[tuple[float, float]]) -> list[Line]:
    """Returns the counter-clockwise arcs between two directions from the centre each [rad]."""
    angles = []
    for start, end in spans:
        count = max(2, int(np.ceil(radius * (end - start) / SPACING)))
        angles.append(start + (end - start) * (np.arange(count + 1) / count))
    cuts = np.cumsum([len(a) for a in angles])[:-1]
    angle = np.concatenate(angles)
    sine, cosine = sin_cos(angle)
    curvature = np.full(len(angle), 1.0 / radius)
    columns = (centre[0] + radius * cosine, centre[1] + radius * sine, angle + 0.5 * PI, curvature, cosine, -sine)
    arcs = zip(*(np.split(column, cuts) for column in columns), strict=True)
    return [Line(radius * (a - a[0]), *arc) for a, arc in zip(angles, arcs, strict=True)]


def _sectors(network: Network, arms: list[Arm], until: list[float], lanes: list[Line], centre, size: RingSize) -> list[np.ndarray]:
    """Returns the ground from the middle of each arm, and a little before it, to the middle of the next."""
    following = arms[1:] + arms[:1]
    come, leave = [network.lanes[a.lanes_in[0]] for a in arms], [network.lanes[a.lanes_out[0]] for a in following]
    starts = np.array([(line.x[-1], line.y[-1], line.yaw[-1]) for line in come + lanes])
    ends = np.array([(line.x[0], line.y[0], line.yaw[0]) for line in lanes + leave])
    bends = np.zeros((len(starts), 2))
    bends[: len(arms), 1] = bends[len(arms) :, 0] = 1.0 / size.radius
    paths = connectors(starts, ends, bends, np.array([PULLS] * len(arms) + [PULLS[::-1]] * len(arms)))
    outside, inner = 0.5 * size.width + MARGIN, size.radius - 0.5 * size.width - APRON
    islands = _arcs(centre, inner, [(arm.pose[2] - JOINT / inner, end) for arm, end in zip(arms, until, strict=True)])
    u = np.clip((np.arange(17) / 16.0 - 0.25) / 0.6, 0.0, 1.0)
    u = u * u * (3.0 - 2.0 * u)
    sectors = []
    for i, (arm, other) in enumerate(zip(arms, following, strict=True)):
        left, right = arm.kerbs[1], other.kerbs[0]
        edge, edge2 = left - 0.5 * arm.road.profile.lane_width, -right - 0.5 * other.road.profile.lane_width
        ring = [arm.point(0.0, -JOINT), arm.point(0.0, left)]
        after = [other.point(0.0, right), other.point(0.0, 0.0)]
        entry = paths[i].shifted(-(edge + u * (outside - edge)))[1::2]
        leaving = paths[len(arms) + i].shifted(-(edge2 + u[::-1] * (outside - edge2)))[1::2]
        sectors.append(np.concatenate((ring, entry, lanes[i].shifted(-outside)[1:-1], leaving, after, islands[i].xy[::-1])))
    return sectors
