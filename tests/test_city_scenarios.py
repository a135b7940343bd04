"""Scenarios of the city: whole, ready to drive, on the road, the same every time (motion: test_city_plausible.py)."""

import dataclasses

import numpy as np
import pytest
import shapely

from worldengine_envs.city import FAMILIES, RARE, make_scenario
from worldengine_envs.city.mirror import mirrored
from worldengine_envs.errors import DataError
from worldengine_envs.scenario.quantise import quantised, scenario_hash
from worldengine_envs.scenario.start import start_problem
from worldengine_envs.scenario.types import AgentType, LightState, MapLayer, initial_ego_state
from worldengine_envs.scenario.validation import validate

SEEDS = range(3)
DT = 0.1


@pytest.fixture(scope="module", params=[(f, s) for f in FAMILIES for s in SEEDS], ids=lambda p: f"{p[0]}-{p[1]}")
def scenario(request):
    return make_scenario(*request.param)


def boxes(scenario, k):
    """(present agents,) shapely polygons at step k."""
    here = scenario.tracks.valid[:, k]
    state, size = scenario.tracks.state[here, k], scenario.tracks.size[here, k, :2]
    cos, sin = np.cos(state[:, 2]), np.sin(state[:, 2])
    along, across = np.array([1, -1, -1, 1]) * size[:, :1] / 2, np.array([1, 1, -1, -1]) * size[:, 1:] / 2
    x = state[:, :1] + along * cos[:, None] - across * sin[:, None]
    y = state[:, 1:2] + along * sin[:, None] + across * cos[:, None]
    return shapely.polygons(np.stack((x, y), axis=2))


def test_is_valid_and_can_start(scenario):
    validate(scenario)
    assert start_problem(scenario) is None
    assert scenario.fits(4.0) and scenario.fits(8.0)
    assert scenario.parent["family"] in scenario.tags and 0.0 <= scenario.parent["difficulty"] <= 1.0
    assert 8 <= len(scenario.tracks) <= 64
    np.testing.assert_array_equal(scenario.tracks.state[0, 0, :2], 0.0)
    assert initial_ego_state(scenario)[3] > 2.0  # under way


def test_nobody_touches_anybody(scenario):
    for k in range(0, scenario.tracks.steps, 3):
        tree = shapely.STRtree(shapes := boxes(scenario, k))
        pairs = tree.query(shapes, predicate="intersects")
        assert np.all(pairs[0] == pairs[1]), k


def test_vehicles_keep_to_the_road(scenario):
    area, tracks = drivable_area(scenario), scenario.tracks
    for k in range(0, tracks.steps, 10):
        cars = tracks.types[tracks.valid[:, k]] == AgentType.VEHICLE
        assert shapely.covers(area, shapely.centroid(boxes(scenario, k)[cars])).all()
    for a in range(len(tracks)):  # who is gone stays away
        assert not np.any(np.diff(tracks.valid[a].astype(int)) > 0)
    assert tracks.valid[0].all() and tracks.valid[:, : scenario.start_step + 1].all(axis=1).sum() >= 8


def drivable_area(scenario):
    m = scenario.vector_map
    layers = (MapLayer.ROADBLOCK, MapLayer.INTERSECTION, MapLayer.DRIVABLE_AREA, MapLayer.CARPARK_AREA)
    area = shapely.union_all([shapely.Polygon(m.polygon(row)) for row in np.flatnonzero(np.isin(m.polygon_layer, layers))])
    shapely.prepare(area)
    return area


def test_crossing_streams_never_have_green_together(scenario):
    m, lights = scenario.vector_map, scenario.lights
    colour = dict(zip(lights.lanes.tolist(), lights.state, strict=True))
    lines = {lane: shapely.LineString(m.lane_centerline(lane)) for lane in colour}
    straight = [lane for lane in colour if abs(turned(m.lane_centerline(lane))) < 0.3]
    for i, a in enumerate(straight):
        for b in straight[i + 1 :]:
            if lines[a].crosses(lines[b]):
                assert not np.any((colour[a] != LightState.RED) & (colour[b] != LightState.RED))


def turned(line):
    a, b = line[1] - line[0], line[-1] - line[-2]
    return np.angle((b[0] + 1j * b[1]) / (a[0] + 1j * a[1]))


