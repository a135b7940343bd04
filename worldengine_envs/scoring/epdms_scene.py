"""What ``epdms-v2`` scores against: a scene by the rules of NAVSIM v2, with red lights, the driven past and the human's drive."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import LightState, Scenario, Tracks
from worldengine_envs.scoring.scene import (
    BOX_COS,
    BOX_HALF_LENGTH,
    BOX_HALF_WIDTH,
    BOX_SIN,
    BOX_X,
    BOX_Y,
    TTC_STEPS,
    SceneArrays,
    ScoringScene,
    scene_of,
    track_bounds,
)
from worldengine_envs.scoring.trajectories import PLAN_STEPS
from worldengine_envs.simulation.bicycle import STATE_SIZE, STEERING
from worldengine_envs.simulation.geometry import boxes_overlap

HISTORY_S, HUMAN_INTERVAL = 1.5, 0.5


@dataclass(frozen=True, slots=True)
class ExtendedScene:
    """A moment at which planned trajectories are scored by ``epdms-v2``."""

    base: ScoringScene  # tracks as v2 sees them; with reference poses
    red: np.ndarray  # (R, 41) bool: each connector with a light, red at each step
    red_rows: np.ndarray  # (R,) int64 rows of their polygons
    history: np.ndarray  # (h, 11) driven states before now, 0.1 s apart, in the scene's frame; none: no history comfort
    human_poses: np.ndarray | None  # (K, 3) where the human drove, relative to the ego, or None
    human_interval: float = HUMAN_INTERVAL


def _overlaps_ego(arrays: SceneArrays, track: int) -> bool:
    length, width, _, ahead = arrays.vehicle
    x, y, yaw = arrays.ego_state[:3]
    cos, sin = np.cos(yaw), np.sin(yaw)
    box = arrays.boxes[track, 0]
    return boxes_overlap(
        x + ahead * cos, y + ahead * sin, cos, sin, length / 2, width / 2,
        box[BOX_X], box[BOX_Y], box[BOX_COS], box[BOX_SIN], box[BOX_HALF_LENGTH], box[BOX_HALF_WIDTH],
    )  # fmt: skip


def _check_shapes(polygons: int, red, red_rows, history, human_poses) -> None:
    """Refuses what compiled code would read past the end of, or make NaN of."""
    lights = 0 if red_rows is None else len(red_rows)
    if (red is None) != (red_rows is None) or (red is not None and np.shape(red) != (lights, PLAN_STEPS + 1)):
        raise DataError(f"shape {np.shape(red)} instead of {(lights, PLAN_STEPS + 1)}", field="red")
    if lights and not 0 <= np.min(red_rows) <= np.max(red_rows) < polygons:
        raise DataError(f"{red_rows} are not rows of the map's {polygons} polygons", field="red_rows")
    for name, values, columns in (("history", history, STATE_SIZE), ("human_poses", human_poses, 3)):
        if values is not None and (np.ndim(values) != 2 or np.shape(values)[1] != columns or not np.isfinite(values).all()):
            raise DataError(f"shape {np.shape(values)} is not (n, {columns}), or values are not finite", field=name)


def extend_scene(
    scene: ScoringScene,
    *,
    red: np.ndarray | None = None,
    red_rows: np.ndarray | None = None,
    history: np.ndarray | None = None,
    human_poses: np.ndarray | None = None,
    human_interval: float = HUMAN_INTERVAL,
) -> ExtendedScene:
    """Makes the scene of ``epdms-v2`` from one of ``pdms-v1``.

    Args:
        scene: With reference poses.
        red, red_rows: (R, 41) bool and (R,) rows of polygons of on-route connectors with a light.
        history: (h, 11) driven states before now, see ``history_states``.
        human_poses: (K, 3) relative poses every ``human_interval`` [s].

    Raises:
        DataError: The scene has no reference poses, shapes do not fit together, or values are not finite.
    """
    if scene.reference_poses is None:
        raise DataError("epdms-v2 needs the poses of a progress reference", field="reference", remedy="Pass them to scene_of")
    arrays = scene.arrays
    _check_shapes(len(arrays.on_route), red, red_rows, history, human_poses)
    valid = arrays.valid.copy()
    valid[:, PLAN_STEPS + 1 :] = False
    keep = np.array([valid[t].any() and not (valid[t, 0] and _overlaps_ego(arrays, t)) for t in range(len(valid))], dtype=bool)
    boxes, valid = np.ascontiguousarray(arrays.boxes[keep]), np.ascontiguousarray(valid[keep])
    arrays = arrays._replace(
        boxes=boxes, valid=valid, bounds=track_bounds(boxes, valid), is_agent=arrays.is_agent[keep], speed=arrays.speed[keep],
        last_ttc_step=PLAN_STEPS - TTC_STEPS,
    )  # fmt: skip
    tokens = tuple(token for token, kept in zip(scene.tokens, keep, strict=True) if kept)
    return ExtendedScene(
        base=replace(scene, arrays=arrays, tokens=tokens),
        red=np.zeros((0, PLAN_STEPS + 1), bool) if red is None else np.ascontiguousarray(red, dtype=bool),
        red_rows=np.zeros(0, np.int64) if red_rows is None else np.asarray(red_rows, dtype=np.int64),
        history=np.zeros((0, STATE_SIZE)) if history is None else np.ascontiguousarray(history, dtype=np.float64),
        human_poses=None if human_poses is None else np.ascontiguousarray(human_poses, dtype=np.float64),
        human_interval=human_interval,
    )


def history_states(times_us: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Interpolates the driven past as the reference does.

    Every 0.1 s from the first time, the last one before now left out (where stamps are exact, that is the state 0.1 s ago).
    Steering rate, yaw rate and yaw acceleration are lost on the way and count as 0.

    Args:
        times_us: (n,) int64 time stamps [us], the last one now.
        states: (n, 11) driven states at these times.

    Returns:
        (h, 11) states.
    """
    times = np.arange(times_us[0], times_us[-1], 100_000)[:-1]
    out = np.zeros((len(times), STATE_SIZE))
    states = np.array(states, dtype=np.float64)
    states[:, 2] = np.unwrap(states[:, 2])
    for column in range(STEERING + 1):
        out[:, column] = np.interp(times, times_us, states[:, column])
    out[:, 2] = (out[:, 2] + np.pi) % (2 * np.pi) - np.pi
    return out


