"""Rare: less road than there was: a lane closed by works, a lane that ends, an oncoming car on the ego's side."""

from __future__ import annotations

import numpy as np

from worldengine_envs.city.contact import FRONT_OVERHANG, LENGTH, WIDTH
from worldengine_envs.city.driving import FRONT, REAR
from worldengine_envs.city.exact import Draw, sin_cos
from worldengine_envs.city.families.story import begin, begin_on, path_start
from worldengine_envs.city.network import PI
from worldengine_envs.city.scene import START, STEP, STEPS, Scene, Unfit, Vehicle, Walker
from worldengine_envs.city.solution import FOR_GOOD, meets, solve
from worldengine_envs.city.streets import lane_path, make_street
from worldengine_envs.scenario.types import AgentType

CONE, BARRIER, SIGN = (0.4, 0.4, 0.9), (0.4, 1.6, 1.0), (0.3, 0.7, 1.8)  # sizes [m]
TRUCKS = ((6.4, 2.2, 2.7), (7.4, 2.35, 3.0), (5.6, 2.1, 2.4))
LORRIES = ((7.4, 2.35, 3.0), (9.0, 2.45, 3.4), (6.2, 2.1, 2.6))


def work_zone(draw: Draw, difficulty: float) -> Scene:
    """Cones lead out of the ego's lane, which works have closed; the free lane is another of its direction, or the oncoming one."""
    street = make_street(draw.choice(("straight", "straight", "curved", "crossing")), draw, lanes=draw.choice((1, 2, 2, 3)))
    profile = street.road.profile
    count, width = profile.forward, profile.lane_width
    lane = draw.choice((0, count - 1))
    side = -1.0 if lane == 0 and count > 1 else 1.0  # of the free lane
    speed = profile.speed_limit * draw.uniform(0.8, 1.0)
    scene = begin(street, draw, lane, draw.uniform(10.0, 50.0), speed)
    ego = scene.vehicles[0]
    # with what stands behind the cones, if the ego goes on [s]
    contact = draw.uniform(3.45, 3.6) - (0.4 if count > 1 else 0.1) * difficulty
    now = float(ego.s[0]) + START * STEP * speed
    where = now + FRONT_OVERHANG + speed * contact
    if where > scene.paths[ego.path].starts[2 * street.main + 1] - 45.0:
        raise Unfit("the works would reach the junction")
    taper, length = draw.uniform(6.0, 12.0), draw.uniform(12.0, 24.0)
    _close_lane(scene, where, taper, length, side)
    if count > 1:
        lane_beside = street.corridor[0].forward[lane - int(side)]
        _car_beside(scene, lane_beside, now, speed, difficulty)
    else:
        _oncoming(scene, where, difficulty)
        lane_beside = street.corridor[-1].backward[0]
    clear = scene.paths[scene.add_path(lane_path(street.network, lane_beside))].lanes
    held = FOR_GOOD if count > 1 else length + 8.0
    start = now + 0.3 * speed
    last = where - 0.4 * taper - FRONT_OVERHANG  # by where the ego has to be over
    ways = []
    for distance in (10.0, 15.0, 21.0, 28.0, 36.0):
        spare = max(last - distance - start, 0.0)
        ways += [(side * width, start + part * spare, distance, held) for part in ((0.0, 0.5, 0.8, 1.0) if spare > 4.0 else (0.0,))]
    return solve(scene, difficulty, tuple(ways), clear, past=where)


def _close_lane(scene: Scene, where: float, taper: float, length: float, side: float) -> None:
    """Puts cones, a barrier, a sign and what works there into the ego's lane; ``where`` is the rear of the work vehicle."""
    draw, width = scene.draw, scene.street.road.profile.lane_width
    edge = 0.5 * width - 0.15
    count = draw.integer(4, 6)
    first = where - 2.5 - taper
    for i in range(count):
        part = i / (count - 1)
        _put(scene, first + part * taper, side * edge * (2.0 * part - 1.0), CONE, AgentType.TRAFFIC_CONE, "cone")
    s, gap = where + 1.0, draw.uniform(4.0, 6.5)
    while s < where + length:
        _put(scene, s, side * edge, CONE, AgentType.TRAFFIC_CONE, "cone")
        s += gap
    _put(scene, where - 1.2, -0.2 * side, BARRIER, AgentType.BARRIER, "barrier")
    if draw.chance(0.6):
        _put(scene, first - draw.uniform(1.0, 6.0), -side * (0.5 * width + 0.1), SIGN, AgentType.CZONE_SIGN, "sign")
    size = draw.choice(TRUCKS)
    _put(scene, where + 0.5 * size[0], -side * draw.uniform(0.25, 0.45), size, AgentType.VEHICLE, "work_vehicle")
    s = where + size[0]
    for _ in range(draw.integer(1, 2)):
        s += draw.uniform(1.2, max(1.7, 0.5 * (length - size[0] - 1.0)))
        worker = (draw.uniform(0.5, 0.7), draw.uniform(0.5, 0.7), draw.uniform(1.6, 1.9))
        _put(scene, s, -side * draw.uniform(-0.3, 0.9), worker, AgentType.PEDESTRIAN, "worker", draw.uniform(-PI, PI))


