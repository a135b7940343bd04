"""What a renderer is asked for and what it gives: frames made of parts that stand somewhere, and their images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from worldengine_envs.rendering.gaussians import Gaussians

EVERYWHERE = -1  # node of what is no actor: background, sky


class Frames(NamedTuple):
    """F frames of one size. What stands in frame f are the rows ``offsets[f]`` to ``offsets[f + 1]`` of the instance arrays.

    A point p of a part is seen at ``rotation @ (scale * p) + translation`` in the world.
    """

    part: np.ndarray  # (instances,) int32 handles that ``Renderer.add`` gave
    rotation: np.ndarray  # (instances, 3, 3) float64
    scale: np.ndarray  # (instances, 3) float64 stretch along the part's own axes, > 0
    translation: np.ndarray  # (instances, 3) float64 [m]
    node: np.ndarray  # (instances,) int32 number that the node image shows: row of the track, EVERYWHERE for what is no actor
    offsets: np.ndarray  # (F + 1,) int64
    world_to_camera: np.ndarray  # (F, 4, 4) float64, camera x right, y down, z forward
    intrinsics: np.ndarray  # (F, 4) float64 fx, fy, cx, cy [px]; the first pixel's centre is at 0.5, 0.5
    height: int  # [px]
    width: int

    def __len__(self) -> int:
        return len(self.world_to_camera)


class Images(NamedTuple):
    """Images of F frames: numpy arrays, or torch tensors on the renderer's device. What was not asked for is None."""

    rgb: np.ndarray | None  # (F, H, W, 3) uint8
    alpha: np.ndarray | None  # (F, H, W) float32 in [0, 1]
    depth: np.ndarray | None  # (F, H, W) float32 expected depth along the camera's z [m], 0 where nothing is
    node: np.ndarray | None  # (F, H, W) int32 node of the Gaussian at which the transmittance falls below 0.5; EVERYWHERE if none


@dataclass(frozen=True, slots=True)
class RenderSettings:
    """How Gaussians are drawn; the defaults are gsplat's, but for antialiasing."""

    antialiased: bool = True  # opacity is lowered by what the blur of eps2d adds to a Gaussian's area ("classic" without)
    eps2d: float = 0.3  # added to the variances on the image [px^2]
    near: float = 0.01  # [m]
    far: float = 1e10
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)


class Renderer(Protocol):
    """Draws frames of the parts that it was given. Memory grows with parts, not with frames."""

    settings: RenderSettings
    device: str  # "cpu" or a CUDA device

    def add(self, gaussians: Gaussians) -> int:
        """Takes over Gaussians for good and returns their handle."""

    def remove(self, part: int) -> None:
        """Forgets a part; its handle may be given again."""

    def render(self, frames: Frames, outputs: tuple[str, ...] = ("rgb",)) -> Images:
        """Returns the images named in ``outputs`` ("rgb", "alpha", "depth", "node") of all frames."""
