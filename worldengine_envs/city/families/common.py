"""Common driving: along lanes, behind others, through turns and lights."""

from __future__ import annotations

import numpy as np

from worldengine_envs.city import background
from worldengine_envs.city.contact import FRONT_OVERHANG
from worldengine_envs.city.driving import REAR, RED, YELLOW
from worldengine_envs.city.exact import Draw
from worldengine_envs.city.families.story import begin, finish, follower, human, street_with_lights
from worldengine_envs.city.network import LEFT, LIGHTS, RIGHT, STRAIGHT
from worldengine_envs.city.scene import START, STEP, STEPS, Scene, Unfit, axis
from worldengine_envs.city.streets import Street, lane_path, make_street, speed_table
from worldengine_envs.scenario.types import LightState

ANYWHERE = ("straight", "straight", "curved", "crossing", "four_way", "t_junction", "narrow", "blocks", "merge", "lane_drop")


def room_behind(street: Street, speed: float) -> float:
    """Returns how far from the beginning of the main road the ego has to start [m] to have a road before the start."""
    return 0.0 if street.main else speed * START * STEP


def lane_follow(draw: Draw, difficulty: float) -> Scene:
    """Drives along a lane, perhaps with a car far ahead."""
    street = make_street(draw.choice(ANYWHERE), draw)
    lane = draw.integer(0, len(street.road.forward) - 1)
    speed = street.road.profile.speed_limit * draw.uniform(0.8, 1.0)
    scene = begin(street, draw, lane, room_behind(street, speed) + draw.uniform(10.0, 60.0), speed)
    ego = scene.vehicles[0]
    ego.wander = human(draw)
    if draw.chance(0.4):
        background.add_flow(scene, ego.path, ego.s[0] + 45.0, ego.s[0] + 60.0 + 60.0 * draw.uniform(0, 1), speed * 1.02, (2.0, 5.0))
    follower(scene)
    finish(scene, 0.4 + 0.8 * difficulty, 3.0)
    return scene


def car_following(draw: Draw, difficulty: float) -> Scene:
    """Follows a car whose speed varies, down to a stop where difficult."""
    street = make_street(draw.choice(ANYWHERE), draw)
    lane = draw.integer(0, len(street.road.forward) - 1)
    limit = street.road.profile.speed_limit
    speed = limit * draw.uniform(0.6, 0.95)
    scene = begin(street, draw, lane, room_behind(street, speed) + draw.uniform(10.0, 40.0), speed)
    ego = scene.vehicles[0]
    ego.wander, ego.desired, ego.headway = human(draw), limit, draw.uniform(0.9, 1.6)
    gap = 3.0 + speed * draw.uniform(0.8, 1.5)
    lead = scene.vehicle(ego.path, 0.0, speed, name="lead")
    times, speeds, t, v = [-2.0], [speed], draw.uniform(-1.0, 1.0), speed
    times.append(t)
    speeds.append(v)
    while t < 10.0:
        if len(times) == 2:  # it slows down soon: going on as before should seldom do
            wanted, change = speed * draw.uniform(0.0, 0.6 - 0.4 * difficulty), draw.uniform(1.8, 2.4 + difficulty)
        else:
            wanted, change = draw.uniform(limit * max(0.0, 0.8 - 1.1 * difficulty), limit), draw.uniform(0.8, 1.4 + difficulty)
        t += abs(wanted - v) / change + 0.3
        times += [t, t + draw.uniform(0.5, 2.5)]
        speeds += [wanted, wanted]
        t, v = times[-1], wanted
    rear = ego.s[0] + FRONT_OVERHANG + gap  # of the lead at step 0
    scene.script(lead, times, speeds, 0.0)
    lead.s += rear + REAR * lead.size[0] - lead.s[0]
    table = scene.tables[ego.path]
    if np.any(lead.v > 1.2 * table[np.clip(lead.s, 0, len(table) - 1).astype(np.int64)]):
        raise Unfit("the lead would take a bend too fast")
    scene.vehicles.append(lead)
    follower(scene)
    finish(scene, 0.4 + 0.8 * difficulty, 3.0)
    return scene


