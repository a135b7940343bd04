"""Paths of PDM-Closed: the centreline and its copies shifted sideways, and the corridor that the ego would sweep along one.

A path is prepared once per route (``build_closed_paths``); a corridor is made anew for each plan, as it starts at the ego.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.simulation.geometry import boxes_overlap, polygon_overlaps_polygon, wrap_angle
from worldengine_envs.simulation.kernels import kernel

LATERAL_OFFSETS = (0.0, -1.0, 1.0)  # path 0 is the centreline, 1 is shifted to the right, 2 to the left [m]
NUM_PATHS = len(LATERAL_OFFSETS)
BLOCK = 16  # segments that share one bounding box


class ClosedPaths(NamedTuple):
    """The paths of one route."""

    pose: np.ndarray  # (paths, points, 3) x, y [m], yaw [rad], unwrapped
    s: np.ndarray  # (paths, points) arclength [m]
    bounds: np.ndarray  # (paths, blocks, 4) smallest x, y and largest x, y of each run of 16 segments [m]


class Corridor(NamedTuple):
    """What the ego sweeps when it follows a path: the line ahead, widened by half its width, with square ends."""

    xy: np.ndarray  # (paths, points, 2) x, y [m] of the line
    count: np.ndarray  # (paths,) int64 points in use
    bounds: np.ndarray  # (paths, blocks, 4) as in ClosedPaths


def build_closed_paths(centerline: np.ndarray) -> ClosedPaths:
    """Prepares the paths of a route.

    Args:
        centerline: (points, 3) x, y [m], yaw [rad]; repeated points are allowed.

    Raises:
        DataError: The centreline has under two points, no length, or values that are not finite.
    """
    centerline = np.ascontiguousarray(centerline, dtype=np.float64)
    if centerline.ndim != 2 or centerline.shape[1] != 3 or len(centerline) < 2 or not np.isfinite(centerline).all():
        raise DataError("route centreline: needs at least two finite points of x, y, yaw", field="route.centerline")
    yaw = np.unwrap(centerline[:, 2])
    pose = np.empty((NUM_PATHS, len(centerline), 3))
    for path, offset in enumerate(LATERAL_OFFSETS):
        left = centerline[:, 2] + math.pi / 2
        pose[path, :, 0] = centerline[:, 0] + np.cos(left) * offset
        pose[path, :, 1] = centerline[:, 1] + np.sin(left) * offset
        pose[path, :, 2] = yaw
    steps = np.linalg.norm(np.diff(pose[:, :, :2], axis=1), axis=2)
    s = np.concatenate([np.zeros((NUM_PATHS, 1)), np.cumsum(steps, axis=1)], axis=1)
    if not (s[:, -1] > 0.0).all():
        raise DataError("route centreline: all its points are the same", field="route.centerline")
    bounds = np.empty((NUM_PATHS, _num_blocks(len(centerline)), 4))
    for path in range(NUM_PATHS):
        fill_bounds(pose[path], len(centerline), bounds[path])
    return ClosedPaths(pose, s, bounds)


def empty_corridor(paths: ClosedPaths) -> Corridor:
    """Room for the corridors of one route."""
    points = paths.s.shape[1] + 2
    return Corridor(np.zeros((NUM_PATHS, points, 2)), np.zeros(NUM_PATHS, np.int64), np.zeros((NUM_PATHS, _num_blocks(points), 4)))


def _num_blocks(points: int) -> int:
    return -(-(points - 1) // BLOCK)


@kernel
def fill_bounds(xy, count, out):
    """Writes the bounding box of each run of 16 segments of the line ``xy[:count]`` to ``out`` (blocks, 4)."""
    for block in range((count - 1 + BLOCK - 1) // BLOCK):
        first = block * BLOCK
        out[block, 0] = out[block, 2] = xy[first, 0]
        out[block, 1] = out[block, 3] = xy[first, 1]
        for i in range(first + 1, min(first + BLOCK, count - 1) + 1):
            out[block, 0], out[block, 1] = min(out[block, 0], xy[i, 0]), min(out[block, 1], xy[i, 1])
            out[block, 2], out[block, 3] = max(out[block, 2], xy[i, 0]), max(out[block, 3], xy[i, 1])


@kernel
def ring_bounds(xy, start, end, out):
    """Writes smallest x, y and largest x, y of the ring ``xy[start:end]`` to ``out`` (4,)."""
    out[0], out[1], out[2], out[3] = xy[start, 0], xy[start, 1], xy[start, 0], xy[start, 1]
    for i in range(start + 1, end):
        out[0], out[1] = min(out[0], xy[i, 0]), min(out[1], xy[i, 1])
        out[2], out[3] = max(out[2], xy[i, 0]), max(out[3], xy[i, 1])


@kernel
def bounds_distance2(bounds, block, x, y):
    """Returns the squared distance of a point to the box in row ``block`` of ``bounds`` (n, 4)."""
    dx = max(bounds[block, 0] - x, 0.0, x - bounds[block, 2])
    dy = max(bounds[block, 1] - y, 0.0, y - bounds[block, 3])
    return dx * dx + dy * dy


@kernel
def _project_on_block(xy, s, block, last, x, y, best, best_s):
    for i in range(block * BLOCK, min((block + 1) * BLOCK, last)):
        ux, uy = xy[i + 1, 0] - xy[i, 0], xy[i + 1, 1] - xy[i, 1]
        vx, vy = x - xy[i, 0], y - xy[i, 1]
        length2 = ux * ux + uy * uy
        t = 0.0
        if length2 > 0.0:
            t = min(max((vx * ux + vy * uy) / length2, 0.0), 1.0)
        ex, ey = vx - t * ux, vy - t * uy
        d2 = ex * ex + ey * ey
        if d2 < best:
            best, best_s = d2, s[i] + t * math.sqrt(length2)
    return best, best_s


@kernel
def project_on_path(paths, path, x, y):
    """Returns the arclength [m] of the first nearest point of a path, skipping blocks that are surely farther away."""
    bounds = paths.bounds[path]
    xy, s, last = paths.pose[path], paths.s[path], paths.s.shape[1] - 1
    nearest, lowest = 0, math.inf
    for block in range(len(bounds)):
        d2 = bounds_distance2(bounds, block, x, y)
        if d2 < lowest:
            nearest, lowest = block, d2
    limit, _ = _project_on_block(xy, s, nearest, last, x, y, math.inf, 0.0)
    limit = limit * (1.0 + 1e-9) + 1e-12  # so that rounding skips no block with the same distance
    best, best_s = math.inf, 0.0
    for block in range(len(bounds)):
        if bounds_distance2(bounds, block, x, y) <= limit:
            best, best_s = _project_on_block(xy, s, block, last, x, y, best, best_s)
    return best_s


@kernel
def path_pose(paths, path, at, out):
    """Writes x, y [m], yaw [rad] at arclength ``at``, clipped to 1e-5 m .. the length, to ``out`` (3,)."""
    pose, s = paths.pose[path], paths.s[path]
    last = len(s) - 1
    at = min(max(at, 1e-5), s[last])
    i = min(max(np.searchsorted(s, at), 1), last)  # the segment ends at the first point that is not before
    length = s[i] - s[i - 1]
    for j in range(3):
        out[j] = (pose[i, j] - pose[i - 1, j]) / length * (at - s[i - 1]) + pose[i - 1, j]
    out[2] = wrap_angle(out[2])


@kernel
def _path_point(pose, s, at, out):
    i = min(max(np.searchsorted(s, at), 1), len(s) - 1)
    while i > 1 and s[i] == s[i - 1]:
        i -= 1
    t = (at - s[i - 1]) / (s[i] - s[i - 1]) if s[i] > s[i - 1] else 0.0
    out[0] = pose[i - 1, 0] + t * (pose[i, 0] - pose[i - 1, 0])
    out[1] = pose[i - 1, 1] + t * (pose[i, 1] - pose[i - 1, 1])


@kernel
def make_corridor(paths, path, start, end, corridor):
    """Fills one path's corridor between two arclengths.

    The line consists of the path's own points in that interval; only where it holds fewer than two of them does it get its exact
    ends, as in the reference planner.
    """
    pose, s, xy = paths.pose[path], paths.s[path], corridor.xy[path]
    length = s[len(s) - 1]
    start, end = min(max(start, 0.0), length), min(max(end, 0.0), length)
    first, stop = np.searchsorted(s, start), np.searchsorted(s, end, side="right")
    count = 0
    exact_ends = stop - first < 2
    if exact_ends:
        _path_point(pose, s, start, xy[0])
        count = 1
    for i in range(first, stop):
        xy[count, 0], xy[count, 1] = pose[i, 0], pose[i, 1]
        count += 1
    if exact_ends:
        _path_point(pose, s, end, xy[count])
        count += 1
    corridor.count[path] = count
    fill_bounds(xy, count, corridor.bounds[path])


@kernel
def segment_meets_box(ax, ay, bx, by, half_length, half_width, reach):
    """Whether a segment, in the frame of a box, comes within ``reach`` of it."""
    if min(ax, bx) > half_length + reach or max(ax, bx) < -half_length - reach:
        return False
    if min(ay, by) > half_width + reach or max(ay, by) < -half_width - reach:
        return False
    ux, uy = bx - ax, by - ay
    length2 = ux * ux + uy * uy
    reach2 = reach * reach
    dx, dy = max(abs(ax) - half_length, 0.0), max(abs(ay) - half_width, 0.0)
    if dx * dx + dy * dy <= reach2:
        return True
    dx, dy = max(abs(bx) - half_length, 0.0), max(abs(by) - half_width, 0.0)
    if dx * dx + dy * dy <= reach2:
        return True
    if length2 == 0.0:
        return False
    positive = negative = False
    for corner in range(4):
        vx = (half_length if corner < 2 else -half_length) - ax
        vy = (half_width if corner % 2 == 0 else -half_width) - ay
        along, across = vx * ux + vy * uy, ux * vy - uy * vx
        if 0.0 <= along <= length2 and across * across <= reach2 * length2:
            return True
        positive |= across >= 0.0
        negative |= across <= 0.0
    # no end and no corner is near: the segment can still run through the box, between its corners
    return positive and negative and _overlaps_axes(ax, ay, bx, by, half_length, half_width)


@kernel
def _overlaps_axes(ax, ay, bx, by, half_length, half_width):
    return min(ax, bx) <= half_length and max(ax, bx) >= -half_length and min(ay, by) <= half_width and max(ay, by) >= -half_width


@kernel
def _end_box(xy, count, end, out):
    """Writes x, y and the outward direction (cosine, sine) of an end of the line (0 first, 1 last); a point's are +x and -x."""
    at, step = (0, 1) if end == 0 else (count - 1, -1)
    other = at + step
    while 0 <= other < count and xy[other, 0] == xy[at, 0] and xy[other, 1] == xy[at, 1]:
        other += step
    out[0], out[1], out[2], out[3] = xy[at, 0], xy[at, 1], float(step), 0.0
    if 0 <= other < count:
        dx, dy = xy[at, 0] - xy[other, 0], xy[at, 1] - xy[other, 1]
        length = math.sqrt(dx * dx + dy * dy)
        out[2], out[3] = dx / length, dy / length


