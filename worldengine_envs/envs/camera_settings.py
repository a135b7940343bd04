"""How worlds are seen: cameras, the size of their images, and who draws them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from gymnasium import spaces

from worldengine_envs.rendering.cameras import RIGS, find_rig, intrinsics_of, rigid_inverse, scaled_rig
from worldengine_envs.scenario.types import CameraRig

HISTORY_PERIOD_S = 0.5  # between the images that are stacked
IMAGE_SIZE = (72, 128)


class Optics(NamedTuple):
    """Pinhole cameras to draw with, and how their images become those of the rig."""

    names: tuple[str, ...]
    ego_to_camera: np.ndarray  # (cameras, 4, 4) float64
    intrinsics: np.ndarray  # (cameras, 4) float64 fx, fy, cx, cy [px]
    size: tuple[int, int]  # height, width [px] that is drawn
    maps: np.ndarray | None  # (cameras, H, W, 2) float32 for ``lenses.resample``, None = images are as they are drawn


@dataclass(frozen=True)
class CameraSettings:
    """How worlds are seen; arguments as in ``EnvironmentSettings``."""

    cameras: str | tuple[str, ...] = "front"
    image_size: tuple[int, int] = IMAGE_SIZE
    renderer: str = "auto"
    device: str | None = None
    appearance: str | None = None
    image_history: int = 1
    scene_detail: float = 1.0
    min_confidence: float = 0.0

    def optics(self, rig: CameraRig) -> Optics:
        """Returns what is drawn for the cameras of a rig.

        Raises:
            DataError: A lens cannot be drawn.
        """
        from worldengine_envs.rendering.lenses import pinhole_views

        plain, maps = pinhole_views(scaled_rig(rig, self.image_size))
        size = tuple(plain.image_size[0].tolist())
        return Optics(rig.names, rigid_inverse(plain.camera_to_ego), intrinsics_of(plain), size, maps)

    def spaces(self, names: tuple[str, ...]) -> dict[str, spaces.Box]:
        """Returns the space of the images of each camera."""
        shape = (*self.image_size, 3 * self.image_history)
        return {name: spaces.Box(0, 255, shape, np.uint8) for name in names}

    def camera_names(self, selection) -> tuple[str, ...]:
        """Returns the cameras of a selection's scenarios; the first one is read where the log's cameras may be meant."""
        names = (self.cameras,) if isinstance(self.cameras, str) else self.cameras
        known = self.cameras in RIGS or all(name in RIGS["surround8"].names for name in names)
        return find_rig(self.cameras, None if known else selection.pack.load(selection.ids[0]).camera_rig).names
