"""ScenarioNet's recordings (``.pkl``): nuScenes, Waymo and others in one layout."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import AgentType, Scenario
from worldengine_envs.sources.areas import area_of_rings
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
from worldengine_envs.sources.pickles import load_pickle
from worldengine_envs.sources.recording import RawRecording, clean_id, ego_vehicle, make_recording, naming
from worldengine_envs.sources.road import RawLane, RawRoad
from worldengine_envs.sources.tracks import RawTrack, forward_differences

LICENCES = {
    "nuscenes": "CC BY-NC-SA 4.0",
    "nuplan": "CC BY-NC-SA 4.0",
    "argoverse2": "CC BY-NC-SA 4.0",
    "waymo": "Waymo Dataset License Agreement for Non-Commercial Use",
}
TYPES = {
    "VEHICLE": AgentType.VEHICLE,
    "CAR": AgentType.VEHICLE,
    "PEDESTRIAN": AgentType.PEDESTRIAN,
    "CYCLIST": AgentType.BICYCLE,
    "BICYCLE": AgentType.BICYCLE,
    "TRAFFIC_CONE": AgentType.TRAFFIC_CONE,
    "TRAFFIC_BARRIER": AgentType.BARRIER,
}
LANE_TYPES = ("LANE_SURFACE_STREET", "LANE_SURFACE_UNSTRUCTURE", "LANE_FREEWAY", "LANE_UNKNOWN")


def read_scenarionet(path: str | Path) -> Iterator[Scenario]:
    """Yields the recordings of one ScenarioNet file (it holds one), at 0.1 s, start step 0, local coordinates.

    Raises:
        DataError: Names the file and the field that is not what it has to be. Nothing in the pickle is run.
    """
    require("shapely")
    path = Path(path)
    with naming(path):
        recording = make_recording(_read(load_pickle(path), path))
    yield recording


def scenarionet_files(source: str | Path) -> list[Path]:
    """Returns the recordings under a file or folder, in order; ScenarioNet's own index files are left out."""
    source = Path(source)
    if source.is_file():
        return [source]
    return sorted(p for p in source.rglob("*.pkl") if p.name not in ("dataset_summary.pkl", "dataset_mapping.pkl"))


def _read(data, path: Path) -> RawRecording:
    metadata = _part(data, "metadata", dict)
    dataset = _text(metadata.get("dataset")) or ("nuscenes" if "nuscenes" in _text(data.get("version")) else "scenarionet")
    name = _text(data.get("id")) or _text(metadata.get("scenario_id")) or path.stem
    tracks, features = _part(data, "tracks", dict), _part(data, "map_features", dict)
    for field, some, limit in (("tracks", tracks, MAX_TRACKS), ("map_features", features, MAX_FEATURES)):
        at_most(len(some), limit, field)
    tracks = {str(key): track for key, track in tracks.items()}
    ego_key = _text(metadata.get("sdc_id"))
    if ego_key not in tracks:
        raise DataError(f"{ego_key[:60]!r} is no track", field="metadata.sdc_id", remedy="It names the ego's track")
    derived: set[str] = set()
    time = _times(data, metadata, tracks[ego_key])
    raw = {key: _track(key, track, time, is_ego=key == ego_key) for key, track in tracks.items()}
    ego_track = raw.pop(ego_key)
    if ego_track is None:
        raise DataError("the ego is valid in no step", field=f"tracks.{ego_key}.state.valid")
    others = [track for track in raw.values() if track is not None]
    if _velocities_are_made_up([ego_track, *others]):
        for track in [ego_track, *others]:
            track.velocity = None
    nuscenes = dataset == "nuscenes"
    return RawRecording(
        name=name,
        dataset=dataset,
        token=_text(metadata.get("scenario_token")) or name,
        licence=LICENCES.get(dataset, "unknown"),
        ego=ego_vehicle(ego_track, derived),
        ego_track=ego_track,
        tracks=others,
        sample_s=float(np.median(np.diff(time))),
        road=_road(features, nuscenes, derived),
        lights=_lights(data.get("dynamic_map_states"), time, len(time)),
        ego_reference="rear_axle" if nuscenes else "center",  # nuScenes' ego poses are those of the rear axle
        tags=(clean_id(dataset),),
        derived=derived,
    )


def _text(value) -> str:
    """Returns a name that may be text or a number, at most 200 characters, else nothing."""
    return str(value)[:200] if isinstance(value, str | int | np.integer) else ""


