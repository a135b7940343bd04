"""How the city's drivers move: car following, lights, and giving way to each other and to people (numba)."""

from __future__ import annotations

import numpy as np
from numba import njit

STEP = 0.1  # [s]
FRONT, REAR = 0.782, 0.218  # parts of a vehicle's length before and behind its rear axle
RED, YELLOW = 3, 2
PARTS = 1  # kind of a zone where two connectors begin together (``right_of_way``)
PATIENCE = 1.2  # gap in time that drivers leave to those whom they let pass [s]
HARDEST = 4.3  # braking of those who drive as they should [m/s2]
NOTICE = 25  # steps before somebody is in the way that drivers see it coming


@njit(cache=True, nogil=True)
def _follow(v, desired, gap, lead_speed, headway, comfortable):
    """Intelligent Driver Model (Treiber 2000): acceleration [m/s2] at 1.5 m/s2 and this comfortable deceleration."""
    ratio = v / max(desired, 0.1)
    free = 1.0 - ratio * ratio * ratio * ratio
    if gap > 1e8:
        return 1.5 * max(free, -2.0)
    wanted = 2.0 + max(0.0, v * headway + v * (v - lead_speed) / (2.0 * np.sqrt(1.5 * comfortable)))
    closeness = wanted / max(gap, 0.1)
    return 1.5 * (max(free, -2.0) - closeness * closeness)


@njit(cache=True, nogil=True, _nrt=False)
def _time_to(distance, v, acceleration, most):
    """Time [s] to come this far, speeding up to ``most`` [m/s]."""
    if distance <= 0.0:
        return 0.0
    if v >= most:
        return distance / v
    ramp = (most * most - v * v) / (2.0 * acceleration)
    if distance <= ramp:
        return (np.sqrt(v * v + 2.0 * acceleration * distance) - v) / acceleration
    return (most - v) / acceleration + (distance - ramp) / most


@njit(cache=True, nogil=True, _nrt=False)
def _speed_at(ways, p, s):
    return ways.limit[p, min(max(int(s), 0), ways.limit.shape[1] - 1)]


@njit(cache=True, nogil=True, _nrt=False)
def _held_by_light(ways, p, front, end, lights, k):
    """Whether a red light stands between a car's front and a place on its path."""
    for q in range(ways.stop_s.shape[1]):
        if front - 0.5 < ways.stop_s[p, q] <= end and lights[ways.stop_group[p, q], k] == RED:
            return True
    return False


@njit(cache=True, nogil=True, _nrt=False)
def _has_to_wait(i, j, k, z, enters, leaves, tie, s, v, size, desired, path, ways, lights):
    """Whether vehicle i has to let j pass through zone z, which i enters and leaves at these arclengths."""
    p, q = path[i], path[j]
    begin = ways.where[q, ways.zone_with[z]]
    j_enters, j_leaves = begin + ways.zone[z, 2], begin + ways.zone[z, 3]
    front = s[j, k] + FRONT * size[j]
    if j_enters - front > 90.0 or _held_by_light(ways, q, front, j_enters, lights, k):
        return False
    most = max(min(desired[i], _speed_at(ways, p, enters)), 3.0)
    mine_in = _time_to(enters - s[i, k] - FRONT * size[i], v[i, k], 1.2, most)
    mine_out = _time_to(leaves - s[i, k] + REAR * size[i], v[i, k], 1.2, most)
    most = max(v[j, k], min(desired[j], _speed_at(ways, q, j_enters)), 1.0)
    other_in = _time_to(j_enters - front, v[j, k], 1.0, most)
    other_out = _time_to(j_leaves - s[j, k] + REAR * size[j], max(v[j, k], 1.0), 0.3, most)
    if tie and (other_in > mine_in or (other_in == mine_in and j > i)):
        return False
    return mine_in < other_out + PATIENCE and other_in < mine_out + PATIENCE


