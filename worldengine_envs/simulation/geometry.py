"""Plane geometry for hot loops: angles, boxes, polygons, polylines.

Everything is compiled, float64 and free of allocation. Angles in radians, lengths in metres; boxes are given by their centre,
heading (as cosine and sine) and half sizes; polygons are open rings, rows ``start..end`` of a flat (vertices, 2) array.
"""

from __future__ import annotations

import math

import numpy as np

from worldengine_envs.simulation.kernels import inlined_kernel, kernel

TWO_PI = 2.0 * math.pi

FRONT_LEFT, REAR_LEFT, REAR_RIGHT, FRONT_RIGHT = 0, 1, 2, 3  # order of a box's corners, counter-clockwise


@inlined_kernel
def wrap_angle(angle):
    """Returns the angle in [-pi, pi)."""
    if -math.pi <= angle < math.pi:
        return angle
    return (angle + math.pi) % TWO_PI - math.pi


@inlined_kernel
def box_corners(x, y, cos, sin, half_length, half_width, out):
    """Writes the corners front-left, rear-left, rear-right, front-right to ``out`` (4, 2)."""
    lx, ly = half_length * cos, half_length * sin
    wx, wy = -half_width * sin, half_width * cos
    out[0, 0], out[0, 1] = x + lx + wx, y + ly + wy
    out[1, 0], out[1, 1] = x - lx + wx, y - ly + wy
    out[2, 0], out[2, 1] = x - lx - wx, y - ly - wy
    out[3, 0], out[3, 1] = x + lx - wx, y + ly - wy


@inlined_kernel
def boxes_overlap(xa, ya, cos_a, sin_a, half_length_a, half_width_a, xb, yb, cos_b, sin_b, half_length_b, half_width_b):
    """Whether two boxes share a point; touching counts (separating axes). A half size of 0 makes an edge of a box."""
    dx, dy = xb - xa, yb - ya
    c = abs(cos_a * cos_b + sin_a * sin_b)
    s = abs(sin_a * cos_b - cos_a * sin_b)
    if abs(dx * cos_a + dy * sin_a) > half_length_a + half_length_b * c + half_width_b * s:
        return False
    if abs(dy * cos_a - dx * sin_a) > half_width_a + half_length_b * s + half_width_b * c:
        return False
    if abs(dx * cos_b + dy * sin_b) > half_length_b + half_length_a * c + half_width_a * s:
        return False
    return abs(dy * cos_b - dx * sin_b) <= half_width_b + half_length_a * s + half_width_a * c


@kernel
def point_in_polygon(xy, start, end, x, y):
    """Whether (x, y) lies strictly inside the ring ``xy[start:end]``; the border is outside (shapely's ``contains``)."""
    inside = False
    xj, yj = xy[end - 1, 0] - x, xy[end - 1, 1] - y
    for i in range(start, end):
        xi, yi = xy[i, 0] - x, xy[i, 1] - y
        if (yi > 0.0) != (yj > 0.0):
            cross = xi * yj - xj * yi
            if cross == 0.0:
                return False
            if (cross > 0.0) == (yj > yi):
                inside = not inside
        elif yi == 0.0 and yj == 0.0 and xi * xj <= 0.0:
            return False
        elif (yi == 0.0 and xi == 0.0) or (yj == 0.0 and xj == 0.0):
            return False
        xj, yj = xi, yi
    return inside


@kernel
def segments_intersect(ax, ay, bx, by, cx, cy, dx, dy):
    """Whether the segments a-b and c-d share a point; touching counts."""
    abx, aby, cdx, cdy = bx - ax, by - ay, dx - cx, dy - cy
    c = abx * (cy - ay) - aby * (cx - ax)
    d = abx * (dy - ay) - aby * (dx - ax)
    a = cdx * (ay - cy) - cdy * (ax - cx)
    b = cdx * (by - cy) - cdy * (bx - cx)
    if ((c > 0.0 and d > 0.0) or (c < 0.0 and d < 0.0)) or ((a > 0.0 and b > 0.0) or (a < 0.0 and b < 0.0)):
        return False
    if a == 0.0 and b == 0.0 and c == 0.0 and d == 0.0:  # on one line, or a point
        return (
            min(ax, bx) <= max(cx, dx) and min(cx, dx) <= max(ax, bx) and min(ay, by) <= max(cy, dy) and min(cy, dy) <= max(ay, by)
        )
    return True


