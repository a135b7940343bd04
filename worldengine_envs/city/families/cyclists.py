"""Rare: cyclists who do what the ego has to expect of them."""

from __future__ import annotations

import numpy as np

from worldengine_envs.city.contact import FRONT_OVERHANG
from worldengine_envs.city.exact import Draw, arctan, sin_cos
from worldengine_envs.city.families.people import LATEST, Pace, standing, underway
from worldengine_envs.city.families.story import begin
from worldengine_envs.city.network import PI, RIGHT, STRAIGHT, Arm
from worldengine_envs.city.scene import START, STEP, STEPS, Scene, Unfit, Walker
from worldengine_envs.city.solution import meets, solve
from worldengine_envs.city.streets import LanePath, Street, lane_path, make_street, speed_table
from worldengine_envs.scenario.types import AgentType

KERBSIDE = ("straight", "curved", "crossing", "four_way", "t_junction", "narrow")
JUNCTIONS = (*("crossing", "four_way") * 3, "t_junction")
TIMES = STEP * (np.arange(STEPS) - START)  # [s] from the start
BIKES = ((1.8, 0.6, 1.75), (1.75, 0.55, 1.7), (1.9, 0.65, 1.8))
SIDEWAYS = 2.6  # acceleration of cyclists who swerve [m/s2]
CARS = ((4.5, 1.85, 1.5), (4.2, 1.78, 1.48), (4.8, 1.88, 1.65), (3.9, 1.7, 1.5), (5.4, 2.0, 2.5))


def cyclist_swerve(draw: Draw, difficulty: float) -> Scene:
    """A cyclist at the kerb swerves out in front of the ego: round a parked car, or to the middle to turn off."""
    kind = draw.choice(KERBSIDE)
    parking = {"curved": None, "narrow": "parallel"}.get(kind, draw.choice(("parallel", "parallel", "none")))
    scene = underway(draw, (kind,), parking, outermost=True)
    ego, profile = scene.vehicles[0], scene.street.road.profile
    speed, half = float(ego.v[0]), 0.5 * profile.lane_width
    size, pace = draw.choice(BIKES), draw.uniform(3.4, min(6.0, 0.65 * speed))
    parked = profile.parking_right > 2.0
    if parked:  # in the strip, free up to the next parked car
        car = draw.choice(CARS)
        kerbside = -half - draw.uniform(0.35, 0.8)
        target = -half - 0.5 * (profile.parking_right - car[1]) + 0.5 * size[1] + draw.uniform(0.55, 1.0)
    else:
        kerbside = -min(half + 0.5, half + profile.shoulder - 0.45)
        target = draw.uniform(-0.9, 1.2)
    across = target - kerbside
    lasts = max(draw.uniform(1.3, 2.2), float(np.sqrt(5.8 * across / SIDEWAYS)))
    # the front of the ego reaches the rear wheel so long after the cyclist begins to swerve
    lead = 0.1 + 0.6 * lasts + 1.5 * (1.0 - difficulty) + draw.uniform(-0.1, 0.2)
    contact = STEP * round(min(max(lead + draw.uniform(-0.2, 0.6), 2.0), LATEST) / STEP)
    at_contact = float(ego.s[0]) + (START * STEP + contact) * speed + FRONT_OVERHANG - 0.3 + 0.5 * size[0]
    begins, far = at_contact - pace * lead, pace * lasts
    moves = [(kerbside, -1e3, 1.0), (across, begins, far)]
    if parked:
        rear = begins + far + draw.uniform(0.2, 2.0)
        side = -half - 0.5 * profile.parking_right
        scene.walkers.append(standing(scene, rear + 0.5 * car[0], side, car, "obstacle"))
        if draw.chance(0.6):
            moves.append((-across, rear + car[0] + draw.uniform(1.0, 3.0), 1.2 * far))
    scene.walkers.append(_rides(scene, at_contact + pace * (TIMES - contact), moves, size))
    return solve(scene, difficulty)


def _rides(scene: Scene, s: np.ndarray, moves: list[tuple[float, float, float]], size) -> Walker:
    """Returns a cyclist at arclengths s (steps,) [m] of the ego's path, moved to the left as told (see ``Vehicle.lateral``)."""
    x, y, yaw, curvature = scene.paths[scene.vehicles[0].path].line.at(s)
    left, slope = moved(s, moves)
    sine, cosine = sin_cos(yaw)
    heading = yaw + arctan(slope / (1.0 - curvature * left))
    return Walker(np.stack((x - left * sine, y + left * cosine), axis=1), heading, size, AgentType.BICYCLE, "rider")


