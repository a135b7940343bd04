"""Rare: danger from vehicles that drive the ego's way."""

from __future__ import annotations

from worldengine_envs.city.contact import FRONT_OVERHANG
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
    lead.s += ego.s[0] + START * STEP * speed + FRONT_OVERHANG + gap + 0.218 * lead.size[0]
    scene.vehicles.append(lead)
    return solve(scene, difficulty)
