"""KITTI odometry: rectified cameras side by side, and the pose of the first for each frame.

calib.txt            a row for each camera, [P0:] and 12 numbers: 3x4 from the first camera's frame to pixels, the first one's
                     centre at 0, 0
poses.txt            a row for each frame: 3x4 from the first camera's frame to the world of the file
times.txt            seconds, a row for each frame; 0.1 s from frame to frame if there is none
image_0, image_1...  or image_l and image_r: pictures named by the number of their frame
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.camera_log import Camera, CameraLog, View
from worldengine_envs.reconstruction.readers.files import numbered, numbers, read_poses, read_text
from worldengine_envs.rendering.cameras import rigid_inverse

LICENCE = "CC BY-NC-SA 3.0"
CAMERA_HEIGHT_M = 1.65  # of KITTI's cameras above the road
PERIOD_S = 0.1
HALF_PIXEL = 0.5  # the file's first pixel has its centre at 0, 0; ours at 0.5, 0.5
FOLDERS = (("image_0", "image_l", "image_00"), ("image_1", "image_r", "image_01"), ("image_2", "image_02"), ("image_3", "image_03"))

# The world: x = the first camera's z, y = -x, z = -y, and the road at 0.
WORLD = np.array([[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, CAMERA_HEIGHT_M], [0.0, 0.0, 0.0, 1.0]])


def read_kitti(folder: Path, origin: np.ndarray | None = None) -> tuple[CameraLog, np.ndarray]:
    """Reads a sequence of KITTI odometry.

    Args:
        folder: Holds the files named above.
        origin: Nothing; poses start at the first frame.

    Raises:
        DataError: Calibration or poses are missing or malformed, or there are no images at all.
    """
    projections, poses, problems = _projections(folder / "calib.txt"), read_poses(folder / "poses.txt"), []
    if not len(poses):
        raise DataError("holds no poses", file=folder / "poses.txt")
    times_us = _times_us(folder / "times.txt", len(poses))
    poses = WORLD @ rigid_inverse(poses[0]) @ poses
    cameras, views = [], []
    for number, names in enumerate(FOLDERS):
        images = next(((name, found) for name in names if (found := numbered(folder / name))), None)
        if images is None:
            continue
        name, files = images
        if number not in projections:
            problems.append(f"camera {name}: calib.txt has no P{number}; left out")
            continue
        try:
            camera, offset = camera_of(name, projections[number], files.values())
        except DataError as error:
            problems.append(f"camera {name}: {error}; left out")
            continue
        suffix = next(iter(files.values())).suffix
        beyond = [frame for frame in files if frame >= len(poses)]
        if beyond:
            problems.append(f"camera {name}: {len(beyond)} images without a pose, from frame {min(beyond)} on; left out")
        for frame, pose in enumerate(poses):
            path = files.get(frame, folder / name / f"{frame:06d}{suffix}")
            views.append(View(len(cameras), int(times_us[frame]), pose @ offset, path))
        cameras.append(camera)
    if not cameras:
        if problems:
            raise DataError("no camera can be used", file=folder, remedy="; ".join(problems))
        raise DataError(
            "no images of a camera that calib.txt has", file=folder, remedy=f"Looked for {FOLDERS[0][1]}, {FOLDERS[0][0]}, ..."
        )
    views.sort(key=lambda view: (view.time_us, view.camera))
    log = CameraLog(folder.resolve().name, "kitti", LICENCE, tuple(cameras), tuple(views), problems=tuple(problems))
    return log, np.zeros(3)


def camera_of(name: str, projection: np.ndarray, images: Iterable[Path]) -> tuple[Camera, np.ndarray]:
    """Returns a rectified camera and its pose (4, 4) in the frame that ``projection`` (3, 4) projects from.

    Raises:
        DataError: None of its images can be read.
    """
    matrix, last = projection[:, :3], projection[:, 3]
    intrinsics = np.array([matrix[0, 0], matrix[1, 1], matrix[0, 2] + HALF_PIXEL, matrix[1, 2] + HALF_PIXEL])
    offset = np.eye(4)
    offset[:3, 3] = -np.linalg.solve(matrix, last)
    width, height = common_size(images)
    return Camera(name, height, width, intrinsics, np.zeros(5)), offset


def common_size(images: Iterable[Path]) -> tuple[int, int]:
    """Returns width and height that most of the image files have, from their heads.

    Raises:
        DataError: None of them can be read.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    for path in (images := list(images)):
        try:
            with Image.open(path) as image:
                sizes[image.size] += 1
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
            continue  # the checks say so
    if not sizes:
        raise DataError(f"none of {len(images)} images can be read", file=images[0].parent if images else None)
    return sizes.most_common(1)[0][0]


def _projections(path: Path) -> dict[int, np.ndarray]:
    """Returns (3, 4) by the number of the camera; rows without a name count from 0."""
    projections = {}
    for i, line in enumerate(line for line in read_text(path).splitlines() if line.strip()):
        words = line.split()
        named = words[0].endswith(":")
        name = words[0][:-1] if named else f"P{i}"
        if name.startswith("P") and name[1:].isdecimal():
            projections[int(name[1:])] = numbers(words[1:] if named else words, 12, path, name).reshape(3, 4)
    for number, projection in projections.items():
        if not np.isfinite(projection).all() or abs(np.linalg.det(projection[:, :3])) < 1e-9:
            raise DataError("is no projection", file=path, field=f"P{number}")
    return projections


def _times_us(path: Path, frames: int) -> np.ndarray:
    if not path.is_file():
        return np.rint(np.arange(frames) * PERIOD_S * 1e6).astype(np.int64)
    seconds = numbers(read_text(path).split(), frames, path, "times")
    if not np.isfinite(seconds).all() or (np.diff(seconds) <= 0).any():
        raise DataError("times do not increase", file=path)
    return np.rint(seconds * 1e6).astype(np.int64)
