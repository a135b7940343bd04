"""People, cyclists and cars that back out: how they move, that they are hidden, hit who goes on, and get harder."""

import functools

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import cumulative_trapezoid

from worldengine_envs.city import make_scenario
from worldengine_envs.city.exact import Draw
from worldengine_envs.city.families import pedestrians, vehicles_backing
from worldengine_envs.city.families.people import Pace, moment, pace_for, underway
from worldengine_envs.city.maker import assemble
from worldengine_envs.city.scene import Unfit
from worldengine_envs.scenario.types import AgentType, MapLayer

DT = 0.1
SEEDS = range(8)
ACTORS = {
    "jaywalker": ("jaywalker",),
    "occluded_pedestrian": ("walker",),
    "child_between_cars": ("child", "driver"),
    "cyclist_swerve": ("rider",),
    "cyclist_at_turn": ("rider",),
    "backing_out": ("backing",),
}
ON_FOOT = ("jaywalker", "occluded_pedestrian", "child_between_cars")
CASES = [(family, seed) for family in ACTORS for seed in SEEDS]
made = functools.lru_cache(maxsize=None)(make_scenario)


def row_of(scenario, *names):
    """Row of the one agent whose token begins with one of these names."""
    rows = [i for i, token in enumerate(scenario.tracks.tokens) if token.rsplit("_", 1)[0] in names]
    assert len(rows) == 1
    return rows[0]


def box(scenario, row, k, state=None):
    """shapely polygon of an agent's box at step k, of its track or of another state (5,)."""
    x, y, yaw = (scenario.tracks.state[row, k] if state is None else state)[:3]
    length, width = scenario.tracks.size[row, k, :2]
    along, across = np.array([1, -1, -1, 1]) * length / 2, np.array([1, 1, -1, -1]) * width / 2
    return shapely.Polygon(
        np.stack((x + along * np.cos(yaw) - across * np.sin(yaw), y + along * np.sin(yaw) + across * np.cos(yaw)), 1)
    )


def going_on(scenario, k):
    """State of an ego that goes straight on from the start, at step k."""
    start = scenario.tracks.state[0, scenario.start_step].copy()
    start[:2] += DT * (k - scenario.start_step) * start[3:]
    return start


def others(scenario, row, k):
    """shapely union of the boxes of all but the ego and one agent at step k."""
    rows = [i for i in np.flatnonzero(scenario.tracks.valid[:, k]) if i not in (0, row)]
    return shapely.union_all([box(scenario, i, k) for i in rows])


def area(scenario, *layers):
    m = scenario.vector_map
    return shapely.union_all([shapely.Polygon(m.polygon(i)) for i in np.flatnonzero(np.isin(m.polygon_layer, layers))])


stages = st.lists(
    st.tuples(st.floats(0.3, 12.0), st.floats(0.5, 4.0), st.one_of(st.just(0.0), st.floats(0.1, 2.0))), min_size=1, max_size=3
)


@settings(deadline=None, max_examples=60)
@given(stages, st.floats(1.0, 4.0))
def test_pace_covers_its_length_without_jerks(legs, acceleration):
    pace = Pace.of(legs, acceleration)
    t = np.linspace(-1.0, pace.times[-1] + 1.0, 20001)
    speed = np.interp(t, pace.times, pace.speeds, left=0.0, right=0.0)
    way = cumulative_trapezoid(speed, t, initial=0.0)
    np.testing.assert_allclose(pace.at(t), way, atol=2e-3)
    assert np.abs(np.diff(speed) / np.diff(t)).max() < acceleration * 1.001
    assert pace.speeds[-1] == 0.0 and max(pace.speeds) <= max(leg[1] for leg in legs) + 1e-9
    total = sum(leg[0] for leg in legs)
    assert pace.ways[-1] >= total - 1e-9
    for part in (0.1, 0.5, 0.9):
        assert pace.at(np.array([pace.time(part * total)]))[0] == pytest.approx(part * total, abs=1e-6)


@given(st.floats(0.5, 6.0), st.floats(1.0, 6.0), st.floats(1.5, 4.0))
def test_pace_for_comes_in_time(length, time, acceleration):
    pace = pace_for(length, time, acceleration)
    if np.isfinite(pace) and pace < acceleration * time:
        assert Pace.of([(length + 50.0, pace, 0.0)], acceleration).time(length) == pytest.approx(time, abs=1e-6)
    else:  # not even at full acceleration all the way
        assert 0.5 * acceleration * time * time <= length + 1e-9


