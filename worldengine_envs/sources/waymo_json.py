"""Waymo motion scenarios in the JSON of Nocturne and of GPUDrive: objects with positions per step, roads as lists of points.

The two differ: Nocturne gives headings in degrees and no ids, GPUDrive gives radians, ids, road types by number, and says which
object is the ego. What a file does not say is found out from its numbers and named in ``origin.derived``.
"""

from __future__ import annotations

import math

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import STEP_S, AgentType
from worldengine_envs.sources.checks import (
    MAX_COORDINATE,
    MAX_FEATURES,
    MAX_POINTS,
    MAX_SIZE,
    MAX_SPEED,
    MAX_STEPS,
    MAX_TRACKS,
    at_most,
    coordinates,
    finite,
    points_xy,
)
from worldengine_envs.sources.recording import RawRecording, ego_vehicle
from worldengine_envs.sources.road import RawLane, RawRoad
from worldengine_envs.sources.tracks import RawTrack
from worldengine_envs.sources.waymo_json_lights import lights_by_lane
from worldengine_envs.sources.waymo_proto import LICENCE

TYPES = {"vehicle": AgentType.VEHICLE, "pedestrian": AgentType.PEDESTRIAN, "cyclist": AgentType.BICYCLE}
TYPE_NUMBERS = {1: "vehicle", 2: "pedestrian", 3: "cyclist"}
ROADS = ("lane", "road_edge", "road_line", "crosswalk", "driveway", "stop_sign", "speed_bump")
BIKE_LANE = 3  # number of a bike lane; ROAD_NUMBERS are those of Waymo's tf_example, which GPUDrive took over
ROAD_NUMBERS = (
    dict.fromkeys(range(4), "lane")
    | dict.fromkeys(range(5, 14), "road_line")
    | dict.fromkeys(range(14, 17), "road_edge")
    | {17: "stop_sign", 18: "crosswalk", 19: "speed_bump", 20: "driveway"}
)
MISSING = -1e4  # both write this for the x, y and heading of invalid steps
WAYMO_CAR = (5.286, 2.332)  # length, width [m] of the recording car in all Waymo motion data
MOVING = 2.0  # [m/s]; faster vehicles head where they go


def read_json(content: dict, name: str) -> RawRecording:
    """Returns what a scenario's JSON holds.

    Args:
        content: The object.
        name: Name for it where it has none.

    Raises:
        DataError: Names the field that is not what it has to be.
    """
    objects, roads = _list(content, "objects", MAX_TRACKS), _list(content, "roads", MAX_FEATURES)
    if not objects:
        raise DataError("empty", field="objects", remedy="Is this a scenario of Nocturne or GPUDrive?")
    derived = {"time"}  # 10 Hz is known, not written
    tracks = [_track(row, one) for row, one in enumerate(objects)]
    steps = tracks[0].steps
    for row, track in enumerate(tracks):
        if track.steps != steps:
            raise DataError(f"{track.steps} steps, the first object has {steps}", field=f"objects[{row}].position")
    ego_row = _ego_row(content.get("metadata"), tracks, derived)
    ego = tracks[ego_row].raw
    _set_headings([track.raw for track in tracks if track.raw is not None], derived)
    others = [track.raw for row, track in enumerate(tracks) if row != ego_row and track.raw is not None]
    if len({ego.token, *(track.token for track in others)}) <= len(others):
        raise DataError("two objects have the same id", field="objects.id")
    token = content.get("scenario_id") or str(content.get("name") or name).removesuffix(".json")
    road = _road(roads, derived)
    return RawRecording(
        name=str(token)[:200],
        dataset="waymo",
        token=str(token)[:200],
        licence=LICENCE,
        ego=ego_vehicle(ego, derived),
        ego_track=ego,
        tracks=others,
        sample_s=STEP_S,
        lights=lights_by_lane(content.get("tl_states"), steps, road.lanes, derived),
        road=road,
        tags=("waymo",),
        derived=derived,
    )


def _list(content: dict, field: str, limit: int) -> list[dict]:
    value = content.get(field)
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        found = "missing" if value is None else "must be a list of records"
        raise DataError(found, field=field, remedy="Is this a scenario of Nocturne or GPUDrive?")
    at_most(len(value), limit, field)
    return value


class _Track:
    """An object of the file: its number of steps, and its valid samples (None where it has none)."""

    def __init__(self, steps: int, raw: RawTrack | None):
        self.steps, self.raw = steps, raw


def _track(row: int, one: dict) -> _Track:
    field = f"objects[{row}]"
    position = points_xy(one.get("position"), f"{field}.position")
    steps = len(position)
    if not 2 <= steps <= MAX_STEPS:
        raise DataError(f"{steps} steps, must be 2 to {MAX_STEPS}", field=f"{field}.position")
    valid = (position != MISSING).any(1)
    if one.get("valid") is not None:
        valid &= _numbers(one["valid"], steps, f"{field}.valid") > 0.5
    if not valid.any():
        return _Track(steps, None)
    yaw = velocity = None
    if one.get("heading") is not None:
        yaw = finite(_numbers(one["heading"], steps, f"{field}.heading"), valid, f"{field}.heading", 1e4)
    if one.get("velocity") is not None:
        velocity = points_xy(one["velocity"], f"{field}.velocity")
        if len(velocity) != steps:
            raise DataError(f"{len(velocity)} values for {steps} steps", field=f"{field}.velocity")
        velocity = finite(velocity, valid, f"{field}.velocity", MAX_SPEED)
    columns = [_numbers(one.get(name, 0.0), steps, f"{field}.{name}", one_is_enough=True) for name in ("length", "width", "height")]
    size = finite(np.stack(columns, axis=1), valid, f"{field}.length, width, height", MAX_SIZE)
    if (size < 0).any():
        raise DataError("negative sizes", field=f"{field}.length, width, height")
    kind = one.get("type")
    kind = TYPE_NUMBERS.get(kind) if isinstance(kind, int) else str(kind).lower().removeprefix("type_")
    raw = RawTrack(
        token=str(one["id"])[:60] if isinstance(one.get("id"), int | str) else str(row),
        type=TYPES.get(kind, AgentType.GENERIC_OBJECT),
        time=STEP_S * np.flatnonzero(valid),
        xy=finite(position, valid, f"{field}.position", MAX_COORDINATE),
        yaw=yaw,
        size=size,
        velocity=velocity,
    )
    return _Track(steps, raw)


