"""Lanes sampled metre by metre: where their borders are and what lies beyond them (numba)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import Scenario
from worldengine_envs.simulation.kernels import kernel

STEP = 1.0  # between samples [m]
WIDEST = 4.0  # half a lane [m]
USUAL = 1.75  # half a lane whose polygon does not tell [m]
PROBE = 0.6  # beyond a border, where what lies there is looked up [m]
KERB_REACH = 9.0  # from a border to the kerb, parking strips between them [m]
CROSSING = 0.3  # sine of the angle from which on connectors cross
TURN = 0.5  # that a connector bends to both sides together if it is like a lane, at most [rad]
MAX_SAMPLES = 2**22  # 4000 km of lanes
NOTHING, NO_KERB = -1, -1.0


class LaneSamples(NamedTuple):
    """Samples of the lanes in the region, lane after lane; arrays by side have left (0) and right (1)."""

    lane: np.ndarray  # (samples,) int32 row
    s: np.ndarray  # (samples,) arclength from the lane's start [m]
    pose: np.ndarray  # (samples, 4) x, y [m], cos, sin of the direction
    half: np.ndarray  # (samples, 2) from the centreline to the border [m]
    beyond: np.ndarray  # (samples, 2) int32 lane beyond the border, NOTHING if there is none
    kerb: np.ndarray  # (samples, 2) from the centreline to the kerb [m], NO_KERB if a lane lies between or it is not in reach


@kernel
def _to_border(xy, first, last, x, y, dx, dy):
    """Returns the distance from a point to the first edge of a ring in a direction, USUAL if none is within WIDEST."""
    nearest = np.inf
    for k in range(first, last):
        n = k + 1 if k + 1 < last else first
        ex, ey = xy[n, 0] - xy[k, 0], xy[n, 1] - xy[k, 1]
        across = dx * ey - dy * ex
        if abs(across) < 1e-12:
            continue
        px, py = xy[k, 0] - x, xy[k, 1] - y
        t, u = (px * ey - py * ex) / across, (px * dy - py * dx) / across
        if 0.2 < t < nearest and 0.0 <= u <= 1.0:
            nearest = t
    return nearest if nearest <= WIDEST else USUAL


@kernel
def _look_beyond(samples, k, side, edge, lane_at, origin, cell):
    """Finds what lies beyond a border: another lane, or the kerb."""
    rows, columns = edge.shape
    x, y, cos, sin = samples.pose[k, 0], samples.pose[k, 1], samples.pose[k, 2], samples.pose[k, 3]
    dx, dy = (-sin, cos) if side == 0 else (sin, -cos)
    samples.beyond[k, side], samples.kerb[k, side] = NOTHING, NO_KERB
    away = samples.half[k, side] + PROBE
    while away < samples.half[k, side] + KERB_REACH:
        j, i = int(np.floor((x + away * dx - origin[0]) / cell)), int(np.floor((y + away * dy - origin[1]) / cell))
        if i < 0 or j < 0 or i >= rows or j >= columns:
            return
        if lane_at[i, j] >= 0 and lane_at[i, j] != samples.lane[k]:
            if away <= samples.half[k, side] + PROBE + 1e-9:
                samples.beyond[k, side] = lane_at[i, j]
            return
        if edge[i, j] > 0.0:
            samples.kerb[k, side] = away - edge[i, j]
            return
        away += 0.25


@kernel
def _box(line, first, last, box):
    """Writes the bounds of points ``first`` to ``last`` into box (4,): lowest x, y, highest x, y [m]."""
    box[0], box[1], box[2], box[3] = np.inf, np.inf, -np.inf, -np.inf
    for k in range(first, last):
        box[0], box[1] = min(box[0], line[k, 0]), min(box[1], line[k, 1])
        box[2], box[3] = max(box[2], line[k, 0]), max(box[3], line[k, 1])


@kernel
def _cross(line, first, last, other_first, other_last):
    """Returns whether two polylines cross at an angle of more than CROSSING, apart from where they start and end together."""
    for k in range(first, last - 1):
        ax, ay = line[k + 1, 0] - line[k, 0], line[k + 1, 1] - line[k, 1]
        for m in range(other_first, other_last - 1):
            bx, by = line[m + 1, 0] - line[m, 0], line[m + 1, 1] - line[m, 1]
            across = ax * by - ay * bx
            if across * across <= CROSSING * CROSSING * (ax * ax + ay * ay) * (bx * bx + by * by):
                continue
            px, py = line[m, 0] - line[k, 0], line[m, 1] - line[k, 1]
            t, u = (px * by - py * bx) / across, (px * ay - py * ax) / across
            if 0.0 <= t <= 1.0 and 0.0 <= u <= 1.0:
                return True
    return False


def uncrossed(rows: np.ndarray, centerline: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Returns (connectors,) bool whether connectors (rows) hardly turn and none crosses them: the road simply goes on there."""
    out = np.ones(len(rows), bool)
    _find_uncrossed(rows, centerline, offsets, np.empty((len(rows), 4)), out)
    return out