@pytest.mark.parametrize("family, seed", CASES)
def test_who_goes_on_hits_them(family, seed):
    """Straight on, the ego's front touches the one of the story at a whole step; in bends it may leave its lane before."""
    scenario = made(family, seed)
    row, k0 = row_of(scenario, *ACTORS[family]), scenario.start_step
    ground = area(scenario, MapLayer.ROADBLOCK, MapLayer.INTERSECTION, MapLayer.DRIVABLE_AREA, MapLayer.CARPARK_AREA).buffer(1e-3)
    for k in range(k0, k0 + 41):
        ego = box(scenario, 0, k, going_on(scenario, k))
        if not ground.covers(ego) or (scenario.tags[2] == "curved" and others(scenario, row, k).intersects(ego)):
            return
        if ego.intersects(box(scenario, row, k)):
            front = shapely.LineString([ego.exterior.coords[0], ego.exterior.coords[3]])
            assert front.intersects(box(scenario, row, k)) or np.hypot(*scenario.tracks.state[row, k, 3:]) < 0.05
            assert k - k0 >= 15  # there is time to do something about it
            return
    pytest.fail("nothing happens")


@pytest.mark.parametrize("family, seed", CASES)
def test_nobody_moves_through_what_hides_them(family, seed):
    scenario = made(family, seed)
    row = row_of(scenario, *ACTORS[family])
    near = np.hypot(*(scenario.tracks.state[:, :, :2] - scenario.tracks.state[row, None, :, :2]).transpose(2, 0, 1)) < 6.0
    for k in range(scenario.tracks.steps):
        mine = box(scenario, row, k)
        for other in np.flatnonzero(near[:, k] & scenario.tracks.valid[:, k]):
            assert other == row or mine.distance(box(scenario, other, k)) > 0.1


@pytest.mark.parametrize("family, seed", CASES)
def test_they_move_as_people_bicycles_and_cars_do(family, seed):
    scenario = made(family, seed)
    row = row_of(scenario, *ACTORS[family])
    state, kind = scenario.tracks.state[row], scenario.tracks.types[row]
    assert scenario.tracks.valid[row].all()
    speed = np.hypot(*state[:, 3:].T)
    change = np.hypot(*np.diff(state[:, 3:], axis=0).T) / DT
    forward = state[:, 3] * np.cos(state[:, 2]) + state[:, 4] * np.sin(state[:, 2])
    sideways = np.abs(state[:, 4] * np.cos(state[:, 2]) - state[:, 3] * np.sin(state[:, 2]))
    if kind == AgentType.PEDESTRIAN:
        is_child = scenario.tracks.tokens[row].startswith("child")
        assert speed.max() < (3.7 if is_child else 2.8) and change.max() < (3.7 if is_child else 2.7)
        assert forward.min() > -1e-3 and sideways.max() < 0.01  # faces where it goes
        assert scenario.tracks.size[row, 0, 2] < (1.4 if is_child else 2.0)
    elif kind == AgentType.BICYCLE:
        assert 1.0 < speed.max() < 8.0 and change.max() < 4.5
        assert forward.min() > -1e-3 and sideways.max() < 0.4
        assert scenario.tracks.size[row, 0, 0] == pytest.approx(1.8, abs=0.15)
    else:
        assert forward.min() > -2.8 and forward.max() < 7.5  # of the centre
        assert -2.8 < forward[scenario.start_step :].min() < -0.5  # it does back out


@pytest.mark.parametrize("seed", SEEDS)
def test_backing_car_rolls_on_its_rear_axle(seed):
    """The rear axle moves along the car's axis only, on arcs that a car can drive."""
    scenario = made("backing_out", seed)
    state = scenario.tracks.state[row_of(scenario, "backing")]
    length = scenario.tracks.size[row_of(scenario, "backing"), 0, 0]
    yaw = np.unwrap(state[:, 2])
    axle = state[:, :2] - 0.2822 * length * np.stack((np.cos(yaw), np.sin(yaw)), axis=1)
    step, turn = np.diff(axle, axis=0), np.diff(yaw)
    middle = 0.5 * (yaw[1:] + yaw[:-1])
    across = step[:, 1] * np.cos(middle) - step[:, 0] * np.sin(middle)
    assert np.abs(across).max() < 4e-3
    way = np.hypot(*step.T)
    assert way.max() < 0.72 and np.all(np.abs(turn) < way / 3.6 + 5e-4)
    start = scenario.tracks.state[0, 0, 2]
    assert abs(abs(np.angle(np.exp(1j * (yaw[0] - start)))) - np.pi / 2) < 0.5  # stands across the road at first


