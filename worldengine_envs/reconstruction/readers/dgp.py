"""Scenes in the layout of TRI's dataset governance policy (DGP), as DDAD is published.

scene_<hash>.json                       samples, and for each datum file, time and pose in the world
calibration/<key>.json                  intrinsics of each sensor
rgb/<camera>/<name>.jpg, point_cloud/<lidar>/<name>.npz     data (points, at least 3) x, y, z [m] in the LiDAR's frame
bounding_box_3d/<lidar>/<name>.json     boxes in the LiDAR's frame
ontology/<key>.json                     names of the classes

A sample counts as one moment, that of its own time stamp: the boxes are the same for all its sensors.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.camera_log import ActorTrack, Camera, CameraLog, Sweep, View
from worldengine_envs.reconstruction.readers.files import beside, pose_of, read_array, read_json, telling_malformed
from worldengine_envs.reconstruction.readers.kitti import HALF_PIXEL
from worldengine_envs.scenario.types import AgentType

LICENCE = "that of the recording"
BOXES = "1"  # DGP's number of the annotation BOUNDING_BOX_3D
TYPES = dict.fromkeys(("pedestrian", "person"), AgentType.PEDESTRIAN)
TYPES |= dict.fromkeys(("bicycle", "cyclist", "motorcycle", "wheeledslow"), AgentType.BICYCLE)
TYPES |= dict.fromkeys(("car", "truck", "bus/rv/caravan", "bus", "van", "trailer", "towedobject", "train"), AgentType.VEHICLE)


def read_dgp(source: Path, origin: np.ndarray | None = None) -> tuple[CameraLog, np.ndarray]:
    """Reads a scene.

    Args:
        source: The scene's folder, or its JSON file.
        origin: (3,) global position that becomes the world's origin [m]; None is that of the first sweep, else image.

    Raises:
        DataError: There is no such file, or it is malformed.
    """
    path = source if source.is_file() else next(iter(sorted(source.glob("scene_*.json"))), None)
    if path is None or path.name.startswith("scene_dataset"):
        scenes = ", ".join(p.name for p in sorted(source.parent.glob("*/") if source.is_file() else source.glob("scene_*/")))
        remedy = f"Give the folder of one scene{': ' + scenes if scenes else ''}"
        raise DataError("holds no scene_*.json of a scene", file=source, remedy=remedy)
    with telling_malformed(path):
        return _log_of(read_json(path), path, origin)


def _log_of(scene: dict, path: Path, origin: np.ndarray | None) -> tuple[CameraLog, np.ndarray]:
    data = {entry["key"]: entry for entry in scene["data"]}
    classes = _classes(scene, path)
    cameras: dict[tuple, Camera] = {}
    views, sweeps, problems, boxes = [], [], [], {}
    for sample in scene["samples"]:
        calibration = beside(path, f"calibration/{sample['calibration_key']}.json")
        lenses, time_us = _lenses(calibration), _time_us(sample["id"]["timestamp"])
        entries = sorted((data[key] for key in sample["datum_keys"]), key=lambda entry: "point_cloud" not in entry["datum"])
        for entry in entries:
            name = entry["id"]["name"]
            ((kind, datum),) = entry["datum"].items()
            pose = _pose(datum["pose"])
            origin = pose[:3, 3].copy() if origin is None else origin
            pose[:3, 3] -= origin
            if kind == "image":
                size = int(datum["height"]), int(datum["width"])
                key = (name, size, *lenses[name])
                cameras.setdefault(key, _camera(key, cameras, problems))
                views.append(View(list(cameras).index(key), time_us, pose, beside(path, datum["filename"])))
            elif kind == "point_cloud":
                sweeps.append(Sweep(time_us, pose, partial(_read_cloud, beside(path, datum["filename"]))))
                if BOXES in datum["annotations"]:
                    _add_boxes(boxes, beside(path, datum["annotations"][BOXES]), time_us, pose, classes)
    views.sort(key=lambda view: (view.time_us, view.camera))
    sweeps.sort(key=lambda sweep: sweep.time_us)
    name = scene.get("name") or path.parent.resolve().name
    log = CameraLog(
        name, "dgp", LICENCE, tuple(cameras.values()), tuple(views), tuple(sweeps), _tracks(boxes), problems=tuple(problems)
    )
    return log, np.zeros(3) if origin is None else origin


def _lenses(path: Path) -> dict[str, tuple[float, ...]]:
    """Returns fx, fy, cx, cy and skew by the name of the sensor."""
    calibration = read_json(path)
    lenses = zip(calibration["names"], calibration["intrinsics"], strict=True)
    return {name: tuple(float(lens[key]) for key in ("fx", "fy", "cx", "cy", "skew")) for name, lens in lenses}


def _camera(key: tuple, cameras: dict[tuple, Camera], problems: list[str]) -> Camera:
    name, (height, width), fx, fy, cx, cy, skew = key
    before = sum(other[0] == name for other in cameras if other != key)
    if skew and key not in cameras:
        problems.append(f"camera {name}: a skew of {skew:g} px is not modelled")
    intrinsics = np.array([fx, fy, cx + HALF_PIXEL, cy + HALF_PIXEL])
    return Camera(f"{name}-{before + 1}" if before else name, height, width, intrinsics, np.zeros(5))


def _classes(scene: dict, path: Path) -> dict[int, AgentType]:
    """Returns what the numbers of the ontology for boxes stand for; other classes are left in the background."""
    key = scene.get("ontologies", {}).get(BOXES)
    if key is None:
        return {}
    items = read_json(beside(path, f"ontology/{key}.json"))["items"]
    return {int(item["id"]): TYPES[item["name"].lower()] for item in items if item["name"].lower() in TYPES}


def _add_boxes(boxes: dict, path: Path, time_us: int, lidar: np.ndarray, classes: dict[int, AgentType]) -> None:
    for entry in read_json(path)["annotations"]:
        kind, box = classes.get(int(entry["class_id"])), entry["box"]
        if kind is not None:
            size = [float(box[side]) for side in ("length", "width", "height")]
            boxes.setdefault((int(entry["instance_id"]), kind), []).append((time_us, lidar @ _pose(box["pose"]), size))


def _tracks(boxes: dict) -> tuple[ActorTrack, ...]:
    tracks = []
    for (number, kind), found in boxes.items():
        times, poses, sizes = zip(*sorted(found, key=lambda box: box[0]), strict=True)
        tracks.append(ActorTrack(str(number), kind, np.median(sizes, axis=0), np.array(times, np.int64), np.stack(poses)))
    return tuple(tracks)


def _pose(entry: dict) -> np.ndarray:
    """Returns (4, 4) float64 of a quaternion and a translation; all NaN if they are none."""
    quat = np.array([float(entry["rotation"][key]) for key in ("qw", "qx", "qy", "qz")])
    place = np.array([float(entry["translation"][key]) for key in "xyz"])
    if not (np.isfinite(quat).all() and np.isfinite(place).all() and quat.any()):
        return np.full((4, 4), np.nan)
    w, x, y, z = quat / np.linalg.norm(quat)
    rotation = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return pose_of(np.array(rotation), place)


def _time_us(text: str) -> int:
    moment = datetime.fromisoformat(text)
    start = datetime(1970, 1, 1, tzinfo=moment.tzinfo)
    since = moment - start
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _read_cloud(path: Path) -> np.ndarray:
    """Returns (points, 3) float32 [m]."""
    return read_array(path, "data", 3)[:, :3].astype(np.float32)