def _put(scene: Scene, s: float, left: float, size, kind: AgentType, name: str, turned: float = 0.0) -> None:
    """Adds something that stands at arclength s [m], left [m] of the ego's path, turned against it [rad]."""
    x, y, yaw, _ = scene.paths[scene.vehicles[0].path].line.at(s)
    sine, cosine = sin_cos(yaw)
    xy = np.empty((STEPS, 2))
    xy[:] = float(x - left * sine), float(y + left * cosine)
    scene.walkers.append(Walker(xy, np.full(STEPS, float(yaw) + turned), size, kind, name))


def _car_beside(scene: Scene, lane: int, now: float, speed: float, difficulty: float) -> None:
    """Puts a car into the free lane, so that the ego has to let it pass or stay ahead of it."""
    draw, ego = scene.draw, scene.vehicles[0]
    if not draw.chance(0.4 + 0.6 * difficulty):
        return
    path = scene.add_path(lane_path(scene.street.network, lane))
    v = speed * draw.uniform(1.03, 1.2)
    car = scene.vehicle(path, 0.0, v, name="neighbour")
    at = now + path_start(scene, path) - path_start(scene, ego.path) + draw.uniform(-7.0, 4.0)
    scene.vehicles.append(scene.script(car, [-2.0, 12.0], [v, v], at))


def _oncoming(scene: Scene, where: float, difficulty: float) -> None:
    """Puts a car into the oncoming lane that the ego has to let pass."""
    draw = scene.draw
    car = oncoming_car(scene, scene.street.corridor[-1].backward[0], "oncoming")
    v = scene.street.road.profile.speed_limit * draw.uniform(0.8, 1.0)
    passes = draw.uniform(-2.0, -1.2) + 0.7 * difficulty  # when it is beside the work vehicle [s]
    scene.vehicles.append(scene.script(car, [-2.0, 12.0], [v, v], opposite(scene, car, where) - v * passes))


def oncoming_car(scene: Scene, lane: int, name: str, size=None) -> Vehicle:
    """Makes a car on a lane of the other direction, given by its row on the corridor's last road."""
    return scene.vehicle(scene.add_path(lane_path(scene.street.network, lane)), 0.0, 0.0, size, name=name)


def opposite(scene: Scene, car: Vehicle, s: float) -> float:
    """Returns the arclength on an oncoming car's path that lies beside arclength s [m] of the ego's path, on the main road."""
    street, path = scene.street, scene.paths[car.path]
    ahead = len(street.corridor) - 1 - street.main
    along = s - path_start(scene, scene.vehicles[0].path)
    part = along / street.network.lanes[scene.paths[scene.vehicles[0].path].lanes[2 * street.main]].length
    return path.starts[2 * ahead] + (1.0 - part) * street.network.lanes[path.lanes[2 * ahead]].length


def oncoming_overtaker(draw: Draw, difficulty: float) -> Scene:
    """An oncoming car overtakes another on the ego's side of the road and is late to return."""
    street = make_street(draw.choice(("straight", "curved", "crossing", "t_junction", "four_way")), draw, lanes=1)
    profile = street.road.profile
    width, limit = profile.lane_width, profile.speed_limit
    speed = limit * draw.uniform(0.8, 1.0)
    scene = begin(street, draw, 0, draw.uniform(10.0, 40.0), speed)
    ego = scene.vehicles[0]
    contact = draw.uniform(3.0, 3.4) - 0.7 * difficulty
    now = float(ego.s[0]) + START * STEP * speed
    meets_at = now + FRONT_OVERHANG + speed * contact
    fast = limit * draw.uniform(1.0, 1.15) + 1.0 * difficulty
    overtaker = oncoming_car(scene, street.corridor[-1].backward[0], "overtaker")
    at = opposite(scene, overtaker, meets_at)  # of its front, at the contact
    if at < 60.0 or at - fast * contact < scene.paths[overtaker.path].starts[2 * (len(street.corridor) - 1 - street.main)]:
        raise Unfit("the overtaker would come over the junction")
    at -= FRONT * overtaker.size[0]
    scene.script(overtaker, [-2.0, 12.0], [fast, fast], at - fast * contact)
    sideways = 1.8 if street.kind == "curved" else 3.4  # [m/s2], beside what the bend takes
    over = max(draw.uniform(2.2, 2.8) - 0.4 * difficulty, float(np.sqrt(5.77 * width / sideways)))  # how long it returns [s]
    late = draw.uniform(0.5, 0.6) + 0.25 * difficulty  # part of that which is left at the contact
    returns = contact - over * (1.0 - late)
    overtaker.lateral = ((width, -1e3, 1.0), (-width, at - fast * (contact - returns), fast * over))
    slow = fast * draw.uniform(0.5, 0.65)
    overtaken = oncoming_car(scene, street.corridor[-1].backward[0], "overtaken", draw.choice(LORRIES))
    # it is passed by the time the overtaker comes back
    front = overtaker.s[START] + fast * returns - REAR * overtaker.size[0] - draw.uniform(2.0, 6.0) - slow * returns
    scene.script(overtaken, [-2.0, 12.0], [slow, slow], front - FRONT * overtaken.size[0])
    scene.vehicles += [overtaker, overtaken]
    right = 0.5 * width + profile.shoulder - 0.5 * WIDTH - 0.2 + profile.parking_right
    ways = [(-min(part, right), now + 0.3 * speed, speed * 1.5, speed) for part in (0.4, 0.8, 1.2) if right > 0.3]
    return solve(scene, difficulty, tuple(ways), scene.paths[overtaker.path].lanes)


