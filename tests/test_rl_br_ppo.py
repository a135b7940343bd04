"""BRPPO against closed-form optima, Stable-Baselines3's own PPO, and its promises on saving and on NaN."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from safetensors.torch import load_file
from scipy.optimize import brentq
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from worldengine_envs.errors import DataError
from worldengine_rl.br_ppo import BRPPO, KL_COEF_RANGE, NonFiniteLossError

REWARDS = np.array([0.0, 0.5, 1.0, -0.5, 0.8])


class Bandit(gym.Env):
    """One decision, reward known in closed form: a table for Discrete, linear in the action for Box."""

    def __init__(self, continuous: bool = False):
        self.observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.action_space = spaces.Box(-5.0, 5.0, (2,), np.float32) if continuous else spaces.Discrete(len(REWARDS))
        self.continuous = continuous

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action):
        reward = float(0.6 * action[0] - 0.3 * action[1]) if self.continuous else REWARDS[action]
        return np.ones(1, np.float32), reward, True, False, {}


def bandit_model(continuous=False, **arguments):
    """A policy that is one table (no hidden layers), so that the optimum lies in its class."""
    torch.set_num_threads(1)
    env = make_vec_env(lambda: Bandit(continuous), n_envs=32, seed=0)
    defaults = {
        "n_steps": 32,
        "batch_size": 1024,
        "n_epochs": 4,
        "learning_rate": 2e-2,
        "normalize_advantage": False,
        "target_kl_ref": None,
        "policy_kwargs": {"net_arch": [], "log_std_init": -0.7},
        "seed": 0,
        "device": "cpu",
        "max_grad_norm": 10.0,
    }
    return BRPPO("MlpPolicy", env, **(defaults | arguments))


def action_distribution(policy):
    with torch.no_grad():
        return policy.get_distribution(torch.ones(1, 1)).distribution


def test_discrete_optimum_is_the_tilted_reference():
    beta = 0.5
    model = bandit_model(kl_coef=beta)
    with torch.no_grad():
        model.policy.action_net.bias += torch.tensor([0.9, -0.4, -0.8, 0.5, 0.0])
    model.set_reference()
    reference = action_distribution(model.reference_policy).probs[0].numpy()
    model.learn(32 * 32 * 40)
    expected = reference * np.exp(REWARDS / beta)
    np.testing.assert_allclose(action_distribution(model.policy).probs[0].numpy(), expected / expected.sum(), atol=0.03)
    np.testing.assert_array_equal(action_distribution(model.reference_policy).probs[0].numpy(), reference)  # frozen


def test_optimum_with_replay():
    """max E[r] - c KL(q || pi) has its stationary point where r + c q / pi is the same for all actions."""
    c = 0.5
    model = bandit_model(kl_coef=0.0, replay_coef=c)
    with torch.no_grad():
        model.policy.action_net.bias += torch.tensor([0.9, -0.4, -0.8, 0.5, 0.0])
    model.set_reference()
    model.set_replay(np.ones((64, 1), np.float32))
    reference = action_distribution(model.reference_policy).probs[0].numpy()
    model.learn(32 * 32 * 60)
    level = brentq(lambda x: (c * reference / (x - REWARDS)).sum() - 1, REWARDS.max() + 1e-6, 10.0)
    np.testing.assert_allclose(action_distribution(model.policy).probs[0].numpy(), c * reference / (level - REWARDS), atol=0.03)


def test_gaussian_optimum_is_the_shifted_reference():
    beta = 0.5  # reward c.a and reference N(m, s^2): the optimum is N(m + s^2 c / beta, s^2)
    model = bandit_model(continuous=True, kl_coef=beta)
    reference = action_distribution(model.reference_policy)
    model.learn(32 * 32 * 40)
    learned = action_distribution(model.policy)
    shift = reference.scale[0] ** 2 * torch.tensor([0.6, -0.3]) / beta
    torch.testing.assert_close(learned.loc[0], reference.loc[0] + shift, atol=0.05, rtol=0)
    torch.testing.assert_close(learned.scale, reference.scale, atol=0.05, rtol=0)


class Record(BaseCallback):
    """Keeps the KL of every rollout and the coefficient that it met."""

    def _on_training_start(self):
        self.kl, self.coef = [], []

    def _on_step(self):
        return True

    def _on_rollout_start(self):
        policy, reference = (
            action_distribution(self.model.policy).probs[0],
            action_distribution(self.model.reference_policy).probs[0],
        )
        self.kl.append(float((policy * (policy / reference).log()).sum()))
        self.coef.append(self.model.kl_coef)


def test_adaptive_coefficient_settles_at_the_target():
    model = bandit_model(kl_coef=0.3, target_kl_ref=0.1, learning_rate=1e-2)
    record = Record()
    model.learn(32 * 32 * 80, callback=record)
    assert np.mean(record.kl[40:]) == pytest.approx(0.1, rel=0.2)
    # the tilted reference with that KL needs a coefficient that bisection finds
    reference = action_distribution(model.reference_policy).probs[0].numpy()
    low, high = KL_COEF_RANGE
    for _ in range(60):
        beta = np.sqrt(low * high)
        tilted = reference * np.exp((REWARDS - REWARDS.max()) / beta)
        tilted /= tilted.sum()
        low, high = (beta, high) if (tilted * np.log(np.maximum(tilted, 1e-30) / reference)).sum() > 0.1 else (low, beta)
    assert np.exp(np.mean(np.log(record.coef[40:]))) == pytest.approx(beta, rel=0.3)


def test_without_kl_it_is_ppo():
    """Same seed, no KL, one full batch: the update is Stable-Baselines3's PPO update."""
    arguments = {"n_steps": 64, "batch_size": 256, "n_epochs": 3, "seed": 3, "gamma": 0.99, "gae_lambda": 0.9, "device": "cpu"}
    envs = [make_vec_env("CartPole-v1", n_envs=4, seed=1) for _ in range(2)]
    ours = BRPPO("MlpPolicy", envs[0], kl_coef=0.0, target_kl_ref=None, bootstrap_time_limits=True, **arguments)
    theirs = PPO("MlpPolicy", envs[1], **arguments)
    ours.policy.load_state_dict(theirs.policy.state_dict())
    for model in (ours, theirs):
        torch.manual_seed(0)
        model.learn(256)
    for mine, other in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)  # sums run in another order