def _part(data, field: str, kind: type):
    value = data.get(field) if isinstance(data, dict) else None
    if not isinstance(value, kind):
        found = "missing" if value is None else f"{type(value).__name__} instead of {kind.__name__}"
        raise DataError(found, field=field, remedy="Is this a ScenarioNet recording?")
    return value


def _times(data, metadata, ego) -> np.ndarray:
    """Returns (T,) times [s] from the first step."""
    position = _array(_part(ego, "state", dict).get("position"), "tracks.<ego>.state.position", None, 2)
    steps = len(position)
    if not 2 <= steps <= MAX_STEPS:
        raise DataError(f"{steps} steps, must be 2 to {MAX_STEPS}", field="length")
    length = data.get("length")
    if isinstance(length, int | np.integer) and int(length) != steps:
        raise DataError(f"says {length}, the ego's track has {steps} steps", field="length")
    stamps = metadata.get("ts", data.get("ts"))
    if stamps is None:
        rate = metadata.get("sample_rate")
        interval = float(rate) if isinstance(rate, int | float) and 0.005 <= rate <= 2.0 else 0.1
        return interval * np.arange(steps)
    stamps = _array(stamps, "metadata.ts", None)
    if len(stamps) < steps or not np.isfinite(stamps[:steps]).all():
        raise DataError(f"{len(stamps)} time stamps for {steps} steps, or NaN among them", field="metadata.ts")
    time = stamps[:steps] - stamps[0]
    interval = float(np.median(np.diff(time)))
    if (np.diff(time) < 0).any() or not 0.005 <= interval <= 2.0:
        raise DataError(f"time runs backwards or steps by {interval:g} s", field="metadata.ts", remedy="Seconds are expected")
    return time


def _array(value, field: str, steps: int | None, width: int | None = None) -> np.ndarray:
    """Returns float64 of a field, (steps,) or (steps, >= width), checked."""
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise DataError("holds no numbers", field=field) from None
    if width is None and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    good = array.ndim == (1 if width is None else 2) and steps in (None, len(array))
    if not good or (width is not None and array.shape[1] < width):
        want = f"({steps or 'n'},)" if width is None else f"({steps or 'n'}, {width})"
        raise DataError(f"has shape {array.shape}, must be {want}", field=field)
    return array


def _track(key: str, track, time: np.ndarray, is_ego: bool) -> RawTrack | None:
    field, steps = f"tracks.{key[:60]}.state", len(time)
    state = track.get("state") if isinstance(track, dict) else None
    if not isinstance(state, dict) or "position" not in state:
        raise DataError("missing", field=f"{field}.position")
    position = _array(state["position"], f"{field}.position", steps, 2)
    valid = np.ones(steps) if state.get("valid") is None else _array(state["valid"], f"{field}.valid", steps)
    valid = np.nan_to_num(valid) > 0.5
    if not valid.any():
        return None
    xy = finite(position[:, :2], valid, f"{field}.position", MAX_COORDINATE)
    yaw = velocity = None
    if state.get("heading") is not None:
        yaw = finite(_array(state["heading"], f"{field}.heading", steps), valid, f"{field}.heading", 1e4)
    if state.get("velocity") is not None:
        velocity = finite(_array(state["velocity"], f"{field}.velocity", steps, 2)[:, :2], valid, f"{field}.velocity", MAX_SPEED)
    size = finite(_sizes(state, field, steps), valid, f"{field}.size", MAX_SIZE)
    kind = AgentType.VEHICLE if is_ego else TYPES.get(str(track.get("type")).upper(), AgentType.GENERIC_OBJECT)
    return RawTrack(key, kind, time[valid], xy, yaw, size, velocity)


def _sizes(state, field, steps) -> np.ndarray:
    if state.get("size") is not None:
        size = _array(state["size"], f"{field}.size", steps, 2)
        return np.pad(size, ((0, 0), (0, max(3 - size.shape[1], 0))))[:, :3]
    columns = [
        np.zeros(steps) if state.get(n) is None else _array(state[n], f"{field}.{n}", steps) for n in ("length", "width", "height")
    ]
    return np.stack(columns, axis=1)


def _velocities_are_made_up(tracks: list[RawTrack]) -> bool:
    """Whether the file's velocities are missing or a converter's forward differences (most moving tracks decide)."""
    given = [track for track in tracks if track.velocity is not None and len(track.time) >= 4]
    moving = [track for track in given if np.hypot(*(track.xy[-1] - track.xy[0])) > 1.0]
    return bool(moving) and np.mean([forward_differences(t.time, t.xy, t.velocity) for t in moving]) > 0.5


