"""From arclengths to boxes on the ground, for all vehicles of a scene at once (numba)."""

from __future__ import annotations

import numpy as np
from numba import njit

from worldengine_envs.city.exact import COSINE, HALF_PI_HIGH, HALF_PI_LOW, SINE

STEP = 0.1  # [s]


@njit(cache=True, nogil=True)
def _turn(angle):
    """(sin, cos) as ``exact.turn_of``."""
    quarter = np.rint(angle * (2.0 / 3.141592653589793))
    r = (angle - quarter * HALF_PI_HIGH) - quarter * HALF_PI_LOW
    z = r * r
    sine, cosine = SINE[0], COSINE[0]
    for i in range(1, len(SINE)):
        sine, cosine = sine * z + SINE[i], cosine * z + COSINE[i]
    sine *= r
    q = int(quarter) & 3
    if q == 0:
        return sine, cosine
    if q == 1:
        return cosine, -sine
    if q == 2:
        return -sine, -cosine
    return -cosine, sine


@njit(cache=True, nogil=True)
def _arctan(t):
    """As ``exact.arctan``."""
    for _ in range(3):
        t = t / (1.0 + np.sqrt(1.0 + t * t))
    z = t * t
    value = 1.0 / 21.0
    for k in range(19, 0, -2):
        value = 1.0 / k - value * z
    return 8.0 * value * t


@njit(cache=True, nogil=True)
def on_line(line, s, i):
    """Returns x, y, yaw, curvature at arclength s, and the row before it (``lines.Line.at``; i is a guess of that row)."""
    last = line.shape[1] - 2
    i = min(max(i, 0), last)
    while i < last and line[0, i + 1] <= s:
        i += 1
    while i > 0 and line[0, i] > s:
        i -= 1
    beyond = min(s - line[0, 0], 0.0) + max(s - line[0, last + 1], 0.0)
    step = line[0, i + 1] - line[0, i]
    u = (s - line[0, i] - beyond) / step
    h01 = u * u * (3.0 - 2.0 * u)
    h10, h11 = u * (1.0 - u) * (1.0 - u) * step, u * u * (u - 1.0) * step
    end = 0 if beyond < 0.0 else last + 1
    x = line[1, i] + h01 * (line[1, i + 1] - line[1, i]) + h10 * line[6, i] + h11 * line[6, i + 1] + beyond * line[6, end]
    y = line[2, i] + h01 * (line[2, i + 1] - line[2, i]) + h10 * line[5, i] + h11 * line[5, i + 1] + beyond * line[5, end]
    yaw = line[3, i] + u * (line[3, i + 1] - line[3, i])
    curvature = line[4, i] + u * (line[4, i + 1] - line[4, i]) if beyond == 0.0 else 0.0
    return x, y, yaw, curvature, i


@njit(cache=True, nogil=True)
def _offset(s, moves, waves):
    """Returns (offset to the left [m], slope): quintic moves (metres, from arclength, over metres) and waves (see ``Vehicle``)."""
    left = slope = 0.0
    for m in range(moves.shape[0]):
        if moves[m, 2] > 0.0:
            u = min(max((s - moves[m, 1]) / moves[m, 2], 0.0), 1.0)
            left += moves[m, 0] * (u * u * u * (10.0 + u * (6.0 * u - 15.0)))
            slope += moves[m, 0] / moves[m, 2] * (30.0 * u * u * (1.0 - u) * (1.0 - u))
    for m in range(waves.shape[0]):
        if waves[m, 1] > 0.0:
            rate = 6.283185307179586 / waves[m, 1]
            sine, cosine = _turn(rate * s + waves[m, 2])
            left, slope = left + waves[m, 0] * sine, slope + waves[m, 0] * rate * cosine
    return left, slope


@njit(cache=True, nogil=True)
def place(points, offsets, path, s, v, moves, waves, axle, state, turn):
    """Writes the boxes of vehicles whose rear axles follow paths.

    Args:
        points: (7, points) arclength, x, y, yaw, curvature, sine, cosine of all paths, one after another.
        offsets: (paths + 1,) where each begins.
        path: (vehicles,) row of the path.
        s, v: (vehicles, steps) arclength [m], speed [m/s] along the path.
        moves, waves: (vehicles, n, 3) lateral motion, see ``_offset``; rows of zeros do nothing.
        axle: (vehicles,) from the rear axle to the centre of the box [m].
        state: (vehicles, steps, 5) written: x, y [m], yaw [rad], vx, vy [m/s] of the centre.
        turn: (vehicles, steps, 2) written: cos, sin of the yaw.
    """
    count, steps = s.shape
    for i in range(count):
        line = points[:, offsets[path[i]] : offsets[path[i] + 1]]
        row = 0
        for k in range(steps):
            x, y, yaw, curvature, row = on_line(line, s[i, k], row)
            left, slope = _offset(s[i, k], moves[i], waves[i])
            sine, cosine = _turn(yaw)
            stretch = 1.0 - curvature * left
            heading = yaw + _arctan(slope / stretch)
            x, y = x - left * sine, y + left * cosine
            sine, cosine = _turn(heading)
            state[i, k, 0], state[i, k, 1], state[i, k, 2] = x + axle[i] * cosine, y + axle[i] * sine, heading
            state[i, k, 3] = v[i, k] * np.sqrt(stretch * stretch + slope * slope)
            turn[i, k, 0], turn[i, k, 1] = cosine, sine
        for k in range(steps):
            a, b = (k - 1, k + 1) if 0 < k < steps - 1 else ((0, 2) if k == 0 else (steps - 3, steps - 1))
            rate = axle[i] * (state[i, b, 2] - state[i, a, 2]) / (2.0 * STEP)
            speed = state[i, k, 3]
            state[i, k, 3] = speed * turn[i, k, 0] - rate * turn[i, k, 1]
            state[i, k, 4] = speed * turn[i, k, 1] + rate * turn[i, k, 0]


@njit(cache=True, nogil=True)
def place_walkers(xy, yaw, state, turn):
    """Writes the boxes of what is given by positions (agents, steps, 2) [m] and yaw (agents, steps) [rad]; see ``place``."""
    count, steps = yaw.shape
    for i in range(count):
        for k in range(steps):
            sine, cosine = _turn(yaw[i, k])
            last, following = max(k - 1, 0), max(k, 1)
            state[i, k, 0], state[i, k, 1], state[i, k, 2] = xy[i, k, 0], xy[i, k, 1], yaw[i, k]
            state[i, k, 3] = (xy[i, following, 0] - xy[i, last, 0]) / STEP
            state[i, k, 4] = (xy[i, following, 1] - xy[i, last, 1]) / STEP
            turn[i, k, 0], turn[i, k, 1] = cosine, sine


@njit(cache=True, nogil=True)
def speed_limits(line, lateral_acceleration, braking, limit):
    """Writes (metres,) the speed [m/s] that the bends of a path (7, points) allow at each metre, with braking before them."""
    row = 0
    for m in range(len(limit)):
        _, _, _, curvature, row = on_line(line, min(float(m), line[0, -1]), row)
        limit[m] = lateral_acceleration / max(abs(curvature), 1e-4)
    for m in range(len(limit) - 2, -1, -1):
        limit[m] = min(limit[m], limit[m + 1] + 2.0 * braking)
    for m in range(len(limit)):
        limit[m] = np.sqrt(limit[m])
