"""Training of the eye: for each direction, tell from the image who is nearest there, how near, and how they move.

The targets come from state observations of the same decisions, so no labels are needed beyond what every scenario has: rays from a
camera meet boxes of agents. The heads are thrown away; the eye is what stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from worldengine_envs.envs.observations import SCENE_M, SIZE_M
from worldengine_envs.errors import WorldEngineError
from worldengine_envs.rendering.cameras import RIGS
from worldengine_rl.eye import STRIDE, Eye, num_columns
from worldengine_rl.pretraining import Demonstrations, split_by_recording
from worldengine_rl.randomness import derived_seed, seed_torch

NOBODY, VEHICLE, PERSON, THING = range(4)  # cyclists are persons
KIND = np.array([VEHICLE, PERSON, PERSON, THING])  # by the types of state observations
REACH_M, HALF_M = 60.0, 10.0  # who is farther away is nobody; nearness = HALF_M / (HALF_M + distance)
RAYS = 3  # a column
RED_WITHIN_M = 40.0
CHUNK = 512  # decisions whose rays are cast at once


@dataclass(frozen=True)
class PerceptionSettings:
    """Settings of the training of the eye."""

    epochs: int = 4
    learning_rate: float = 1e-3
    """In the first epoch; it falls to zero along a cosine."""
    batch_size: int = 64
    rounds: int = 1
    """How often those scenarios of the training split that the clone does not learn from are driven for images; it sees the others
    as often as the clone does."""


@dataclass(frozen=True)
class Targets:
    """What the eye is to tell of each decision, for each direction: the columns of all cameras, one after another."""

    kind: np.ndarray  # (decisions, directions) int64 NOBODY, VEHICLE, PERSON or THING: the nearest
    nearness: np.ndarray  # (decisions, directions) float32 in (0, 1], 0 = nobody
    velocity: np.ndarray  # (decisions, directions, 2) float32 in the ego's axes [10 m/s], 0 = nobody
    red: np.ndarray  # (decisions,) float32 1 where the route's light is red within 40 m
    motion: np.ndarray  # (decisions, 2) float32 speed [10 m/s] and yaw rate [0.5 rad/s] of the ego, which the heads are told


def viewing_rays(rig: str, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns origins (rays, 2) [m] and unit directions (rays, 2) on the ground, RAYS for each column of all cameras of a rig.

    Args:
        rig: Its name.
        width: Of the images [px].
    """
    cameras, count = RIGS[rig], RAYS * num_columns(width)
    origins, directions = [], []
    for pose, matrix, (_, full_width) in zip(cameras.camera_to_ego, cameras.intrinsics, cameras.image_size, strict=True):
        u = (np.arange(count) + 0.5) * (STRIDE / RAYS) * full_width / width
        rays = np.column_stack(((u - matrix[0, 2]) / matrix[0, 0], np.zeros(count), np.ones(count))) @ pose[:3, :3].T
        directions.append(rays[:, :2] / np.linalg.norm(rays[:, :2], axis=1, keepdims=True))
        origins.append(np.tile(pose[:2, 3], (count, 1)))
    return np.concatenate(origins), np.concatenate(directions)


def perception_targets(observations: dict[str, np.ndarray], rig: str, width: int) -> Targets:
    """Returns the targets of state observations (decisions, ...) for a rig with images of this width [px]."""
    rays = viewing_rays(rig, width)
    total = len(observations["agents"])
    parts = []
    for start in range(0, total, CHUNK):
        part = slice(start, start + CHUNK)
        parts.append(_nearest(observations["agents"][part], observations["agents_mask"][part] > 0.5, *rays))
    kind, nearness, velocity = (np.concatenate([part[i] for part in parts]) for i in range(3))
    points = observations["map"]
    ahead = (points[..., 0] > 0) & (points[..., 0] * SCENE_M < RED_WITHIN_M) & (observations["map_mask"] > 0.5)
    red = ((points[..., 6] > 0.5) & (points[..., 10] > 0.5) & ahead).any(1)
    return Targets(kind, nearness, velocity, red.astype(np.float32), observations["ego"][:, [0, 4]])


