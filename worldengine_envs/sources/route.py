"""The route of a log: lanes that the ego drove, by position, heading and the lane graph; then on along their successors."""

from __future__ import annotations

import numpy as np

from worldengine_envs.scenario.types import Route, VectorMap
from worldengine_envs.sources.lane_graph import end_headings, headings_at
from worldengine_envs.sources.lane_shapes import resample_line
from worldengine_envs.sources.optional import require
from worldengine_envs.sources.tracks import wrap

REACH_M = 4.0  # a lane further aside was not driven
HEADING = np.radians(60)
BEYOND_M = 152.0  # the route goes on at least 150 m past the end of the log
BEHIND_M = 20.0  # the centreline starts so far behind the ego
BLEND_M = 12.0  # length of a lane change on the centreline
SPACING = 1.0  # [m] between points of the centreline
SAME, NEXT, BESIDE, OTHER = 0.0, 0.5, 4.0, 25.0  # costs of going from one lane to another between two places


def derive_route(vector_map: VectorMap, path: np.ndarray, derived: set[str]) -> Route:
    """Returns the route of a driven path.

    Args:
        vector_map: The map.
        path: (steps, 3) x, y [m], yaw [rad] of the ego's centre.
        derived: Names of derived fields; added to.
    """
    derived.update(("route", "route_centerline", "goal"))
    places = _thin(path)
    chain, line, on_lane = _driven(vector_map, places)
    if not all(on_lane):
        derived.add("route_off_lanes")  # in a car park, say: there the driven path itself is the centreline
    if on_lane[0]:
        chain, before = _before(vector_map, chain, line[0])
    else:
        before = _straight(line[0], places[0, 2] + np.pi, BEHIND_M)[::-1]
    if on_lane[-1]:
        chain, after = _beyond(vector_map, chain, line[-1])
    else:
        after = _straight(line[-1], places[-1, 2], BEYOND_M)
    line = np.concatenate([before, line, after])
    centerline = _smooth_line(line)
    lanes = list(dict.fromkeys(chain))
    blocks = {int(vector_map.lane_roadblock[lane]) for lane in lanes}
    lanes += [
        lane for lane in range(vector_map.num_lanes) if int(vector_map.lane_roadblock[lane]) in blocks and lane not in set(lanes)
    ]
    return Route(np.array(lanes, np.int32), centerline, path[-1, :2].copy())


def _thin(path: np.ndarray, spacing: float = 1.0) -> np.ndarray:
    """Returns the path's poses at least 1 m apart, first and last included."""
    keep = [0]
    for i in range(1, len(path)):
        if np.hypot(*(path[i, :2] - path[keep[-1], :2])) >= spacing:
            keep.append(i)
    if keep[-1] != len(path) - 1 and np.hypot(*(path[-1, :2] - path[keep[-1], :2])) > 0.05:
        keep.append(len(path) - 1)
    return path[keep]


def _driven(m: VectorMap, places: np.ndarray):
    """Returns the lanes driven, in order, a line (n, 2) of the foot of each place on its lane, and per place whether it has a lane.

    Where a place has no lane, it stands for its foot itself. Where none has, the nearest lane is returned.
    """
    shapely = require("shapely")
    lines = np.array([shapely.LineString(m.lane_centerline(row)) for row in range(m.num_lanes)])
    points = shapely.points(places[:, :2])
    place, lane = shapely.STRtree(lines).query(points, predicate="dwithin", distance=REACH_M)
    at = shapely.line_locate_point(lines[lane], points[place])
    turn = np.abs(wrap(headings_at(lines[lane], at) - places[place, 2]))
    lateral = shapely.distance(lines[lane], points[place])
    keep = turn < HEADING
    place, lane, at, cost = place[keep], lane[keep], at[keep], (lateral**2 / 2 + (turn / 0.35) ** 2)[keep]
    if not len(place):
        nearest = int(shapely.STRtree(lines).nearest(points[0]))
        return [nearest], places[:, :2].copy(), [False] * len(places)
    last = place == len(places) - 1
    cost[last] += [_turning(m.lane_centerline(row)) / 2 for row in lane[last]]  # where lanes part, take the straight one
    best = _cheapest(m, [(cost[place == k], lane[place == k]) for k in range(len(places))])
    chain, line, last_at, changes = [], [], None, []
    for k, choice in enumerate(best):
        if choice is None:
            line.append(places[k, :2])
            continue
        row = lane[place == k][choice]
        s = at[place == k][choice]
        if chain and chain[-1] != row:
            linked = _path_between(m, chain[-1], int(row))
            if linked is None and line:
                changes.append(len(line))
            chain += linked or []
            last_at = None
        if not chain or chain[-1] != row:
            chain.append(int(row))
        if last_at is not None and s < last_at:
            s = last_at
        last_at = s
        line.append(np.array(lines[row].interpolate(s).coords[0]))
    return chain, _blend(np.array(line), changes), [choice is not None for choice in best]


