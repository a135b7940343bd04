"""What stands and walks beside the lanes: parked cars, people on pavements and on crossings."""

from __future__ import annotations

import numpy as np

from worldengine_envs.city.driving import RED
from worldengine_envs.city.exact import Draw, sin_cos
from worldengine_envs.city.network import JOINED, LIGHTS, PI, Arm, Junction, Road
from worldengine_envs.city.scene import START, STEP, STEPS, Scene, Walker, walk
from worldengine_envs.scenario.types import AgentType

PERPENDICULAR = 4.0  # a strip wider than this holds bays across the road [m]
PARKED = ((4.5, 1.85, 1.5), (4.2, 1.78, 1.48), (3.9, 1.7, 1.5), (4.8, 1.88, 1.65))  # length, width, height [m]
BICYCLE = (1.8, 0.6, 1.7)  # with its rider [m]
RIDING = 0.06  # share of those on pavements who ride a bicycle
MOST_ON_A_SIDE = 9  # cars parked on one side of one road
SIDE_STREET = 45.0  # of its length that the ego sees [m]
AHEAD, NEAR = 50.0, 130.0  # [m]: how far ahead of the ego the middle of the scene lies, and how near junctions are to it
MORE = 20.0  # people for each 100 m of pavement, at most, where a scene is to be fuller


def stretches(scene: Scene) -> list[tuple[Road, float, float]]:
    """Returns (road, from, to [m of arclength]) of what the ego passes or sees: its roads, and the side streets' first metres."""
    street, ego = scene.street, scene.vehicles[0]
    path, here = scene.paths[ego.path], float(ego.s[0])
    road_of = {lane: road for road in street.network.roads for lane in (*road.forward, *road.backward)}
    near, seen = [], set()
    for lane, start in zip(path.lanes, path.starts, strict=True):
        road = road_of.get(lane)
        if road is not None:
            length = road.line.length
            low, high = max(0.0, here - 30.0 - start), min(length, here + 150.0 - start)
            if lane in road.backward:
                low, high = length - high, length - low
            if high - low > 10.0:
                near.append((road, low, high))
                seen.add(id(road))
    for junction in junctions_near(scene):
        if junction.kind == JOINED:
            continue
        for arm in junction.arms:
            length = arm.road.line.length
            reach = min(SIDE_STREET, length)
            if id(arm.road) not in seen:
                seen.add(id(arm.road))
                near.append((arm.road, length - reach, length) if arm.at_end else (arm.road, 0.0, reach))
    return near


def ahead_of_ego(scene: Scene) -> tuple[float, float]:
    """Returns x, y [m] of about the place on the ego's path that it comes to."""
    ego = scene.vehicles[0]
    line = scene.paths[ego.path].line
    k = min(int(np.searchsorted(line.s, ego.s[0] + AHEAD)), len(line.s) - 1)
    return float(line.x[k]), float(line.y[k])


def junctions_near(scene: Scene) -> list[Junction]:
    """Returns the junctions of the corridor near to where the ego comes."""
    x, y = ahead_of_ego(scene)
    away = ((junction, junction.arms[0].pose[0] - x, junction.arms[0].pose[1] - y) for junction in scene.street.junctions)
    return [junction for junction, dx, dy in away if dx * dx + dy * dy < NEAR * NEAR]


def add_parked(scene: Scene, share: float) -> None:
    """Fills a share of the parking places near the ego's way with cars; they stand for good."""
    draw = scene.draw
    for road, low, high in stretches(scene):
        p = road.profile
        for side, width in ((-1.0, p.parking_right), (1.0, p.parking_left)):
            if width == 0.0:
                continue
            across = width > PERPENDICULAR
            lanes = p.forward if side < 0 else p.backward
            left = side * (lanes * p.lane_width + 0.5 * width)
            places, s = [], max(low, 8.0) + draw.uniform(0.0, 5.0)
            while s < min(high, road.line.length - 8.0) and len(places) < MOST_ON_A_SIDE:
                if draw.chance(share):
                    places.append(s)
                s += 2.7 if across else 6.8 + draw.uniform(0.0, 0.6)
            if places:
                x, y, yaw = ground(road, np.array(places), np.array([left + draw.uniform(-0.12, 0.12) for _ in places]))
                for row in zip(x, y, yaw, strict=True):
                    scene.walkers.append(parked_car(draw, *row, side, across))


def ground(road: Road, s: np.ndarray, left) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns x, y [m] and the road's yaw [rad] at arclengths s and offsets to the left [m]."""
    x, y, yaw, _ = road.line.at(s)
    sine, cosine = sin_cos(yaw)
    return x - left * sine, y + left * cosine, yaw


def parked_car(draw: Draw, x: float, y: float, yaw: float, side: float, across: bool = False) -> Walker:
    """Returns a car that stands for good at x, y [m].

    It is headed as the traffic on its side (1 left, -1 right), or, in bays across the road, towards the kerb or away from it.
    """
    heading = yaw + draw.uniform(-0.03, 0.03) + (PI if side > 0 else 0.0)
    if across:
        heading += 0.5 * PI if draw.chance(0.3) else -0.5 * PI
    xy = np.empty((STEPS, 2))
    xy[:] = x, y
    return Walker(xy, np.full(STEPS, heading), draw.choice(PARKED), AgentType.VEHICLE, "parked")


def add_pavements(scene: Scene, per_100_m: float) -> None:
    """Adds people who walk or stand on the pavements near the ego's way."""
    draw = scene.draw
    for road, low, high in stretches(scene):
        for side, kerb in pavements(scene, road):
            count = int((high - low) / 100.0 * per_100_m * draw.uniform(0.3, 1.7) + 0.5)
            if count:
                _add_people(scene, road, side, kerb, [draw.uniform(low, high) for _ in range(count)])


