"""What goes on around the story: traffic in other lanes and on cross streets, parked cars, people on pavements."""

from __future__ import annotations

import numpy as np

from worldengine_envs.city.exact import Draw, sin_cos
from worldengine_envs.city.network import PI, Road
from worldengine_envs.city.scene import START, STEP, STEPS, Scene, Vehicle, Walker, axis, walk
from worldengine_envs.city.streets import lane_path
from worldengine_envs.scenario.types import AgentType


def add_flow(scene: Scene, path: int, low: float, high: float, speed: float, gap: tuple[float, float]) -> list[Vehicle]:
    """Adds cars on a path between two arclengths [m], with time gaps [s] drawn from a range, front to back."""
    draw, cars = scene.draw, []
    s = high - draw.uniform(0.0, 15.0)
    while s > low:
        v = speed * draw.uniform(0.85, 1.05)
        table = scene.tables[path]
        v = min(v, float(table[min(max(int(s), 0), len(table) - 1)]))
        car = scene.vehicle(path, s, v, desired=v, headway=draw.uniform(1.0, 1.8))
        if not any(other.path == path and abs(other.s[0] - s) < 9.0 + 1.2 * v for other in scene.vehicles):
            scene.vehicles.append(car)
            cars.append(car)
        s -= car.size[0] + 4.0 + max(v, 2.0) * draw.uniform(*gap)
    return cars


def add_traffic(scene: Scene, ego_path: int, density: float) -> None:
    """Adds cars in the corridor's other lanes, oncoming ones, and cars on the cross streets that wait at their red lights."""
    street, draw = scene.street, scene.draw
    speed = street.road.profile.speed_limit
    gap = (1.2 / density, 4.0 / density)
    centre = _arclength_of_ego(scene)
    for i in range(len(street.road.forward)):
        path = scene.add_path(lane_path(street.network, street.corridor[0].forward[i]))
        if path != ego_path:
            add_flow(scene, path, max(5.0, centre - 60.0), centre + 140.0, speed * draw.uniform(0.8, 1.0), gap)
    for lane in street.corridor[-1].backward:
        path = scene.add_path(lane_path(street.network, lane))
        line = scene.paths[path].line
        add_flow(scene, path, 5.0, line.length - 60.0, speed * draw.uniform(0.8, 1.0), gap)
    for junction in street.junctions:
        green = axis(junction)
        for arm in junction.arms:
            if arm.group in green:
                continue
            for lane in arm.lanes_in:
                path = scene.add_path(lane_path(street.network, lane))
                stop = street.network.lanes[lane].length
                add_queue(scene, path, stop, draw.integer(0, 2))


def add_queue(scene: Scene, path: int, stop: float, count: int) -> None:
    """Adds cars that stand one behind the other before a stop line at arclength ``stop`` [m]."""
    draw = scene.draw
    s = stop - draw.uniform(0.8, 1.5)
    for _ in range(count):
        car = scene.vehicle(path, 0.0, 0.0, desired=draw.uniform(7.0, 10.0))
        s -= 0.782 * car.size[0]
        car.s[0] = s
        s -= 0.218 * car.size[0] + draw.uniform(1.5, 3.0)
        scene.vehicles.append(car)


def _arclength_of_ego(scene: Scene) -> float:
    return float(scene.vehicles[0].s[0])


def stretches(scene: Scene) -> list[tuple[Road, float, float]]:
    """Returns (road, from, to [m of arclength]) of what the ego passes or sees: its road, and streets off the next junction."""
    street = scene.street
    ego = _arclength_of_ego(scene) - scene.paths[scene.vehicles[0].path].starts[2 * street.main]
    near = [(street.road, max(0.0, ego - 30.0), min(street.road.line.length, ego + 150.0))]
    if street.kind == "crossing":
        arms = street.junctions[street.main].arms
        near += [(arms[i].road, 0.0, 45.0) for i in (1, 3)]
    return near


