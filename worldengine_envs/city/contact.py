"""The ego's box against the actors and the edge of the road (numba)."""

from __future__ import annotations

import numpy as np
from numba import njit

from worldengine_envs.city.driving import STEP, boxes_touch

LENGTH, WIDTH, AXLE_TO_CENTER, FRONT_OVERHANG = 5.176, 2.297, 1.461, 4.049


@njit(cache=True, nogil=True)
def straight_on(x, y, c, n, v, start, steps, agents, still):
    """Returns (agent, step) of the first contact at fault of an ego that goes straight on from step ``start``, else (-1, -1).

    As in the score, contact counts with the ego's front, or with somebody who stands; who runs into the ego's side or rear is left
    out of account from then on.

    Args:
        x, y, c, n, v: Rear axle [m], cos and sin of the yaw, speed [m/s].
        start, steps: First step, and how many to go on.
        agents: (agents, steps, 6) x, y, cos, sin, length, width.
        still: (agents, steps) bool, stands.
    """
    count = agents.shape[0]
    aside = np.zeros(count, dtype=np.bool_)
    for k in range(start, min(start + steps + 1, agents.shape[1])):
        ahead = STEP * (k - start) * v
        cx, cy = x + (AXLE_TO_CENTER + ahead) * c, y + (AXLE_TO_CENTER + ahead) * n
        fx, fy = x + (FRONT_OVERHANG + ahead) * c, y + (FRONT_OVERHANG + ahead) * n
        for i in range(count):
            b = agents[i, k]
            reach = 3.0 + 0.5 * (b[4] + b[5])
            if aside[i] or abs(b[0] - cx) > reach or abs(b[1] - cy) > reach:
                continue
            if boxes_touch(cx, cy, c, n, LENGTH, WIDTH, b[0], b[1], b[2], b[3], b[4], b[5]):
                if still[i, k] or boxes_touch(fx, fy, c, n, 0.0, WIDTH, b[0], b[1], b[2], b[3], b[4], b[5]):
                    return i, k
                aside[i] = True
    return -1, -1


@njit(cache=True, nogil=True)
def _inside(ring, x, y):
    """Whether a point lies in a ring (points, 2), by crossings."""
    inside, j = False, len(ring) - 1
    for i in range(len(ring)):
        if (ring[i, 1] > y) != (ring[j, 1] > y):
            if x < ring[i, 0] + (y - ring[i, 1]) * (ring[j, 0] - ring[i, 0]) / (ring[j, 1] - ring[i, 1]):
                inside = not inside
        j = i
    return inside


@njit(cache=True, nogil=True)
def off_road(rings, offsets, bounds, x, y, c, n, margin):
    """Whether a corner of the ego's box lies in none of the rings.

    Args:
        rings: (points, 2) of all rings, one after another.
        offsets: (rings + 1,) where each begins.
        bounds: (rings, 4) least x, y, greatest x, y.
        x, y, c, n: Rear axle [m], cos and sin of the yaw.
        margin: Widening of the box on either side [m].
    """
    half = 0.5 * WIDTH + margin
    for ahead, left in (
        (FRONT_OVERHANG, half),
        (FRONT_OVERHANG, -half),
        (FRONT_OVERHANG - LENGTH, half),
        (FRONT_OVERHANG - LENGTH, -half),
    ):
        px, py = x + ahead * c - left * n, y + ahead * n + left * c
        held = False
        for r in range(len(bounds)):
            if bounds[r, 0] <= px <= bounds[r, 2] and bounds[r, 1] <= py <= bounds[r, 3]:
                if _inside(rings[offsets[r] : offsets[r + 1]], px, py):
                    held = True
                    break
        if not held:
            return True
    return False


@njit(cache=True, nogil=True)
def leaves_road(rings, offsets, bounds, x, y, c, n, v, steps):
    """Whether an ego that goes straight on for some steps leaves the road."""
    for k in range(0, steps + 1, 2):
        if off_road(rings, offsets, bounds, x + STEP * k * v * c, y + STEP * k * v * n, c, n, 0.0):
            return True
    return False
