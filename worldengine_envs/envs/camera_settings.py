"""How worlds are seen: cameras, the size of their images, and who draws them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

from worldengine_envs.errors import DataError
from worldengine_envs.rendering.cameras import RIGS, find_rig, scaled_rig
from worldengine_envs.scenario.types import CameraRig, Scenario

HISTORY_PERIOD_S = 0.5  # between the images that are stacked
IMAGE_SIZE = (72, 128)


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

    def rig(self, scenario: Scenario) -> CameraRig:
        """Returns the cameras that a scenario is seen with, in the size of the images.

        Raises:
            DataError: Its log has no such cameras.
        """
        try:
            return scaled_rig(find_rig(self.cameras, scenario.camera_rig), self.image_size)
        except DataError as error:
            raise DataError(error.problem, scenario=scenario.id, field="cameras", remedy=error.remedy) from None

    def spaces(self, names: tuple[str, ...]) -> dict[str, spaces.Box]:
        """Returns the space of the images of each camera."""
        shape = (*self.image_size, 3 * self.image_history)
        return {name: spaces.Box(0, 255, shape, np.uint8) for name in names}

    def first_rig(self, selection) -> CameraRig:
        """Returns the cameras of the first scenario of a selection, which is read only where the log's cameras may be meant."""
        names = (self.cameras,) if isinstance(self.cameras, str) else self.cameras
        if self.cameras in RIGS or all(name in RIGS["surround8"].names for name in names):
            return scaled_rig(find_rig(self.cameras), self.image_size)
        return self.rig(selection.pack.load(selection.ids[0]))
