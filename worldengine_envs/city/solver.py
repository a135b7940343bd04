"""Search for a motion that gets through a dangerous moment: car following with foresight, and swerves (numba)."""

from __future__ import annotations

import numpy as np
from numba import njit

from worldengine_envs.city.driving import STEP, _follow, boxes_touch

LENGTH, WIDTH, AXLE_TO_CENTER, FRONT_OVERHANG = 5.176, 2.297, 1.461, 4.049
# columns of a candidate
TOO_CLOSE = 20.0  # cost of any time to collision within 0.9 s
SWERVING = 0.55  # cost of a swerve, and of each metre of it
MOST_PROGRESS = 11.0  # credit that progress can give at the end, with something to spare
SPEED, HEADWAY, BRAKE, FORESIGHT, OFFSET, DISTANCE, HOLD, JERK = range(8)


@njit(cache=True, nogil=True)
def lateral(s, start, offset, distance, hold):
    """Returns (offset, slope) to the left of the path at arclength s: out over ``distance``, held, and back again."""
    u = min(max((s - start) / distance, 0.0), 1.0)
    w = min(max((s - start - distance - hold) / (1.2 * distance), 0.0), 1.0)
    out, back = u * u * u * (10.0 + u * (6.0 * u - 15.0)), w * w * w * (10.0 + w * (6.0 * w - 15.0))
    slope = 30.0 * u * u * (1.0 - u) * (1.0 - u) / distance - 30.0 * w * w * (1.0 - w) * (1.0 - w) / (1.2 * distance)
    return offset * (out - back), offset * slope


@njit(cache=True, nogil=True)
def _pose(grid, s, left, slope):
    """Returns x, y of the rear axle, and cos, sin of the yaw; grid rows are x, y, cos, sin each 0.5 m of arclength."""
    f = min(max(s * 2.0, 0.0), grid.shape[0] - 1.001)
    i = int(f)
    u = f - i
    c, n = grid[i, 2] + u * (grid[i + 1, 2] - grid[i, 2]), grid[i, 3] + u * (grid[i + 1, 3] - grid[i, 3])
    x, y = grid[i, 0] + u * (grid[i + 1, 0] - grid[i, 0]) - left * n, grid[i, 1] + u * (grid[i + 1, 1] - grid[i, 1]) + left * c
    norm = np.sqrt(1.0 + slope * slope)
    return x, y, (c - slope * n) / norm, (n + slope * c) / norm


@njit(cache=True, nogil=True)
def _acceleration(k, s, v, left, candidate, speed, agents, frenet):
    """Car following towards whatever is, or within the foresight will be, in the corridor ahead."""
    steps = frenet.shape[1]
    a = _follow(v, speed, 1e9, 0.0, 1.0, 3.0)
    for i in range(frenet.shape[0]):
        if frenet[i, k, 0] < s or frenet[i, k, 0] > s + 90.0:
            continue
        foresight = int(candidate[FORESIGHT]) if frenet[i, k, 5] > 0.1 else 0  # of those who keep their offset it tells nothing
        for j in range(k, min(k + foresight + 1, steps), 3):
            if abs(frenet[i, j, 1] - left) < frenet[i, j, 3] + 0.5 * WIDTH + 0.35:
                gap = frenet[i, k, 0] - frenet[i, k, 2] - s - FRONT_OVERHANG
                lead = max(frenet[i, k, 4], 0.0)
                a = min(a, _follow(v, speed, gap, lead, candidate[HEADWAY], 3.0))
                break
    return a


@njit(cache=True, nogil=True)
def _hit(k, x, y, c, n, v, agents, steps):
    """Returns 2 for contact at step k, 1 for contact ahead within 0.9 s at constant velocity, else 0."""
    worst = 0
    for j in (0, 3, 6, 9):
        if k + j >= steps or (j > 0 and v < 0.01):
            break
        cx, cy = x + (AXLE_TO_CENTER + 0.1 * j * v) * c, y + (AXLE_TO_CENTER + 0.1 * j * v) * n
        for i in range(agents.shape[0]):
            b = agents[i, k + j]
            reach = 4.0 + b[4]
            if abs(b[0] - cx) > reach or abs(b[1] - cy) > reach:
                continue
            grow = 0.1 if j > 0 else (0.5 if b[5] > 1.0 else 1.0)  # more room beside people
            if boxes_touch(cx, cy, c, n, LENGTH + grow, WIDTH + grow, b[0], b[1], b[2], b[3], b[4], b[5]):
                if j == 0:
                    return 2
                dx, dy = b[0] - x, b[1] - y
                if dx * c + dy * n > 0.85 * np.sqrt(dx * dx + dy * dy):
                    worst = 1
    return worst


