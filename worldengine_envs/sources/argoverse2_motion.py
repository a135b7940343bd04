"""Argoverse 2 motion-forecasting scenarios: a Parquet table of tracks at 10 Hz, and the map beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import STEP_S, AgentType, VehicleParameters
from worldengine_envs.sources.argoverse2_map import map_file, read_map
from worldengine_envs.sources.arrow_tables import read_parquet
from worldengine_envs.sources.checks import MAX_COORDINATE, MAX_SPEED, MAX_STEPS, MAX_TRACKS, at_most, finite
from worldengine_envs.sources.recording import RawRecording
from worldengine_envs.sources.tracks import DEFAULT_SIZE, RawTrack

LICENCE = "CC BY-NC-SA 4.0"
MAGIC = b"PAR1"
EGO = "AV"
EGO_SIZE = (4.877, 2.0, 1.473)  # length, width, height [m] of the recording car, as sensor logs give its box
COLUMNS = (
    "scenario_id",
    "track_id",
    "object_type",
    "timestep",
    "position_x",
    "position_y",
    "heading",
    "velocity_x",
    "velocity_y",
    "start_timestamp",
)
TYPES = {
    "vehicle": AgentType.VEHICLE,
    "bus": AgentType.VEHICLE,
    "motorcyclist": AgentType.VEHICLE,
    "pedestrian": AgentType.PEDESTRIAN,
    "cyclist": AgentType.BICYCLE,
    "riderless_bicycle": AgentType.BICYCLE,
    "construction": AgentType.TRAFFIC_CONE,
}
SIZES = {"bus": (12.0, 2.6, 3.2), "motorcyclist": (2.2, 0.8, 1.7)}  # [m]; the format has none, other kinds get their default
MAX_ROWS = 2_000_000


def is_motion(path: Path) -> bool:
    """Whether a file is a Parquet table, by its first bytes, or a folder holds one."""
    if path.is_dir():
        return bool(motion_files(path))
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def motion_files(folder: Path) -> list[Path]:
    """Returns the scenarios under a folder, in order."""
    return sorted(p for p in folder.rglob("*.parquet") if p.is_file())


def read_motion(path: Path) -> RawRecording:
    """Returns what one scenario holds; its map is ``log_map_archive_<scenario>.json`` in the same folder.

    Objects have no size, and the ego no box of its own. The schema calls positions box centres, but the ego's does not slip
    sideways where it turns, as a centre would: it is the pose of the rear axle, as in sensor logs.

    Args:
        path: The Parquet file, or the folder that holds it.

    Raises:
        DataError: Names the file and the field that is not what it has to be.
    """
    if path.is_dir():
        files = motion_files(path)
        if len(files) != 1:
            raise DataError(f"holds {len(files)} scenarios", file=path, remedy="Name the Parquet file")
        path = files[0]
    rows = read_parquet(path, COLUMNS, MAX_ROWS)
    step = rows["timestep"]
    if step.min() < 0 or step.max() >= MAX_STEPS:
        raise DataError(f"steps {step.min()} to {step.max()}, must be 0 to {MAX_STEPS - 1}", file=path, field="timestep")
    everywhere = np.ones(len(step), bool)
    xy = finite(np.stack([rows["position_x"], rows["position_y"]], axis=1), everywhere, "position_x, position_y", MAX_COORDINATE)
    velocity = finite(np.stack([rows["velocity_x"], rows["velocity_y"]], axis=1), everywhere, "velocity_x, velocity_y", MAX_SPEED)
    yaw = finite(rows["heading"], everywhere, "heading", 1e4)
    names, number = np.unique(rows["track_id"].astype(str), return_inverse=True)
    at_most(len(names), MAX_TRACKS, "track_id")
    order = np.lexsort((step, number))
    bounds = np.searchsorted(number[order], np.arange(len(names) + 1))
    tracks = {}
    for i, name in enumerate(names):
        part = order[bounds[i] : bounds[i + 1]]
        kind = str(rows["object_type"][part[0]]).lower()
        size = np.tile(SIZES.get(kind, (0.0, 0.0, 0.0)), (len(part), 1))
        agent = TYPES.get(kind, AgentType.GENERIC_OBJECT)
        tracks[str(name)] = RawTrack(str(name), agent, STEP_S * step[part], xy[part], yaw[part], size, velocity[part])
    ego = tracks.pop(EGO, None)
    if ego is None:
        raise DataError(f"no track is called {EGO}", file=path, field="track_id", remedy="That is the recording car's")
    ego.size, ego.velocity = np.tile(EGO_SIZE, (len(ego.time), 1)), None  # the given one lags behind the positions
    vehicle = VehicleParameters.from_box(*EGO_SIZE[:2])
    others = [track for track in tracks.values() if track.type.is_agent or not _driven_over(track, ego, vehicle)]
    derived = {"ego_size", "ego_axles", "size"} | ({"driven_over_left_out"} if len(others) < len(tracks) else set())
    name = str(rows["scenario_id"][0])
    if (rows["scenario_id"] != name).any():
        raise DataError("holds several scenarios", file=path, field="scenario_id", remedy="Write one file for each")
    return RawRecording(
        name=name,
        dataset="argoverse2",
        token=name,
        licence=LICENCE,
        ego=vehicle,
        ego_track=ego,
        tracks=others,
        sample_s=STEP_S,
        road=read_map(map_file(path.parent, name)),
        ego_reference="rear_axle",
        time_us=int(rows["start_timestamp"][0]) // 1000,
        tags=("argoverse2",),
        derived=derived,
    )


def _driven_over(track: RawTrack, ego: RawTrack, vehicle: VehicleParameters) -> bool:
    """Whether the ego's box is ever on a static object: then it is no obstacle, or not there ("background" is noisy)."""
    _, mine, theirs = np.intersect1d(np.round(ego.time, 3), np.round(track.time, 3), return_indices=True)
    offset = track.xy[theirs] - ego.xy[mine]
    cos, sin = np.cos(ego.yaw[mine]), np.sin(ego.yaw[mine])
    along = cos * offset[:, 0] + sin * offset[:, 1] - vehicle.rear_axle_to_center
    across = cos * offset[:, 1] - sin * offset[:, 0]
    reach = DEFAULT_SIZE[track.type][0] / 2
    return bool(((np.abs(along) < vehicle.length / 2 + reach) & (np.abs(across) < vehicle.width / 2 + reach)).any())
