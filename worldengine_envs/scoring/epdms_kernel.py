"""The compiled part of ``epdms-v2``: what it adds to the terms of ``pdms_kernel``."""

from __future__ import annotations

import math

from worldengine_envs.scenario.types import MapLayer
from worldengine_envs.scoring.comfort import extended_comfort_signals, within_bounds
from worldengine_envs.scoring.pdms_kernel import (
    DIRECTION_COMPLIANT_M,
    DIRECTION_STEPS,
    DIRECTION_VIOLATION_M,
    STATES,
    TERMS,
    score_one,
    start_on_centerline,
)
from worldengine_envs.scoring.trajectories import compose_poses, interpolate_poses
from worldengine_envs.simulation.bicycle import YAW, X, Y
from worldengine_envs.simulation.geometry import polygon_overlaps_polygon, project_on_polyline, project_on_polyline_window
from worldengine_envs.simulation.kernels import kernel
from worldengine_envs.simulation.map_index import in_layer

DDC, TLC, LK, HC = range(4)  # columns of the extra terms
EXTRA_TERMS = 4
LANE_DEVIATION_M, LANE_DEVIATION_STEPS = 0.5, 20
_INTERSECTION = int(MapLayer.INTERSECTION)


@kernel
def score_extended_range(
    scene, red, red_rows, proposals, before, weight, as_poses, scratch, padded, past, comfort, terms, extra, states
):
    """Fills the terms of proposals.

    Args:
        scene: SceneArrays by the rules of v2 (``epdms_scene``).
        red: (R, 41) bool, whether each connector is red at each step; red_rows: (R,) rows of their polygons.
        proposals: (M, K, 3) relative poses, or (M, 41, 3) what the tracker follows where ``as_poses`` is set.
        before, weight: (41,) from ``trajectories.interpolation``.
        scratch: Scratch of K poses.
        padded: (past + 41, 11) the driven past, with room behind it.
        comfort: (SCRATCH_ROWS, past + 41) overwritten.
        terms, extra, states: (M, TERMS), (M, EXTRA_TERMS), (M, 41, 11) written.
    """
    start_s = start_on_centerline(scene)
    ego = scene.ego_state
    for i in range(len(proposals)):
        if as_poses:
            for k in range(STATES):
                for j in range(3):
                    scratch.poses[k, j] = proposals[i, k, j]
        else:
            compose_poses(ego[X], ego[Y], ego[YAW], proposals[i], scratch.knots)
            interpolate_poses(scratch.knots, before, weight, scratch.poses)
        score_one(scene, scratch, start_s, False)
        for j in range(TERMS):
            terms[i, j] = scratch.terms[j]
        for k in range(STATES):
            for j in range(11):
                states[i, k, j] = padded[past + k, j] = scratch.states[k, j]
        extra[i, DDC] = _driving_direction(scene, scratch)
        extra[i, TLC] = _traffic_lights(scene, scratch, red, red_rows)
        extra[i, LK] = _lane_keeping(scene, scratch)
        extra[i, HC] = _history_comfort(scene, padded, past, comfort)


@kernel
def _driving_direction(scene, scratch):
    """Returns 1, 0.5 or 0 by how far the centre moves off the route within a second, intersections spared."""
    frame = scratch.frame
    for k in range(STATES):  # from here on the flag means: off the route and outside intersections
        if scratch.off_route[k]:
            scratch.off_route[k] = not in_layer(scene.map_index, scene.m, _INTERSECTION, frame[k, 0], frame[k, 1])
    most = 0.0
    for k in range(STATES):
        total = 0.0
        for j in range(max(k - DIRECTION_STEPS, 1), k + 1):
            if scratch.off_route[j]:
                total += math.hypot(frame[j, 0] - frame[j - 1, 0], frame[j, 1] - frame[j - 1, 1])
        most = max(most, total)
    return 1.0 if most < DIRECTION_COMPLIANT_M else 0.5 if most < DIRECTION_VIOLATION_M else 0.0


@kernel
def _traffic_lights(scene, scratch, red, red_rows):
    """Returns 0 where the ego's box touches a connector while its light is red, else 1."""
    index = scene.map_index
    for r in range(len(red_rows)):
        row = index.polygon_offset[scene.m] + red_rows[r]
        start, end = index.polygon_start[row], index.polygon_start[row + 1]
        for k in range(STATES):
            if red[r, k] and polygon_overlaps_polygon(scratch.corners[k], 0, 4, index.polygon_xy, start, end):
                return 0.0
    return 1.0


@kernel
def _lane_keeping(scene, scratch):
    """Returns 0 where the centre stays away from the centreline for too long, else 1."""
    line, s, frame = scene.centerline, scene.centerline_s, scratch.frame
    away, segment, last = 0, 0, len(scene.centerline_s) - 1
    for k in range(STATES):
        x, y = frame[k, 0], frame[k, 1]
        if in_layer(scene.map_index, scene.m, _INTERSECTION, x, y):
            continue
        _, offset, segment = project_on_polyline_window(line, s, max(segment - 2, 0), min(segment + 4, last), x, y)
        if abs(offset) > LANE_DEVIATION_M:  # not near where it was: look everywhere
            _, offset, segment = project_on_polyline(line, s, x, y)
        away = away + 1 if abs(offset) > LANE_DEVIATION_M else 0
        if away >= LANE_DEVIATION_STEPS:
            return 0.0
    return 1.0


@kernel
def _history_comfort(scene, padded, past, comfort):
    """Returns 1 where all signals of the past and the plan stay within bounds; without a past always."""
    if past == 0:
        return 1.0
    n = past + STATES
    extended_comfort_signals(padded, n, scene.vehicle[3], comfort)
    for row in range(6):
        if not within_bounds(comfort, n, row):
            return 0.0
    return 1.0
