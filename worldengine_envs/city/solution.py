"""The way through a dangerous moment: what harms an ego that goes straight on, and the motion driven instead."""

from __future__ import annotations

import numpy as np

from worldengine_envs.city import background
from worldengine_envs.city.contact import AXLE_TO_CENTER, FRONT_OVERHANG, LENGTH, WIDTH, leaves_road, straight_on
from worldengine_envs.city.driving import RED, boxes_touch
from worldengine_envs.city.exact import sin_cos
from worldengine_envs.city.network import STRAIGHT
from worldengine_envs.city.scene import START, STEP, STEPS, Scene, Unfit
from worldengine_envs.city.solver import CELL, TAKEN, near, search
from worldengine_envs.scenario.types import AgentType, MapLayer

CONTACT_STEPS = 37  # within which going straight on has to end in contact
STRAIGHT_ON = ("", STRAIGHT)  # movements of lanes on which one may move over
DRIVABLE = (MapLayer.ROADBLOCK, MapLayer.INTERSECTION, MapLayer.DRIVABLE_AREA, MapLayer.CARPARK_AREA)
ROOM = {AgentType.VEHICLE: 0.5, AgentType.PEDESTRIAN: 1.0, AgentType.BICYCLE: 1.0}  # added to the ego's width beside them [m]
FOR_GOOD = 1e4  # distance held of a way that does not come back [m]


def solve(
    scene: Scene,
    difficulty: float,
    ways: tuple[tuple[float, float, float, float], ...] = (),
    clear: tuple[int, ...] = (),
    react: float | None = None,
    past: float = 0.0,
) -> Scene:
    """Adds what is around, searches the ego's way through, and drives those behind it.

    The ego keeps its speed until it reacts; then it looks for the motion that makes the most progress, up to ``ego.desired``, along
    its path or beside it, knowing what the others will do. It stops at red lights, touches nobody, keeps 0.9 s from contact at
    constant velocity and stays on the road.

    Args:
        scene: With the ego as vehicle 0, at step 0 and its speed, and the actors.
        difficulty: In [0, 1]; more traffic.
        ways: Lateral moves to try instead of those at once: offset to the left [m], arclength where it begins, distance over
            which it is done, and distance held before coming back (``FOR_GOOD``: it stays) [m].
        clear: Lanes on which no other traffic may be (rows of the network), for gaps that the story needs.
        react: When the ego begins to react [s after the start]; 0.1 to 0.3 s if None.
        past: Arclength that the ego has to come to by the end [m].

    Raises:
        Unfit: Going straight on does no harm, or no way through was found.
    """
    draw, ego = scene.draw, scene.vehicles[0]
    speed = float(ego.v[0])
    scene.script(ego, [-2.0, 12.0], [speed, speed], ego.s[0] + START * STEP * speed)
    base, grid = _grid(scene, ego, speed)
    surface = _surface(scene, grid)
    if not _harms(scene, ego, speed, surface):
        raise Unfit("going straight on does no harm")
    background.add_parked(scene, draw.uniform(0.1, 0.7))
    background.add_pavements(scene, 3.0)
    background.add_crossers(scene, 0.5)
    background.add_traffic(scene, ego.path, 0.3 + 0.6 * difficulty)
    if clear:
        keep = set(clear)
        scene.vehicles = [car for car in scene.vehicles if car.has_part or keep.isdisjoint(scene.paths[car.path].lanes)]
    scene.drive()
    scene.vehicles.remove(ego)  # the search respects the actors and traffic that does not mind the ego
    scene.prune()
    first = START + (draw.integer(1, 3) if react is None else max(0, round(react / STEP)))
    _search(scene, ego, speed, first, base, grid, surface, ways, past)
    scene.vehicles.insert(0, ego)
    if draw.chance(0.5):
        s = float(ego.s[0]) - 6.0 - speed * draw.uniform(1.4, 2.5)
        if s > 2.0:
            scene.vehicles.append(scene.vehicle(ego.path, s, speed, desired=speed, headway=draw.uniform(1.2, 1.7)))
            scene.drive()
    scene.prune()
    return scene