def test_route_is_connected_and_the_ego_is_on_it(scenario):
    m, route = scenario.vector_map, scenario.route
    assert np.hypot(*np.diff(route.centerline[:, :2], axis=0).T).max() < 1.1
    d = np.diff(route.centerline[:, :2], axis=0)
    mean = route.centerline[:-1, 2] + 0.5 * np.angle(np.exp(1j * np.diff(route.centerline[:, 2])))
    assert np.abs(np.angle(np.exp(1j * (np.arctan2(d[:, 1], d[:, 0]) - mean)))).max() < 0.02
    line = shapely.LineString(route.centerline[:, :2])
    ego = shapely.points(scenario.tracks.state[0, :, :2])
    away = shapely.distance(line, ego)
    changes = scenario.parent["family"] == "lane_change"  # begins in the lane beside the route
    assert away.max() < (8.0 if scenario.parent["family"] in RARE else 4.2 if changes else 0.5)
    assert away[: scenario.start_step + 1].max() < (4.2 if changes else 0.35)
    rings = [shapely.Polygon(m.polygon(m.lane_polygon[lane])) for lane in route.lanes]
    area = shapely.union_all(rings).buffer(0.05)
    assert area.covers(line)
    assert line.length - line.project(ego[-1]) > 40.0  # the path goes on beyond the log


def test_ego_stays_on_the_road(scenario):
    area = drivable_area(scenario)
    assert all(area.covers(boxes(scenario, k)[0]) for k in range(0, scenario.tracks.steps, 2))


def test_same_seed_same_scenario_and_other_seeds_differ():
    for family in FAMILIES:
        hashes = [scenario_hash(make_scenario(family, seed)) for seed in (0, 1, 2, 0)]
        assert hashes[0] == hashes[3] and len(set(hashes)) == 3
    made = make_scenario("cut_in", 7)
    assert scenario_hash(quantised(made)) == scenario_hash(made)
    assert np.array_equal(quantised(made).tracks.state, made.tracks.state)  # is on the grid already


def test_mirror_image_is_exact_and_drives_on_the_left(scenario):
    other = mirrored(scenario)
    validate(other)
    assert scenario_hash(mirrored(other)) == scenario_hash(scenario) != scenario_hash(other)
    np.testing.assert_array_equal(boxes_centres(other) * (1, -1), boxes_centres(scenario))
    m, here = other.vector_map, scenario.vector_map
    for row in range(m.num_polygons):
        ring = shapely.Polygon(m.polygon(row))
        assert ring.is_valid and ring.exterior.is_ccw == shapely.Polygon(here.polygon(row)).exterior.is_ccw
    for lane in np.flatnonzero(m.lane_left >= 0):  # the neighbour to the left lies to the left
        line, beside = m.lane_centerline(lane), m.lane_centerline(m.lane_left[lane])
        (dx, dy), (px, py) = line[1] - line[0], beside[0] - line[0]
        assert dx * py - dy * px > 0
    driven = np.diff(other.tracks.state[0, :, :2], axis=0)
    yaw = other.tracks.state[0, :-1, 2]
    assert (driven[:, 0] * np.cos(yaw) + driven[:, 1] * np.sin(yaw) > -0.01).all()


def boxes_centres(scenario):
    return scenario.tracks.state[:, :, :2]


def test_some_streets_have_traffic_on_the_left():
    made = [make_scenario("lane_follow", seed) for seed in range(30)]
    assert 3 <= sum("left_hand" in s.tags for s in made) <= 16
    assert all(s.parent["attempts"] >= 1 for s in made)


@pytest.mark.parametrize("family", RARE)
def test_going_straight_on_fails_in_rare_scenarios(family):
    """The ego's box moved on at its speed touches somebody with its front or leaves the road within 4 s."""
    harmed = []
    for seed in range(4):
        scenario = make_scenario(family, seed)
        k0, area = scenario.start_step, drivable_area(scenario)
        state = scenario.tracks.state.copy()
        state[0, k0:] = state[0, k0]
        state[0, k0:, :2] += DT * np.arange(scenario.tracks.steps - k0)[:, None] * state[0, k0, 3:]
        moved = dataclasses.replace(scenario, tracks=dataclasses.replace(scenario.tracks, state=state))
        shapes = [boxes(moved, k) for k in range(k0, k0 + 41)]
        harmed.append(any(shapely.intersects(s[0], s[1:]).any() or not area.covers(s[0]) for s in shapes))
    assert all(harmed)


def test_wrong_recipes_are_refused():
    with pytest.raises(DataError, match="no family 'flying'"):
        make_scenario("flying", 0)
    for seed in (-1, 1.5, "3", True):
        with pytest.raises(DataError, match="seed"):
            make_scenario("cut_in", seed)
