"""What must be true of every scenario before anything is compiled from it.

Checks stop at the first violation and name the scenario and the field. Nothing behind this gate checks an index again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.schema import FIELDS, NAMES, dimension_names, dimension_of
from worldengine_envs.scenario.types import (
    HISTORY_STEPS,
    STEP_S,
    AgentType,
    CameraRig,
    Lights,
    LightState,
    MapLayer,
    Origin,
    ProgressReference,
    Route,
    Scenario,
    Tracks,
    VectorMap,
    VehicleParameters,
)

MAX_COORDINATE = 100_000.0  # [m] from the local origin
MAX_SPEED = 100.0  # [m/s]
MAX_SIZE = 100.0  # [m]
MAX_YAW = 1_000.0  # [rad], unwrapped headings included
MIN_POLYGON_AREA = 1e-4  # [m2]
REFERENCE_SOURCES = ("pdm-closed", "solution", "log")

ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
LABEL = re.compile(r"[A-Za-z0-9_.:-]{1,64}")  # splits and tags
MAX_NAME = 256  # characters of a token


class Violation(Exception):
    """A field is not what it has to be."""

    def __init__(self, field: str, problem: str):
        super().__init__(field, problem)
        self.field, self.problem = field, problem


def validate(scenario: Scenario) -> Scenario:
    """Checks every invariant of ``scenario.types`` and returns the scenario.

    Raises:
        DataError: Names the scenario, the field and the first violation.
    """
    parts = [("tracks", Tracks), ("vector_map", VectorMap), ("lights", Lights), ("route", Route), ("camera_rig", CameraRig)]
    for name, part_type in parts:
        part = getattr(scenario, name)
        if part is not None or name != "camera_rig":
            validate_part(part, part_type, name, scenario=scenario.id)
    return validate_links(scenario)


def validate_part(part, part_type: type, name: str, *, scenario: str | None = None, file=None):
    """Checks one part by itself: dtypes, shapes, finite and bounded values, unique names, offsets and indexes in range.

    Raises:
        DataError: Names file, scenario, field and the first violation.
    """
    try:
        if not isinstance(part, part_type):
            raise Violation("", f"must be {part_type.__name__}, is {type(part).__name__}")
        _check_arrays(part)
        _PART_CHECKS[part_type](part)
    except Violation as error:
        field = f"{name}.{error.field}" if error.field else name
        raise DataError(
            error.problem, file=file, scenario=scenario, field=field, remedy="Correct the source or its reader"
        ) from None
    return part


def validate_links(scenario: Scenario) -> Scenario:
    """Checks what holds between the parts and the scenario's own fields; the parts themselves were checked before.

    Raises:
        DataError: Names the scenario, the field and the first violation.
    """
    try:
        _check_labels(scenario)
        _check_origin(scenario.origin)
        _check_ego(scenario.ego)
        _check_between(scenario)
        if scenario.reference is not None:
            _check_reference(scenario.reference, scenario)
    except Violation as error:
        name = scenario.id if isinstance(scenario.id, str) else None
        raise DataError(error.problem, scenario=name, field=error.field, remedy="Correct the source or its reader") from None
    return scenario


def _require(condition, field: str, problem: str | Callable[[], str]) -> None:
    if not condition:
        raise Violation(field, problem if isinstance(problem, str) else problem())


def _check_arrays(part) -> None:
    """Dtypes, shapes and finite values of all arrays, and the names of a part."""
    fields = FIELDS[type(part)]
    dims = part_dimensions(part)
    for name, spec in fields.items():
        array = getattr(part, name)
        want = tuple(dimension_of(size, dims) for size in spec.shape)
        _require(array.dtype.name == spec.dtype, name, f"dtype must be {spec.dtype}, is {array.dtype}")
        _require(array.shape == want, name, f"shape must be {spec.shape} = {want}, is {array.shape}")
        if spec.dtype == "float64":
            bad = ~np.isfinite(array)
            if spec.nan_allowed:
                bad &= ~np.isnan(array)
            _require(
                not bad.any(), name, lambda bad=bad: f"{int(bad.sum())} values are NaN or infinite, the first at {_first(bad)}"
            )
    if type(part) in NAMES:
        name, dim = NAMES[type(part)]
        _check_names(getattr(part, name), dims[dim], name)


def part_dimensions(part) -> dict[str, int]:
    """Returns the sizes of a part's named dimensions, read off its arrays."""
    dims = {}
    for name, spec in FIELDS[type(part)].items():
        array = getattr(part, name)
        _require(isinstance(array, np.ndarray), name, f"must be a numpy array, is {type(array).__name__}")
        _require(array.ndim == len(spec.shape), name, f"must have {len(spec.shape)} axes, has {array.ndim}")
        for size, length in zip(spec.shape, array.shape, strict=True):
            if isinstance(size, str) and not size.endswith("+1"):
                dims.setdefault(size, length)
            elif isinstance(size, str):
                _require(length >= 1, name, "must hold at least one offset")
                dims.setdefault(size[:-2], length - 1)
    assert set(dims) == set(dimension_names(type(part)))
    return dims


