"""Behaviour cloning: the policy learns which anchor the logged driver would have taken; held-out recordings say when to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from worldengine_envs.errors import DataError, WorldEngineError
from worldengine_rl.camera_policy import CameraPolicy
from worldengine_rl.eye import SEEN
from worldengine_rl.policies import DrivingPolicy
from worldengine_rl.randomness import derived_seed, seed_torch
from worldengine_rl.views import Views


@dataclass(frozen=True)
class CloneSettings:
    """Settings of behaviour cloning."""

    rounds: int = 4
    """How often every scenario is driven to collect demonstrations; every round perturbs the driver in another way."""
    perturbed: float = 0.25
    """Share of decisions at which another anchor than the demonstrated one is driven, so that there are states off the log."""
    softness_m: float = 0.3
    """Targets are softmax(-distance / softness) over anchors, where distance is the mean distance of poses to the log [m]."""
    learning_rate: float = 1e-3
    batch_size: int = 512
    max_epochs: int = 200
    patience: int = 10
    """Epochs without a better validation loss before it stops; the best epoch is kept."""
    validation_share: float = 0.15
    """Share of the recordings of the training split that is held out to decide when to stop."""


@dataclass(frozen=True)
class Demonstrations:
    """Decisions of the logged driver."""

    observations: dict[str, np.ndarray]  # (decisions, ...) float32
    targets: np.ndarray  # (decisions, anchors) float32 probabilities
    returns: np.ndarray  # (decisions,) float32 what the driver still earned, to give the critic a start
    recordings: np.ndarray  # (decisions,) str
    views: Views | None = None  # images of the decisions, where there are cameras

    def __len__(self) -> int:
        return len(self.targets)

    def part(self, rows: np.ndarray) -> Demonstrations:
        """Returns the given rows."""
        observations = {name: value[rows] for name, value in self.observations.items()}
        views = self.views.part(rows) if self.views is not None else None
        return Demonstrations(observations, self.targets[rows], self.returns[rows], self.recordings[rows], views)

    def seen_by(self, policy: CameraPolicy) -> Demonstrations:
        """Returns the same decisions with what the policy's eye sees in place of images."""
        observations = self.observations | {SEEN: self.views.seen(policy.eye)}
        return Demonstrations(observations, self.targets, self.returns, self.recordings)


def split_by_recording(data: Demonstrations, share: float, seed: int) -> tuple[Demonstrations, Demonstrations]:
    """Returns training and validation part, at least one recording each; no recording is in both.

    Raises:
        DataError: There is only one recording.
    """
    names = np.unique(data.recordings)
    if len(names) < 2:
        remedy = "Cloning needs at least two in the train split: one is held out to tell when to stop"
        raise DataError(f"demonstrations of {len(names)} recording", field="recordings", remedy=remedy)
    order = np.random.default_rng(derived_seed(seed, "validation")).permutation(len(names))
    held_out = names[order[: min(max(1, round(share * len(names))), len(names) - 1)]]
    is_held_out = np.isin(data.recordings, held_out)
    return data.part(np.flatnonzero(~is_held_out)), data.part(np.flatnonzero(is_held_out))


@dataclass
class CloneProgress:
    """Where cloning stands after an epoch: enough to go on from, kept in ``clone_checkpoint.pt``."""

    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    history: tuple[dict, ...] = ()

    def stopped_improving(self, settings: CloneSettings) -> bool:
        """Whether the validation loss has not fallen for so long that cloning is over."""
        return self.epoch - self.best_epoch >= settings.patience


