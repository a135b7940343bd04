"""What goes on around the story: traffic in other lanes and on other streets; and what ``roadside`` adds beside them."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from worldengine_envs.city.driving import FRONT
from worldengine_envs.city.network import LEFT, RIGHT, STRAIGHT, Arm
from worldengine_envs.city.roadside import BICYCLE, add_crossers, add_parked, add_pavements, ahead_of_ego, fill, junctions_near
from worldengine_envs.city.scene import STEPS, Scene, Vehicle
from worldengine_envs.city.streets import lane_path
from worldengine_envs.scenario.types import AgentType

__all__ = ["add_crossers", "add_flow", "add_parked", "add_pavements", "add_queue", "add_traffic", "fill"]

AROUND = 110.0  # the place that the ego comes to, where traffic is made [m]
MOST_CARS = 34  # vehicles, ego included


class _Filler:
    """Puts cars where there is room for them."""

    def __init__(self, scene: Scene):
        self.scene = scene
        self.taken: dict[int, list[tuple[float, float]]] = {}  # by lane: arclength on it and speed of those who are there
        self.lines: dict[int, list[tuple[float, int]]] = {}  # by path: where one may have to stop: arclength, connector
        for car in scene.vehicles:
            self._take(car)

    def _lane(self, path: int, s: float) -> tuple[int, float]:
        known = self.scene.paths[path]
        row = max(0, bisect_right(known.starts, s) - 1)
        return known.lanes[row], s - known.starts[row]

    def _take(self, car: Vehicle) -> None:
        lane, at = self._lane(car.path, float(car.s[0]))
        self.taken.setdefault(lane, []).append((at, float(car.v[0])))

    def speed(self, path: int, front: float, v: float) -> float:
        """Returns the speed [m/s] at which a car may be under way here: slow before bends, and before lines where it may stop."""
        scene = self.scene
        table = scene.tables[path]
        here = min(max(int(front) - 5, 0), len(table) - 2)
        v = min(v, float(np.min(table[here : here + 6])))
        if path not in self.lines:
            known, network = scene.paths[path], scene.street.network
            rows = zip(known.starts, known.lanes, strict=True)
            self.lines[path] = [(s, lane) for s, lane in rows if network.group[lane] >= 0]
        for s, lane in self.lines[path]:
            if s > front and (scene.gives_way(lane) or scene.faces_red(lane, v)):
                return min(v, float(np.sqrt(3.0 * max(s - front - 2.0, 0.0))))
        return v

    def put(self, path: int, s: float, v: float, cyclist: bool = False, **settings) -> Vehicle | None:
        """Adds a car, or a cyclist at the right edge of the lane, if there is room; returns it, or None."""
        if len(self.scene.vehicles) >= MOST_CARS or s + 8.0 + 2.0 * v > self.scene.paths[path].line.length:
            return None
        draw = self.scene.draw
        size = BICYCLE if cyclist else None
        car = self.scene.vehicle(path, s, v, size, headway=draw.uniform(1.0, 1.8), **settings)
        car.v[0] = v = self.speed(path, s + FRONT * car.size[0], v)
        lane, at = self._lane(path, s)
        for other, pace in self.taken.get(lane, ()):
            if abs(other - at) < 9.0 + 1.2 * max(v, pace):
                return None
            if other > at:  # slow enough to follow
                car.v[0] = v = min(v, float(np.sqrt(pace * pace + 2.0 * (other - at - 8.0))))
        if cyclist:
            aside = -draw.uniform(0.7, 1.0)
            car.name, car.type, car.lateral = "cyclist", AgentType.BICYCLE, ((aside, s - 9.0, 1.0),)
        self.scene.vehicles.append(car)
        self.taken.setdefault(lane, []).append((at, v))
        return car

    def flow(self, paths: list[int], low: float, high: float, speed: float, gap: tuple[float, float], cyclists=0.0) -> None:
        """Adds cars front to back, each on one of the paths, which begin alike; ``gap`` is the range of time gaps [s]."""
        draw = self.scene.draw
        s = high - draw.uniform(0.0, 20.0)
        while s > low:
            path = paths[0] if len(paths) == 1 or draw.chance(0.6) else draw.choice(paths[1:])
            bike = draw.chance(cyclists)
            v = draw.uniform(4.0, 6.0) if bike else speed * draw.uniform(0.85, 1.05)
            self.put(path, s, v, bike)
            s -= 9.0 + max(v, 3.0) * draw.uniform(*gap)


def add_flow(scene: Scene, path: int, low: float, high: float, speed: float, gap: tuple[float, float]) -> None:
    """Adds cars on a path between two arclengths [m], with time gaps [s] drawn from a range, front to back."""
    _Filler(scene).flow([path], low, high, speed, gap)


def add_queue(scene: Scene, path: int, stop: float, count: int) -> None:
    """Adds cars that stand one behind the other before a stop line at arclength ``stop`` [m]."""
    draw = scene.draw
    s = stop - draw.uniform(0.8, 1.5)
    for _ in range(count):
        car = scene.vehicle(path, 0.0, 0.0, desired=draw.uniform(7.0, 10.0))
        s -= FRONT * car.size[0]
        car.s[0] = s
        s -= (1.0 - FRONT) * car.size[0] + draw.uniform(1.5, 3.0)
        scene.vehicles.append(car)


def add_traffic(scene: Scene, ego_path: int, density: float) -> None:
    """Adds cars and cyclists: in the corridor's other lanes, oncoming, on ramps and side streets; some turn, queue or circulate.

    Where the ego's motion is given (it is about to meet its danger), those who would have to wait for it stand and wait.
    """
    street, draw = scene.street, scene.draw
    filler, calm = _Filler(scene), scene.vehicles[0].scripted
    speed = street.road.profile.speed_limit
    gap = (1.2 / density, 4.0 / density)
    lanes = set(scene.paths[ego_path].lanes)
    ramp = street.ramp.forward if street.ramp else ()
    x, y = ahead_of_ego(scene)
    for lane in (*street.corridor[0].forward, *ramp):
        if lane not in lanes:
            paths = _ways(scene, lane, street.main, calm, lanes)
            high = scene.paths[paths[0]].starts[1] if lane in ramp else nearest(scene, paths[0], x, y) + AROUND
            filler.flow(paths, max(5.0, high - 2.0 * AROUND), high, speed * draw.uniform(0.8, 1.0), gap, 0.03)
    for lane in street.corridor[-1].backward:
        if lane not in lanes:
            paths = _ways(scene, lane, len(street.junctions) - 1 - street.main, calm, lanes)
            here = nearest(scene, paths[0], x, y)
            filler.flow(paths, max(5.0, here - AROUND - 20.0), here + AROUND - 20.0, speed * draw.uniform(0.8, 1.0), gap, 0.06)
    for junction in junctions_near(scene):
        for arm in junction.arms:
            if arm.road not in street.corridor and arm.road is not street.ramp:
                _add_side_street(filler, arm, density, calm, lanes)


def nearest(scene: Scene, path: int, x: float, y: float) -> float:
    """Returns the arclength [m] of the sample of a path that is nearest to a point [m]."""
    line = scene.paths[path].line
    dx, dy = line.x - x, line.y - y
    return float(line.s[int(np.argmin(dx * dx + dy * dy))])


def _ways(scene: Scene, lane: int, junctions: int, calm: bool, avoid: set[int]) -> list[int]:
    """Returns paths from a lane: straight on, and turning after this many junctions; none that joins the ego's where calm."""
    network, paths = scene.street.network, []
    for movement in (STRAIGHT, scene.draw.choice((LEFT, RIGHT))):
        path = lane_path(network, lane, (STRAIGHT,) * junctions + (movement,))
        if movement == STRAIGHT or not (calm and (movement == LEFT or avoid.intersection(path.lanes))):
            row = scene.add_path(path)
            if row not in paths:
                paths.append(row)
    return paths


