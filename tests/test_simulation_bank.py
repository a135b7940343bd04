"""The bank: logs with filled gaps, sharing, growth, refusals."""

from dataclasses import replace

import numpy as np
import pytest
from factory import Agent, straight_scenario

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import LOOKAHEAD_STEPS, STEP_S
from worldengine_envs.simulation import tables
from worldengine_envs.simulation.bank import ScenarioBank
from worldengine_envs.simulation.recordings import compile_log


def with_validity(scenario, agent, steps):
    """The scenario with one agent invalid (and zero) at some steps of the recording."""
    tracks = scenario.tracks
    valid, state, size = tracks.valid.copy(), tracks.state.copy(), tracks.size.copy()
    valid[agent, steps] = False
    state[~valid], size[~valid] = 0.0, 0.0
    return replace(scenario, tracks=replace(tracks, valid=valid, state=state, size=size))


def log_of(bank, s, agents, steps):
    """Rows of the log from the start on: (steps, agents, 10) and validity."""
    first = bank.scenarios["log_start"][s]
    rows = slice(first, first + steps * agents)
    return bank.log[rows].reshape(steps, agents, 10), bank.log_valid[rows].reshape(steps, agents)


def test_the_log_is_kept_bit_for_bit_from_the_start_step_on():
    scenario = straight_scenario([Agent(20, 3.5, 7.3, yaw=0.1, acceleration=-1.0), Agent(50, 0, 3, first=10, last=30)])
    bank = ScenarioBank(4.0)
    s = bank.add(scenario)
    log, valid = log_of(bank.arrays, s, 3, 41)
    k = scenario.start_step
    np.testing.assert_array_equal(log[:, :, :5], scenario.tracks.state[:, k : k + 41].transpose(1, 0, 2))
    np.testing.assert_array_equal(valid, scenario.tracks.valid[:, k : k + 41].T)


@pytest.mark.parametrize(("missing", "filled"), [(1, True), (9, True), (10, False)])
def test_gaps_up_to_one_second_are_interpolated(missing, filled):
    full = straight_scenario([Agent(20, 3.5, 6.0, yaw=3.0)])
    gap = np.arange(30, 30 + missing)
    log, valid = compile_log(with_validity(full, 1, gap).tracks)
    assert valid[gap, 1].all() == filled
    assert valid[gap, 1].any() == filled
    if filled:
        np.testing.assert_allclose(log[gap, 1, :5], full.tracks.state[1, gap], atol=1e-12)
        np.testing.assert_allclose(log[gap, 1, 8:], full.tracks.size[1, gap, :2], atol=1e-12)
    else:
        assert not log[gap, 1].any()


def test_yaw_is_interpolated_the_short_way_round():
    scenario = straight_scenario([Agent(20, 3.5)])
    state = scenario.tracks.state.copy()
    state[1, 30, 2], state[1, 34, 2] = np.pi - 0.1, -np.pi + 0.1
    scenario = replace(scenario, tracks=replace(scenario.tracks, state=state))
    log, _ = compile_log(with_validity(scenario, 1, np.arange(31, 34)).tracks)
    np.testing.assert_allclose(np.cos(log[31:34, 1, 2]), np.cos([np.pi - 0.05, np.pi, np.pi + 0.05]), atol=1e-12)


def test_tracks_alive_at_the_end_go_on_at_constant_velocity_and_others_are_gone():
    scenario = straight_scenario([Agent(20, 3.5, 6.0, yaw=0.3), Agent(60, 0, 5.0, last=40)])
    steps = scenario.tracks.steps
    log, valid = compile_log(scenario.tracks)
    assert len(log) == steps + LOOKAHEAD_STEPS
    t = STEP_S * np.arange(1, LOOKAHEAD_STEPS + 1)
    last = scenario.tracks.state[1, -1]
    np.testing.assert_allclose(log[steps:, 1, :2], last[:2] + t[:, None] * last[3:], atol=1e-9)
    assert valid[steps:, 1].all() and not valid[steps:, 2].any()


def test_windows_share_one_recording_and_one_map():
    scenario = straight_scenario([Agent(20, 3.5, 6.0), Agent(40, 3.5, 6.0)])
    bank = ScenarioBank(4.0, "idm")
    s0 = bank.add(scenario)
    used = {name: table.rows for name, table in bank._tables.items()}
    s1 = bank.add(replace(scenario, id="later", start_step=25))
    assert (s0, s1) == (0, 1) == (bank.add(scenario), bank.add(replace(scenario, id="later", start_step=25)))
    for name in ("log", "path", "segments", "light_state", "lanes", "maps"):
        assert bank._tables[name].rows == used[name], name
    first = bank.arrays.scenarios["agent_start"]
    moved = bank.arrays.agents["path_s0"][first[1] + 1] - bank.arrays.agents["path_s0"][first[0] + 1]
    assert moved == pytest.approx(6.0, abs=1e-6)  # 1 s later on the same path


