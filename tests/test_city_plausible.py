"""Traffic is plausible in every family: see ``plausibility``. ``benchmarks/city_plausible.py`` looks at 2,000 seeds."""

import dataclasses

import numpy as np
import pytest
from plausibility import problems

from worldengine_envs.city import FAMILIES, make_scenario
from worldengine_envs.scenario.types import AgentType

SEEDS = range(0, 2000, 400)  # spread over those of the benchmark


@pytest.mark.parametrize("family", FAMILIES)
def test_traffic_is_plausible(family):
    found = {seed: problems(make_scenario(family, seed)) for seed in SEEDS}
    assert not any(found.values()), found


@pytest.fixture(scope="module")
def scenario():
    return make_scenario("stop_at_light", 1)


def changed(scenario, **arrays):
    return dataclasses.replace(scenario, tracks=dataclasses.replace(scenario.tracks, **arrays))


def moved(scenario, row, change):
    """Returns the problems after one agent's (steps, 5) states went through ``change``."""
    state = scenario.tracks.state.copy()
    state[row] = change(state[row].copy())
    return problems(changed(scenario, state=state))


def row_of(scenario, name):
    return next(i for i, token in enumerate(scenario.tracks.tokens) if token.startswith(name))


def test_what_is_not_plausible_is_found(scenario):
    speeds = np.hypot(*np.moveaxis(scenario.tracks.state[:, 0, 3:], 1, 0)) * (scenario.tracks.types == AgentType.PEDESTRIAN)
    ego, walker, parked = 0, int(np.argmax(speeds)), row_of(scenario, "parked")
    assert problems(scenario) == []

    def jump(state):
        state[50:, 0] += 0.5
        return state

    def slide(state):
        state[:, 2] += 0.2
        return state

    def run(state):
        state[:, 3:] *= 6.0
        return state

    def stop(state):
        state[:] = state[40]
        state[:, :2] = scenario.tracks.state[ego, 60, :2]
        state[:, 3:] = 0.0
        return state

    assert any("jumps" in p for p in moved(scenario, ego, jump))
    assert any("slip" in p for p in moved(scenario, ego, slide))
    assert any("speed" in p for p in moved(scenario, walker, run))
    assert any("touches" in p or "stands on a lane" in p for p in moved(scenario, walker, stop))
    assert any("parks outside" in p for p in moved(scenario, parked, stop))


def test_who_drives_over_red_is_found(scenario):
    lights = dataclasses.replace(scenario.lights, state=np.full_like(scenario.lights.state, 3))
    found = problems(dataclasses.replace(scenario, lights=lights))
    assert any("on red" in p for p in found)


def test_all_kinds_of_road_users_take_part():
    kinds = {kind: 0 for kind in (AgentType.VEHICLE, AgentType.PEDESTRIAN, AgentType.BICYCLE)}
    for seed in range(12):
        made = make_scenario("lane_follow", seed)
        for kind in kinds:
            kinds[kind] += np.count_nonzero(made.tracks.types == kind)
    assert kinds[AgentType.VEHICLE] > 120 and kinds[AgentType.PEDESTRIAN] > 60 and kinds[AgentType.BICYCLE] >= 3
