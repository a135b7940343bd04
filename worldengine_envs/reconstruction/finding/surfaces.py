"""Sweeps laid upon one another: which points of one lie on which surface of another."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.spatial import cKDTree

from worldengine_envs.reconstruction.finding.rigid_motion import Motion, Touches

VOXEL_M = 0.15
NEIGHBOURS = 12
FLATTEST = 0.1  # spread across a surface, of that along its narrower side
NARROWEST = 0.15  # spread along the narrower side, of that along the wider: a single line of returns has no normal


class Surface:
    """Points of a sweep, thinned, with the normals of what they lie on.

    Args:
        xyz: (N, 3) [m].
    """

    def __init__(self, xyz: np.ndarray):
        cell = np.floor(xyz / VOXEL_M).astype(np.int64)
        self.xyz = xyz[np.unique(cell, axis=0, return_index=True)[1]]
        self.tree = cKDTree(self.xyz)
        self.normal = np.zeros_like(self.xyz)
        self.flat = np.zeros(len(self.xyz), bool)
        if len(self.xyz) >= NEIGHBOURS:
            near = self.xyz[self.tree.query(self.xyz, k=NEIGHBOURS)[1]]
            near = near - near.mean(1, keepdims=True)
            spread, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", near, near))
            spread = np.sqrt(np.maximum(spread, 0.0))
            self.normal = axes[:, :, 0]
            self.flat = (spread[:, 0] < FLATTEST * spread[:, 1]) & (spread[:, 1] > NARROWEST * spread[:, 2])


def lay(motion: Motion, surfaces: dict[int, Surface], radius_m: float, most: int = 4000) -> Touches:
    """Returns which points touch which surfaces of the next sweep, and of the one before, as things are now.

    Args:
        motion: Where everything is.
        surfaces: By step.
        radius_m: Points farther apart do not touch.
        most: Points of one sweep that are looked at, evenly chosen.
    """
    steps, parts = sorted(surfaces), []
    for a, b in [*pairwise(steps), *pairwise(steps[::-1])]:
        xyz, other = surfaces[a].xyz, surfaces[b]
        xyz = xyz[np.unique(np.linspace(0, len(xyz) - 1, min(most, len(xyz))).astype(np.int64))] if len(xyz) else xyz
        if not len(xyz) or not len(other.xyz):
            continue
        relative = motion.pose[b] @ np.linalg.inv(motion.pose[a])
        far, near = other.tree.query(xyz @ relative[:3, :3].T + relative[:3, 3], distance_upper_bound=radius_m)
        good = np.isfinite(far)
        good[good] = other.flat[near[good]]
        near, xyz = near[good], xyz[good]
        parts.append((xyz, np.full(len(xyz), a), np.full(len(xyz), b), other.xyz[near], other.normal[near]))
    if not parts:
        none = np.zeros((0, 3))
        return Touches(none, np.zeros(0, np.int64), np.zeros(0, np.int64), none, none)
    return Touches(*(np.concatenate(column) for column in zip(*parts, strict=True)))
