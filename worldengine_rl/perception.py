"""Training of the eye: from images alone, tell where on the ground somebody is, how fast they move, and if the light is red.

The targets come from state observations of the same decisions, so no labels are needed beyond what every scenario has. Only cells
that a camera looks at count. The heads are thrown away; the eye is what stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from worldengine_envs.envs.observations import SCENE_M
from worldengine_envs.errors import WorldEngineError
from worldengine_envs.rendering.cameras import RIGS
from worldengine_rl.eye import Eye
from worldengine_rl.pretraining import Demonstrations, split_by_recording
from worldengine_rl.randomness import derived_seed, seed_torch

AHEAD, ASIDE, CELL_M = 20, 12, (3.0, 2.5)  # cells ahead and across, their length and width [m]
KINDS = 3  # vehicles; pedestrians and cyclists; things
RED_WITHIN_M = 40.0


@dataclass(frozen=True)
class PerceptionSettings:
    """Settings of the training of the eye."""

    epochs: int = 6
    learning_rate: float = 1.5e-3
    """At the start of the first epoch; it falls to zero along a cosine."""
    batch_size: int = 128
    rounds: int = 1
    """How often those scenarios of the training split that the clone does not learn from are driven for images; it sees the others
    as often as the clone does."""


@dataclass(frozen=True)
class Targets:
    """What the eye is to tell of each decision."""

    occupied: np.ndarray  # (decisions, KINDS, AHEAD, ASIDE) float32 0 or 1
    velocity: np.ndarray  # (decisions, 2, AHEAD, ASIDE) float32 of who is there, in the ego's axes [10 m/s]
    red: np.ndarray  # (decisions,) float32 1 where the route's light is red within 40 m


def perception_targets(observations: dict[str, np.ndarray]) -> Targets:
    """Returns the targets of state observations (decisions, ...)."""
    agents, mask = observations["agents"], observations["agents_mask"] > 0.5
    i = np.floor(SCENE_M * agents[..., 0] / CELL_M[0]).astype(int)
    j = np.floor(SCENE_M * agents[..., 1] / CELL_M[1]).astype(int) + ASIDE // 2
    inside = mask & (i >= 0) & (i < AHEAD) & (j >= 0) & (j < ASIDE)
    rows, columns = np.nonzero(inside)
    kind = np.array([0, 1, 1, 2])[agents[..., 8:12].argmax(-1)]
    occupied = np.zeros((len(agents), KINDS, AHEAD, ASIDE), np.float32)
    velocity = np.zeros((len(agents), 2, AHEAD, ASIDE), np.float32)
    at = i[rows, columns], j[rows, columns]
    occupied[rows, kind[rows, columns], *at] = 1.0
    for axis in range(2):
        velocity[rows, axis, *at] = agents[rows, columns, 4 + axis]
    points = observations["map"]
    ahead = (points[..., 0] > 0) & (points[..., 0] * SCENE_M < RED_WITHIN_M)
    red = ((points[..., 6] > 0.5) & (points[..., 10] > 0.5) & ahead & (observations["map_mask"] > 0.5)).any(1)
    return Targets(occupied, velocity, red.astype(np.float32))


def visible_cells(rig: str) -> np.ndarray:
    """Returns (AHEAD, ASIDE) float32: 1 where the centre of the cell is between the left and right edges of a camera's image."""
    cameras = RIGS[rig]
    x, y = np.meshgrid((np.arange(AHEAD) + 0.5) * CELL_M[0], (np.arange(ASIDE) - ASIDE / 2 + 0.5) * CELL_M[1], indexing="ij")
    points = np.stack([x, y, np.zeros_like(x), np.ones_like(x)], -1)
    seen = np.zeros(x.shape, bool)
    for pose, intrinsics, (_, width) in zip(cameras.camera_to_ego, cameras.intrinsics, cameras.image_size, strict=True):
        right, _, forward = np.moveaxis(points @ np.linalg.inv(pose)[:3].T, -1, 0)
        u = intrinsics[0, 0] * right / np.maximum(forward, 1e-6) + intrinsics[0, 2]
        seen |= (forward > 0) & (u >= 0) & (u <= width)
    return seen.astype(np.float32)


