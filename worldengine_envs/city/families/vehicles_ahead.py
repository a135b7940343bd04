"""Rare: danger from vehicles that drive the ego's way."""

from __future__ import annotations

import numpy as np

from worldengine_envs.city.contact import FRONT_OVERHANG
from worldengine_envs.city.driving import REAR
from worldengine_envs.city.exact import Draw
from worldengine_envs.city.families.story import KINDS, begin, path_start
from worldengine_envs.city.scene import START, STEP, Scene, Unfit
from worldengine_envs.city.solution import CONTACT_STEPS, solve
from worldengine_envs.city.streets import lane_path, make_street


def cut_in(draw: Draw, difficulty: float) -> Scene:
    """A slower car from the lane beside moves in front of the ego."""
    street = make_street(draw.choice(KINDS), draw, lanes=draw.choice((2, 2, 3)))
    count = len(street.road.forward)
    lane = draw.integer(0, count - 1)
    other = lane + draw.choice([d for d in (-1, 1) if 0 <= lane + d < count])
    speed = street.road.profile.speed_limit * draw.uniform(0.85, 1.05)
    scene = begin(street, draw, lane, draw.uniform(10.0, 50.0), speed)
    ego = scene.vehicles[0]
    contact = draw.uniform(3.4, 2.6) - 0.9 * difficulty  # [s] from the start to contact if the ego goes on
    slow = speed * (draw.uniform(0.5, 0.7) - 0.2 * difficulty)
    duration = draw.uniform(2.4, 3.0) - 1.0 * difficulty
    duration = max(duration, 14.0 / slow, 2.4)  # no sharper than about 25 degrees, 3.6 m/s2 sideways
    begins = contact - (draw.uniform(1.1, 1.3) - 0.5 * difficulty) * duration  # the easier, the longer it can be seen
    path = scene.add_path(lane_path(street.network, street.corridor[0].forward[other]))
    cutter = scene.vehicle(path, 0.0, slow, name="cutter")
    last = slow * draw.uniform(0.65, 1.0)
    later = speed * draw.uniform(0.55, 0.9)
    settle, pace = begins + duration, draw.uniform(0.8, 1.6)
    slowed = settle + (slow - last) / 1.5 + 0.2
    resumed = slowed + draw.uniform(0.3, 2.0)
    times = [-2.0, settle, slowed, resumed, resumed + max(later - last, 0.1) / pace]
    front = START * STEP * speed + ego.s[0] + FRONT_OVERHANG  # of the ego at the start, on its own path
    across = path_start(scene, path) - path_start(scene, ego.path)
    at_start = front + across + (speed - slow) * contact + REAR * cutter.size[0]
    scene.script(cutter, times, [slow, slow, last, last, max(later, last + 0.1)], at_start)
    width = street.road.profile.lane_width * (other - lane)  # to the left where positive
    moves_at = at_start + slow * begins
    cutter.lateral = ((width + draw.uniform(-0.3, 0.3), moves_at, slow * duration),)
    scene.vehicles.append(cutter)
    return solve(scene, difficulty)


