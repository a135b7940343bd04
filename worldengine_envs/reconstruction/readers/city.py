"""Camera logs of the city, as ``worldengine camera-log`` writes them: ``log.json`` with images and sweeps beside it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.camera_log import ActorTrack, Camera, CameraLog, Sweep, View
from worldengine_envs.reconstruction.readers.files import matrix, numbers, read_array, read_json, yaw_pose
from worldengine_envs.scenario.types import AgentType

FORMAT, VERSION, NAME = "worldengine-camera-log", 1, "log.json"


def read_city(folder: Path, origin: np.ndarray | None = None) -> tuple[CameraLog, np.ndarray]:
    """Reads a camera log of a city scenario; its traversal is named by its time of day.

    Args:
        folder: Holds ``log.json``, or is that file.
        origin: (3,) global position that becomes the world's origin [m]; None is the scenario's own.

    Raises:
        DataError: The file is missing or malformed.
    """
    path = folder if folder.name == NAME else folder / NAME
    data = read_json(path)
    if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("version") != VERSION:
        raise DataError(f"is no {FORMAT} of version {VERSION}", file=path, remedy="worldengine camera-log writes one")
    try:
        return _log_of(data, path, origin)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(f"malformed: {type(error).__name__} {error}", file=path) from None


def _log_of(data: dict, path: Path, origin: np.ndarray | None) -> tuple[CameraLog, np.ndarray]:
    own = np.append(numbers(data["offset"], 2, path, "offset"), 0.0)
    origin = own if origin is None else origin
    traversal = str(data["time_of_day"])
    cameras = tuple(_camera(name, entry, path) for name, entry in data["cameras"].items())
    mounts = [matrix(entry["camera_to_ego"], (4, 4), path, f"cameras.{name}") for name, entry in data["cameras"].items()]
    lidar = data["lidar"] and matrix(data["lidar"]["lidar_to_ego"], (4, 4), path, "lidar.lidar_to_ego")
    views, sweeps = [], []
    for frame in data["frames"]:
        pose = matrix(frame["ego_to_world"], (4, 4), path, f"frames.{frame['step']}.ego_to_world")
        pose[:3, 3] += own - origin
        for c, camera in enumerate(cameras):
            if camera.name in frame["images"]:
                views.append(
                    View(c, int(frame["time_us"]), pose @ mounts[c], path.parent / frame["images"][camera.name], traversal)
                )
        if lidar is not None and "lidar" in frame:
            read = partial(_read_sweep, path.parent / frame["lidar"])
            sweeps.append(Sweep(int(frame["time_us"]), pose @ lidar, read, traversal))
    actors = _actors(data, path, own - origin, traversal)
    name = data["scenario"].rpartition(".")[2] if data["scenario"] else path.parent.name
    log = CameraLog(name, data["dataset"], data["licence"], cameras, tuple(views), tuple(sweeps), actors, (traversal,))
    return log, origin


def _camera(name: str, entry: dict, path: Path) -> Camera:
    return Camera(
        name,
        int(entry["height"]),
        int(entry["width"]),
        numbers(entry["intrinsics"], 4, path, f"cameras.{name}.intrinsics"),
        numbers(entry["distortion"], 5, path, f"cameras.{name}.distortion"),
    )


def _actors(data: dict, path: Path, shift: np.ndarray, traversal: str) -> tuple[ActorTrack, ...]:
    """Returns everyone who has a box, with the median of their sizes."""
    seen: dict[int, list] = {}
    for frame in data["frames"]:
        for box in frame["boxes"]:
            where = f"frames.{frame['step']}.boxes"
            pose = yaw_pose(float(box["yaw"]), numbers(box["center"], 3, path, where) + shift)
            seen.setdefault(int(box["track"]), []).append((int(frame["time_us"]), pose, numbers(box["size"], 3, path, where)))
    actors = []
    for row, boxes in sorted(seen.items()):
        track = data["tracks"][row]
        times, poses, sizes = zip(*boxes, strict=True)
        kind = AgentType[track["type"].upper()]
        size = np.median(sizes, axis=0)
        actors.append(ActorTrack(track["token"], kind, size, np.array(times, np.int64), np.stack(poses), traversal))
    return tuple(actors)


def _read_sweep(path: Path) -> np.ndarray:
    """Returns (points, 3) float32 [m]."""
    return read_array(path, None, 3)[:, :3].astype(np.float32)
