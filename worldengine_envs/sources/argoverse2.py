"""Argoverse 2: sensor logs (annotations in the ego frame, ego poses, the HD map) and motion-forecasting scenarios."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import AgentType, CameraRig, Scenario, VehicleParameters
from worldengine_envs.sources.argoverse2_map import map_file, read_map
from worldengine_envs.sources.argoverse2_motion import is_motion, motion_files, read_motion
from worldengine_envs.sources.arrow_tables import read_feather
from worldengine_envs.sources.optional import require
from worldengine_envs.sources.recording import RawRecording, make_recording, naming
from worldengine_envs.sources.tracks import RawTrack, wrap

LICENCE = "CC BY-NC-SA 4.0"
ANNOTATIONS = ("annotations_with_ego.feather", "annotations.feather")
EGO_POSES = "city_SE3_egovehicle.feather"
POSE = ("timestamp_ns", "qw", "qx", "qy", "qz", "tx_m", "ty_m", "tz_m")
TYPES = {
    AgentType.VEHICLE: (
        "REGULAR_VEHICLE LARGE_VEHICLE BUS BOX_TRUCK TRUCK VEHICULAR_TRAILER TRUCK_CAB SCHOOL_BUS ARTICULATED_BUS RAILED_VEHICLE "
        "MOTORCYCLE MOTORCYCLIST EGO_VEHICLE"
    ),
    AgentType.PEDESTRIAN: "PEDESTRIAN STROLLER WHEELCHAIR OFFICIAL_SIGNALER DOG ANIMAL",
    AgentType.BICYCLE: "BICYCLE BICYCLIST WHEELED_DEVICE WHEELED_RIDER",
    AgentType.TRAFFIC_CONE: "CONSTRUCTION_CONE CONSTRUCTION_BARREL",
    AgentType.CZONE_SIGN: "SIGN STOP_SIGN MOBILE_PEDESTRIAN_CROSSING_SIGN MESSAGE_BOARD_TRAILER TRAFFIC_LIGHT_TRAILER",
}
TYPE_OF = {name: kind for kind, names in TYPES.items() for name in names.split()}
MAX_ROWS = 2_000_000
MAX_POSE_GAP_NS = 1_000_000_000  # between poses that are interpolated


def read_argoverse2(path: str | Path) -> Iterator[Scenario]:
    """Yields the recording of one sensor log folder or motion-forecasting scenario, at 0.1 s, start step 0, local coordinates.

    Raises:
        DataError: Names the file and the field that is not what it has to be, or says that this is neither.
    """
    require("shapely")
    require("pyarrow.feather")
    path = Path(path)
    with naming(path):
        is_sensor_log = (path / EGO_POSES).is_file()
        recording = make_recording(read_motion(path) if not is_sensor_log and is_motion(path) else _read(path))
    yield recording


def argoverse2_logs(source: str | Path) -> list[Path]:
    """Returns the logs under a folder, in order: folders of sensor logs and Parquet files of motion-forecasting scenarios."""
    source = Path(source)
    if source.is_file():
        return [source]
    sensor_logs = {p.parent for name in (*ANNOTATIONS, EGO_POSES) for p in source.rglob(name)}
    return sorted([*sensor_logs, *motion_files(source)])


def _read(folder: Path) -> RawRecording:
    annotations = next((folder / name for name in ANNOTATIONS if (folder / name).is_file()), None)
    if annotations is None or not (folder / EGO_POSES).is_file():
        remedy = f"A sensor log has {ANNOTATIONS[1]}, {EGO_POSES} and map/; a motion-forecasting scenario is a Parquet file"
        raise DataError(_what_is_missing(folder, annotations), file=folder, remedy=remedy)
    derived: set[str] = set()
    rows = read_feather(annotations, (*POSE, "length_m", "width_m", "height_m", "track_uuid", "category"), MAX_ROWS)
    poses = read_feather(folder / EGO_POSES, POSE, MAX_ROWS)
    stamps, ego_xy, ego_yaw = _ego_at(rows["timestamp_ns"], poses, folder / EGO_POSES)
    time = (stamps - stamps[0]) / 1e9
    tracks, ego_size = _tracks(rows, stamps, time, ego_xy, ego_yaw, annotations)
    if ego_size is None:
        vehicle = VehicleParameters()
        derived.update(("ego_size", "ego_axles"))
    else:
        vehicle = VehicleParameters.from_box(round(ego_size[0], 3), round(ego_size[1], 3))
        derived.add("ego_axles")
    size = np.tile([vehicle.length, vehicle.width, 1.5 if ego_size is None else ego_size[2]], (len(time), 1))
    return RawRecording(
        name=folder.name,
        dataset="argoverse2",
        token=folder.name,
        licence=LICENCE,
        ego=vehicle,
        ego_track=RawTrack("ego", AgentType.VEHICLE, time, ego_xy, ego_yaw, size, None),
        tracks=tracks,
        sample_s=float(np.median(np.diff(time))),
        road=read_map(map_file(folder)),
        ego_reference="rear_axle",
        time_us=int(stamps[0]) // 1000,
        tags=("argoverse2",),
        camera_rig=_camera_rig(folder),
        derived=derived,
    )


def _what_is_missing(folder: Path, annotations) -> str:
    if not folder.is_dir():
        return "not an Argoverse 2 log folder"
    return f"not a sensor log: {ANNOTATIONS[1] if annotations is None else EGO_POSES} is missing"


def _ego_at(stamps: np.ndarray, poses: dict, file: Path):
    """Returns the annotated time stamps (n,) [ns] and the ego's x, y (n, 2) [m] and yaw (n,) [rad] there, in the city frame."""
    stamps = np.unique(stamps)
    if len(stamps) < 2:
        raise DataError(f"annotations at {len(stamps)} times, at least 2 are needed", field="timestamp_ns")
    order = np.unique(poses["timestamp_ns"], return_index=True)[1]
    time = poses["timestamp_ns"][order]
    if stamps[0] < time[0] - 100_000_000 or stamps[-1] > time[-1] + 100_000_000:
        raise DataError("the ego's poses do not cover the annotations", file=file, field="timestamp_ns")
    inside = time[max(np.searchsorted(time, stamps[0]) - 1, 0) : np.searchsorted(time, stamps[-1]) + 1]
    if len(inside) > 1 and np.diff(inside).max() > MAX_POSE_GAP_NS:
        raise DataError(f"the ego's poses are up to {np.diff(inside).max() / 1e9:g} s apart", file=file, field="timestamp_ns")
    yaw = np.unwrap(_yaw(poses, file)[order])
    base = time[0]
    at, knots = (stamps - base) / 1e9, (time - base) / 1e9
    xy = np.stack([np.interp(at, knots, poses[name][order]) for name in ("tx_m", "ty_m")], axis=1)
    return stamps, xy, wrap(np.interp(at, knots, yaw))