def _cheapest(m: VectorMap, options) -> list[int | None]:
    """Returns per place the index of its option on the cheapest sequence of lanes (Viterbi); None where there is no option."""
    successors = [set(map(int, m.lane_successors(row))) for row in range(m.num_lanes)]
    total, back, last = None, [], None
    for cost, lanes in options:
        if not len(lanes):
            back.append(None)
            continue
        if total is None:
            total, from_ = cost.copy(), np.full(len(lanes), -1)
        else:
            step = np.array([[_transition(m, successors, int(a), int(b)) for a in last] for b in lanes])
            from_ = (total[None] + step).argmin(1)
            total = (total[None] + step).min(1) + cost
        back.append(from_)
        last = lanes
    best: list[int | None] = [None] * len(options)
    choice = int(total.argmin())
    for k in range(len(options) - 1, -1, -1):
        if back[k] is not None:
            best[k] = choice
            choice = int(back[k][choice])
    return best


def _transition(m, successors, a: int, b: int) -> float:
    if a == b:
        return SAME
    if b in successors[a] or any(b in successors[c] for c in successors[a]):
        return NEXT
    if m.lane_left[a] == b or m.lane_right[a] == b or m.lane_roadblock[a] == m.lane_roadblock[b]:
        return BESIDE
    return OTHER


def _path_between(m: VectorMap, a: int, b: int, depth: int = 3) -> list[int] | None:
    """Returns the lanes between a and b along successors (a left out, b included), or None if b does not follow within 3 lanes."""
    frontier = [[a]]
    for _ in range(depth):
        frontier = [[*way, int(n)] for way in frontier for n in m.lane_successors(way[-1])]
        for way in frontier:
            if way[-1] == b:
                return way[1:]
    return None


def _blend(line: np.ndarray, changes: list[int]) -> np.ndarray:
    """Takes the sideways step of each lane change (index of its first point on the new lane) over 12 m instead of at once."""
    keep = np.ones(len(line), bool)
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    for k in changes:
        middle = (s[k - 1] + s[k]) / 2
        keep &= ~(np.abs(s - middle) < BLEND_M / 2)
    keep[[0, -1]] = True
    return line[keep]


def _turning(line: np.ndarray) -> float:
    """Returns how much [rad] a line turns, to either side, over its first 50 m."""
    steps = np.diff(resample_line(line, 2.0)[0][:26], axis=0)
    return float(np.abs(wrap(np.diff(np.arctan2(steps[:, 1], steps[:, 0])))).sum())


def _straightest(m: VectorMap, rows, reference: float, at_end: bool) -> int:
    """Returns the lane of ``rows`` that turns least in all over 50 m, seen from a heading [rad] at the joint."""

    def turn(row):
        line = m.lane_centerline(row)
        return abs(wrap(end_headings(line)[1 if at_end else 0] - reference)) + _turning(line[::-1] if at_end else line)

    return int(min(rows, key=lambda row: (round(turn(int(row)), 6), int(row))))


