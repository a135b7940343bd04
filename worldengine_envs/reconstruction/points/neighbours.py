"""Which images see the same from elsewhere."""

from __future__ import annotations

import numpy as np

from worldengine_envs.reconstruction.camera_log import CameraLog

BASELINE_M = 0.8  # between images of one camera, if it moves that far at all
LEAST_M = 0.1  # nearer than this two images see the same
TWIN_M = 2.0  # between cameras that see the same at the same time
TWIN_US = 20_000
ALIGNED = np.cos(np.radians(20.0))  # of the angle between optical axes


class Neighbours:
    """Partners for triangulation among the images that may be learned from.

    Args:
        log: What was recorded.
        views: (V,) rows of the views that may be looked at.
    """

    def __init__(self, log: CameraLog, views: np.ndarray):
        self.views = np.sort(np.asarray(views, np.int64))
        chosen = [log.views[i] for i in self.views]
        self.centers = np.array([view.camera_to_world[:3, 3] for view in chosen]).reshape(-1, 3)
        self.axes = np.array([view.camera_to_world[:3, 2] for view in chosen]).reshape(-1, 3)
        self.time_us = np.array([view.time_us for view in chosen], np.int64)
        self.camera = np.array([view.camera for view in chosen])
        self.traversal = np.array([log.traversals.index(view.traversal) for view in chosen])

    def of(self, view: int) -> list[int]:
        """Returns views that look the same way from elsewhere: at the same time, and of the same camera before and after."""
        k = int(np.searchsorted(self.views, view))
        baseline = np.linalg.norm(self.centers - self.centers[k], axis=1)
        fits = (self.traversal == self.traversal[k]) & (self.axes @ self.axes[k] > ALIGNED) & (baseline > LEAST_M)
        later = self.time_us - self.time_us[k]
        twins = np.flatnonzero(fits & (np.abs(later) <= TWIN_US) & (self.camera != self.camera[k]) & (baseline < TWIN_M))
        found = list(twins[np.argsort(baseline[twins], kind="stable")][:1])
        for side in (later < 0, later > 0):
            rows = np.flatnonzero(fits & side & (self.camera == self.camera[k]))
            rows = rows[np.argsort(np.abs(later[rows]), kind="stable")]
            if len(rows):
                far = np.flatnonzero(baseline[rows] >= BASELINE_M)
                found.append(rows[far[0]] if len(far) else rows[np.argmax(baseline[rows])])
        return [int(self.views[row]) for row in found]
