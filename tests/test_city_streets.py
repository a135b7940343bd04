"""Streets: lanes that meet, neighbours side by side, sound polygons (judged by shapely)."""

from itertools import pairwise

import numpy as np
import pytest
from shapely import MultiPolygon, Point, Polygon, unary_union

from worldengine_envs.city.exact import Draw
from worldengine_envs.city.network import AROUND, ENTRY, EXIT, JOINED, LEFT, LIGHTS, PRIORITY, RIGHT, ROUNDABOUT, STRAIGHT
from worldengine_envs.city.streets import KINDS, lane_path, make_street, speed_table
from worldengine_envs.scenario.types import MapLayer, VectorMap
from worldengine_envs.scenario.validation import validate_part
from worldengine_envs.simulation.kernels import kernel
from worldengine_envs.simulation.map_index import build_map_index, is_drivable

DRIVABLE = (MapLayer.ROADBLOCK, MapLayer.INTERSECTION, MapLayer.DRIVABLE_AREA, MapLayer.CARPARK_AREA)
STREETS = [(kind, seed) for kind in KINDS for seed in range(4)]
LENGTH, WIDTH, AXLE_TO_CENTER = 5.176, 2.297, 1.461  # of a Pacifica


@pytest.fixture(scope="module", params=STREETS, ids=lambda p: f"{p[0]}-{p[1]}")
def street(request):
    kind, seed = request.param
    street = make_street(kind, Draw("test", seed))
    return street, street.network.vector_map(np.zeros(2))


def heading(points):
    d = np.diff(points[:2], axis=0)[0]
    return np.arctan2(d[1], d[0])


def test_lanes_are_linked_end_to_start(street):
    street, m = street
    for lane in range(m.num_lanes):
        line = m.lane_centerline(lane)
        for following in m.lane_successors(lane):
            other = m.lane_centerline(following)
            assert np.hypot(*(line[-1] - other[0])) < 2e-3
            chords = np.angle(np.exp(1j * (heading(other) - heading(line[::-1]) - np.pi)))
            ends = street.network.lanes[following].yaw[0] - street.network.lanes[lane].yaw[-1]
            assert abs(chords) < 0.12 and abs(np.angle(np.exp(1j * ends))) < 1e-6
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
    assert all(Polygon(hole).area > 200.0 for hole in area.interiors)  # blocks of houses and islands, not slits
    for lane in range(m.num_lanes):  # a car's width about every lane and connector
        for p in m.lane_centerline(lane)[1:-1]:
            assert area.covers(Point(p).buffer(1.2))
    for row in np.flatnonzero(m.polygon_layer == MapLayer.CROSSWALK):
        assert Polygon(m.polygon(row)).difference(area).area < 0.01


@kernel
def count_outside(index, xy):
    count = 0
    for i in range(len(xy)):
        count += not is_drivable(index, 0, xy[i, 0], xy[i, 1])
    return count


def corners_along(line, low, high):
    """(points * 4, 2) corners of a Pacifica whose rear axle follows a line."""
    x, y, yaw, _ = line.at(np.arange(low, high, 0.5))
    ahead, left = (np.stack(a, 1) for a in ((np.cos(yaw), np.sin(yaw)), (-np.sin(yaw), np.cos(yaw))))
    centre = np.stack((x, y), 1) + AXLE_TO_CENTER * ahead
    return np.concatenate([centre + a * LENGTH * ahead + b * WIDTH * left for a in (-0.5, 0.5) for b in (-0.5, 0.5)])


def test_a_car_that_follows_any_way_stays_on_the_road(street):
    street, m = street
    validate_part(m, VectorMap, "vector_map")
    index, network = build_map_index([m]), street.network
    for lane in range(m.num_lanes):
        for movement in network.through.get(lane) or {network.movement[row] for row in network.successors[lane]}:
            path = lane_path(network, lane, (movement,))
            if not m.lane_is_connector[lane]:
                assert count_outside(index, corners_along(path.line, 4.0, path.line.length - 5.0)) == 0
    for lane in street.corridor[0].forward:
        path = lane_path(network, lane)
        assert len(path.lanes) >= 2 * len(street.corridor) - 1
        assert all(path.lanes[2 * i] in street.corridor[i].forward for i in range(street.main + 1))
        assert np.abs(np.diff(path.line.yaw)).max() < 0.25