class Perception(nn.Module):
    """An eye with the heads that it is trained by."""

    def __init__(self, eye: Eye, rig: str, width: int = 256):
        super().__init__()
        self.eye = eye
        self.register_buffer("visible", torch.as_tensor(visible_cells(rig)))
        self.head = nn.Sequential(nn.Linear(eye.features, width), nn.ReLU(), nn.Linear(width, (KINDS + 2) * AHEAD * ASIDE + 1))

    def losses(self, images: dict[str, torch.Tensor], targets: Targets, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """Returns the terms of the loss for some decisions (n,), whose images are given."""
        occupied, velocity, red = (torch.as_tensor(part[rows]) for part in (targets.occupied, targets.velocity, targets.red))
        out = self.head(self.eye(images))
        grid = out[:, :-1].view(-1, KINDS + 2, AHEAD, ASIDE)
        entropy = nn.functional.binary_cross_entropy_with_logits(grid[:, :KINDS], occupied, reduction="none")
        someone = occupied.amax(1, keepdim=True) * self.visible
        error = ((grid[:, KINDS:] - velocity).abs() * someone).sum() / (2 * someone.sum()).clamp_min(1.0)
        light = nn.functional.binary_cross_entropy_with_logits(out[:, -1], red)
        return {"occupied": (entropy * self.visible).sum((1, 2, 3)).mean(), "velocity": 5.0 * error, "red": 5.0 * light}


def train_eye(
    eye: Eye,
    rig: str,
    data: Demonstrations,
    settings: PerceptionSettings,
    validation_share: float,
    seed: int,
    checkpoint: Path,
    on_epoch: Callable[[dict], None] = lambda metrics: None,
) -> dict:
    """Trains the eye in place, or goes on from ``checkpoint``; returns the losses after the last epoch.

    Args:
        eye: To be trained; frozen when it is done.
        rig: Name of its cameras' rig.
        data: Demonstrations with views.
        settings, validation_share, seed: How to train; recordings held out are only looked at.
        checkpoint: Written after every epoch.
        on_epoch: Called with the losses of every epoch.

    Raises:
        WorldEngineError: A loss is not finite.
    """
    seed_torch(derived_seed(seed, "perception"))
    model = Perception(eye.requires_grad_(True), rig)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    train, validation = split_by_recording(data, validation_share, seed)
    sets = [(part, perception_targets(part.observations)) for part in (train, validation)]
    metrics, epoch = {}, 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        metrics, epoch = state["metrics"], state["metrics"]["epoch"]
    while epoch < settings.epochs:
        seed_torch(derived_seed(seed, "perception", epoch))
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / settings.epochs))
        train_losses = _epoch(model, optimizer, *sets[0], settings.batch_size)
        with torch.no_grad():
            held_out = _epoch(model, None, *sets[1], settings.batch_size)
        epoch += 1
        metrics = {"epoch": epoch, **train_losses, **{f"validation_{name}": value for name, value in held_out.items()}}
        part = checkpoint.with_suffix(".part")
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "metrics": metrics}, part)
        part.replace(checkpoint)
        on_epoch(metrics)
    eye.requires_grad_(False)
    return metrics


def _epoch(model: Perception, optimizer, data: Demonstrations, targets: Targets, batch_size: int) -> dict[str, float]:
    """Goes once through the data, learning where there is an optimiser; returns mean losses."""
    order, totals = torch.randperm(len(data)).numpy(), {}
    for start in range(0, len(order), batch_size):
        rows = np.sort(order[start : start + batch_size])
        losses = model.losses(data.views.tensors(rows), targets, rows)
        if optimizer is not None:
            loss = sum(losses.values())
            if not torch.isfinite(loss):
                raise WorldEngineError("the loss of the eye is not finite. Lower --perception.learning-rate")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for name, value in losses.items():
            totals[name] = totals.get(name, 0.0) + float(value.detach()) * len(rows)
    return {name: value / len(order) for name, value in totals.items()}
