"""IDM agents: closed form, ODE, lights, leaders, paths, bounds."""

from dataclasses import replace

import numpy as np
import pytest
from factory import Agent, straight_scenario
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from test_simulation_world import drive, start

from worldengine_envs.scenario.types import STEP_S, AgentType, LightState
from worldengine_envs.simulation.bank import AGENT, ScenarioBank
from worldengine_envs.simulation.idm import BICYCLE, PARAMETERS, PEDESTRIAN, VEHICLE
from worldengine_envs.simulation.leader import find_leader, gather_present
from worldengine_envs.simulation.paths import straight_segments

CAR = 4.6  # length of the factory's vehicles [m]


def test_the_steady_gap_is_the_closed_form():
    # s* = s0 + v T at the leader's speed, gap = s* / sqrt(1 - (v / v0)^4)
    scenario = straight_scenario([Agent(0.0, 3.5, 5.0), Agent(-25.0, 3.5, 10.0)], seconds=61.0)
    bank, worlds = start(scenario, {"agent_1": "idm"}, horizon_s=60.0)
    agents, _ = drive(bank, worlds, 600)
    gap = agents[-1, 1, 0] - agents[-1, 2, 0] - CAR
    expected = (VEHICLE.min_gap + 5.0 * VEHICLE.headway) / np.sqrt(1 - (5.0 / 10.0) ** 4)
    assert gap == pytest.approx(expected, rel=2e-3)
    assert agents[-1, 2, 5] == pytest.approx(5.0, abs=0.01)


@pytest.mark.parametrize(("kind", "p"), [(AgentType.VEHICLE, VEHICLE), (AgentType.BICYCLE, BICYCLE)])
def test_approaching_a_standing_leader_follows_the_differential_equation(kind, p):
    speed, start_gap = 8.0, 60.0
    scenario = straight_scenario([Agent(200.0, 3.5), Agent(0.0, 3.5, speed, kind=kind)], seconds=31.0)
    length = scenario.tracks.size[2, 0, 0]
    scenario = straight_scenario(
        [Agent(start_gap + (CAR + length) / 2, 3.5), Agent(0.0, 3.5, speed, kind=kind)], seconds=31.0, speed=1.0
    )
    bank, worlds = start(scenario, {"agent_1": "idm"}, horizon_s=30.0)
    agents, _ = drive(bank, worlds, 150)
    a, b = p.max_acceleration, p.comfortable_deceleration

    def idm(_, state):
        x, v = state
        wanted = p.min_gap + max(v * p.headway + v * v / (2 * np.sqrt(a * b)), 0.0)
        braking = a * (wanted / (start_gap - x)) ** 2
        return v, np.clip(a * (1 - (v / speed) ** 4) - braking, -p.max_deceleration, a)

    t = STEP_S * np.arange(151)
    exact = solve_ivp(idm, (0.0, 15.0), (0.0, speed), t_eval=t, rtol=1e-9, atol=1e-9).y
    look_ahead = 2 * (p.min_gap + speed * p.headway + speed**2 / (2 * np.sqrt(a * b)))
    assert look_ahead > start_gap  # it sees the leader all along
    np.testing.assert_allclose(agents[:, 2, 0], exact[0], atol=0.25)
    np.testing.assert_allclose(agents[:, 2, 5], exact[1], atol=0.2)


def front(agents, a, length=CAR):
    return agents[:, a, 0] + length / 2


@pytest.mark.parametrize("light", list(LightState))
def test_lights_are_kept(light):
    # The stop line is at x = 80; 20 m ahead and 8 m/s, comfortable braking needs 16 m.
    scenario = straight_scenario([Agent(57.0, 0.0, 8.0)], light=light, seconds=13.0)
    bank, worlds = start(scenario, "idm", horizon_s=12.0)
    agents, _ = drive(bank, worlds, 120)
    if light in (LightState.RED, LightState.YELLOW):
        assert 77.0 < front(agents, 1).max() <= 80.0
    else:
        assert agents[-1, 1, 0] > 130.0


