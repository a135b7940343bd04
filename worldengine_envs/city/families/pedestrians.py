"""Rare: people on the road where nobody expects them."""

from __future__ import annotations

import numpy as np

from worldengine_envs.city.exact import Draw
from worldengine_envs.city.families.people import (
    CORRIDOR,
    Moment,
    Pace,
    Place,
    adult,
    child,
    moment,
    on_foot,
    pace_for,
    places,
    spot,
    standing,
    underway,
)
from worldengine_envs.city.scene import Scene, Walker
from worldengine_envs.city.solution import room, solve

ROADS = ("straight", "curved", "crossing", "four_way", "t_junction", "narrow", "blocks")
PARKED = ("straight", "crossing", "four_way", "t_junction", "narrow", "blocks")
VANS = ((5.4, 2.0, 2.5), (5.9, 2.05, 2.6), (4.8, 1.9, 1.9), (5.1, 1.95, 1.8), (4.6, 1.88, 1.66))  # too high to look over
CARS = ((4.5, 1.85, 1.5), (4.2, 1.78, 1.48), (4.8, 1.88, 1.65), (3.9, 1.7, 1.5))
WALKING = (0.8, 2.7)  # paces of grown-ups [m/s]


def jaywalker(draw: Draw, difficulty: float) -> Scene:
    """A pedestrian walks or runs across the road, away from any crossing; some hesitate between the lanes or before the ego."""
    scene = underway(draw, ROADS)
    when = moment(scene, difficulty)
    side = draw.choice((-1.0, 1.0))  # comes from the right or from the left
    target, pace = _meeting(draw, when, side, difficulty, WALKING)
    begins, pace = _place_to_pause(scene, side, target, when.notice, pace)
    begins, approach = _from_off_lanes(scene, side, begins)
    drift = draw.uniform(-0.25, 0.25)
    stop = _hesitation(draw, difficulty)
    scene.walkers.append(_crosses(scene, when, (begins, target), approach, pace, stop, adult(draw), "jaywalker", drift))
    return solve(scene, difficulty)


def occluded_pedestrian(draw: Draw, difficulty: float) -> Scene:
    """Somebody walks onto the road from behind a van or car: parked, stopped in the next lane, or waiting the other way."""
    scene = underway(draw, ROADS, draw.choice((None, "parallel")))
    when = moment(scene, difficulty)
    cover = draw.choice(places(scene))
    side, size = cover.side, draw.choice(VANS)
    target, pace = _meeting(draw, when, side, difficulty, WALKING)
    hidden = abs(cover.left) - 0.5 * size[1] + draw.uniform(0.1, 0.6)  # behind the corner of what hides them
    far = abs(cover.left) + 0.5 * size[1] + draw.uniform(0.4, 1.2)
    begins = side * min(max(side * target + way_of(pace, when.notice, 2.5), hidden), far)
    begins, approach = _from_off_lanes(scene, side, begins)
    drift, stop = draw.uniform(-0.12, 0.12), _hesitation(draw, difficulty)
    scene.walkers.append(_crosses(scene, when, (begins, target), approach, pace, stop, adult(draw), "walker", drift, 2.5))
    _park(scene, when.s - draw.uniform(0.65, 1.2), cover, size, "occluder", target, drift)
    if draw.chance(0.6):  # another one beyond, so that they come through between two
        _park(scene, when.s + draw.uniform(0.65, 1.5), cover, draw.choice(CARS), "beyond", target, drift)
    return solve(scene, difficulty)


def child_between_cars(draw: Draw, difficulty: float) -> Scene:
    """A child walks or runs out between two parked cars, or a driver who has got out of a parked car crosses the road."""
    scene = underway(draw, PARKED, "parallel", outermost=True)
    when = moment(scene, difficulty)
    cover = draw.choice([place for place in places(scene) if place.parked])
    if draw.chance(0.3):
        _driver_gets_out(scene, when, cover, difficulty)
    else:
        _child_runs(scene, when, cover, difficulty)
    return solve(scene, difficulty)


