"""Rare: danger from vehicles that cross the ego's way at junctions."""

from __future__ import annotations

import numpy as np

from worldengine_envs.city.contact import FRONT_OVERHANG, LENGTH, WIDTH
from worldengine_envs.city.driving import REAR
from worldengine_envs.city.exact import Draw, sin_cos
from worldengine_envs.city.families.story import begin, begin_on, street_with_lights
from worldengine_envs.city.network import LEFT, PRIORITY, RIGHT, STRAIGHT, Arm
from worldengine_envs.city.scene import AXLE_TO_CENTER, START, Scene, Unfit
from worldengine_envs.city.solution import meets, solve
from worldengine_envs.city.streets import LanePath, Street, lane_path, make_street

TURNING = 1.25  # how much faster than comfortable a reckless driver takes a turn


def red_light_runner(draw: Draw, difficulty: float) -> Scene:
    """The ego has green; a car from the cross street drives over its red light."""
    street = street_with_lights(draw)
    junction = street.junctions[street.main]
    lane = draw.integer(0, len(street.road.forward) - 1)
    speed = street.road.profile.speed_limit * draw.uniform(0.75, 1.0)
    contact = draw.uniform(2.9, 3.5) - 1.0 * difficulty
    ego_path = lane_path(street.network, street.corridor[0].forward[lane])
    path = _way_over(street, draw.choice([arm for side in (LEFT, RIGHT) if (arm := junction.towards(street.road, side))]), draw)
    where, at = crossing(street, ego_path, 2 * street.main + 1, path, 1)
    away = where - draw.uniform(0.0, 1.6) - FRONT_OVERHANG - speed * contact - ego_path.starts[2 * street.main]
    if away < 2.0:
        raise Unfit("the road is too short for the ego's speed")
    scene = begin(street, draw, lane, away, speed)
    row = scene.add_path(path)
    fast = street.road.profile.speed_limit * draw.uniform(0.75, 1.05)
    fast = min(fast, TURNING * float(scene.tables[row][int(path.starts[1]) : int(path.starts[2])].min()))
    runner = scene.vehicle(row, 0.0, fast, name="runner")
    # some brake at the sight of the ego, and stand in its way for longer
    brakes = contact - draw.uniform(0.3, 1.2)
    slow = fast * (1.0 - 0.6 * difficulty * draw.uniform(0.0, 1.0))
    down = brakes + (fast - slow) / 5.0 + 0.1
    scene.script(runner, [-2.0, brakes, down, down + 1.0, down + 1.1 + (fast - slow) / 2.0], [fast, fast, slow, slow, fast], 0.0)
    # its centre is at the crossing of the paths at the contact
    runner.s += at + draw.uniform(-1.2, 1.2) - AXLE_TO_CENTER * runner.size[0] - runner.s[START + round(contact / 0.1)]
    if runner.s[0] < 1.0:
        raise Unfit("the cross street is too short for the runner's speed")
    scene.vehicles.append(runner)
    return solve(scene, difficulty, clear=path.lanes[:2])


def _way_over(street: Street, arm: Arm, draw: Draw) -> LanePath:
    """Returns a path from an arm over the main road: straight on where it can, else to the left."""
    if street.junctions[street.main].towards(arm.road, STRAIGHT):
        return lane_path(street.network, draw.choice(arm.lanes_in), (STRAIGHT,))
    return lane_path(street.network, arm.lanes_in[0], (LEFT,))


def crossing(street: Street, path: LanePath, row: int, other: LanePath, other_row: int) -> tuple[float, float]:
    """Returns the arclengths of two paths at which their pieces come nearest to each other [m]."""
    ways = ((path, row), (other, other_row))
    mine, its = (p.starts[r] + 0.5 * np.arange(int(2.0 * street.network.lanes[p.lanes[r]].length)) for p, r in ways)
    away = _squares(path.line.at(mine), other.line.at(its))
    i, j = divmod(int(np.argmin(away)), len(its))
    return float(mine[i]), float(its[j])


def _squares(a, b) -> np.ndarray:
    """Returns (points of a, points of b) squared distances [m2]."""
    dx, dy = a[0][:, None] - b[0][None], a[1][:, None] - b[1][None]
    return dx * dx + dy * dy


def unprotected_left(draw: Draw, difficulty: float) -> Scene:
    """The ego turns left and has to give way: to oncoming traffic, or, from a side road, to both directions of the main road."""
    if draw.chance(0.45):
        street = make_street(draw.choice(("crossing", "four_way")), draw)
        oncoming = street.junctions[street.main].towards(street.road, STRAIGHT)
        path = lane_path(street.network, street.corridor[0].forward[0], (STRAIGHT,) * street.main + (LEFT,))
        return _turn_left(street, draw, difficulty, path, 2 * street.main + 1, [oncoming])
    street = make_street(draw.choice(("t_junction", "four_way")), draw)
    junction = street.junctions[street.main]
    if junction.kind != PRIORITY:
        raise Unfit("the side road does not give way")
    arm = draw.choice([arm for side in (LEFT, RIGHT) if (arm := junction.towards(street.road, side))])
    path = lane_path(street.network, arm.lanes_in[0], (LEFT,))
    return _turn_left(street, draw, difficulty, path, 1, [junction.towards(arm.road, side) for side in (LEFT, RIGHT)])