@kernel
def polygon_overlaps_polygon(a, a_start, a_end, b, b_start, b_end):
    """Whether two rings, given as rows of flat arrays, share a point; touching counts."""
    j = a_end - 1
    for i in range(a_start, a_end):
        n = b_end - 1
        for m in range(b_start, b_end):
            if segments_intersect(a[j, 0], a[j, 1], a[i, 0], a[i, 1], b[n, 0], b[n, 1], b[m, 0], b[m, 1]):
                return True
            n = m
        j = i
    return point_in_polygon(b, b_start, b_end, a[a_start, 0], a[a_start, 1]) or point_in_polygon(
        a, a_start, a_end, b[b_start, 0], b[b_start, 1]
    )


@kernel
def polyline_arclength(xy, out):
    """Writes the distance along the polyline ``xy`` (points, 2 or more) at each of its points to ``out`` (points,) [m]."""
    out[0] = 0.0
    for i in range(1, len(xy)):
        dx, dy = xy[i, 0] - xy[i - 1, 0], xy[i, 1] - xy[i - 1, 1]
        out[i] = out[i - 1] + math.sqrt(dx * dx + dy * dy)


@kernel
def project_on_polyline_window(xy, s, first, last, x, y):
    """As ``project_on_polyline``, over the points ``first..last`` (inclusive) only."""
    best, best_s, best_offset, best_segment = math.inf, s[first], 0.0, first
    for i in range(first, last):
        ax, ay = xy[i, 0], xy[i, 1]
        ux, uy = xy[i + 1, 0] - ax, xy[i + 1, 1] - ay
        vx, vy = x - ax, y - ay
        length2 = ux * ux + uy * uy
        t = 0.0
        if length2 > 0.0:
            t = min(max((vx * ux + vy * uy) / length2, 0.0), 1.0)
        ex, ey = vx - t * ux, vy - t * uy
        d2 = ex * ex + ey * ey
        if d2 < best:
            best, best_segment = d2, i
            best_s = s[i] + t * math.sqrt(length2)
            best_offset = math.copysign(math.sqrt(d2), ux * vy - uy * vx)
    return best_s, best_offset, best_segment


@kernel
def project_on_polyline(xy, s, x, y):
    """Nearest point of a polyline; the first one where several are equally near.

    Args:
        xy: (points, 2 or more) x, y [m]; repeated points are allowed.
        s: (points,) arclength at the points [m].
        x, y: The point to project [m].

    Returns:
        Arclength of the nearest point [m]; signed distance to it [m], left of the line positive; row of the segment's first point.
    """
    return project_on_polyline_window(xy, s, 0, len(s) - 1, x, y)


@kernel
def polyline_pose(xy, s, at):
    """Returns x, y [m], bearing [rad] of the polyline at arclength ``at`` (clipped to its ends)."""
    last = len(s) - 1
    i = min(max(np.searchsorted(s, at, side="right") - 1, 0), last - 1)
    while i > 0 and s[i + 1] == s[i]:
        i -= 1
    dx, dy = xy[i + 1, 0] - xy[i, 0], xy[i + 1, 1] - xy[i, 1]
    length = s[i + 1] - s[i]
    t = 0.0
    if length > 0.0:
        t = min(max((at - s[i]) / length, 0.0), 1.0)
    return xy[i, 0] + t * dx, xy[i, 1] + t * dy, math.atan2(dy, dx)
