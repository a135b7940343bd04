"""Roads, and the vector map that they and their junctions make. Right-hand traffic: forward lanes right of the reference line."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from worldengine_envs.city.exact import turn_of
from worldengine_envs.city.lines import Line, connectors
from worldengine_envs.scenario.types import MapLayer, VectorMap

PI = 3.141592653589793
JOINT = 0.3  # that the surface of a road reaches into junctions [m]
BEND_ACCELERATION = 2.5  # to the side, that the speed limit of bends allows [m/s2]
STRAIGHT, LEFT, RIGHT = "straight", "left", "right"
ENTRY, AROUND, EXIT = "entry", "around", "exit"  # movements of the connectors of roundabouts
LIGHTS, PRIORITY, ROUNDABOUT, JOINED = "lights", "priority", "roundabout", "joined"  # kinds of junctions


@dataclass(frozen=True)
class RoadProfile:
    """Cross section of a road."""

    forward: int = 1  # lanes along the reference line
    backward: int = 1  # lanes against it
    lane_width: float = 3.5  # [m]
    speed_limit: float = 13.9  # [m/s]
    parking_right: float = 0.0  # width of the parking strip [m], 0 = none
    parking_left: float = 0.0
    shoulder: float = 0.5  # drivable margin between the outermost lane or strip and the kerb [m]
    pavement: float = 3.0  # beyond the kerb, not drivable [m]

    @property
    def right_kerb(self) -> float:
        """Offset of the right kerb from the reference line [m], negative."""
        return -(self.forward * self.lane_width + self.parking_right + self.shoulder)

    @property
    def left_kerb(self) -> float:
        """Offset of the left kerb [m], positive."""
        return self.backward * self.lane_width + self.parking_left + self.shoulder


@dataclass(frozen=True, eq=False)
class Road:
    """A piece of road between two junctions; lanes are listed from the middle outwards."""

    line: Line
    profile: RoadProfile
    forward: tuple[int, ...]  # lane rows
    backward: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Arm:
    """One road's mouth at a junction: lanes in and out from the middle outwards, seen from the junction."""

    road: Road
    at_end: bool  # the junction lies at the end of the road's reference line
    pose: tuple[float, float, float]  # x, y of the reference line at the mouth, yaw pointing out of the junction
    group: int  # light group of the lanes that enter here
    yields: bool = False  # a side road without lights, an entry of a roundabout, a lane that ends

    @cached_property
    def turn(self) -> tuple[float, float]:
        """(sin, cos) of the outward yaw."""
        return turn_of(self.pose[2])

    @property
    def lanes_in(self) -> tuple[int, ...]:
        return self.road.forward if self.at_end else self.road.backward

    @property
    def lanes_out(self) -> tuple[int, ...]:
        return self.road.backward if self.at_end else self.road.forward

    @property
    def kerbs(self) -> tuple[float, float]:
        """Offsets of the kerbs to the right and left of the outward direction [m]."""
        profile = self.road.profile
        return (-profile.left_kerb, -profile.right_kerb) if self.at_end else (profile.right_kerb, profile.left_kerb)

    def point(self, outward: float, left: float) -> tuple[float, float]:
        """Returns x, y of the point this far out of the junction and to the left of the outward direction [m]."""
        (x, y, _), (sine, cosine) = self.pose, self.turn
        return x + outward * cosine - left * sine, y + outward * sine + left * cosine


def turn_between(arm: Arm, other: Arm) -> str:
    """Returns which way one turns who comes in by one arm and leaves by the other: straight within 45 degrees, left or right."""
    turn = other.pose[2] - arm.pose[2] - PI
    turn -= 2 * PI * round(turn / (2 * PI))
    return STRAIGHT if abs(turn) < PI / 4 else LEFT if turn > 0 else RIGHT


class Ring(NamedTuple):
    """The carriageway of a roundabout, driven counter-clockwise."""

    centre: tuple[float, float]  # x, y [m]
    radius: float  # of the lane's centre [m]
    width: float  # of the lane [m]
    lanes: tuple[int, ...]  # lane i lies between the entry of arm i and the exit of arm i + 1


@dataclass(frozen=True, eq=False)
class Junction:
    """Where roads meet; arms are ordered counter-clockwise.

    Kinds: lights; priority (no lights, arms that yield are side roads); roundabout (every arm yields to the ring); joined (roads
    that go on into each other: lanes begin, end or join there, nobody crosses, there is no crosswalk).
    """

    arms: tuple[Arm, ...]
    kind: str = LIGHTS
    ring: Ring | None = None

    def arm_of(self, road: Road) -> Arm:
        """Returns the arm of a road that ends or begins here; StopIteration if it does not."""
        return next(arm for arm in self.arms if arm.road is road)

    def towards(self, road: Road, movement: str) -> Arm | None:
        """Returns the arm by which one leaves who comes from ``road`` and goes straight, left or right; None if there is none."""
        arm = self.arm_of(road)
        return next((other for other in self.arms if other is not arm and turn_between(arm, other) == movement), None)


