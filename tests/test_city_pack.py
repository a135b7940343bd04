"""The pack that ships, the builder that made it, and recipes that give the same bits on other machines."""

import os
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from worldengine_envs.city import FAMILIES, RARE, make_scenario
from worldengine_envs.city.streets import KINDS
from worldengine_envs.cli import judging
from worldengine_envs.envs.vector_env import DrivingVectorEnv
from worldengine_envs.scenario.pack import Pack
from worldengine_envs.scenario.quantise import scenario_hash

HASHES = """
from worldengine_envs.city import make_scenario
from worldengine_envs.scenario.quantise import scenario_hash
print(scenario_hash(make_scenario("turn", 1)), scenario_hash(make_scenario("cut_in", 2)))
"""


@pytest.fixture(scope="module")
def starter():
    import scenario_packs

    return Pack.open(os.path.join(os.path.dirname(scenario_packs.__file__), "starter"))


def test_starter_is_large_balanced_and_light(starter):
    counts = starter.manifest.counts("split")
    assert counts["common_train"] == counts["common_test"] >= 400 and counts["rare_train"] == counts["rare_test"] >= 400
    assert {entry.recipe.family for entry in starter.entries} == set(FAMILIES)
    assert len({tag for entry in starter.entries for tag in entry.tags} & set(KINDS)) >= 5
    assert len({entry.hash for entry in starter.entries}) == len(starter)
    assert (starter.folder / "pack.json").stat().st_size < 2_000_000
    for entry in starter.entries:
        assert set(entry.reference.progress) == {4.0, 8.0} and min(entry.reference.progress.values()) > 0.0
        rare = entry.recipe.family in RARE
        assert entry.split == f"{'rare' if rare else 'common'}_{'test' if entry.recipe.seed % 2 else 'train'}"
        assert ("rare" in entry.tags) == rare


@pytest.mark.parametrize("family", FAMILIES)
def test_gymnasium_checks_one_id_of_every_family(starter, family):
    """All ids: benchmarks/starter_pack.py --check-env."""
    env = gym.make(f"WorldEngine/starter.{family}_{len(family):03d}-v0", observation="state", render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)


def test_starter_recipes_give_what_their_hashes_say(starter):
    for family in FAMILIES:
        entries = [entry for entry in starter.entries if entry.recipe.family == family]
        assert entries[3].id == f"{family}_003"
        for entry in entries[:: len(entries) // 3]:
            starter.load(entry.id)  # compares the hash


def test_rare_starter_scenarios_meet_their_definition(starter):
    scenarios = [starter.load(f"{family}_{i:03d}") for family in RARE for i in (1, 8)]
    runs = {name: judging.drive_baseline(scenarios, name) for name in ("log", "constant-velocity", "brake", "pdm-closed")}
    for i, scenario in enumerate(scenarios):
        source = "pdm-closed" if scenario.reference.source == "pdm-closed" else "log"
        assert runs[source][i]["success"] and runs["log"][i]["success"]
        assert not runs["constant-velocity"][i]["success"]
        assert runs["brake"][i]["pdms"] <= runs[source][i]["pdms"] - 0.2


@pytest.mark.parametrize("traffic", ["log", "idm"])
def test_what_is_compiled_of_recipes_is_enough(starter, traffic):
    """Of scenarios made on demand only the part of the log that driving needs is kept; of those in memory all of it."""
    ids = ["jaywalker_002", "cut_in_005", "turn_001", "stop_at_light_004"]
    runs = []
    for pack in (starter, [starter.load(name) for name in ids]):
        envs = DrivingVectorEnv(pack, num_envs=len(ids), scenario=ids, traffic=traffic, horizon_s=8.0, autoreset_mode="SameStep")
        envs.action_space.seed(3)
        run = [*envs.reset(seed=5, options={"scenarios": ids})[0].values()]
        for _ in range(80):
            observations, rewards, *_ = envs.step(0.3 * envs.action_space.sample())
            run += [rewards, *observations.values()]
        runs.append((run, envs.batch.bank.arrays.log.nbytes))
    assert all(np.array_equal(a, b) for a, b in zip(runs[0][0], runs[1][0], strict=True))
    assert runs[0][1] < 0.85 * runs[1][1]


def test_interpreted_code_on_a_plain_processor_gives_the_same_bits():
    """Without numba's compiler and numpy's wide instructions: as near to another machine as one machine comes."""
    expected = [scenario_hash(make_scenario("turn", 1)), scenario_hash(make_scenario("cut_in", 2))]
    plain = {"NUMBA_DISABLE_JIT": "1", "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512_SKX AVX512_ICL AVX512_SPR"}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HASHES], env={**os.environ, **plain}, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == expected
