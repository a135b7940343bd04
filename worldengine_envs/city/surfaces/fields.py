"""Maps of cells over the ground: distance from the road's edge, what covers it, what stands where (numba)."""

from __future__ import annotations

import numpy as np

from worldengine_envs.city.surfaces.types import Shape
from worldengine_envs.simulation.kernels import kernel

ELLIPSOID = int(Shape.ELLIPSOID)
PIECE, PROBE = 1.0, 0.1  # length of the pieces of an edge that are looked at, and how far beside it [m]
FAR_EDGE = 11.9  # from the road, where nobody looks at the ground any more [m]


@kernel
def edge_distance(field, origin, cell, xy, offsets, reach):
    """Lowers each cell of ``field`` to the distance [m] from its centre to the nearest edge of the rings, as far as ``reach``.

    Args:
        field: (rows, columns) float32, changed in place.
        origin: (2,) corner of the first cell [m].
        cell: Size of a cell [m].
        xy, offsets: Rings, (vertices, 2) and (rings + 1,).
        reach: [m].
    """
    for ring in range(len(offsets) - 1):
        first, last = offsets[ring], offsets[ring + 1]
        for k in range(first, last):
            n = k + 1 if k + 1 < last else first
            _lower(field, origin, cell, xy[k, 0], xy[k, 1], xy[n, 0], xy[n, 1], reach)


@kernel
def rim_distance(field, origin, cell, xy, offsets, boxes, reach):
    """As ``edge_distance``, but edges inside of other rings do not count: only the rim of what all rings cover together.

    Args:
        field, origin, cell, xy, offsets, reach: See ``edge_distance``.
        boxes: (rings, 4) bounds of the rings: lowest x, y, highest x, y [m].
    """
    for ring in range(len(offsets) - 1):
        first, last = offsets[ring], offsets[ring + 1]
        for k in range(first, last):
            n = k + 1 if k + 1 < last else first
            ax, ay, dx, dy = xy[k, 0], xy[k, 1], xy[n, 0] - xy[k, 0], xy[n, 1] - xy[k, 1]
            length = np.sqrt(dx * dx + dy * dy)
            if length < 1e-6:
                continue
            pieces = int(length / PIECE) + 1
            px, py = -PROBE * dy / length, PROBE * dx / length
            for p in range(pieces):
                is_inside = True
                for part in range(1, 4, 2):
                    t = (p + 0.25 * part) / pieces
                    x, y = ax + t * dx, ay + t * dy
                    if is_inside:
                        is_inside = _covers(xy, offsets, boxes, x + px, y + py) and _covers(xy, offsets, boxes, x - px, y - py)
                if not is_inside:
                    s, t = p / pieces, (p + 1) / pieces
                    _lower(field, origin, cell, ax + s * dx, ay + s * dy, ax + t * dx, ay + t * dy, reach)


@kernel
def _covers(xy, offsets, boxes, x, y):
    """Returns whether a point lies in one of the rings."""
    for ring in range(len(offsets) - 1):
        if not (boxes[ring, 0] < x < boxes[ring, 2] and boxes[ring, 1] < y < boxes[ring, 3]):
            continue
        first, last, inside = offsets[ring], offsets[ring + 1], False
        for k in range(first, last):
            n = k + 1 if k + 1 < last else first
            if (xy[k, 1] <= y) != (xy[n, 1] <= y):
                t = (y - xy[k, 1]) / (xy[n, 1] - xy[k, 1])
                if x < xy[k, 0] + t * (xy[n, 0] - xy[k, 0]):
                    inside = not inside
        if inside:
            return True
    return False


@kernel
def _lower(field, origin, cell, ax, ay, bx, by, reach):
    """Lowers the cells within ``reach`` of a segment to their distance from it."""
    rows, columns = field.shape
    dx, dy = bx - ax, by - ay
    square = dx * dx + dy * dy + 1e-12
    low = max(0, int(np.floor((min(ay, by) - reach - origin[1]) / cell)))
    high = min(rows - 1, int(np.floor((max(ay, by) + reach - origin[1]) / cell)))
    for i in range(low, high + 1):
        y = origin[1] + (i + 0.5) * cell
        left, right = _span(ax, ay, bx, by, y, reach)
        start = max(0, int(np.ceil((left - origin[0]) / cell - 0.5)))
        stop = min(columns - 1, int(np.floor((right - origin[0]) / cell - 0.5)))
        for j in range(start, stop + 1):
            x = origin[0] + (j + 0.5) * cell
            t = min(max(((x - ax) * dx + (y - ay) * dy) / square, 0.0), 1.0)
            ex, ey = x - ax - t * dx, y - ay - t * dy
            distance = np.float32(np.sqrt(ex * ex + ey * ey))
            if distance < field[i, j]:
                field[i, j] = distance


