"""Cloning on data with a known best answer: it finds it, stops by itself, holds recordings out, and goes on where it stopped."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from worldengine_envs.errors import DataError, WorldEngineError
from worldengine_rl.policies import DrivingPolicy
from worldengine_rl.pretraining import CloneSettings, Demonstrations, clone, split_by_recording

SPACE = spaces.Dict(
    {
        "ego": spaces.Box(-np.inf, np.inf, (4,), np.float32),
        "agents": spaces.Box(-np.inf, np.inf, (5, 3), np.float32),
        "agents_mask": spaces.Box(0, 1, (5,), np.float32),
    }
)
ANCHORS = 6


def demonstrations(decisions=600, seed=0):
    """The target is a softmax of known logits: linear in the ego's state and in the nearest agent."""
    rng = np.random.default_rng(seed)
    observations = {name: rng.normal(size=(decisions, *space.shape)).astype(np.float32) for name, space in SPACE.items()}
    observations["agents_mask"] = (rng.random((decisions, 5)) < 0.6).astype(np.float32)
    weights = np.random.default_rng(5).normal(size=(4, ANCHORS))
    nearest = np.where(observations["agents_mask"] > 0, observations["agents"][:, :, 0], -5).max(1)
    logits = observations["ego"] @ weights + nearest[:, None] * np.linspace(-1, 1, ANCHORS)
    targets = np.exp(logits - logits.max(1, keepdims=True))
    targets /= targets.sum(1, keepdims=True)
    recordings = np.array([f"log{i // 20}" for i in range(decisions)])
    return Demonstrations(observations, targets.astype(np.float32), observations["ego"][:, 0], recordings)


def make_policy(seed=0):
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    return DrivingPolicy(SPACE, spaces.Discrete(ANCHORS), lambda _: 1e-3, encoder_width=32, trunk_width=32)


def test_no_recording_is_on_both_sides():
    train, validation = split_by_recording(demonstrations(), 0.2, seed=0)
    assert len(train) + len(validation) == 600 and len(np.unique(validation.recordings)) == 6
    assert not set(train.recordings) & set(validation.recordings)


def test_one_recording_cannot_be_split():
    with pytest.raises(DataError, match="at least two"):
        clone(make_policy(), demonstrations(20), CloneSettings(), seed=0)


def test_a_loss_that_is_not_finite_stops_before_the_checkpoint(tmp_path):
    data = replace(demonstrations(100), returns=np.full(100, np.nan, np.float32))
    with pytest.raises(WorldEngineError, match="not finite"):
        clone(make_policy(), data, CloneSettings(), seed=0, checkpoint=tmp_path / "clone.pt")
    assert not (tmp_path / "clone.pt").exists()


def test_clone_learns_and_stops_at_its_best():
    policy, epochs = make_policy(), []
    settings = CloneSettings(learning_rate=3e-3, batch_size=64, max_epochs=60, patience=4)
    progress = clone(policy, demonstrations(2000), settings, seed=0, on_epoch=epochs.append)
    losses = [epoch["validation_loss"] for epoch in epochs]
    assert progress.best_epoch == int(np.argmin(losses)) + 1 and len(losses) in (60, progress.best_epoch + 4)
    fresh = demonstrations(500, seed=9)
    with torch.no_grad():
        observations = {name: torch.as_tensor(value) for name, value in fresh.observations.items()}
        chosen = policy.get_distribution(observations).distribution.probs.numpy()
        values = policy.predict_values(observations).numpy().ravel()
    assert (chosen.argmax(1) == fresh.targets.argmax(1)).mean() > 0.8  # 1/6 by chance
    assert np.corrcoef(values, fresh.returns)[0, 1] > 0.95


def test_interrupted_cloning_goes_on_to_the_same_weights(tmp_path):
    settings = CloneSettings(batch_size=64, max_epochs=4, patience=10)
    whole, halves = make_policy(), make_policy()
    clone(whole, demonstrations(), settings, seed=3)

    def interrupt(metrics):
        if metrics["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clone(halves, demonstrations(), settings, seed=3, checkpoint=tmp_path / "clone.pt", on_epoch=interrupt)
    halves = make_policy(seed=77)  # a new process knows nothing
    progress = clone(halves, demonstrations(), settings, seed=3, checkpoint=tmp_path / "clone.pt")
    assert [epoch["epoch"] for epoch in progress.history] == [1, 2, 3, 4]
    for (name, mine), other in zip(whole.state_dict().items(), halves.state_dict().values(), strict=True):
        assert torch.equal(mine, other), name
