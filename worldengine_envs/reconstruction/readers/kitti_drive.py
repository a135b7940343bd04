"""Drives of KITTI's raw data as they are published (synchronised and rectified).

<day>/calib_cam_to_cam.txt, calib_velo_to_cam.txt, calib_imu_to_velo.txt
<day>/<drive>/image_0<n>/data/<frame>.png, image_0<n>/timestamps.txt
<day>/<drive>/velodyne_points/data/<frame>.bin      (points, 4) float32 x, y, z [m], reflectance
<day>/<drive>/oxts/data/<frame>.txt                 latitude, longitude [deg], altitude [m], roll, pitch, yaw [rad], ...
<day>/<drive>/tracklet_labels.xml                   boxes in the Velodyne's frame, if there are any
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.camera_log import ActorTrack, CameraLog, Sweep, View
from worldengine_envs.reconstruction.readers.files import numbered, numbers, pose_of, read_array, read_text, yaw_pose
from worldengine_envs.reconstruction.readers.kitti import LICENCE, PERIOD_S, camera_of
from worldengine_envs.rendering.cameras import rigid_inverse
from worldengine_envs.scenario.types import AgentType

EARTH_RADIUS_M = 6378137.0
IMU_HEIGHT_M = 0.93
TYPES = {"Pedestrian": AgentType.PEDESTRIAN, "Person (sitting)": AgentType.PEDESTRIAN, "Cyclist": AgentType.BICYCLE}
TYPES |= dict.fromkeys(("Car", "Van", "Truck", "Tram"), AgentType.VEHICLE)


def read_drive(folder: Path, origin: np.ndarray | None = None) -> tuple[CameraLog, np.ndarray]:
    """Reads a drive; the world has its origin on the road below the first pose, x to the east, z up.

    Args:
        folder: The drive; the calibration lies in the folder above.
        origin: Nothing.

    Raises:
        DataError: Calibration or poses are missing or malformed, or there are no images.
    """
    day = folder if (folder / "calib_cam_to_cam.txt").is_file() else folder.resolve().parent
    lenses, velodyne, inertial = (_rows(day / f"calib_{name}.txt") for name in ("cam_to_cam", "velo_to_cam", "imu_to_velo"))
    velodyne_to_cam0 = _motion(velodyne, day / "calib_velo_to_cam.txt")
    velodyne_to_imu = rigid_inverse(_motion(inertial, day / "calib_imu_to_velo.txt"))
    path = day / "calib_cam_to_cam.txt"
    rectify = pose_of(_numbers(lenses, "R_rect_00", 9, path).reshape(3, 3), np.zeros(3))
    rectified_to_velodyne = np.linalg.inv(rectify @ velodyne_to_cam0)
    imu = _imu_poses(folder)
    times = _times_us(folder, imu)
    cameras, views, problems = [], [], []
    for number in range(4):
        images = numbered(folder / f"image_{number:02d}" / "data")
        if not images:
            continue
        projection = _numbers(lenses, f"P_rect_{number:02d}", 12, path).reshape(3, 4)
        try:
            camera, offset = camera_of(f"image_{number:02d}", projection, images.values())
        except DataError as error:
            problems.append(f"camera image_{number:02d}: {error}; left out")
            continue
        mount = velodyne_to_imu @ rectified_to_velodyne @ offset
        missing = folder / camera.name / "data"
        views += [View(len(cameras), times[i], p @ mount, images.get(i, missing / f"{i:010d}.png")) for i, p in imu.items()]
        cameras.append(camera)
    if not cameras:
        remedy = "; ".join(problems) or "Looked for image_00/data to image_03/data"
        raise DataError("no images that can be used", file=folder, remedy=remedy)
    scans = numbered(folder / "velodyne_points" / "data", (".bin",))
    sweeps = [Sweep(times[i], p @ velodyne_to_imu, partial(_read_scan, scans[i])) for i, p in imu.items() if i in scans]
    actors = _tracklets(folder / "tracklet_labels.xml", {i: p @ velodyne_to_imu for i, p in imu.items()}, times)
    views.sort(key=lambda view: (view.time_us, view.camera))
    name = folder.resolve().name
    return CameraLog(
        name, "kitti", LICENCE, tuple(cameras), tuple(views), tuple(sweeps), actors, problems=tuple(problems)
    ), np.zeros(3)


def _rows(path: Path) -> dict[str, list[str]]:
    """Returns the words of each ``name: words`` row."""
    return {name.strip(): words.split() for name, _, words in (line.partition(":") for line in read_text(path).splitlines())}


def _numbers(rows: dict[str, list[str]], name: str, count: int, path: Path) -> np.ndarray:
    if name not in rows:
        raise DataError("is missing", file=path, field=name)
    return numbers(rows[name], count, path, name)


def _motion(rows: dict[str, list[str]], path: Path) -> np.ndarray:
    return pose_of(_numbers(rows, "R", 9, path).reshape(3, 3), _numbers(rows, "T", 3, path))


def _imu_poses(folder: Path) -> dict[int, np.ndarray]:
    """Returns (4, 4) by frame, from Mercator's projection scaled at the first latitude, as KITTI's development kit does."""
    poses: dict[int, np.ndarray] = {}
    scale = start = None
    for frame, path in numbered(folder / "oxts" / "data", (".txt",)).items():
        latitude, longitude, altitude, roll, pitch, yaw = numbers(read_text(path).split()[:6], 6, path, "oxts")
        scale = np.cos(np.deg2rad(latitude)) if scale is None else scale
        north = np.log(np.tan(np.deg2rad(90.0 + latitude) / 2.0))
        place = np.array([*(scale * EARTH_RADIUS_M * np.array([np.deg2rad(longitude), north])), altitude + IMU_HEIGHT_M])
        start = place - np.array([0.0, 0.0, IMU_HEIGHT_M]) if start is None else start
        poses[frame] = yaw_pose(yaw, place - start) @ _turn_y(pitch) @ _turn_x(roll)
    if not poses:
        raise DataError("holds no poses", file=folder, remedy="Looked for oxts/data/*.txt, and for calib.json of the short layout")
    return poses


def _turn_x(angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return pose_of(np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]]), np.zeros(3))


def _turn_y(angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return pose_of(np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]]), np.zeros(3))


def _times_us(folder: Path, frames: dict[int, np.ndarray]) -> dict[int, int]:
    """Returns the time of each frame, from the first camera that has them; 0.1 s from frame to frame if none has."""
    path = next((p for p in sorted(folder.glob("image_0?/timestamps.txt"))), None)
    if path is None:
        return {frame: round(frame * PERIOD_S * 1e6) for frame in frames}
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    try:
        stamps = np.array(lines, "datetime64[ns]").astype(np.int64) // 1000
    except ValueError as error:
        raise DataError(f"holds something that is no time ({error})", file=path) from None
    if max(frames) >= len(stamps):
        raise DataError(f"{len(stamps)} times for {max(frames) + 1} frames", file=path)
    return {frame: int(stamps[frame]) for frame in frames}


def _tracklets(path: Path, velodyne: dict[int, np.ndarray], times: dict[int, int]) -> tuple[ActorTrack, ...]:
    """Returns the boxes of KITTI's annotators, placed by the middle of their floor; what is none of TYPES is left out."""
    if not path.is_file():
        return ()
    actors = []
    try:
        for n, item in enumerate(ElementTree.parse(path).getroot().findall("./tracklets/item")):
            kind, first = TYPES.get(item.findtext("objectType", "").strip()), int(item.findtext("first_frame", "0"))
            height, width, length = (float(item.findtext(side, "nan")) for side in "hwl")
            places = {first + k: pose for k, pose in enumerate(item.findall("./poses/item")) if first + k in velodyne}
            if kind is None or not places:
                continue
            boxes = [velodyne[frame] @ _floor_pose(pose, height) for frame, pose in places.items()]
            size, stamps = np.array([length, width, height]), np.array([times[frame] for frame in places], np.int64)
            actors.append(ActorTrack(f"tracklet_{n:03d}", kind, size, stamps, np.stack(boxes)))
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"is no list of tracklets ({error})", file=path) from None
    return tuple(actors)


def _floor_pose(item: ElementTree.Element, height: float) -> np.ndarray:
    x, y, z, yaw = (float(item.findtext(name, "nan")) for name in ("tx", "ty", "tz", "rz"))
    return yaw_pose(yaw, np.array([x, y, z + 0.5 * height]))


def _read_scan(path: Path) -> np.ndarray:
    """Returns (points, 3) float32 [m]."""
    return read_array(path, None, 4)[:, :3].copy()
