"""The world step: the ego, replay, plans, appearance, threads."""

from dataclasses import replace

import numpy as np
import pytest
from factory import Agent, straight_scenario

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import STEP_S, AgentType, initial_ego_state
from worldengine_envs.simulation import threads
from worldengine_envs.simulation.bank import PLAN, ScenarioBank
from worldengine_envs.simulation.bicycle import advance
from worldengine_envs.simulation.threads import run_over_worlds
from worldengine_envs.simulation.world import make_worlds, move_ego, reset_world, reset_worlds, step_world, step_worlds


def start(scenario, traffic="log", horizon_s=4.0, plan_steps=0):
    """One world at the start of a scenario."""
    bank = ScenarioBank(horizon_s, traffic)
    s = bank.add(scenario)
    worlds = make_worlds(1, bank.max_agents, bank.horizon_steps, plan_steps)
    reset_world(bank.arrays, worlds, 0, s)
    return bank.arrays, worlds


def drive(bank, worlds, steps, acceleration=0.0, steering_rate=0.0):
    """Steps the world and returns agents (steps + 1, A, 8) and presence (steps + 1, A), the state before included."""
    agents, present = [worlds.agents[0].copy()], [worlds.present[0].copy()]
    for _ in range(steps):
        step_world(bank, worlds, 0, acceleration, steering_rate)
        agents.append(worlds.agents[0].copy())
        present.append(worlds.present[0].copy())
    return np.array(agents), np.array(present)


def test_replay_equals_the_log_bit_for_bit():
    scenario = straight_scenario(
        [Agent(30, 3.5, 7.3, yaw=0.01, acceleration=-1.0), Agent(50, -6, 1.2, 1.5, AgentType.PEDESTRIAN, first=5, last=31)]
    )
    bank, worlds = start(scenario)
    agents, present = drive(bank, worlds, 40)
    k = scenario.start_step
    logged = scenario.tracks.state[1:, k : k + 41].transpose(1, 0, 2)
    valid = scenario.tracks.valid[1:, k : k + 41].T
    np.testing.assert_array_equal(present[:, 1:], valid)
    np.testing.assert_array_equal(agents[:, 1:, :5][valid], logged[valid])
    assert present[:, 0].all()


def test_the_ego_moves_by_the_bicycle_and_its_history_is_kept():
    scenario = straight_scenario()
    bank, worlds = start(scenario)
    state, rng = initial_ego_state(scenario), np.random.default_rng(0)
    np.testing.assert_array_equal(worlds.ego[0], state)
    for k in range(1, 41):
        command = rng.uniform(-1, 1, 2)
        step_world(bank, worlds, 0, *command)
        advance(state, *command, scenario.ego.wheel_base)
        np.testing.assert_array_equal(worlds.ego[0], state)
        np.testing.assert_array_equal(worlds.ego_history[0, k], state)
    c, s, ahead = np.cos(state[2]), np.sin(state[2]), scenario.ego.rear_axle_to_center
    np.testing.assert_allclose(worlds.agents[0, 0, :3], [state[0] + ahead * c, state[1] + ahead * s, state[2]])


def test_the_environments_ego_stops_at_zero_and_the_scorers_reverses():
    bank, worlds = start(straight_scenario(speed=2.0))
    drive(bank, worlds, 20, acceleration=-8.0)
    stood = worlds.ego_history[0, :21]
    assert stood[-1, 3] == 0.0 and (stood[:, 3] >= 0).all() and (np.diff(stood[:, 0]) >= 0).all()
    np.testing.assert_allclose(np.diff(stood[:, 3]) / STEP_S, stood[1:, 5], atol=1e-12)  # acceleration is what happened
    step_world(bank, worlds, 0, 3.0, 0.0)
    assert worlds.ego[0, 3] > 0  # it goes on at once
    reset_world(bank, worlds, 0, 0)
    for _ in range(20):
        step_world(bank, worlds, 0, -8.0, 0.0, False)
    assert worlds.ego[0, 3] < -5


