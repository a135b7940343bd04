"""Roundabouts of one lane: the ring, its entries and exits, and the ground between the kerbs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldengine_envs.city.exact import Draw, turn_of
from worldengine_envs.city.junctions import add_crosswalk, make_arm
from worldengine_envs.city.lines import Line, connectors, curvature_line
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

MERGE_ANGLE = 0.6  # on the ring from the axis of an arm to where its entry joins and its exit leaves [rad]
APPROACH = 16.0  # from there to the arm's mouth, along the arm [m]
MARGIN = 0.4  # of ground outside the lane of the ring [m]


@dataclass(frozen=True)
class RingSize:
    """Measures of a roundabout [m]."""

    radius: float  # of the lane's centre
    width: float  # of the lane

    @classmethod
    def drawn(cls, draw: Draw) -> RingSize:
        radius = draw.uniform(14.0, 20.0)
        return cls(radius, 5.6 - 0.06 * radius)

    @property
    def mouth(self) -> float:
        """From the centre to the mouths of the arms."""
        return self.radius * turn_of(MERGE_ANGLE)[1] + APPROACH


def add_roundabout(network: Network, mouths: list[tuple[Road, bool]], centre: tuple[float, float], size: RingSize) -> Junction:
    """Joins roads of one lane each way by a roundabout: ``mouths`` (road, at_end) counter-clockwise, ``RingSize.mouth`` away."""
    arms = [make_arm(network, road, at_end, False, True) for road, at_end in mouths]
    radius, row = size.radius, len(network.junctions)
    limit = float(np.sqrt(BEND_ACCELERATION * radius))
    at = [arm.pose[2] for arm in arms]  # direction in which each arm lies

    def lane(start: float, end: float, *what) -> int:
        line = _arc(centre, radius, start, end)
        ring = np.concatenate((line.shifted(0.5 * size.width), line.shifted(-0.5 * size.width)[::-1]))
        return network.add_lane(line, ring, limit, network.new_roadblock(), *what)

    lanes = [lane(a + MERGE_ANGLE, _after(a, b) - MERGE_ANGLE) for a, b in zip(at, at[1:] + at[:1], strict=True)]
    for i, arm in enumerate(arms):
        around = lane(at[i] - MERGE_ANGLE, at[i] + MERGE_ANGLE, AROUND, -1, 0, row)
        network.successors[lanes[i - 1]].append(around)
        network.successors[around].append(lanes[i])
        half, block = 0.5 * size.width, network.new_roadblock
        network.add_link(arm.lanes_in[0], lanes[i], ENTRY, arm.group, block(), half, 1, (0.0, 1.0 / radius))
        network.add_link(lanes[i - 1], arm.lanes_out[0], EXIT, -1, block(), half, 0, (1.0 / radius, 0.0))
    for i, arm in enumerate(arms):
        network.add_polygon(MapLayer.INTERSECTION, _sector(network, arm, arms[(i + 1) % len(arms)], lanes[i], centre, size))
        add_crosswalk(network, arm)
    junction = Junction(tuple(arms), ROUNDABOUT, Ring(centre, radius, size.width, tuple(lanes)))
    network.junctions.append(junction)
    return junction


def _after(a: float, b: float) -> float:
    """Returns angle b plus whole turns [rad], so that it follows a counter-clockwise."""
    return b + 2 * PI * float(np.ceil((a - b) / (2 * PI) + 1e-9))


def _arc(centre: tuple[float, float], radius: float, start: float, end: float) -> Line:
    """Returns the counter-clockwise arc between two directions from the centre [rad]."""
    sine, cosine = turn_of(start)
    x, y = centre[0] + radius * cosine, centre[1] + radius * sine
    return curvature_line(x, y, start + PI / 2, [0.0, radius * (end - start)], [1.0 / radius, 1.0 / radius], 1.2)


def _sector(network: Network, arm: Arm, following: Arm, lane: int, centre, size: RingSize) -> np.ndarray:
    """Returns the ground from the middle of one arm to the middle of the next, a little beyond both."""
    ring = network.lanes[lane]
    first, last = ((float(ring.x[k]), float(ring.y[k]), float(ring.yaw[k])) for k in (0, -1))
    come, leave = network.lanes[arm.lanes_in[0]], network.lanes[following.lanes_out[0]]
    starts = np.array([(come.x[-1], come.y[-1], come.yaw[-1]), last])
    ends = np.array([first, (leave.x[0], leave.y[0], leave.yaw[0])])
    bend = 1.0 / size.radius
    entry, leaving = connectors(starts, ends, np.array([(0.0, bend), (bend, 0.0)]))
    outside = 0.5 * size.width + MARGIN
    kerbs = (arm.kerbs[1] - 0.5 * arm.road.profile.lane_width, -following.kerbs[0] - 0.5 * following.road.profile.lane_width)
    u = np.clip((np.arange(len(entry.s)) / (len(entry.s) - 1) - 0.25) / 0.6, 0.0, 1.0)
    u = u * u * (3.0 - 2.0 * u)
    inner = size.radius - 0.5 * size.width
    island = _arc(centre, inner, arm.pose[2] - JOINT / inner, _after(arm.pose[2], following.pose[2]))
    return np.concatenate(
        (
            [arm.point(0.0, -JOINT)],
            entry.shifted(-(kerbs[0] + u * (outside - kerbs[0])))[::2],
            ring.shifted(-outside)[1:-1],
            leaving.shifted(-(kerbs[1] + u[::-1] * (outside - kerbs[1])))[::2],
            [following.point(0.0, 0.0)],
            island.xy[::-1],
        )
    )
