"""Recordings as time-major tables: short gaps filled, tracks that live at the end extrapolated for the scorer's look-ahead."""

from __future__ import annotations

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import LOOKAHEAD_STEPS, STEP_S, AgentType, Lights, Tracks, VectorMap

MAX_GAP_STEPS = 10  # a track is interpolated where two valid steps lie no further apart than this (1 s)
MAX_TRACK_STEPS = 50_000_000  # agents * steps of one recording; more is a broken input
X, Y, YAW, VX, VY, SPEED, COS, SIN, LENGTH, WIDTH = range(10)  # columns of a log row


def check_tracks(tracks: Tracks, scenario: str) -> None:
    """Refuses tracks that cannot be compiled.

    Raises:
        DataError: A shape is wrong, there are too many rows, a type is unknown, a valid number is not finite, or the ego's row
            is missing.
    """
    agents = len(tracks.tokens)
    steps = tracks.state.shape[1] if tracks.state.ndim == 3 else 0
    shapes = {"state": (agents, steps, 5), "size": (agents, steps, 3), "valid": (agents, steps), "types": (agents,)}
    for name, shape in shapes.items():
        if getattr(tracks, name).shape != shape or 0 in shape:
            actual = getattr(tracks, name).shape
            raise DataError(f"shape {actual} instead of {shape}, none of them 0", scenario=scenario, field=f"tracks.{name}")
    if agents * steps > MAX_TRACK_STEPS:
        raise DataError(f"{agents} agents x {steps} steps are over {MAX_TRACK_STEPS}", scenario=scenario, field="tracks")
    if not 0 <= tracks.types.min() <= tracks.types.max() < len(AgentType):
        raise DataError(f"{tracks.types.min()}..{tracks.types.max()} is no AgentType", scenario=scenario, field="tracks.types")
    for name in ("state", "size"):
        bad = ~np.isfinite(getattr(tracks, name)[tracks.valid])
        if bad.any():
            remedy = "Mark such steps invalid or repair the source"
            raise DataError(f"{bad.sum()} valid values are not finite", scenario=scenario, field=f"tracks.{name}", remedy=remedy)


def check_lanes(vector_map: VectorMap, scenario: str) -> None:
    """Refuses lanes that cannot be compiled.

    Raises:
        DataError: Rows do not fit together, or a centreline has points that are not finite.
    """
    lanes, offsets = vector_map.num_lanes, vector_map.centerline_offsets
    rows = (vector_map.lane_polygon, vector_map.lane_speed_limit, vector_map.lane_is_connector, offsets[:-1])
    ascending = len(offsets) and offsets[0] == 0 and (np.diff(offsets) >= 0).all() and offsets[-1] == len(vector_map.centerline)
    if any(len(row) != lanes for row in rows) or not ascending:
        raise DataError(f"rows do not belong to {lanes} lanes", scenario=scenario, field="vector_map.centerline_offsets")
    if lanes and not 0 <= vector_map.lane_polygon.min() <= vector_map.lane_polygon.max() < vector_map.num_polygons:
        raise DataError("a lane has no polygon of this row", scenario=scenario, field="vector_map.lane_polygon")
    if not np.isfinite(vector_map.centerline).all():
        bad = int((~np.isfinite(vector_map.centerline)).sum())
        raise DataError(f"{bad} values are not finite", scenario=scenario, field="vector_map.centerline")


def check_lane_rows(rows: np.ndarray, lanes: int, scenario: str, field: str) -> None:
    """Refuses rows of lanes that the map does not have: compiled code follows them without looking."""
    if len(rows) and not 0 <= rows.min() <= rows.max() < lanes:
        raise DataError(f"rows {rows.min()}..{rows.max()} of a map with {lanes} lanes", scenario=scenario, field=field)


def compile_log(tracks: Tracks) -> tuple[np.ndarray, np.ndarray]:
    """Returns the time-major log and its validity.

    Valid steps keep the recording's numbers bit for bit. Gaps up to 1 s are interpolated linearly (yaw the short way round);
    a track valid at the last step goes on at constant velocity for LOOKAHEAD_STEPS.

    Returns:
        log (steps + LOOKAHEAD_STEPS, agents, 10): x, y, yaw, vx, vy, speed, cos yaw, sin yaw, length, width; 0 where invalid.
        valid (steps + LOOKAHEAD_STEPS, agents) bool.
    """
    agents, steps = tracks.valid.shape
    log = np.zeros((steps + LOOKAHEAD_STEPS, agents, 10))
    valid = np.zeros((steps + LOOKAHEAD_STEPS, agents), np.bool_)
    log[:steps, :, :5] = np.where(tracks.valid[..., None], tracks.state, 0.0).transpose(1, 0, 2)
    log[:steps, :, LENGTH:] = np.where(tracks.valid[..., None], tracks.size[..., :2], 0.0).transpose(1, 0, 2)
    valid[:steps] = tracks.valid.T
    begins = tracks.valid[:, 0] + (tracks.valid[:, 1:] & ~tracks.valid[:, :-1]).sum(1)
    for a in np.flatnonzero(begins > 1):
        _fill_gaps(log, valid, a, np.flatnonzero(tracks.valid[a]))
    alive = valid[steps - 1]
    ahead = STEP_S * np.arange(1, LOOKAHEAD_STEPS + 1)[:, None, None]
    log[steps:] = np.where(alive[:, None], log[steps - 1], 0.0)
    log[steps:, :, :2] += ahead * log[steps:, :, VX : VY + 1]
    valid[steps:] = alive
    log[..., SPEED] = np.hypot(log[..., VX], log[..., VY])
    log[..., COS] = np.where(valid, np.cos(log[..., YAW]), 0.0)
    log[..., SIN] = np.where(valid, np.sin(log[..., YAW]), 0.0)
    return log, valid


def _fill_gaps(log: np.ndarray, valid: np.ndarray, a: int, steps: np.ndarray) -> None:
    """Interpolates agent ``a`` between valid steps that are 2 to MAX_GAP_STEPS apart, in place."""
    apart = np.diff(steps)
    for i in np.flatnonzero((apart > 1) & (apart <= MAX_GAP_STEPS)):
        before, after = steps[i], steps[i + 1]
        t = (np.arange(before + 1, after) - before)[:, None] / (after - before)
        change = log[after, a] - log[before, a]
        change[YAW] = (change[YAW] + np.pi) % (2 * np.pi) - np.pi
        log[before + 1 : after, a] = log[before, a] + t * change
        valid[before + 1 : after, a] = True


def compile_lights(lights: Lights, steps: int, scenario: str) -> np.ndarray:
    """Returns (steps + LOOKAHEAD_STEPS, lights) int8, the last state held.

    Raises:
        DataError: The lights have another number of steps than the tracks.
    """
    if lights.state.shape != (len(lights.lanes), steps):
        raise DataError(
            f"shape {lights.state.shape} instead of {(len(lights.lanes), steps)}", scenario=scenario, field="lights.state"
        )
    held = np.repeat(lights.state[:, -1:], LOOKAHEAD_STEPS, axis=1)
    return np.ascontiguousarray(np.concatenate([lights.state, held], axis=1).T)
