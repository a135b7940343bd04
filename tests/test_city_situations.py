"""Dangerous moments with vehicles: the search for a way through, and what each family has to show (judged by shapely)."""

from dataclasses import replace

import numpy as np
import pytest
import shapely

from worldengine_envs.city import make_scenario
from worldengine_envs.city.contact import LENGTH, WIDTH, off_road, straight_on
from worldengine_envs.city.exact import Draw
from worldengine_envs.city.solver import CELL, is_free, search
from worldengine_envs.city.streets import make_street
from worldengine_envs.cli.judging import drive_baseline
from worldengine_envs.scenario.types import AgentType, LightState, MapLayer, ProgressReference

DT, STEPS, FIRST = 0.1, 111, 16
FAMILIES = (
    "cut_in",
    "hard_brake_lead",
    "stopped_after_curve",
    "unprotected_left",
    "red_light_runner",
    "work_zone",
    "merge_squeeze",
    "oncoming_overtaker",
)
SEEDS = range(4)


def box(x, y, yaw, length, width):
    along, across = np.array([1, -1, -1, 1]) * length / 2, np.array([1, 1, -1, -1]) * width / 2
    return shapely.Polygon(
        np.stack((x + along * np.cos(yaw) - across * np.sin(yaw), y + along * np.sin(yaw) + across * np.cos(yaw)), axis=1)
    )


def agents_of(*rows):
    """(agents, steps, 7) of agents given as x(t), y(t), yaw, length, width, room beside; t = 0 at step FIRST."""
    t = DT * (np.arange(STEPS) - FIRST)
    out = np.zeros((len(rows), STEPS, 7))
    for i, (x, y, yaw, length, width, room) in enumerate(rows):
        out[i, :, 0], out[i, :, 1] = x(t), y(t)
        out[i, :, 2:] = np.cos(yaw), np.sin(yaw), length, width, room
    return out


def drive(agents, ways=((0.0, 0.0, 1.0, 0.0),), v0=10.0, past=0.0, closed=None, half_width=20.0):
    """Returns (way, s, v) on a straight road along x from s = 10 m on."""
    s_of = CELL * np.arange(260)
    grid = np.stack((s_of, np.zeros(260), np.ones(260), np.zeros(260)), axis=1)
    ring = np.array([(-50.0, -half_width), (300.0, -half_width), (300.0, half_width), (-50.0, half_width)])
    bounds = np.array([[-50.0, -half_width, 300.0, half_width]])
    s, v = np.zeros(STEPS), np.zeros(STEPS)
    closed = np.zeros((STEPS, 260), np.int8) if closed is None else closed
    row, _ = search(
        np.array(ways),
        grid,
        0.0,
        agents,
        closed,
        ring,
        np.array([0, 4]),
        bounds,
        np.full(400, 99.0),
        10.0,
        v0,
        v0,
        past,
        True,
        FIRST,
        s,
        v,
    )
    return row, s[FIRST:], v[FIRST:]


def touches(agents, s, left=0.0):
    return any(
        box(x + 1.461, left, 0.0, LENGTH, WIDTH).intersects(box(a[0], a[1], np.arctan2(a[3], a[2]), a[4], a[5]))
        for k, x in enumerate(s)
        for a in agents[:, FIRST + k]
    )


def standing(x, y=0.0):
    return (lambda t: x + 0 * t, lambda t: y + 0 * t, 0.0, 4.5, 1.8, 0.5)


def test_nothing_ahead_changes_nothing():
    row, s, v = drive(agents_of(standing(60.0, 8.0)))
    assert row == 0
    np.testing.assert_allclose(v, 10.0, atol=0.3)
    assert s[-1] == pytest.approx(10.0 + 10.0 * DT * (len(s) - 1), abs=2.0)


def test_stops_comfortably_behind_what_stands():
    agents = agents_of(standing(70.0))
    row, s, v = drive(agents)
    assert row == 0 and v[-1] < 1.0 and not touches(agents, s)
    gap = 70.0 - 2.25 - s[-1] - 4.049
    assert 0.3 < gap < 5.0
    assert np.diff(v).min() / DT > -4.05  # comfortable, as the score has it
    assert np.diff(v).max() / DT < 1.9


def test_waits_for_a_gap_and_goes_through_it():
    def crossing(begin):
        return (lambda t: 45.0 + 0 * t, lambda t: -10.0 * (t - begin), -np.pi / 2, 4.5, 1.8, 0.5)

    agents = agents_of(crossing(2.2), crossing(3.3), crossing(8.5))
    row, s, v = drive(agents, past=52.0)
    assert row == 0 and not touches(agents, s)
    through = np.argmax(s + 4.049 > 45.0 - 0.9) * DT  # when its front comes to the crossing lane
    assert 3.3 < through < 7.5 and v.min() < 8.0
    assert drive(agents_of(*(crossing(b) for b in np.arange(-1.0, 12.0, 0.8))), past=52.0)[0] == -1  # no gap, no way


