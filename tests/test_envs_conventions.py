"""Gymnasium's and Stable-Baselines3's conventions, ids and registration."""

import pickle
import subprocess
import sys
import warnings
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from factory import Agent, straight_scenario
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from pack_helpers import small_pack

import worldengine_envs
from worldengine_envs.envs.driving_env import DrivingEnv
from worldengine_envs.envs.library import Library
from worldengine_envs.envs.registration import MAX_SINGLE_IDS
from worldengine_envs.envs.selection import MemoryPack
from worldengine_envs.errors import DataError

PACK = [
    straight_scenario([Agent(20.0, 0.0, 8.0)], id="lead", split="train", tags=("car", "rare")),
    straight_scenario(id="empty", tags=("rare",)),
]


@pytest.fixture
def packs(tmp_path, monkeypatch):
    """A pack on the search path, registered; ids are taken out again."""
    small_pack(tmp_path / "packs" / "small")
    monkeypatch.setenv("WORLDENGINE_PACKS", str(tmp_path / "packs"))
    before = set(gym.registry)
    worldengine_envs.register_packs()
    yield tmp_path / "packs"
    for name in set(gym.registry) - before:
        del gym.registry[name]


@pytest.mark.parametrize("action", ["control", "trajectory", "anchor"])
def test_gymnasium_checker(action):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(DrivingEnv(PACK, action=action, render_mode="rgb_array"), skip_render_check=True)


@pytest.mark.parametrize("action", ["control", "anchor"])
def test_stable_baselines_checker(action):
    from stable_baselines3.common.env_checker import check_env as check

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*unconventional shape")  # sets of agents are no images and no vectors
        check(DrivingEnv(PACK, action=action))


def test_made_by_id(packs):
    env = gym.make("WorldEngine/small.a_015-v0")
    assert env.reset(seed=0)[1]["scenario"] == "a_015"
    check_env(gym.make("WorldEngine/small.a_015-v0", render_mode="rgb_array").unwrapped)
    env = gym.make("WorldEngine/small-v0", split="train", action="anchor", traffic="idm")
    names = {env.reset(seed=seed)[1]["scenario"] for seed in range(20)}
    assert names == {"a_015", "a_025"} == set(env.unwrapped.scenario_ids)
    assert env.reset(options={"scenario": "a_025"})[1]["scenario"] == "a_025"
    with pytest.raises(DataError, match="b_015"):
        env.reset(options={"scenario": "b_015"})


def test_specs_travel_as_json(packs):
    spec = gym.spec("WorldEngine/small.b_015-v0")
    assert spec.kwargs["observation"] == "state"
    again = EnvSpec.from_json(spec.to_json())
    env = gym.make(again)
    env.reset(seed=0)
    assert EnvSpec.from_json(env.spec.to_json()).id == spec.id


