"""nuScenes key frames as MMDetection3D lists them: a pickle with a ``data_list`` of samples, images and sweeps beside it.

A sample has ``ego2global`` and ``timestamp`` of its LiDAR sweep; for each camera ``cam2img``, ``lidar2cam`` (with the motion
between the two exposures), ``timestamp``; and boxes x, y, z, length, width, height, yaw in the LiDAR's frame. Boxes have no names:
those of one class that lie where they should half a second later are taken for the same.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.camera_log import ActorTrack, Camera, CameraLog, Sweep, View
from worldengine_envs.reconstruction.readers.files import MALFORMED, matrix, numbers, read_array, telling_malformed, yaw_pose
from worldengine_envs.reconstruction.readers.kitti import HALF_PIXEL
from worldengine_envs.scenario.types import AgentType

LICENCE = "CC BY-NC-SA 4.0"
SIZE = (1600, 900)  # width, height of all its images [px]
OWN_RETURNS_M = 1.0  # the roof of the car itself is seen within this square
FOLLOW_M, FOLLOW_M_S = 1.0, 4.0  # a box is looked for within this distance of where its velocity takes it, and more with time
TYPES = {"pedestrian": AgentType.PEDESTRIAN, "traffic_cone": AgentType.TRAFFIC_CONE, "barrier": AgentType.BARRIER}
TYPES |= dict.fromkeys(("bicycle", "motorcycle"), AgentType.BICYCLE)
TYPES |= dict.fromkeys(("car", "truck", "trailer", "bus", "construction_vehicle"), AgentType.VEHICLE)


def read_nuscenes(source: Path, origin: np.ndarray | None = None) -> tuple[CameraLog, np.ndarray]:
    """Reads the key frames of one drive.

    Args:
        source: The pickle, or a folder with pickles of one drive.
        origin: (3,) global position that becomes the world's origin [m]; None is the ego's first, on the ground.

    Raises:
        DataError: There is no such file, or it is malformed.
    """
    from worldengine_envs.sources.pickles import load_pickle

    paths = sorted(source.glob("*.pkl")) if source.is_dir() else [source]
    samples, kinds = [], {}
    for path in paths:
        data = load_pickle(path)
        try:
            kinds |= {label: TYPES[name] for name, label in data["metainfo"]["categories"].items() if name in TYPES}
            samples += [(float(sample["timestamp"]), path, sample) for sample in data["data_list"]]
        except MALFORMED as error:
            raise DataError(f"is no list of nuScenes samples ({type(error).__name__} {error})", file=path) from None
    if not samples:
        raise DataError("holds no samples", file=source)
    samples.sort(key=lambda sample: sample[0])
    path = samples[0][1]
    with telling_malformed(path):
        return _log_of(samples, kinds, origin)


def _log_of(samples: list, kinds: dict, origin: np.ndarray | None) -> tuple[CameraLog, np.ndarray]:
    cameras: dict[tuple, Camera] = {}
    views, sweeps, boxes = [], [], []
    for seconds, path, sample in samples:
        ego = matrix(sample["ego2global"], (4, 4), path, "ego2global")
        origin = ego[:3, 3].copy() if origin is None else origin
        ego[:3, 3] -= origin
        lidar = ego @ matrix(sample["lidar_points"]["lidar2ego"], (4, 4), path, "lidar2ego")
        for name, entry in sample["images"].items():
            image = _beside(path, entry["img_path"], name)
            row = _camera_row(cameras, name, matrix(entry["cam2img"], (3, 3), path, "cam2img"))
            pose = lidar @ np.linalg.inv(matrix(entry["lidar2cam"], (4, 4), path, "lidar2cam"))
            views.append(View(row, _us(entry["timestamp"]), pose, image))
        scan = _beside(path, sample["lidar_points"]["lidar_path"], "LIDAR_TOP")
        features = int(sample["lidar_points"].get("num_pts_feats", 5))
        sweeps.append(Sweep(_us(seconds), lidar, partial(_read_sweep, scan, features)))
        boxes.append((_us(seconds), _boxes(sample, lidar, kinds, path)))
    views.sort(key=lambda view: (view.time_us, view.camera))
    name = samples[0][1].stem
    log = CameraLog(name, "nuscenes", LICENCE, tuple(cameras.values()), tuple(views), tuple(sweeps), _followed(boxes))
    return log, origin


def _camera_row(cameras: dict[tuple, Camera], name: str, matrix3: np.ndarray) -> int:
    """Returns the row of a camera; one that was calibrated anew is another."""
    key = (name, *matrix3.ravel().tolist())
    if key not in cameras:
        width, height = SIZE
        intrinsics = np.array([matrix3[0, 0], matrix3[1, 1], matrix3[0, 2] + HALF_PIXEL, matrix3[1, 2] + HALF_PIXEL])
        before = sum(other[0] == name for other in cameras)
        cameras[key] = Camera(f"{name}-{before + 1}" if before else name, height, width, intrinsics, np.zeros(5))
    return list(cameras).index(key)


def _beside(path: Path, name: str, sensor: str) -> Path:
    """Returns where a file lies: beside the pickle, or in nuScenes' folders below or above it."""
    short = Path(name).name
    places = [path.parent / short, *(p / "samples" / sensor / short for p in (path.parent, path.parent.parent))]
    return next((place for place in places if place.is_file()), places[0])


