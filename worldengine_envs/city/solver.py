"""Search for a motion that gets through a dangerous moment: ways beside the path, and speeds along each of them (numba).

On every way (stay in the lane, or move over, perhaps for good) some cells of (time, arclength) are taken by others. Through what
is free a dynamic program looks for the best accelerations, half a second each, later on one second; so the ego brakes, waits for
gaps and slips through them as the future of the scene asks for.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from worldengine_envs.city.contact import AXLE_TO_CENTER, LENGTH, WIDTH, off_road
from worldengine_envs.city.driving import STEP, boxes_touch

CELL = 0.5  # of arclength [m]
HOLD, LATER, LAYERS = 5, 50, 20  # steps between two decisions, twice as many from a step on; most decisions
S, V, A, COST, CHOICE, PARENT = range(6)  # columns of a node
ACCELERATIONS = np.array((-7.0, -5.0, -3.5, -2.0, -1.0, 0.0, 0.7, 1.8))  # to choose from [m/s2]
HARSHEST = 5.0  # change of acceleration in half a second [m/s2]
UNKNOWN, FREE, TAKEN = 0, 1, 2
AHEAD = 1.2  # room kept in front of the ego [m]
BINS = np.array(((2.0, 2.8), (1.6, 2.4), (1.2, 1.4)))  # sizes of states that count as one [m] in the lane and beside it, in turn
ROOM = 6400  # for states at one time
SOON = 55  # step at 4 s, up to which progress counts most
WORST = 10.0  # cost above which a motion is none
MOST = 9.3  # credit of going on at the wanted speed
MOVING_OVER = 0.55  # cost of leaving the lane's centre, and of each metre of it
SIDEWAYS, TWIST = 3.2, 1.5  # most acceleration to the side [m/s2] and of the yaw [rad/s2] while moving over
OFFSET, BEGIN, DISTANCE, HELD = range(4)  # columns of a way


@njit(cache=True, nogil=True)
def lateral(s, offset, begin, distance, held):
    """Returns (offset, slope) to the left of the path at arclength s: out over ``distance``, held, and back again."""
    u = min(max((s - begin) / distance, 0.0), 1.0)
    w = min(max((s - begin - distance - held) / (1.2 * distance), 0.0), 1.0)
    out, back = u * u * u * (10.0 + u * (6.0 * u - 15.0)), w * w * w * (10.0 + w * (6.0 * w - 15.0))
    slope = 30.0 * u * u * (1.0 - u) * (1.0 - u) / distance - 30.0 * w * w * (1.0 - w) * (1.0 - w) / (1.2 * distance)
    return offset * (out - back), offset * slope


@njit(cache=True, nogil=True)
def poses_on(grid, base, way, poses):
    """Writes (cells, 4) x, y, cos, sin of the rear axle on a way beside the path; grid: the same on the path, from ``base`` on."""
    for i in range(len(grid)):
        left, slope = 0.0, 0.0
        if way[OFFSET] != 0.0:
            left, slope = lateral(base + CELL * i, way[OFFSET], way[BEGIN], way[DISTANCE], way[HELD])
        c, n = grid[i, 2], grid[i, 3]
        norm = np.sqrt(1.0 + slope * slope)
        poses[i, 0], poses[i, 1] = grid[i, 0] - left * n, grid[i, 1] + left * c
        poses[i, 2], poses[i, 3] = (c - slope * n) / norm, (n + slope * c) / norm


@njit(cache=True, nogil=True)
def _pose(poses, at):
    """Returns x, y, cos, sin at a place in cells."""
    f = min(max(at, 0.0), len(poses) - 1.001)
    i = int(f)
    u = f - i
    a, b = poses[i], poses[i + 1]
    return a[0] + u * (b[0] - a[0]), a[1] + u * (b[1] - a[1]), a[2] + u * (b[2] - a[2]), a[3] + u * (b[3] - a[3])


@njit(cache=True, nogil=True)
def is_free(k, cell, poses, agents, state):
    """Whether the ego can be in a cell at step k without touching anybody, with room to spare.

    Args:
        k, cell: Where.
        poses: (cells, 4) of the way.
        agents: (agents, steps, 7) x, y, cos, sin, length, width, and by how much wider the ego counts beside it [m].
        state: (steps, cells) int8 UNKNOWN, FREE, or TAKEN; what was found is noted.
    """
    if state[k, cell] == UNKNOWN:
        x, y, c, n = poses[cell]
        cx, cy = x + AXLE_TO_CENTER * c, y + AXLE_TO_CENTER * n
        state[k, cell] = FREE
        for i in range(len(agents)):
            b = agents[i, k]
            reach = 4.5 + 0.5 * (b[4] + b[5])
            if abs(b[0] - cx) > reach or abs(b[1] - cy) > reach:
                continue
            fx, fy = cx + 0.5 * AHEAD * c, cy + 0.5 * AHEAD * n
            if boxes_touch(fx, fy, c, n, LENGTH + AHEAD + 0.5, WIDTH + b[6], b[0], b[1], b[2], b[3], b[4], b[5]):
                state[k, cell] = TAKEN
                break
    return state[k, cell] == FREE


@njit(cache=True, nogil=True)
def threat(k, x, y, c, n, v, agents):
    """Returns 2 for contact of the box with rear axle x, y at step k, 1 for contact that is near at constant velocity, else 0."""
    steps = agents.shape[1]
    for j in (0, 3, 6, 9):
        if k + j >= steps or (j > 0 and v < 0.01):
            break
        cx, cy = x + (AXLE_TO_CENTER + STEP * j * v) * c, y + (AXLE_TO_CENTER + STEP * j * v) * n
        for i in range(agents.shape[0]):
            b = agents[i, k + j]
            reach = 4.0 + b[4]
            if abs(b[0] - cx) > reach or abs(b[1] - cy) > reach:
                continue
            ahead, beside = (0.8, 0.2) if j > 0 else (0.4, 0.8 * b[6])  # what follows it drives a little otherwise
            if boxes_touch(cx, cy, c, n, LENGTH + ahead, WIDTH + beside, b[0], b[1], b[2], b[3], b[4], b[5]):
                if j == 0:
                    return 2
                dx, dy = b[0] - x, b[1] - y
                if dx * c + dy * n > -0.86 * np.sqrt(dx * dx + dy * dy):  # not behind
                    return 1
    return 0


@njit(cache=True, nogil=True)
def speeds(way, poses, base, state, agents, limit, s0, v0, cruise, past, first, bin_s, best, nodes, s, v):
    """Looks for the speeds of least cost along one way; writes s, v (steps,) from step ``first`` on.

    Cost is what progress lacks, to 4 s and to the end, and harsh braking and changes of it.

    Args:
        way: Its row of ``search``.
        poses, base: (cells, 4) of the way, from arclength ``base`` [m] on.
        state, agents: See ``is_free``.
        limit: (metres,) speed that bends allow [m/s].
        s0, v0: Arclength [m] and speed [m/s] at step ``first``.
        cruise: Speed that the driver wants to have [m/s].
        past: Arclength to come to by the end [m].
        first: Step of the first decision.
        bin_s: Size of states that count as one [m]; in speed 0.33 of that in its root.
        best: Cost to be undercut.
        nodes: (LAYERS + 1, any, 6) scratch.

    Returns:
        The cost, inf if there is none below ``best``.
    """
    steps, cells = state.shape
    columns = int(5.0 / bin_s * np.sqrt(1.1 * max(cruise, v0))) + 2
    nodes[0, 0, S], nodes[0, 0, V], nodes[0, 0, A], nodes[0, 0, COST] = s0, v0, 0.0, 0.0
    count, times = np.zeros(LAYERS + 1, dtype=np.int64), np.zeros(LAYERS + 1, dtype=np.int64)
    slot = np.empty(nodes.shape[1], dtype=np.int32)
    count[0], times[0] = 1, first
    most = max(cruise, 3.0)
    aside = abs(way[OFFSET])
    over = way[BEGIN] + way[DISTANCE]
    gentle = way[DISTANCE] * np.sqrt(min(SIDEWAYS / (5.77 * aside), TWIST * way[DISTANCE] / (60.0 * aside))) if aside else np.inf
    soon, late = 6.0 / (4.0 * most), 3.0 / (most * STEP * (steps - first))  # what a metre is worth
    layers = 0
    while times[layers] < steps - 1:
        layer, k0 = layers, times[layers]
        hold = HOLD if k0 < LATER else 2 * HOLD
        last = min(hold, steps - 1 - k0)
        layers += 1
        times[layers] = k0 + last
        worth = soon + late if k0 < SOON else late
        hope = STEP * most * (max(0, SOON + HOLD - k0 - last) * soon + (steps - 1 - k0 - last) * late)
        slot[:] = -1
        for m in range(count[layer]):
            sm, vm, am, cm = nodes[layer, m, S], nodes[layer, m, V], nodes[layer, m, A], nodes[layer, m, COST]
            x, y, c, n = _pose(poses, (sm - base) / CELL)
            if threat(k0, x, y, c, n, vm, agents) > 0:
                continue
            for a in ACCELERATIONS:
                if abs(a - am) > HARSHEST + 0.01 or (vm == 0.0 and a < 0.0):
                    continue
                sn, vn, free = sm, vm, True
                for j in range(last):
                    ve = max(0.0, vn + STEP * (am + (a - am) * (j + 0.5) / hold))
                    sn, vn = sn + 0.5 * STEP * (vn + ve), ve
                    cell = int((sn - base) / CELL + 0.5)
                    if cell >= cells or not is_free(k0 + j + 1, cell, poses, agents, state):
                        free = False
                        break
                if not free or (vn > vm and vn > 1.02 * cruise):
                    continue
                cost = cm - worth * (sn - sm) + 0.02 * a * a + 0.02 * (a - am) * (a - am) + 0.3 * max(0.0, -3.6 - a)
                if vn > gentle and way[BEGIN] < sn and (sm < over or sn > over + way[HELD]):
                    continue
                fast = max(0.0, vn - limit[min(max(int(sn), 0), len(limit) - 1)] - 0.2)
                cost += fast * fast
                b = 3 * (int((sn - s0) / bin_s) * columns + int(5.0 / bin_s * np.sqrt(vn))) + (
                    0 if a < -1.5 else 1 if a < 0.7 else 2
                )
                if cost - hope >= best or b >= len(slot):
                    continue
                q = slot[b]
                if q < 0:
                    q = count[layer + 1]
                    slot[b] = q
                    count[layer + 1] += 1
                elif nodes[layer + 1, q, COST] <= cost:
                    continue
                node = nodes[layer + 1, q]
                node[S], node[V], node[A], node[COST] = sn, vn, a if vn > 0.0 else 0.0, cost
                node[CHOICE], node[PARENT] = a, m
    goal, cost = -1, best
    for m in range(count[layers]):
        if nodes[layers, m, COST] < cost and nodes[layers, m, S] >= past:
            goal, cost = m, nodes[layers, m, COST]
    if goal < 0:
        return np.inf
    chosen = np.zeros(layers + 1, dtype=np.int64)
    chosen[layers] = goal
    for layer in range(layers, 0, -1):
        chosen[layer - 1] = int(nodes[layer, chosen[layer], PARENT])
    s[first], v[first] = s0, v0
    for layer in range(layers):
        k0, hold = times[layer], HOLD if times[layer] < LATER else 2 * HOLD
        am, a = nodes[layer, chosen[layer], A], nodes[layer + 1, chosen[layer + 1], CHOICE]
        for k in range(k0, times[layer + 1]):
            v[k + 1] = max(0.0, v[k] + STEP * (am + (a - am) * (k - k0 + 0.5) / hold))
            s[k + 1] = s[k] + 0.5 * STEP * (v[k] + v[k + 1])
    return cost


@njit(cache=True, nogil=True)
def _holds(poses, base, agents, rings, offsets, bounds, margin, first, s, v):
    """Whether a motion touches nobody, comes near nobody and stays on the road, at every step."""
    for k in range(first, len(s)):
        x, y, c, n = _pose(poses, (s[k] - base) / CELL)
        if threat(k, x, y, c, n, v[k], agents) > 0 or off_road(rings, offsets, bounds, x, y, c, n, margin):
            return False
    return True


@njit(cache=True, nogil=True)
def search(ways, grid, base, agents, closed, rings, offsets, bounds, limit, s0, v0, cruise, past, fine, first, s, v):
    """Finds the best motion along any of the ways; writes it to s, v (steps,) from step ``first`` on.

    Args:
        ways: (ways, 4) offset [m], arclength where moving over begins, distance over which it is done and held [m].
        grid: (cells, 4) x, y, cos, sin on the ego's path from arclength ``base`` on.
        agents: See ``is_free``.
        closed: (steps, cells) int8, TAKEN where a light is red, else UNKNOWN.
        rings, offsets, bounds: The road, see ``contact.off_road``.
        limit, s0, v0, cruise, past, first: See ``speeds``.
        fine: Whether to look closely at once.

    Returns:
        The row of the way, -1 = none, and the cost.
    """
    steps = len(s)
    poses, state = np.empty_like(grid), np.empty_like(closed)
    nodes = np.empty((LAYERS + 1, ROOM, 6))
    trial_s, trial_v = np.zeros(steps), np.zeros(steps)
    best, row = WORST, -1
    for level in range(int(fine), len(BINS)):
        inside, beside = BINS[level]
        for w in range(len(ways)):
            extra = MOVING_OVER * (1.0 + abs(ways[w, OFFSET])) if ways[w, OFFSET] != 0.0 else 0.0
            if extra - MOST >= best:
                continue
            poses_on(grid, base, ways[w], poses)
            state[:] = closed
            size, margin = (beside, 0.6) if w else (inside, 0.15)  # who follows it drives a little otherwise
            cost = extra + speeds(
                ways[w], poses, base, state, agents, limit, s0, v0, cruise, past, first, size, best - extra, nodes, trial_s, trial_v
            )
            if cost < best and _holds(poses, base, agents, rings, offsets, bounds, margin, first, trial_s, trial_v):
                best, row = cost, w
                s[first:], v[first:] = trial_s[first:], trial_v[first:]
        if row >= 0:
            break
    return row, best


@njit(cache=True, nogil=True)
def near(grid, agents, reach):
    """Returns (agents,) bool: whose centre comes within ``reach`` [m] of the path at some step."""
    found = np.zeros(len(agents), dtype=np.bool_)
    for i in range(len(agents)):
        for k in range(0, agents.shape[1], 2):
            j = 0
            while j < len(grid) and not found[i]:
                dx, dy = agents[i, k, 0] - grid[j, 0], agents[i, k, 1] - grid[j, 1]
                away = np.sqrt(dx * dx + dy * dy)
                found[i] = away < reach
                j += max(1, int((away - reach) / CELL))
            if found[i]:
                break
    return found
