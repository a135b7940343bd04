"""The state policy: masks hide, order does not matter, checkpoints are read without unpickling, and it is quick."""

import copy
import json
import pickle
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env

from worldengine_envs.envs.observations import state_space
from worldengine_envs.errors import DataError
from worldengine_rl.br_ppo import BRPPO
from worldengine_rl.checkpoints import load_policy
from worldengine_rl.policies import DrivingPolicy

SPACE = state_space()
AGENTS, FEATURES = SPACE["agents"].shape
VECTOR = sum(int(np.prod(SPACE[name].shape)) for name in ("ego", "route"))
ACTIONS = spaces.Discrete(7)


class Noise(gym.Env):
    """Random observations, two decisions an episode."""

    observation_space, action_space = SPACE, ACTIONS

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 2
        return self.observe(), {}

    def observe(self):
        return {name: self.np_random.random(space.shape, np.float32) for name, space in SPACE.items()}

    def step(self, action):
        self.left -= 1
        return self.observe(), float(action == 3), self.left == 0, False, {}


def observations(batch, seed=0):
    rng = np.random.default_rng(seed)
    data = {name: rng.normal(size=(batch, *space.shape)).astype(np.float32) for name, space in SPACE.items()}
    data["map_mask"] = (rng.random((batch, *SPACE["map_mask"].shape)) < 0.7).astype(np.float32)
    data["agents_mask"] = (rng.random((batch, AGENTS)) < 0.5).astype(np.float32)
    data["agents_mask"][0] = 0  # nobody there
    return data


def tensors(data):
    return {name: torch.as_tensor(value) for name, value in data.items()}


@pytest.fixture
def policy():
    torch.manual_seed(0)
    policy = DrivingPolicy(SPACE, ACTIONS, lambda _: 1e-3)
    policy.anchors.copy_(torch.randn(policy.anchors.shape, generator=torch.Generator().manual_seed(1)))
    return policy


def logits(policy, data):
    with torch.no_grad():
        return policy.get_distribution(tensors(data)).distribution.logits


def test_masked_elements_and_their_order_do_not_matter(policy):
    data = observations(32)
    expected = logits(policy, data)
    hidden = copy.deepcopy(data)
    hidden["agents"][data["agents_mask"] == 0] = 1e6
    torch.testing.assert_close(logits(policy, hidden), expected)
    order = np.random.default_rng(1).permutation(AGENTS)
    shuffled = dict(data, agents=data["agents"][:, order], agents_mask=data["agents_mask"][:, order])
    torch.testing.assert_close(logits(policy, shuffled), expected)
    seen = copy.deepcopy(data)
    seen["agents"][data["agents_mask"] == 1] += 1.0
    changed = (logits(policy, seen) - expected).abs().amax(1) > 1e-6
    assert changed[1:].all() and not changed[0]


def test_inputs_are_standardised_by_what_exists(policy):
    data = observations(500)
    data["ego"] = data["ego"] * 40 + 7
    data["agents"] = data["agents"] * 3 - 20
    data["agents"][data["agents_mask"] == 0] = 1e6
    policy.fit_inputs(tensors(data))
    for extractor in (policy.pi_features_extractor, policy.vf_features_extractor):
        standardised = extractor.standardise(extractor._vector(tensors(data)))
        torch.testing.assert_close(standardised.mean(0), torch.zeros(VECTOR), atol=1e-4, rtol=0)
        torch.testing.assert_close(standardised.std(0), torch.ones(VECTOR), atol=1e-2, rtol=0)
        agents = extractor.encoders["agents"].standardise(tensors(data)["agents"])[torch.as_tensor(data["agents_mask"]) == 1]
        torch.testing.assert_close(agents.mean(0), torch.zeros(FEATURES), atol=1e-4, rtol=0)


def test_actor_and_critic_share_nothing(policy):
    policy.predict_values(tensors(observations(8))).sum().backward()
    moved = {name for name, p in policy.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert moved and all(("vf" in name or "policy_net" not in name) and "pi_features" not in name for name in moved)
    assert not any(name.startswith(("action_net", "mlp_extractor.policy_net", "pi_features_extractor")) for name in moved)


@pytest.fixture
def checkpoint(tmp_path):
    env = make_vec_env(Noise, n_envs=2, seed=0)
    model = BRPPO(DrivingPolicy, env, n_steps=4, batch_size=8, policy_kwargs={"trunk_width": 32}, seed=0, device="cpu")
    model.learn(16)
    model.save(tmp_path / "model.zip")
    return model, tmp_path / "model.zip"


def test_checkpoint_is_read_without_pickles(checkpoint, monkeypatch):
    model, path = checkpoint

    def refuse(*_, **__):
        raise AssertionError("a pickle was opened")

    monkeypatch.setattr(pickle, "loads", refuse)
    loaded = load_policy(path)
    data = observations(16)
    torch.testing.assert_close(logits(loaded, data), logits(model.policy, data), rtol=0, atol=0)
    np.testing.assert_array_equal(loaded.act(data), model.policy.predict(data, deterministic=True)[0])


def test_bad_checkpoints_are_one_clear_error(checkpoint, tmp_path):
    model, path = checkpoint
    model.policy_kwargs["trunk_width"] = 64
    model.save(tmp_path / "wide.zip")
    with pytest.raises(DataError, match="does not fit"):
        load_policy(tmp_path / "wide.zip")
    (tmp_path / "text.zip").write_text("no zip")
    (tmp_path / "short.zip").write_bytes(path.read_bytes()[:2000])
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("data", json.dumps({}))
    contents = {"list.zip": [], "wide2.zip": {"policy_kwargs": {"trunk_width": 10**10}}, "text2.zip": {"policy_kwargs": "wide"}}
    for name, content in contents.items():
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("data", json.dumps(content))
            archive.writestr("policy.pth", zipfile.ZipFile(path).read("policy.pth"))
    for name in ("text.zip", "short.zip", "empty.zip", "absent.zip", *contents):
        with pytest.raises(DataError, match=name):
            load_policy(tmp_path / name)


def test_equal_anchors_get_equal_scores(policy):
    """Before anything is learned about single anchors, scores depend on poses only."""
    policy.anchors[4] = policy.anchors[2]
    scores = logits(policy, observations(8))
    torch.testing.assert_close(scores[:, 4], scores[:, 2])
    assert ((scores[:, 3] - scores[:, 2]).abs() > 1e-4).all()
    assert policy.world_arguments["action"] == "anchor" and policy.world_arguments["anchors"].shape == (7, 8, 3)
