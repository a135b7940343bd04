"""A batch of worlds behaves as so many single environments: in every autoreset mode, with any neighbours and threads."""

import numpy as np
import pytest
from factory import Agent, straight_scenario
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from worldengine_envs.envs.driving_env import DrivingEnv
from worldengine_envs.envs.vector_env import DrivingVectorEnv
from worldengine_envs.scenario.types import AgentType

PACK = [
    straight_scenario([Agent(22.0, 0.0, 5.0), Agent(10.0, 3.5, 9.0)], id="lead"),
    straight_scenario([Agent(26.0, 0.0)], id="wall"),
    straight_scenario([Agent(30.0 + 9 * i, 3.5, 6.0) for i in range(7)], id="crowd", speed=12.0),
    straight_scenario([Agent(18.0, 0.0, kind=AgentType.TRAFFIC_CONE)], id="cone", speed=7.0),
]


def same(a, b):
    """Whether two observations or infos are equal bit for bit, keys included."""
    if isinstance(a, tuple):
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            same(a[name], b[name])
    elif isinstance(a, np.ndarray) and a.dtype == object:
        assert a.shape == b.shape
        for x, y in zip(a.ravel(), b.ravel(), strict=True):
            same(x, y)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    else:
        assert type(a) is type(b) and a == b


def actions_for(kind, rng, worlds):
    if kind == "control":
        return rng.uniform(-1, 1, (worlds, 2)).astype(np.float32) * (0.6, 0.1)
    if kind == "anchor":
        return rng.integers(0, 256, worlds)
    return rng.normal(0, 0.05, (worlds, 8, 3)).astype(np.float32)


@pytest.mark.parametrize("kind", ["control", "trajectory", "anchor"])
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_equals_single_environments(kind, mode):
    settings = {"action": kind, "traffic": {"agent_0": "idm"}, "horizon_s": 4.0}
    batch = DrivingVectorEnv(PACK, num_envs=5, autoreset_mode=mode, **settings)
    singles = SyncVectorEnv([lambda: DrivingEnv(PACK, **settings)] * 5, autoreset_mode=mode)
    same(batch.reset(seed=3), singles.reset(seed=3))
    rng, ends = np.random.default_rng(1), 0
    for _ in range(130 if kind == "control" else 40):
        actions = actions_for(kind, rng, 5)
        mine, theirs = batch.step(actions), singles.step(actions)
        for a, b in zip(mine, theirs, strict=True):
            same(a, b)
        ends += int((mine[2] | mine[3]).sum())
    assert ends > 8
    assert batch.metadata["autoreset_mode"] is mode


def test_disabled_needs_resets_by_mask():
    envs = DrivingVectorEnv(PACK, num_envs=3, autoreset_mode="Disabled")
    first, info = envs.reset(seed=0, options={"scenarios": ["wall", "lead", "cone"]})
    assert info["scenario"].tolist() == ["wall", "lead", "cone"]
    done = np.zeros(3, bool)
    while not done.any():
        observation, _, terminated, truncated, _ = envs.step(np.zeros((3, 2)))
        done = terminated | truncated
    with pytest.raises(ResetNeeded):
        envs.step(np.zeros((3, 2)))
    before = {name: value[~done].copy() for name, value in observation.items()}
    again, info = envs.reset(options={"reset_mask": done, "scenario": "wall"})
    np.testing.assert_array_equal(info["_scenario"], done)
    for name, value in again.items():
        np.testing.assert_array_equal(value[~done], before[name])
        np.testing.assert_array_equal(value[done][0], first[name][0])
    _, rewards, *_ = envs.step(np.zeros((3, 2)))
    assert (rewards != 0.0).all()
    for mask, error in ((np.zeros(3, bool), ValueError), (np.ones(2, bool), ValueError), ([True] * 3, TypeError)):
        with pytest.raises(error):
            envs.reset(options={"reset_mask": mask})


def test_a_partial_reset_with_seeds_is_that_of_a_single_environment():
    envs = DrivingVectorEnv(PACK, num_envs=3)
    envs.reset(seed=0)
    mask = np.array([False, True, False])
    observation, info = envs.reset(seed=[None, 77, None], options={"reset_mask": mask})
    alone, single = DrivingEnv(PACK).reset(seed=77)
    assert info["scenario"][1] == single["scenario"]
    for name, value in alone.items():
        np.testing.assert_array_equal(observation[name][1], value)