def fill(scene: Scene, least: int) -> None:
    """Adds people on pavements until there are ``least`` agents, or as many as the pavements are good for."""
    missing = least - len(scene.vehicles) - len(scene.walkers)
    draw = scene.draw
    near = [(road, *way, low, high) for road, low, high in stretches(scene) for way in pavements(scene, road)]
    total = sum(high - low for *_, low, high in near)
    missing = min(missing, int(MORE * total / 100.0))
    for road, side, kerb, low, high in near:
        count = min(missing, int(missing * (high - low) / max(total, 1.0) + 0.999))
        total -= high - low
        missing -= count
        if count:
            _add_people(scene, road, side, kerb, [draw.uniform(low, high) for _ in range(count)])


def pavements(scene: Scene, road: Road) -> list[tuple[float, float]]:
    """Returns (side, offset of the kerb [m]) of the pavements of a road; none where a ramp runs beside it."""
    street = scene.street
    sides = [(-1.0, road.profile.right_kerb), (1.0, road.profile.left_kerb)]
    if street.ramp is None or road not in street.corridor[: street.main + 1]:
        return [] if road is street.ramp else sides
    return sides[1:]


def _add_people(scene: Scene, road: Road, side: float, kerb: float, places: list[float]) -> None:
    """Adds people on a pavement, a few of them on bicycles, at arclengths of a road; they keep to it."""
    draw, count = scene.draw, len(places)
    left = np.array([[kerb + side * draw.uniform(0.7, road.profile.pavement - 0.5)] for _ in range(count)])
    paces = [draw.choice((-1.0, 1.0)) * draw.uniform(0.8, 1.7) * (not draw.chance(0.15)) for _ in range(count)]
    rides = [road.line.length > 60.0 and pace != 0.0 and draw.chance(RIDING) for pace in paces]
    paces = [2.4 * pace if ride else pace for pace, ride in zip(paces, rides, strict=True)]
    travel = np.array(paces).reshape(count, 1) * (STEP * (np.arange(STEPS) - START))
    s = np.array(places).reshape(count, 1)
    s = s - np.minimum(0.0, s + np.minimum(travel[:, :1], travel[:, -1:]) - 2.0)  # nobody walks past the ends
    s = s - np.maximum(0.0, s + np.maximum(travel[:, :1], travel[:, -1:]) - road.line.length + 2.0)
    xy = np.empty((count, STEPS, 2))
    if np.any(road.line.curvature):
        xy[:, :, 0], xy[:, :, 1], yaw = ground(road, s + travel, left)
    else:  # the same in fewer steps
        line, along = road.line, s + travel
        sine, cosine, yaw = line.sine[0], line.cosine[0], np.full((count, STEPS), line.yaw[0])
        xy[:, :, 0], xy[:, :, 1] = line.x[0] + along * cosine - left * sine, line.y[0] + along * sine + left * cosine
    for i, (pace, ride) in enumerate(zip(paces, rides, strict=True)):
        yaw[i] += draw.uniform(-PI, PI) if pace == 0.0 else PI if pace < 0.0 else 0.0
        if ride:
            scene.walkers.append(Walker(xy[i], yaw[i], BICYCLE, AgentType.BICYCLE, "cyclist"))
            continue
        size = (draw.uniform(0.5, 0.8), draw.uniform(0.5, 0.75), draw.uniform(1.5, 1.9))
        scene.walkers.append(Walker(xy[i], yaw[i], size))


def add_crossers(scene: Scene, probability: float, skip: tuple[int, ...] = ()) -> None:
    """Adds people on crosswalks: while the light of the arm is red, or where drivers have to give way anyhow.

    Arms in ``skip`` (light groups) stay empty, and those that an ego whose motion is given comes or goes by.
    """
    draw, ego = scene.draw, scene.vehicles[0]
    lanes = set(scene.paths[ego.path].lanes) if ego.scripted else set()
    for junction in junctions_near(scene):
        if junction.kind == JOINED:
            continue
        for arm in junction.arms:
            if arm.group in skip or not lanes.isdisjoint((*arm.lanes_in, *arm.lanes_out)):
                continue
            for _ in range(2):
                if draw.chance(probability):
                    _add_crosser(scene, arm, junction.kind == LIGHTS)


def _add_crosser(scene: Scene, arm: Arm, lights: bool) -> None:
    draw = scene.draw
    right, left = arm.kerbs
    a, b = arm.point(-2.0 + draw.uniform(-1, 1), right - 0.8), arm.point(-2.0 + draw.uniform(-1, 1), left + 0.8)
    if draw.chance(0.5):
        a, b = b, a
    pace = draw.uniform(1.0, 1.7)
    low, high = -4.0, 5.0
    if lights:
        red = scene.lights[arm.group] == RED
        changes = np.flatnonzero(red[1:] != red[:-1]) + 1
        needed = (left - right + 1.6) / pace + 1.5
        first = 0 if red[0] else (changes[0] if len(changes) else STEPS)
        later = changes[changes > first]
        last = later[0] if len(later) else STEPS
        low = -4.0 if first == 0 else STEP * (first - START) + 0.5
        high = 5.0 if last == STEPS else STEP * (last - START) - needed
    elif not arm.yields:
        return
    if low < high:
        person = walk(a, b, pace, draw.uniform(low, high), draw)
        person.crosses = True
        scene.walkers.append(person)
