"""A scene under construction: vehicles on paths, pedestrians, parked cars and lights on a street; it becomes a Scenario."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldengine_envs.city.driving import FRONT, RED, STEP, drive, overlaps
from worldengine_envs.city.exact import Draw, arctan2, interpolate
from worldengine_envs.city.network import ENTRY, LIGHTS, Junction
from worldengine_envs.city.placing import place, place_walkers
from worldengine_envs.city.right_of_way import ways_of
from worldengine_envs.city.streets import LanePath, Street, speed_table
from worldengine_envs.scenario.types import HISTORY_STEPS, AgentType, LightState

STEPS = 111  # 1.5 s of history, 8 s to drive, 1 s to look ahead, and a little more
START = HISTORY_STEPS
EGO_SIZE = (5.176, 2.297, 1.777)
AXLE_TO_CENTER = 0.2822  # of a vehicle's length; nuPlan's Pacifica: 1.461 m of 5.176 m
CAR_SIZES = ((4.5, 1.85, 1.5), (4.2, 1.78, 1.48), (4.8, 1.9, 1.65), (5.1, 1.95, 1.8), (3.9, 1.7, 1.5), (6.2, 2.1, 2.6))
BYSTANDERS = ("car", "parked", "pedestrian", "cyclist")  # names of those without a part in the story


class Unfit(Exception):
    """A drawn scene does not show what its family is about; the next attempt is made."""


@dataclass(eq=False)
class Vehicle:
    """A vehicle whose rear axle follows a path."""

    path: int  # row of the scene's paths
    size: tuple[float, float, float]  # length, width, height [m]
    s: np.ndarray  # (steps,) arclength [m]; filled by driving from column 0 unless scripted
    v: np.ndarray  # (steps,) speed [m/s]
    desired: float = 0.0  # [m/s]
    headway: float = 1.5  # [s]
    scripted: bool = False
    lateral: tuple[tuple[float, float, float], ...] = ()  # moves to the left: (metres, from arclength, over metres)
    wander: tuple[tuple[float, float, float], ...] = ()  # waves: (amplitude [m], wavelength [m], phase [rad])
    name: str = "car"
    type: AgentType = AgentType.VEHICLE  # a bicycle rides paths too

    @property
    def has_part(self) -> bool:
        """Whether the story needs it."""
        return self.name not in BYSTANDERS


@dataclass(eq=False)
class Walker:
    """A pedestrian, or anything else that is given by its positions."""

    xy: np.ndarray  # (steps, 2) [m]
    yaw: np.ndarray  # (steps,) [rad]
    size: tuple[float, float, float] = (0.6, 0.6, 1.75)
    type: AgentType = AgentType.PEDESTRIAN
    name: str = "pedestrian"
    crosses: bool = False  # a road, so that drivers have to look out

    @property
    def has_part(self) -> bool:
        """Whether the story needs it."""
        return self.name not in BYSTANDERS


class Scene:
    """Everything that a family puts on a street. Vehicle 0 is the ego."""

    def __init__(self, street: Street, draw: Draw):
        self.street, self.draw = street, draw
        self.paths: list[LanePath] = []
        self.tables: list[np.ndarray] = []
        self.vehicles: list[Vehicle] = []
        self.walkers: list[Walker] = []
        self.solution = ""  # how the ego of a rare scene gets through: brake or swerve
        self._placed: tuple | None = None  # what ``prune`` has left, and its boxes
        self.lane = 0  # of the corridor, on which the ego starts, 0 = innermost
        groups = street.network.groups
        self.lights = np.full((groups, STEPS), RED, dtype=np.int8)
        for junction in street.network.junctions:  # without lights, who gives way has red for good
            groups = axis(junction) if junction.kind == LIGHTS else [arm.group for arm in junction.arms if not arm.yields]
            self.lights[groups] = LightState.GREEN

    def add_path(self, path: LanePath) -> int:
        """Returns the row of a path; the same chain of lanes is kept once."""
        for i, known in enumerate(self.paths):
            if known.lanes == path.lanes:
                return i
        self.paths.append(path)
        bent = np.any(path.line.curvature)
        self.tables.append(speed_table(path.line) if bent else np.full(1024, 99.0))
        return len(self.paths) - 1

    def vehicle(self, path: int, s: float, v: float, size=None, **settings) -> Vehicle:
        """Makes (but does not add) a vehicle at arclength s [m] with speed v [m/s] at step 0."""
        positions, speeds = np.zeros(STEPS), np.zeros(STEPS)
        positions[0], speeds[0] = s, v
        return Vehicle(path, size or self.draw.choice(CAR_SIZES), positions, speeds, settings.pop("desired", v), **settings)

    def script(self, vehicle: Vehicle, times, speeds, at_start: float) -> Vehicle:
        """Gives a vehicle piecewise linear speeds [m/s] over times [s] after the start, at arclength ``at_start`` at the start."""
        t = STEP * (np.arange(STEPS) - START)
        vehicle.v = interpolate(t, np.asarray(times, dtype=np.float64), np.asarray(speeds, dtype=np.float64))
        step = 0.5 * STEP * (vehicle.v[1:] + vehicle.v[:-1])
        s = np.concatenate(([0.0], np.cumsum(step)))
        vehicle.s, vehicle.scripted = s - s[START] + at_start, True
        return vehicle

    def drive(self) -> None:
        """Moves all vehicles that are not scripted, by car following along their paths; their motion counts as given afterwards."""
        cars = self.vehicles
        s, v = np.array([c.s for c in cars]), np.array([c.v for c in cars])
        columns = [np.array(a) for a in zip(*((c.size[0], c.desired, c.headway, c.path) for c in cars), strict=True)]
        scripted = np.array([c.scripted for c in cars])
        drive(s, v, *columns, scripted, ways_of(self), self.lights)
        for i, car in enumerate(cars):
            if not car.scripted:
                car.s, car.v, car.scripted = s[i], v[i], True
        self.vehicles = [car for car in cars if car.name == "runner" or not self._runs_red(car)]
        if self.vehicles[0] is not cars[0]:
            raise Unfit("the ego would run a red light")

    def _runs_red(self, car: Vehicle) -> bool:
        """Whether a car's front crosses a stop line while it is red: it was put too near to stop."""
        front = car.s + FRONT * car.size[0]
        for line, group in self.stop_lines(self.paths[car.path]):
            if front[0] < line < front[-1] and self.lights[group, np.searchsorted(front, line)] == RED:
                return True
        return False

    def stop_lines(self, path: LanePath) -> list[tuple[float, int]]:
        """Returns (arclength [m], light group) of every traffic light on a path."""
        groups = ((s, self.street.network.group[lane]) for lane, s in zip(path.lanes, path.starts, strict=True))
        return [(s, group) for s, group in groups if group >= 0 and self.has_light(group)]

    def has_light(self, group: int) -> bool:
        """Whether a traffic light stands there."""
        return self.street.network.signals[group]

    def gives_way(self, lane: int) -> bool:
        """Whether those who enter a junction on this connector wait at its start for a gap: from side roads, into roundabouts."""
        network = self.street.network
        group = network.group[lane]
        return group >= 0 and not network.signals[group] and (network.rank[lane] >= 2 or network.movement[lane] == ENTRY)

    def faces_red(self, lane: int, speed: float) -> bool:
        """Whether a light stands at the start of a connector and is red, or will be soon for a car at this speed [m/s]."""
        group = self.street.network.group[lane]
        soon = 1 + 2 * int(speed)
        return group >= 0 and self.has_light(group) and bool(np.any(self.lights[group, :soon] != LightState.GREEN))

    def boxes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns state (agents, steps, 5) x, y, yaw, vx, vy of the centres, turn (agents, steps, 2) cos, sin; size (agents, 3).

        Vehicles come first, in their order, then the walkers.
        """
        if self._placed is not None and self._placed[0] == (*self.vehicles, *self.walkers):
            return self._placed[1]
        count = len(self.vehicles)
        state = np.zeros((count + len(self.walkers), STEPS, 5))
        turn = np.zeros((len(state), STEPS, 2))
        tables = [path.line.table for path in self.paths]
        offsets = np.concatenate(([0], np.cumsum([table.shape[1] for table in tables])))
        moves, waves = np.zeros((count, 2, 3)), np.zeros((count, 2, 3))
        for i, car in enumerate(self.vehicles):
            for rows, given in ((moves, car.lateral), (waves, car.wander)):
                for k, row in enumerate(given):
                    rows[i, k] = row
        s, v = (np.array([getattr(car, name) for car in self.vehicles]).reshape(count, STEPS) for name in "sv")
        path = np.array([car.path for car in self.vehicles], dtype=np.int64)
        axle = np.array([AXLE_TO_CENTER * car.size[0] for car in self.vehicles])
        place(np.concatenate(tables, axis=1), offsets, path, s, v, moves, waves, axle, state[:count], turn[:count])
        if self.walkers:
            xy, yaw = np.array([w.xy for w in self.walkers]), np.array([w.yaw for w in self.walkers])
            place_walkers(xy, yaw, state[count:], turn[count:])
        size = np.array([o.size for o in (*self.vehicles, *self.walkers)])
        return state, turn, size

    def prune(self, margin: float = 0.1) -> None:
        """Takes out every bystander that touches another, latest first; who has a part in the story stays.

        Raises:
            Unfit: Two that have to stay touch.
        """
        state, turn, size = self.boxes()
        count = len(state)
        pairs = np.zeros((count, count), dtype=np.bool_)
        valid = np.ones((count, STEPS), dtype=np.bool_)
        overlaps(np.concatenate((state[:, :, :2], turn), axis=2), size[:, :2].copy(), valid, margin, pairs)
        fixed = [actor.has_part for actor in (*self.vehicles, *self.walkers)]
        order = sorted(range(count), key=lambda i: not fixed[i])
        kept: list[int] = []
        stays = np.zeros(count, dtype=np.bool_)
        for i in order:
            if not (pairs[i] & stays).any():
                kept.append(i)
                stays[i] = True
            elif fixed[i]:
                raise Unfit("what has to stay collides")
        inside = set(kept)
        first = len(self.vehicles)
        self.walkers = [w for i, w in enumerate(self.walkers) if first + i in inside]
        self.vehicles = [c for i, c in enumerate(self.vehicles) if i in inside]
        rows = sorted(kept)
        self._placed = ((*self.vehicles, *self.walkers), (state[rows], turn[rows], size[rows]))

    def trim(self, most: int) -> None:
        """Takes out those farthest from the ego at the start until ``most`` are left; who has a part in the story stays."""
        state, turn, size = self.boxes()
        away = state[:, START, :2] - state[0, START, :2]
        distance = away[:, 0] * away[:, 0] + away[:, 1] * away[:, 1]
        everyone = (*self.vehicles, *self.walkers)
        order = sorted(range(len(everyone)), key=lambda i: (not everyone[i].has_part, distance[i]))
        rows = sorted(order[:most])
        first = len(self.vehicles)
        self.vehicles = [everyone[i] for i in rows if i < first]
        self.walkers = [everyone[i] for i in rows if i >= first]
        self._placed = ((*self.vehicles, *self.walkers), (state[rows], turn[rows], size[rows]))


def axis(junction: Junction) -> list[int]:
    """Returns the light groups of the first arm of a junction and of the one opposite to it."""
    groups = [junction.arms[0].group]
    for arm in junction.arms[1:]:
        sine, cosine = arm.turn
        first = junction.arms[0].turn
        if sine * first[0] + cosine * first[1] < -0.8:
            groups.append(arm.group)
    return groups


def walk(start, end, speed: float, begin: float, draw: Draw) -> Walker:
    """Returns a pedestrian who waits at ``start``, sets out at ``begin`` [s after the scenario's start] and walks on to ``end``."""
    (x0, y0), (x1, y1) = start, end
    dx, dy = float(x1 - x0), float(y1 - y0)
    length = float(np.sqrt(dx * dx + dy * dy))
    t = np.maximum(STEP * (np.arange(STEPS) - START) - begin, 0.0)
    ramp = speed / 2.0  # sets out and stops at 2 m/s2
    away = np.where(t < ramp, t * t, speed * t - 0.25 * speed * speed)
    brake = length - 0.25 * speed * speed
    rest = np.maximum(length - away, 0.0)
    if brake > 0.0:
        over = np.maximum(away - brake, 0.0)  # how far past the point where slowing down begins, had it gone on
        late = np.minimum(over / speed, ramp)
        away = np.where(over > 0.0, brake + speed * late - late * late, away)
        away = np.minimum(away, length)
    else:
        away = np.where(rest > 0.0, away, length)
    part = away / length
    xy = np.stack((x0 + dx * part, y0 + dy * part), axis=1)
    yaw = np.full(STEPS, float(arctan2(dy, dx)))
    return Walker(xy, yaw, (draw.uniform(0.5, 0.8), draw.uniform(0.5, 0.75), draw.uniform(1.5, 1.9)))