def hard_brake_lead(draw: Draw, difficulty: float) -> Scene:
    """The car ahead brakes hard, and goes on after a while."""
    street = make_street(draw.choice(KINDS), draw)
    lane = draw.integer(0, len(street.road.forward) - 1)
    speed = street.road.profile.speed_limit * draw.uniform(0.85, 1.05)
    scene = begin(street, draw, lane, draw.uniform(10.0, 50.0), speed)
    ego = scene.vehicles[0]
    lead = scene.vehicle(ego.path, 0.0, speed, name="lead")
    braking = draw.uniform(4.0, 5.5) + 2.5 * difficulty
    slow = speed * (draw.uniform(0.2, 0.45) - 0.15 * difficulty)
    starts = draw.uniform(-0.3, 0.6)
    down = (speed - slow) / braking
    hold = draw.uniform(0.2, 1.2)
    times = [-2.0, starts, starts + down, starts + down + hold]
    times.append(times[-1] + (0.9 * speed - slow) / draw.uniform(1.4, 2.2))
    scene.script(lead, times, [speed, speed, slow, slow, 0.9 * speed], 0.0)
    k = START + CONTACT_STEPS - 1
    closing = speed * STEP * (k - START) - (lead.s[k] - lead.s[START])  # how much nearer the ego comes if it goes on
    gap = min(closing - 1.0, speed * (1.6 - 0.7 * difficulty + draw.uniform(-0.2, 0.2)))
    if gap < 4.0:
        raise Unfit("the lead gets away")
    lead.s += ego.s[0] + START * STEP * speed + FRONT_OVERHANG + gap + REAR * lead.size[0]
    scene.vehicles.append(lead)
    return solve(scene, difficulty)


def stopped_after_curve(draw: Draw, difficulty: float) -> Scene:
    """Behind a bend cars stand on the ego's lane: the end of a queue, or one that broke down and leaves room to pass."""
    street = make_street("curved", draw, lanes=draw.choice((1, 1, 2, 2, 2, 3)))
    count = len(street.road.forward)
    lane = draw.integer(0, count - 1)
    speed = street.road.profile.speed_limit * draw.uniform(0.85, 1.05)
    scene = begin(street, draw, lane, 0.0, speed)
    ego = scene.vehicles[0]
    main = path_start(scene, ego.path)
    where = _behind_bend(scene, main) + draw.uniform(0.0, 6.0)  # rear of the last car
    queue = draw.chance(0.5)
    contact = draw.uniform(3.2, 3.6) - (1.4 if queue else 1.5) * difficulty
    now = where - FRONT_OVERHANG - speed * contact
    if now < main - 30.0:
        raise Unfit("the bend is too near to the last junction")
    ego.s[0] = now - speed * START * STEP
    if queue:
        _queue(scene, where, draw.integer(1, 3), draw.uniform(2.0, 6.0))
        return solve(scene, difficulty)
    # at one side of its lane, so that half of it stays free, or in the middle where there is another lane
    shift = draw.choice((0.0, draw.uniform(0.4, 0.9))) if count > 1 else draw.uniform(0.6, 1.0)
    side = 1.0 if lane == 0 and count > 1 else -1.0
    broken = scene.vehicle(ego.path, 0.0, 0.0, name="stopped", lateral=((side * shift, -1e3, 1.0),))
    scene.vehicles.append(scene.script(broken, [-2.0, 12.0], [0.0, 0.0], where + REAR * broken.size[0]))
    return solve(scene, difficulty)


def _behind_bend(scene: Scene, main: float) -> float:
    """Returns the arclength of the ego's path where its first bend begins to straighten [m]."""
    line = scene.paths[scene.vehicles[0].path].line
    bent = np.abs(line.curvature)
    bent[line.s < main] = 0.0
    first = int(np.argmax(bent > 1e-4))
    plateau = bent[first:] > 0.97 * bent[first : first + 60].max()
    start = int(np.argmax(plateau))
    return float(line.s[first + start + int(np.argmin(plateau[start:]))])


def _queue(scene: Scene, where: float, count: int, moves: float) -> None:
    """Adds cars that stand in the ego's lane, the last with its rear at arclength ``where`` [m]; they move off again [s]."""
    draw, ego = scene.draw, scene.vehicles[0]
    fast = 0.6 * float(ego.v[0])
    for i in range(count):
        car = scene.vehicle(ego.path, 0.0, 0.0, name="stopped")
        starts = moves + 1.2 * (count - 1 - i)
        scene.script(car, [-2.0, starts, starts + fast / 1.5, 20.0], [0.0, 0.0, fast, fast], where + REAR * car.size[0])
        scene.vehicles.append(car)
        where += car.size[0] + draw.uniform(1.5, 3.0)
