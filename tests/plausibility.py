"""Whether the traffic of a finished scenario is plausible, judged from its arrays alone (numpy and shapely)."""

import numpy as np
import shapely

from worldengine_envs.scenario.types import AgentType, LightState, MapLayer

DT = 0.1
GROUND = (MapLayer.ROADBLOCK, MapLayer.INTERSECTION, MapLayer.DRIVABLE_AREA, MapLayer.CARPARK_AREA)
# limits: vehicles, bicycles, pedestrians
MOST_SPEED = {AgentType.VEHICLE: 25.0, AgentType.BICYCLE: 9.0, AgentType.PEDESTRIAN: 4.05}  # [m/s]
MOST_ACCELERATION = {AgentType.VEHICLE: 4.0, AgentType.BICYCLE: 4.0, AgentType.PEDESTRIAN: 4.3}  # [m/s2]
MOST_BRAKING = {AgentType.VEHICLE: 8.3, AgentType.BICYCLE: 5.0, AgentType.PEDESTRIAN: 4.3}
BYSTANDER_BRAKING = 4.5  # of vehicles without a part in the story
MOST_SIDEWAYS = 4.9  # acceleration of what has wheels [m/s2]: half of g
TIGHTEST = {AgentType.VEHICLE: 3.5, AgentType.BICYCLE: 1.5}  # radius [m]


def problems(scenario) -> list[str]:
    """Returns what is not plausible in a scenario, in words; nothing if all is well."""
    found = _overlaps(scenario) + _jumps(scenario) + _lights(scenario) + _places(scenario)
    for kind in MOST_SPEED:
        rows = np.flatnonzero(scenario.tracks.types == kind)
        for row in rows:
            found += _motion(scenario, row, kind)
    return found


def outlines(scenario, k: int, rows=slice(None)) -> np.ndarray:
    """Returns shapely polygons of the boxes of agents (rows,) at step k, None where there is none."""
    state, size = scenario.tracks.state[rows, k], scenario.tracks.size[rows, k]
    along, across = np.array([1, -1, -1, 1]) * size[:, :1] / 2, np.array([1, 1, -1, -1]) * size[:, 1:2] / 2
    cos, sin = np.cos(state[:, 2:3]), np.sin(state[:, 2:3])
    xy = np.stack((state[:, :1] + along * cos - across * sin, state[:, 1:2] + along * sin + across * cos), axis=2)
    shapes = shapely.polygons(xy)
    shapes[~scenario.tracks.valid[rows, k]] = None
    return shapes


def _overlaps(scenario) -> list[str]:
    tokens, found = scenario.tracks.tokens, {}
    for k in [*range(0, scenario.tracks.steps, 5), scenario.start_step]:
        shapes = outlines(scenario, k)
        for i, j in shapely.STRtree(shapes).query(shapes, predicate="intersects").T:
            if i < j:
                found.setdefault((i, j), k)
    return [f"{tokens[i]} touches {tokens[j]} at step {k}" for (i, j), k in found.items()]


def _jumps(scenario) -> list[str]:
    tracks, found = scenario.tracks, []
    both = tracks.valid[:, 1:] & tracks.valid[:, :-1]
    moved = np.diff(tracks.state[:, :, :2], axis=1)
    meant = 0.5 * DT * (tracks.state[:, 1:, 3:] + tracks.state[:, :-1, 3:])
    off = np.where(both, np.hypot(*np.moveaxis(moved - meant, 2, 0)), 0.0)
    for row in np.flatnonzero(off.max(axis=1) > 0.05):
        found.append(f"{tracks.tokens[row]} jumps by {off[row].max():.2f} m at step {off[row].argmax()}")
    for row in np.flatnonzero(~tracks.valid[:, scenario.start_step]):
        found.append(f"{tracks.tokens[row]} is not there at the start")
    for row in np.flatnonzero((np.diff(tracks.valid.astype(int), axis=1) > 0).any(axis=1)):
        found.append(f"{tracks.tokens[row]} appears out of nothing")
    return found


def has_part(token: str) -> bool:
    """Whether an agent belongs to the story of its family."""
    return token.rsplit("_", 1)[0] not in ("car", "parked", "pedestrian", "cyclist")