def _child_runs(scene: Scene, when: Moment, cover: Place, difficulty: float) -> None:
    """Adds a child who comes from the pavement, or from where it stands between the cars, to the other side."""
    draw, side = scene.draw, cover.side
    size, runner = draw.choice((*VANS, *CARS)), child(draw)
    running = draw.uniform(1.2, 1.6) + 1.7 * difficulty
    stop = draw.uniform(0.4, 0.8) if draw.chance(0.6 * difficulty) else 0.0  # of fright
    target, pace = _meeting(draw, when, side, difficulty, (running, running))
    hidden = abs(cover.left) - 0.5 * size[1] + 0.35
    far = abs(room(scene)[0 if side < 0.0 else 1]) + scene.street.road.profile.pavement - 0.5
    begins = side * min(max(side * target + way_of(pace, when.notice, 3.5), hidden), max(far, hidden))
    drift = draw.uniform(-0.1, 0.1)
    scene.walkers.append(_crosses(scene, when, (begins, target), [], pace, stop, runner, "child", drift, 3.5))
    _park(scene, when.s - draw.uniform(0.55, 1.2), cover, size, "occluder", target, drift)
    _park(scene, when.s + draw.uniform(0.55, 1.2), cover, draw.choice(CARS), "beyond", target, drift)


def _driver_gets_out(scene: Scene, when: Moment, cover: Place, difficulty: float) -> None:
    """Adds somebody who stands at the door of a car, on the side of the traffic, and then crosses the road."""
    draw, side = scene.draw, cover.side
    person = (draw.uniform(0.45, 0.52), *adult(draw)[1:])
    target, _ = _meeting(draw, when, side, difficulty, WALKING)
    room_beside = cover.width + 0.6 * scene.street.road.profile.shoulder
    size = draw.choice([car for car in CARS if car[1] < room_beside - 0.53] or [min(CARS, key=lambda car: car[1])])
    at = abs(cover.left) - 0.5 * cover.width + room_beside - 0.5 * size[1]  # close to the kerb
    begins = side * (at - 0.5 * size[1] - 0.22 - 0.5 * person[0])
    pace = min(max(pace_for(abs(begins - target), when.notice, 2.0), WALKING[0]), WALKING[1])
    scene.walkers.append(_crosses(scene, when, (begins, target), [], pace, 0.0, person, "driver"))
    scene.walkers.append(standing(scene, when.s - draw.uniform(-0.3, 1.0), side * at, size, "own", cover.turned))


def way_of(pace: float, time: float, acceleration: float) -> float:
    """Returns the way [m] covered in a time [s] by somebody who sets out for a pace [m/s]."""
    return pace * max(time - pace / (2.0 * acceleration), 0.5 * time)


def _meeting(draw: Draw, when: Moment, side: float, difficulty: float, paces: tuple[float, float]) -> tuple[float, float]:
    """Returns where across the ego's front they meet [m to the left] and how fast they go then, by how long they are in the way.

    Where it is easy they are nearly across by then, so that it helps to slow down a little.
    """
    pace = min(max(draw.uniform(1.3, 2.7) / when.warning, paces[0]), paces[1])
    return side * max(CORRIDOR - pace * when.warning, difficulty - 1.0), pace


def _hesitation(draw: Draw, difficulty: float) -> float:
    """Returns how long somebody stops in front of the ego [s]; most do not."""
    return draw.uniform(0.3, 0.7) if draw.chance(0.1 + 0.2 * difficulty) else 0.0


def _off_lanes(scene: Scene, side: float) -> tuple[float, float, int]:
    """Returns where people may stand beside the lanes: from, to [m from the ego's path], and how many lanes lie between."""
    profile, lane = scene.street.road.profile, scene.lane
    lanes = (profile.forward - 1 - lane) if side < 0.0 else lane + profile.backward
    return (0.5 + lanes) * profile.lane_width + 0.4, abs(room(scene)[0 if side < 0.0 else 1]) + profile.pavement - 0.5, lanes