@njit(cache=True, nogil=True, _nrt=False)
def _hold(i, k, row, s, v, size, desired, path, ways, lights, rider_of, riders):
    """Arclength [m] where vehicle i's front has to wait for others at the junctions ahead, inf = nowhere."""
    p = path[i]
    front, rear = s[i, k] + FRONT * size[i], s[i, k] - REAR * size[i]
    reach, hold = front + 8.0 + 4.0 * v[i, k], np.inf
    for m in range(row, ways.lanes.shape[1]):
        a, begin = ways.lanes[p, m], ways.starts[p, m]
        if a < 0 or begin > reach:
            break
        for z in range(ways.zone_of[a], ways.zone_of[a + 1]):
            enters, leaves = begin + ways.zone[z, 0], begin + ways.zone[z, 1]
            if ways.zone_kind[z] == PARTS or rear > leaves or front > enters or enters > reach:
                continue
            b = ways.zone_with[z]
            lower, tie = ways.rank[a] < ways.rank[b], ways.rank[a] == ways.rank[b]
            for r in range(rider_of[b], rider_of[b + 1]):
                j = riders[r]
                at = ways.where[path[j], b]
                if j == i or s[j, k] - REAR * size[j] > at + ways.zone[z, 3]:
                    continue
                inside = s[j, k] + FRONT * size[j] > at + ways.zone[z, 2]
                if not inside:
                    if not (lower or tie):
                        continue
                    if not _has_to_wait(i, j, k, z, enters, leaves, tie, s, v, size, desired, path, ways, lights):
                        continue
                point = begin if ways.waits[a] and front < begin + 0.3 else enters - 1.0
                if inside or v[i, k] * v[i, k] < 5.0 * max(point - front, 0.05):  # else it is too late to stop
                    hold = min(hold, point)
                    break
    return hold


@njit(cache=True, nogil=True, _nrt=False)
def _gap_ahead(i, j, k, rows, fronts, s, size, path, ways):
    """Gap [m] from vehicle i's front to j's rear, if j is ahead on i's path; else a huge one."""
    p, q = path[i], path[j]
    front = s[i, k] + FRONT * size[i]
    begin = ways.where[p, ways.lanes[q, rows[j]]]
    if begin < 1e9:
        gap = begin + s[j, k] - REAR * size[j] - ways.starts[q, rows[j]] - front
        return gap if gap > -FRONT * size[i] else 1e9
    begin = ways.where[p, ways.lanes[q, fronts[j]]]
    if begin < 1e9:
        ahead = begin + s[j, k] + FRONT * size[j] - ways.starts[q, fronts[j]] - front
        if ahead > 0.0:
            return ahead - size[j]
    return 1e9


@njit(cache=True, nogil=True, _nrt=False)
def _gap_parting(i, k, fronts, s, size, path, ways, rider_of, riders):
    """Returns (gap [m], row) to a car ahead that leaves i's path on a connector beside it."""
    p, best, who = path[i], 1e9, -1
    a, begin = ways.lanes[p, fronts[i]], ways.starts[p, fronts[i]]
    for z in range(ways.zone_of[a], ways.zone_of[a + 1]):
        if ways.zone_kind[z] != PARTS:
            continue
        b = ways.zone_with[z]
        for r in range(rider_of[b], rider_of[b + 1]):
            j = riders[r]
            at = s[j, k] - REAR * size[j] - ways.where[path[j], b]
            if j != i and 0.0 <= at < ways.zone[z, 3]:
                gap = begin + at - s[i, k] - FRONT * size[i]
                if -FRONT * size[i] < gap < best:
                    best, who = gap, j
    return best, who


