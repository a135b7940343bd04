"""What a reconstruction starts from: images with their cameras and poses, and where there are any, LiDAR sweeps and boxes.

World frame: z up, metres, the ground near 0. Camera frame: x right, y down, z forward (OpenCV). Boxes: x forward, y left, z up,
origin at the centre. Poses are (4, 4) float64 matrices from the named frame into the world.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from worldengine_envs.scenario.types import AgentType


@dataclass(frozen=True, slots=True)
class Camera:
    """A lens and its image."""

    name: str
    height: int  # [px]
    width: int
    intrinsics: np.ndarray  # (4,) float64 fx, fy, cx, cy [px]; the first pixel's centre is at 0.5, 0.5
    distortion: np.ndarray  # (5,) float64 k1, k2, p1, p2, k3 (OpenCV)
    mask: Path | None = None  # (height, width) 8-bit image, 0 = never used: the ego's own bonnet


@dataclass(frozen=True, slots=True)
class View:
    """One image."""

    camera: int  # row of ``CameraLog.cameras``
    time_us: int
    camera_to_world: np.ndarray  # (4, 4)
    image: Path
    traversal: str = "log"  # which drive it is from: a key of ``CameraLog.traversals``
    mask: Path | None = None  # as ``Camera.mask``, for this image alone


@dataclass(frozen=True, slots=True)
class Sweep:
    """One turn of a LiDAR, motion-compensated to its time."""

    time_us: int
    lidar_to_world: np.ndarray  # (4, 4)
    read: Callable[[], np.ndarray]  # returns (points, 3) float32 in the sensor's frame [m]
    traversal: str = "log"


@dataclass(frozen=True, slots=True)
class ActorTrack:
    """Someone who moves, or could: a box and where it was."""

    token: str
    type: AgentType
    size: np.ndarray  # (3,) float64 length, width, height [m]
    time_us: np.ndarray  # (T,) int64, increasing
    box_to_world: np.ndarray  # (T, 4, 4) float64
    traversal: str = "log"  # the only drive that it was in


@dataclass(frozen=True, slots=True)
class CameraLog:
    """All that was recorded of one place, in one world frame."""

    name: str  # LABEL: letters, digits, "_", "-", "."
    dataset: str  # format that it was read from
    licence: str
    cameras: tuple[Camera, ...]
    views: tuple[View, ...]  # by traversal, time, camera
    sweeps: tuple[Sweep, ...] = ()
    actors: tuple[ActorTrack, ...] = ()
    traversals: tuple[str, ...] = ("log",)  # the first is how the scene looks by default ("day", "dusk", a drive's name)
    problems: tuple[str, ...] = field(default=())  # what was left out while reading, in words: missing images, poses that jump