def moved(s: np.ndarray, moves: list[tuple[float, float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns offset [m] and slope at arclengths s [m] after quintic moves: (metres, from arclength, over metres)."""
    offset, slope = np.zeros(len(s)), np.zeros(len(s))
    for metres, since, over in moves:
        u = np.clip((s - since) / over, 0.0, 1.0)
        offset += metres * (u * u * u * (10.0 + u * (6.0 * u - 15.0)))
        slope += metres / over * (30.0 * u * u * (1.0 - u) * (1.0 - u))
    return offset, slope


def cyclist_at_turn(draw: Draw, difficulty: float) -> Scene:
    """A cyclist beside or against the ego's way rides on over the mouth of the side street into which the ego is turning right."""
    street = make_street(draw.choice(JUNCTIONS), draw)
    arm = street.junctions[street.main].towards(street.road, RIGHT)
    if arm is None:
        raise Unfit("there is no street on the right")
    ways, lane = (*(STRAIGHT,) * street.main, RIGHT), len(street.road.forward) - 1
    path = lane_path(street.network, street.corridor[0].forward[lane], ways)
    begins, end = path.starts[2 * street.main + 1 : 2 * street.main + 3]
    outward = draw.uniform(-3.2, -0.9)  # of the cyclist's way: on the crosswalk before the mouth of the arm
    left, meeting, turned = _front_comes(path, arm, outward - 0.2, begins, end)
    speed = min(draw.uniform(4.8, 6.2), 1.25 * float(np.min(speed_table(path.line)[int(begins) : int(end)])))
    time = 1.4 + 0.5 * (1.0 - difficulty) + draw.uniform(0.0, 0.2)  # from the start to the meeting
    time = max(min(time, (meeting - turned) / speed), 1.35)
    scene = begin(street, draw, lane, meeting - speed * time - path.starts[2 * street.main], speed, ways)
    scene.vehicles[0].desired = street.road.profile.speed_limit * draw.uniform(0.75, 1.0)
    lead = draw.uniform(0.9, 1.5) - 1.75 * difficulty  # of the cyclist, when both are there
    pace = draw.uniform(2.2, 3.2) + 2.8 * difficulty
    gone = pace * (TIMES - time)
    if draw.chance(0.6):  # has set out a moment ago, still getting faster
        motion = Pace.of([(90.0, pace + 1.0, 0.0)], draw.uniform(1.2, 2.2))
        before = draw.uniform(1.8, 2.6) + 3.0 * (1.0 - difficulty)  # [m] up to there
        gone = motion.at(TIMES - time + motion.time(before)) - before
    scene.walkers.append(_over_mouth(street, arm, outward, left, lead + gone, pace + 1.0, draw))
    if not meets(scene, speed, scene.vehicles[0].desired):
        raise Unfit("the cyclist does not meet the ego")
    return solve(scene, difficulty, react=STEP)


def _front_comes(path: LanePath, arm: Arm, outward: float, begins: float, end: float) -> tuple[float, float, float]:
    """Returns where the front of an ego that turns into an arm comes ``outward`` [m] out of the junction.

    Args:
        path: Of the ego, which turns from ``begins`` to ``end`` [m].
        arm: Into which it turns.
        outward: See above.
        begins, end: See above.

    Returns:
        Offset to the left of the arm [m], arclength of the rear axle then, and arclength where it has turned by 0.36 rad [m].
    """
    s = begins + 0.1 * np.arange(int(10.0 * (end - begins)))
    x, y, yaw, _ = path.line.at(s)
    sine, cosine = sin_cos(yaw)
    dx, dy = x + FRONT_OVERHANG * cosine - arm.pose[0], y + FRONT_OVERHANG * sine - arm.pose[1]
    k = int(np.searchsorted(dx * arm.turn[1] + dy * arm.turn[0], outward))
    if not 0 < k < len(s):
        raise Unfit("the ego's front does not come over the crosswalk")
    return float(dy[k] * arm.turn[1] - dx[k] * arm.turn[0]), float(s[k]), float(s[np.searchsorted(yaw[0] - yaw, 0.36)])


def _over_mouth(street: Street, arm: Arm, outward: float, left: float, gone: np.ndarray, fastest: float, draw: Draw) -> Walker:
    """Returns a cyclist who comes along the main road's pavement and crosses the mouth of an arm.

    Args:
        street: Where.
        arm: Its mouth is crossed.
        outward: Of the way over it [m].
        left: Where the ego's path crosses that [m to the left of the arm].
        gone: (steps,) way past that point [m].
        fastest: [m/s].
        draw: Random numbers.
    """
    way = draw.choice((1.0, 1.0, -1.0))  # 1: the way that the ego has come
    along = way * left + gone  # [m] across the mouth, in the cyclist's direction
    line = street.road.line  # comes from beside the main road, and goes back there
    beside = (arm.pose[0] - line.x[-1]) * line.sine[-1] - (arm.pose[1] - line.y[-1]) * line.cosine[-1]
    shift = float(beside) + street.road.profile.right_kerb - 1.2 + outward  # from the pavement's middle to the crosswalk
    over = max(10.0, fastest * float(np.sqrt(5.8 * max(shift, 0.0) / 3.0)))
    right_kerb, left_kerb = arm.kerbs
    first, last = (right_kerb, left_kerb) if way > 0.0 else (-left_kerb, -right_kerb)
    side, slope = moved(along, [(shift, first - over, over), (-shift, last, over)])
    x, y = arm.point(outward - shift + side, way * along)
    heading = arm.pose[2] + way * (0.5 * PI - arctan(slope))
    return Walker(np.stack((x, y), axis=1), heading, draw.choice(BIKES), AgentType.BICYCLE, "rider")