def _yaw(rows: dict, file: Path) -> np.ndarray:
    """Returns (n,) headings [rad] of quaternions w, x, y, z."""
    w, x, y, z = (rows[name] for name in ("qw", "qx", "qy", "qz"))
    norm = w * w + x * x + y * y + z * z
    if (np.abs(norm - 1) > 0.05).any():
        raise DataError(
            f"{int((np.abs(norm - 1) > 0.05).sum())} quaternions are not of unit length", file=file, field="qw, qx, qy, qz"
        )
    return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z) / norm)


def _tracks(rows: dict, stamps, time, ego_xy, ego_yaw, file: Path):
    """Returns the tracks of all objects but the ego, and the ego's length, width, height [m] where the log has its box."""
    step = np.searchsorted(stamps, rows["timestamp_ns"])
    cos, sin = np.cos(ego_yaw[step]), np.sin(ego_yaw[step])
    x = ego_xy[step, 0] + cos * rows["tx_m"] - sin * rows["ty_m"]
    y = ego_xy[step, 1] + sin * rows["tx_m"] + cos * rows["ty_m"]
    yaw = wrap(_yaw(rows, file) + ego_yaw[step])
    size = np.stack([rows["length_m"], rows["width_m"], rows["height_m"]], axis=1)
    if (size < 0).any() or (size > 100).any():
        raise DataError("negative or absurd sizes", file=file, field="length_m, width_m, height_m")
    names, number = np.unique(rows["track_uuid"].astype(str), return_inverse=True)
    order = np.lexsort((step, number))
    bounds = np.searchsorted(number[order], np.arange(len(names) + 1))
    tracks, ego_size = [], None
    for i, name in enumerate(names):
        part = order[bounds[i] : bounds[i + 1]]
        category = str(rows["category"][part[0]])
        if category == "EGO_VEHICLE":
            ego_size = [float(v) for v in np.median(size[part], axis=0)]
            continue
        kind = TYPE_OF.get(category, AgentType.GENERIC_OBJECT)
        xy = np.stack([x[part], y[part]], axis=1)
        tracks.append(RawTrack(str(name), kind, time[step[part]], xy, yaw[part], size[part], None))
    return tracks, ego_size


def _camera_rig(folder: Path) -> CameraRig | None:
    """Returns the ring and stereo cameras of the log, or None where it has no calibration."""
    files = [folder / "calibration" / name for name in ("intrinsics.feather", "egovehicle_SE3_sensor.feather")]
    if not all(file.is_file() for file in files):
        return None
    lens = read_feather(
        files[0], ("sensor_name", "fx_px", "fy_px", "cx_px", "cy_px", "k1", "k2", "k3", "height_px", "width_px"), 1000
    )
    mount = read_feather(files[1], ("sensor_name", *POSE[1:]), 1000)
    row_of = {str(name): row for row, name in enumerate(mount["sensor_name"])}
    names = [str(name) for name in lens["sensor_name"]]
    if any(name not in row_of for name in names):
        raise DataError("cameras without a pose", file=files[1], field="sensor_name")
    pose = np.tile(np.eye(4), (len(names), 1, 1))
    camera = np.tile(np.eye(3), (len(names), 1, 1))
    for i, name in enumerate(names):
        row = row_of[name]
        pose[i, :3, :3] = _rotation(*(mount[q][row] for q in ("qw", "qx", "qy", "qz")))
        pose[i, :3, 3] = [mount[t][row] for t in ("tx_m", "ty_m", "tz_m")]
        camera[i, [0, 1, 0, 1], [0, 1, 2, 2]] = [lens[f][i] for f in ("fx_px", "fy_px", "cx_px", "cy_px")]
    zero = np.zeros(len(names))
    distortion = np.stack([lens["k1"], lens["k2"], zero, zero, lens["k3"]], axis=1)
    image_size = np.stack([lens["height_px"], lens["width_px"]], axis=1).astype(np.int32)
    return CameraRig(tuple(names), pose, camera, distortion, image_size)


def _rotation(w, x, y, z) -> np.ndarray:
    """Returns (3, 3) the rotation of a unit quaternion."""
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