def _turn_left(street: Street, draw: Draw, difficulty: float, path: LanePath, row: int, arms: list[Arm]) -> Scene:
    """Puts the ego before the lanes that it has to cross, and cars with a gap between them on these lanes.

    Args:
        street, draw, difficulty: As ever.
        path, row: The ego's, and the row of its connector.
        arms: From which the others come; they go straight on.
    """
    streams = [lane_path(street.network, arm.lanes_in[0], (STRAIGHT,)) for arm in arms]
    edge = min(_first_touch(street, path, row, other) for other in streams)
    from_main_road = len(arms) == 1
    speed = draw.uniform(5.5, 7.5)
    now = edge - 0.3 * speed - speed * speed / 8.0 - (draw.uniform(1.8, 3.2) if from_main_road else draw.uniform(3.5, 5.5))
    scene = begin_on(street, draw, path, now, speed)
    scene.vehicles[0].desired = 9.0
    limit = street.road.profile.speed_limit
    arrives = (edge - now) / speed
    # until the last car before the gap is past [s]; from a side road it is the one that an ego would hit that goes straight on
    wait = arrives + (draw.uniform(0.2, 0.6) + 0.4 * difficulty if from_main_road else 1.4 / speed + draw.uniform(-0.1, 0.2))
    gaps = draw.uniform(7.0, 8.5) - 2.0 * difficulty, 12.0  # none comes up behind the ego, where it joins the others
    clear: list[int] = []
    for arm, other, gap in zip(arms, streams, gaps, strict=False):
        at = crossing(street, path, row, other, 1)[1] if from_main_road else _straight_ahead(path, edge, other)
        v = limit * draw.uniform(0.75, 1.0)
        _stream(scene, scene.add_path(other), at, v, wait, gap, 1 + round(draw.uniform(0.0, 1.0) + difficulty))
        clear += arm.lanes_in
        wait = arrives + draw.uniform(-0.8, 1.0)
    if from_main_road:  # the way straight on is closed
        ahead = scene.add_path(lane_path(street.network, path.lanes[0]))
        queued = scene.vehicle(ahead, 0.0, 0.0, name="queued")
        at = now + FRONT_OVERHANG + speed * draw.uniform(3.0, 3.5) + REAR * queued.size[0]
        scene.vehicles.append(scene.script(queued, [-2.0, 12.0], [0.0, 0.0], at))
    if not meets(scene, speed, speed) or not meets(scene, speed, float(scene.tables[0][int(edge) + 6])):
        raise Unfit("the ego could turn without a look")
    return solve(scene, difficulty, clear=tuple(clear), past=edge + 6.0)


def _straight_ahead(path: LanePath, edge: float, other: LanePath) -> float:
    """Returns the arclength of another path that lies straight ahead of an ego at arclength ``edge`` of its own [m]."""
    x, y, yaw, _ = path.line.at(edge)
    sine, cosine = sin_cos(yaw)
    s = other.starts[1] + 0.5 * np.arange(2.0 * (other.starts[2] - other.starts[1]))
    px, py, _, _ = other.line.at(s)
    return float(s[int(np.argmin(np.abs((py - y) * cosine - (px - x) * sine)))])


def _first_touch(street: Street, path: LanePath, row: int, other: LanePath) -> float:
    """Returns the arclength of the ego's rear axle at which its front corners come to where cars on another path drive [m]."""
    s = path.starts[row] - FRONT_OVERHANG + 0.25 * np.arange(4.0 * street.network.lanes[path.lanes[row]].length)
    x, y, yaw, _ = path.line.at(s)
    sine, cosine = sin_cos(yaw)
    lane = other.line.at(other.starts[1] - 8.0 + 0.5 * np.arange(2.0 * street.network.lanes[other.lanes[1]].length + 32.0))
    touched = np.zeros(len(s), dtype=bool)
    for left in (0.5 * WIDTH, -0.5 * WIDTH):
        corner = x + FRONT_OVERHANG * cosine - left * sine, y + FRONT_OVERHANG * sine + left * cosine
        touched |= _squares(corner, lane).min(axis=1) < 1.4 * 1.4
    return float(s[int(np.argmax(touched))])


def _stream(scene: Scene, path: int, at: float, v: float, wait: float, gap: float, count: int) -> None:
    """Adds cars that pass arclength ``at`` one after the other, the last of ``count`` at ``wait`` [s], and one ``gap`` later."""
    draw = scene.draw
    times = [wait]
    for _ in range(count - 1):
        times.append(times[-1] - draw.uniform(1.5, 2.4) - LENGTH / v)
    for time in (*times, wait + gap):
        s = at - v * time
        if s - 1.6 * v > 1.0:
            car = scene.vehicle(path, 0.0, v, name="oncoming")
            scene.vehicles.append(scene.script(car, [-2.0, 12.0], [v, v], s))