@njit(cache=True, nogil=True)
def roll_out(candidate, s0, v0, cruise, start, grid, limit, agents, frenet, s, v, best):
    """Drives one candidate; returns its cost (inf = contact, or it cannot come below ``best`` any more).

    Args:
        candidate: (8,) desired speed as part of cruise, headway [s], strongest braking [m/s2], foresight [steps], offset [m],
            distance [m] to reach it, distance held [m], jerk [m/s3].
        s0, v0: Arclength of the rear axle [m] and speed [m/s] at step 0.
        cruise: Speed before and after [m/s].
        start: Step at which the driver begins to react.
        grid: (points, 4) path, see ``_pose``.
        limit: (metres,) speed that bends allow [m/s].
        agents: (agents, steps, 6) x, y, cos, sin, length, width.
        frenet: (agents, steps, 6) arclength, offset, half extents along and across the path, speed along it, range of the offset.
        s, v: (steps,) written.
    """
    steps = len(s)
    s[0], v[0] = s0, v0
    a = 0.0
    cost = SWERVING * abs(candidate[OFFSET]) + (SWERVING if candidate[OFFSET] != 0.0 else 0.0)
    swerve, middle = s0 + v0 * start * STEP, min(start + 40, steps - 1)
    for k in range(steps):
        left, slope = lateral(s[k], swerve, candidate[OFFSET], candidate[DISTANCE], candidate[HOLD])
        x, y, c, n = _pose(grid, s[k], left, slope)
        if k >= start - 3:
            hit = _hit(k, x, y, c, n, v[k], agents, steps)
            if hit == 2:
                return np.inf
            if hit == 1 and cost < TOO_CLOSE:
                cost += TOO_CLOSE
            cost += 0.3 * hit
            if cost - MOST_PROGRESS > best:
                return np.inf
        if k == steps - 1:
            break
        if k == middle:  # the rest cannot be driven faster than at the cruising speed
            farthest = s[k] - s[start] + 1.02 * cruise * STEP * (steps - 1 - k)
            if cost - 6.0 * (s[k] - s[start]) / (4.0 * v0) - 3.0 * farthest / (v0 * STEP * (steps - start)) > best:
                return np.inf
        wanted = cruise if k < start else cruise * candidate[SPEED]
        wanted = min(wanted, limit[min(max(int(s[k]), 0), len(limit) - 1)])
        target = 0.0
        if k >= start:
            target = _acceleration(k, s[k], v[k], left, candidate, wanted, agents, frenet)
        target = min(max(target, -candidate[BRAKE]), 1.8)
        jerk = candidate[JERK] * STEP
        a = min(max(target, a - jerk), a + 0.6 * jerk)
        v[k + 1] = max(0.0, v[k] + a * STEP)
        if v[k + 1] == 0.0:
            a = 0.0
        s[k + 1] = s[k] + 0.5 * STEP * (v[k] + v[k + 1])
        if a < -3.6:
            cost += 0.04 * (-3.6 - a)
    cost -= 6.0 * (s[middle] - s[start]) / (4.0 * v0) + 3.0 * (s[steps - 1] - s[start]) / (v0 * STEP * (steps - start))
    return cost


@njit(cache=True, nogil=True)
def search(candidates, s0, v0, cruise, start, grid, limit, agents, frenet, s, v, best_s, best_v):
    """Drives all candidates and keeps the motion of the cheapest in best_s, best_v; returns (row, cost), row -1 = none."""
    best, row = np.inf, -1
    for m in range(len(candidates)):
        cost = roll_out(candidates[m], s0, v0, cruise, start, grid, limit, agents, frenet, s, v, best)
        if cost < best:
            best, row = cost, m
            best_s[:] = s
            best_v[:] = v
    return row, best


@njit(cache=True, nogil=True)
def to_path(grid, agents, frenet):
    """Writes the agents in the coordinates of a path: see ``roll_out`` for the columns of both; speeds by differences."""
    count, steps = agents.shape[:2]
    points = grid.shape[0]
    for i in range(count):
        nearest = 0
        for k in range(steps):
            x, y = agents[i, k, 0], agents[i, k, 1]
            first, end = (0, points) if k == 0 else (max(nearest - 12, 0), min(nearest + 13, points))
            best = 1e18
            for g in range(first, end):
                d = (grid[g, 0] - x) * (grid[g, 0] - x) + (grid[g, 1] - y) * (grid[g, 1] - y)
                if d < best:
                    best, nearest = d, g
            c, n = grid[nearest, 2], grid[nearest, 3]
            dx, dy = x - grid[nearest, 0], y - grid[nearest, 1]
            frenet[i, k, 0] = 0.5 * nearest + dx * c + dy * n
            frenet[i, k, 1] = dy * c - dx * n
            along = abs(agents[i, k, 2] * c + agents[i, k, 3] * n)
            across = abs(agents[i, k, 3] * c - agents[i, k, 2] * n)
            frenet[i, k, 2] = 0.5 * (agents[i, k, 4] * along + agents[i, k, 5] * across)
            frenet[i, k, 3] = 0.5 * (agents[i, k, 4] * across + agents[i, k, 5] * along)
            if k > 0:
                frenet[i, k, 4] = (frenet[i, k, 0] - frenet[i, k - 1, 0]) / STEP
        low, high = frenet[i, 0, 1], frenet[i, 0, 1]
        for k in range(steps):
            low, high = min(low, frenet[i, k, 1]), max(high, frenet[i, k, 1])
        frenet[i, :, 5] = high - low
        frenet[i, 0, 4] = frenet[i, min(1, steps - 1), 4]


@njit(cache=True, nogil=True)
def straight_on(x, y, c, n, v, start, steps, agents):
    """Returns (agent, step) of the first contact at the front of an ego that goes straight on from step start, else (-1, -1).

    As in the score, one who runs into the ego's side or rear is left out of account from then on.
    """
    count = agents.shape[0]
    aside = np.zeros(count, dtype=np.bool_)
    for k in range(start, min(start + steps + 1, agents.shape[1])):
        ahead = STEP * (k - start) * v
        cx, cy = x + (AXLE_TO_CENTER + ahead) * c, y + (AXLE_TO_CENTER + ahead) * n
        fx, fy = x + (FRONT_OVERHANG + ahead) * c, y + (FRONT_OVERHANG + ahead) * n
        for i in range(count):
            b = agents[i, k]
            if aside[i] or abs(b[0] - cx) > 9.0 or abs(b[1] - cy) > 9.0:
                continue
            if boxes_touch(cx, cy, c, n, LENGTH, WIDTH, b[0], b[1], b[2], b[3], b[4], b[5]):
                if boxes_touch(fx, fy, c, n, 0.0, WIDTH, b[0], b[1], b[2], b[3], b[4], b[5]):
                    return i, k
                aside[i] = True
    return -1, -1