def merge_squeeze(draw: Draw, difficulty: float) -> Scene:
    """Where two lanes become one, a car beside the ego leaves it no room: on the lane that ends, or on the one that goes on."""
    street = make_street(draw.choice(("merge", "lane_drop")), draw)
    return (_ego_has_to_merge if draw.chance(0.55) else _ego_is_squeezed)(street, draw, difficulty)


def _lanes_that_join(street) -> tuple[int, int, int]:
    """Returns first lanes of the paths that end and go on, and the row of the connector on which the former comes over."""
    if street.kind == "merge":
        return street.ramp.forward[0], street.corridor[0].forward[-1], 3
    return street.corridor[0].forward[-1], street.corridor[0].forward[-2], 1


def _ego_has_to_merge(street, draw: Draw, difficulty: float) -> Scene:
    ends, goes_on, row = _lanes_that_join(street)
    profile = street.road.profile
    speed = profile.speed_limit * draw.uniform(0.75, 0.95)
    ego_path, other_path = lane_path(street.network, ends), lane_path(street.network, goes_on)
    joint, taper = ego_path.starts[row], street.network.lanes[ego_path.lanes[row]].length
    kerb = (profile.shoulder + 0.5 * profile.lane_width - 1.15) / profile.lane_width * taper  # where going straight on ends
    leaves = draw.uniform(3.2, 3.6) - 0.5 * difficulty
    now = joint + kerb - FRONT_OVERHANG - speed * leaves
    scene = begin_on(street, draw, ego_path, now, speed)
    scene.vehicles[0].desired = 1.05 * speed
    scene.lane = profile.forward
    path = scene.add_path(other_path)
    across = other_path.starts[row] - joint
    meets_at = leaves + draw.uniform(-0.6, 0.4)
    v = speed * draw.uniform(0.92, 1.06)
    first = now + across + (speed - v) * meets_at + draw.uniform(-3.0, 3.5)
    _platoon(scene, path, first, v, draw.uniform(2.0, 2.6) - 0.8 * difficulty, draw.integer(1, 2 + round(difficulty)), difficulty)
    if not meets(scene, speed, speed):
        raise Unfit("the ego could merge without a look")
    return solve(scene, difficulty, (), other_path.lanes)


def _platoon(scene: Scene, path: int, first: float, v: float, headway: float, count: int, difficulty: float) -> None:
    """Adds cars one behind the other, with this headway from bumper to bumper [s], that slow down the more the harder."""
    draw, s = scene.draw, first
    slow = v * (1.0 - 0.5 * difficulty * draw.uniform(0.5, 1.0))
    begins = draw.uniform(0.2, 1.0)
    times = [-2.0, begins, begins + 1.2 + (v - slow) / 2.5, 20.0]
    for _ in range(count):
        car = scene.vehicle(path, 0.0, v, name="neighbour")
        scene.vehicles.append(scene.script(car, times, [v, v, slow, slow], s))
        s -= LENGTH + v * headway * draw.uniform(0.9, 1.2)


def _ego_is_squeezed(street, draw: Draw, difficulty: float) -> Scene:
    ends, goes_on, row = _lanes_that_join(street)
    profile = street.road.profile
    speed = profile.speed_limit * draw.uniform(0.85, 1.05)
    ego_path, other_path = lane_path(street.network, goes_on), lane_path(street.network, ends)
    joint, taper = ego_path.starts[row], street.network.lanes[ego_path.lanes[row]].length
    contact = draw.uniform(3.0, 3.5) - 1.2 * difficulty
    where = joint + taper * (draw.uniform(1.1, 1.25) - 0.75 * difficulty)  # of the ego's front at the contact
    scene = begin_on(street, draw, ego_path, where - FRONT_OVERHANG - speed * contact, speed)
    scene.lane = street.road.forward.index(goes_on)
    path = scene.add_path(other_path)
    slow = speed * (draw.uniform(0.62, 0.75) - 0.2 * difficulty)
    squeezer = scene.vehicle(path, 0.0, slow, name="squeezer")
    at = where - joint + other_path.starts[row] + REAR * squeezer.size[0] - draw.uniform(0.5, 2.0) - slow * contact
    later = speed * draw.uniform(0.8, 0.95)
    resumes = contact + draw.uniform(0.0, 0.8)
    times = [-2.0, resumes, resumes + (later - slow) / draw.uniform(1.0, 1.8), 15.0]
    scene.vehicles.append(scene.script(squeezer, times, [slow, slow, later, later], at))
    return solve(scene, difficulty)