@njit(cache=True, nogil=True, _nrt=False)
def _find_riders(path, ways, rider_of, riders, filled):
    """Writes the vehicles whose paths lead over each lane: riders[rider_of[lane] : rider_of[lane + 1]]."""
    for i in range(len(path)):
        for m in range(ways.lanes.shape[1]):
            if ways.lanes[path[i], m] >= 0:
                rider_of[ways.lanes[path[i], m] + 1] += 1
    for lane in range(len(rider_of) - 1):
        rider_of[lane + 1] += rider_of[lane]
        filled[lane] = rider_of[lane]
    for i in range(len(path)):
        for m in range(ways.lanes.shape[1]):
            lane = ways.lanes[path[i], m]
            if lane >= 0:
                riders[filled[lane]] = i
                filled[lane] += 1


@njit(cache=True, nogil=True, _nrt=False)
def _find_shared(ways, shared):
    """Writes (paths, paths) whether two paths have a lane in common."""
    count = len(ways.lanes)
    for p in range(count):
        for q in range(count):
            shared[p, q] = False
            for m in range(ways.lanes.shape[1]):
                if ways.lanes[q, m] >= 0 and ways.where[p, ways.lanes[q, m]] < 1e9:
                    shared[p, q] = True


@njit(cache=True, nogil=True, _nrt=False)
def _obstacles(i, k, wanted, s, v, size, path, ways, lights):
    """Acceleration [m/s2] that lights and people ahead allow."""
    p, a, front = path[i], 9.0, s[i, k] + FRONT * size[i]
    for q in range(ways.stop_s.shape[1]):
        gap = ways.stop_s[p, q] - front
        if gap > -0.5 and gap < 1e8:
            colour = lights[ways.stop_group[p, q], k]
            needed = v[i, k] * v[i, k] / (2.0 * max(gap, 0.1))
            if colour == RED or (colour == YELLOW and needed < 3.0):
                a = min(a, _follow(v[i, k], wanted, gap + 1.0, 0.0, 0.8, 2.5))
    for row in range(ways.block_of[p], ways.block_of[p + 1]):
        place, first, last = ways.block[row, 0], ways.block[row, 1], ways.block[row, 2]
        gap = place - 1.5 - front
        if gap < -1.5 or gap > 70.0 or k > last or k < first - NOTICE:
            continue
        if k < first and _time_to(place + 3.0 + size[i] - front, v[i, k], 1.0, max(wanted, 1.0)) < STEP * (first - k):
            continue  # is past before they come
        if gap / max(v[i, k], 0.5) > STEP * (last - k) + 1.0:
            continue  # they are gone before it comes
        a = min(a, _follow(v[i, k], wanted, gap + 1.0, 0.0, 0.8, 2.5))
    return a


@njit(cache=True, nogil=True, _nrt=False)
def _drive(s, v, size, desired, headway, path, scripted, ways, lights, rider_of, riders, shared, rows, fronts, hold):
    count, steps = s.shape
    for k in range(steps - 1):
        for i in range(count):
            while ways.starts[path[i], rows[i] + 1] <= s[i, k] - REAR * size[i]:
                rows[i] += 1
            while ways.starts[path[i], fronts[i] + 1] <= s[i, k] + FRONT * size[i]:
                fronts[i] += 1
        for i in range(count):
            if scripted[i]:
                continue
            if k % 2 == 0:
                hold[i] = _hold(i, k, rows[i], s, v, size, desired, path, ways, lights, rider_of, riders)
            wanted = min(desired[i], _speed_at(ways, path[i], s[i, k]))
            a = _follow(v[i, k], wanted, 1e9, 0.0, headway[i], 2.5)
            for j in range(count):
                if j != i and shared[path[i], path[j]]:
                    gap = _gap_ahead(i, j, k, rows, fronts, s, size, path, ways)
                    if gap < 120.0:
                        a = min(a, _follow(v[i, k], wanted, gap, v[j, k], headway[i], 2.5))
            gap, j = _gap_parting(i, k, fronts, s, size, path, ways, rider_of, riders)
            if j >= 0:
                a = min(a, _follow(v[i, k], wanted, gap, v[j, k], 0.8, 2.5))
            a = min(a, _obstacles(i, k, wanted, s, v, size, path, ways, lights))
            if hold[i] < 1e9:
                a = min(a, _follow(v[i, k], wanted, hold[i] - s[i, k] - FRONT * size[i] + 1.0, 0.0, 0.8, 2.5))
            previous = (v[i, k] - v[i, k - 1]) / STEP if k > 0 else 0.0
            a = min(max(a, previous - 1.0, -HARDEST), previous + 0.5, 2.0)
            v[i, k + 1] = max(0.0, v[i, k] + a * STEP)
            s[i, k + 1] = s[i, k] + 0.5 * STEP * (v[i, k] + v[i, k + 1])


