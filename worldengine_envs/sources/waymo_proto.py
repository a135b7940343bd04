"""Waymo Open Motion's ``Scenario`` message (waymo_open_dataset/protos/scenario.proto and map.proto): tracks, map, lights."""

from __future__ import annotations

import math

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import AgentType
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
)
from worldengine_envs.sources.lights import observed_lights
from worldengine_envs.sources.optional import require
from worldengine_envs.sources.protobuf_wire import Field, parse
from worldengine_envs.sources.recording import RawRecording, ego_vehicle
from worldengine_envs.sources.road import RawLane, RawRoad
from worldengine_envs.sources.tracks import RawTrack

LICENCE = "Waymo Dataset License Agreement for Non-Commercial Use"
TYPES = {1: AgentType.VEHICLE, 2: AgentType.PEDESTRIAN, 3: AgentType.BICYCLE}  # others are generic objects
BIKE_LANE = 3
MAX_BOUNDARIES = 1000  # of one side of a lane
REMEDY = "Of Waymo's motion data the `scenario` files are read, not `tf_example`, and no perception data"
MPH = 0.44704  # [m/s]

POINT = {1: Field("x", "double"), 2: Field("y", "double")}
LINE = {2: Field("points", POINT, True)}
RING = {1: Field("points", POINT, True)}
BOUNDARY = {1: Field("start", "int"), 2: Field("end", "int"), 3: Field("feature", "int")}
NEIGHBOUR = {1: Field("lane", "int")}
LANE = {
    1: Field("speed_limit_mph", "double"),
    2: Field("type", "int"),
    8: Field("points", POINT, True),
    10: Field("exit_lanes", "int", True),
    11: Field("left_neighbors", NEIGHBOUR, True),
    12: Field("right_neighbors", NEIGHBOUR, True),
    13: Field("left_boundaries", BOUNDARY, True),
    14: Field("right_boundaries", BOUNDARY, True),
}
FEATURE = {
    1: Field("id", "int"),
    3: Field("lane", LANE),
    4: Field("road_line", LINE),
    5: Field("road_edge", LINE),
    8: Field("crosswalk", RING),
    10: Field("driveway", RING),
}
STATE = {
    2: Field("center_x", "double"),
    3: Field("center_y", "double"),
    5: Field("length", "float"),
    6: Field("width", "float"),
    7: Field("height", "float"),
    8: Field("heading", "float"),
    9: Field("velocity_x", "float"),
    10: Field("velocity_y", "float"),
    11: Field("valid", "bool"),
}
TRACK = {1: Field("id", "int"), 2: Field("object_type", "int"), 3: Field("states", STATE, True)}
LIGHTS = {1: Field("lane_states", {1: Field("lane", "int"), 2: Field("state", "int")}, True)}
SCENARIO = {
    1: Field("timestamps_seconds", "double", True),
    2: Field("tracks", TRACK, True),
    5: Field("scenario_id", "text"),
    6: Field("sdc_track_index", "int"),
    7: Field("dynamic_map_states", LIGHTS, True),
    8: Field("map_features", FEATURE, True),
}
STATE_COLUMNS = tuple(field.name for field in STATE.values())


def read_scenario(record: bytes, name: str) -> RawRecording:
    """Returns what one serialized ``Scenario`` holds.

    Args:
        record: The message.
        name: Name for it where it has no ``scenario_id``.

    Raises:
        DataError: Names the field that is not what it has to be.
    """
    try:
        message = parse(record, SCENARIO)
    except DataError as error:
        raise DataError(error.problem, field=error.field, remedy=REMEDY) from None
    tracks, features = message["tracks"], message["map_features"]
    if not tracks or not message["timestamps_seconds"]:
        raise DataError("no Scenario message: it has no tracks or no times", field="tracks", remedy=REMEDY)
    at_most(len(tracks), MAX_TRACKS, "tracks")
    at_most(len(features), MAX_FEATURES, "map_features")
    time = _times(message["timestamps_seconds"])
    ego_row = message.get("sdc_track_index")
    if ego_row is None or not 0 <= ego_row < len(tracks):
        raise DataError(
            f"{ego_row} is none of the {len(tracks)} tracks", field="sdc_track_index", remedy="It names the ego's track"
        )
    raw = [_track(row, track, time, is_ego=row == ego_row) for row, track in enumerate(tracks)]
    ego = raw.pop(ego_row)
    if ego is None:
        raise DataError("the ego is valid in no step", field=f"tracks[{ego_row}].states")
    derived: set[str] = set()
    others = [track for track in raw if track is not None]
    if len({ego.token, *(track.token for track in others)}) <= len(others):
        raise DataError("two tracks have the same id", field="tracks.id")
    return RawRecording(
        name=message.get("scenario_id") or name,
        dataset="waymo",
        token=message.get("scenario_id") or name,
        licence=LICENCE,
        ego=ego_vehicle(ego, derived),
        ego_track=ego,
        tracks=others,
        sample_s=float(np.median(np.diff(time))),
        road=_road(features),
        lights=_lights(message["dynamic_map_states"], time),
        tags=("waymo",),
        derived=derived,
    )