def test_stops_at_red_and_goes_on_at_green():
    closed = np.zeros((STEPS, 260), np.int8)
    closed[:66, 70:74] = 2  # 35 to 37 m, until 5 s
    row, s, _ = drive(agents_of(standing(60.0, 8.0)), closed=closed)
    assert row == 0 and s[50] < 35.5 and s[-1] > 45.0


def test_moves_over_where_the_lane_is_closed_and_comes_back_no_sooner_than_told():
    agents = agents_of(standing(60.0))
    ways = ((0.0, 0.0, 1.0, 0.0), (3.5, 11.0, 30.0, 40.0), (3.5, 11.0, 30.0, 1e4))
    row, s, v = drive(agents, ways, past=70.0)
    assert row in (1, 2) and s[-1] > 80.0 and v.min() > 6.0
    row, *_ = drive(agents, ways, past=70.0, half_width=3.0)  # the road is too narrow for that
    assert row == -1


def test_free_cells_agree_with_shapely():
    rng = np.random.default_rng(3)
    angles = rng.uniform(-3.1, 3.1, 400)
    poses = np.stack((rng.uniform(-8, 8, 400), rng.uniform(-6, 6, 400), np.cos(angles), np.sin(angles)), axis=1)
    agents = agents_of(standing(1.0), (lambda t: -2.0 + 0 * t, lambda t: 3.0 + 0 * t, 0.7, 0.6, 0.5, 1.0))
    state = np.zeros((STEPS, 400), np.int8)
    for i, (x, y, c, n) in enumerate(poses):
        clear = [
            box(x + 1.461 * c, y + 1.461 * n, angles[i], LENGTH, WIDTH).distance(
                box(a[0], a[1], np.arctan2(a[3], a[2]), a[4], a[5])
            )
            for a in agents[:, 20]
        ]
        if min(clear) == 0.0:
            assert not is_free(20, i, poses, agents, state)
        elif min(clear) > 1.6:
            assert is_free(20, i, poses, agents, state)


def test_off_road_agrees_with_shapely():
    street = make_street("crossing", Draw("off", 1))
    kept = street.network.rings((MapLayer.ROADBLOCK, MapLayer.INTERSECTION, MapLayer.DRIVABLE_AREA))
    offsets = np.concatenate(([0], np.cumsum([len(p) for p in kept])))
    bounds = np.array([(*p.min(axis=0), *p.max(axis=0)) for p in kept])
    area = shapely.union_all([shapely.Polygon(p) for p in kept])
    rng, line, results = np.random.default_rng(0), street.road.line, []
    for _ in range(300):
        i = rng.integers(len(line.s))
        yaw = line.yaw[i] + rng.uniform(-0.6, 0.6)
        x, y = line.x[i] + rng.normal(0, 10), line.y[i] + rng.normal(0, 10)
        c, n = np.cos(yaw), np.sin(yaw)
        corners = np.array(box(x + 1.461 * c, y + 1.461 * n, yaw, LENGTH, WIDTH).exterior.coords)[:4]
        expected = not all(area.covers(shapely.Point(p)) for p in corners)
        assert off_road(np.concatenate(kept), offsets, bounds, x, y, c, n, 0.0) == expected
        results.append(expected)
    assert 0.1 < np.mean(results) < 0.9


def test_going_straight_on_is_at_fault_at_the_front_and_with_those_who_stand():
    still = np.zeros((1, STEPS), bool)
    lead = agents_of((lambda t: 40.0 + 5.0 * t, lambda t: 0 * t, 0.0, 4.5, 1.8, 0.5))[:, :, :6]
    agent, step = straight_on(0.0, 0.0, 1.0, 0.0, 15.0, FIRST, 60, lead, still)
    assert agent == 0 and (step - FIRST) * DT == pytest.approx((40.0 - 2.25 - 4.049) / 10.0, abs=0.11)
    beside = agents_of((lambda t: 0.0 + 15.0 * t, lambda t: 6.0 - 2.0 * t, 0.0, 4.5, 1.8, 0.5))[:, :, :6]
    assert straight_on(0.0, 0.0, 1.0, 0.0, 15.0, FIRST, 60, beside, still) == (-1, -1)  # it runs into the ego's side
    assert straight_on(0.0, 0.0, 1.0, 0.0, 15.0, FIRST, 60, beside, ~still)[0] == 0


@pytest.fixture(scope="module", params=FAMILIES)
def scenes(request):
    return request.param, [make_scenario(request.param, seed) for seed in SEEDS]


def named(scenario, name):
    return [i for i, token in enumerate(scenario.tracks.tokens) if token.startswith(name)]


def boxes(scenario, i, k):
    (x, y, yaw), (length, width) = scenario.tracks.state[i, k, :3], scenario.tracks.size[i, k, :2]
    return box(x, y, yaw, length, width)


