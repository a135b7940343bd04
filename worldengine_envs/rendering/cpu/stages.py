"""The arrays that the stages of the CPU rasteriser hand on.

1. projection: the Gaussians of the placed parts become ``Splats``, ellipses on the image, in no special order;
2. binning: each square tile of the image gets the list of splats that may touch it (``TileLists``), then sorted front to back;
3. blending: each tile blends its list and writes its pixels to a ``Canvas``.

Two frames that differ only in the number of threads give the same bits: splats are put in the order of depth and rank.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

TILE = 32  # edge of a tile [px]
HALF_LOG2E = 0.7213475204444817  # exp(-q / 2) = 2^(-HALF_LOG2E * q)
FIELDS = 16  # of a splat: 64 bytes, one cache line

# Columns of Splats.records
X, Y = 0, 1  # centre on the image [px]
# alpha = min(0.99, 2^(POWER - u^2 - v^2)), u = ALONG * (dx - SLOPE * dy), v = ACROSS * dy: the conic as a sum of squares, which
# loses nothing to cancellation where Gaussians are long and thin. With the blurred covariance [[xx, xy], [xy, yy]]:
ALONG = 2  # HALF_LOG2E^0.5 * sqrt(yy / det) [1/px]
SLOPE = 3  # xy / yy
ACROSS = 4  # HALF_LOG2E^0.5 / sqrt(yy) [1/px]
POWER = 5  # log2 of OPACITY
RED, GREEN, BLUE = 6, 7, 8  # colour, clamped at 0 from below
DEPTH = 9  # camera z [m]
REACH_X, REACH_Y = 10, 11  # alpha < 1/255 where |dx| or |dy| is larger [px]; not rounded up
OPACITY = 12  # opacity times compensation
COMPENSATION = 13  # opacity factor for the blur of eps2d, at least 0.005; 1 in classic mode
NODE = 14  # int32 (in Splats.integers)
RANK = 15  # int32: number of the Gaussian in the frame = Gaussians of the instances before its own + index in its part


class Splats(NamedTuple):
    """Gaussians on the image of one frame. Thread t wrote rows ``starts[t]`` to ``starts[t] + counts[t]``."""

    records: np.ndarray  # (capacity, FIELDS) float32
    integers: np.ndarray  # (capacity, FIELDS) int32: the same memory
    starts: np.ndarray  # (threads,) int64
    counts: np.ndarray  # (threads,) int64


class TileLists(NamedTuple):
    """What may touch each tile; tile (row, column) is number ``row * ceil(width / TILE) + column``."""

    offsets: np.ndarray  # (tiles + 1,) int64: the list of tile t is entries[offsets[t]:offsets[t + 1]]
    entries: np.ndarray  # (capacity,) int64: bits of the depth << 32 | row in Splats.records; front to back after blending
    spare: np.ndarray  # (capacity,) int64: room to sort
    cursors: np.ndarray  # (threads, tiles) int64: number of entries of each thread, then where it writes next


class Canvas(NamedTuple):
    """Images of one frame; those that are not wanted have no rows."""

    rgb8: np.ndarray  # (H, W, 3) uint8
    rgb: np.ndarray  # (H, W, 3) float32, not clipped, background included
    alpha: np.ndarray  # (H, W) float32: 1 - what is left of the transmittance
    depth: np.ndarray  # (H, W) float32: expected depth [m]
    node: np.ndarray  # (H, W) int32
    last: np.ndarray  # (H, W) int32: place in the tile's list after that of the last splat that was added, 0 if none
    through: np.ndarray  # (H, W) float32: what is left of the transmittance, which 1 - alpha has lost to rounding where it is small


class View(NamedTuple):
    """A camera and how Gaussians are drawn; float32 scalars."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    near: float
    far: float
    eps2d: float
    antialiased: bool
    red: float  # background
    green: float
    blue: float


class Placed(NamedTuple):
    """Parts that stand in one frame. A point p of a part is seen at ``matrix @ (p - eye)`` in the camera's frame."""

    parts: np.ndarray  # (instances, PART_FIELDS) int64: addresses and sizes of the parts' arrays, see store.py
    matrices: np.ndarray  # (instances, 3, 3) float32
    eyes: np.ndarray  # (instances, 2, 3) float32: the camera's place in the part's frame, and what rounding it has left
    axes: np.ndarray  # (instances, 3) float32 stretch of the part along its axes
    nodes: np.ndarray  # (instances,) int32
    ranks: np.ndarray  # (instances + 1,) int64 Gaussians of the instances before
    chunks: np.ndarray  # (instances + 1,) int64 chunks of the instances before
