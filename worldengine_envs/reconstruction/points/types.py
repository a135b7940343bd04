"""What is found: points to start from, and depths of single images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

BACKGROUND = -1  # value of ``Points.node``


@dataclass(frozen=True, slots=True)
class Points:
    """N coloured points, each of the background or of an actor."""

    xyz: np.ndarray  # (N, 3) float32 in the world, or in the box's frame of the actor [m]
    rgb: np.ndarray  # (N, 3) uint8
    node: np.ndarray  # (N,) int32 BACKGROUND or row of ``CameraLog.actors``
    spacing: np.ndarray  # (N,) float32 mean distance of the nearest neighbours [m]
    source: Literal["lidar", "features", "random"]  # where most of the background is from
    problems: tuple[str, ...] = ()  # what the user should know, in words


class DepthSamples(NamedTuple):
    """Measured depths in one image."""

    pixel: np.ndarray  # (S,) int64 row * width + column
    depth: np.ndarray  # (S,) float32 along the camera's z [m]
    weight: np.ndarray  # (S,) float32 in (0, 1]

    @classmethod
    def none(cls) -> DepthSamples:
        """Returns no samples."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32))