def test_growth_keeps_what_is_there():
    bank = ScenarioBank(4.0, "idm")
    bank.add(straight_scenario([Agent(20, 3.5, 6.0)], id="s0"))
    before = bank.arrays
    kept = {name: array[: bank._tables[name].rows].copy() for name, array in before._asdict().items() if name in bank._tables}
    for i in range(1, 40):
        assert bank.add(straight_scenario([Agent(20 + i, 3.5, 6.0)], id=f"s{i}")) == i
    for name, array in kept.items():
        np.testing.assert_array_equal(getattr(bank.arrays, name)[: len(array)], array)
    assert len(bank) == 40 and len(bank.arrays.map_index.grid) >= 40


def test_fields_of_a_scenario():
    scenario = straight_scenario([], lanes=3, speed=9.0)
    bank = ScenarioBank(8.0)
    s = bank.add(scenario)
    row = bank.arrays.scenarios[s]
    assert row["p_ref"] == scenario.reference.progress[8.0]
    assert row["speed_limit"] == pytest.approx(13.9)
    assert row["ego"][3] == pytest.approx(9.0)
    assert bank.arrays.on_route[row["on_route_start"] :][: scenario.vector_map.num_polygons].sum() == 9
    route = bank.arrays.route_s[row["route_start"] :][: row["route_count"]]
    length = np.hypot(*np.diff(scenario.route.centerline[:, :2], axis=0).T).sum()
    assert route[0] == 0.0 and route[-1] == pytest.approx(length)


def test_what_cannot_be_compiled_is_refused():
    scenario = straight_scenario([Agent(20, 3.5)])
    with pytest.raises(DataError, match=r"straight.*90 recorded steps after the start, 150 needed"):
        ScenarioBank(15.0).add(scenario)
    with pytest.raises(DataError, match="traffic"):
        ScenarioBank(4.0, "wild")
    state = scenario.tracks.state.copy()
    state[1, 20] = np.nan
    with pytest.raises(DataError, match=r"tracks.state.*not finite"):
        ScenarioBank(4.0).add(replace(scenario, tracks=replace(scenario.tracks, state=state)))
    with pytest.raises(DataError, match=r"tracks.size.*shape"):
        ScenarioBank(4.0).add(replace(scenario, tracks=replace(scenario.tracks, size=scenario.tracks.size[:, :-1])))
    line = scenario.vector_map.centerline.copy()
    line[3, 0] = np.inf
    bank = ScenarioBank(4.0)
    with pytest.raises(DataError, match=r"vector_map.centerline.*1 values are not finite"):
        bank.add(replace(scenario, vector_map=replace(scenario.vector_map, centerline=line)))
    assert bank.add(scenario) == 0 and len(bank.arrays.maps) == len(bank.arrays.map_index.grid) == 1  # nothing is left of it


def test_a_table_is_bounded_before_it_is_allocated(monkeypatch):
    monkeypatch.setattr(tables, "MAX_TABLE_BYTES", 8 * 100)
    table = tables.GrowingTable("log", np.float64)
    table.append(np.arange(70.0))
    table.append(np.arange(30.0))  # doubling would exceed the bound, the rows themselves do not
    with pytest.raises(DataError, match="log: 101 rows"):
        table.append(np.arange(1.0))


def test_rows_that_would_be_read_past_the_end_are_refused_and_shift_nothing():
    scenario, other = straight_scenario([Agent(20, 3.5)]), straight_scenario([Agent(30, 3.5)], id="other")
    bank, alone = ScenarioBank(4.0), ScenarioBank(4.0)
    bad = {
        "route.lanes": {"route": replace(scenario.route, lanes=np.array([0, 6], np.int32))},
        "lights.lanes": {"lights": replace(scenario.lights, lanes=np.array([-1], np.int32), state=np.ones((1, 106), np.int8))},
        "tracks.types": {"tracks": replace(scenario.tracks, types=np.array([0, -1], np.int8))},
    }
    for field, change in bad.items():
        with pytest.raises(DataError, match=field):
            bank.add(replace(scenario, **change))
    for each in (bank, alone):  # rows that stay behind from one that was refused must not shift those of others
        s = each.add(other)
        row = each.arrays.scenarios[s]
        found = each.arrays.route_s[row["route_start"] :][: row["route_count"]]
        np.testing.assert_allclose(np.diff(found), 2.0)
