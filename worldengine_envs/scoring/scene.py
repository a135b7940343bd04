"""What planned trajectories are scored against: map, tracks, centreline and reference of one moment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import AgentType, MapLayer, Scenario, VehicleParameters, initial_ego_state
from worldengine_envs.scoring.trajectories import PLAN_STEPS, interpolate_poses, interpolation, query_times
from worldengine_envs.simulation.geometry import polyline_arclength
from worldengine_envs.simulation.map_index import MapIndex, MapIndexBuilder

OBSERVED_STEPS = PLAN_STEPS + 10  # steps 0..49 of the tracks are read
CHUNK_STEPS = 9  # steps of the plan that share a bounding box
CHUNKS = -(-(PLAN_STEPS + 1) // CHUNK_STEPS)
TTC_STEPS = 9  # time to collision looks this far ahead of a step
BOX_X, BOX_Y, BOX_COS, BOX_SIN, BOX_HALF_LENGTH, BOX_HALF_WIDTH, BOX_RADIUS = range(7)


class SceneArrays(NamedTuple):
    """The part of a scene that compiled code reads. N tracks without the ego."""

    ego_state: np.ndarray  # (11,) see simulation.bicycle
    vehicle: np.ndarray  # (4,) length, width, wheel base, rear axle to centre [m]
    map_index: MapIndex
    m: int  # number of the map in the index
    on_route: np.ndarray  # (polygons,) bool: lanes and connectors of the route
    centerline: np.ndarray  # (points, 2) x, y [m]
    centerline_s: np.ndarray  # (points,) arclength [m]
    boxes: np.ndarray  # (N, OBSERVED_STEPS, 7) BOX_*: centre [m], cosine and sine of yaw, half length, half width, radius [m]
    valid: np.ndarray  # (N, OBSERVED_STEPS) bool
    bounds: np.ndarray  # (N, CHUNKS, 4) low x, low y, high x, high y [m] of the boxes that a chunk of plan steps can meet
    is_agent: np.ndarray  # (N,) bool: vehicle, pedestrian or bicycle
    speed: np.ndarray  # (N,) [m/s] at the first appearance
    last_ttc_step: int = PLAN_STEPS  # time to collision is looked at up to this step


@dataclass(frozen=True, slots=True)
class ScoringScene:
    """A moment at which planned trajectories are scored."""

    arrays: SceneArrays
    time_us: int  # time stamp of the moment
    tokens: tuple[str, ...]  # (N,) of the tracks
    reference_poses: np.ndarray | None  # (41, 3) rear-axle poses of the progress reference, as the tracker reads them
    reference_progress: float | None  # its progress [m], where there are no poses
    offset: np.ndarray  # (2,) what was subtracted from x, y to make the frame local [m]


def _track_boxes(tracks: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Returns the boxes (N, T, 7) of tracks (T, N, 5 or more) x, y, yaw, length, width."""
    x, y, yaw, length, width = (tracks[..., i].T for i in range(5))
    radius = np.hypot(length, width) / 2
    return np.ascontiguousarray(
        np.stack([x, y, np.cos(yaw), np.sin(yaw), length / 2, width / 2, radius], axis=-1) * valid.T[..., None]
    )