def _grid(scene: Scene, ego, speed: float) -> tuple[float, np.ndarray]:
    """Returns an arclength behind the ego's start and (cells, 4) x, y, cos, sin of its path from there on."""
    base = float(int(ego.s[START])) - 2.0
    reach = 12.0 + max(speed, ego.desired) * STEP * (STEPS - START)
    x, y, yaw, _ = scene.paths[ego.path].line.at(base + CELL * np.arange(int(reach / CELL)))
    sine, cosine = sin_cos(yaw)
    return base, np.stack((x, y, cosine, sine), axis=1)


def _surface(scene: Scene, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the polygons of the road near the ego's path: (points, 2), offsets (rings + 1,), bounds (rings, 4)."""
    low, high = grid[:, :2].min(axis=0) - 8.0, grid[:, :2].max(axis=0) + 8.0
    rings, bounds = [], []
    for ring in scene.street.network.rings(DRIVABLE):
        least, most = ring.min(axis=0), ring.max(axis=0)
        if (least < high).all() and (most > low).all():
            rings.append(ring)
            bounds.append((*least, *most))
    offsets = np.concatenate(([0], np.cumsum([len(ring) for ring in rings])))
    return np.concatenate(rings), offsets, np.array(bounds)


def _harms(scene: Scene, ego, speed: float, surface) -> bool:
    """Whether going straight on at the speed of the start ends in contact at fault with the actors, or off the road."""
    state, turn, size = scene.boxes()
    alive = [True] * (len(scene.vehicles) - 1) + [walker.type <= AgentType.BICYCLE for walker in scene.walkers]
    rows = 1 + np.flatnonzero(np.array(alive, dtype=bool))
    still = np.abs(state[rows, :, 3:]).max(axis=2) < 0.03
    x, y, yaw, _ = scene.paths[ego.path].line.at(ego.s[START])
    sine, cosine = (float(a) for a in sin_cos(yaw))
    x, y = float(x), float(y)
    agent, _ = straight_on(x, y, cosine, sine, speed, START, CONTACT_STEPS, _boxes(state[rows], turn[rows], size[rows]), still)
    return agent >= 0 or leaves_road(*surface, x, y, cosine, sine, speed, CONTACT_STEPS)


def _boxes(state: np.ndarray, turn: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Returns (agents, steps, 6) x, y, cos, sin, length, width."""
    extent = np.broadcast_to(size[:, None, :2], (*state.shape[:2], 2))
    return np.concatenate((state[:, :, :2], turn, extent), axis=2)


def meets(scene: Scene, v: float, desired: float) -> bool:
    """Whether an ego that follows its path from step START on at speed v, gaining 1.8 m/s2 up to ``desired``, touches anybody."""
    ego = scene.vehicles[0]
    t = STEP * np.arange(CONTACT_STEPS + 1.0)
    ramp = np.minimum(t, max(desired - v, 0.0) / 1.8)
    x, y, yaw, _ = scene.paths[ego.path].line.at(ego.s[0] + START * STEP * float(ego.v[0]) + v * t + 1.8 * ramp * (t - 0.5 * ramp))
    sine, cosine = sin_cos(yaw)
    boxes = _boxes(*scene.boxes())[1:, START : START + CONTACT_STEPS + 1]
    for k, row in enumerate(zip(x + AXLE_TO_CENTER * cosine, y + AXLE_TO_CENTER * sine, cosine, sine, strict=True)):
        if any(boxes_touch(*row, LENGTH, WIDTH, *box) for box in boxes[:, k]):
            return True
    return False


def _search(scene: Scene, ego, speed: float, first: int, base: float, grid: np.ndarray, surface, extra, past: float) -> None:
    """Gives the ego the best motion that was found."""
    types = [actor.type for actor in (*scene.vehicles, *scene.walkers)]
    beside = np.array([ROOM.get(kind, 0.3) for kind in types])
    agents = np.concatenate((_boxes(*scene.boxes()), np.broadcast_to(beside[:, None, None], (len(types), STEPS, 1))), axis=2)
    agents = np.ascontiguousarray(agents[near(grid, agents, 15.0)])
    options = np.array([(0.0, 0.0, 1.0, 0.0), *(extra or ways_beside(scene, ego, speed, first))])
    closed = np.zeros((STEPS, len(grid)), dtype=np.int8)
    for line, group in scene.stop_lines(scene.paths[ego.path]):
        cell = int((line - FRONT_OVERHANG - base) / CELL)
        if 0 < cell < len(grid):
            closed[scene.lights[group] == RED, cell : cell + 4] = TAKEN
    s0 = ego.s[first]
    row, _ = search(
        options,
        grid,
        base,
        agents,
        closed,
        *surface,
        scene.tables[ego.path],
        s0,
        speed,
        ego.desired,
        past,
        bool(extra),
        first,
        ego.s,
        ego.v,
    )
    if row < 0:
        raise Unfit("no way through was found")
    offset, begin, distance, held = (float(a) for a in options[row])
    if offset:
        ego.lateral = ((offset, begin, distance), (-offset, begin + distance + held, 1.2 * distance))
    scene.solution = "swerve" if offset else "brake"


def room(scene: Scene) -> tuple[float, float]:
    """Returns the offsets of the right and left kerb from the centre of the ego's lane [m]."""
    profile = scene.street.road.profile
    centre = -(scene.lane + 0.5) * profile.lane_width
    return profile.right_kerb - centre, profile.left_kerb - centre


def ways_beside(scene: Scene, ego, speed: float, first: int) -> list[tuple[float, float, float, float]]:
    """Returns moves to the side at once, as far as the road allows, that are over before the ego's next turn."""
    path, network = scene.paths[ego.path], scene.street.network
    begin = float(ego.s[first])
    ends = (*path.starts[1:], path.line.length)
    turns = [
        s
        for lane, s, e in zip(path.lanes, path.starts, ends, strict=True)
        if network.movement[lane] not in STRAIGHT_ON and e > begin
    ]
    end = min(turns, default=FOR_GOOD)
    profile, lane = scene.street.road.profile, scene.lane
    width, count = profile.lane_width, profile.forward
    right, left = room(scene)
    margin = 0.5 * WIDTH + 0.3
    beside = [sign * width for sign, other in ((1, lane - 1), (-1, lane + 1)) if 0 <= other < count]
    ways = []
    for offset in (-0.3 * width, 0.3 * width, -0.5 * width, 0.5 * width, -width, width):
        if not right + margin < offset < left - margin:
            continue
        for held in (speed, FOR_GOOD) if offset in beside else (speed,):  # into a lane of the same direction for good
            for time in swerve_times(abs(offset), speed):
                if begin + 2.2 * speed * time + min(held, speed) < end and (held < FOR_GOOD or end == FOR_GOOD):
                    ways.append((offset, begin, speed * time, held))
    return ways


def swerve_times(offset: float, speed: float) -> list[float]:
    """Returns the quickest time [s] for a sideways move that stays below 3.2 m/s2 and 1.6 rad/s2 of yaw, and a calmer one."""
    # peaks of the quintic: 5.77 offset / T^2 of lateral acceleration, 60 offset / T^3 of its rate = yaw acceleration * speed
    good = [
        t for t in (1.2, 1.5, 1.8, 2.1, 2.4, 2.8, 3.2) if 5.77 * offset < 3.2 * t * t and 60.0 * offset < 1.6 * speed * t * t * t
    ]
    return [good[0], good[0] + 0.9] if good else []