def _check_names(names, count: int, field: str) -> None:
    _require(isinstance(names, tuple), field, f"must be a tuple, is {type(names).__name__}")
    _require(len(names) == count, field, f"{len(names)} names for {count} rows")
    for row, name in enumerate(names):
        good = isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isprintable()
        _require(good, field, f"row {row} is not a name of 1 to {MAX_NAME} printable characters")
    if len(set(names)) != count:
        seen = set()
        twice = next(name for name in names if name in seen or seen.add(name))
        raise Violation(field, f"{twice!r} appears twice")


def _check_tracks(tracks: Tracks) -> None:
    _require(len(tracks) >= 1, "tokens", "no tracks: row 0 must be the ego")
    _require(tracks.steps >= 2, "state", f"{tracks.steps} steps; at least 2 are needed")
    _check_enum(tracks.types, AgentType, "types")
    _require(tracks.types[0] == AgentType.VEHICLE, "types", "row 0, the ego, must be a vehicle")
    valid, state, size = tracks.valid, tracks.state, tracks.size
    _require(not state[~valid].any(), "state", "must be 0 where invalid")
    _require(not size[~valid].any(), "size", "must be 0 where invalid")
    _check_bound(state[..., :2], MAX_COORDINATE, "state", "x or y", "m")
    _check_bound(state[..., 2], MAX_YAW, "state", "yaw", "rad")
    _check_bound(np.hypot(state[..., 3], state[..., 4]), MAX_SPEED, "state", "speed", "m/s")
    _check_bound(size, MAX_SIZE, "size", "length, width or height", "m")
    bad = valid[..., None] & (size < 1e-3)
    _require(
        not bad.any(),
        "size",
        lambda: f"must be positive where valid, is not in {int(bad.any(-1).sum())} steps, the first at {_first(bad)}",
    )


def _check_map(m: VectorMap) -> None:
    _require(m.num_lanes >= 1, "lane_tokens", "no lanes")
    for name, flat in (
        ("centerline_offsets", m.centerline),
        ("successor_offsets", m.successors),
        ("polygon_offsets", m.polygon_xy),
    ):
        _check_offsets(getattr(m, name), len(flat), name)
    _require(np.diff(m.centerline_offsets).min() >= 2, "centerline_offsets", "a lane has fewer than 2 points")
    _check_bound(m.centerline, MAX_COORDINATE, "centerline", "x or y", "m")
    _check_bound(m.polygon_xy, MAX_COORDINATE, "polygon_xy", "x or y", "m")
    limit = m.lane_speed_limit[~np.isnan(m.lane_speed_limit)]
    _require(((limit > 0) & (limit < MAX_SPEED)).all(), "lane_speed_limit", f"must lie between 0 and {MAX_SPEED:g} m/s, or be NaN")
    _require((m.lane_roadblock >= 0).all(), "lane_roadblock", "must not be negative")
    _check_index(m.lane_left, m.num_lanes, "lane_left", none_allowed=True)
    _check_index(m.lane_right, m.num_lanes, "lane_right", none_allowed=True)
    _check_index(m.successors, m.num_lanes, "successors")
    _check_enum(m.polygon_layer, MapLayer, "polygon_layer")
    _check_index(m.lane_polygon, m.num_polygons, "lane_polygon")
    layer = np.where(m.lane_is_connector, MapLayer.LANE_CONNECTOR, MapLayer.LANE)
    wrong = np.flatnonzero(m.polygon_layer[m.lane_polygon] != layer)
    _require(not len(wrong), "lane_polygon", lambda: f"the polygon of lane {m.lane_tokens[wrong[0]]} is of another layer")
    corners = np.diff(m.polygon_offsets)
    _require(corners.min() >= 3, "polygon_offsets", lambda: f"polygon {int(corners.argmin())} has fewer than 3 vertices")
    area = polygon_areas(m)
    _require(
        area.min() >= MIN_POLYGON_AREA, "polygon_xy", lambda: f"polygon {int(area.argmin())} has an area of {area.min():.2g} m2"
    )


