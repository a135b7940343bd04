"""What is painted on the road: lane lines, stop lines, crosswalks and parking bays, as coloured rectangles."""

from __future__ import annotations

import numpy as np

from worldengine_envs.city.surfaces.lanes import NO_KERB, NOTHING, STEP, LaneSamples
from worldengine_envs.scenario.types import MapLayer, Scenario, VectorMap
from worldengine_envs.simulation.kernels import kernel

NONE, EDGE, BETWEEN, MIDDLE, MIDDLE_DASHED = range(-1, 4)  # kinds of lines
WHITE, YELLOW = (0.93, 0.93, 0.91), (0.95, 0.76, 0.20)
LINE = 0.09  # half the width of a line [m]
DASH, GAP = 3.0, 6.0  # [m]
STOP_HALF, STOP_BACK = 0.22, 0.45  # half the thickness of a stop line, and from the lane's end to its middle [m]
BAR, BAR_PERIOD = 0.28, 1.0  # half the width of a crosswalk's bar, and from bar to bar [m]
BAY, BAY_ACROSS = 6.0, 2.6  # length of a bay along the kerb, width of one across [m]
YELLOW_PERCENT = 60  # of maps have a yellow line between opposite directions
PATCHES = 0.05  # mended places a metre of lane
SHORT = 9  # samples of lanes, like those between the arms of a roundabout, whose edges are not painted
SHOULDER = 1.5  # from the edge of a connector to the kerb [m]
BEND = 0.03  # a solid line's rectangles turn at most so much [rad] ...
LONGEST = 30.0  # ... and are at most so long [m]


