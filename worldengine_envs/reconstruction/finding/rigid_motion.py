"""How something rigid moved, from where its points are seen: Gauss-Newton on robust reprojection errors of many times at once.

The same sum serves the whole street and each of its actors. ``motion[t]`` takes points from where the logged poses put them at a
time of reference to where they are at step t, in the world of the logged poses. For the street itself every motion should be the
identity; what it is instead are the errors of the logged poses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from worldengine_envs.reconstruction.timeline import matrices_of

NEAREST_M = 0.5  # what is nearer to a camera, or behind it, tells nothing
SIGMA_PX = 0.5  # of a tracked feature
SCALES_PX = (12.0, 12.0, 6.0, 6.0, 3.0, 3.0, 1.5, 1.5, 1.5, 1.5)  # of Cauchy's loss, an iteration each: from wide to narrow
DAMPING = 1e-6
PART = 100_000  # sightings that are worked on at once


class Sightings(NamedTuple):
    """M times that a point was seen in an image."""

    xyz: np.ndarray  # (M, 3) in the world of the logged poses at the step at which it was measured [m]
    source: np.ndarray  # (M,) that step
    step: np.ndarray  # (M,) the step at which it was seen
    pixel: np.ndarray  # (M, 2) where [px], the first pixel's centre at 0.5, 0.5
    view: np.ndarray  # (M,) the image in which it was seen, a row of the tables below
    world_to_camera: np.ndarray  # (views, 3, 4) logged poses of the cameras
    intrinsics: np.ndarray  # (views, 4)

    def take(self, rows) -> Sightings:
        """Returns those of some rows."""
        return Sightings(*(array[rows] for array in self[:5]), *self[5:])

    def in_parts(self) -> Iterator[Sightings]:
        """Gives all, a part at a time: what is worked out for each is large."""
        for first in range(0, len(self.step), PART):
            yield self.take(slice(first, first + PART))


class Touches(NamedTuple):
    """K times that a point of one sweep lies on a surface of another."""

    xyz: np.ndarray  # (K, 3) at the step ``source``
    source: np.ndarray  # (K,)
    step: np.ndarray  # (K,) of the other sweep
    target: np.ndarray  # (K, 3) a point of the surface
    normal: np.ndarray  # (K, 3)


@dataclass(frozen=True, slots=True)
class Prior:
    """Rows of what is expected: ``weights @ (path or turns)`` is about ``weights @ start``, one dimension at a time."""

    weights: np.ndarray  # (rows, steps)
    sigma: np.ndarray  # (rows, 6) of path [m] and turns [rad]; infinite = says nothing


@dataclass(frozen=True, slots=True)
class Motion:
    """Where something is at T steps."""

    pose: np.ndarray  # (T, 4, 4)
    anchor: np.ndarray  # (T, 3) a point that moves along, where the identity would leave it [m]

    @property
    def path(self) -> np.ndarray:
        """(T, 3) where the anchor is [m]."""
        return np.einsum("tij,tj->ti", self.pose[:, :3, :3], self.anchor) + self.pose[:, :3, 3]

    @property
    def turns(self) -> np.ndarray:
        """(T, 3) rotation vectors, for turns well under pi."""
        r = self.pose[:, :3, :3]
        axis = 0.5 * np.stack([r[:, 2, 1] - r[:, 1, 2], r[:, 0, 2] - r[:, 2, 0], r[:, 1, 0] - r[:, 0, 1]], axis=1)
        sine = np.linalg.norm(axis, axis=1)
        angle = np.arctan2(sine, 0.5 * (np.trace(r, axis1=1, axis2=2) - 1.0))
        return axis * np.where(sine > 1e-9, angle / np.maximum(sine, 1e-9), 1.0)[:, None]

    def moved(self, delta: np.ndarray) -> Motion:
        """Returns the motion shifted and turned about the anchor by ``delta`` (T, 6): metres, then a rotation vector."""
        angle = np.linalg.norm(delta[:, 3:], axis=1, keepdims=True)
        quats = np.concatenate([np.cos(0.5 * angle), 0.5 * np.sinc(angle / (2.0 * np.pi)) * delta[:, 3:]], axis=1)
        turn, path, pose = matrices_of(quats), self.path, self.pose.copy()
        pose[:, :3, :3] = turn @ self.pose[:, :3, :3]
        pose[:, :3, 3] = np.einsum("tij,tj->ti", turn, self.pose[:, :3, 3] - path) + path + delta[:, :3]
        return replace(self, pose=pose)


def reprojection(motion: Motion, seen: Sightings) -> tuple[np.ndarray, np.ndarray]:
    """Returns (M, 2) errors [px] and (M,) bool which of them mean something."""
    parts = [_project(motion, part)[:2] for part in seen.in_parts()]
    return np.concatenate([np.zeros((0, 2)), *(part[0] for part in parts)]), np.concatenate(
        [np.zeros(0, bool), *(part[1] for part in parts)]
    )


def solve(start: Motion, seen: Sightings, priors: tuple[Prior, ...], touches: Touches | None = None, scales=SCALES_PX) -> Motion:
    """Returns the motion that explains best where points were seen.

    Args:
        start: A first guess; its path and turns are what the priors compare with.
        seen: Points in images.
        priors: What is expected of path and turns.
        touches: Points on surfaces, if there are any.
        scales: Of the loss [px], one for each iteration.
    """
    steps, motion = len(start.pose), start
    begin = np.concatenate([start.path, start.turns], axis=1)
    for scale in scales:
        matrix, vector = np.zeros((steps, 6, steps, 6)), np.zeros((steps, 6))
        for part in seen.in_parts():
            error, good, slope, at, back = _project(motion, part)
            weight = good / (1.0 + (error * error).sum(1) / scale**2) / SIGMA_PX**2
            _add(matrix, vector, error, slope @ at, slope @ back, part.step, part.source, weight)
        if touches is not None and len(touches.xyz):
            error, slope, at, back = _touch(motion, touches)
            weight = 1.0 / (1.0 + (error[:, 0] / 0.15) ** 2) / 0.05**2
            _add(matrix, vector, error, slope @ at, slope @ back, touches.step, touches.source, weight)
        now = np.concatenate([motion.path, motion.turns], axis=1)
        for prior in priors:
            strength = 1.0 / prior.sigma**2
            for k in range(6):
                weighted = prior.weights * strength[:, k, None]
                matrix[:, k, :, k] += prior.weights.T @ weighted
                vector[:, k] += weighted.T @ (prior.weights @ (now[:, k] - begin[:, k]))
        flat = matrix.reshape(6 * steps, 6 * steps)
        flat[np.diag_indices(6 * steps)] += DAMPING * np.maximum(np.diag(flat), 1.0)
        motion = motion.moved(-np.linalg.solve(flat, vector.ravel()).reshape(steps, 6))
    return motion


def _project(motion: Motion, seen: Sightings):
    """Returns errors, which are good, d pixel / d point (M, 2, 3), d point / d delta of ``step`` and of ``source`` (M, 3, 6)."""
    point, at, back = _carry(motion, seen.xyz, seen.source, seen.step)
    camera = seen.world_to_camera[seen.view]
    rotation = camera[:, :, :3]
    x, y, z = (np.einsum("mij,mj->mi", rotation, point) + camera[:, :, 3]).T
    good = z > NEAREST_M
    z = np.where(good, z, 1.0)
    fx, fy, cx, cy = seen.intrinsics[seen.view].T
    error = np.stack([fx * x / z + cx, fy * y / z + cy], axis=1) - seen.pixel
    zero = np.zeros_like(z)
    slope = np.stack([np.stack([fx / z, zero, -fx * x / z**2], 1), np.stack([zero, fy / z, -fy * y / z**2], 1)], 1) @ rotation
    return np.where(good[:, None], error, 0.0), good, slope, at, back


def _touch(motion: Motion, touches: Touches):
    point, at, back = _carry(motion, touches.xyz, touches.source, touches.step)
    error = ((point - touches.target) * touches.normal).sum(1, keepdims=True)
    return error, touches.normal[:, None], at, back


def _carry(motion: Motion, xyz: np.ndarray, source: np.ndarray, step: np.ndarray):
    """Returns where points are at ``step`` (M, 3), and the derivatives of that by the deltas of ``step`` and ``source``."""
    inverse, path = np.linalg.inv(motion.pose), motion.path
    relative = motion.pose[step] @ inverse[source]
    point = np.einsum("mij,mj->mi", relative[:, :3, :3], xyz) + relative[:, :3, 3]
    at, before = _lever(point - path[step]), _lever(xyz - path[source])
    return point, at, -relative[:, :3, :3] @ before


def _lever(arm: np.ndarray) -> np.ndarray:
    """Returns (M, 3, 6): how a point at ``arm`` from the centre of a turn moves with a shift and a small turn."""
    made = np.zeros((len(arm), 3, 6))
    made[:, [0, 1, 2], [0, 1, 2]] = 1.0
    made[:, 0, 4], made[:, 0, 5], made[:, 1, 3] = arm[:, 2], -arm[:, 1], -arm[:, 2]
    made[:, 1, 5], made[:, 2, 3], made[:, 2, 4] = arm[:, 0], arm[:, 1], -arm[:, 0]
    return made


def _add(matrix, vector, error, at, back, step, source, weight) -> None:
    """Adds the normal equations of residuals (M, r) with derivatives (M, r, 6) by the deltas of ``step`` and ``source``."""
    n = len(vector)
    weighted = {"at": at * weight[:, None, None], "back": back * weight[:, None, None]}
    for rows, name in ((step, "at"), (source, "back")):
        gradient = np.einsum("mra,mr->ma", weighted[name], error)
        for k in range(6):
            vector[:, k] += np.bincount(rows, gradient[:, k], n)
        for others, second in ((step, at), (source, back)):
            block = np.einsum("mra,mrb->mab", weighted[name], second)
            pair = rows * n + others
            for a in range(6):
                for b in range(6):
                    matrix[:, a, :, b] += np.bincount(pair, block[:, a, b], n * n).reshape(n, n)