@pytest.mark.parametrize(
    ("light", "x", "stops"), [("YELLOW", 67.0, False), ("RED", 67.0, True), ("RED", 74.0, False), ("RED", 79, False)]
)
def test_who_cannot_stop_goes_on(light, x, stops):
    # Vehicles may brake by 2 m/s2 for yellow and 6 m/s2 for red: from 8 m/s that takes 16 m and 5.3 m.
    bank, worlds = start(straight_scenario([Agent(x, 0.0, 8.0)], light=LightState[light], seconds=9.0), "idm", horizon_s=8.0)
    agents, _ = drive(bank, worlds, 80)
    assert (agents[-1, 1, 5] < 0.1) == stops
    if stops:
        assert front(agents, 1)[-1] < 80.5


def test_who_waits_at_a_red_light_goes_when_it_turns_green():
    scenario = straight_scenario([Agent(76.0, 0.0, 8.0, acceleration=0.0)], light=LightState.RED, seconds=9.0)
    state = scenario.tracks.state.copy()
    state[1, : scenario.start_step + 1, 0], state[1, : scenario.start_step + 1, 3] = 76.0, 0.0  # waits until the start
    lights = scenario.lights.state.copy()
    lights[0, scenario.start_step + 30 :] = LightState.GREEN
    scenario = replace(scenario, tracks=replace(scenario.tracks, state=state), lights=replace(scenario.lights, state=lights))
    bank, worlds = start(scenario, "idm", horizon_s=8.0)
    agents, _ = drive(bank, worlds, 80)
    assert front(agents, 1)[30] <= 80.0 and agents[30, 1, 5] < 0.2
    assert agents[80, 1, 0] > 90.0


def test_a_side_lane_without_a_light_is_free():
    bank, worlds = start(straight_scenario([Agent(60.0, 3.5, 8.0)], light=LightState.RED), "idm", horizon_s=8.0)
    agents, _ = drive(bank, worlds, 80)
    assert agents[-1, 1, 0] == pytest.approx(124.0, abs=0.1)


def test_agents_yield_to_the_ego_in_front():
    bank, worlds = start(straight_scenario([Agent(-25.0, 0.0, 12.0)], speed=4.0), "idm", horizon_s=8.0)
    agents, _ = drive(bank, worlds, 80, acceleration=-1.0)
    gap = agents[:, 0, 0] - agents[:, 1, 0] - (CAR + bank.scenarios[0]["length"]) / 2
    assert gap.min() > 0.5 and agents[-1, 0, 5] < 0.1


def test_pedestrians_and_cyclists_yield_like_everyone_else():
    crossing = (
        Agent(20.0, -6.0, 1.4, np.pi / 2, AgentType.PEDESTRIAN),
        Agent(40.0, -15.0, 4.0, np.pi / 2, AgentType.BICYCLE),
        Agent(20.0, -0.5, kind=AgentType.GENERIC_OBJECT),
        Agent(40.0, 0.0),
    )
    scenario = straight_scenario(crossing, seconds=13.0, speed=0.0)
    bank, worlds = start(scenario, "idm", horizon_s=12.0)
    agents, _ = drive(bank, worlds, 120)
    assert -3.0 < agents[-1, 1, 1] < -0.5 - 0.5 - 0.3
    assert agents[-1, 2, 1] < -0.95 - 0.9
    assert (agents[-1, 1:3, 5] < 0.05).all()


def test_opposite_and_side_traffic_is_no_leader():
    agents = [Agent(0.0, 3.5, 8.0), Agent(60.0, 7.0, 8.0, np.pi), Agent(20.0, 7.0), Agent(25.0, 0.0), Agent(-10.0, 3.5, 8.0)]
    bank, worlds = start(straight_scenario(agents, lanes=3, speed=0.0), {"agent_0": "idm"}, horizon_s=4.0)
    states, _ = drive(bank, worlds, 40)
    np.testing.assert_allclose(states[:, 1, 5], 8.0, atol=1e-9)


