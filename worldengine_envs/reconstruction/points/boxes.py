"""Points in actors' boxes: into the boxes' frames and back into the world."""

from __future__ import annotations

import numpy as np

from worldengine_envs.reconstruction.camera_log import CameraLog
from worldengine_envs.reconstruction.timeline import Timeline

MARGIN_M = 0.25  # by which boxes are widened: what is just outside is not taken for background
GROUND_M = 0.05  # what is not higher than this above the box's bottom is ground


class Boxes:
    """All actors' boxes at any time.

    Args:
        log: Whose actors.
    """

    def __init__(self, log: CameraLog):
        self.timeline = Timeline(log.actors)
        self.sizes = np.array([actor.size for actor in log.actors], np.float64).reshape(-1, 3)

    def divide(self, xyz: np.ndarray, time_us: int, traversal: str) -> tuple[np.ndarray, np.ndarray]:
        """Gives points to the actors in whose boxes they are.

        Args:
            xyz: (N, 3) in the world [m].
            time_us: When they were measured.
            traversal: In which drive.

        Returns:
            xyz (N, 3) float64 in the world or in the frame of the actor's box, and node (N,) int32, -1 = background.
        """
        placed, node = np.array(xyz, np.float64), np.full(len(xyz), -1, np.int32)
        if not len(self.sizes):
            return placed, node
        rotation, centre, present = self.timeline.at(time_us, traversal)
        for a in np.flatnonzero(present):
            half = 0.5 * self.sizes[a]
            near = np.flatnonzero((node < 0) & (np.abs(xyz - centre[a]).max(1) < np.linalg.norm(half) + MARGIN_M))
            local = (xyz[near] - centre[a]) @ rotation[a]
            inside = (np.abs(local) < half + MARGIN_M).all(1) & (local[:, 2] > GROUND_M - half[2])
            placed[near[inside]], node[near[inside]] = local[inside], a
        return placed, node

    def gather(self, xyz: np.ndarray, node: np.ndarray, time_us: int, traversal: str) -> tuple[np.ndarray, np.ndarray]:
        """The way back: returns where points (N, 3) are in the world at a time [m], and (N,) bool which of them are there."""
        placed, there = np.array(xyz, np.float64), node < 0
        rows = np.flatnonzero(~there)
        if len(rows):
            rotation, centre, present = self.timeline.at(time_us, traversal)
            actor = node[rows]
            placed[rows] = (rotation[actor] @ placed[rows, :, None])[..., 0] + centre[actor]
            there[rows] = present[actor]
        return placed, there