def turn(draw: Draw, difficulty: float) -> Scene:
    """Turns left or right at a junction; to the left the oncoming traffic mostly has red, else the ego finds a gap."""
    street = make_street(draw.choice(("crossing", "crossing", "four_way", "t_junction")), draw)
    junction = street.junctions[street.main]
    ways = [movement for movement in (LEFT, RIGHT) if junction.towards(street.road, movement)]
    movement = draw.choice(ways)
    lane = 0 if movement == LEFT else len(street.road.forward) - 1
    movements = (STRAIGHT,) * street.main + (movement,)
    away = draw.uniform(3.0, 45.0)  # from the start to the stop line
    path = lane_path(street.network, street.corridor[0].forward[lane], movements)
    s, table = path.starts[2 * street.main + 1] - away, speed_table(path.line)
    speed = street.road.profile.speed_limit * draw.uniform(0.7, 0.95)
    speed = min(speed, float(table[int(s - 1.5 * table[int(s)])]))  # drivers slow down well before they turn
    scene = begin(street, draw, lane, street.road.line.length - away, speed, movements)
    ego = scene.vehicles[0]
    ego.desired = street.road.profile.speed_limit
    ego.wander = human(draw)
    skip = []
    if movement == LEFT and junction.kind == LIGHTS and draw.chance(0.6):  # the oncoming traffic waits
        oncoming = junction.towards(street.road, STRAIGHT)
        scene.lights[oncoming.group] = RED
        skip.append(oncoming.group)
    if not draw.chance(0.5 * difficulty):  # else people may cross the street into which the ego turns
        skip.append(junction.towards(street.road, movement).group)
    follower(scene)
    finish(scene, 0.4 + 0.6 * difficulty, 4.0, tuple(skip))
    return scene


def stop_at_light(draw: Draw, difficulty: float) -> Scene:
    """Comes to a light that is or turns red; it may turn green again later."""
    street = street_with_lights(draw)
    junction = street.junctions[street.main]
    lane = draw.integer(0, len(street.road.forward) - 1)
    speed = street.road.profile.speed_limit * draw.uniform(0.75, 1.0)
    braking = speed * speed / (2.0 * (1.4 + 0.8 * difficulty))
    away = 5.0 + braking + speed * draw.uniform(0.5, 2.5)
    scene = begin(street, draw, lane, street.road.line.length - away, speed)
    ego = scene.vehicles[0]
    ego.wander = human(draw)
    main, side = axis(junction), [arm.group for arm in junction.arms if arm.group not in axis(junction)]
    turns_red = START + draw.integer(-40, 5)
    scene.lights[main] = LightState.GREEN
    scene.lights[main, max(0, turns_red - 30) :] = YELLOW
    scene.lights[main, max(0, turns_red) :] = RED
    if turns_red + 15 < STEPS:
        scene.lights[side, max(0, turns_red + 15) :] = LightState.GREEN
    if draw.chance(0.35):  # back to green after a while
        again = START + draw.integer(50, 80)
        scene.lights[side, max(0, turns_red + 15) : again - 45] = LightState.GREEN
        scene.lights[side, max(turns_red + 15, again - 45) : again - 15] = YELLOW
        scene.lights[side, again - 15 :] = RED
        scene.lights[main, again:] = LightState.GREEN
    if draw.chance(0.5):
        stop = scene.paths[ego.path].starts[2 * street.main + 1]
        background.add_queue(scene, ego.path, stop, draw.integer(1, 2))
    follower(scene)
    finish(scene, 0.4 + 0.8 * difficulty, 4.0, tuple(side))
    if np.min(np.diff(ego.v)) < -0.45:
        raise Unfit("the light turns red too late for the ego")
    return scene