@kernel
def corridor_meets_box(corridor, path, reach, x, y, cos, sin, half_length, half_width, scratch):
    """Whether a box touches the corridor; ``reach`` is half the ego's width [m], ``scratch`` (4,) is overwritten."""
    xy, count, bounds = corridor.xy[path], corridor.count[path], corridor.bounds[path]
    radius = math.sqrt(half_length * half_length + half_width * half_width) + reach
    near = False
    for block in range((count - 1 + BLOCK - 1) // BLOCK):
        d2 = bounds_distance2(bounds, block, x, y)
        near |= d2 <= (radius + reach) * (radius + reach)
        if d2 > radius * radius:
            continue
        for i in range(block * BLOCK, min((block + 1) * BLOCK, count - 1)):
            ax, ay = xy[i, 0] - x, xy[i, 1] - y
            bx, by = xy[i + 1, 0] - x, xy[i + 1, 1] - y
            if segment_meets_box(
                ax * cos + ay * sin, ay * cos - ax * sin, bx * cos + by * sin, by * cos - bx * sin, half_length, half_width, reach
            ):
                return True
    if near:
        for end in range(2):
            _end_box(xy, count, end, scratch)
            ex, ey = scratch[0] + scratch[2] * reach / 2, scratch[1] + scratch[3] * reach / 2
            if boxes_overlap(ex, ey, scratch[2], scratch[3], reach / 2, reach, x, y, cos, sin, half_length, half_width):
                return True
    return False


@kernel
def point_segment_distance2(x, y, ax, ay, bx, by):
    """Returns the squared distance of a point to the segment a-b."""
    ux, uy = bx - ax, by - ay
    vx, vy = x - ax, y - ay
    length2 = ux * ux + uy * uy
    t = 0.0
    if length2 > 0.0:
        t = min(max((vx * ux + vy * uy) / length2, 0.0), 1.0)
    ex, ey = vx - t * ux, vy - t * uy
    return ex * ex + ey * ey


@kernel
def polygon_distance(a, a_start, a_end, b, b_start, b_end):
    """Returns the distance [m] between two rings, given as rows of flat arrays; 0 where they touch or overlap."""
    if polygon_overlaps_polygon(a, a_start, a_end, b, b_start, b_end):
        return 0.0
    best = math.inf
    j = a_end - 1
    for i in range(a_start, a_end):
        n = b_end - 1
        for m in range(b_start, b_end):
            best = min(best, point_segment_distance2(a[i, 0], a[i, 1], b[n, 0], b[n, 1], b[m, 0], b[m, 1]))
            best = min(best, point_segment_distance2(b[m, 0], b[m, 1], a[j, 0], a[j, 1], a[i, 0], a[i, 1]))
            n = m
        j = i
    return math.sqrt(best)


@kernel
def _apart(xy, i, bounds, reach):
    """Whether segment i..i + 1 of a line is surely farther than ``reach`` from what ``bounds`` (4,) encloses."""
    return (
        max(xy[i, 0], xy[i + 1, 0]) < bounds[0] - reach
        or min(xy[i, 0], xy[i + 1, 0]) > bounds[2] + reach
        or max(xy[i, 1], xy[i + 1, 1]) < bounds[1] - reach
        or min(xy[i, 1], xy[i + 1, 1]) > bounds[3] + reach
    )


@kernel
def corridor_meets_polygon(corridor, path, reach, polygon, start, end, bounds, scratch, ring):
    """As ``corridor_meets_box`` for rows start..end of ``polygon`` (vertices, 2).

    ``bounds`` (4,) are its smallest x, y and largest x, y [m]; ``ring`` (4, 2) is overwritten.
    """
    xy, count = corridor.xy[path], corridor.count[path]
    for i in range(count - 1):
        if _apart(xy, i, bounds, reach):
            continue
        ring[0, 0], ring[0, 1], ring[1, 0], ring[1, 1] = xy[i, 0], xy[i, 1], xy[i + 1, 0], xy[i + 1, 1]
        if polygon_distance(ring, 0, 2, polygon, start, end) <= reach:
            return True
    for which in range(2):
        _end_box(xy, count, which, scratch)
        cos, sin = scratch[2], scratch[3]
        for corner in range(4):
            along = reach if corner < 2 else 0.0
            across = reach if corner in (0, 3) else -reach
            ring[corner, 0] = scratch[0] + along * cos - across * sin
            ring[corner, 1] = scratch[1] + along * sin + across * cos
        if polygon_overlaps_polygon(ring, 0, 4, polygon, start, end):
            return True
    return False