def _boxes(sample: dict, lidar: np.ndarray, kinds: dict, path: Path) -> list[tuple]:
    """Returns type, size (3,), pose (4, 4) and velocity (2,) of each box in the world; a velocity that is not known is 0."""
    found = []
    for entry in sample.get("instances", ()):
        kind = kinds.get(entry["bbox_label_3d"])
        if kind is None:
            continue
        box = numbers(entry["bbox_3d"], 7, path, "bbox_3d")
        velocity = np.nan_to_num(numbers(entry.get("velocity", (0.0, 0.0)), 2, path, "velocity"))
        found.append((kind, box[3:6], lidar @ yaw_pose(box[6], box[:3]), (lidar[:3, :2] @ velocity)[:2]))
    return found


def _followed(samples: list[tuple[int, list[tuple]]]) -> tuple[ActorTrack, ...]:
    """Joins the boxes of following samples into tracks: nearest pairs first."""
    tracks: list[list[tuple]] = []
    open_tracks: list[list[tuple]] = []
    for time_us, boxes in samples:
        pairs = []
        for t, track in enumerate(open_tracks):
            before, (kind, _, pose, velocity) = track[-1]
            seconds = (time_us - before) * 1e-6
            expected = pose[:2, 3] + velocity * seconds
            for b, box in enumerate(boxes):
                off = float(np.hypot(*(box[2][:2, 3] - expected)))
                if box[0] == kind and off <= FOLLOW_M + FOLLOW_M_S * seconds:
                    pairs.append((off, t, b))
        of_box: dict[int, int] = {}
        for _, t, b in sorted(pairs):
            if b not in of_box and t not in of_box.values():
                of_box[b] = t
        following = []
        for b, box in enumerate(boxes):
            track = open_tracks[of_box[b]] if b in of_box else []
            if not track:
                tracks.append(track)
            track.append((time_us, box))
            following.append(track)
        open_tracks = following
    return tuple(_track(n, track) for n, track in enumerate(tracks))


def _track(number: int, boxes: list[tuple]) -> ActorTrack:
    times, poses = np.array([time for time, _ in boxes], np.int64), np.stack([box[2] for _, box in boxes])
    size = np.median([box[1] for _, box in boxes], axis=0)
    return ActorTrack(f"box_{number:03d}", boxes[0][1][0], size, times, poses)


def _read_sweep(path: Path, features: int) -> np.ndarray:
    """Returns (points, 3) float32 [m] without those of the car itself."""
    xyz = read_array(path, None, features)[:, :3]
    return xyz[np.abs(xyz[:, :2]).max(axis=1) > OWN_RETURNS_M].copy()


def _us(seconds: float) -> int:
    return round(float(seconds) * 1e6)
