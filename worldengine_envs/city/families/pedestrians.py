"""Rare: people on the road where nobody expects them."""

from __future__ import annotations

import numpy as np

from worldengine_envs.city.exact import Draw, turn_of
from worldengine_envs.city.families.story import KINDS, begin
from worldengine_envs.city.scene import START, STEP, Scene, Unfit, walk
from worldengine_envs.city.solution import room, solve
from worldengine_envs.city.solver import FRONT_OVERHANG
from worldengine_envs.city.streets import make_street


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
    right, left = room(scene)
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
    return solve(scene, difficulty)
