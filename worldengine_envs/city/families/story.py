"""What families begin and end with: the ego on its street, and life around it."""

from __future__ import annotations

from worldengine_envs.city import background
from worldengine_envs.city.exact import Draw
from worldengine_envs.city.network import LIGHTS
from worldengine_envs.city.scene import EGO_SIZE, START, STEP, Scene
from worldengine_envs.city.streets import LanePath, Street, lane_path, make_street

KINDS = ("straight", "curved", "crossing")


def street_with_lights(draw: Draw) -> Street:
    """Returns a street whose main road leads to a junction with traffic lights."""
    street = make_street(draw.choice(("crossing", "crossing", "t_junction", "blocks")), draw)
    return street if street.junctions[street.main].kind == LIGHTS else make_street("crossing", draw)


def begin(street: Street, draw: Draw, lane: int, s: float, speed: float, movements: tuple[str, ...] = ()) -> Scene:
    """Returns a scene with the ego on a lane of the corridor.

    Args:
        street: Where.
        draw: Random numbers.
        lane: Lane of the corridor, 0 = innermost.
        s: Arclength on the main road at which the ego starts (step 15) if it keeps its speed [m].
        speed: [m/s].
        movements: Turns at the junctions after the corridor's first road.
    """
    scene = Scene(street, draw)
    path = scene.add_path(lane_path(street.network, street.corridor[0].forward[lane], movements))
    scene.lane = lane
    s += path_start(scene, path)
    ego = scene.vehicle(path, s - speed * START * STEP, speed, EGO_SIZE, desired=speed, name="ego")
    scene.vehicles.append(ego)
    return scene


def begin_on(street: Street, draw: Draw, path: LanePath, s: float, speed: float) -> Scene:
    """Returns a scene with the ego on any path, at arclength s [m] at the start (step 15) if it keeps its speed [m/s]."""
    scene = Scene(street, draw)
    row = scene.add_path(path)
    scene.vehicles.append(scene.vehicle(row, s - speed * START * STEP, speed, EGO_SIZE, desired=speed, name="ego"))
    return scene


def path_start(scene: Scene, path: int) -> float:
    """Arclength at which the main road begins on a corridor path [m]."""
    return scene.paths[path].starts[2 * scene.street.main]


def human(draw: Draw) -> tuple[tuple[float, float, float], ...]:
    """Waves about the lane's centre, as drivers make them: up to 0.25 m over tens of metres."""
    return tuple((draw.uniform(0.02, 0.12), draw.uniform(50.0, 160.0), draw.uniform(0.0, 6.28)) for _ in range(2))


def finish(scene: Scene, density: float, people: float, skip: tuple[int, ...] = ()) -> None:
    """Adds parked cars, people and traffic, drives what is not scripted, and takes out what touches."""
    draw = scene.draw
    background.add_parked(scene, draw.uniform(0.2, 0.8))
    background.add_pavements(scene, people)
    background.add_crossers(scene, 0.5, skip)
    background.add_traffic(scene, scene.vehicles[0].path, density)
    scene.drive()
    scene.prune()


def follower(scene: Scene) -> None:
    """Perhaps adds a car behind the ego in its lane."""
    ego, draw = scene.vehicles[0], scene.draw
    if draw.chance(0.5):
        v = float(ego.v[0])
        s = float(ego.s[0]) - 6.0 - v * draw.uniform(1.2, 2.5)
        if s > 2.0:
            scene.vehicles.append(scene.vehicle(ego.path, s, v, desired=v * 1.05, headway=draw.uniform(1.1, 1.7)))