def drive(s, v, size, desired, headway, path, scripted, ways, lights):
    """Moves vehicles along their paths: car following, lights, giving way where paths meet, stopping for people.

    Args:
        s: (vehicles, steps) arclength of the rear axle [m]; column 0 is the start, rows of scripted vehicles are given.
        v: (vehicles, steps) speed [m/s], likewise.
        size: (vehicles,) length [m].
        desired, headway: (vehicles,) speed [m/s] and time gap [s].
        path: (vehicles,) row of the path.
        scripted: (vehicles,) bool, motion is given.
        ways: What there is to know about the paths.
        lights: (groups, steps) LightState.
    """
    count, lanes, paths = len(s), ways.where.shape[1], len(ways.lanes)
    rider_of, riders = np.zeros(lanes + 1, np.int64), np.zeros(count * ways.lanes.shape[1], np.int64)
    shared = np.empty((paths, paths), np.bool_)
    _find_riders(path, ways, rider_of, riders, np.zeros(lanes, np.int64))
    _find_shared(ways, shared)
    rows, fronts, hold = np.zeros(count, np.int64), np.zeros(count, np.int64), np.full(count, np.inf)
    _drive(s, v, size, desired, headway, path, scripted, ways, lights, rider_of, riders, shared, rows, fronts, hold)


@njit(cache=True, nogil=True)
def boxes_touch(xa, ya, ca, sa, la, wa, xb, yb, cb, sb, lb, wb):
    """Whether two boxes, given by centre, (cos, sin) of the yaw, length and width, overlap (separating axes)."""
    dx, dy = xb - xa, yb - ya
    c, s = abs(ca * cb + sa * sb), abs(ca * sb - sa * cb)
    if abs(dx * ca + dy * sa) > 0.5 * (la + lb * c + wb * s) or abs(dy * ca - dx * sa) > 0.5 * (wa + lb * s + wb * c):
        return False
    return abs(dx * cb + dy * sb) <= 0.5 * (lb + la * c + wa * s) and abs(dy * cb - dx * sb) <= 0.5 * (wb + la * s + wa * c)


@njit(cache=True, nogil=True)
def overlaps(box, size, valid, margin, pairs):
    """Finds pairs of agents that touch at any step.

    Args:
        box: (agents, steps, 4) x, y [m] of centres, cos, sin of the yaw.
        size: (agents, 2) length, width [m].
        valid: (agents, steps) bool.
        margin: Widening of every box on each side [m].
        pairs: (agents, agents) bool, written.
    """
    count, steps = valid.shape
    for i in range(count):
        for j in range(i + 1, count):
            reach = 0.5 * (size[i, 0] + size[i, 1] + size[j, 0] + size[j, 1]) + 2.0 * margin
            for k in range(steps):
                if not (valid[i, k] and valid[j, k]):
                    continue
                if abs(box[i, k, 0] - box[j, k, 0]) > reach or abs(box[i, k, 1] - box[j, k, 1]) > reach:
                    continue
                a, b, m = box[i, k], box[j, k], 2.0 * margin
                if boxes_touch(
                    a[0], a[1], a[2], a[3], size[i, 0] + m, size[i, 1] + m, b[0], b[1], b[2], b[3], size[j, 0] + m, size[j, 1] + m
                ):
                    pairs[i, j] = pairs[j, i] = True
                    break
