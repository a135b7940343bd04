"""Rare families: a dangerous moment by construction, and the search for the way through it that the logged ego drives."""

from __future__ import annotations

import numpy as np

from worldengine_envs.city import background
from worldengine_envs.city.exact import Draw, sin_cos, turn_of
from worldengine_envs.city.families import KINDS, begin, path_start
from worldengine_envs.city.scene import START, STEP, STEPS, Scene, Unfit, walk
from worldengine_envs.city.solver import AXLE_TO_CENTER, FRONT_OVERHANG, LENGTH, TOO_CLOSE, WIDTH, search, straight_on, to_path
from worldengine_envs.city.streets import lane_path, make_street

RARE = ("cut_in", "hard_brake_lead", "jaywalker")
CONTACT_STEPS = 37  # within which going straight on has to end in contact


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
    begins = contact - draw.uniform(0.65, 0.95) * duration
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
    at_start = front + across + (speed - slow) * contact + 0.218 * cutter.size[0]
    scene.script(cutter, times, [slow, slow, last, last, max(later, last + 0.1)], at_start)
    width = street.road.profile.lane_width * (other - lane)  # to the left where positive
    moves_at = at_start + slow * begins
    cutter.lateral = ((width + draw.uniform(-0.3, 0.3), moves_at, slow * duration),)
    scene.vehicles.append(cutter)
    return solve(scene, 2, difficulty)


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
    lead.s += ego.s[0] + START * STEP * speed + FRONT_OVERHANG + gap + 0.218 * lead.size[0]
    scene.vehicles.append(lead)
    return solve(scene, 2, difficulty)


def jaywalker(draw: Draw, difficulty: float) -> Scene:
    """A pedestrian walks or runs across the road, away from any crossing."""
    street = make_street(draw.choice(KINDS), draw)
    lane = draw.integer(0, len(street.road.forward) - 1)
    speed = street.road.profile.speed_limit * draw.uniform(0.75, 1.0)
    scene = begin(street, draw, lane, draw.uniform(10.0, 50.0), speed)
    ego = scene.vehicles[0]
    # At a whole step: between two steps a car's front may pass over a person, and the score then sees a contact at its side.
    contact = STEP * round((draw.uniform(3.5, 2.7) - 0.9 * difficulty) / STEP)
    line, main = scene.paths[ego.path], 2 * street.main
    where = ego.s[0] + START * STEP * speed + FRONT_OVERHANG + speed * contact
    if where > line.starts[main + 1] - 8.0:
        raise Unfit("the pedestrian would walk on the junction")
    pace = draw.uniform(1.2, 1.8) + 0.9 * difficulty * draw.uniform(0.3, 1.0)
    side = draw.choice((-1.0, 1.0))  # comes from the right or from the left
    right, left = _room(scene)
    kerbs = {-1.0: right - 0.7, 1.0: left + 0.7}
    x, y, yaw, _ = (float(a) for a in line.line.at(where))
    sine, cosine = turn_of(yaw)
    drift = draw.uniform(-2.0, 2.0)  # along the road while crossing

    def point(left: float, ahead: float) -> tuple[float, float]:
        return x + ahead * cosine - left * sine, y + ahead * sine + left * cosine

    target = draw.uniform(-1.1, 1.1)
    span = abs(kerbs[side] - kerbs[-side])
    part = abs(kerbs[side] - target) / span
    start, end = point(kerbs[side], -drift * part), point(kerbs[-side], drift * (1.0 - part))
    length = float(np.sqrt((end[0] - start[0]) * (end[0] - start[0]) + (end[1] - start[1]) * (end[1] - start[1])))
    begin_at = contact - (part * length + 0.25 * pace * pace) / pace
    person = walk(start, end, pace, begin_at, draw)
    person.name = "jaywalker"
    scene.walkers.append(person)
    return solve(scene, 1, difficulty)


def solve(scene: Scene, keep: int, difficulty: float) -> Scene:
    """Adds what is around, searches the ego's way through, and drives those behind it.

    Raises:
        Unfit: Going straight on does no harm, or no way through was found.
    """
    draw, ego = scene.draw, scene.vehicles[0]
    speed = float(ego.v[0])
    scene.script(ego, [-2.0, 12.0], [speed, speed], ego.s[0] + START * STEP * speed)
    grid = _grid(scene, ego)
    if not _harms(scene, grid, ego, speed):
        raise Unfit("going straight on does no harm")
    background.add_parked(scene, draw.uniform(0.1, 0.7))
    background.add_pavements(scene, 3.0)
    background.add_crossers(scene, 0.5)
    background.add_traffic(scene, ego.path, 0.3 + 0.6 * difficulty)
    scene.drive()
    scene.vehicles.remove(ego)  # the search respects the actors and traffic that does not mind the ego
    scene.prune(keep - 1)
    _search(scene, ego, speed, grid)
    scene.vehicles.insert(0, ego)
    if draw.chance(0.5):
        s = float(ego.s[0]) - 6.0 - speed * draw.uniform(1.4, 2.5)
        if s > 2.0:
            scene.vehicles.append(scene.vehicle(ego.path, s, speed, desired=speed, headway=draw.uniform(1.2, 1.7)))
            scene.drive()
    scene.prune(keep)
    return scene


def _grid(scene: Scene, ego) -> np.ndarray:
    """Returns (points, 4) x, y, cos, sin of the ego's path each 0.5 m, as far as it may come."""
    x, y, yaw, _ = scene.paths[ego.path].line.at(0.5 * np.arange(2 * int(ego.s[0] + 190.0)))
    sine, cosine = sin_cos(yaw)
    return np.stack((x, y, cosine, sine), axis=1)