def _place_to_pause(scene: Scene, side: float, target: float, notice: float, pace: float) -> tuple[float, float]:
    """Returns a place [m to the left] from where people set out to cross the ego's lane, and their pace from there on.

    It is a line between lanes or a place off the lanes, from where they come to the target in about the time that is wished.
    """
    edge, farthest, lanes = _off_lanes(scene, side)
    off_lanes = min(max(side * target + way_of(pace, notice, 2.0), edge), farthest)
    width = scene.street.road.profile.lane_width
    pauses = [side * place for place in (*((0.5 + k) * width + 0.3 for k in range(lanes)), off_lanes)]
    paces = [min(max(pace_for(abs(place - target), notice, 2.0), WALKING[0]), WALKING[1]) for place in pauses]
    times = [abs(place - target) / pace + 0.25 * pace for place, pace in zip(pauses, paces, strict=True)]
    best = min(range(len(pauses)), key=lambda k: abs(times[k] - notice) + abs(paces[k] - pace))
    return pauses[best], paces[best]


def _from_off_lanes(scene: Scene, side: float, place: float) -> tuple[float, list[tuple[float, float, float]]]:
    """Returns where people stand who set out from a place [m to the left], and the stages up to there: nobody stands on a lane,
    but they may come up to there and look."""
    draw, (edge, farthest, _) = scene.draw, _off_lanes(scene, side)
    if side * place < edge:
        begins = min(edge + draw.uniform(0.0, 1.0), farthest)
    elif draw.chance(0.4):
        begins = min(side * place + draw.uniform(0.6, 1.5), farthest)
    else:
        return place, []
    way = begins - side * place
    return (side * begins, [(way, draw.uniform(1.0, 1.5), draw.uniform(0.2, 0.7))]) if way > 0.2 else (place, [])


def _crosses(
    scene: Scene,
    when: Moment,
    across: tuple[float, float],
    approach: list[tuple[float, float, float]],
    pace: float,
    stop: float,
    size: tuple[float, float, float],
    name: str,
    drift: float = 0.0,
    acceleration: float = 2.0,
) -> Walker:
    """Returns somebody who crosses the ego's path and meets its front at the moment of contact.

    Args:
        scene: Where.
        when: The moment.
        across: Where they begin, and where they meet the ego [m to the left of the ego's path].
        approach: Stages before they set out for the meeting, see ``Pace``.
        pace: After those [m/s].
        stop: How long they stand where they meet [s].
        size: [m].
        name: Of the actor.
        drift: Way along the road for each metre to the left.
        acceleration: [m/s2].
    """
    at, (begins, target), kerbs = spot(scene, when.s), across, room(scene)
    ends = kerbs[0] - 0.8 if begins > target else kerbs[1] + 0.8
    start, end = (at.point(left, drift * (left - target)) for left in (begins, ends))
    stretch = float(np.sqrt(1.0 + drift * drift))
    reach, length = abs(begins - target), abs(begins - ends)
    first = reach - sum(stage[0] for stage in approach)
    stages = (
        [*approach, (first, pace, stop), (length - reach, pace, 0.0)] if stop else [*approach, (length - reach + first, pace, 0.0)]
    )
    stages = [(stretch * way, speed, pause) for way, speed, pause in stages]
    return on_foot(start, end, Pace.of(stages, acceleration), stretch * reach, when.contact, size, name)


def _park(scene: Scene, nearest: float, cover: Place, size, name: str, target: float, drift: float) -> None:
    """Adds a vehicle that stands before or beyond those who cross, with its near end at arclength ``nearest`` [m] there."""
    band = [drift * (cover.left + e * (0.5 * size[1] + 0.3) - target) for e in (-1.0, 1.0)]
    ahead = -0.5 * size[0] + min(band) if name == "occluder" else 0.5 * size[0] + max(band)
    scene.walkers.append(standing(scene, nearest + ahead, cover.left, size, name, cover.turned + scene.draw.uniform(-0.02, 0.02)))
