"""Roads and junctions, and the vector map that they make. Right-hand traffic: forward lanes lie right of the reference line."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from worldengine_envs.city.exact import turn_of
from worldengine_envs.city.lines import Line, connectors
from worldengine_envs.scenario.types import MapLayer, VectorMap

PI = 3.141592653589793
CROSSWALK_WIDTH = 3.0  # along the crossed road [m]
CROSSWALK_SETBACK = 4.0  # from the mouth of a junction to where its corners begin to bend [m]
JOINT = 0.3  # that the surface of a road reaches into junctions [m]
STRAIGHT, LEFT, RIGHT = "straight", "left", "right"


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

    def lane_offset(self, lane: int) -> float:
        """Offset of a lane's centre from the reference line [m], left positive."""
        if lane in self.forward:
            return -(self.forward.index(lane) + 0.5) * self.profile.lane_width
        return (self.backward.index(lane) + 0.5) * self.profile.lane_width


@dataclass(frozen=True, eq=False)
class Arm:
    """One road's mouth at a junction: lanes in and out from the middle outwards, seen from the junction."""

    road: Road
    at_end: bool  # the junction lies at the end of the road's reference line
    pose: tuple[float, float, float]  # x, y of the reference line at the mouth, yaw pointing out of the junction
    group: int  # light group of the lanes that enter here

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


@dataclass(frozen=True, eq=False)
class Junction:
    """Where roads meet; arms are ordered counter-clockwise."""

    arms: tuple[Arm, ...]