def test_perfect_tracking_puts_the_ego_on_the_pose_and_derives_its_motion():
    scenario = straight_scenario(speed=8.0)
    bank, worlds = start(scenario)
    radius, speed = 20.0, 8.0
    for k in range(1, 31):
        angle = speed / radius * STEP_S * k
        x, y = radius * np.sin(angle), radius * (1 - np.cos(angle))
        move_ego(bank, worlds, 0, worlds.ego_history[0, 0, 0] + x, y, angle)
    state = worlds.ego[0]
    np.testing.assert_allclose(state[2], speed / radius * 3.0)
    np.testing.assert_allclose(state[3], speed, rtol=1e-3)
    np.testing.assert_allclose([state[5], state[10]], 0.0, atol=1e-9)
    np.testing.assert_allclose(state[9], speed / radius)
    np.testing.assert_allclose(np.tan(state[7]), scenario.ego.wheel_base / radius, rtol=1e-3)


@pytest.mark.parametrize("traffic", ["log", "idm"])
def test_an_agent_that_would_appear_on_the_ego_is_held_back(traffic):
    # The ego drives 10 m/s along y = 0; the other one begins to exist at x = 12 at step 10, when the ego's box is around x = 10.
    scenario = straight_scenario([Agent(11.0, 0.0, 1.0, first=10)], speed=10.0)
    bank, worlds = start(scenario, traffic)
    agents, present = drive(bank, worlds, 40)
    first = int(present[:, 1].argmax())
    assert first > 15 and present[first:, 1].all()
    gap = agents[first, 0, 0] - agents[first, 1, 0] - (scenario.ego.length + scenario.tracks.size[1, -1, 0]) / 2
    assert 0 < gap < 1.0  # as soon as it is clear
    if traffic == "log":
        np.testing.assert_array_equal(agents[first, 1, :2], scenario.tracks.state[1, scenario.start_step + first, :2])
    else:
        np.testing.assert_array_equal(agents[first, 1, :2], scenario.tracks.state[1, scenario.start_step + 10, :2])


def test_agents_that_would_appear_on_one_another_come_one_by_one():
    scenario = straight_scenario([Agent(40, 3.5, 5.0), Agent(41, 3.5, 0.0, first=5), Agent(42, 3.5, 0.0, first=5)])
    bank, worlds = start(scenario)
    _, present = drive(bank, worlds, 40)
    assert not present[5, 2] and present[40, 2] and not present[40, 3]  # row 2 when row 1 has left, row 3 never: row 2 stands there


def test_what_exists_at_the_start_is_there_whoever_it_touches():
    scenario = straight_scenario([Agent(40, 3.5), Agent(41, 3.5)])
    _, worlds = start(scenario)
    assert worlds.present[0].all()


def test_plans_are_followed_then_extrapolated():
    scenario = straight_scenario([Agent(30, 3.5, 5.0), Agent(60, 3.5, 5.0)])
    bank, worlds = start(scenario, {"agent_0": "plan"}, plan_steps=20)
    assert worlds.mode[0, 1] == PLAN
    t = STEP_S * np.arange(1, 21)
    worlds.plans[0, 1] = np.stack([30 + 4 * t, 3.5 - 0.1 * t, np.full(20, -0.025), np.full(20, 4.0)], axis=1)
    agents, _ = drive(bank, worlds, 40)
    np.testing.assert_array_equal(agents[1:21, 1, :3], worlds.plans[0, 1, :, :3])
    beyond = agents[20, 1, :2] + 2.0 * 4.0 * np.array([np.cos(-0.025), np.sin(-0.025)])
    np.testing.assert_allclose(agents[40, 1, :2], beyond)
    np.testing.assert_array_equal(agents[:, 2, 0], scenario.tracks.state[2, 15:56, 0])  # the other one replays


def mixed_bank(count):
    """Scenarios that differ, with agents of all kinds and modes."""
    bank, rng = (
        ScenarioBank(4.0, {"agent_0": "idm", "agent_2": "idm", "agent_3": "idm", "agent_5": "idm"}),
        np.random.default_rng(1),
    )
    for i in range(count):
        agents = [Agent(rng.uniform(10, 25), 0, rng.uniform(3, 9)), Agent(rng.uniform(30, 45), 0, 5.0, acceleration=-2.0)]
        agents += [Agent(x + rng.uniform(0, 5), 3.5, rng.uniform(2, 9)) for x in (-30, -15, 5, 20)]
        agents += [Agent(40, -6, 1.2, np.pi / 2, AgentType.PEDESTRIAN, first=int(rng.integers(0, 20)))]
        bank.add(straight_scenario(agents[: 4 + i % 4], id=f"s{i}", speed=rng.uniform(4, 12)))
    return bank