def test_made_as_vector(packs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs = gym.make_vec("WorldEngine/small-v0", num_envs=3, split="test")
    assert type(envs).__name__ == "DrivingVectorEnv" and envs.num_envs == 3
    observations, _ = envs.reset(seed=0)
    assert envs.observation_space.contains(observations)
    envs.action_space.seed(0)
    observations, *_ = envs.step(envs.action_space.sample())
    assert envs.observation_space.contains(observations)
    assert gym.make_vec("WorldEngine/small-v0", num_envs=2, vectorization_mode="sync").reset(seed=0)


def test_scenarios_lists_ids_with_metadata(packs):
    everyone = worldengine_envs.scenarios(pack="small")
    assert [info.scenario for info in everyone] == ["a_015", "a_025", "b_015"]
    train = worldengine_envs.scenarios(tags=["straight"], split="train", pack="small")
    assert [info.env_id for info in train] == ["WorldEngine/small.a_015-v0", "WorldEngine/small.a_025-v0"]
    gym.make(train[0].env_id, **train[0].kwargs).reset(seed=0)
    assert worldengine_envs.scenarios(pack="small", tags="straight") == worldengine_envs.scenarios(pack="small", tags=["straight"])
    assert worldengine_envs.scenarios(pack="small", tags=["unheard"]) == []


def test_large_packs_get_one_id(packs):
    from worldengine_envs.envs.registration import register_pack
    from worldengine_envs.scenario.pack import Pack

    class Large:
        name = "large"
        entries = Pack.open("small").entries * MAX_SINGLE_IDS

    before = len(gym.registry)
    register_pack(Large)
    register_pack(Large)
    assert len(gym.registry) == before + 1 and "WorldEngine/large-v0" in gym.registry


def test_a_broken_pack_is_named_and_left_out(packs):
    (packs / "broken").mkdir()
    (packs / "broken" / "pack.json").write_text("{")
    with pytest.warns(RuntimeWarning, match="broken"):
        worldengine_envs.register_packs()
    assert "WorldEngine/small-v0" in gym.registry
    code = "import worldengine_envs; print('imported')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "imported\n" and done.stderr.count("is left out") == 1


def test_import_is_light():
    code = "import sys, worldengine_envs; print([m for m in ('torch', 'numba', 'gsplat', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip().endswith("[]")


def test_state_environments_load_no_torch():
    code = (
        "import sys; sys.path.insert(0, 'tests'); from factory import straight_scenario\n"
        "from worldengine_envs.envs.driving_env import DrivingEnv\n"
        "DrivingEnv([straight_scenario()]).reset(seed=0); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_pickled_environments_start_anew():
    env = pickle.loads(pickle.dumps(DrivingEnv(PACK, action="anchor", traffic="idm")))
    assert env.settings.traffic == "idm" and env.reset(seed=3)[1]["scenario"] in ("lead", "empty")


def test_selection_by_split_and_tags():
    assert DrivingEnv(PACK, split="train").scenario_ids == ("lead",)
    assert DrivingEnv(PACK, tags=["rare"]).scenario_ids == ("lead", "empty")
    assert DrivingEnv(PACK, tags=["rare", "car"]).scenario_ids == ("lead",)
    assert DrivingEnv(PACK, scenario=["empty"]).scenario_ids == ("empty",)


def test_what_does_not_fit_the_horizon_is_left_out_by_name():
    short = straight_scenario(id="short", seconds=6.0)
    env = DrivingEnv([*PACK, short], horizon_s=8.0)
    assert env.scenario_ids == ("lead", "empty") and list(env.left_out) == ["short"]
    with pytest.raises(DataError, match="short"):
        DrivingEnv([short], horizon_s=8.0)
    with pytest.raises(DataError, match="too short"):
        env.reset(options={"scenario": "short"})


def test_steps_need_a_reset():
    env = DrivingEnv(PACK)
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(2))


def test_episodes_and_their_info():
    env = DrivingEnv([straight_scenario([Agent(30.0, 0.0)], id="wall")])
    env.reset(seed=0)
    done, steps = False, 0
    while not done:
        _, _, terminated, truncated, info = env.step(np.zeros(2))
        steps += 1
        done = terminated or truncated
    # the ego's front is 2.588 m ahead of its centre, the wall's rear 2.3 m before its own; both at 10 m/s
    assert terminated and not truncated and steps == 26
    assert info["success"] is False and info["nc"] == 0.0 and info["pdms"] == 0.0
    assert info["infraction"] == "collision" and info["infraction_what"] == "agent_0"
    assert info["infraction_time"] == pytest.approx(2.6) and info["infraction_where"][0] == pytest.approx(28.588, abs=0.5)
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(2))
    env = DrivingEnv([straight_scenario()])
    env.reset(seed=0)
    for _ in range(40):
        _, _, terminated, truncated, info = env.step(np.zeros(2))
    assert truncated and not terminated and info["success"] is True and "infraction" not in info


def test_render_is_a_picture_only_when_asked():
    env = DrivingEnv(PACK, render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    assert before.dtype == np.uint8 and before.shape == (480, 480, 3)
    env.step(np.ones(2))
    assert (env.render() != before).any()


def test_environments_of_one_pack_share_what_is_compiled(packs):
    one, two = (gym.make("WorldEngine/small-v0").unwrapped for _ in range(2))
    other = gym.make("WorldEngine/small-v0", traffic="idm").unwrapped
    assert one.batch.library is two.batch.library is not other.batch.library
    one.reset(options={"scenario": "a_015"})
    two.reset(options={"scenario": "b_015"})
    assert len(one.batch.scenarios) == 2
    a, b = one.step(np.ones(2)), gym.make("WorldEngine/small.a_015-v0").unwrapped
    b.reset()
    for name, value in b.step(np.ones(2))[0].items():
        np.testing.assert_array_equal(value, a[0][name])


def test_scenarios_in_memory_are_checked_like_those_of_packs():
    scenario = PACK[0]
    broken = replace(scenario, route=replace(scenario.route, lanes=np.array([99], np.int32)))
    with pytest.raises(DataError, match=r"lead.*route.lanes"):
        DrivingEnv([broken])


def test_compiling_in_one_thread_does_not_spoil_what_another_reads(monkeypatch):
    shared = Library(MemoryPack(PACK), 4.0, "log")
    shared.load(["lead"])
    before, add = shared.arrays, shared.bank._add_scenario

    def add_while_another_looks(*args):
        assert shared.arrays is before
        return add(*args)

    monkeypatch.setattr(shared.bank, "_add_scenario", add_while_another_looks)
    shared.load(["empty"])
    assert len(before[0].scenarios) == 1 and len(shared.arrays[0].scenarios) == 2
