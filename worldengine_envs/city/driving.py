"""How the city's drivers move: car following with lights, and the search for a way through a dangerous moment (numba)."""

from __future__ import annotations

import numpy as np
from numba import njit

STEP = 0.1  # [s]
FRONT, REAR = 0.782, 0.218  # parts of a vehicle's length before and behind its rear axle
RED, YELLOW = 3, 2


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


@njit(cache=True, nogil=True)
def drive(s, v, leader, size, desired, headway, path, limit, stop_s, stop_group, lights, scripted):
    """Moves vehicles along their paths by car following.

    Args:
        s: (vehicles, steps) arclength of the rear axle [m]; column 0 is the start, rows of scripted vehicles are given.
        v: (vehicles, steps) speed [m/s], likewise.
        leader: (vehicles,) row of the vehicle in front on the same path, -1 = none.
        size: (vehicles,) length [m].
        desired, headway: (vehicles,) speed [m/s] and time gap [s].
        path: (vehicles,) row of the path.
        limit: (paths, metres) speed that bends allow, by metre of arclength [m/s].
        stop_s: (paths, stops) arclength of stop lines [m], inf = none.
        stop_group: (paths, stops) row in lights.
        lights: (groups, steps) LightState.
        scripted: (vehicles,) bool, motion is given.
    """
    count, steps = s.shape
    for k in range(steps - 1):
        for i in range(count):
            if scripted[i]:
                continue
            p, front = path[i], s[i, k] + FRONT * size[i]
            wanted = min(desired[i], limit[p, min(max(int(s[i, k]), 0), limit.shape[1] - 1)])
            a = _follow(v[i, k], wanted, 1e9, 0.0, headway[i], 2.5)
            j = leader[i]
            if j >= 0:
                a = min(a, _follow(v[i, k], wanted, s[j, k] - REAR * size[j] - front, v[j, k], headway[i], 2.5))
            for q in range(stop_s.shape[1]):
                gap = stop_s[p, q] - front
                if gap > -0.5 and gap < 1e8:
                    colour = lights[stop_group[p, q], k]
                    needed = v[i, k] * v[i, k] / (2.0 * max(gap, 0.1))
                    if colour == RED or (colour == YELLOW and needed < 3.0):
                        a = min(a, _follow(v[i, k], wanted, gap + 1.0, 0.0, 0.8, 2.5))
            previous = (v[i, k] - v[i, k - 1]) / STEP if k > 0 else 0.0
            a = min(max(a, previous - 1.0, -7.0), previous + 0.5, 2.0)
            v[i, k + 1] = max(0.0, v[i, k] + a * STEP)
            s[i, k + 1] = s[i, k] + 0.5 * STEP * (v[i, k] + v[i, k + 1])


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