def rollout(bank, scenarios, commands, worlds_beside=0):
    """Steps worlds in parallel and returns copies of their whole state."""
    worlds = make_worlds(len(scenarios), bank.max_agents + worlds_beside, bank.horizon_steps)
    run_over_worlds(reset_worlds, len(scenarios), bank.arrays, worlds, scenarios)
    for k in range(40):
        run_over_worlds(step_worlds, len(scenarios), bank.arrays, worlds, np.ascontiguousarray(commands[:, k]))
    return worlds


def test_the_same_bits_with_any_number_of_threads_and_of_worlds_beside(monkeypatch):
    bank, rng = mixed_bank(8), np.random.default_rng(2)
    scenarios = rng.integers(0, 8, 64).astype(np.int32)
    commands = rng.uniform([-3, -0.2], [2, 0.2], (64, 40, 2))
    results = []
    for count in ("1", "2", "5"):
        monkeypatch.setenv("WORLDENGINE_THREADS", count)
        results.append(rollout(bank, scenarios, commands))
    for other in results[1:]:
        for name, a, b in zip(other._fields, results[0], other, strict=True):
            assert a.tobytes() == b.tobytes(), name
    for w in (0, 17, 63):
        alone = rollout(bank, scenarios[w : w + 1], commands[w : w + 1])
        for name, a, b in zip(alone._fields, results[0], alone, strict=True):
            assert a[w].tobytes() == b[0].tobytes(), name


def test_a_reset_leaves_nothing_behind():
    bank = mixed_bank(8)
    scenarios, commands = np.arange(8, dtype=np.int32), np.zeros((8, 40, 2))
    fresh = rollout(bank, scenarios, commands)
    used = make_worlds(8, bank.max_agents, bank.horizon_steps)
    for order in (scenarios[::-1].copy(), scenarios):
        run_over_worlds(reset_worlds, 8, bank.arrays, used, order)
        for _ in range(40):
            run_over_worlds(step_worlds, 8, bank.arrays, used, commands[:, 0])
    for name, a, b in zip(used._fields, fresh, used, strict=True):
        assert a.tobytes() == b.tobytes(), name


def test_run_over_worlds_covers_each_world_once_and_passes_errors_on(monkeypatch):
    monkeypatch.setenv("WORLDENGINE_THREADS", "4")
    for n in (1, 7, 31, 64, 100):
        seen = np.zeros(n, np.int64)

        def count(first, last, seen):
            seen[first:last] += 1

        run_over_worlds(count, n, seen)
        assert (seen == 1).all()

    def fail(first, last):
        if first > 0:
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        run_over_worlds(fail, 100)
    monkeypatch.setenv("WORLDENGINE_THREADS", "many")
    with pytest.raises(DataError, match=r"WORLDENGINE_THREADS.*'many'"):
        threads.num_threads()


def test_longer_horizons_and_other_starts():
    scenario = straight_scenario([Agent(30, 3.5, 5.0)], seconds=17.0)
    bank, worlds = start(replace(scenario, start_step=20), horizon_s=15.0)
    agents, present = drive(bank, worlds, 150)
    assert present[:, 1].all()
    np.testing.assert_array_equal(agents[:, 1, :5], scenario.tracks.state[1, 20:171])


def test_a_world_at_its_horizon_stays_as_it_is():
    bank, worlds = start(straight_scenario([Agent(30, 3.5, 5.0)]))
    drive(bank, worlds, 40)
    before = [array.copy() for array in worlds]
    drive(bank, worlds, 3)
    move_ego(bank, worlds, 0, 0.0, 0.0, 0.0)
    for old, new in zip(before, worlds, strict=True):
        np.testing.assert_array_equal(old, new)