def rollout(worlds: int, threads: int, monkeypatch, row: int = 0):
    """Returns what world `row` sees and earns; the seeds of the first worlds do not depend on how many there are."""
    monkeypatch.setenv("WORLDENGINE_THREADS", str(threads))
    envs = DrivingVectorEnv(PACK, num_envs=worlds, traffic="idm")
    observations, _ = envs.reset(seed=9)
    rng, seen = np.random.default_rng(4), [observations]
    rewards = []
    for _ in range(60):
        actions = rng.uniform(-0.5, 0.5, (64, 2))[:worlds]
        observations, reward, *_ = envs.step(actions)
        seen.append(observations)
        rewards.append(reward[row])
    return {name: np.stack([o[name][row] for o in seen]) for name in seen[0]}, np.array(rewards)


def test_same_bits_alone_among_others_and_with_any_threads(monkeypatch):
    alone = rollout(1, 1, monkeypatch)
    for worlds, threads in ((64, 1), (64, 2), (2, 2)):
        same(rollout(worlds, threads, monkeypatch)[0], alone[0])
        same(rollout(worlds, threads, monkeypatch)[1], alone[1])


def test_scenarios_with_more_agents_join_without_changing_others():
    envs = DrivingVectorEnv(PACK, num_envs=2, autoreset_mode="Disabled")
    envs.reset(seed=0, options={"scenarios": ["wall", "wall"]})
    room = envs.batch.worlds.present.shape[1]
    for _ in range(5):
        envs.step(np.zeros((2, 2)))
    ego = envs.batch.worlds.ego[0].copy()
    envs.reset(options={"scenario": "crowd", "reset_mask": np.array([False, True])})
    assert envs.batch.worlds.present.shape[1] > room
    np.testing.assert_array_equal(envs.batch.worlds.ego[0], ego)
    assert envs.batch.worlds.present[:, 1:].sum(1).tolist() == [1, 7]


def test_observations_are_copies_unless_asked():
    for copy in (True, False):
        envs = DrivingVectorEnv(PACK, num_envs=2, copy=copy)
        first, _ = envs.reset(seed=0)
        kept = first["ego"].copy()
        envs.step(np.ones((2, 2)))
        assert (first["ego"] == kept).all() == copy


def test_max_episode_steps_cannot_cut_the_score_short():
    assert DrivingVectorEnv(PACK, num_envs=1, max_episode_steps=40).num_envs == 1
    with pytest.raises(ValueError, match="horizon"):
        DrivingVectorEnv(PACK, num_envs=1, max_episode_steps=39)


@pytest.mark.parametrize("horizon_is_end", [True, False])
def test_stable_baselines_adapter(horizon_is_end):
    from stable_baselines3 import PPO

    from worldengine_envs.envs.sb3 import SB3VecEnv

    with pytest.raises(ValueError, match="SAME_STEP"):
        SB3VecEnv(DrivingVectorEnv(PACK, num_envs=2))
    settings = {"num_envs": 3, "autoreset_mode": AutoresetMode.SAME_STEP}
    with pytest.raises(ValueError, match="copy"):
        SB3VecEnv(DrivingVectorEnv(PACK, copy=False, **settings))
    adapted, plain = SB3VecEnv(DrivingVectorEnv(PACK, **settings), horizon_is_end), DrivingVectorEnv(PACK, **settings)
    adapted.seed(5)
    same(adapted.reset(), plain.reset(seed=5)[0])
    ends = 0
    for _ in range(60):
        observation, rewards, done, infos = adapted.step(np.zeros((3, 2), np.float32))
        expected, plain_rewards, terminated, truncated, plain_infos = plain.step(np.zeros((3, 2), np.float32))
        same(observation, expected)
        np.testing.assert_allclose(rewards, plain_rewards, atol=1e-7)
        for w in np.flatnonzero(done):
            same(infos[w]["terminal_observation"], plain_infos["final_obs"][w])
            assert infos[w]["TimeLimit.truncated"] == (bool(truncated[w]) and not horizon_is_end)
            assert infos[w]["success"] in (True, False)
            ends += 1
        assert all("pdms" in info for info in infos)
        np.testing.assert_array_equal(done, terminated | truncated)
    assert ends >= 3
    model = PPO("MultiInputPolicy", adapted, n_steps=16, batch_size=24, n_epochs=1, device="cpu", seed=0)
    model.learn(48)