def test_walkers_are_hidden_before_they_come():
    """The line of sight from the ego's camera to the walker meets the occluder at some time before the walker is in the way."""
    hidden = 0
    for seed in range(16):
        scenario = made("occluded_pedestrian", seed)
        row, cover, k0 = row_of(scenario, "walker"), row_of(scenario, "occluder"), scenario.start_step
        for k in range(k0, k0 + 20):
            x, y, yaw = scenario.tracks.state[0, k, :3]
            sight = shapely.LineString([(x + 0.5 * np.cos(yaw), y + 0.5 * np.sin(yaw)), scenario.tracks.state[row, k, :2]])
            if sight.intersects(box(scenario, cover, k)):
                hidden += 1
                break
        assert scenario.tracks.size[cover, 0, 2] > 1.6 and np.ptp(scenario.tracks.state[cover, :, :2], axis=0).max() == 0.0
    assert hidden >= 14


@pytest.mark.parametrize("family", ON_FOOT)
def test_people_do_not_wait_on_lanes(family):
    for seed in SEEDS:
        scenario = made(family, seed)
        lanes = area(scenario, MapLayer.LANE, MapLayer.LANE_CONNECTOR)
        state = scenario.tracks.state[row_of(scenario, *ACTORS[family])]
        still = (np.hypot(*state[:, 3:].T) < 0.05) & shapely.contains_xy(lanes, state[:, 0], state[:, 1])
        assert not (np.convolve(still, np.ones(11), "valid") == 11).any()


def test_harder_leaves_less_notice():
    def drawn(difficulty):
        scenes = (underway(Draw("people", i), ("straight",)) for i in range(12))
        return np.mean([(m.notice, m.warning) for m in (moment(scene, difficulty) for scene in scenes)], axis=0)

    notices = np.array([drawn(difficulty) for difficulty in (0.0, 0.5, 1.0)])
    assert np.all(np.diff(notices, axis=0) < -0.3)
    for i in range(12):  # who brakes fully a moment after they set out stops before them
        scene = underway(Draw("people", i), ("straight",))
        speed, m = float(scene.vehicles[0].v[0]), moment(scene, 1.0)
        assert speed * 0.3 + speed * speed / (2.0 * 8.0) < speed * m.notice
        assert abs(m.contact / DT - round(m.contact / DT)) < 1e-9 and m.contact <= 3.6


def test_one_family_gives_different_scenarios():
    for family, names in ACTORS.items():
        scenarios = [made(family, seed) for seed in SEEDS]
        rows = [row_of(s, *names) for s in scenarios]
        more = [made(family, seed) for seed in range(16)]
        assert len({s.tags[2] for s in more}) >= (4 if family != "cyclist_at_turn" else 2)  # kinds of street
        speeds = [round(float(np.hypot(*s.tracks.state[r, :, 3:].T).max()), 2) for s, r in zip(scenarios, rows, strict=True)]
        assert len(set(speeds)) >= 6
        assert len({tuple(s.tracks.size[r, 0]) for s, r in zip(scenarios, rows, strict=True)}) >= 3


@pytest.mark.parametrize("family", [pedestrians.jaywalker, vehicles_backing.backing_out], ids=lambda f: f.__name__)
def test_idm_fails_more_often_where_it_is_harder(family):
    from worldengine_envs.cli.judging import drive_baseline
    from worldengine_envs.envs.baselines import logged_poses
    from worldengine_envs.envs.reference import attach_reference

    failures = []
    for difficulty in (0.1, 0.95):
        scenarios, seed = [], 0
        while len(scenarios) < 16:
            seed += 1
            try:
                scene = family(Draw("harder", seed), difficulty)
            except Unfit:
                continue
            scenario = assemble(scene, family.__name__, seed, difficulty)
            scenarios.append(attach_reference(scenario, logged_poses(scenario, scenario.steps_ahead)))
        failures.append(sum(not result["success"] for result in drive_baseline(scenarios, "idm")))
    assert failures[1] >= failures[0] + 4, failures