def _times(stamps: list[float]) -> np.ndarray:
    """Returns (steps,) times [s] from the first step."""
    if not 2 <= len(stamps) <= MAX_STEPS:
        raise DataError(f"{len(stamps)} steps, must be 2 to {MAX_STEPS}", field="timestamps_seconds")
    time = np.array(stamps)
    if not np.isfinite(time).all():
        raise DataError("NaN or infinite times", field="timestamps_seconds")
    time = time - time[0]
    interval = float(np.median(np.diff(time)))
    if (np.diff(time) < 0).any() or not 0.005 <= interval <= 2.0:
        raise DataError(f"time runs backwards or steps by {interval:g} s", field="timestamps_seconds")
    return time


def _track(row: int, track: dict, time: np.ndarray, is_ego: bool) -> RawTrack | None:
    """Returns the valid samples of a track, or None if there is none."""
    field, states = f"tracks[{row}].states", track["states"]
    if len(states) != len(time):
        raise DataError(f"{len(states)} states for {len(time)} times", field=field)
    valid = np.array([state.get("valid", False) for state in states], bool)
    if not valid.any():
        return None
    table = np.array([[state.get(name, 0.0) for name in STATE_COLUMNS[:8]] for state in states])
    kind = AgentType.VEHICLE if is_ego else TYPES.get(track.get("object_type", 0), AgentType.GENERIC_OBJECT)
    size = finite(table[:, 2:5], valid, f"{field}.length, width, height", MAX_SIZE)
    if (size < 0).any():
        raise DataError("negative sizes", field=f"{field}.length, width, height")
    return RawTrack(
        token=str(track.get("id", row)),
        type=kind,
        time=time[valid],
        xy=finite(table[:, :2], valid, f"{field}.center_x, center_y", MAX_COORDINATE),
        yaw=finite(table[:, 5], valid, f"{field}.heading", 1e4),
        size=size,
        velocity=finite(table[:, 6:8], valid, f"{field}.velocity_x, velocity_y", MAX_SPEED),
    )


def _points(shape: dict, field: str) -> np.ndarray:
    xy = np.array([(point.get("x", 0.0), point.get("y", 0.0)) for point in shape["points"]]).reshape(-1, 2)
    return coordinates(xy, field)


def _road(features: list[dict]) -> RawRoad:
    road, lanes, lines, points = RawRoad(lanes=[]), [], {}, 0
    for row, feature in enumerate(features):
        kind = next((name for name in ("lane", "road_line", "road_edge", "crosswalk", "driveway") if name in feature), None)
        if kind is None:  # a stop sign, a speed bump, or something new
            continue
        xy = _points(feature[kind], f"map_features[{row}].{kind}")
        points += len(xy)
        at_most(points, MAX_POINTS, "map_features")
        if kind == "lane":
            lanes.append((str(feature.get("id", f"row {row}")), feature["lane"], xy))
        elif kind in ("road_line", "road_edge"):
            lines[feature.get("id")] = xy
            if kind == "road_edge":
                road.edges.append(xy)
        else:
            (road.crosswalks if kind == "crosswalk" else road.extra_drivable).append(xy)
    for token, lane, xy in lanes:
        (road.bike_lanes if lane.get("type") == BIKE_LANE else road.lanes).append(_lane(token, lane, xy, lines))
    if not road.lanes:
        raise DataError("no lanes for cars", field="map_features")
    return road


def _lane(token: str, lane: dict, xy: np.ndarray, lines: dict[int, np.ndarray]) -> RawLane:
    limit = lane.get("speed_limit_mph", 0.0)
    return RawLane(
        token=token,
        center=xy,
        half_width=_half_widths(xy, lane["left_boundaries"], lane["right_boundaries"], lines),
        speed_limit=limit * MPH if limit > 0 else math.nan,
        successors=[str(number) for number in lane["exit_lanes"]],
        left=[str(neighbour["lane"]) for neighbour in lane["left_neighbors"] if "lane" in neighbour],
        right=[str(neighbour["lane"]) for neighbour in lane["right_neighbors"] if "lane" in neighbour],
    )


def _half_widths(xy: np.ndarray, left: list[dict], right: list[dict], lines: dict[int, np.ndarray]) -> np.ndarray:
    """Returns (n, 2) distances [m] from the points of a lane to its left and right boundary, 0 where it has none."""
    shapely = require("shapely")
    half = np.zeros((len(xy), 2))
    for side, boundaries in enumerate((left, right)):
        at_most(len(boundaries), MAX_BOUNDARIES, "map_features.lane.boundaries")
        for boundary in boundaries:
            line = lines.get(boundary.get("feature"))
            part = slice(max(boundary.get("start", 0), 0), max(boundary.get("end", 0), 0) + 1)
            if line is None or len(line) < 2 or not len(xy[part]):
                continue
            distance = shapely.distance(shapely.LineString(line), shapely.points(xy[part]))
            half[part, side] = np.where(half[part, side] > 0, np.minimum(half[part, side], distance), distance)
    return half


def _lights(states: list[dict], time: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    if states and len(states) != len(time):
        raise DataError(f"{len(states)} entries for {len(time)} times", field="dynamic_map_states")
    seen: dict[str, tuple[list, list]] = {}
    for at, step in zip(time, states, strict=False):
        for light in step["lane_states"]:
            if "lane" in light:
                times, colours = seen.setdefault(str(light["lane"]), ([], []))
                times.append(at)
                colours.append(light.get("state", 0))
    return observed_lights(seen)
