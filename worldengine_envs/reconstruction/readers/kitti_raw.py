"""KITTI raw recordings with Velodyne scans, in two layouts. A short one, with poses of the LiDAR:

    calib.json                  K_rect 3x3, R_rect_00 3x3, velo_to_cam0 4x4
    image_02/<frame>.png        left colour camera, rectified
    velodyne/<frame>.npz        xyz_mm (points, 3) int32 [mm]; not every frame needs one
    poses_velo_*.txt            a row for each frame: 3x4 from the Velodyne's frame to the world of the file

And KITTI's own drives with inertial poses, see ``kitti_drive``.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.camera_log import CameraLog, Sweep, View
from worldengine_envs.reconstruction.readers.files import matrix, numbered, pose_of, read_array, read_json, read_poses
from worldengine_envs.reconstruction.readers.kitti import LICENCE, PERIOD_S, camera_of
from worldengine_envs.reconstruction.readers.kitti_drive import read_drive
from worldengine_envs.rendering.cameras import rigid_inverse

CALIBRATION, CAMERA, SCANS, POSES = "calib.json", "image_02", "velodyne", "poses_velo_*.txt"
VELODYNE_HEIGHT_M = 1.73
CAM0_TO_CAM2 = (0.0599, -0.0004, 0.0027)  # of rectified points [m], on KITTI's car in September 2011; not in calib.json


def read_kitti_raw(folder: Path, origin: np.ndarray | None = None) -> tuple[CameraLog, np.ndarray]:
    """Reads a recording in either layout. The world is z up, the road at 0.

    Args:
        folder: Holds the files named above, or is a drive (``..._sync``) below the folder of its day.
        origin: Nothing; poses start at the first frame.

    Raises:
        DataError: Calibration or poses are missing or malformed, or there are no images.
    """
    if not (folder / CALIBRATION).is_file():
        return read_drive(folder, origin)
    path = folder / CALIBRATION
    data = read_json(path)
    if not isinstance(data, dict):
        raise DataError("is no calibration", file=path)
    intrinsics = matrix(data.get("K_rect"), (3, 3), path, "K_rect")
    rectify = pose_of(matrix(data.get("R_rect_00"), (3, 3), path, "R_rect_00"), np.zeros(3))
    to_cam0 = matrix(data.get("velo_to_cam0"), (4, 4), path, "velo_to_cam0")
    files = sorted(folder.glob(POSES))
    if not files:
        raise DataError("holds no poses", file=folder, remedy=f"Looked for {POSES}")
    poses = read_poses(files[0])
    images, scans = numbered(folder / CAMERA), numbered(folder / SCANS, (".npz",))
    if not images or not len(poses):
        raise DataError(f"no images in {CAMERA}, or no poses", file=folder)
    poses = pose_of(np.eye(3), np.array([0.0, 0.0, VELODYNE_HEIGHT_M])) @ rigid_inverse(poses[0]) @ poses
    projection = np.column_stack((intrinsics, intrinsics @ np.array(CAM0_TO_CAM2)))
    camera, camera_to_cam0 = camera_of(CAMERA, projection, images.values())
    camera_to_velodyne = np.linalg.inv(rectify @ to_cam0) @ camera_to_cam0
    frames = range(min(len(poses), max(images) + 1))
    views = [View(0, _time_us(i), poses[i] @ camera_to_velodyne, images.get(i, folder / CAMERA / f"{i:010d}.png")) for i in frames]
    sweeps = [Sweep(_time_us(i), poses[i], partial(_read_scan, scans[i])) for i in frames if i in scans]
    problems = []
    if max(images) >= len(poses):
        beyond = sum(i >= len(poses) for i in images)
        problems.append(f"camera {CAMERA}: {beyond} images without a pose, from frame {len(poses)} on; left out")
    name = folder.resolve().name
    log = CameraLog(name, "kitti", LICENCE, (camera,), tuple(views), tuple(sweeps), problems=tuple(problems))
    return log, np.zeros(3)


def _time_us(frame: int) -> int:
    return round(frame * PERIOD_S * 1e6)


def _read_scan(path: Path) -> np.ndarray:
    """Returns (points, 3) float32 [m] of a scan in millimetres."""
    return (read_array(path, "xyz_mm", 3) * 1e-3).astype(np.float32)
