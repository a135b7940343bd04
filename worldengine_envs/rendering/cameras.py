"""Cameras on a car: the rigs that come with the project, their poses in the world, and their images in other sizes.

Ego frame: x forward, y left, z up, origin on the ground under the rear axle. Camera frame (OpenCV): x right, y down, z forward.
Pixels count from the image's upper left corner; the first pixel's centre is at (0.5, 0.5).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import CameraRig

FIELD_OF_VIEW_DEG = 60.0  # horizontal, of every camera of RIGS
FULL_SIZE = (1080, 1920)  # height, width [px] of every camera of RIGS
LOG = "log"  # name of the rig that a scenario's log was recorded with

# x, y, z [m] and yaw [deg] in the ego frame: nuPlan's eight cameras, rounded, level and alike left and right. 60 degrees each
# leave no gap around the car.
_MOUNTS = {
    "CAM_F0": (1.70, 0.00, 1.55, 0.0),
    "CAM_L0": (1.65, 0.12, 1.50, 55.0),
    "CAM_L1": (1.30, 0.63, 1.40, 111.0),
    "CAM_L2": (-0.50, 0.52, 1.40, 141.0),
    "CAM_R0": (1.65, -0.12, 1.50, -55.0),
    "CAM_R1": (1.30, -0.63, 1.40, -111.0),
    "CAM_R2": (-0.50, -0.52, 1.40, -141.0),
    "CAM_B0": (-0.45, 0.00, 1.45, 180.0),
}


def camera_to_ego(x: float, y: float, z: float, yaw: float) -> np.ndarray:
    """Returns (4, 4) float64 the pose of a level camera at x, y, z [m] that looks along yaw [rad] in the ego frame."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    right, down, forward = (sin, -cos, 0.0), (0.0, 0.0, -1.0), (cos, sin, 0.0)
    pose = np.eye(4)
    pose[:3] = np.stack([right, down, forward, (x, y, z)], axis=1)
    return pose


def pinhole_rig(mounts: dict[str, tuple[float, float, float, float]], fov_deg: float, image_size: tuple[int, int]) -> CameraRig:
    """Returns a rig of level cameras without distortion.

    Args:
        mounts: x, y, z [m] and yaw [deg] in the ego frame, by name.
        fov_deg: Horizontal field of view [deg].
        image_size: Height and width [px].
    """
    height, width = image_size
    focal = 0.5 * width / np.tan(0.5 * np.radians(fov_deg))
    matrix = np.array([[focal, 0.0, 0.5 * width], [0.0, focal, 0.5 * height], [0.0, 0.0, 1.0]])
    poses = [camera_to_ego(x, y, z, np.radians(yaw)) for x, y, z, yaw in mounts.values()]
    n = len(mounts)
    size = np.tile(np.array(image_size, np.int32), (n, 1))
    return CameraRig(tuple(mounts), np.stack(poses), np.tile(matrix, (n, 1, 1)), np.zeros((n, 5)), size)


def _nuplan_rig(*names: str) -> CameraRig:
    return pinhole_rig({name: _MOUNTS[name] for name in names}, FIELD_OF_VIEW_DEG, FULL_SIZE)


RIGS: dict[str, CameraRig] = {
    "front": _nuplan_rig("CAM_F0"),
    "front3": _nuplan_rig("CAM_L0", "CAM_F0", "CAM_R0"),
    "surround8": _nuplan_rig("CAM_F0", "CAM_L0", "CAM_L1", "CAM_L2", "CAM_R0", "CAM_R1", "CAM_R2", "CAM_B0"),
}


def find_rig(cameras: str | Sequence[str], log: CameraRig | None = None) -> CameraRig:
    """Returns the rig that ``cameras`` means.

    Args:
        cameras: A name of RIGS, "log", or names of cameras of ``surround8`` or, where one is not among those, of the log's rig.
        log: The rig of the scenario's log, if it has one.

    Raises:
        DataError: There is no such rig or camera.
    """
    if cameras == LOG:
        if log is None:
            raise DataError("the scenario's log has no cameras", field="cameras", remedy=f"Use one of {', '.join(RIGS)}")
        return log
    if isinstance(cameras, str) and cameras in RIGS:
        return RIGS[cameras]
    names = (cameras,) if isinstance(cameras, str) else tuple(cameras)
    known = RIGS["surround8"]
    if log is not None and any(name not in known.names for name in names):
        known = log
    return select_cameras(known, names)


