"""Which way surfaces face where points lie: Gaussians that start flat have less to learn, and lie right where no image looks."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

NEIGHBOURS = 10  # of a point, itself included, by which its surface is judged
THINNEST = 0.1  # shortest axis over the others, at the least
APART_M = 1e4  # between nodes, so that nobody is a neighbour of another node's


def surfels(xyz: np.ndarray, node: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns quats (N, 4) and standard deviations (N, 3) [m] of Gaussians as flat as the points around them lie.

    The axis z of each looks along the direction in which its neighbours vary least (principal components).

    Args:
        xyz: (N, 3) points [m].
        node: (N,) int; neighbours are of the same node.
        size: (N,) standard deviation along the surface [m].
    """
    n = len(xyz)
    quats, scales = np.zeros((n, 4)), np.repeat(np.asarray(size, np.float64)[:, None], 3, axis=1)
    quats[:, 0] = 1.0
    if n < NEIGHBOURS:
        return quats, scales
    apart = np.asarray(xyz, np.float64) + APART_M * (np.asarray(node, np.float64) - np.min(node))[:, None] * (1.0, 0.0, 0.0)
    near = cKDTree(apart).query(apart, NEIGHBOURS)[1]
    around = apart[near] - apart[near].mean(1, keepdims=True)
    values, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", around, around))
    scales[:, 2] *= np.clip(np.sqrt(np.maximum(values[:, 0], 0.0) / np.maximum(values[:, 1], 1e-12)), THINNEST, 1.0)
    alone = np.abs(around[:, :, 0]).max(1) > 0.5 * APART_M  # neighbours of another node say nothing
    scales[alone, 2] = scales[alone, 0]
    normal = axes[:, :, 0] * np.where(axes[:, 2, :1] < 0.0, -1.0, 1.0)
    quats = np.stack([1.0 + normal[:, 2], -normal[:, 1], normal[:, 0], np.zeros(n)], axis=1)  # turns z to the normal
    return quats / np.linalg.norm(quats, axis=1, keepdims=True), scales