def _shape(value) -> tuple[int, ...]:
    """Returns the shape of an array or of nested lists, () where rows differ in length."""
    try:
        return np.shape(value)
    except ValueError:
        return ()


def _line(value, field: str) -> np.ndarray:
    xy = np.zeros((0, 2)) if 0 in _shape(value) else _array(value, field, None, 2)[:, :2]
    return coordinates(xy, field)


def _road(features, nuscenes: bool, derived: set[str]) -> RawRoad:
    road, rings, points = RawRoad(lanes=[]), [], 0
    for key, feature in features.items():
        key = str(key)
        if not isinstance(feature, dict):
            raise DataError(f"{type(feature).__name__} instead of dict", field=f"map_features.{key[:60]}")
        kind = str(feature.get("type")).upper()
        shape = {
            n: _line(feature[n], f"map_features.{key[:60]}.{n}") for n in ("polyline", "polygon") if feature.get(n) is not None
        }
        points += sum(len(xy) for xy in shape.values())
        if points > MAX_POINTS:
            raise DataError(f"more than {MAX_POINTS} points", field="map_features")
        line, ring = shape.get("polyline"), shape.get("polygon")
        area = ring if ring is not None else line
        if kind in LANE_TYPES or kind == "LANE_BIKE_LANE":
            if line is not None:
                (road.bike_lanes if kind == "LANE_BIKE_LANE" else road.lanes).append(
                    _lane(key, kind, feature, line, ring, nuscenes)
                )
        elif area is None:
            continue
        elif kind in ("CROSSWALK", "CROSS_WALK"):
            road.crosswalks.append(area)
        elif kind == "DRIVEWAY":
            road.extra_drivable.append(area)
        elif kind in ("ROAD_EDGE_BOUNDARY", "ROAD_EDGE_MEDIAN", "ROAD_EDGE_UNKNOWN", "BOUNDARY_LINE"):
            road.edges.append(area)
        elif nuscenes and key.startswith("boundary_") and len(area) >= 4 and np.hypot(*(area[0] - area[-1])) < 0.01:
            rings.append(area)
    if not road.lanes:
        raise DataError("no lanes with a centreline", field="map_features")
    if rings:  # nuScenes: the outlines of the union of its drivable-area polygons, without car parks
        road.drivable, road.drivable_is_whole = area_of_rings(rings), False
        derived.add("drivable_area_from_outlines")
    return road


def _lane(key, kind, feature, line, ring, nuscenes: bool) -> RawLane:
    connector = None
    if nuscenes:
        connector = kind == "LANE_SURFACE_UNSTRUCTURE" or ring is None  # the converter drops the polygons of connectors only
    elif kind == "LANE_SURFACE_UNSTRUCTURE":
        connector = True
    half_width = None
    width = _shape(feature.get("width"))
    if len(width) == 2 and width[1] == 2:
        half_width = np.nan_to_num(_array(feature["width"], f"map_features.{key[:60]}.width", None, 2))
    return RawLane(
        token=key,
        center=line,
        polygon=ring,
        half_width=half_width,
        connector=connector,
        speed_limit=_speed_limit(feature, invented=nuscenes),
        successors=_tokens(feature.get("exit_lanes")),
        left=_tokens(feature.get("left_neighbor")),
        right=_tokens(feature.get("right_neighbor")),
    )


def _speed_limit(feature, invented: bool) -> float:
    """Returns m/s, NaN = unknown. nuScenes has none: the converter's 100 km/h on connectors is not real."""
    for name, factor in (("speed_limit_kmh", 1 / 3.6), ("speed_limit_mph", 0.44704), ("speed_limit_mps", 1.0)):
        value = feature.get(name)
        if isinstance(value, int | float | np.number) and value > 0 and not invented:
            return float(value) * factor
    return math.nan


def _tokens(names) -> list[str]:
    """Returns lane ids of a list of ids or of neighbour records."""
    if not isinstance(names, list | tuple | set | np.ndarray):
        return []
    return [str(name.get("feature_id") if isinstance(name, dict) else name) for name in names]


def _lights(states, time, steps) -> dict:
    out = {}
    if states is None:
        return out
    if not isinstance(states, dict):
        raise DataError(f"{type(states).__name__} instead of dict", field="dynamic_map_states")
    for key, light in states.items():
        state = light.get("state") if isinstance(light, dict) else None
        colours = state.get("object_state") if isinstance(state, dict) else None
        if _shape(colours) != (steps,):
            continue
        lane = light.get("lane")
        lane = _text(lane) or str(key)
        out[lane] = (time, colours)
    return observed_lights(out)
