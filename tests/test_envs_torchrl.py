"""The adapter for TorchRL: its own check of specs, and the same numbers as the vector environment that it wraps."""

import numpy as np
import pytest
import torch
from factory import Agent, straight_scenario

from worldengine_envs.envs.vector_env import DrivingVectorEnv

pytest.importorskip("torchrl", reason="torchrl is not installed")

from torchrl.envs import check_env_specs

from worldengine_envs.envs.torchrl import TorchRLEnv

PACK = [straight_scenario([Agent(x=18.0, y=0.0, speed=2.0)], id="slow"), straight_scenario(id="empty")]


def worlds(**settings) -> DrivingVectorEnv:
    return DrivingVectorEnv(PACK, 4, autoreset_mode="Disabled", **settings)


@pytest.mark.parametrize("action", ["control", "trajectory", "anchor"])
def test_specs_hold(action):
    check_env_specs(TorchRLEnv(worlds(action=action)))


@pytest.mark.parametrize("horizon_is_end", [True, False])
def test_rollouts_are_those_of_the_vector_environment(horizon_is_end):
    env = TorchRLEnv(worlds(action="trajectory"), horizon_is_end)
    env.set_seed(7)
    rollout = env.rollout(20, policy=lambda *_: torch.zeros(4, 8, 3), break_when_any_done=False)
    plain = worlds(action="trajectory")
    observation, _ = plain.reset(seed=7)
    ends = 0
    for t in range(20):
        np.testing.assert_array_equal(rollout["agents"][:, t].numpy(), observation["agents"])
        observation, rewards, terminated, truncated, _ = plain.step(np.zeros((4, 8, 3), np.float32))
        after = rollout["next"][:, t]
        np.testing.assert_allclose(after["reward"][:, 0].numpy(), rewards, atol=1e-7)
        np.testing.assert_array_equal(after["ego"].numpy(), observation["ego"])
        done = terminated | truncated
        np.testing.assert_array_equal(after["done"][:, 0].numpy(), done)
        np.testing.assert_array_equal(after["terminated"][:, 0].numpy(), done if horizon_is_end else terminated)
        ends += int(done.sum())
        if done.any():
            observation, _ = plain.reset(options={"reset_mask": done})
    assert ends >= 8


def test_worlds_that_reset_themselves_are_refused():
    with pytest.raises(ValueError, match="DISABLED"):
        TorchRLEnv(DrivingVectorEnv(PACK, 2))
    with pytest.raises(ValueError, match="copy"):
        TorchRLEnv(DrivingVectorEnv(PACK, 2, autoreset_mode="Disabled", copy=False))
