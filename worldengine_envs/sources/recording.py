"""What all readers share: from raw tracks and a raw road to a recording, a ``Scenario`` that starts at step 0."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.start import box_corners
from worldengine_envs.scenario.types import CameraRig, Lights, LightState, Origin, Scenario, VehicleParameters
from worldengine_envs.sources.optional import require
from worldengine_envs.sources.road import RawRoad, build_map
from worldengine_envs.sources.route import derive_route
from worldengine_envs.sources.tracks import RawTrack, build_tracks, clean_ego, heading_of_motion, step_times

LIGHT_HOLD_S = 1.0  # an observed light keeps its colour for so long when it is not seen again
MIN_STEPS = 2
MAX_CELLS = 10_000_000  # steps times tracks, about 1 GB


@dataclass
class RawRecording:
    """What a reader takes from a log, in the log's own coordinates [m]."""

    name: str
    dataset: str
    token: str
    licence: str
    ego: VehicleParameters
    ego_track: RawTrack  # positions are of ``ego_reference``
    tracks: list[RawTrack]  # the others
    sample_s: float  # the log's own interval [s]
    road: RawRoad
    lights: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)  # lane: times (n,) [s], states (n,) LightState
    ego_reference: str = "center"  # or "rear_axle"
    time_us: int = 0  # of time 0
    tags: tuple[str, ...] = ()
    camera_rig: CameraRig | None = None
    derived: set[str] = field(default_factory=set)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Names the file in errors that do not, and turns geometry that shapely cannot use into one.

    Raises:
        DataError: Whatever the body raises of these.
    """
    try:
        yield
    except DataError as error:
        if error.file:
            raise
        raise DataError(error.problem, file=path, field=error.field, remedy=error.remedy) from None
    except require("shapely.errors").ShapelyError as error:
        raise DataError(f"geometry that cannot be used ({str(error)[:100]})", file=path, field="map") from None


def make_recording(raw: RawRecording) -> Scenario:
    """Returns the recording at 0.1 s in coordinates local to the ego's first position, with map, lights and route.

    Raises:
        DataError: Names the field that cannot be used.
    """
    derived = raw.derived
    ego = clean_ego(raw.ego_track, derived)
    if ego.yaw is None:
        derived.add("heading")
        ego.yaw = heading_of_motion(np.gradient(ego.xy, ego.time, axis=0), np.ones(len(ego.time), bool))
    if raw.ego_reference == "rear_axle":
        forward = np.stack([np.cos(ego.yaw), np.sin(ego.yaw)], axis=1)
        ego.xy = ego.xy + raw.ego.rear_axle_to_center * forward
        derived.add("ego_box_center")
    grid = step_times(ego.time)
    if len(grid) < MIN_STEPS:
        raise DataError(f"the ego is recorded for {len(grid)} steps of 0.1 s", field="tracks")
    if len(grid) * (1 + len(raw.tracks)) > MAX_CELLS:
        raise DataError(f"{len(grid)} steps of {1 + len(raw.tracks)} tracks are too many", field="tracks", remedy="Cut the log")
    if raw.sample_s < 0.09 or raw.sample_s > 0.11:
        derived.add("resampled")
    offset = ego.xy[0].copy()
    for track in [ego, *raw.tracks]:
        track.xy = track.xy - offset
    move_road(raw.road, offset)
    tracks = build_tracks([ego, *raw.tracks], grid, raw.sample_s, derived)
    seen = tracks.valid[0]
    boxes = box_corners(tracks.state[0, seen, :3], np.tile([[raw.ego.length, raw.ego.width]], (int(seen.sum()), 1)))
    vector_map = build_map(raw.road, tracks.state[0, seen, :2], boxes, derived)
    lights = _lights(raw.lights, vector_map.lane_tokens, grid)
    route = derive_route(vector_map, tracks.state[0, seen, :3], derived)
    time_us = raw.time_us + round(float(grid[0]) * 1e6)
    origin = Origin(
        raw.dataset, raw.name, raw.token, raw.licence, (float(offset[0]), float(offset[1])), time_us, tuple(sorted(derived))
    )
    return Scenario(
        id=clean_id(raw.name),
        origin=origin,
        tracks=tracks,
        start_step=0,
        vector_map=vector_map,
        lights=lights,
        route=route,
        ego=raw.ego,
        tags=raw.tags,
        camera_rig=raw.camera_rig,
    )


def ego_vehicle(track: RawTrack, derived: set[str]) -> VehicleParameters:
    """Returns the ego's vehicle by the median box of its track; where that is unknown, the default, and puts it into the track."""
    length, width, height = np.median(track.size, axis=0)
    if not (0.5 < length < 30 and 0.5 < width < 30):
        derived.add("ego_size")
        vehicle = VehicleParameters()
        track.size = np.tile([vehicle.length, vehicle.width, height], (len(track.time), 1))
        return vehicle
    if width > length:  # a known slip of the nuScenes converter
        derived.add("ego_length_width_swapped")
        track.size = track.size[:, [1, 0, 2]]
        length, width = width, length
    derived.add("ego_axles")
    return VehicleParameters.from_box(round(float(length), 3), round(float(width), 3))


def clean_id(name: str) -> str:
    """Returns a name with everything but letters, digits, dashes and underscores replaced by underscores."""
    cleaned = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:100].strip("_")
    if not cleaned:
        raise DataError(f"{name[:40]!r} cannot be made a name", field="id")
    return cleaned


def move_road(road: RawRoad, offset: np.ndarray) -> None:
    """Subtracts the offset (2,) [m] from everything in the road, in place."""
    for lane in road.lanes + road.bike_lanes:
        lane.center = np.asarray(lane.center, np.float64)[:, :2] - offset
        lane.polygon = None if lane.polygon is None else np.asarray(lane.polygon, np.float64)[:, :2] - offset
    for name in ("extra_drivable", "edges", "crosswalks", "carparks"):
        setattr(road, name, [np.asarray(xy, np.float64)[:, :2] - offset for xy in getattr(road, name)])
    if road.drivable is not None:
        from shapely.affinity import translate

        road.drivable = translate(road.drivable, -offset[0], -offset[1])


def _lights(raw, lane_tokens, grid) -> Lights:
    row_of = {token: row for row, token in enumerate(lane_tokens)}
    rows, states = [], []
    for lane, (time, state) in raw.items():
        if lane not in row_of:
            continue
        at = np.searchsorted(time, grid + 0.05, side="right") - 1
        fresh = (at >= 0) & (grid - time[np.maximum(at, 0)] <= LIGHT_HOLD_S)
        held = np.where(fresh, state[np.maximum(at, 0)], LightState.UNKNOWN)
        if held.any():
            rows.append(row_of[lane])
            states.append(held)
    state = np.array(states, np.int8).reshape(len(rows), len(grid))
    return Lights(np.array(rows, np.int32), state)
