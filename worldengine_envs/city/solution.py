"""The way through a dangerous moment: searched among candidates, and driven by the logged ego of rare scenarios."""

from __future__ import annotations

import numpy as np

from worldengine_envs.city import background
from worldengine_envs.city.exact import sin_cos
from worldengine_envs.city.scene import START, STEP, STEPS, Scene, Unfit
from worldengine_envs.city.solver import AXLE_TO_CENTER, LENGTH, TOO_CLOSE, WIDTH, search, straight_on, to_path

CONTACT_STEPS = 37  # within which going straight on has to end in contact


def solve(scene: Scene, difficulty: float) -> Scene:
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
    scene.prune()
    _search(scene, ego, speed, grid)
    scene.vehicles.insert(0, ego)
    if draw.chance(0.5):
        s = float(ego.s[0]) - 6.0 - speed * draw.uniform(1.4, 2.5)
        if s > 2.0:
            scene.vehicles.append(scene.vehicle(ego.path, s, speed, desired=speed, headway=draw.uniform(1.2, 1.7)))
            scene.drive()
    scene.prune()
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


def room(scene: Scene) -> tuple[float, float]:
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
    right, left = room(scene)
    return bool(np.any(frenet[0, :, 1] - frenet[0, :, 3] < right) or np.any(frenet[0, :, 1] + frenet[0, :, 3] > left))


def candidates(scene: Scene, speed: float) -> np.ndarray:
    """Returns (candidates, 8) ways of driving to try: see ``solver.roll_out``."""
    rows = []
    for brake, jerk in ((2.5, 5.0), (3.8, 8.0), (7.0, 20.0)):
        for foresight in (0, 10, 20, 30):
            rows += [(part, 0.8, brake, foresight, 0.0, 20.0, 0.0, jerk) for part in (1.0, 0.75)]
    profile, lane = scene.street.road.profile, scene.lane
    width, count = profile.lane_width, profile.forward
    right, left = room(scene)
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