@kernel
def _span(ax, ay, bx, by, y, reach):
    """Returns the range of x [m] that can be within ``reach`` of a segment on the line of this y; empty if low > high."""
    if ay > by:
        ax, ay, bx, by = bx, by, ax, ay
    low, high = ay, by  # the part of the segment that is within reach of the line
    if y - reach > low:
        low = y - reach
    if y + reach < high:
        high = y + reach
    if low > high:
        return 1.0, 0.0
    rise = by - ay
    if rise < 1e-9:
        return min(ax, bx) - reach, max(ax, bx) + reach
    one, two = ax + (low - ay) / rise * (bx - ax), ax + (high - ay) / rise * (bx - ax)
    return min(one, two) - reach, max(one, two) + reach


@kernel
def _fill(grid, origin, cell, xy, offsets, values, crossings):
    rows, columns = grid.shape
    for ring in range(len(offsets) - 1):
        first, last = offsets[ring], offsets[ring + 1]
        lowest, highest = np.inf, -np.inf
        for k in range(first, last):
            lowest, highest = min(lowest, xy[k, 1]), max(highest, xy[k, 1])
        start = max(0, int(np.ceil((lowest - origin[1]) / cell - 0.5)))
        stop = min(rows - 1, int(np.floor((highest - origin[1]) / cell - 0.5)))
        for i in range(start, stop + 1):
            y = origin[1] + (i + 0.5) * cell
            count = 0
            for k in range(first, last):
                n = k + 1 if k + 1 < last else first
                if (xy[k, 1] <= y) != (xy[n, 1] <= y):
                    t = (y - xy[k, 1]) / (xy[n, 1] - xy[k, 1])
                    x = xy[k, 0] + t * (xy[n, 0] - xy[k, 0])
                    at = count
                    while at > 0 and crossings[at - 1] > x:
                        crossings[at] = crossings[at - 1]
                        at -= 1
                    crossings[at] = x
                    count += 1
            for c in range(0, count - 1, 2):
                left = max(0, int(np.ceil((crossings[c] - origin[0]) / cell - 0.5)))
                right = min(columns - 1, int(np.floor((crossings[c + 1] - origin[0]) / cell - 0.5)))
                for j in range(left, right + 1):
                    grid[i, j] = values[ring]


def fill(grid: np.ndarray, origin: np.ndarray, cell: float, xy: np.ndarray, offsets: np.ndarray, values: np.ndarray) -> None:
    """Sets the cells whose centres lie inside a ring (even-odd rule) to its value, ring after ring."""
    longest = int(np.max(np.diff(offsets), initial=0))
    _fill(grid, origin, cell, xy, offsets, values, np.empty(longest + 1))


@kernel
def is_free(edge, taken, origin, cell, x, y, cos, sin, half_length, half_width, least):
    """Returns whether a rectangle lies on the map, at least ``least`` [m] from the road, and on no cell that is taken."""
    rows, columns = edge.shape
    steps, lines = int(np.ceil(2.0 * half_length / cell)), int(np.ceil(2.0 * half_width / cell))
    for a in range(steps + 1):
        along = half_length * (2.0 * a / max(steps, 1) - 1.0)
        for b in range(lines + 1):
            left = half_width * (2.0 * b / max(lines, 1) - 1.0)
            j = int(np.floor((x + along * cos - left * sin - origin[0]) / cell))
            i = int(np.floor((y + along * sin + left * cos - origin[1]) / cell))
            if i < 0 or j < 0 or i >= rows or j >= columns or taken[i, j] or edge[i, j] < least:
                return False
    return True


@kernel
def take(taken, origin, cell, x, y, cos, sin, half_length, half_width):
    """Marks the cells under a rectangle as taken."""
    rows, columns = taken.shape
    steps, lines = int(np.ceil(3.0 * half_length / cell)), int(np.ceil(3.0 * half_width / cell))
    for a in range(steps + 1):
        along = half_length * (2.0 * a / max(steps, 1) - 1.0)
        for b in range(lines + 1):
            left = half_width * (2.0 * b / max(lines, 1) - 1.0)
            j = int(np.floor((x + along * cos - left * sin - origin[0]) / cell))
            i = int(np.floor((y + along * sin + left * cos - origin[1]) / cell))
            if 0 <= i < rows and 0 <= j < columns:
                taken[i, j] = 1


@kernel
def take_tracks(taken, origin, cell, state, size, valid, margin):
    """Marks as taken where tracks ever are: state (agents, steps, 5), size (agents, steps, 3), valid (agents, steps)."""
    for a in range(state.shape[0]):
        old_x, old_y = np.inf, np.inf
        for t in range(state.shape[1]):
            x, y = state[a, t, 0], state[a, t, 1]
            if valid[a, t] and abs(x - old_x) + abs(y - old_y) > 0.5 * cell:
                old_x, old_y = x, y
                half_length, half_width = 0.5 * size[a, t, 0] + margin, 0.5 * size[a, t, 1] + margin
                take(taken, origin, cell, x, y, np.cos(state[a, t, 2]), np.sin(state[a, t, 2]), half_length, half_width)


