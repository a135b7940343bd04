"""Lanes sampled metre by metre: where their borders are and what lies beyond them (numba)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from worldengine_envs.simulation.kernels import allocating_kernel, kernel

STEP = 1.0  # between samples [m]
WIDEST = 4.0  # half a lane [m]
USUAL = 1.75  # half a lane whose polygon does not tell [m]
PROBE = 0.6  # beyond a border, where what lies there is looked up [m]
KERB_REACH = 9.0  # from a border to the kerb, parking strips between them [m]
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


@allocating_kernel
def sample_lanes(rows, vector_map, edge, lane_at, origin, cell):
    """Returns LaneSamples of these lanes, as far as they lie on the grid.

    Args:
        rows: (lanes,) int32 lanes.
        vector_map: (centerline, centerline_offsets, polygon_xy, polygon_offsets, lane_polygon) of the map.
        edge: (rows, columns) distance of cells from the road's edge [m].
        lane_at: (rows, columns) int16 lane of a cell, -1 = none.
        origin, cell: Of the grid [m].
    """
    centerline, centerline_offsets, polygon_xy, polygon_offsets, lane_polygon = vector_map
    most = 0
    for lane in rows:
        for k in range(centerline_offsets[lane], centerline_offsets[lane + 1] - 1):
            most += int(np.hypot(centerline[k + 1, 0] - centerline[k, 0], centerline[k + 1, 1] - centerline[k, 1]) / STEP) + 2
    out = LaneSamples(
        np.empty(most, np.int32),
        np.empty(most),
        np.empty((most, 4)),
        np.empty((most, 2)),
        np.empty((most, 2), np.int32),
        np.empty((most, 2)),
    )
    height, width = edge.shape[0] * cell, edge.shape[1] * cell
    count = 0
    for lane in rows:
        ring = lane_polygon[lane]
        first, last = polygon_offsets[ring], polygon_offsets[ring + 1]
        k, stop = centerline_offsets[lane], centerline_offsets[lane + 1]
        way, begun = 0.0, 0.0  # arclength of the next sample, of the start of segment k
        while k + 1 < stop:
            dx, dy = centerline[k + 1, 0] - centerline[k, 0], centerline[k + 1, 1] - centerline[k, 1]
            length = np.hypot(dx, dy)
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
    return LaneSamples(out.lane[:count], out.s[:count], out.pose[:count], out.half[:count], out.beyond[:count], out.kerb[:count])