def _beyond(m: VectorMap, chain: list[int], foot: np.ndarray):
    """Goes on from a foot on the last lane for at least 150 m along the straightest successors, then straight on."""
    chain = list(chain)
    points = _part(m.lane_centerline(chain[-1]), foot, ahead=True)
    while _length(points) < BEYOND_M:
        rows = [row for row in m.lane_successors(chain[-1]) if int(row) not in chain]
        if not rows:
            break
        chain.append(_straightest(m, rows, end_headings(m.lane_centerline(chain[-1]))[1], at_end=False))
        points = np.concatenate([points, m.lane_centerline(chain[-1])])
    return chain, _extend(points, BEYOND_M)


def _before(m: VectorMap, chain: list[int], foot: np.ndarray):
    """Goes back from a foot on the first lane for 20 m along the straightest predecessors, then straight back."""
    chain = list(chain)
    points = _part(m.lane_centerline(chain[0]), foot, ahead=False)
    while _length(points) < BEHIND_M:
        rows = [row for row in range(m.num_lanes) if chain[0] in m.lane_successors(row) and row not in chain]
        if not rows:
            break
        chain.insert(0, _straightest(m, rows, end_headings(m.lane_centerline(chain[0]))[0], at_end=True))
        points = np.concatenate([m.lane_centerline(chain[0]), points])
    back, s, _ = resample_line(_extend(points[::-1], BEHIND_M), SPACING)
    return chain, back[s <= BEHIND_M][::-1]


def _part(line: np.ndarray, foot: np.ndarray, ahead: bool) -> np.ndarray:
    """Returns the part of a line (n, 2) before or after the foot, the foot and at least two points included."""
    shapely = require("shapely")
    shape = shapely.LineString(line)
    at = shape.project(shapely.Point(foot))
    start, end = (at, shape.length) if ahead else (0.0, at)
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    inner = line[(s > start + 0.01) & (s < end - 0.01)]
    ends = [np.array(shape.interpolate(x).coords[0]) for x in (start, end)]
    if end - start < 0.1:  # keep a direction: a short piece along the lane
        first, last = end_headings(line)
        heading = last if ahead else first
        step = 0.1 * np.array([np.cos(heading), np.sin(heading)])
        return np.array([ends[0], ends[0] + step]) if ahead else np.array([ends[1] - step, ends[1]])
    return np.concatenate([ends[:1], inner, ends[1:]])


def _straight(start: np.ndarray, yaw: float, length: float) -> np.ndarray:
    """Returns points (n, 2) every metre on a straight line from a start."""
    return start + np.arange(length + 0.5)[:, None] * np.array([[np.cos(yaw), np.sin(yaw)]])


def _length(points: np.ndarray) -> float:
    return float(np.hypot(*np.diff(points, axis=0).T).sum())


def _extend(points: np.ndarray, length: float) -> np.ndarray:
    """Returns the line with its last direction carried on straight until it is ``length`` long."""
    missing = length - _length(points)
    if missing <= 0:
        return points
    heading = end_headings(points)[1]
    return np.concatenate([points, points[-1:] + missing * np.array([[np.cos(heading), np.sin(heading)]])])


def _smooth_line(line: np.ndarray) -> np.ndarray:
    """Returns (n, 3) x, y, yaw every metre along a line: corners rounded over about 3 m, points that turn back left out."""
    keep, direction = [line[0]], None
    for point in line[1:]:
        step = point - keep[-1]
        if np.hypot(*step) > 0.05 and (direction is None or step @ direction > 0):
            keep.append(point)
            direction = step
    line = np.array(keep)
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    fine = np.arange(0.0, s[-1], SPACING / 4)
    xy = np.stack([np.interp(fine, s, line[:, 0]), np.interp(fine, s, line[:, 1])], axis=1)
    half = 6
    kernel = np.bartlett(2 * half + 3)[1:-1]
    kernel /= kernel.sum()
    ends = (2 * xy[0] - xy[half:0:-1], 2 * xy[-1] - xy[-2 : -half - 2 : -1])
    padded = np.concatenate([ends[0], xy, ends[1]])
    xy = np.stack([np.convolve(padded[:, axis], kernel, mode="valid") for axis in (0, 1)], axis=1)[::4]
    heading = np.unwrap(np.arctan2(*np.gradient(xy, axis=0).T[::-1]))
    return np.column_stack([xy, heading])
