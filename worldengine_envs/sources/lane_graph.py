"""The lane graph: connectors, successors, neighbours and roadblocks, taken from the format or derived from geometry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldengine_envs.sources.optional import require
from worldengine_envs.sources.tracks import wrap

LINK_DISTANCE_M = 1.5  # the end of a lane and the start of its successor
LINK_HEADING = np.radians(40)
BESIDE_M = (2.0, 5.5)  # lateral distance between centrelines of neighbouring lanes
BESIDE_HEADING = np.radians(20)
LONGEST_CONNECTOR_M = 80.0
CROSSING_ANGLE = np.radians(15)  # lines that cross at less merge or part


@dataclass
class LaneGraph:
    """Rows are those of the list of lanes; -1 = none."""

    connector: np.ndarray  # (lanes,) bool
    successors: list[list[int]]
    left: np.ndarray  # (lanes,) int32, same direction
    right: np.ndarray  # (lanes,) int32
    roadblock: np.ndarray  # (lanes,) int32


def complete_graph(lanes, derived: set[str]) -> LaneGraph:
    """Returns the graph of the lanes (``road.RawLane``); what had to be derived is added to ``derived``."""
    row_of = {lane.token: row for row, lane in enumerate(lanes)}
    connector = _connectors(lanes, derived)
    if any(lane.successors for lane in lanes):
        successors = [list(dict.fromkeys(row_of[token] for token in lane.successors if token in row_of)) for lane in lanes]
    else:
        derived.add("lane_successors")
        successors = _link(lanes)
    if any(lane.left or lane.right for lane in lanes):
        left, right = (_given_neighbours(lanes, [getattr(lane, side) for lane in lanes], row_of) for side in ("left", "right"))
    else:
        derived.add("lane_neighbours")
        left, right = _neighbours(lanes, connector)
    derived.add("roadblock")
    return LaneGraph(connector, successors, left, right, _roadblocks(connector, successors, left, right))


def _connectors(lanes, derived) -> np.ndarray:
    """Lanes that the format calls connectors; where it says nothing, those up to 80 m whose centreline crosses another."""
    known = np.array([bool(lane.connector) for lane in lanes])
    unknown = np.array([lane.connector is None for lane in lanes])
    if not unknown.any():
        return known
    derived.add("lane_connector")
    shapely = require("shapely")
    lines = [shapely.LineString(lane.center) for lane in lanes]
    one, other = shapely.STRtree(lines).query(lines, predicate="crosses")
    for i, j in zip(one, other, strict=True):
        if unknown[i] and lines[i].length <= LONGEST_CONNECTOR_M and angle_at_crossing(lines[i], lines[j]) > CROSSING_ANGLE:
            known[i] = True
    return known


def angle_at_crossing(one, other) -> float:
    """Returns the acute angle [rad] at which two lines (shapely) cross."""
    point = one.intersection(other)
    headings = []
    for line in (one, other):
        s = line.project(point.centroid)
        a, b = line.interpolate(max(s - 1.0, 0.0)), line.interpolate(min(s + 1.0, line.length))
        headings.append(np.arctan2(b.y - a.y, b.x - a.x))
    difference = abs(wrap(headings[0] - headings[1]))
    return min(difference, np.pi - difference)


def end_headings(line: np.ndarray, reach: float = 1.0) -> tuple[float, float]:
    """Returns the headings [rad] of a polyline (n, 2) over its first and its last metre."""
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    at = np.array([0.0, min(reach, s[-1]), max(s[-1] - reach, 0.0), s[-1]])
    x, y = np.interp(at, s, line[:, 0]), np.interp(at, s, line[:, 1])
    return float(np.arctan2(y[1] - y[0], x[1] - x[0])), float(np.arctan2(y[3] - y[2], x[3] - x[2]))


def _link(lanes) -> list[list[int]]:
    """Successors by geometry: a lane that starts within 1.5 m of the end, heading the same way within 40 degrees."""
    starts, ends = np.array([lane.center[0] for lane in lanes]), np.array([lane.center[-1] for lane in lanes])
    headings = np.array([end_headings(lane.center) for lane in lanes])
    out = []
    for row in range(len(lanes)):
        distance = np.hypot(*(starts - ends[row]).T)
        turn = np.abs(wrap(headings[:, 0] - headings[row, 1]))
        near = (distance <= LINK_DISTANCE_M) & (turn <= LINK_HEADING)
        near[row] = False
        out.append([int(i) for i in np.flatnonzero(near)])
    return out


def _given_neighbours(lanes, names: list[list[str]], row_of: dict[str, int]) -> np.ndarray:
    """Returns (lanes,) the first named neighbour that runs the same way wherever it is beside the lane.

    Some formats name oncoming lanes too, and lanes that only touch a turning one.
    """
    shapely = require("shapely")
    out = np.full(len(lanes), -1, np.int32)
    pairs = [(row, row_of[name]) for row, some in enumerate(names) for name in some if row_of.get(name, row) != row]
    if not pairs:
        return out
    lines = np.array([shapely.LineString(lane.center) for lane in lanes])
    own, other = lines[[a for a, _ in pairs]], lines[[b for _, b in pairs]]
    same, beside = np.ones(len(pairs), bool), np.zeros(len(pairs), bool)
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        at = share * shapely.length(own)
        foot = shapely.line_locate_point(other, shapely.line_interpolate_point(own, at))
        inside = (foot > 0.1) & (foot < shapely.length(other) - 0.1)
        same &= ~inside | (np.abs(wrap(headings_at(own, at) - headings_at(other, foot))) < 2 * BESIDE_HEADING)
        beside |= inside
    for (row, neighbour), good in zip(pairs, same & beside, strict=True):
        if good and out[row] < 0:
            out[row] = neighbour
    return out


def _neighbours(lanes, connector) -> tuple[np.ndarray, np.ndarray]:
    """Left and right neighbours by geometry: parallel and 2 to 5.5 m aside at two of three places along the lane."""
    shapely = require("shapely")
    lines = np.array([shapely.LineString(lane.center) for lane in lanes])
    count = len(lanes)
    places = shapely.line_interpolate_point(np.repeat(lines, 3), np.tile([0.25, 0.5, 0.75], count), normalized=True)
    place, other = shapely.STRtree(lines).query(places, predicate="dwithin", distance=BESIDE_M[1])
    row = place // 3
    keep = (row != other) & (connector[row] == connector[other])
    place, other, row = place[keep], other[keep], row[keep]
    foot_at = shapely.line_locate_point(lines[other], places[place])
    inside = (foot_at > 0.1) & (foot_at < shapely.length(lines[other]) - 0.1)
    own_at = np.tile([0.25, 0.5, 0.75], count)[place] * shapely.length(lines[row])
    own, theirs = headings_at(lines[row], own_at), headings_at(lines[other], foot_at)
    foot = shapely.get_coordinates(shapely.line_interpolate_point(lines[other], foot_at)) - shapely.get_coordinates(places[place])
    offset = -np.sin(own) * foot[:, 0] + np.cos(own) * foot[:, 1]
    parallel = np.abs(wrap(own - theirs)) < BESIDE_HEADING
    good = inside & parallel & (np.abs(offset) >= BESIDE_M[0])
    sides = {+1: np.full(count, -1, np.int32), -1: np.full(count, -1, np.int32)}
    votes: dict[tuple[int, int, int], list[float]] = {}
    for r, o, d in zip(row[good], other[good], offset[good], strict=True):
        votes.setdefault((int(r), int(o), 1 if d > 0 else -1), []).append(abs(float(d)))
    for (r, o, side), distances in sorted(votes.items(), key=lambda item: -np.mean(item[1])):
        if len(distances) >= 2:
            sides[side][r] = o  # nearest last, so it stays
    return sides[1], sides[-1]


def headings_at(lines, at) -> np.ndarray:
    """Returns (n,) headings [rad] of lines (n,) (shapely), each at an arclength (n,) [m], over a metre around it."""
    shapely = require("shapely")
    a = shapely.get_coordinates(shapely.line_interpolate_point(lines, np.maximum(at - 0.5, 0.0)))
    b = shapely.get_coordinates(shapely.line_interpolate_point(lines, np.minimum(at + 0.5, shapely.length(lines))))
    return np.arctan2(b[:, 1] - a[:, 1], b[:, 0] - a[:, 0])


def _roadblocks(connector, successors, left, right) -> np.ndarray:
    """Numbers of roadblocks: neighbouring lanes share one; so do connectors from one roadblock to one other."""
    parent = list(range(len(connector)))

    def root(i):
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, (a, b) in enumerate(zip(left, right, strict=True)):
        for j in (a, b):
            if j >= 0 and connector[i] == connector[j]:
                parent[root(i)] = root(int(j))
    predecessors = [[] for _ in parent]
    for i, some in enumerate(successors):
        for j in some:
            predecessors[j].append(i)
    ways = {}
    for i in np.flatnonzero(connector):
        key = (frozenset(root(j) for j in predecessors[i]), frozenset(root(j) for j in successors[i]))
        if key[0] and key[1]:
            ways.setdefault(key, []).append(int(i))
    for some in ways.values():
        for i in some[1:]:
            parent[root(i)] = root(some[0])
    roots = [root(i) for i in range(len(parent))]
    number = {r: n for n, r in enumerate(dict.fromkeys(roots))}
    return np.array([number[r] for r in roots], np.int32)
