"""The fifteen proposals of PDM-Closed: three paths, each driven by five intelligent-driver models with different target speeds.

Written from the rules of the reference planner (NAVSIM v1.1), its surprises included: the leading agent of steps 0 and 1 is all
zeros, what is known of it is refreshed every second step, and the record is shared by the policies of a path within a step and not
cleared between them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from worldengine_envs.scenario.types import STEP_S
from worldengine_envs.scoring.pdm_closed_forecast import FORECAST_EVERY, MAX_OBJECTS
from worldengine_envs.scoring.pdm_closed_paths import (
    NUM_PATHS,
    bounds_distance2,
    corridor_meets_box,
    corridor_meets_polygon,
    make_corridor,
    path_pose,
    polygon_distance,
    project_on_path,
    ring_bounds,
)
from worldengine_envs.simulation.geometry import box_corners, point_in_polygon, segments_intersect, wrap_angle
from worldengine_envs.simulation.kernels import kernel

NUM_POLICIES = 5  # speed fractions 0.2, 0.4 .. 1.0 of the speed limit
NUM_PROPOSALS = NUM_PATHS * NUM_POLICIES
PROPOSAL_STEPS = 40
TRAJECTORY_STEPS = 50
FALLBACK_SPEED = 15.0  # where no speed limit is known [m/s]
MIN_GAP, HEADWAY, MAX_ACCELERATION, MAX_DECELERATION = 1.0, 1.5, 1.5, 3.0
LEADER_EVERY = 2  # steps between two searches for the leading agent


class Proposals(NamedTuple):
    """Unrolled proposals; row = 5 * path + policy. Steps past 40 are filled for the chosen one only."""

    pose: np.ndarray  # (15, 51, 3) x, y [m], yaw [rad] of the rear axle
    idm: np.ndarray  # (15, 51, 2) arclength on the path [m], speed [m/s]
    leader: np.ndarray  # (15, 51, 3) arclength [m], speed [m/s], rear length [m] of what is followed
    candidate: np.ndarray  # (MAX_OBJECTS + red lights,) bool: touches the corridor of the path at hand; scratch
    progress: np.ndarray  # (MAX_OBJECTS + red lights,) arclength of the centroids [m]; scratch


def empty_proposals(max_red_lights: int) -> Proposals:
    """Room for one plan."""
    steps, n = TRAJECTORY_STEPS + 1, MAX_OBJECTS + max_red_lights
    return Proposals(
        np.zeros((NUM_PROPOSALS, steps, 3)),
        np.zeros((NUM_PROPOSALS, steps, 2)),
        np.zeros((NUM_PROPOSALS, steps, 3)),
        np.zeros(n, np.bool_),
        np.zeros(n),
    )


class RedLights(NamedTuple):
    """Polygons of the red connectors on the route, as rows of the map index's vertices."""

    count: np.ndarray  # (1,) int64 lights in use
    start: np.ndarray  # (lights,) int64
    end: np.ndarray  # (lights,) int64
    centroid: np.ndarray  # (lights, 2) [m]
    bounds: np.ndarray  # (lights, 4) smallest x, y and largest x, y [m]
    ignored: np.ndarray  # (lights,) bool: the ego stands wholly inside


def empty_red_lights(n: int) -> RedLights:
    """Room for ``n`` red lights."""
    return RedLights(
        np.zeros(1, np.int64),
        np.zeros(n, np.int64),
        np.zeros(n, np.int64),
        np.zeros((n, 2)),
        np.zeros((n, 4)),
        np.zeros(n, np.bool_),
    )


@kernel
def _centroid(xy, start, end, out):
    """Writes the centroid of a ring's area to ``out`` (2,)."""
    x0, y0 = xy[start, 0], xy[start, 1]
    area = cx = cy = 0.0
    for i in range(start + 1, end - 1):
        ax, ay, bx, by = xy[i, 0] - x0, xy[i, 1] - y0, xy[i + 1, 0] - x0, xy[i + 1, 1] - y0
        cross = ax * by - ay * bx
        area += cross
        cx += cross * (ax + bx)
        cy += cross * (ay + by)
    if area == 0.0:  # a ring without area has none; its first vertex stands in
        area = math.inf
    out[0], out[1] = x0 + cx / (3.0 * area), y0 + cy / (3.0 * area)


