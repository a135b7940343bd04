"""Streets: lanes that meet, neighbours side by side, sound polygons (judged by shapely)."""

from itertools import pairwise

import numpy as np
import pytest
from shapely import MultiPolygon, Point, Polygon, unary_union

from worldengine_envs.city.exact import Draw
from worldengine_envs.city.streets import lane_path, make_street, speed_table
from worldengine_envs.scenario.types import MapLayer

DRIVABLE = (MapLayer.ROADBLOCK, MapLayer.INTERSECTION, MapLayer.DRIVABLE_AREA, MapLayer.CARPARK_AREA)
STREETS = [(kind, seed) for kind in ("straight", "curved", "crossing") for seed in range(4)]


@pytest.fixture(scope="module", params=STREETS, ids=lambda p: f"{p[0]}-{p[1]}")
def street(request):
    kind, seed = request.param
    street = make_street(kind, Draw("test", seed))
    return street, street.network.vector_map(np.zeros(2))


def heading(points):
    d = np.diff(points[:2], axis=0)[0]
    return np.arctan2(d[1], d[0])


def test_lanes_are_linked_end_to_start(street):
    _, m = street
    for lane in range(m.num_lanes):
        line = m.lane_centerline(lane)
        for following in m.lane_successors(lane):
            other = m.lane_centerline(following)
            assert np.hypot(*(line[-1] - other[0])) < 2e-3
            turn = np.angle(np.exp(1j * (heading(other) - heading(line[::-1]) - np.pi)))
            assert abs(turn) < 0.05
            assert m.lane_is_connector[lane] != m.lane_is_connector[following]


def test_every_lane_into_a_junction_goes_on(street):
    street, m = street
    for junction in street.network.junctions:
        for arm in junction.arms:
            assert all(len(m.lane_successors(lane)) for lane in arm.lanes_in)


def test_neighbours_lie_a_lane_width_apart(street):
    street, m = street
    for road in street.network.roads:
        for lanes in (road.forward, road.backward):
            for a, b in pairwise(lanes):  # from the middle outwards
                assert m.lane_right[a] == b and m.lane_left[b] == a and m.lane_roadblock[a] == m.lane_roadblock[b]
                gap = m.lane_centerline(b)[0] - m.lane_centerline(a)[0]
                assert np.hypot(*gap) == pytest.approx(road.profile.lane_width, abs=2e-3)
                direction = heading(m.lane_centerline(a))
                assert gap @ (np.sin(direction), -np.cos(direction)) > 0  # to the right


def test_polygons_are_valid_and_hold_their_lanes(street):
    _, m = street
    for row in range(m.num_polygons):
        polygon = Polygon(m.polygon(row))
        assert polygon.is_valid and polygon.area > 1.0
    for lane in range(m.num_lanes):
        polygon = Polygon(m.polygon(m.lane_polygon[lane])).buffer(0.02)
        assert all(polygon.covers(Point(p)) for p in m.lane_centerline(lane))


def test_drivable_area_is_one_piece_without_slits(street):
    street, m = street
    rings = [Polygon(m.polygon(row)) for row in np.flatnonzero(np.isin(m.polygon_layer, DRIVABLE))]
    area = unary_union(rings)
    assert not isinstance(area, MultiPolygon)
    assert all(Polygon(hole).area > 500.0 for hole in area.interiors)  # blocks of houses, not slits
    for lane in range(m.num_lanes):  # a car's width about every lane and connector
        for p in m.lane_centerline(lane)[1:-1]:
            assert area.covers(Point(p).buffer(1.2))
    assert m.num_polygons >= 45


def test_paths_follow_the_turns_asked_for(street):
    street, _ = street
    for lane in street.corridor[0].forward:
        straight = lane_path(street.network, lane)
        assert all(street.network.movement[row] in ("", "straight") for row in straight.lanes)
        steps = np.hypot(*np.diff(straight.line.xy, axis=0).T)
        assert steps.sum() == pytest.approx(straight.line.length, rel=1e-3) and np.all(np.diff(straight.line.s) > 0)
    left = lane_path(street.network, street.corridor[0].forward[0], ("left",))
    turned = left.line.yaw[np.searchsorted(left.line.s, left.starts[2])] - left.line.yaw[0]
    assert turned == pytest.approx(np.pi / 2, abs=1e-6)


def test_speeds_in_bends_can_be_braked_to(street):
    street, _ = street
    path = lane_path(street.network, street.corridor[0].forward[-1], ("right",))
    table = speed_table(path.line, 400)
    s = np.arange(min(400, int(path.line.length)))
    curvature = path.line.at(s.astype(float))[3]
    assert np.all(table[: len(s)] ** 2 * np.abs(curvature) <= 2.2 + 1e-9)
    assert np.all(np.diff(table**2) >= -3.0 - 1e-9)


def test_crosswalks_reach_from_kerb_to_kerb(street):
    street, m = street
    arms = sum(len(j.arms) for j in street.network.junctions)
    assert np.count_nonzero(m.polygon_layer == MapLayer.CROSSWALK) == arms
    assert np.count_nonzero(m.polygon_layer == MapLayer.INTERSECTION) == len(street.network.junctions)