def _nearest(agents: np.ndarray, exists: np.ndarray, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns kind, nearness and velocity of who is nearest in each direction; agents (n, agents, 12), exists (n, agents)."""
    distance = _ray_distances(agents, exists, origins, directions)  # (n, agents, rays)
    who = distance.argmin(1)  # (n, rays)
    nearest = np.take_along_axis(distance, who[:, None], 1)[:, 0].reshape(len(agents), -1, RAYS)
    ray = nearest.argmin(2)[..., None]
    who = np.take_along_axis(who.reshape(nearest.shape), ray, 2)[..., 0]  # (n, directions)
    nearest = np.take_along_axis(nearest, ray, 2)[..., 0]
    there, found = nearest < REACH_M, agents[np.arange(len(agents))[:, None], who]
    kind = np.where(there, KIND[found[..., 8:12].argmax(-1)], NOBODY)
    nearness = np.where(there, HALF_M / (HALF_M + nearest), 0.0)
    return kind, nearness.astype(np.float32), np.where(there[..., None], found[..., 4:6], 0.0).astype(np.float32)


def _ray_distances(agents: np.ndarray, exists: np.ndarray, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Returns (n, agents, rays) distance [m] along each ray to each box (slabs), infinite where it misses."""
    agents = agents.astype(np.float64)[:, :, None]
    x, y = agents[..., 0] * SCENE_M - origins[:, 0], agents[..., 1] * SCENE_M - origins[:, 1]
    cos, sin = agents[..., 2], agents[..., 3]
    near, far = np.full(x.shape, 0.0), np.full(x.shape, np.inf)
    sides = ((cos, sin, agents[..., 6]), (-sin, cos, agents[..., 7]))  # axes of the box, and its extent along them
    for ax, ay, extent in sides:
        centre, along = ax * x + ay * y, ax * directions[:, 0] + ay * directions[:, 1]
        along = np.where(np.abs(along) < 1e-9, 1e-9, along)
        a, b = (centre - 0.5 * SIZE_M * extent) / along, (centre + 0.5 * SIZE_M * extent) / along
        near, far = np.maximum(near, np.minimum(a, b)), np.minimum(far, np.maximum(a, b))
    return np.where((near <= far) & exists[:, :, None], near, np.inf)


class Perception(nn.Module):
    """An eye with the heads that it is trained by. Images show motion relative to the ego; the heads know the ego's own."""

    def __init__(self, eye: Eye, width: int = 64):
        super().__init__()
        self.eye = eye
        self.head = nn.Sequential(nn.Conv1d(eye.column_features + 2, width, 1), nn.ReLU(), nn.Conv1d(width, 7, 1))
        self.light = nn.Sequential(nn.Linear(eye.features, width // 2), nn.ReLU(), nn.Linear(width // 2, 1))

    def losses(self, images: dict[str, torch.Tensor], targets: Targets, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """Returns the terms of the loss for some decisions (n,), whose images are given, and the share of kinds told right."""
        parts = (targets.kind, targets.nearness, targets.velocity, targets.red, targets.motion)
        kind, nearness, velocity, red, motion = (torch.as_tensor(part[rows]) for part in parts)
        columns = [self.eye.columns(images[name]) for name in self.eye.cameras]
        told = [torch.cat([part, motion[:, :, None].expand(-1, -1, part.shape[2])], 1) for part in columns]
        out = torch.cat([self.head(part) for part in told], 2)  # (n, 7, directions)
        red_logit = self.light(torch.cat([part.flatten(1) for part in columns], 1))[:, 0]
        someone = (kind != NOBODY).float()
        count = someone.sum().clamp_min(1.0)
        velocity_error = (out[:, 5:] - velocity.transpose(1, 2)).abs() * someone[:, None]
        return {
            "kind": nn.functional.cross_entropy(out[:, :4], kind),
            "nearness": ((out[:, 4] - nearness).abs() * someone).sum() / count,
            "velocity": velocity_error.sum() / (2.0 * count),
            "red": nn.functional.binary_cross_entropy_with_logits(red_logit, red),
            "right": (out[:, :4].argmax(1) == kind).float().mean(),
        }


WEIGHTS = {"kind": 1.0, "nearness": 5.0, "velocity": 2.0, "red": 1.0}  # of the losses; "right" is only reported


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
    model = Perception(eye.requires_grad_(True))
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    width = next(iter(data.views.images.values())).shape[2]
    parts = split_by_recording(data, validation_share, seed)
    train, held_out = ((part, perception_targets(part.observations, rig, width)) for part in parts)
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
        metrics = _epoch(model, optimizer, *train, settings.batch_size)
        with torch.no_grad():
            validation = _epoch(model, None, *held_out, settings.batch_size)
        epoch += 1
        metrics = {"epoch": epoch, **metrics, **{f"validation_{name}": value for name, value in validation.items()}}
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
            loss = sum(WEIGHTS[name] * losses[name] for name in WEIGHTS)
            if not torch.isfinite(loss):
                raise WorldEngineError("the loss of the eye is not finite. Lower --perception.learning-rate")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for name, value in losses.items():
            totals[name] = totals.get(name, 0.0) + float(value.detach()) * len(rows)
    return {name: value / len(order) for name, value in totals.items()}