def extended_scene_of(scenario: Scenario, reference: np.ndarray) -> ExtendedScene:
    """Makes the scene at a scenario's start: lights, past and logged drive come from the scenario.

    Args:
        scenario: It must reach 5 s beyond its start.
        reference: (41 or more, 3) rear-axle poses every 0.1 s of the motion that progress is compared with.
    """
    k, steps = scenario.start_step, slice(scenario.start_step, scenario.start_step + PLAN_STEPS + 1)
    lights = np.isin(scenario.lights.lanes, scenario.route.lanes)
    poses = _rear_axle_states(scenario.tracks, scenario)
    past = np.arange(max(k - round(HISTORY_S * 10), 0), k + 1, 5 if k >= 5 else 1)
    past = past + (k - past[-1])
    return extend_scene(
        scene_of(scenario, reference),
        red=scenario.lights.state[lights, steps] == LightState.RED,
        red_rows=scenario.vector_map.lane_polygon[scenario.lights.lanes[lights]],
        history=history_states(100_000 * past, poses[past]) if len(past) > 1 else None,
        human_poses=_relative(poses[k, :3], poses[k + 5 : k + PLAN_STEPS + 1 : 5, :3]),
    )


def _rear_axle_states(tracks: Tracks, scenario: Scenario) -> np.ndarray:
    """Returns (steps, 11) the logged ego as states of its rear axle; acceleration by difference of the speed."""
    x, y, yaw, vx, vy = tracks.state[0].T
    states = np.zeros((tracks.steps, STATE_SIZE))
    ahead = scenario.ego.rear_axle_to_center
    states[:, 0], states[:, 1], states[:, 2] = x - ahead * np.cos(yaw), y - ahead * np.sin(yaw), yaw
    states[:, 3] = vx * np.cos(yaw) + vy * np.sin(yaw)
    states[1:, 5] = np.diff(states[:, 3]) * 10.0
    return states


def _relative(origin: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """Returns poses (n, 3) relative to the pose ``origin`` (3,)."""
    cos, sin = np.cos(origin[2]), np.sin(origin[2])
    dx, dy = poses[:, 0] - origin[0], poses[:, 1] - origin[1]
    return np.stack([cos * dx + sin * dy, cos * dy - sin * dx, (poses[:, 2] - origin[2] + np.pi) % (2 * np.pi) - np.pi], axis=1)
