"""Where traffic lights stand."""

from __future__ import annotations

import numpy as np

from worldengine_envs.city.surfaces import fields
from worldengine_envs.city.surfaces.ground import Road, camera_path, make_road
from worldengine_envs.city.surfaces.textures import sample
from worldengine_envs.city.surfaces.types import Ground
from worldengine_envs.scenario.types import Scenario
from worldengine_envs.simulation.kernels import kernel

FROM_PATH = 110.0  # lights farther from where cameras will be are left out [m]
EYE_BACK = 5.0  # from the stop line back to the camera of who waits at it [m]
NEAREST, FARTHEST = 2.0, 60.0  # from the stop line, where a light may stand [m]
WIDEST = 0.42  # tangent of the angle at which who waits at the line sees the light, at most
APART = 0.9  # between lights [m]
CLEAR = 0.3  # around tracks, where no light stands [m]
LEFT_HAND = "left_hand"  # tag of scenarios with left-hand traffic


@kernel
def _is_free(road, taken, others, x, y):
    """Returns whether a place lies on no cell that is taken (rows, columns), and APART from others (lights, 2 or more) x, y [m]."""
    j, i = int(np.floor((x - road.origin[0]) / road.cell)), int(np.floor((y - road.origin[1]) / road.cell))
    if taken[i, j]:
        return False
    for k in range(len(others)):
        dx, dy = x - others[k, 0], y - others[k, 1]
        if dx * dx + dy * dy < APART * APART:  # never for a row of NaN
            return False
    return True


@kernel
def _find_place(road, taken, others, x, y, cos, sin, right, place):
    """Finds the free place off the road ahead of a stop line that is seen best from it; returns whether there is one.

    Args:
        road: ``Road``.
        taken, others: See ``_is_free``.
        x, y, cos, sin: The stop line's middle [m] and the direction of the traffic.
        right: 1 where lights stand on the right side, -1 where on the left.
        place: (2,) is set to x, y [m].
    """
    best = np.inf
    ahead = NEAREST
    while ahead < FARTHEST:
        reach = WIDEST * (ahead + EYE_BACK)
        aside = -min(reach, 16.0)
        while aside <= min(reach, 16.0):
            px, py = x + ahead * cos + right * aside * sin, y + ahead * sin - right * aside * cos
            distance = sample(road.edge, road, px, py, 0.0)
            cost = ahead + 0.8 * abs(aside) + (6.0 if aside < 0.0 else 0.0) + 2.0 * abs(distance - 0.8)
            if 0.45 < distance < 3.0 and cost < best and _is_free(road, taken, others, px, py):
                best = cost
                place[0], place[1] = px, py
            aside += 0.5
        ahead += 0.5
    return best < np.inf


def signal_places(scenario: Scenario, ground: Road | Ground | None = None) -> np.ndarray:
    """Returns (lights, 3) x, y [m] of the foot of each light's pole and the yaw [rad] in which it looks.

    A light stands off the road beyond the stop line, mostly at the far side of the junction, where who waits at the line sees it.
    Lights of one approach that always show the same share one: the rows of the others are NaN, as are those far from the path.
    None stands where a track of the scenario ever is.

    Args:
        scenario: Its map, lights and route.
        ground: The scenario's ground or road, if it has been made.
    """
    if not len(scenario.lights.lanes):
        return np.empty((0, 3))
    path = camera_path(scenario)
    road = make_road(scenario, path) if ground is None else ground
    m, lights = scenario.vector_map, scenario.lights
    places = np.full((len(lights.lanes), 3), np.nan)
    right = -1.0 if LEFT_HAND in scenario.tags else 1.0
    blocks = _approaches(scenario)
    groups: dict[tuple, list[int]] = {}
    for row, (lane, states) in enumerate(zip(lights.lanes.tolist(), lights.state, strict=True)):
        start = m.lane_centerline(lane)[0]
        if np.min(np.hypot(*(path - start).T)) < FROM_PATH:
            groups.setdefault((blocks[lane], states.tobytes()), []).append(row)
    taken, tracks = np.zeros(road.area.shape, np.uint8), scenario.tracks
    fields.take_tracks(taken, road.origin, road.cell, tracks.state, tracks.size, tracks.valid, CLEAR)
    for rows in groups.values():
        starts = np.array([m.lane_centerline(lights.lanes[row])[0] for row in rows])
        ahead = [_direction(m.lane_centerline(lights.lanes[row])) for row in rows]
        (cos, sin), (x, y) = np.mean(ahead, axis=0), starts.mean(0)
        norm = np.hypot(cos, sin)
        cos, sin = cos / norm, sin / norm
        place = np.zeros(2)
        if _find_place(road, taken, places, x, y, cos, sin, right, place):
            places[rows[0]] = *place, np.arctan2(-sin, -cos)
    return places


def _direction(line: np.ndarray) -> np.ndarray:
    """Returns the direction (2,) in which a lane starts."""
    step = line[min(1, len(line) - 1)] - line[0]
    return step / max(float(np.hypot(*step)), 1e-9)


def _approaches(scenario: Scenario) -> dict[int, int]:
    """Returns for each lane with a light a number of the approach it belongs to: the roadblock of the lane before it."""
    m = scenario.vector_map
    owner = np.repeat(np.arange(m.num_lanes), np.diff(m.successor_offsets))
    blocks = {}
    for lane in scenario.lights.lanes.tolist():
        before = owner[m.successors == lane]
        blocks[lane] = int(m.lane_roadblock[before[0]]) if len(before) else -1 - lane
    return blocks