def test_bends_and_speed_limits_are_those_of_roads(street):
    street, m = street
    for lane, line in enumerate(street.network.lanes):
        curvature = line.at(np.linspace(0.0, line.length, 60))[3]
        assert np.abs(curvature).max() < 1 / 5.0
        assert 3.0 < m.lane_speed_limit[lane] < 20.0
        if not m.lane_is_connector[lane]:  # slow enough for its own bends
            assert np.max(np.abs(curvature)) * m.lane_speed_limit[lane] ** 2 < 2.6


def test_who_gives_way_has_the_higher_rank(street):
    street, _ = street
    network = street.network
    for row, junction in enumerate(network.junctions):
        lights = [network.signals[arm.group] for arm in junction.arms]
        assert all(lights) if junction.kind == LIGHTS else not any(lights)
        rows = {arm.group: [r for r, g in enumerate(network.group) if g == arm.group] for arm in junction.arms}
        assert all(network.junction[r] == row for rs in rows.values() for r in rs)
        if junction.kind == JOINED:
            assert not any(rows.values())
        main = [network.rank[r] for arm in junction.arms if not arm.yields for r in rows[arm.group]]
        side = [network.rank[r] for arm in junction.arms if arm.yields for r in rows[arm.group]]
        if junction.kind == PRIORITY:
            assert side and max(main) < min(side)
        for r in (r for entered in rows.values() for r in entered):
            if junction.kind in (PRIORITY, LIGHTS):
                assert network.rank[r] % 2 == (network.movement[r] == LEFT)


def test_paths_follow_the_turns_asked_for(street):
    street, _ = street
    for lane in street.corridor[0].forward:
        straight = lane_path(street.network, lane)
        assert all(street.network.movement[row] in ("", STRAIGHT, ENTRY, AROUND, EXIT) for row in straight.lanes)
        steps = np.hypot(*np.diff(straight.line.xy, axis=0).T)
        assert steps.sum() == pytest.approx(straight.line.length, rel=1e-3) and np.all(np.diff(straight.line.s) > 0)
    junction = street.junctions[0]
    for movement, angle in ((LEFT, np.pi / 2), (RIGHT, -np.pi / 2)):
        arm = junction.towards(street.corridor[0], movement) if junction.kind != JOINED else None
        if arm:
            path = lane_path(street.network, street.corridor[0].forward[0 if movement == LEFT else -1], (movement,))
            turned = path.line.yaw[np.searchsorted(path.line.s, path.starts[2])] - path.line.yaw[0]
            assert turned == pytest.approx(angle, abs=0.26)  # side streets may be askew
            assert np.cos(street.corridor[0].line.yaw[-1] + turned - arm.pose[2]) == pytest.approx(1.0)


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
    junctions = [j for j in street.network.junctions if j.kind != JOINED]
    arms = sum(len(j.arms) for j in junctions)
    areas = sum(len(j.arms) if j.kind == ROUNDABOUT else 1 for j in junctions)
    assert np.count_nonzero(m.polygon_layer == MapLayer.CROSSWALK) == arms
    assert np.count_nonzero(m.polygon_layer == MapLayer.INTERSECTION) == areas