def select_cameras(rig: CameraRig, names: Sequence[str]) -> CameraRig:
    """Returns the rig of these cameras only, in this order.

    Raises:
        DataError: A name is not the rig's or comes twice, or there are none.
    """
    unknown = [name for name in names if name not in rig.names]
    if unknown or not names or len(set(names)) < len(names):
        problem = f"there is no {unknown[0]!r}" if unknown else "no cameras, or one of them twice"
        remedy = f"Name a rig ({', '.join((*RIGS, LOG))}) or cameras ({', '.join(rig.names)})"
        raise DataError(problem, field="cameras", remedy=remedy)
    rows = [rig.names.index(name) for name in names]
    return CameraRig(tuple(names), rig.camera_to_ego[rows], rig.intrinsics[rows], rig.distortion[rows], rig.image_size[rows])


def scaled_rig(rig: CameraRig, image_size: tuple[int, int]) -> CameraRig:
    """Returns the rig with images of another size, height and width [px], the same for all of its cameras.

    The horizontal field of view stays and pixels keep their proportions: where the new shape is flatter or taller than the
    camera's, the upper and lower edges are cut or extended.

    Raises:
        DataError: A side is not between 1 and 16384 pixels.
    """
    height, width = image_size
    if not (1 <= height <= 16384 and 1 <= width <= 16384):
        raise DataError(f"{height} x {width}", field="image_size", remedy="Both sides must lie between 1 and 16384 pixels")
    matrix = rig.intrinsics.copy()
    factor = width / rig.image_size[:, 1]
    matrix[:, :2] *= factor[:, None, None]
    matrix[:, 1, 2] += 0.5 * (height - factor * rig.image_size[:, 0])
    size = np.tile(np.array(image_size, np.int32), (len(rig.names), 1))
    return CameraRig(rig.names, rig.camera_to_ego, matrix, rig.distortion, size)


def intrinsics_of(rig: CameraRig) -> np.ndarray:
    """Returns (cameras, 4) float64 fx, fy, cx, cy [px], as ``Frames`` wants them."""
    return rig.intrinsics[:, [0, 1, 0, 1], [0, 1, 2, 2]]


def world_to_camera(rig: CameraRig, x, y, yaw) -> np.ndarray:
    """Returns (..., cameras, 4, 4) float64 the transforms of world points into the cameras.

    Args:
        rig: The cameras.
        x: (...) rear axle [m] in the world; the ground is z = 0.
        y: (...) [m]
        yaw: (...) [rad]
    """
    x, y, yaw = np.broadcast_arrays(*(np.asarray(a, np.float64) for a in (x, y, yaw)))
    cos, sin = np.cos(yaw), np.sin(yaw)
    ego_from_world = np.zeros((*x.shape, 1, 4, 4))
    ego_from_world[..., 0, 0, 0] = ego_from_world[..., 0, 1, 1] = cos
    ego_from_world[..., 0, 0, 1] = sin
    ego_from_world[..., 0, 1, 0] = -sin
    ego_from_world[..., 0, 0, 3] = -(cos * x + sin * y)
    ego_from_world[..., 0, 1, 3] = sin * x - cos * y
    ego_from_world[..., 0, 2, 2] = ego_from_world[..., 0, 3, 3] = 1.0
    return rigid_inverse(rig.camera_to_ego) @ ego_from_world


def rigid_inverse(pose: np.ndarray) -> np.ndarray:
    """Returns (..., 4, 4) the inverse of rotations with translations."""
    inverse = np.zeros_like(pose, dtype=np.float64)
    inverse[..., :3, :3] = np.swapaxes(pose[..., :3, :3], -1, -2)
    inverse[..., :3, 3] = -np.einsum("...ji,...j->...i", pose[..., :3, :3], pose[..., :3, 3])
    inverse[..., 3, 3] = 1.0
    return inverse
