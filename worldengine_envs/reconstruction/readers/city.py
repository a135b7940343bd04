"""Camera logs as ``worldengine camera-log`` writes them for the city, and as anyone can: ``log.json``, images and sweeps beside it.

    {"format": "worldengine-camera-log", "version": 1,
     "cameras": {name: {"height", "width", "intrinsics": [fx, fy, cx, cy], "distortion": [k1, k2, p1, p2, k3],
                        "camera_to_ego": 4x4}},
     "frames": [{"time_us", "ego_to_world": 4x4, "images": {camera: path}, "lidar": path,
                 "boxes": [{"track": row of tracks, "center": [x, y, z], "yaw", "size": [length, width, height]}]}],
     "lidar": {"lidar_to_ego": 4x4}, "tracks": [{"token", "type": "vehicle" | "pedestrian" | "bicycle" ...}],
     "scenario", "dataset", "licence", "offset": [x, y], "time_of_day"}

Lengths are in metres, angles in radians. The world is z up with the ground near 0; ``offset`` is where its origin lies in a frame
that several logs share. The first pixel's centre is at 0.5, 0.5. Sweeps are arrays (points, 3 or more) in .npy files, in the frame
of the LiDAR. Needed are format, version, cameras without distortion, and frames with time, pose and images; a frame need not have
an image of every camera, so cameras that do not fire together get frames of their own.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.camera_log import ActorTrack, Camera, CameraLog, Sweep, View
from worldengine_envs.reconstruction.readers.files import (
    beside,
    label,
    matrix,
    numbers,
    read_array,
    read_json,
    telling_malformed,
    yaw_pose,
)
from worldengine_envs.scenario.types import AgentType

FORMAT, VERSION, NAME = "worldengine-camera-log", 1, "log.json"


def read_city(folder: Path, origin: np.ndarray | None = None) -> tuple[CameraLog, np.ndarray]:
    """Reads a camera log; its traversal is named by its time of day.

    Args:
        folder: Holds ``log.json``, or is that file.
        origin: (3,) global position that becomes the world's origin [m]; None is the log's own.

    Raises:
        DataError: The file is missing or malformed.
    """
    path = folder if folder.name == NAME else folder / NAME
    data = read_json(path)
    if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("version") != VERSION:
        raise DataError(f"is no {FORMAT} of version {VERSION}", file=path, remedy="worldengine camera-log writes one")
    with telling_malformed(path):
        return _log_of(data, path, origin)


def _log_of(data: dict, path: Path, origin: np.ndarray | None) -> tuple[CameraLog, np.ndarray]:
    own = np.append(numbers(data.get("offset", (0.0, 0.0)), 2, path, "offset"), 0.0)
    origin = own if origin is None else origin
    traversal = label(data.get("time_of_day", "log"))
    cameras = tuple(_camera(name, entry, path) for name, entry in data["cameras"].items())
    mounts = [matrix(entry["camera_to_ego"], (4, 4), path, f"cameras.{name}") for name, entry in data["cameras"].items()]
    lidar = data.get("lidar") and matrix(data["lidar"]["lidar_to_ego"], (4, 4), path, "lidar.lidar_to_ego")
    views, sweeps = [], []
    for n, frame in enumerate(data["frames"]):
        missing = [name for name in ("time_us", "ego_to_world", "images") if name not in frame]
        if missing:
            raise DataError(f"has no {missing[0]!r}", file=path, field=f"frames.{n}")
        pose = matrix(frame["ego_to_world"], (4, 4), path, f"frames.{n}.ego_to_world")
        pose[:3, 3] += own - origin
        for c, camera in enumerate(cameras):
            if camera.name in frame["images"]:
                views.append(View(c, _time_us(frame), pose @ mounts[c], beside(path, frame["images"][camera.name]), traversal))
        if lidar is not None and "lidar" in frame:
            read = partial(_read_sweep, beside(path, frame["lidar"]))
            sweeps.append(Sweep(_time_us(frame), pose @ lidar, read, traversal))
    actors = _actors(data, path, own - origin, traversal)
    views.sort(key=lambda view: (view.time_us, view.camera))
    name = data.get("scenario", "").rpartition(".")[2] or path.resolve().parent.name
    dataset, licence = data.get("dataset", "own"), data.get("licence", "unknown")
    log = CameraLog(name, dataset, licence, cameras, tuple(views), tuple(sweeps), actors, (traversal,))
    return log, origin


def _time_us(frame: dict) -> int:
    return int(np.int64(int(frame["time_us"])))  # larger ones overflow here, and are malformed


def _camera(name: str, entry: dict, path: Path) -> Camera:
    return Camera(
        name,
        int(entry["height"]),
        int(entry["width"]),
        numbers(entry["intrinsics"], 4, path, f"cameras.{name}.intrinsics"),
        numbers(entry.get("distortion", (0.0,) * 5), 5, path, f"cameras.{name}.distortion"),
    )


def _actors(data: dict, path: Path, shift: np.ndarray, traversal: str) -> tuple[ActorTrack, ...]:
    """Returns everyone who has a box, with the median of their sizes."""
    seen: dict[int, list] = {}
    for n, frame in enumerate(data["frames"]):
        for box in frame.get("boxes", ()):
            where = f"frames.{n}.boxes"
            pose = yaw_pose(float(box["yaw"]), numbers(box["center"], 3, path, where) + shift)
            seen.setdefault(int(box["track"]), []).append((_time_us(frame), pose, numbers(box["size"], 3, path, where)))
    actors = []
    for row, boxes in sorted(seen.items()):
        track = data["tracks"][row]
        times, poses, sizes = zip(*boxes, strict=True)
        kind = AgentType[track["type"].upper()]
        size = np.median(sizes, axis=0)
        actors.append(ActorTrack(str(track["token"]), kind, size, np.array(times, np.int64), np.stack(poses), traversal))
    return tuple(actors)


def _read_sweep(path: Path) -> np.ndarray:
    """Returns (points, 3) float32 [m]."""
    return read_array(path, None, 3)[:, :3].astype(np.float32)