def clone(
    policy: DrivingPolicy,
    data: Demonstrations,
    settings: CloneSettings,
    seed: int,
    checkpoint: Path | None = None,
    on_epoch: Callable[[dict], None] = lambda metrics: None,
) -> CloneProgress:
    """Trains actor (soft cross-entropy) and critic (returns of the driver) in place; the policy ends as it was in its best epoch.

    Each epoch's randomness comes from (seed, epoch), so a run that goes on from ``checkpoint`` ends in the same numbers as one
    that was never interrupted.

    Raises:
        DataError: All demonstrations are of one recording.
        WorldEngineError: A loss is not finite; the checkpoint is that of the epoch before.
    """
    train, validation = split_by_recording(data, settings.validation_share, seed)
    train_tensors, validation_tensors = _tensors(train, policy.device), _tensors(validation, policy.device)
    optimizer = torch.optim.Adam(policy.parameters(), lr=settings.learning_rate)
    progress, best = CloneProgress(), None
    if checkpoint is not None and checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        policy.load_state_dict(state["policy"])
        optimizer.load_state_dict(state["optimizer"])
        best, progress = state["best"], CloneProgress(**state["progress"])
    else:
        policy.fit_inputs(train_tensors["observations"])
    while progress.epoch < settings.max_epochs and not progress.stopped_improving(settings):
        seed_torch(derived_seed(seed, "clone", progress.epoch))
        train_loss = _epoch(policy, optimizer, train_tensors, settings.batch_size)
        metrics = {"epoch": progress.epoch + 1, "train_loss": train_loss, **_validate(policy, validation_tensors)}
        progress.epoch += 1
        progress.history = (*progress.history, metrics)
        if metrics["validation_loss"] < progress.best_loss:
            progress.best_loss, progress.best_epoch = metrics["validation_loss"], progress.epoch
            best = {name: value.clone() for name, value in policy.state_dict().items()}
        if checkpoint is not None:
            state = {"policy": policy.state_dict(), "optimizer": optimizer.state_dict(), "best": best, "progress": vars(progress)}
            _save(state, checkpoint)
        on_epoch(metrics)
    policy.load_state_dict(best)
    return progress


def _tensors(data: Demonstrations, device: torch.device) -> dict:
    observations = {name: torch.as_tensor(value, device=device) for name, value in data.observations.items()}
    return {
        "observations": observations,
        "targets": torch.as_tensor(data.targets, device=device),
        "returns": torch.as_tensor(data.returns, device=device),
    }


def _losses(policy: DrivingPolicy, data: dict, rows: torch.Tensor | slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns cross-entropy above the targets' own entropy (0 = perfect), squared value error, and share of best anchors hit."""
    observations = {name: value[rows] for name, value in data["observations"].items()}
    targets = data["targets"][rows]
    log_probs = policy.get_distribution(observations).distribution.logits  # normalised by torch's Categorical
    cross_entropy = (targets * (targets.clamp_min(1e-12).log() - log_probs)).sum(1).mean()
    value_error = (policy.predict_values(observations).flatten() - data["returns"][rows]).square().mean()
    return cross_entropy, value_error, (log_probs.argmax(1) == targets.argmax(1)).float().mean()


def _epoch(policy: DrivingPolicy, optimizer: torch.optim.Optimizer, data: dict, batch_size: int) -> float:
    policy.train()
    order, total = torch.randperm(len(data["targets"])), 0.0
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        cross_entropy, value_error, _ = _losses(policy, data, rows)
        loss = cross_entropy + value_error
        if not torch.isfinite(loss):
            remedy = "Lower --clone.learning-rate, or look for extreme observations"
            raise WorldEngineError(f"the loss of cloning is not finite. {remedy}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += float(cross_entropy.detach()) * len(rows)
    return total / len(order)


@torch.no_grad()
def _validate(policy: DrivingPolicy, data: dict, batch_size: int = 2048) -> dict[str, float]:
    policy.eval()
    rows = len(data["targets"])
    sums = np.zeros(3)
    for start in range(0, rows, batch_size):
        part = slice(start, min(start + batch_size, rows))
        sums += np.array([float(term) for term in _losses(policy, data, part)]) * (part.stop - part.start)
    return dict(zip(("validation_loss", "validation_value_error", "validation_accuracy"), (sums / rows).tolist(), strict=True))


def _save(state: dict, path: Path) -> None:
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)