def track_bounds(boxes: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Returns (N, CHUNKS, 4) boxes around what each chunk of plan steps can meet; low above high where nothing is there."""
    bounds = np.empty((len(boxes), CHUNKS, 4))
    bounds[..., :2], bounds[..., 2:] = math.inf, -math.inf
    for chunk in range(CHUNKS):
        steps = slice(chunk * CHUNK_STEPS, min((chunk + 1) * CHUNK_STEPS, PLAN_STEPS + 1) + TTC_STEPS)
        part, there = boxes[:, steps], valid[:, steps]
        for axis in range(2):
            low = np.where(there, part[..., axis] - part[..., BOX_RADIUS], math.inf)
            high = np.where(there, part[..., axis] + part[..., BOX_RADIUS], -math.inf)
            bounds[:, chunk, axis], bounds[:, chunk, 2 + axis] = low.min(1, initial=math.inf), high.max(1, initial=-math.inf)
    return bounds


def num_polygons(map_index: MapIndex, m: int) -> int:
    """Returns how many polygons map ``m`` has. Raises DataError where the index has no such map."""
    if not 0 <= m < len(map_index.grid):
        raise DataError(f"map {m} of an index with {len(map_index.grid)}", field="m")
    return int(map_index.polygon_offset[m + 1] - map_index.polygon_offset[m])


def _check_reference(reference: tuple[np.ndarray, np.ndarray] | None, progress: float | None) -> None:
    if reference is None:
        if progress is None or not math.isfinite(progress):
            raise DataError(f"no poses, and {progress} as progress", field="reference", remedy="Pass one of them")
        return
    times, knots = (np.asarray(part) for part in reference)
    if knots.ndim != 2 or knots.shape[1] != 3 or len(knots) < 2 or times.shape != knots.shape[:1]:
        raise DataError(f"shapes {times.shape}, {knots.shape} are not (n,) times and (n, 3) poses, n over 1", field="reference")
    if not np.isfinite(knots).all() or (np.diff(times) <= 0).any():
        raise DataError("poses are not finite, or times do not ascend", field="reference")


def make_scene(
    *,
    ego_state: np.ndarray,
    vehicle: VehicleParameters,
    map_index: MapIndex,
    m: int,
    on_route: np.ndarray,
    centerline: np.ndarray,
    tracks: np.ndarray,
    valid: np.ndarray,
    types: np.ndarray,
    tokens: Sequence[str],
    time_us: int = 0,
    reference: tuple[np.ndarray, np.ndarray] | None = None,
    reference_progress: float | None = None,
    offset: np.ndarray | tuple[float, float] = (0.0, 0.0),
) -> ScoringScene:
    """Makes a scene of arrays in one local frame.

    Args:
        ego_state: (11,) see ``simulation.bicycle``.
        vehicle: Size of the ego.
        map_index, m: Index and number of the map.
        on_route: (polygons,) bool.
        centerline: (points, 2 or 3) x, y [m]; progress is measured along it.
        tracks: (steps, N, 7) of all but the ego, every 0.1 s from now: x, y of the centre [m], yaw [rad], length, width [m], vx, vy
            [m/s].
        valid: (steps, N) bool.
        types: (N,) AgentType.
        tokens: (N,) names.
        time_us: Time stamp of now [us].
        reference: Times [us] (n,) and rear-axle poses (n, 3) of the motion that progress is compared with.
        reference_progress: Its progress [m], in place of ``reference``.
        offset: What was subtracted from global x, y.

    Raises:
        DataError: Fewer than 50 steps of tracks, shapes that do not fit together, values that are not finite, or neither a
            reference nor its progress.
    """
    if len(tracks) < OBSERVED_STEPS:
        raise DataError(f"{len(tracks)} steps from the start on, scoring 4 s reads {OBSERVED_STEPS}", field="tracks")
    tracks, valid = tracks[:OBSERVED_STEPS], np.asarray(valid[:OBSERVED_STEPS], dtype=bool)
    agents, polygons = len(types), num_polygons(map_index, m)
    shapes = {"ego_state": (ego_state, (11,)), "valid": (valid, (OBSERVED_STEPS, agents)), "on_route": (on_route, (polygons,))}
    for name, (values, shape) in shapes.items():
        if np.shape(values) != shape:
            raise DataError(f"shape {np.shape(values)} instead of {shape}", field=name)
    if tracks.ndim != 3 or tracks.shape[1] != agents or tracks.shape[2] < 7:
        raise DataError(f"shape {tracks.shape} is not (steps, {agents}, 7)", field="tracks")
    if np.ndim(centerline) != 2 or len(centerline) < 2 or np.shape(centerline)[1] < 2:
        raise DataError(f"shape {np.shape(centerline)} is not 2 or more points x, y", field="centerline")
    _check_reference(reference, reference_progress)
    for name, values in (("ego_state", ego_state), ("centerline", centerline), ("tracks", tracks[valid])):
        if not np.isfinite(values).all():
            raise DataError(f"{np.sum(~np.isfinite(values))} values are not finite", field=name)
    present = valid.any(0)
    tracks, valid, types = tracks[:, present], valid[:, present], np.asarray(types)[present]
    first = valid.argmax(0)
    velocity = tracks[first, np.arange(len(first)), 5:7]
    boxes = _track_boxes(tracks, valid)
    centerline = np.ascontiguousarray(np.asarray(centerline, dtype=np.float64)[:, :2])
    s = np.empty(len(centerline))
    polyline_arclength(centerline, s)
    arrays = SceneArrays(
        ego_state=np.array(ego_state, dtype=np.float64),
        vehicle=np.array([vehicle.length, vehicle.width, vehicle.wheel_base, vehicle.rear_axle_to_center]),
        map_index=map_index,
        m=m,
        on_route=np.asarray(on_route, dtype=bool),
        centerline=centerline,
        centerline_s=s,
        boxes=boxes,
        valid=np.ascontiguousarray(valid.T),
        bounds=track_bounds(boxes, valid.T),
        is_agent=types <= AgentType.BICYCLE,
        speed=np.hypot(velocity[:, 0], velocity[:, 1]),
    )
    poses = None
    if reference is not None:
        times, knots = reference
        poses = np.empty((PLAN_STEPS + 1, 3))
        interpolate_poses(np.array(knots, dtype=np.float64), *interpolation(np.asarray(times), query_times(time_us)), poses)
    names = tuple(token for token, is_there in zip(tokens, present, strict=True) if is_there)
    return ScoringScene(arrays, time_us, names, poses, reference_progress, np.asarray(offset, dtype=np.float64))


def scene_of(scenario: Scenario, reference: np.ndarray | None = None) -> ScoringScene:
    """Makes the scene at a scenario's start.

    Args:
        scenario: It must reach 5 s beyond its start.
        reference: (41 or more, 3) rear-axle poses every 0.1 s from the start, of the motion that progress is compared with. Without
            it the scenario's stored reference for 4 s serves.

    Raises:
        DataError: The scenario is too short, or has no reference.
    """
    stored = scenario.reference.progress.get(4.0) if scenario.reference else None
    if reference is None and stored is None:
        raise DataError(
            "no progress reference for 4 s",
            scenario=scenario.id,
            field="reference",
            remedy="Attach one (envs.reference) or pass poses",
        )
    k, tracks, vector_map = scenario.start_step, scenario.tracks, scenario.vector_map
    rows = np.concatenate([tracks.state[1:, k:, :3], tracks.size[1:, k:, :2], tracks.state[1:, k:, 3:5]], axis=-1).transpose(
        1, 0, 2
    )
    builder = MapIndexBuilder()
    builder.add(vector_map)
    on_route = np.zeros(vector_map.num_polygons, bool)
    on_route[vector_map.lane_polygon[scenario.route.lanes]] = True
    time_us = scenario.origin.time_us + 100_000 * k
    knots = None if reference is None else (time_us + 100_000 * np.arange(len(reference)), reference)
    try:
        return make_scene(
            ego_state=initial_ego_state(scenario), vehicle=scenario.ego, map_index=builder.index(), m=0, on_route=on_route,
            centerline=scenario.route.centerline, tracks=rows, valid=tracks.valid[1:, k:].T, types=tracks.types[1:],
            tokens=tracks.tokens[1:], time_us=time_us, reference=knots, reference_progress=stored, offset=scenario.origin.offset,
        )  # fmt: skip
    except DataError as error:
        raise DataError(error.problem, scenario=scenario.id, field=error.field, remedy=error.remedy) from error


def polygons_on_route(layers: np.ndarray, tokens: Sequence[str], route: set[str]) -> np.ndarray:
    """Returns (polygons,) bool: lanes and connectors whose token is on the route."""
    lanes = (MapLayer.LANE, MapLayer.LANE_CONNECTOR)
    return np.array([layer in lanes and token in route for layer, token in zip(layers, tokens, strict=True)], dtype=bool)