def test_parked_agents_stay_also_when_their_track_ends():
    bank, worlds = start(straight_scenario([Agent(30.0, 3.5, last=10), Agent(40.0, 3.5, 0.02)]), "idm")
    agents, present = drive(bank, worlds, 40)
    assert present.all()
    np.testing.assert_array_equal(agents[:, 1:], np.broadcast_to(agents[0, 1:], agents[:, 1:].shape))


def test_static_objects_follow_the_log_in_any_mode():
    bank, worlds = start(straight_scenario([Agent(30.0, 3.5, kind=AgentType.TRAFFIC_CONE, last=10)]), "idm")
    _, present = drive(bank, worlds, 40)
    assert present[:11, 1].all() and not present[11:, 1].any()


def test_a_path_goes_on_along_lanes_where_the_log_ends():
    # The track ends 0.8 m beside the lane's middle and 6 degrees off: the agent merges without a jump, and crosses the junction.
    scenario = straight_scenario([Agent(30.0, 2.2, 9.0, 0.1, first=-15, last=5)], seconds=9.0)
    bank, worlds = start(scenario, "idm", horizon_s=8.0)
    agents, present = drive(bank, worlds, 80)
    assert present.all()
    np.testing.assert_array_equal(agents[0, 1, :5], scenario.tracks.state[1, scenario.start_step])
    assert agents[-1, 1, 0] > 100.0 and agents[-1, 1, 1] == pytest.approx(3.5, abs=0.01) and abs(agents[-1, 1, 2]) < 1e-3
    assert np.abs(np.diff(agents[:, 1, 2])).max() < 0.03  # yaw is smooth
    direction = np.arctan2(*np.diff(agents[:, 1, 1::-1], axis=0).T[[0, 1]])
    assert np.abs(direction - agents[1:, 1, 2]).max() < 0.05  # and it looks where it goes


def test_without_a_lane_it_stops_at_its_paths_end_and_stays():
    off_road = Agent(30.0, -12.0, 8.0, last=15)
    walker = Agent(30.0, -6.0, 1.4, kind=AgentType.PEDESTRIAN, last=15)
    scenario = straight_scenario([off_road, walker], seconds=13.0)
    bank, worlds = start(scenario, "idm", horizon_s=12.0)
    agents, present = drive(bank, worlds, 120)
    assert present.all()
    for a in (1, 2):
        end = scenario.tracks.state[a, scenario.start_step + 15, 0]
        assert end - 1.0 < agents[-1, a, 0] <= end + 1e-6 and agents[-1, a, 5] < 0.1


def test_an_agent_whose_track_begins_later_starts_there_at_its_logged_speed():
    scenario = straight_scenario([Agent(30.0, 3.5, 7.0, first=12)])
    bank, worlds = start(scenario, "idm")
    agents, present = drive(bank, worlds, 40)
    assert not present[:12, 1].any() and present[12:, 1].all()
    np.testing.assert_array_equal(agents[12, 1, :5], scenario.tracks.state[1, scenario.start_step + 12])


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_followers_never_touch_and_stay_within_their_bounds(data):
    speeds = data.draw(st.lists(st.floats(1.0, 14.0), min_size=2, max_size=7))
    gaps = data.draw(st.lists(st.floats(0.5, 3.0), min_size=len(speeds), max_size=len(speeds)))  # of the desired gap
    braking = data.draw(st.floats(0.0, 4.0))
    agents, x = [Agent(60.0, 3.5, speeds[0], acceleration=-braking)], 60.0
    for ahead, speed, share in zip(speeds, speeds[1:], gaps[1:], strict=False):
        approach = max(speed - ahead, 0.0)
        x -= CAR + share * (VEHICLE.min_gap + speed * VEHICLE.headway) + 2.0 * speed * approach / VEHICLE.comfortable_deceleration
        agents.append(Agent(x, 3.5, speed))
    bank, worlds = start(straight_scenario(agents, speed=1.0), {"agent_0": "log", "*": "idm"}, horizon_s=8.0)
    states, _ = drive(bank, worlds, 80)
    x, v = states[:, 1:, 0], states[:, 1:, 5]
    assert (x[:, :-1] - x[:, 1:] > CAR).all()  # in the order of the list, nearest first
    acceleration = np.diff(v[:, 1:], axis=0) / STEP_S
    assert acceleration.max() <= VEHICLE.max_acceleration + 1e-9 and acceleration.min() >= -VEHICLE.max_deceleration - 1e-9
    assert (v >= 0).all()
    moved = np.diff(x[:, 1:], axis=0)
    np.testing.assert_allclose(moved, STEP_S * (v[:-1, 1:] + v[1:, 1:]) / 2, atol=0.05)  # stops within a step are shorter