@kernel
def _find_uncrossed(rows, centerline, offsets, boxes, out):
    for a in range(len(rows)):
        first, last = offsets[rows[a]], offsets[rows[a] + 1]
        _box(centerline, first, last, boxes[a])
        turned = 0.0
        for k in range(first, last - 2):
            ax, ay = centerline[k + 1, 0] - centerline[k, 0], centerline[k + 1, 1] - centerline[k, 1]
            bx, by = centerline[k + 2, 0] - centerline[k + 1, 0], centerline[k + 2, 1] - centerline[k + 1, 1]
            turned += abs(np.arctan2(ax * by - ay * bx, ax * bx + ay * by))
        out[a] = turned < TURN
    for a in range(len(rows)):
        for b in range(len(rows)):
            if a == b or not out[a]:
                continue
            apart = boxes[a, 0] > boxes[b, 2] or boxes[b, 0] > boxes[a, 2] or boxes[a, 1] > boxes[b, 3] or boxes[b, 1] > boxes[a, 3]
            if not apart:
                one, two = rows[a], rows[b]
                out[a] = not _cross(centerline, offsets[one], offsets[one + 1], offsets[two], offsets[two + 1])


def sample_lanes(rows: np.ndarray, scenario: Scenario, edge: np.ndarray, lane_at: np.ndarray, origin, cell: float) -> LaneSamples:
    """Returns the samples of these lanes, as far as they lie on the grid.

    Args:
        rows: (lanes,) int32 lanes.
        scenario: Whose map they are of.
        edge: (rows, columns) distance of cells from the road's edge [m].
        lane_at: (rows, columns) int32 lane of a cell, -1 = none.
        origin, cell: Of the grid [m].

    Raises:
        DataError: The lanes are longer than those of any place.
    """
    m = scenario.vector_map
    lengths = np.append(np.hypot(*np.diff(m.centerline, axis=0).T), 0.0)
    points = np.diff(m.centerline_offsets)
    ends = np.cumsum(np.append(0.0, lengths))
    way = ends[m.centerline_offsets[1:] - 1] - ends[m.centerline_offsets[:-1]]
    n = int(np.sum(np.ceil(way[rows] / STEP) + points[rows])) + 2
    if n > MAX_SAMPLES:
        problem = f"{way[rows].sum() / 1000:.0f} km of lanes around the ego's path, too many for a street"
        raise DataError(problem, scenario=scenario.id, field="vector_map.centerline", remedy="Check the map's centrelines")
    out = LaneSamples(
        np.empty(n, np.int32), np.empty(n), np.empty((n, 4)), np.empty((n, 2)), np.empty((n, 2), np.int32), np.empty((n, 2))
    )
    flat = (m.centerline, m.centerline_offsets, m.polygon_xy, m.polygon_offsets, m.lane_polygon)
    count = _sample(rows, flat, edge, lane_at, origin, cell, out)
    return LaneSamples(*(column[:count] for column in out))


@kernel
def _sample(rows, flat, edge, lane_at, origin, cell, out):
    """Writes the samples and returns their number."""
    centerline, centerline_offsets, polygon_xy, polygon_offsets, lane_polygon = flat
    height, width = edge.shape[0] * cell, edge.shape[1] * cell
    count = 0
    for lane in rows:
        ring = lane_polygon[lane]
        first, last = polygon_offsets[ring], polygon_offsets[ring + 1]
        k, stop = centerline_offsets[lane], centerline_offsets[lane + 1]
        way, begun = 0.0, 0.0  # arclength of the next sample, of the start of segment k
        while k + 1 < stop:
            dx, dy = centerline[k + 1, 0] - centerline[k, 0], centerline[k + 1, 1] - centerline[k, 1]
            length = np.sqrt(dx * dx + dy * dy)
            is_last = k + 2 == stop
            while length > 1e-9 and (way < begun + length or (is_last and way < begun + length + STEP)):
                at = min(way - begun, length)
                x, y = centerline[k, 0] + at / length * dx, centerline[k, 1] + at / length * dy
                if 0.0 <= x - origin[0] < width and 0.0 <= y - origin[1] < height:
                    cos, sin = dx / length, dy / length
                    inner = min(max(at, 0.05), length - 0.05) if length > 0.1 else 0.5 * length
                    bx, by = centerline[k, 0] + inner * cos, centerline[k, 1] + inner * sin
                    out.lane[count], out.s[count] = lane, min(way, begun + length)
                    out.pose[count, 0], out.pose[count, 1], out.pose[count, 2], out.pose[count, 3] = x, y, cos, sin
                    out.half[count, 0] = _to_border(polygon_xy, first, last, bx, by, -sin, cos)
                    out.half[count, 1] = _to_border(polygon_xy, first, last, bx, by, sin, -cos)
                    for side in range(2):
                        _look_beyond(out, count, side, edge, lane_at, origin, cell)
                    count += 1
                way += STEP
                if at >= length:
                    break
            begun += length
            k += 1
    return count