def add_parked(scene: Scene, share: float) -> None:
    """Fills a share of the parking places near the ego's way with cars; they stand for good."""
    draw = scene.draw
    for road, low, high in stretches(scene):
        p = road.profile
        for side, width in ((-1.0, p.parking_right), (1.0, p.parking_left)):
            if width == 0.0:
                continue
            lanes = p.forward if side < 0 else p.backward
            left = side * (lanes * p.lane_width + 0.5 * width)
            places, s = [], max(low, 8.0) + draw.uniform(0.0, 5.0)
            while s < min(high, road.line.length - 8.0):
                if draw.chance(share):
                    places.append(s)
                s += 6.8 + draw.uniform(0.0, 0.6)
            if places:
                x, y, yaw = ground(road, np.array(places), np.array([left + draw.uniform(-0.12, 0.12) for _ in places]))
                for row in zip(x, y, yaw, strict=True):
                    scene.walkers.append(parked_car(draw, *row, side))


def ground(road: Road, s: np.ndarray, left) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns x, y [m] and the road's yaw [rad] at arclengths s and offsets to the left [m]."""
    x, y, yaw, _ = road.line.at(s)
    sine, cosine = sin_cos(yaw)
    return x - left * sine, y + left * cosine, yaw


def parked_car(draw: Draw, x: float, y: float, yaw: float, side: float) -> Walker:
    """Returns a car that stands for good at x, y [m], headed as the traffic on its side (1 left, -1 right)."""
    heading = yaw + draw.uniform(-0.03, 0.03) + (PI if side > 0 else 0.0)
    size = draw.choice(((4.5, 1.85, 1.5), (4.2, 1.78, 1.48), (3.9, 1.7, 1.5), (4.8, 1.88, 1.65)))
    xy = np.empty((STEPS, 2))
    xy[:] = x, y
    return Walker(xy, np.full(STEPS, heading), size, AgentType.VEHICLE, "parked")


def add_pavements(scene: Scene, per_100_m: float) -> None:
    """Adds people who walk or stand on the pavements near the ego's way."""
    draw = scene.draw
    for road, low, high in stretches(scene):
        p = road.profile
        for side, kerb in ((-1.0, p.right_kerb), (1.0, p.left_kerb)):
            count = int((high - low) / 100.0 * per_100_m * draw.uniform(0.3, 1.7))
            left = np.array([[kerb + side * draw.uniform(0.7, p.pavement - 0.5)] for _ in range(count)]).reshape(count, 1)
            paces = [draw.choice((-1.0, 1.0)) * draw.uniform(0.8, 1.7) * (not draw.chance(0.15)) for _ in range(count)]
            travel = np.array(paces).reshape(count, 1) * (STEP * (np.arange(STEPS) - START))
            s = np.array([[draw.uniform(low, high)] for _ in range(count)]).reshape(count, 1)
            s = s - np.minimum(0.0, s + np.minimum(travel[:, :1], travel[:, -1:]) - 2.0)  # nobody walks past the ends
            s = s - np.maximum(0.0, s + np.maximum(travel[:, :1], travel[:, -1:]) - road.line.length + 2.0)
            x, y, yaw = ground(road, s + travel, left)
            for i, pace in enumerate(paces):
                heading = yaw[i] + (draw.uniform(-PI, PI) if pace == 0.0 else PI if pace < 0.0 else 0.0)
                size = (draw.uniform(0.5, 0.8), draw.uniform(0.5, 0.75), draw.uniform(1.5, 1.9))
                scene.walkers.append(Walker(np.stack((x[i], y[i]), axis=1), heading, size))


def add_crossers(scene: Scene, probability: float, skip: tuple[int, ...] = ()) -> None:
    """Adds people on the crosswalks of arms whose light is red throughout; arms in ``skip`` (light groups) stay empty."""
    draw = scene.draw
    for junction in scene.street.junctions:
        for arm in junction.arms:
            if arm.group in skip or np.any(scene.lights[arm.group] != 3) or not draw.chance(probability):
                continue
            right, left = arm.kerbs
            a, b = arm.point(-2.0 + draw.uniform(-1, 1), right - 0.8), arm.point(-2.0 + draw.uniform(-1, 1), left + 0.8)
            if draw.chance(0.5):
                a, b = b, a
            person = walk(a, b, draw.uniform(1.0, 1.7), draw.uniform(-4.0, 5.0), draw)
            person.crosses = True
            scene.walkers.append(person)