def _harms(scene: Scene, grid: np.ndarray, ego, speed: float) -> bool:
    """Whether going straight on at the speed of the start ends in contact with the actors or beyond a kerb."""
    state, turn, size = scene.boxes()
    extent = np.broadcast_to(size[1:, None, :2], (len(size) - 1, STEPS, 2))
    actors = np.concatenate((state[1:, :, :2], turn[1:], extent), axis=2)
    k = int(2 * ego.s[START])
    u = 2.0 * ego.s[START] - k
    x, y = (grid[k, i] + u * (grid[k + 1, i] - grid[k, i]) for i in (0, 1))
    agent, _ = straight_on(x, y, grid[k, 2], grid[k, 3], speed, START, CONTACT_STEPS, actors)
    return agent >= 0 or _leaves_road(scene, grid, x, y, grid[k, 2], grid[k, 3], speed)


def _search(scene: Scene, ego, speed: float, grid: np.ndarray) -> None:
    """Gives the ego the cheapest motion that was found."""
    state, turn, size = scene.boxes()
    extent = np.broadcast_to(size[:, None, :2], (len(size), STEPS, 2))
    agents = np.concatenate((state[:, :, :2], turn, extent), axis=2)
    frenet = np.zeros((len(agents), STEPS, 6))
    to_path(grid, agents, frenet)
    close = np.min(np.abs(frenet[:, :, 1]) - frenet[:, :, 3], axis=1) < 6.0  # to the ego's path
    agents, frenet = np.ascontiguousarray(agents[close]), np.ascontiguousarray(frenet[close])
    s, v = np.zeros(STEPS), np.zeros(STEPS)
    react = START + scene.draw.integer(1, 3)
    options = candidates(scene, speed)
    row, cost = search(options, ego.s[0], speed, speed, react, grid, scene.tables[ego.path], agents, frenet, s, v, ego.s, ego.v)
    if row < 0 or cost > 0.5 * TOO_CLOSE:
        raise Unfit("no way through was found")
    offset, distance, hold = options[row, 4:7]
    begins = ego.s[0] + speed * react * STEP
    if offset:
        ego.lateral = ((offset, begins, distance), (-offset, begins + distance + hold, 1.2 * distance))
    scene.solution = "swerve" if offset else "brake"


def _room(scene: Scene) -> tuple[float, float]:
    """Returns the offsets of the right and left kerb from the centre of the ego's lane [m]."""
    profile = scene.street.road.profile
    centre = -(scene.lane + 0.5) * profile.lane_width
    return profile.right_kerb - centre, profile.left_kerb - centre


def _leaves_road(scene: Scene, grid, x: float, y: float, c: float, n: float, speed: float) -> bool:
    """Whether a box that goes straight on from this rear axle ends beyond a kerb."""
    ahead = AXLE_TO_CENTER + speed * STEP * np.arange(CONTACT_STEPS + 1.0)
    box = np.empty((1, len(ahead), 6))
    box[0, :, 0], box[0, :, 1] = x + ahead * c, y + ahead * n
    box[0, :, 2:] = c, n, LENGTH, WIDTH
    frenet = np.zeros((1, len(ahead), 6))
    to_path(grid, box, frenet)
    right, left = _room(scene)
    return bool(np.any(frenet[0, :, 1] - frenet[0, :, 3] < right) or np.any(frenet[0, :, 1] + frenet[0, :, 3] > left))


def candidates(scene: Scene, speed: float) -> np.ndarray:
    """Returns (candidates, 8) ways of driving to try: see ``solver.roll_out``."""
    rows = []
    for brake, jerk in ((2.5, 5.0), (3.8, 8.0), (7.0, 20.0)):
        for foresight in (0, 10, 20, 30):
            rows += [(part, 0.8, brake, foresight, 0.0, 20.0, 0.0, jerk) for part in (1.0, 0.75)]
    profile, lane = scene.street.road.profile, scene.lane
    width, count = profile.lane_width, profile.forward
    right, left = _room(scene)
    margin = 0.5 * WIDTH + 0.3
    beside = [sign * width for sign, other in ((1, lane - 1), (-1, lane + 1)) if 0 <= other < count]
    for offset in (-width, -0.5 * width, -0.3 * width, 0.3 * width, 0.5 * width, width):
        if not right + margin < offset < left - margin:
            continue
        for hold in (1.0, 100.0) if offset in beside else (1.0,):  # into a lane of the same direction for good
            for time in swerve_times(abs(offset), speed):
                rows += [(1.0, 0.6, brake, 0, offset, speed * time, hold * speed, 8.0) for brake in (2.5, 5.0)]
    return np.array(rows)


def swerve_times(offset: float, speed: float) -> list[float]:
    """Returns the quickest time [s] for a sideways move that stays below 3.2 m/s2 and 1.6 rad/s2 of yaw, and a calmer one."""
    # peaks of the quintic: 5.77 offset / T^2 of lateral acceleration, 60 offset / T^3 of its rate = yaw acceleration * speed
    good = [
        t for t in (1.2, 1.5, 1.8, 2.1, 2.4, 2.8, 3.2) if 5.77 * offset < 3.2 * t * t and 60.0 * offset < 1.6 * speed * t * t * t
    ]
    return [good[0], good[0] + 0.9] if good else []