def _check_lights(lights: Lights) -> None:
    _check_enum(lights.state, LightState, "state")
    _require((lights.lanes >= 0).all(), "lanes", "must not be negative")


def _check_route(route: Route) -> None:
    _require(len(route.lanes) >= 1, "lanes", "no lanes on the route")
    _require((route.lanes >= 0).all(), "lanes", "must not be negative")
    _require(len(np.unique(route.lanes)) == len(route.lanes), "lanes", "a lane appears twice")
    _require(len(route.centerline) >= 2, "centerline", f"{len(route.centerline)} points; at least 2 are needed")
    _check_bound(route.centerline[:, :2], MAX_COORDINATE, "centerline", "x or y", "m")
    _check_bound(route.centerline[:, 2], MAX_YAW, "centerline", "yaw", "rad")
    _check_bound(route.goal, MAX_COORDINATE, "goal", "x or y", "m")
    length = np.hypot(*np.diff(route.centerline[:, :2], axis=0).T).sum()
    _require(length > 0, "centerline", "all points are the same")


def _check_rig(rig: CameraRig) -> None:
    _require(len(rig.names) >= 1, "names", "no cameras")
    _check_bound(rig.camera_to_ego, 1_000.0, "camera_to_ego", "a value", "m")
    _check_bound(rig.intrinsics, 1e6, "intrinsics", "a value", "px")
    _check_bound(rig.distortion, 1e6, "distortion", "a value", "1")
    _require((rig.intrinsics[:, [0, 1], [0, 1]] > 0).all(), "intrinsics", "focal lengths must be positive")
    _require(((rig.image_size >= 1) & (rig.image_size <= 16384)).all(), "image_size", "must lie between 1 and 16384 pixels")


_PART_CHECKS = {Tracks: _check_tracks, VectorMap: _check_map, Lights: _check_lights, Route: _check_route, CameraRig: _check_rig}


def _check_labels(scenario: Scenario) -> None:
    _require(isinstance(scenario.id, str) and ID.fullmatch(scenario.id), "id", f"{str(scenario.id)[:40]!r} must match {ID.pattern}")
    good = isinstance(scenario.split, str) and LABEL.fullmatch(scenario.split)
    _require(good, "split", f"{str(scenario.split)[:40]!r} must match {LABEL.pattern}")
    _require(isinstance(scenario.tags, tuple), "tags", "must be a tuple")
    for tag in scenario.tags:
        _require(isinstance(tag, str) and LABEL.fullmatch(tag), "tags", f"{str(tag)[:40]!r} must match {LABEL.pattern}")
    _require(len(set(scenario.tags)) == len(scenario.tags), "tags", "a tag appears twice")
    _require(scenario.parent is None or isinstance(scenario.parent, dict), "parent", "must be a dict")
    scene = scenario.gaussian_scene
    _require(scene is None or (isinstance(scene, str) and ID.fullmatch(scene)), "gaussian_scene", f"must match {ID.pattern}")


def _check_origin(origin: Origin) -> None:
    for name in ("dataset", "log", "token", "licence"):
        value = getattr(origin, name)
        good = isinstance(value, str) and len(value) <= MAX_NAME and value.isprintable()
        _require(good, f"origin.{name}", f"must be text of at most {MAX_NAME} printable characters")
    _require(origin.dataset, "origin.dataset", "must not be empty")
    offset = origin.offset
    good = isinstance(offset, tuple) and len(offset) == 2 and all(isinstance(x, float | int) and abs(x) < 1e9 for x in offset)
    _require(good, "origin.offset", "must be two finite numbers below 1e9 m")
    _require(0 <= origin.time_us < 2**63, "origin.time_us", "must be a number of microseconds from 0 to 2^63")
    good = isinstance(origin.derived, tuple) and all(isinstance(d, str) and LABEL.fullmatch(d) for d in origin.derived)
    _require(good, "origin.derived", f"must be a tuple of names that match {LABEL.pattern}")