def _motion(scenario, row: int, kind) -> list[str]:
    tracks, found = scenario.tracks, []
    here = tracks.valid[row]
    state, token = tracks.state[row][here], tracks.tokens[row]
    if len(state) < 3:
        return []

    def above(name: str, values: np.ndarray, limit: float) -> None:
        worst = float(np.max(values))
        if worst > limit:
            found.append(f"{token}: {name} {worst:.2f} is over {limit:.2f} at step {int(np.argmax(values))}")

    velocity = state[:, 3:]
    above("speed", np.hypot(*velocity.T), MOST_SPEED[kind])
    change = np.diff(velocity, axis=0) / DT
    if kind == AgentType.PEDESTRIAN:
        above("acceleration", np.hypot(*change.T), MOST_ACCELERATION[kind])
        return found
    yaw = np.unwrap(state[:, 2])
    cos, sin = np.cos(yaw), np.sin(yaw)
    forward, slip = velocity[:, 0] * cos + velocity[:, 1] * sin, velocity[:, 1] * cos - velocity[:, 0] * sin
    rate = np.diff(yaw) / DT
    speed = 0.5 * (np.abs(forward[1:]) + np.abs(forward[:-1]))
    faster = np.diff(np.abs(forward)) / DT
    above("acceleration", faster, MOST_ACCELERATION[kind])
    calm = kind == AgentType.VEHICLE and not has_part(token)
    above("braking", -faster, BYSTANDER_BRAKING if calm else MOST_BRAKING[kind])
    above("yaw rate beyond speed / radius", np.abs(rate) - speed / TIGHTEST[kind], 0.06)
    above("sideways acceleration", np.abs(rate) * speed, MOST_SIDEWAYS)
    inside = np.abs(slip[1:-1]) - 0.5 * tracks.size[row, np.argmax(here), 0] * np.maximum(np.abs(rate[1:]), np.abs(rate[:-1]))
    above("slip of the wheels", inside, 0.1)
    return found


def _lights(scenario) -> list[str]:
    tracks, lights, m, found = scenario.tracks, scenario.lights, scenario.vector_map, []
    rows = np.flatnonzero((tracks.types == AgentType.VEHICLE) | (tracks.types == AgentType.BICYCLE))
    rows = rows[[not tracks.tokens[row].startswith("runner") for row in rows]]
    state = tracks.state[rows]
    heading = np.stack((np.cos(state[:, :, 2]), np.sin(state[:, :, 2])), axis=2)
    front = state[:, :, :2] + 0.5 * tracks.size[rows, :, :1] * heading
    for lane, colours in zip(lights.lanes, lights.state, strict=True):
        line = m.lane_centerline(lane)
        direction = (line[1] - line[0]) / np.hypot(*(line[1] - line[0]))
        relative = front - line[0]
        along, across = relative @ direction, relative @ np.array([-direction[1], direction[0]])
        crosses = tracks.valid[rows, 1:] & tracks.valid[rows, :-1] & (along[:, :-1] < 0.0) & (along[:, 1:] >= 0.0)
        crosses &= (np.abs(across[:, 1:]) < 1.5) & (heading[:, 1:] @ direction > 0.7) & (colours[1:] == LightState.RED)
        found += [f"{tracks.tokens[rows[i]]} crosses the line of lane {lane} on red" for i in np.flatnonzero(crosses.any(axis=1))]
    return found


def area(scenario, *layers) -> shapely.Geometry:
    """Returns the union of the polygons of these layers, prepared."""
    m = scenario.vector_map
    rows = np.flatnonzero(np.isin(m.polygon_layer, layers))
    union = shapely.union_all([shapely.Polygon(m.polygon(row)) for row in rows], grid_size=1e-3)
    shapely.prepare(union)
    return union


def _places(scenario) -> list[str]:
    tracks, found = scenario.tracks, []
    ground = area(scenario, *GROUND).buffer(0.3)
    shapely.prepare(ground)
    parks = area(scenario, MapLayer.CARPARK_AREA).buffer(0.35)
    shapely.prepare(parks)
    wheels = np.flatnonzero(tracks.types == AgentType.VEHICLE)
    parked = np.array([tracks.tokens[row].startswith("parked") for row in wheels], dtype=bool)
    for k in range(0, tracks.steps, 20):
        shapes = outlines(scenario, k, wheels)
        there = np.array([shape is not None for shape in shapes])
        centres = shapely.centroid(shapes)
        out = there & ~shapely.covers(ground, np.where(parked, centres, shapes))
        found += [f"{tracks.tokens[wheels[i]]} is off the road at step {k}" for i in np.flatnonzero(out)]
        if k == 0:
            astray = there & parked & ~shapely.covers(parks, shapes)
            found += [f"{tracks.tokens[wheels[i]]} parks outside of the strips" for i in np.flatnonzero(astray)]
    return found + _standing(scenario)


def _standing(scenario) -> list[str]:
    """People who stand for over a second on a lane, or walk on one without a part in the story, away from crossings.

    Workers stand in work zones, behind cones.
    """
    tracks, found = scenario.tracks, []
    people = np.flatnonzero(tracks.types == AgentType.PEDESTRIAN)
    people = [row for row in people if not tracks.tokens[row].startswith("worker")]
    lanes, crossings = area(scenario, MapLayer.LANE, MapLayer.LANE_CONNECTOR), area(scenario, MapLayer.CROSSWALK).buffer(0.5)
    shapely.prepare(crossings)
    for row in people:
        at = shapely.points(tracks.state[row, :, :2])
        on_lane = tracks.valid[row] & shapely.contains(lanes, at) & ~shapely.contains(crossings, at)
        still = on_lane & (np.hypot(*tracks.state[row, :, 3:].T) < 0.1)
        if (np.convolve(still, np.ones(11), "valid") == 11).any():
            found.append(f"{tracks.tokens[row]} stands on a lane at step {np.argmax(still)}")
        elif on_lane.any() and not has_part(tracks.tokens[row]):
            found.append(f"{tracks.tokens[row]} walks on a lane at step {np.argmax(on_lane)}")
    return found