def _numbers(value, steps: int, field: str, one_is_enough: bool = False) -> np.ndarray:
    """Returns (steps,) float64."""
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise DataError("holds no numbers", field=field) from None
    if one_is_enough and array.ndim == 0:
        return np.full(steps, float(array))
    if array.shape != (steps,):
        raise DataError(f"has shape {array.shape}, must be ({steps},)", field=field)
    return array


def _ego_row(metadata, tracks: list[_Track], derived: set[str]) -> int:
    """Returns the row of the ego: what the file says, else the object with the box of Waymo's car, else the last one (its place).

    GPUDrive leaves out objects that are never seen but keeps the number of the ego, which then lies past the end.
    """
    given = metadata.get("sdc_track_index") if isinstance(metadata, dict) else None
    if isinstance(given, int) and not isinstance(given, bool) and 0 <= given < len(tracks):
        if tracks[given].raw is None or tracks[given].raw.type != AgentType.VEHICLE:
            raise DataError(f"object {given} is no vehicle, or valid in no step", field="metadata.sdc_track_index")
        return given
    derived.add("ego_track")
    vehicles = [row for row, track in enumerate(tracks) if track.raw is not None and track.raw.type == AgentType.VEHICLE]
    same_box = [row for row in vehicles if np.abs(np.median(tracks[row].raw.size[:, :2], axis=0) - WAYMO_CAR).max() < 0.005]
    if len(same_box) == 1:
        return same_box[0]
    last = len(tracks) - 1
    if given is None and last in vehicles:
        return last
    raise DataError("nothing tells which object is the ego", field="metadata.sdc_track_index", remedy="Give its row in `objects`")


def _set_headings(tracks: list[RawTrack], derived: set[str]) -> None:
    """Turns headings in degrees into radians, in place.

    Moving vehicles tell which they are: the unit in which they head where they go (mean cosine). Where none moves, headings beyond
    a full turn in radians are degrees; where none is, they are taken for radians and ``derived`` says so.
    """
    given = [track for track in tracks if track.yaw is not None]
    cars = [track for track in given if track.type == AgentType.VEHICLE and len(track.time) >= 2]
    headings, courses = [], []
    for track in cars:
        step, dt = np.diff(track.xy, axis=0), np.diff(track.time)
        moving = (np.hypot(*step.T) > MOVING * dt) & (dt < 1.5 * STEP_S)
        headings.append(track.yaw[1:][moving])
        courses.append(np.arctan2(step[moving, 1], step[moving, 0]))
    heading, course = (np.concatenate(parts) if parts else np.zeros(0) for parts in (headings, courses))
    if len(heading) >= 10:
        in_degrees = np.cos(np.radians(heading) - course).mean() > np.cos(heading - course).mean()
    else:
        in_degrees = any((np.abs(track.yaw) > 2 * math.pi + 0.01).any() for track in given)
        if not in_degrees and given:
            derived.add("heading_unit")
    if in_degrees:
        derived.add("heading_from_degrees")
        for track in given:
            track.yaw = np.radians(track.yaw)


def _road(roads: list[dict], derived: set[str]) -> RawRoad:
    road, points = RawRoad(lanes=[]), 0
    if not any(_number_of(one) is not None for one in roads):
        derived.add("lane_type")  # bike lanes cannot be told from others
    for row, one in enumerate(roads):
        field = f"roads[{row}]"
        kind = _kind(one)
        geometry = one.get("geometry")
        xy = coordinates(
            points_xy([geometry] if isinstance(geometry, dict) else geometry, f"{field}.geometry"), f"{field}.geometry"
        )
        points += len(xy)
        at_most(points, MAX_POINTS, "roads")
        if kind == "lane":
            token = str(one["id"])[:60] if isinstance(one.get("id"), int | str) else f"row {row}"
            is_bike = _number_of(one) == BIKE_LANE or "bike" in str(one.get("type")).lower()
            (road.bike_lanes if is_bike else road.lanes).append(RawLane(token, xy))
        elif kind == "road_edge":
            road.edges.append(xy)
        elif kind == "crosswalk":
            road.crosswalks.append(xy)
        elif kind == "driveway":
            road.extra_drivable.append(xy)
        elif kind is None:
            derived.add("unknown_roads_left_out")
    if not road.lanes:
        raise DataError("no lanes", field="roads", remedy="A map needs roads of type `lane`")
    return road


def _number_of(one: dict) -> int | None:
    """Returns the number of a road's type where it has one."""
    for name in ("map_element_id", "type"):
        if isinstance(one.get(name), int):
            return one[name]
    return None


def _kind(one: dict) -> str | None:
    """Returns which of ROADS a road is: by its name (lane, LANE_SURFACE_STREET), else by its number."""
    name = one.get("type")
    if isinstance(name, str):
        name = name.lower().replace("cross_walk", "crosswalk")
        found = next((kind for kind in ROADS if name.startswith(kind)), None)
        if found:
            return found
    return ROAD_NUMBERS.get(_number_of(one))