class Link(NamedTuple):
    """A connector that ``Network.link`` is to make."""

    junction: int
    start: int  # lane in
    end: int  # lane out
    movement: str
    group: int
    roadblock: int
    width: float  # half of it [m]
    rank: int = 0
    bends: tuple[float, float] = (0.0, 0.0)  # curvature at its two ends [1/m]
    pulls: tuple[float, float] = (1.0, 1.0)  # see ``lines.connectors``


@dataclass
class Network:
    """Collects roads and junctions; ``link`` joins their lanes once all are there, ``vector_map`` makes the arrays."""

    roads: list[Road] = field(default_factory=list)
    junctions: list[Junction] = field(default_factory=list)
    signals: list[bool] = field(default_factory=list)  # by light group: whether real lights stand there
    # by lane, connectors among them
    lanes: list[Line] = field(default_factory=list)  # centrelines
    movement: list[str] = field(default_factory=list)  # "" for lanes; straight, left, right, entry, around, exit for connectors
    group: list[int] = field(default_factory=list)  # light group of a connector, -1 = nobody waits before it
    rank: list[int] = field(default_factory=list)  # of a connector; a higher one gives way to lower ones
    junction: list[int] = field(default_factory=list)  # row of a connector's junction, -1 for lanes
    successors: list[list[int]] = field(default_factory=list)
    through: dict[int, dict[str, tuple[int, ...]]] = field(default_factory=dict)  # lane into a roundabout: rows by movement
    _limit: list[float] = field(default_factory=list)
    _roadblock: list[int] = field(default_factory=list)
    _left: list[int] = field(default_factory=list)
    _right: list[int] = field(default_factory=list)
    _lane_polygon: list[int] = field(default_factory=list)
    _polygons: list[np.ndarray] = field(default_factory=list)
    _layers: list[int] = field(default_factory=list)
    _roadblocks: int = 0
    _links: list[Link] = field(default_factory=list)

    @property
    def groups(self) -> int:
        """Number of light groups, those of junctions without lights among them."""
        return len(self.signals)

    def new_group(self, lights: bool) -> int:
        """Returns the row of a new light group."""
        self.signals.append(lights)
        return len(self.signals) - 1

    def new_roadblock(self) -> int:
        """Returns the number of a new roadblock."""
        self._roadblocks += 1
        return self._roadblocks - 1

    def add_polygon(self, layer: MapLayer, xy: np.ndarray) -> int:
        """Adds an open ring (vertices, 2) [m]; returns its row."""
        self._polygons.append(xy)
        self._layers.append(layer)
        return len(self._polygons) - 1

    def rings(self, layers: tuple[MapLayer, ...]) -> list[np.ndarray]:
        """Returns the polygons (vertices, 2) [m] of these layers, open rings in the order in which they were added."""
        return [ring for ring, layer in zip(self._polygons, self._layers, strict=True) if layer in layers]

    def add_lane(self, line: Line, polygon, limit: float, roadblock: int, movement="", group=-1, rank=0, junction=-1) -> int:
        """Adds a lane, or a connector if it has a movement; returns its row."""
        self.lanes.append(line)
        self.movement.append(movement)
        self.group.append(group)
        self.rank.append(rank)
        self.junction.append(junction)
        self._limit.append(limit)
        self._roadblock.append(roadblock)
        self._left.append(-1)
        self._right.append(-1)
        self.successors.append([])
        layer = MapLayer.LANE_CONNECTOR if movement else MapLayer.LANE
        self._lane_polygon.append(self.add_polygon(layer, polygon))
        return len(self.lanes) - 1

    def add_link(self, *link, **settings) -> None:
        """Asks ``link`` for a connector of the junction that is being made: fields of ``Link`` without the junction."""
        self._links.append(Link(len(self.junctions), *link, **settings))

    def add_road(self, line: Line, profile: RoadProfile) -> Road:
        """Adds lanes, roadblocks, drivable area and parking strips along a reference line."""
        p, w = profile, profile.lane_width
        bent = bool(np.any(line.curvature))
        ends = line if bent else line.ends()
        edges: dict[float, np.ndarray] = {}  # by offset: lanes side by side share theirs

        def ring(a: float, b: float) -> np.ndarray:
            for left in (a, b):
                if left not in edges:
                    edges[left] = ends.shifted(left)
            return np.concatenate((edges[a], edges[b][::-1]))

        surface = ring(p.right_kerb, p.left_kerb)  # a little longer than the road, so that no slit is left at junctions
        last = len(ends.s) - 1
        for row, k, ahead in ((0, 0, -1.0), (last, last, 1.0), (last + 1, last, 1.0), (2 * last + 1, 0, -1.0)):
            surface[row, 0] += ahead * JOINT * ends.cosine[k]
            surface[row, 1] += ahead * JOINT * ends.sine[k]
        self.add_polygon(MapLayer.DRIVABLE_AREA, surface)
        sides = []
        for count, sign in ((p.forward, -1.0), (p.backward, 1.0)):
            lanes = []
            if count:
                self.add_polygon(MapLayer.ROADBLOCK, ring(0.0, sign * count * w))
                block = self.new_roadblock()
            for i in range(count):
                centre = line.offset(sign * (i + 0.5) * w)
                polygon = ring(sign * i * w, sign * (i + 1) * w)
                lane = self.add_lane(centre if sign < 0 else centre.reversed(), polygon, p.speed_limit, block)
                if lanes:
                    self._left[lane], self._right[lanes[-1]] = lanes[-1], lane
                lanes.append(lane)
            sides.append(tuple(lanes))
        if p.parking_right:
            self.add_polygon(MapLayer.CARPARK_AREA, ring(-p.forward * w, -p.forward * w - p.parking_right))
        if p.parking_left:
            self.add_polygon(MapLayer.CARPARK_AREA, ring(p.backward * w, p.backward * w + p.parking_left))
        road = Road(line, profile, *sides)
        self.roads.append(road)
        return road

    def link(self) -> None:
        """Adds the connectors of all junctions, and the ways through roundabouts."""
        links, self._links = self._links, []
        starts, ends = ([self.lanes[row] for row in rows] for rows in zip(*((link.start, link.end) for link in links), strict=True))
        lines = connectors(
            np.array([(line.x[-1], line.y[-1], line.yaw[-1]) for line in starts]),
            np.array([(line.x[0], line.y[0], line.yaw[0]) for line in ends]),
            np.array([link.bends for link in links]),
            np.array([link.pulls for link in links]),
        )
        widths = np.array([link.width for link in links])[:, None]
        x, y, sine, cosine, curvature = (
            np.stack([getattr(line, k) for line in lines]) for k in ("x", "y", "sine", "cosine", "curvature")
        )
        rings = np.empty((len(lines), 2, 9, 2))
        for side, sign in ((0, 1.0), (1, -1.0)):
            every = slice(None, None, 2 if sign > 0 else -2)
            rings[:, side, :, 0] = (x - sign * widths * sine)[:, every]
            rings[:, side, :, 1] = (y + sign * widths * cosine)[:, every]
        bends = np.sqrt(BEND_ACCELERATION / np.maximum(np.max(np.abs(curvature), axis=1), 1e-6)).tolist()
        for k, link in enumerate(links):
            limit = self._limit[link.start]
            limit = limit if link.movement == STRAIGHT else min(limit, bends[k])
            what = (link.movement, link.group, link.rank, link.junction)
            row = self.add_lane(lines[k], rings[k].reshape(-1, 2), limit, link.roadblock, *what)
            self.successors[link.start].append(row)
            self.successors[row].append(link.end)
        for junction in self.junctions:
            if junction.ring:
                self._find_ways(junction)

    def _find_ways(self, junction: Junction) -> None:
        """Notes the rows from each lane into a roundabout to the exit for each movement."""
        arms, ring = junction.arms, junction.ring
        for i, arm in enumerate(arms):
            (lane,) = arm.lanes_in
            (entry,) = self.successors[lane]
            rows, ways = [entry, ring.lanes[i]], {}
            for k in range(1, len(arms)):
                around, leave = (next(row for row in self.successors[rows[-1]] if self.movement[row] == m) for m in (AROUND, EXIT))
                ways.setdefault(turn_between(arm, arms[(i + k) % len(arms)]), (*rows, leave))
                rows += [around, ring.lanes[(i + k) % len(arms)]]
            self.through[lane] = ways

    def vector_map(self, origin: np.ndarray) -> VectorMap:
        """Returns the map in the frame whose origin is this point [m], rounded to 1 mm."""

        def flat(arrays, dtype=np.float64):
            offsets = np.concatenate(([0], np.cumsum([len(a) for a in arrays]))).astype(np.int32)
            return np.concatenate(arrays).astype(dtype), offsets

        centre, centre_offsets = flat([line.xy for line in self.lanes])
        xy, xy_offsets = flat(self._polygons)
        links, link_offsets = flat([np.array(row, dtype=np.int32) for row in self.successors], np.int32)
        return VectorMap(
            lane_tokens=tuple(f"{'connector' if m else 'lane'}_{i}" for i, m in enumerate(self.movement)),
            lane_is_connector=np.array([bool(m) for m in self.movement]),
            lane_speed_limit=np.round(np.array(self._limit), 3),
            lane_roadblock=np.array(self._roadblock, dtype=np.int32),
            lane_left=np.array(self._left, dtype=np.int32),
            lane_right=np.array(self._right, dtype=np.int32),
            lane_polygon=np.array(self._lane_polygon, dtype=np.int32),
            centerline=np.round(centre - origin, 3),
            centerline_offsets=centre_offsets,
            successors=links,
            successor_offsets=link_offsets,
            polygon_xy=np.round(xy - origin, 3),
            polygon_offsets=xy_offsets,
            polygon_layer=np.array(self._layers, dtype=np.int8),
        )