@pytest.mark.parametrize("seed", range(6))
def test_roundabouts_are_driven_counter_clockwise_to_every_exit(seed):
    street = make_street("roundabout", Draw("test", seed))
    network, junction = street.network, street.junctions[street.main]
    ring = junction.ring
    assert junction.kind == ROUNDABOUT and 12.0 <= ring.radius <= 22.0 and all(arm.yields for arm in junction.arms)
    for arm in junction.arms:
        ways = network.through[arm.lanes_in[0]]
        assert len(ways) == len(junction.arms) - 1
        for movement, rows in ways.items():
            leaves = junction.towards(arm.road, movement)
            assert network.successors[rows[-1]] == [leaves.lanes_out[0]] and network.movement[rows[0]] == ENTRY
            path = lane_path(network, arm.lanes_in[0], (movement,))
            assert path.lanes[1 : len(rows) + 1] == rows
            x, y, yaw, _ = path.line.at(np.arange(path.starts[2], path.starts[len(rows)], 0.5))
            from_centre = np.stack((x - ring.centre[0], y - ring.centre[1]))
            np.testing.assert_allclose(np.hypot(*from_centre), ring.radius, atol=0.01)
            assert np.all(from_centre[0] * np.sin(yaw) - from_centre[1] * np.cos(yaw) > 0.0)
            turned = path.line.yaw[np.searchsorted(path.line.s, path.starts[len(rows) + 1])] - path.line.yaw[0]
            assert turned == pytest.approx({STRAIGHT: 0.0, LEFT: np.pi / 2, RIGHT: -np.pi / 2}[movement], abs=1e-6)
    around = [r for r, m in enumerate(network.movement) if m == AROUND]
    assert all(network.rank[r] == 0 for r in around) and len(around) == len(junction.arms)


@pytest.mark.parametrize("seed", range(4))
def test_acceleration_lanes_are_fed_by_the_ramp_and_end(seed):
    street = make_street("merge", Draw("test", seed))
    network, (before, beside, after) = street.network, street.corridor
    assert len(beside.forward) == len(before.forward) + 1 == len(after.forward) + 1
    path = lane_path(network, street.ramp.forward[0])
    assert path.lanes[0::2] == (street.ramp.forward[0], beside.forward[-1], after.forward[-1])
    assert network.rank[path.lanes[3]] == 1 and len(before.backward) == len(after.backward)
    through = lane_path(network, before.forward[-1])
    assert [network.rank[row] for row in through.lanes] == [0] * 5 and through.lanes[-1] == path.lanes[-1]


@pytest.mark.parametrize("seed", range(4))
def test_a_dropped_lane_merges_into_the_one_beside(seed):
    street = make_street("lane_drop", Draw("test", seed), lanes=2)
    before, after = street.corridor
    assert (len(before.forward), len(after.forward)) == (3, 2)
    ends = [lane_path(street.network, lane).lanes[-1] for lane in before.forward]
    assert ends == [after.forward[0], after.forward[1], after.forward[1]]


@pytest.mark.parametrize("seed", range(6))
def test_t_junctions_have_one_side_road(seed):
    street = make_street("t_junction", Draw("test", seed))
    junction = street.junctions[street.main]
    sides = [junction.towards(street.road, movement) for movement in (LEFT, RIGHT)]
    assert len(junction.arms) == 3 and sum(side is not None for side in sides) == 1
    assert junction.towards(street.road, STRAIGHT).road is street.corridor[street.main + 1]


def test_kinds_of_parking_are_as_asked_for():
    for kind in ("straight", "four_way", "narrow", "blocks", "roundabout"):
        for seed in range(3):
            widths = {
                parking: make_street(kind, Draw("test", seed), parking=parking).road.profile.parking_right
                for parking in ("none", "parallel", "perpendicular")
            }
            assert widths["none"] == 0.0 and 2.0 < widths["parallel"] < 3.0 and widths["perpendicular"] > 5.0
    narrow = make_street("narrow", Draw("test", 0)).road.profile
    assert narrow.lane_width < 3.2 and narrow.parking_right > 2.0 and narrow.parking_left > 2.0 and narrow.speed_limit < 9.0


def test_the_same_draw_gives_the_same_street():
    for kind in KINDS:
        a, b = (make_street(kind, Draw("test", 5)).network.vector_map(np.zeros(2)) for _ in range(2))
        assert all(np.array_equal(getattr(a, k), getattr(b, k)) for k in ("centerline", "polygon_xy", "successors"))
