"""Where actors are at any time: their logged boxes between two times, all actors at once."""

from __future__ import annotations

import numpy as np
import torch

from worldengine_envs.reconstruction.camera_log import ActorTrack
from worldengine_envs.reconstruction.scene_graph import quats_of

LONGEST_GAP_US = 1_000_000  # between two boxes of one who is there in between
SLACK_US = 60_000  # before the first and after the last box: cameras and LiDAR do not fire together


class Timeline:
    """The boxes of all actors, ready to be asked for at a time.

    Args:
        actors: Their boxes.
    """

    def __init__(self, actors: tuple[ActorTrack, ...]):
        self.traversals = np.array([actor.traversal for actor in actors], dtype=object)
        lengths = np.array([len(actor.time_us) for actor in actors], np.int64)
        self.start = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)  # (actors + 1,) rows of the tables below
        none = np.zeros(0, np.int64)
        self.time_us = np.concatenate([none, *(np.asarray(actor.time_us, np.int64) for actor in actors)])
        poses = np.concatenate([np.zeros((0, 4, 4)), *(np.asarray(actor.box_to_world, np.float64) for actor in actors)])
        self.centres = poses[:, :3, 3].copy()
        self.quats = quats_of(torch.from_numpy(poses[:, :3, :3])).numpy()
        self.origin = int(self.time_us.min()) if len(self.time_us) else 0
        self.span = int(self.time_us.max()) - self.origin + 2 if len(self.time_us) else 1
        self.order = np.repeat(np.arange(len(actors)), lengths) * self.span + self.time_us - self.origin

    def __len__(self) -> int:
        """Number of actors."""
        return len(self.start) - 1

    def at(self, time_us: int, traversal: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns rotation (actors, 3, 3), centre (actors, 3) [m] and whether there (actors,) bool, at a time of a drive.

        Who is not there gets the nearest of its poses.
        """
        actors = np.arange(len(self))
        when = np.clip(time_us - self.origin, 0, self.span - 2)
        after = np.searchsorted(self.order, actors * self.span + when, side="right")
        after = np.clip(after, self.start[:-1], self.start[1:] - 1)
        before = np.maximum(after - 1, self.start[:-1])
        gap = self.time_us[after] - self.time_us[before]
        weight = np.clip((time_us - self.time_us[before]) / np.maximum(gap, 1), 0.0, 1.0)[:, None]
        first, last = self.time_us[self.start[:-1]], self.time_us[self.start[1:] - 1]
        present = (self.traversals == traversal) & (time_us >= first - SLACK_US) & (time_us <= last + SLACK_US)
        inside = (time_us > self.time_us[before] + SLACK_US) & (time_us < self.time_us[after] - SLACK_US)
        present &= ~(inside & (gap > LONGEST_GAP_US))
        a, b = self.quats[before], self.quats[after]
        b = np.where((a * b).sum(1, keepdims=True) < 0.0, -b, b)
        quats = a + weight * (b - a)
        centres = self.centres[before] + weight * (self.centres[after] - self.centres[before])
        return matrices_of(quats), centres, present


def matrices_of(quats: np.ndarray) -> np.ndarray:
    """Returns (..., 3, 3) rotations of quaternions (..., 4) w, x, y, z of any length but 0."""
    w, x, y, z = np.moveaxis(quats / np.linalg.norm(quats, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
        [2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)],
        [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