@kernel
def _runs_against(samples, k, start, stop):
    """Returns whether a lane (samples ``start`` to ``stop``) runs against the direction of sample k beside it.

    Looks at the two points of it that lie as far along, counted from its start and from its end, and takes the nearer one.
    """
    own = k
    while own > 0 and samples.lane[own - 1] == samples.lane[k]:
        own -= 1
    ahead, behind = min(start + k - own, stop - 1), max(stop - 1 - (k - own), start)
    best, cosine = np.inf, 1.0
    for m in (ahead, behind, (start + stop) // 2):
        dx, dy = samples.pose[m, 0] - samples.pose[k, 0], samples.pose[m, 1] - samples.pose[k, 1]
        if dx * dx + dy * dy < best:
            best = dx * dx + dy * dy
            cosine = samples.pose[m, 2] * samples.pose[k, 2] + samples.pose[m, 3] * samples.pose[k, 3]
    return cosine < 0.0


def line_kinds(samples: LaneSamples, is_connector: np.ndarray, is_alone: np.ndarray) -> np.ndarray:
    """Returns (samples, 2) int8 which line there is at the left and right border of each sample.

    A line between two lanes belongs to the one with the lower row, but the double one is painted from both sides.

    Args:
        samples: LaneSamples.
        is_connector: (lanes,) bool; their edges are painted only where the kerb is near.
        is_alone: (lanes,) bool whether a lane has no neighbour of its own direction.
    """
    first, stop = np.zeros(len(is_connector), np.int64), np.zeros(len(is_connector), np.int64)
    kinds = np.full((len(samples.lane), 2), NONE, np.int8)
    _find_kinds(samples, is_connector, is_alone, first, stop, kinds)
    return kinds


@kernel
def _find_kinds(samples, is_connector, is_alone, first, stop, kinds):
    """Writes the kinds of lines; ``first`` and ``stop`` (lanes,) are set to where the samples of each lane are."""
    n = len(samples.lane)
    for k in range(n - 1, -1, -1):
        first[samples.lane[k]] = k
    for k in range(n):
        stop[samples.lane[k]] = k + 1
    for k in range(n):
        for side in range(2):
            lane, other = samples.lane[k], samples.beyond[k, side]
            if other == NOTHING:
                shoulder = samples.kerb[k, side] - samples.half[k, side]
                at_kerb = samples.kerb[k, side] != NO_KERB and shoulder < SHOULDER
                if (at_kerb or not is_connector[lane]) and stop[lane] - first[lane] > SHORT:
                    kinds[k, side] = EDGE
            elif stop[other] > 0 and _runs_against(samples, k, first[other], stop[other]):
                if not (is_alone[lane] and is_alone[other]):
                    kinds[k, side] = MIDDLE
                elif lane < other:
                    kinds[k, side] = MIDDLE_DASHED
            elif lane < other:
                kinds[k, side] = BETWEEN


@kernel
def _rectangle(out, row, samples, a, b, side, inset):
    """Writes the rectangle of a line along a border from sample a to b; ``inset`` [m] lies inside the lane."""
    sign = 1.0 if side == 0 else -1.0
    left, right = sign * (samples.half[a, side] - inset), sign * (samples.half[b, side] - inset)
    ax, ay = samples.pose[a, 0] - left * samples.pose[a, 3], samples.pose[a, 1] + left * samples.pose[a, 2]
    bx, by = samples.pose[b, 0] - right * samples.pose[b, 3], samples.pose[b, 1] + right * samples.pose[b, 2]
    length = max(np.sqrt((bx - ax) * (bx - ax) + (by - ay) * (by - ay)), 1e-6)
    out[row, 0], out[row, 1] = 0.5 * (ax + bx), 0.5 * (ay + by)
    out[row, 2], out[row, 3] = (bx - ax) / length, (by - ay) / length
    out[row, 4], out[row, 5] = 0.5 * length + 0.02, LINE


def lane_lines(samples: LaneSamples, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (stripes, 6) rectangles of the lines along lanes and (stripes,) int8 of which kind they are."""
    n = len(samples.lane)
    out, what = np.empty((2 * n + 2, 6)), np.empty(2 * n + 2, np.int8)
    count = _make_lines(samples, kinds, out, what)
    return out[:count], what[:count]


@kernel
def _make_lines(samples, kinds, out, what):
    """Writes the rectangles and returns their number."""
    n, count = len(samples.lane), 0
    for side in range(2):
        a = 0
        while a < n:
            kind, b = kinds[a, side], a
            while b + 1 < n and samples.lane[b + 1] == samples.lane[a] and samples.s[b + 1] - samples.s[b] < 1.5 * STEP:
                if kinds[b + 1, side] != kind:
                    break
                b += 1
            is_dashed = kind == BETWEEN or kind == MIDDLE_DASHED
            inset = 0.16 if kind == MIDDLE else 0.12 if kind == EDGE else 0.0
            start = a
            while kind != NONE and start < b:
                end = start + 1
                if is_dashed:
                    phase = samples.s[start] % (DASH + GAP)
                    if phase > DASH - 0.5 * STEP:
                        start += 1
                        continue
                    end = min(b, start + int(np.rint((DASH - phase) / STEP)))
                else:
                    while end < b and samples.s[end] - samples.s[start] < LONGEST and _turn(samples, start, end) < BEND:
                        end += 1
                _rectangle(out, count, samples, start, end, side, inset)
                what[count] = kind
                count += 1
                start = end
            a = b + 1
    return count


@kernel
def _turn(samples, a, b):
    """Returns the sine of the angle between the directions of two samples."""
    return abs(samples.pose[b, 3] * samples.pose[a, 2] - samples.pose[b, 2] * samples.pose[a, 3])


def patches(samples: LaneSamples, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (stripes, 6) rectangles of mended asphalt on the lanes and (stripes, 3) float32 their colours."""
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(rng.random(len(samples.lane)) < PATCHES * STEP)
    x, y, cos, sin = samples.pose[rows].T
    left = rng.uniform(-0.9, 0.9, len(rows))
    half_length, half_width = rng.uniform(0.5, 3.0, len(rows)), rng.uniform(0.25, 0.7, len(rows))
    color = np.array((0.385, 0.39, 0.405)) * np.where(rng.random(len(rows)) < 0.7, 0.87, 1.1)[:, None]
    return np.stack((x - left * sin, y + left * cos, cos, sin, half_length, half_width), axis=1), color.astype(np.float32)


def stop_lines(vector_map: VectorMap, lanes: np.ndarray, samples: LaneSamples) -> np.ndarray:
    """Returns (stripes, 6) lines across the ends of the lanes that lead to these ones (governed by lights)."""
    governed = np.zeros(vector_map.num_lanes, bool)
    governed[lanes] = True
    owner = np.repeat(np.arange(vector_map.num_lanes), np.diff(vector_map.successor_offsets))
    before = np.unique(owner[governed[vector_map.successors]])
    ends = np.flatnonzero(np.append(samples.lane[1:] != samples.lane[:-1], True)) if len(samples.lane) else np.zeros(0, int)
    ends = ends[np.isin(samples.lane[ends], before)]
    ends = [k for k in ends if np.hypot(*(vector_map.lane_centerline(samples.lane[k])[-1] - samples.pose[k, :2])) < 1.0]
    if not ends:
        return np.empty((0, 6))
    (x, y, cos, sin), (left, right) = samples.pose[ends].T, samples.half[ends].T
    middle = 0.5 * (left - right)
    x, y = x - STOP_BACK * cos - middle * sin, y - STOP_BACK * sin + middle * cos
    half = 0.5 * (left + right) - 0.1
    return np.stack((x, y, -sin, cos, half, np.full(len(x), STOP_HALF)), axis=1)


def _box(ring: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns a ring's box along its longest edge: middle, direction of the longer side, half sizes, longer first."""
    edges = np.roll(ring, -1, axis=0) - ring
    edge = edges[np.argmax(np.hypot(*edges.T))]
    along = edge / np.hypot(*edge)
    axes = np.stack((along, (-along[1], along[0])))
    low, high = (ring @ axes.T).min(0), (ring @ axes.T).max(0)
    half = 0.5 * (high - low)
    if half[1] > half[0]:
        axes, half, low, high = axes[::-1], half[::-1], low[::-1], high[::-1]
    return (0.5 * (low + high)) @ axes, axes[0], half


def crosswalk(ring: np.ndarray) -> np.ndarray:
    """Returns (stripes, 6) bars of a crosswalk: along the traffic, one beside the other over its length."""
    middle, along, half = _box(ring)
    count = max(1, int((2.0 * half[0] - 0.4) // BAR_PERIOD))
    at = (np.arange(count) - 0.5 * (count - 1)) * BAR_PERIOD
    xy = middle + at[:, None] * along
    bars = np.empty((count, 6))
    bars[:, :2], bars[:, 2], bars[:, 3] = xy, -along[1], along[0]
    bars[:, 4], bars[:, 5] = max(half[1] - 0.15, 0.3), BAR
    return bars


def bays(ring: np.ndarray) -> np.ndarray:
    """Returns (stripes, 6) lines between the bays of a parking strip; none where an area is no strip."""
    middle, along, half = _box(ring)
    if len(ring) != 4 or not 0.8 < half[1] < 3.2 or half[0] < 4.0:
        return np.empty((0, 6))
    pitch = BAY if half[1] < 1.6 else BAY_ACROSS
    count = int(2.0 * half[0] // pitch) + 1
    at = (np.arange(count) - 0.5 * (count - 1)) * pitch
    lines = np.empty((count, 6))
    lines[:, :2], lines[:, 2], lines[:, 3] = middle + at[:, None] * along, -along[1], along[0]
    lines[:, 4], lines[:, 5] = half[1] - 0.1, 0.06
    return lines


def paint(scenario: Scenario, samples: LaneSamples, box: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (stripes, 6) rectangles as in ``Ground`` and (stripes, 3) float32 colours of all that is painted in a box.

    Args:
        scenario: Its map and lights.
        samples: Its lanes in the box, connectors left out.
        box: (2, 2) lowest and highest x, y [m].
        seed: Of the map.
    """
    m = scenario.vector_map
    blocks, counts = np.unique(m.lane_roadblock, return_counts=True)
    alone = (m.lane_left < 0) & (m.lane_right < 0) & np.isin(m.lane_roadblock, blocks[counts == 1])
    lines, kinds = lane_lines(samples, line_kinds(samples, m.lane_is_connector, alone))
    middle_color = YELLOW if seed % 100 < YELLOW_PERCENT else WHITE
    color = np.where((kinds >= MIDDLE)[:, None], np.float32(middle_color), np.float32(WHITE))
    others = [stop_lines(m, scenario.lights.lanes, samples)]
    for layer, make in ((MapLayer.CARPARK_AREA, bays), (MapLayer.CROSSWALK, crosswalk)):
        for row in np.flatnonzero(m.polygon_layer == layer):
            ring = m.polygon(row)
            if (ring.max(0) > box[0]).all() and (ring.min(0) < box[1]).all():
                others.append(make(ring))
    white = np.concatenate(others)
    white = white[((white[:, :2] > box[0]) & (white[:, :2] < box[1])).all(1)]
    mended, tar = patches(samples, seed)
    return np.concatenate((mended, lines, white)), np.concatenate((tar, color, np.tile(np.float32(WHITE), (len(white), 1))))


def bin_stripes(stripes: np.ndarray, origin: np.ndarray, size: float, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (rows * columns + 1,) int32 offsets and the int32 rows of the stripes that touch each square bin, in order.

    Args:
        stripes: (stripes, 6) as in ``Ground``.
        origin, size: Corner of the first bin and length of its side [m].
        rows, columns: Number of bins.
    """
    counts, none = np.zeros(rows * columns, np.int32), np.zeros(0, np.int32)
    _bin(stripes, origin, size, rows, columns, counts, none)
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
    entries = np.empty(offsets[-1], np.int32)
    _bin(stripes, origin, size, rows, columns, offsets[:-1].copy(), entries)
    return offsets, entries


@kernel
def _bin(stripes, origin, size, rows, columns, place, entries):
    """Counts the stripes of each bin in ``place``, or, where there are entries, writes them from ``place`` on."""
    for k in range(len(stripes)):
        x, y, cos, sin = stripes[k, 0], stripes[k, 1], stripes[k, 2], stripes[k, 3]
        length, width = stripes[k, 4], stripes[k, 5]
        dx, dy = abs(cos) * length + abs(sin) * width, abs(sin) * length + abs(cos) * width
        slack = 0.5 * size * (abs(cos) + abs(sin))
        low, high = int(np.floor((y - dy - origin[1]) / size)), int(np.floor((y + dy - origin[1]) / size))
        left, right = int(np.floor((x - dx - origin[0]) / size)), int(np.floor((x + dx - origin[0]) / size))
        for i in range(max(0, low), min(rows - 1, high) + 1):
            for j in range(max(0, left), min(columns - 1, right) + 1):
                ex, ey = origin[0] + (j + 0.5) * size - x, origin[1] + (i + 0.5) * size - y
                if abs(ex * cos + ey * sin) <= length + slack and abs(ey * cos - ex * sin) <= width + slack:
                    b = i * columns + j
                    if len(entries):
                        entries[place[b]] = k
                    place[b] += 1