def test_time_limits_are_bootstrapped_only_when_asked():
    returns = {}
    for bootstrap in (False, True):
        env = make_vec_env(lambda: gym.wrappers.TimeLimit(gym.make("Pendulum-v1").unwrapped, 4), n_envs=2, seed=0)
        model = BRPPO("MlpPolicy", env, n_steps=4, batch_size=8, seed=0, bootstrap_time_limits=bootstrap, device="cpu")
        with torch.no_grad():
            model.policy.value_net.bias += 100.0
        model.learn(8)
        returns[bootstrap] = model.rollout_buffer.rewards[-1]
    np.testing.assert_allclose(returns[True] - returns[False], 100.0, atol=5.0)


def test_critic_warmup_leaves_the_actor_alone():
    model = bandit_model(critic_warmup=2)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(32 * 32 * 2)
    after = model.policy.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"value_net.weight", "value_net.bias"}
    model.learn(32 * 32, reset_num_timesteps=False)
    assert not torch.equal(model.policy.action_net.bias, before["action_net.bias"])


class Count(BaseCallback):
    steps = rollouts = 0

    def _on_step(self):
        self.steps += 1
        return True

    def _on_rollout_end(self):
        self.rollouts += 1


def test_save_load_callbacks_and_logs(tmp_path):
    model = bandit_model(target_kl_ref=0.1)
    callback = Count()
    model.learn(32 * 32 * 3, callback=callback)
    assert (callback.steps, callback.rollouts) == (96, 3)
    logged = model.logger.name_to_value
    assert {"rollout/kl_ref", "train/kl_ref", "train/kl_coef", "train/value_loss", "train/approx_kl"} <= set(logged)

    model.save(tmp_path / "model")
    loaded = BRPPO.load(tmp_path / "model", env=model.env, device="cpu")
    assert loaded.kl_coef == model.kl_coef and loaded.iterations_done == 3
    for name in ("policy", "reference_policy"):
        for mine, other in zip(getattr(model, name).parameters(), getattr(loaded, name).parameters(), strict=True):
            assert torch.equal(mine, other)
    assert not torch.equal(loaded.policy.action_net.bias, loaded.reference_policy.action_net.bias)
    assert not any(p.requires_grad for p in loaded.reference_policy.parameters())
    loaded.learn(32 * 32, reset_num_timesteps=False)
    assert loaded.iterations_done == 4


def test_restoring_opens_no_pickle_and_goes_on_alike(tmp_path, monkeypatch):
    model = bandit_model(target_kl_ref=0.1)
    model.learn(32 * 32 * 2)
    model.save(tmp_path / "model.zip")
    other = bandit_model(target_kl_ref=0.1, seed=5)

    def refuse(*_, **__):
        raise AssertionError("a pickle was opened")

    monkeypatch.setattr(pickle, "loads", refuse)
    other.restore(tmp_path / "model.zip")
    names = ("num_timesteps", "_n_updates", "iterations_done", "kl_coef", "kl_error")
    assert [getattr(other, name) for name in names] == [getattr(model, name) for name in names]
    for one in (model, other):
        one._last_obs = one.env.reset()
        torch.manual_seed(0)
        one.learn(32 * 32, reset_num_timesteps=False)
    for name in ("policy", "reference_policy"):
        for mine, theirs in zip(getattr(model, name).parameters(), getattr(other, name).parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_what_is_no_checkpoint_is_not_restored(tmp_path):
    model = bandit_model()
    model.save(tmp_path / "model.zip")
    (tmp_path / "cut.zip").write_bytes((tmp_path / "model.zip").read_bytes()[:3000])
    bandit_model(continuous=True).save(tmp_path / "other.zip")
    for name in ("cut.zip", "other.zip", "absent.zip"):
        with pytest.raises(DataError, match=name):
            model.restore(tmp_path / name)


def test_nan_stops_with_the_batch_saved(tmp_path):
    from stable_baselines3.common.logger import configure

    model = bandit_model()
    model.set_logger(configure(str(tmp_path), []))

    class Poison(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_end(self):
            self.model.rollout_buffer.advantages[3, 5] = np.nan

    before = [p.detach().clone() for p in model.policy.parameters()]
    with pytest.raises(NonFiniteLossError, match="non_finite_batch_0") as error:
        model.learn(32 * 32, callback=Poison())
    batch = load_file(error.value.batch_file)
    assert {"observations", "actions", "advantages", "returns", "old_log_prob", "reference.logits"} == set(batch)
    assert int(torch.isnan(batch["advantages"]).sum()) == 1
    assert all(torch.equal(p, q) for p, q in zip(model.policy.parameters(), before, strict=True))  # nothing was poisoned