def nearest_by_sampling(agents, sizes, path, me, position, reach, half_corridor):
    """Slow leader search: the corridor as boxes around points every 5 cm; the first one that a centre line of a box lies in."""
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path[:, :2], axis=0).T))])
    at = np.arange(position, min(position + reach, s[-1]), 0.05)
    points = np.stack([np.interp(at, s, path[:, c]) for c in (0, 1)], axis=1)
    best = np.inf
    for j in range(len(agents)):
        if j == me:
            continue
        offset = agents[j, :2] - points
        near = int(np.hypot(*offset.T).argmin())
        if 0 < near < len(at) - 1 and np.hypot(*offset[near]) <= half_corridor + sizes[j, 1] / 2:
            best = min(best, at[near] - position - sizes[j, 0] / 2 - sizes[me, 0] / 2)
    return best


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), curvature=st.floats(-0.06, 0.06))
def test_the_leader_is_the_nearest_box_in_the_corridor(seed, curvature):
    rng, spacing = np.random.default_rng(seed), 1.0
    yaw = curvature * np.arange(60)
    path = np.zeros((60, 4))
    path[1:, 0], path[1:, 1] = np.cumsum(np.cos(yaw[:-1])), np.cumsum(np.sin(yaw[:-1]))
    sizes = np.full((12, 2), 1.2)  # squares that look along the path: the corridor test is one of the centre
    agents = np.zeros((12, 8))
    rows = rng.integers(5, 55, 12)
    aside = rng.choice([-6.0, -4.0, -3.0, -0.5, 0.0, 0.7, 3.0, 5.0], 12)
    agents[:, 0] = path[rows, 0] - aside * np.sin(yaw[rows])
    agents[:, 1] = path[rows, 1] + aside * np.cos(yaw[rows])
    agents[:, 6], agents[:, 7] = np.cos(yaw[rows]), np.sin(yaw[rows])
    agents[0, :2], agents[0, 6:] = path[2, :2], (1.0, 0.0)
    segments = straight_segments(path, spacing)
    record, crowd = np.zeros(1, AGENT), np.zeros((12, 4))
    assert gather_present(agents, sizes, np.ones(12, bool), 12, crowd) == 12
    record["path_count"], record["segment_count"], record["path_ds"] = 60, len(segments), spacing
    gap, _ = find_leader(agents, sizes, crowd, 0, path, segments, record[0], 2.0, 0, 40.0, 0.8)
    slow = nearest_by_sampling(agents, sizes, path, 0, 2.0, 40.0, 0.8)
    assert gap == pytest.approx(slow, abs=0.5) or min(gap, slow) > 38.0  # at the edge of the look-ahead either may see it


def test_parameters_are_sane():
    for p in PARAMETERS:
        assert 0 < p.comfortable_deceleration <= p.max_deceleration and p.max_acceleration > 0 < p.min_gap
    assert PEDESTRIAN.min_gap < BICYCLE.min_gap < VEHICLE.min_gap


def test_windows_of_a_recording_start_where_the_log_is():
    scenario = straight_scenario([Agent(30.0, 3.5, 7.0, acceleration=-0.5)], seconds=12.0)
    bank = ScenarioBank(4.0, "idm")
    for k in (15, 35, 55):
        s = bank.add(replace(scenario, id=f"at_{k}", start_step=k))
        row = bank.arrays.agents[bank.arrays.scenarios[s]["agent_start"] + 1]
        assert row["path_s0"] == pytest.approx(scenario.tracks.state[1, k, 0] - scenario.tracks.state[1, 0, 0], abs=1e-9)