def test_only_constant_velocity_fails_and_the_log_succeeds(scenes):
    """In the world, with the score; neither is a matter of geometry alone."""
    _, scenarios = scenes
    scenarios = [replace(s, reference=ProgressReference("log", {4.0: 40.0, 8.0: 80.0})) for s in scenarios]
    failed = [row for row in drive_baseline(scenarios, "constant-velocity") if row["success"]]
    assert not failed
    assert sum(bool(row["success"]) for row in drive_baseline(scenarios, "log")) >= len(scenarios) - 1


def test_ego_comes_forward(scenes):
    """Standing still is not the answer: within 8 s the ego is on its way."""
    family, scenarios = scenes
    for scenario in scenarios:
        state, k = scenario.tracks.state[0], scenario.start_step
        way = np.hypot(*np.diff(state[k : k + 81, :2], axis=0).T).sum()
        assert way > 12.0, (family, scenario.id)


def test_story_is_told(scenes):
    family, scenarios = scenes
    for scenario in scenarios:
        STORIES[family](scenario)


def has_actor(*names):
    def check(scenario):
        assert any(named(scenario, name) for name in names), scenario.id

    return check


def tells_runner(scenario):
    (runner,) = named(scenario, "runner")
    m, k0 = scenario.vector_map, scenario.start_step
    track = shapely.LineString(scenario.tracks.state[runner, scenario.tracks.valid[runner], :2])
    crossed = [
        colours[k0 + 10]
        for lane, colours in zip(scenario.lights.lanes, scenario.lights.state, strict=True)
        if track.distance(shapely.Point(m.lane_centerline(lane)[0])) < 0.6
    ]
    assert crossed and all(colour == LightState.RED for colour in crossed)
    ego = shapely.LineString(scenario.tracks.state[0, :, :2])
    assert track.intersects(ego) or track.distance(ego) < 4.0


def tells_works(scenario):
    (truck,) = named(scenario, "work_vehicle")
    assert len(named(scenario, "cone")) >= 5 and named(scenario, "worker") and len(named(scenario, "barrier")) == 1
    types = scenario.tracks.types
    assert all(types[i] == AgentType.TRAFFIC_CONE for i in named(scenario, "cone"))
    line = shapely.LineString(scenario.route.centerline[:, :2])
    at = [line.project(shapely.Point(scenario.tracks.state[i, -1, :2])) for i in (0, truck)]
    assert at[0] > at[1]  # it gets past
    assert line.distance(boxes(scenario, truck, 0)) == 0.0  # which stands on its lane


def tells_left_turn(scenario):
    """The ego turns left (right where traffic keeps left), and would touch somebody on its path if it did not give way."""
    mirror = -1.0 if "left_hand" in scenario.tags else 1.0
    route = np.unwrap(scenario.route.centerline[:, 2])
    assert mirror * (route[-1] - route[0]) > 1.2
    k0, line = scenario.start_step, scenario.route.centerline
    s = np.concatenate(([0.0], np.cumsum(np.hypot(*np.diff(line[:, :2], axis=0).T))))
    start = s[np.argmin(np.hypot(*(line[:, :2] - scenario.tracks.state[0, k0, :2]).T))]
    speed = np.hypot(*scenario.tracks.state[0, k0, 3:])
    touched = False
    for k in range(41):
        x, y, turned = (np.interp(start + speed * DT * k, s, column) for column in (line[:, 0], line[:, 1], route))
        ego = box(x, y, turned, LENGTH, WIDTH)
        touched |= any(
            ego.intersects(boxes(scenario, i, k0 + k)) for i in named(scenario, "oncoming") if scenario.tracks.valid[i, k0 + k]
        )
    assert touched


def tells_overtaker(scenario):
    (overtaker,), (overtaken,) = named(scenario, "overtaker"), named(scenario, "overtaken")
    k0 = scenario.start_step
    line = shapely.LineString(scenario.route.centerline[:, :2])
    away = [line.distance(shapely.Point(p)) for p in scenario.tracks.state[overtaker, k0 : k0 + 60, :2]]
    assert min(away[:10]) < 0.8 and away[-1] > 2.5  # comes on the ego's lane and leaves it
    assert scenario.tracks.state[overtaken, k0, 3:] @ scenario.tracks.state[0, k0, 3:] < 0.0


def tells_stop_behind_bend(scenario):
    stopped = named(scenario, "stopped")
    k0 = scenario.start_step
    assert stopped and all(np.hypot(*scenario.tracks.state[i, k0, 3:]) < 0.01 for i in stopped)
    yaws = [scenario.tracks.state[i, k0, 2] for i in (0, stopped[0])]
    assert abs(np.angle(np.exp(1j * (yaws[1] - yaws[0])))) > 0.05  # the road bends between them


STORIES = {
    "cut_in": has_actor("cutter"),
    "hard_brake_lead": has_actor("lead"),
    "stopped_after_curve": tells_stop_behind_bend,
    "unprotected_left": tells_left_turn,
    "red_light_runner": tells_runner,
    "work_zone": tells_works,
    "merge_squeeze": has_actor("neighbour", "squeezer"),
    "oncoming_overtaker": tells_overtaker,
}
