"""Common manoeuvres: through a roundabout, into the lane beside."""

from __future__ import annotations

from worldengine_envs.city.contact import FRONT_OVERHANG
from worldengine_envs.city.driving import REAR
from worldengine_envs.city.exact import Draw
from worldengine_envs.city.families.story import begin, finish, follower, human
from worldengine_envs.city.network import STRAIGHT
from worldengine_envs.city.scene import START, STEP, Scene
from worldengine_envs.city.streets import Street, lane_path, make_street, speed_table

LONG_AGO = 5000.0  # metres before the start of a path: a sideways move that is over


def roundabout(draw: Draw, difficulty: float) -> Scene:
    """Comes to a roundabout, lets those on it pass, and leaves it by one of its exits."""
    street = make_street("roundabout", draw)
    lane = street.road.forward[0]
    movement = draw.choice(tuple(street.network.through[lane]))
    movements = (STRAIGHT,) * street.main + (movement,)
    path = lane_path(street.network, street.corridor[0].forward[0], movements)
    away = draw.uniform(-4.0, 28.0)  # from the start to the mouth of the roundabout [m]
    s, table = path.starts[2 * street.main + 1] - away, speed_table(path.line)
    limit = street.road.profile.speed_limit
    speed = min(limit * draw.uniform(0.7, 0.95), 0.9 * float(table[int(s - 1.5 * table[int(s)])]))
    scene = begin(street, draw, 0, street.road.line.length - away, speed, movements)
    ego = scene.vehicles[0]
    ego.desired, ego.headway, ego.wander = limit, draw.uniform(1.1, 1.7), human(draw)
    _circle(scene, difficulty)
    follower(scene)
    finish(scene, 0.4 + 0.6 * difficulty, 3.0)
    return scene


def _circle(scene: Scene, difficulty: float) -> None:
    """Adds cars that come to the roundabout by the other arms, or are on it already."""
    street, draw = scene.street, scene.draw
    network = street.network
    for arm in street.junctions[street.main].arms:
        (lane,) = arm.lanes_in
        if arm.road is street.road:
            continue
        mouth, s = network.lanes[lane].length, draw.uniform(5.0, 25.0)
        while s > -45.0:
            if draw.chance(0.25 + 0.6 * difficulty):
                path = scene.add_path(lane_path(network, lane, (draw.choice(tuple(network.through[lane])),)))
                table = scene.tables[path]
                v = min(9.0, float(table[int(mouth + s)])) * draw.uniform(0.7, 0.95)
                scene.vehicles.append(scene.vehicle(path, mouth + s, v, desired=draw.uniform(8.0, 11.0)))
            s -= draw.uniform(14.0, 30.0)


def lane_change(draw: Draw, difficulty: float) -> Scene:
    """Moves over into the lane beside: away from a slow car, off a lane that ends, or from an acceleration lane onto the road."""
    kind = draw.choice(("straight", "curved", "crossing", "lane_drop", "merge"))
    street = make_street(kind, draw, lanes=draw.choice((1, 2, 2)) if kind in ("lane_drop", "merge") else draw.choice((2, 2, 3)))
    ends = kind in ("lane_drop", "merge")  # the lane that the ego is on
    count = len(street.corridor[-1].forward)
    lane = count - 1 if ends else draw.integer(0, count - 1)
    side = 1.0 if ends else draw.choice([d for d in (1.0, -1.0) if 0 <= lane + d < count])  # moves to the left
    speed = street.road.profile.speed_limit * draw.uniform(0.8, 1.0)
    lasts = draw.uniform(3.4, 4.6) - 0.4 * difficulty  # [s]
    begins = draw.uniform(-0.8, 0.3)  # [s] after the start
    clear = begins + 0.8 * lasts + draw.uniform(0.5, 1.0) - 0.4 * difficulty  # [s] after the start; then the lane is blocked
    scene = begin(street, draw, lane, _start(street, draw, speed * clear), speed)
    ego, width = scene.vehicles[0], street.road.profile.lane_width
    ego.desired, ego.wander = street.road.profile.speed_limit, human(draw)
    at = float(ego.s[0]) + START * STEP * speed  # at the start
    ego.lateral = ((-side * width, -LONG_AGO, 1.0), (side * width, at + begins * speed, lasts * speed))
    if not ends:
        _slow_car(scene, lane + int(side), at, clear, difficulty)
    _gap(scene, difficulty)
    finish(scene, 0.3 + 0.6 * difficulty, 3.0)
    return scene


def _start(street: Street, draw: Draw, way: float) -> float:
    """Returns where on the main road the ego starts [m], if it has this way until a kerb comes into its first lane."""
    if street.kind not in ("lane_drop", "merge"):
        return draw.uniform(10.0, 50.0)
    path = lane_path(street.network, street.corridor[0].forward[-1])
    i = 2 if street.kind == "lane_drop" else 4  # row of the road after the lane's end
    end, after = (path.starts[k] for k in (i - 1, i))
    return end + 0.45 * (after - end) - 4.0 - way


def _slow_car(scene: Scene, lane: int, at: float, contact: float, difficulty: float) -> None:
    """Adds a slow car in the ego's first lane, which the ego would meet ``contact`` seconds after the start."""
    draw, street, ego = scene.draw, scene.street, scene.vehicles[0]
    speed = float(ego.v[0])
    slow = speed * (draw.uniform(0.45, 0.7) - 0.25 * difficulty)
    path = scene.add_path(lane_path(street.network, street.corridor[0].forward[lane]))
    lead = scene.vehicle(path, 0.0, slow, name="lead")
    across = scene.paths[path].starts[2 * street.main] - scene.paths[ego.path].starts[2 * street.main]
    scene.script(lead, [-2.0, 12.0], [slow, slow], at + across + FRONT_OVERHANG + (speed - slow) * contact + REAR * lead.size[0])
    scene.vehicles.append(lead)


def _gap(scene: Scene, difficulty: float) -> None:
    """Adds cars before and behind the gap into which the ego moves."""
    draw, ego = scene.draw, scene.vehicles[0]
    s, v = float(ego.s[0]), float(ego.v[0])
    if draw.chance(0.7):
        ahead = s + 10.0 + v * (draw.uniform(1.2, 2.4) - 0.5 * difficulty)
        scene.vehicles.append(scene.vehicle(ego.path, ahead, v * draw.uniform(0.92, 1.05), desired=ego.desired))
    behind = s - 6.0 - v * (draw.uniform(1.2, 2.4) - 0.5 * difficulty)
    if behind > 2.0 and draw.chance(0.7):
        scene.vehicles.append(scene.vehicle(ego.path, behind, v * draw.uniform(0.95, 1.05), desired=ego.desired))