@kernel
def _ring_inside(a, b, start, end):
    """Whether the convex ring ``a`` (4, 2) lies in the ring ``b[start:end]``."""
    for i in range(4):
        if not point_in_polygon(b, start, end, a[i, 0], a[i, 1]):
            return False
    j = end - 1
    for i in range(start, end):
        for corner in range(4):
            n = (corner + 1) % 4
            if segments_intersect(a[corner, 0], a[corner, 1], a[n, 0], a[n, 1], b[j, 0], b[j, 1], b[i, 0], b[i, 1]):
                return False
        j = i
    return True


@kernel
def see_red_lights(index, m, rows, x, y, cos, sin, half_length, half_width, ring, out):
    """Fills ``out`` with the red polygons ``rows`` (r,) of map ``m``, seen from the ego's box; ``ring`` (4, 2) is overwritten."""
    box_corners(x, y, cos, sin, half_length, half_width, ring)
    out.count[0] = len(rows)
    for r in range(len(rows)):
        row = index.polygon_offset[m] + rows[r]
        start, end = index.polygon_start[row], index.polygon_start[row + 1]
        out.start[r], out.end[r] = start, end
        _centroid(index.polygon_xy, start, end, out.centroid[r])
        ring_bounds(index.polygon_xy, start, end, out.bounds[r])
        out.ignored[r] = _ring_inside(ring, index.polygon_xy, start, end)


@kernel
def target_speed(policy, speed_limit):
    """Returns the target speed [m/s] of a policy; a limit that is not a positive number counts as unknown."""
    limit = speed_limit if speed_limit > 0.0 else FALLBACK_SPEED
    return 0.2 * (policy + 1) * limit


@kernel
def _advance(idm, leader, step, target):
    """One Euler step of the intelligent-driver model."""
    s, v = idm[step - 1, 0], idm[step - 1, 1]
    desired = MIN_GAP + v * HEADWAY + v * (v - leader[step, 1]) / (2.0 * math.sqrt(MAX_ACCELERATION * MAX_DECELERATION))
    gap = max(leader[step, 0] - s - leader[step, 2], MIN_GAP)
    ratio = desired / gap
    acceleration = MAX_ACCELERATION * (1.0 - (v / target) ** 10 - ratio * ratio)
    idm[step, 0] = s + STEP_S * v
    idm[step, 1] = v + STEP_S * min(max(acceleration, -MAX_DECELERATION), MAX_ACCELERATION)


@kernel
def _find_objects(paths, path, corridor, forecast, dt, half_width, scratch, out):
    """Marks the objects that touch the corridor after ``dt`` seconds, with the progress of their centroids."""
    for a in range(forecast.count[0]):
        out.candidate[a] = False
        if forecast.ignored[a]:
            continue
        box = forecast.box[a]
        x, y = box[0] + dt * forecast.velocity[a, 0], box[1] + dt * forecast.velocity[a, 1]
        if corridor_meets_box(corridor, path, half_width, x, y, box[2], box[3], box[4], box[5], scratch):
            out.candidate[a] = True
            out.progress[a] = project_on_path(paths, path, x, y)


@kernel
def _find_lights(paths, path, corridor, lights, xy, half_width, scratch, ring, out):
    """Marks the red lights that touch the corridor; they stay where they are."""
    for r in range(lights.count[0]):
        a = MAX_OBJECTS + r
        out.candidate[a] = not lights.ignored[r] and corridor_meets_polygon(
            corridor, path, half_width, xy, lights.start[r], lights.end[r], lights.bounds[r], scratch, ring
        )
        if out.candidate[a]:
            out.progress[a] = project_on_path(paths, path, lights.centroid[r, 0], lights.centroid[r, 1])


@kernel
def _nearest_ahead(pose, own_progress, forecast, lights, xy, dt, ego, ring, other, out):
    """Returns row and gap [m] of the nearest candidate whose centroid lies ahead of the rear axle; row -1 if there is none."""
    length, width, rear_axle_to_center = ego
    cos, sin = math.cos(pose[2]), math.sin(pose[2])
    cx, cy, radius = pose[0] + rear_axle_to_center * cos, pose[1] + rear_axle_to_center * sin, math.hypot(length, width) / 2
    box_corners(cx, cy, cos, sin, length / 2, width / 2, ring)
    best, nearest = -1, math.inf
    for a in range(forecast.count[0]):
        if not out.candidate[a] or out.progress[a] <= own_progress:
            continue
        box, v = forecast.box[a], forecast.velocity[a]
        x, y = box[0] + dt * v[0], box[1] + dt * v[1]
        if math.hypot(x - cx, y - cy) - radius - math.hypot(box[4], box[5]) > nearest + 1e-6:
            continue
        box_corners(x, y, box[2], box[3], box[4], box[5], other)
        gap = polygon_distance(ring, 0, 4, other, 0, 4)
        if gap < nearest:
            best, nearest = a, gap
    for r in range(lights.count[0]):
        a = MAX_OBJECTS + r
        if not out.candidate[a] or out.progress[a] <= own_progress:
            continue
        if math.sqrt(bounds_distance2(lights.bounds, r, cx, cy)) - radius > nearest + 1e-6:
            continue
        gap = polygon_distance(ring, 0, 4, xy, lights.start[r], lights.end[r])
        if gap < nearest:
            best, nearest = a, gap
    return best, nearest


