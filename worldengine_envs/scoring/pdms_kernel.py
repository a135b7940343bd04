"""The compiled part of ``pdms-v1``: tracks one planned trajectory and finds its terms."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from worldengine_envs.scenario.types import STEP_S, MapLayer
from worldengine_envs.scoring.areas import first_corner_off_road, in_multiple_lanes, make_lane_scratch
from worldengine_envs.scoring.collisions import bearing, classify_collision, is_ahead, is_at_fault, is_behind
from worldengine_envs.scoring.comfort import SCRATCH_ROWS, comfort_signals, within_bounds
from worldengine_envs.scoring.scene import (
    BOX_COS,
    BOX_HALF_LENGTH,
    BOX_HALF_WIDTH,
    BOX_RADIUS,
    BOX_SIN,
    BOX_X,
    BOX_Y,
    CHUNK_STEPS,
    CHUNKS,
    SceneArrays,
)
from worldengine_envs.scoring.trajectories import PLAN_STEPS, compose_poses, interpolate_poses
from worldengine_envs.simulation.bicycle import VX, VY, YAW, X, Y
from worldengine_envs.simulation.geometry import box_corners, boxes_overlap, project_on_polyline
from worldengine_envs.simulation.kernels import inlined_kernel, kernel
from worldengine_envs.simulation.map_index import in_layer, on_lane_of
from worldengine_envs.simulation.tracker import track_into

STATES = PLAN_STEPS + 1
STOPPED_SPEED_TTC = 0.005  # [m/s]; below it there is no time to collision
DIRECTION_STEPS, DIRECTION_COMPLIANT_M, DIRECTION_VIOLATION_M = 10, 2.0, 6.0
NEVER = math.inf

# Columns of a proposal's terms.
NC, DAC, DDC, TTC, COMFORT, PROGRESS, COLLISION_STEP, TTC_STEP = range(8)
TERMS = 8

# Columns of ``Scratch.frame``: centre [m], cosine and sine of yaw, speed [m/s], position of the ego 1 m/s ahead.
_CX, _CY, _COS, _SIN, _SPEED = range(5)
_YES, _NO, _UNKNOWN = 1, 0, 2
_INTERSECTION = int(MapLayer.INTERSECTION)


class Scratch(NamedTuple):
    """Working memory of one thread; after ``score_one`` it holds the details of that proposal."""

    knots: np.ndarray  # (poses + 1, 3) x, y [m], yaw [rad]
    poses: np.ndarray  # (41, 3) what the tracker follows
    velocity: np.ndarray  # (40,) fitted speeds [m/s]
    curvature: np.ndarray  # (40,) fitted curvatures [1/m]
    fit: np.ndarray  # (40,)
    states: np.ndarray  # (41, 11) driven
    frame: np.ndarray  # (41, 5)
    corners: np.ndarray  # (41, 4, 2) of the ego's box [m]
    off_road: np.ndarray  # (41,) bool
    off_route: np.ndarray  # (41,) bool
    multiple_lanes: np.ndarray  # (41,) int8 yes, no or unknown: found where it matters
    in_intersection: np.ndarray  # (41,) int8
    lanes: np.ndarray  # scratch of in_multiple_lanes
    comfort: np.ndarray  # (SCRATCH_ROWS, 41) signals
    comfortable: np.ndarray  # (6,) bool
    swept: np.ndarray  # (CHUNKS, 4) low x, low y, high x, high y of the ego's boxes and their projections [m]
    events: np.ndarray  # (2, events, 5) int32 contacts and predicted contacts: step, look-ahead, track, type or verdict, at fault
    event_count: np.ndarray  # (2,) int64
    terms: np.ndarray  # (TERMS,)


def make_scratch(poses: int = PLAN_STEPS, events: int = 0) -> Scratch:
    """Returns working memory for proposals of ``poses`` poses, with room for ``events`` events of each kind."""
    return Scratch(
        knots=np.zeros((poses + 1, 3)),
        poses=np.zeros((STATES, 3)),
        velocity=np.zeros(PLAN_STEPS),
        curvature=np.zeros(PLAN_STEPS),
        fit=np.zeros(PLAN_STEPS),
        states=np.zeros((STATES, 11)),
        frame=np.zeros((STATES, 5)),
        corners=np.zeros((STATES, 4, 2)),
        off_road=np.zeros(STATES, np.bool_),
        off_route=np.zeros(STATES, np.bool_),
        multiple_lanes=np.zeros(STATES, np.int8),
        in_intersection=np.zeros(STATES, np.int8),
        lanes=make_lane_scratch(),
        comfort=np.zeros((SCRATCH_ROWS, STATES)),
        comfortable=np.zeros(6, np.bool_),
        swept=np.zeros((CHUNKS, 4)),
        events=np.zeros((2, events, 5), np.int32),
        event_count=np.zeros(2, np.int64),
        terms=np.zeros(TERMS),
    )


@kernel
def score_one(scene: SceneArrays, scratch: Scratch, start_s, everything):
    """Tracks ``scratch.poses`` from the scene's ego state and fills ``scratch.terms`` and the details.

    Args:
        scene: Arrays of the scene.
        scratch: Working memory; ``poses`` is read.
        start_s: Arclength of the ego's centre on the centreline at the start [m].
        everything: Record every event; otherwise a term whose value cannot change any more is not looked at.
    """
    states = scratch.states
    for i in range(len(scene.ego_state)):
        states[0, i] = scene.ego_state[i]
    track_into(scratch.poses, states, scratch.velocity, scratch.curvature, scratch.fit, scene.vehicle[2])
    _lay_out(scene, scratch)
    _find_areas(scene, scratch)
    terms = scratch.terms
    terms[NC], terms[TTC], terms[COLLISION_STEP], terms[TTC_STEP] = 1.0, 1.0, NEVER, NEVER
    scratch.event_count[:] = 0
    for track in range(len(scene.boxes)):
        _meet_track(scene, scratch, track, everything)
    comfort_signals(states, STATES, scratch.comfort)
    terms[COMFORT] = 1.0
    for row in range(6):
        scratch.comfortable[row] = within_bounds(scratch.comfort, STATES, row)
        if not scratch.comfortable[row]:
            terms[COMFORT] = 0.0
    end_s, _, _ = project_on_polyline(
        scene.centerline, scene.centerline_s, scratch.frame[STATES - 1, _CX], scratch.frame[STATES - 1, _CY]
    )
    terms[PROGRESS] = max(end_s - start_s, 0.0)


@kernel
def _lay_out(scene, scratch):
    """Boxes of the ego at each step, and what they and their projections sweep."""
    length, width, ahead = scene.vehicle[0], scene.vehicle[1], scene.vehicle[3]
    radius = math.hypot(length, width) / 2
    states, frame, swept = scratch.states, scratch.frame, scratch.swept
    for chunk in range(CHUNKS):
        low_x = low_y = math.inf
        high_x = high_y = -math.inf
        for k in range(chunk * CHUNK_STEPS, min((chunk + 1) * CHUNK_STEPS, STATES)):
            cos, sin = math.cos(states[k, YAW]), math.sin(states[k, YAW])
            x, y = states[k, X] + ahead * cos, states[k, Y] + ahead * sin
            speed = abs(states[k, VX]) if states[k, VY] == 0.0 else math.hypot(states[k, VX], states[k, VY])
            frame[k, _CX], frame[k, _CY], frame[k, _COS], frame[k, _SIN], frame[k, _SPEED] = x, y, cos, sin, speed
            box_corners(x, y, cos, sin, length / 2, width / 2, scratch.corners[k])
            reach = 0.9 * speed
            low_x, high_x = min(low_x, x, x + reach * cos), max(high_x, x, x + reach * cos)
            low_y, high_y = min(low_y, y, y + reach * sin), max(high_y, y, y + reach * sin)
        swept[chunk, 0], swept[chunk, 1], swept[chunk, 2], swept[chunk, 3] = (
            low_x - radius,
            low_y - radius,
            high_x + radius,
            high_y + radius,
        )


@kernel
def _find_areas(scene, scratch):
    """Drivable area and driving direction."""
    frame, terms = scratch.frame, scratch.terms
    terms[DAC] = 1.0
    for k in range(STATES):
        scratch.off_road[k] = first_corner_off_road(scene.map_index, scene.m, scratch.corners[k]) >= 0
        scratch.off_route[k] = not on_lane_of(scene.map_index, scene.m, scene.on_route, frame[k, _CX], frame[k, _CY])
        scratch.multiple_lanes[k] = scratch.in_intersection[k] = _UNKNOWN
        if scratch.off_road[k]:
            terms[DAC] = 0.0
    most = 0.0
    for k in range(STATES):
        if not scratch.off_route[k]:
            continue
        total = 0.0
        for j in range(max(k - DIRECTION_STEPS, 1), k + 1):
            if scratch.off_route[j]:
                total += math.hypot(frame[j, _CX] - frame[j - 1, _CX], frame[j, _CY] - frame[j - 1, _CY])
        most = max(most, total)
    terms[DDC] = 1.0 if most < DIRECTION_COMPLIANT_M else 0.5 if most < DIRECTION_VIOLATION_M else 0.0


@kernel
def in_bad_area(scene, scratch, k):
    """Whether the ego is in several lanes or off the road at step ``k``."""
    if scratch.off_road[k]:
        return True
    if scratch.multiple_lanes[k] == _UNKNOWN:
        is_in = in_multiple_lanes(scene.map_index, scene.m, scratch.corners[k], scratch.lanes)
        scratch.multiple_lanes[k] = _YES if is_in else _NO
    return scratch.multiple_lanes[k] == _YES


@kernel
def _in_intersection(scene, scratch, k):
    """Whether the rear axle is inside an intersection at step ``k``."""
    if scratch.in_intersection[k] == _UNKNOWN:
        is_in = in_layer(scene.map_index, scene.m, _INTERSECTION, scratch.states[k, X], scratch.states[k, Y])
        scratch.in_intersection[k] = _YES if is_in else _NO
    return scratch.in_intersection[k] == _YES


@inlined_kernel
def _touches(scene, scratch, track, k, ahead):
    """Whether the ego's box of step ``k``, moved on by ``ahead`` steps, shares a point with the track's box of that later step."""
    if not scene.valid[track, k + ahead]:
        return False
    frame, box = scratch.frame, scene.boxes[track, k + ahead]
    reach = frame[k, _SPEED] * (ahead * STEP_S)
    x, y = frame[k, _CX] + reach * frame[k, _COS], frame[k, _CY] + reach * frame[k, _SIN]
    half_length, half_width = scene.vehicle[0] / 2, scene.vehicle[1] / 2
    dx, dy = box[BOX_X] - x, box[BOX_Y] - y
    radius = half_length + half_width + box[BOX_RADIUS]
    if dx * dx + dy * dy > radius * radius:
        return False
    return boxes_overlap(
        x, y, frame[k, _COS], frame[k, _SIN], half_length, half_width,
        box[BOX_X], box[BOX_Y], box[BOX_COS], box[BOX_SIN], box[BOX_HALF_LENGTH], box[BOX_HALF_WIDTH],
    )  # fmt: skip


@kernel
def _meet_track(scene, scratch, track, everything):
    """Collisions and time to collision with one track."""
    terms, swept = scratch.terms, scratch.swept
    look_contact = look_ttc = True  # until the track is ignored, or has done what it can
    for chunk in range(CHUNKS):
        box = scene.bounds[track, chunk]
        if box[0] > swept[chunk, 2] or box[2] < swept[chunk, 0] or box[1] > swept[chunk, 3] or box[3] < swept[chunk, 1]:
            continue
        for k in range(chunk * CHUNK_STEPS, min((chunk + 1) * CHUNK_STEPS, STATES)):
            if k > scene.last_ttc_step or (not everything and k >= terms[TTC_STEP]):
                look_ttc = False
            touches = (look_contact or look_ttc) and _touches(scene, scratch, track, k, 0)
            if look_contact and touches:
                look_contact = _contact(scene, scratch, track, k, everything)
            if not look_ttc or scratch.frame[k, _SPEED] < STOPPED_SPEED_TTC:
                continue
            for ahead in range(0, 10, 3):
                if (touches if ahead == 0 else _touches(scene, scratch, track, k, ahead)) and not _threat(
                    scene, scratch, track, k, ahead
                ):
                    look_ttc = False
                    break
            if not (look_contact or look_ttc):
                return


@kernel
def _contact(scene, scratch, track, k, everything):
    """Classifies a contact; returns whether the track still matters."""
    frame, box, terms = scratch.frame, scene.boxes[track, k], scratch.terms
    kind = classify_collision(
        scratch.states[k, X], scratch.states[k, Y], frame[k, _CX], frame[k, _CY], frame[k, _COS], frame[k, _SIN],
        scene.vehicle[0] / 2, scene.vehicle[1] / 2, frame[k, _SPEED], box[BOX_X], box[BOX_Y], box[BOX_COS], box[BOX_SIN],
        box[BOX_HALF_LENGTH], box[BOX_HALF_WIDTH], scene.speed[track], scene.is_agent[track],
    )  # fmt: skip
    at_fault = is_at_fault(kind, in_bad_area(scene, scratch, k))
    _record(scratch, 0, k, 0, track, kind, at_fault)
    if at_fault:
        terms[NC] = min(terms[NC], 0.0 if scene.is_agent[track] else 0.5)
        terms[COLLISION_STEP] = min(terms[COLLISION_STEP], k)
        return everything
    return False


@kernel
def _threat(scene, scratch, track, k, ahead):
    """Judges a predicted contact; returns whether the track still matters."""
    frame, box, terms = scratch.frame, scene.boxes[track, k + ahead], scratch.terms
    angle = bearing(scratch.states[k, X], scratch.states[k, Y], frame[k, _COS], frame[k, _SIN], box[BOX_X], box[BOX_Y])
    infraction = is_ahead(angle) or (
        not is_behind(angle) and (in_bad_area(scene, scratch, k) or _in_intersection(scene, scratch, k))
    )
    _record(scratch, 1, k, ahead, track, infraction, infraction)
    if infraction:
        terms[TTC] = 0.0
        terms[TTC_STEP] = min(terms[TTC_STEP], k)
    return infraction


@kernel
def _record(scratch, kind, k, ahead, track, verdict, at_fault):
    row = scratch.event_count[kind]
    if row < scratch.events.shape[1]:
        event = scratch.events[kind, row]
        event[0], event[1], event[2], event[3], event[4] = k, ahead, track, verdict, at_fault
        scratch.event_count[kind] += 1


@kernel
def start_on_centerline(scene):
    """Returns the arclength of the ego's centre at the start [m]."""
    yaw, ahead = scene.ego_state[YAW], scene.vehicle[3]
    x, y = scene.ego_state[X] + ahead * math.cos(yaw), scene.ego_state[Y] + ahead * math.sin(yaw)
    at, _, _ = project_on_polyline(scene.centerline, scene.centerline_s, x, y)
    return at


@kernel
def score_range(scene, proposals, before, weight, scratch, first, last, out):
    """Fills rows ``first..last`` of ``out`` (M, TERMS) with the terms of proposals (M, K, 3), relative to the ego at the start.

    Args:
        before, weight: (41,) from ``trajectories.interpolation`` for K poses.
        scratch: From ``make_scratch(K)``.
    """
    start_s = start_on_centerline(scene)
    ego = scene.ego_state
    for i in range(first, last):
        compose_poses(ego[X], ego[Y], ego[YAW], proposals[i], scratch.knots)
        interpolate_poses(scratch.knots, before, weight, scratch.poses)
        score_one(scene, scratch, start_s, False)
        for column in range(TERMS):
            out[i, column] = scratch.terms[column]