def _add_side_street(filler: _Filler, arm: Arm, density: float, calm: bool, avoid: set[int]) -> None:
    """Adds who comes to the corridor on a side street, and who has left it."""
    scene = filler.scene
    draw, network = scene.draw, scene.street.network
    speed = arm.road.profile.speed_limit
    for lane in arm.lanes_in:
        if lane in avoid:
            continue
        first = lane_path(network, lane, (draw.choice((STRAIGHT, LEFT, RIGHT)),))
        path = scene.add_path(first)
        stop = network.lanes[lane].length
        if calm and scene.gives_way(first.lanes[1]):
            for car in _queued(scene, path, stop, draw.integer(0, 2)):  # they see the ego and wait
                car.s, car.scripted = np.full(STEPS, car.s[0]), True
        elif scene.faces_red(first.lanes[1], 0.0) and draw.chance(0.7):
            _queued(scene, path, stop, draw.integer(1, 2))
        elif not (calm and avoid.intersection(first.lanes)):
            gap = (1.5 / density, 4.0 / density)
            filler.flow([path], max(5.0, stop - 80.0), stop - 8.0, speed * draw.uniform(0.8, 1.0), gap, 0.15)
    for lane in arm.lanes_out:
        if lane in avoid:
            continue
        path = scene.add_path(lane_path(network, lane))
        reach = min(60.0, network.lanes[lane].length - 10.0)
        filler.flow([path], 8.0, reach, speed * draw.uniform(0.8, 1.0), (2.0 / density, 6.0 / density), 0.15)


def _queued(scene: Scene, path: int, stop: float, count: int) -> list[Vehicle]:
    before = len(scene.vehicles)
    add_queue(scene, path, stop, count)
    return scene.vehicles[before:]