@kernel
def _unroll_step(paths, path, first, stop, step, corridor, forecast, lights, xy, speed_limit, ego, scratch, ring, other, out):
    """Finds the leading agents of proposals first..stop (of one path) and moves them on to a step."""
    dt = STEP_S * FORECAST_EVERY * (step // FORECAST_EVERY)
    refresh = step % LEADER_EVERY == 0
    if refresh:
        _find_objects(paths, path, corridor, forecast, dt, ego[1] / 2, scratch, out)
    progress = speed = rear = 0.0
    for p in range(first, stop):
        leader, own, pose = out.leader[p], out.idm[p, step - 1, 0], out.pose[p, step - 1]
        if not refresh:
            leader[step, 0], leader[step, 1], leader[step, 2] = leader[step - 1, 0], leader[step - 1, 1], leader[step - 1, 2]
        else:
            nearest, gap = _nearest_ahead(pose, own, forecast, lights, xy, dt, ego, ring, other, out)
            if nearest < 0:
                progress, rear = paths.s[path, paths.s.shape[1] - 1], ego[0] / 2
            else:
                progress = own + gap
                if nearest < MAX_OBJECTS:  # a red light leaves the speed of whatever was recorded before it
                    speed = forecast.speed[nearest] * math.cos(wrap_angle(forecast.yaw[nearest] - pose[2]))
            leader[step, 0], leader[step, 1], leader[step, 2] = progress, speed, rear
        _advance(out.idm[p], leader, step, target_speed(p % NUM_POLICIES, speed_limit))
        path_pose(paths, path, out.idm[p, step, 0], out.pose[p, step])


@kernel
def unroll(paths, corridor, forecast, lights, xy, state, speed_limit, ego, scratch, ring, other, out):
    """Unrolls all fifteen proposals over 40 steps.

    Args:
        paths, corridor: ClosedPaths of the route and room for its corridors.
        forecast, lights: What there is to stop for.
        xy: (vertices, 2) of the map index [m].
        state: (11,) the ego's state.
        speed_limit: [m/s], NaN = unknown.
        ego: length, width, rear axle to centre [m].
        scratch, ring, other: (4,), (4, 2), (4, 2), overwritten.
        out: Proposals to fill.
    """
    for path in range(NUM_PATHS):
        first = path * NUM_POLICIES
        start = project_on_path(paths, path, state[0], state[1])
        end = start + target_speed(NUM_POLICIES - 1, speed_limit) * TRAJECTORY_STEPS * STEP_S
        make_corridor(paths, path, start, end, corridor)
        _find_lights(paths, path, corridor, lights, xy, ego[1] / 2, scratch, ring, out)
        for p in range(first, first + NUM_POLICIES):
            out.idm[p, 0, 0], out.idm[p, 0, 1] = start, state[3]
            path_pose(paths, path, start, out.pose[p, 0])
            out.leader[p, 0, 0] = out.leader[p, 0, 1] = out.leader[p, 0, 2] = 0.0
        for step in range(1, PROPOSAL_STEPS + 1):
            stop = first + NUM_POLICIES
            _unroll_step(
                paths, path, first, stop, step, corridor, forecast, lights, xy, speed_limit, ego, scratch, ring, other, out
            )


@kernel
def extend(paths, corridor, forecast, lights, xy, chosen, speed_limit, ego, scratch, ring, other, out):
    """Goes on with the chosen proposal to step 50."""
    path = chosen // NUM_POLICIES
    _find_lights(paths, path, corridor, lights, xy, ego[1] / 2, scratch, ring, out)
    for step in range(PROPOSAL_STEPS + 1, TRAJECTORY_STEPS + 1):
        _unroll_step(
            paths, path, chosen, chosen + 1, step, corridor, forecast, lights, xy, speed_limit, ego, scratch, ring, other, out
        )