@kernel
def add_lamp(lit, origin, cell, x, y, reach, far):
    """Adds the light of a lamp over x, y [m]: 1 under it, a quarter at ``reach`` [m], nothing from ``far`` [m] on."""
    rows, columns = lit.shape
    for i in range(max(0, int((y - far - origin[1]) / cell)), min(rows, int((y + far - origin[1]) / cell) + 1)):
        for j in range(max(0, int((x - far - origin[0]) / cell)), min(columns, int((x + far - origin[0]) / cell) + 1)):
            dx, dy = origin[0] + (j + 0.5) * cell - x, origin[1] + (i + 0.5) * cell - y
            square = dx * dx + dy * dy
            if square < far * far:
                share = 1.0 / (1.0 + square / (reach * reach))
                fade = 1.0 - square / (far * far)
                lit[i, j] = np.float32(min(1.0, lit[i, j] + share * share * fade))


@kernel
def cast_shadows(shadow, edge, origin, cell, primitives, sun, strength):
    """Sets the cells to ``strength`` from which a box or an ellipsoid hides the sun.

    Args:
        shadow, edge: (rows, columns) float32; cells as far from the road as ``edge`` knows are left out.
        origin, cell: Of the cells [m].
        primitives: PRIMITIVE without cylinders.
        sun: (3,) direction towards it.
        strength: Of the shadow.
    """
    rows, columns = shadow.shape
    for p in primitives:
        m = p.from_unit
        wide = abs(m[0, 0]) + abs(m[0, 1]) + abs(m[0, 2])
        deep = abs(m[1, 0]) + abs(m[1, 1]) + abs(m[1, 2])
        tall = abs(m[2, 0]) + abs(m[2, 1]) + abs(m[2, 2])
        low, high = max(m[2, 3] - tall, 0.0) / sun[2], (m[2, 3] + tall) / sun[2]  # way along the ray
        left, right = m[0, 3] - wide - max(low * sun[0], high * sun[0]), m[0, 3] + wide - min(low * sun[0], high * sun[0])
        near, far = m[1, 3] - deep - max(low * sun[1], high * sun[1]), m[1, 3] + deep - min(low * sun[1], high * sun[1])
        for i in range(max(0, int((near - origin[1]) / cell)), min(rows, int((far - origin[1]) / cell) + 1)):
            for j in range(max(0, int((left - origin[0]) / cell)), min(columns, int((right - origin[0]) / cell) + 1)):
                if shadow[i, j] == 0.0 and edge[i, j] < FAR_EDGE:
                    if _hides(p, origin[0] + (j + 0.5) * cell, origin[1] + (i + 0.5) * cell, sun):
                        shadow[i, j] = strength


@kernel
def _hides(p, x, y, sun):
    """Returns whether a primitive lies between a point of the ground and the sun."""
    m = p.to_unit
    nearest, farthest, a, b, c = 0.0, np.inf, 0.0, 0.0, -1.0
    for k in range(3):
        o = m[k, 0] * x + m[k, 1] * y + m[k, 3]
        d = m[k, 0] * sun[0] + m[k, 1] * sun[1] + m[k, 2] * sun[2]
        a, b, c = a + d * d, b + o * d, c + o * o
        if abs(d) < 1e-12:
            d = 1e-12
        one, two = (-1.0 - o) / d, (1.0 - o) / d
        nearest, farthest = max(nearest, min(one, two)), min(farthest, max(one, two))
    if p.shape == ELLIPSOID:
        return b * b - a * c > 0.0 and b < 0.0
    return nearest < farthest


@kernel
def _blur(field, old):
    rows, columns = field.shape
    quarter = np.float32(0.25)
    for i in range(rows):
        for j in range(1, columns - 1):
            old[i, j] = quarter * (field[i, j - 1] + field[i, j] + field[i, j] + field[i, j + 1])
    for i in range(1, rows - 1):
        for j in range(1, columns - 1):
            field[i, j] = quarter * (old[i - 1, j] + old[i, j] + old[i, j] + old[i + 1, j])


def blur(field: np.ndarray, times: int) -> None:
    """Smooths a field in place with the weights 1, 2, 1 along both axes, so many times; its rim stays."""
    old = np.empty_like(field)
    for _ in range(times):
        _blur(field, old)


@kernel
def _nearest(points, others, distance, row):
    for i in range(len(points)):
        for j in range(len(others)):
            dx, dy = points[i, 0] - others[j, 0], points[i, 1] - others[j, 1]
            if dx * dx + dy * dy < distance[i]:
                distance[i], row[i] = dx * dx + dy * dy, j


def nearest(points: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (points,) the distance [m] from each point (points, 2) to the nearest of others (others, 2), and its row."""
    distance, row = np.full(len(points), np.inf), np.zeros(len(points), np.int64)
    _nearest(np.ascontiguousarray(points), np.ascontiguousarray(others), distance, row)
    return np.sqrt(distance), row