@dataclass
class Network:
    """Collects roads and junctions; ``link`` joins their lanes once all are there, ``vector_map`` makes the arrays."""

    roads: list[Road] = field(default_factory=list)
    junctions: list[Junction] = field(default_factory=list)
    lanes: list[Line] = field(default_factory=list)  # centrelines, connectors among them
    movement: list[str] = field(default_factory=list)  # "" for lanes; straight, left, right for connectors
    group: list[int] = field(default_factory=list)  # light group of a connector, -1 for lanes
    groups: int = 0
    _limit: list[float] = field(default_factory=list)
    _roadblock: list[int] = field(default_factory=list)
    _left: list[int] = field(default_factory=list)
    _right: list[int] = field(default_factory=list)
    _lane_polygon: list[int] = field(default_factory=list)
    successors: list[list[int]] = field(default_factory=list)
    _polygons: list[np.ndarray] = field(default_factory=list)
    _layers: list[int] = field(default_factory=list)
    _roadblocks: int = 0
    _links: list[tuple] = field(default_factory=list)  # lane in, lane out, movement, light group, roadblock, half width

    def _add_polygon(self, layer: MapLayer, xy: np.ndarray) -> int:
        self._polygons.append(xy)
        self._layers.append(layer)
        return len(self._polygons) - 1

    def _add_lane(self, line: Line, polygon: np.ndarray, limit: float, roadblock: int, movement: str = "", group: int = -1) -> int:
        self.lanes.append(line)
        self.movement.append(movement)
        self.group.append(group)
        self._limit.append(limit)
        self._roadblock.append(roadblock)
        self._left.append(-1)
        self._right.append(-1)
        self.successors.append([])
        layer = MapLayer.LANE_CONNECTOR if movement else MapLayer.LANE
        self._lane_polygon.append(self._add_polygon(layer, polygon))
        return len(self.lanes) - 1

    def add_road(self, line: Line, profile: RoadProfile) -> Road:
        """Adds lanes, roadblocks, drivable area and parking strips along a reference line."""
        p, w = profile, profile.lane_width
        bent = bool(np.any(line.curvature))
        ends = line if bent else line.ends()

        def ring(a: float, b: float) -> np.ndarray:
            return np.concatenate((ends.shifted(a), ends.shifted(b)[::-1]))

        surface = ring(p.right_kerb, p.left_kerb)  # a little longer than the road, so that no slit is left at junctions
        last = len(ends.s) - 1
        for row, k, ahead in ((0, 0, -1.0), (last, last, 1.0), (last + 1, last, 1.0), (2 * last + 1, 0, -1.0)):
            surface[row, 0] += ahead * JOINT * ends.cosine[k]
            surface[row, 1] += ahead * JOINT * ends.sine[k]
        self._add_polygon(MapLayer.DRIVABLE_AREA, surface)
        sides = []
        for count, sign in ((p.forward, -1.0), (p.backward, 1.0)):
            lanes = []
            if count:
                self._add_polygon(MapLayer.ROADBLOCK, ring(0.0, sign * count * w))
                self._roadblocks += 1
            for i in range(count):
                centre = line.offset(sign * (i + 0.5) * w)
                polygon = ring(sign * i * w, sign * (i + 1) * w)
                lane = self._add_lane(centre if sign < 0 else centre.reversed(), polygon, p.speed_limit, self._roadblocks - 1)
                if lanes:
                    self._left[lane], self._right[lanes[-1]] = lanes[-1], lane
                lanes.append(lane)
            sides.append(tuple(lanes))
        if p.parking_right:
            self._add_polygon(MapLayer.CARPARK_AREA, ring(-p.forward * w, -p.forward * w - p.parking_right))
        if p.parking_left:
            self._add_polygon(MapLayer.CARPARK_AREA, ring(p.backward * w, p.backward * w + p.parking_left))
        road = Road(line, profile, *sides)
        self.roads.append(road)
        return road

    def add_junction(self, mouths: list[tuple[Road, bool]]) -> Junction:
        """Joins roads: ``(road, at_end)`` counter-clockwise. Adds the intersection, crosswalks, connectors and lane links."""
        arms = []
        for road, at_end in mouths:
            line, k = road.line, -1 if at_end else 0
            yaw = line.yaw[k] + PI if at_end else line.yaw[k]
            arms.append(Arm(road, at_end, (float(line.x[k]), float(line.y[k]), float(yaw)), self.groups))
            self.groups += 1
        self._add_polygon(MapLayer.INTERSECTION, _intersection(arms))
        for arm in arms:
            right, left = arm.kerbs
            near, far = -0.5, -0.5 - CROSSWALK_WIDTH
            corners = (arm.point(near, right), arm.point(near, left), arm.point(far, left), arm.point(far, right))
            self._add_polygon(MapLayer.CROSSWALK, np.array(corners))
        junction = Junction(tuple(arms))
        self.junctions.append(junction)
        self._find_links(arms)
        return junction

    def _find_links(self, arms: list[Arm]) -> None:
        links = self._links
        for a, arm in enumerate(arms):
            for b, other in enumerate(arms):
                if a == b or not arm.lanes_in or not other.lanes_out:
                    continue
                block, width = self._roadblocks, 0.5 * arm.road.profile.lane_width
                self._roadblocks += 1
                turn = other.pose[2] - arm.pose[2] - PI
                turn -= 2 * PI * round(turn / (2 * PI))
                if abs(turn) < PI / 4:
                    pairs = [(lane, other.lanes_out[min(i, len(other.lanes_out) - 1)]) for i, lane in enumerate(arm.lanes_in)]
                    links += [(i, o, STRAIGHT, arm.group, block, width) for i, o in pairs]
                elif turn > 0:
                    links.append((arm.lanes_in[0], other.lanes_out[0], LEFT, arm.group, block, width))
                else:
                    links.append((arm.lanes_in[-1], other.lanes_out[-1], RIGHT, arm.group, block, width))

    def link(self) -> None:
        """Adds the connectors of all junctions."""
        links, self._links = self._links, []
        starts, ends = ([self.lanes[link[k]] for link in links] for k in (0, 1))
        lines = connectors(
            np.array([(line.x[-1], line.y[-1], line.yaw[-1]) for line in starts]),
            np.array([(line.x[0], line.y[0], line.yaw[0]) for line in ends]),
        )
        widths = np.array([link[5] for link in links])[:, None]
        x, y, sine, cosine, curvature = (
            np.stack([getattr(line, k) for line in lines]) for k in ("x", "y", "sine", "cosine", "curvature")
        )
        rings = np.empty((len(lines), 2, 9, 2))
        for side, sign in ((0, 1.0), (1, -1.0)):
            every = slice(None, None, 2 if sign > 0 else -2)
            rings[:, side, :, 0] = (x - sign * widths * sine)[:, every]
            rings[:, side, :, 1] = (y + sign * widths * cosine)[:, every]
        bends = np.sqrt(2.5 / np.maximum(np.max(np.abs(curvature), axis=1), 1e-6)).tolist()
        for k, (i, o, movement, group, block, _) in enumerate(links):
            limit = self._limit[i] if movement == STRAIGHT else min(self._limit[i], bends[k])
            row = self._add_lane(lines[k], rings[k].reshape(-1, 2), limit, block, movement, group)
            self.successors[i].append(row)
            self.successors[row].append(o)

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