def _check_ego(ego: VehicleParameters) -> None:
    for name in ("length", "width", "wheel_base", "rear_axle_to_center"):
        value = getattr(ego, name)
        _require(math.isfinite(value) and 0.1 <= value <= 30.0, f"ego.{name}", f"must lie between 0.1 and 30 m, is {value:g}")
    _require(ego.wheel_base < ego.length, "ego.wheel_base", "must be shorter than the vehicle")
    _require(ego.rear_axle_to_center < ego.length / 2, "ego.rear_axle_to_center", "puts the rear axle outside the vehicle")


def _check_between(scenario: Scenario) -> None:
    steps, start = scenario.tracks.steps, scenario.start_step
    _require(
        isinstance(start, int | np.integer) and 0 <= start < steps - 1,
        "start_step",
        f"{start} is not a step of {steps} before the last",
    )
    _require(
        scenario.lights.state.shape[1] == steps, "lights.state", f"{scenario.lights.state.shape[1]} steps for {steps} of the tracks"
    )
    lanes = scenario.vector_map.num_lanes
    _check_index(scenario.lights.lanes, lanes, "lights.lanes")
    _check_index(scenario.route.lanes, lanes, "route.lanes")
    horizon = max(scenario.reference.progress, default=4.0) if scenario.reference else 4.0
    _require(math.isfinite(horizon) and 0 < horizon < 1e4, "reference.progress", f"a horizon of {horizon:g} s")
    first, last = max(start - HISTORY_STEPS, 0), min(start + round(horizon / STEP_S), steps - 1)
    missing = np.flatnonzero(~scenario.tracks.valid[0, first : last + 1])
    _require(
        not len(missing), "tracks.valid", lambda: f"the ego is missing at step {first + missing[0]} (needed from {first} to {last})"
    )


def _check_reference(reference: ProgressReference, scenario: Scenario) -> None:
    _require(reference.source in REFERENCE_SOURCES, "reference.source", f"must be one of {', '.join(REFERENCE_SOURCES)}")
    _require(reference.progress, "reference.progress", "no horizons")
    for horizon, progress in reference.progress.items():
        _require(
            math.isfinite(horizon) and horizon > 0 and scenario.fits(horizon), "reference.progress", f"{horizon:g} s does not fit"
        )
        good = math.isfinite(progress) and 0 <= progress <= MAX_SPEED * horizon
        _require(good, "reference.progress", f"{progress:g} m in {horizon:g} s")


def _check_enum(values: np.ndarray, kind, field: str) -> None:
    bad = (values < 0) | (values >= len(kind))
    _require(not bad.any(), field, lambda: f"{int(values[bad][0])} at {_first(bad)} is no {kind.__name__}")


def _check_bound(values: np.ndarray, bound: float, field: str, what: str, unit: str) -> None:
    bad = np.abs(values) > bound
    _require(not bad.any(), field, lambda: f"{what} of {float(values[bad][0]):.6g} {unit} at {_first(bad)}; the limit is {bound:g}")


def _check_index(rows: np.ndarray, count: int, field: str, none_allowed: bool = False) -> None:
    bad = (rows < (-1 if none_allowed else 0)) | (rows >= count)
    _require(not bad.any(), field, lambda: f"{int(rows[bad][0])} at {_first(bad)} is out of range for {count} rows")


def _check_offsets(offsets: np.ndarray, length: int, field: str) -> None:
    _require(
        offsets[0] == 0 and offsets[-1] == length, field, f"must run from 0 to {length}, runs from {offsets[0]} to {offsets[-1]}"
    )
    _require((offsets[1:] >= offsets[:-1]).all(), field, "must not decrease")


def polygon_areas(m: VectorMap) -> np.ndarray:
    """Returns (polygons,) absolute areas [m2] by the shoelace formula, about each polygon's first vertex."""
    start, count = m.polygon_offsets[:-1], np.diff(m.polygon_offsets)
    xy = m.polygon_xy - np.repeat(m.polygon_xy[start], count, axis=0)
    following = np.roll(xy, -1, axis=0)
    following[m.polygon_offsets[1:] - 1] = xy[start]
    return np.abs(np.add.reduceat(xy[:, 0] * following[:, 1] - xy[:, 1] * following[:, 0], start)) / 2


def _first(bad: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(bad)[0])
