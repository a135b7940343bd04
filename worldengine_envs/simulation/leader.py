"""What an agent must brake for on its own path: whoever is in the corridor ahead, and lights."""

from __future__ import annotations

import math

from numba import njit

from worldengine_envs.scenario.types import LightState
from worldengine_envs.simulation.idm import B_COMFORT, B_MAX

STOPPED_BEYOND_M = 1.5  # an agent whose front stands at most this far over a stop line still waits at it
RED, YELLOW = int(LightState.RED), int(LightState.YELLOW)


@njit(cache=True, nogil=True)
def path_row(position, spacing, count):
    """Returns the point of a path before an arclength and the fraction of the way to the next one."""
    at = position / spacing
    i = min(max(int(at), 0), count - 2)
    return i, at - i


@njit(cache=True, nogil=True)
def light_gap(stops, start, count, light_state, lights, p, front, speed):
    """Returns the distance from an agent's front to the stop line that it must keep to [m], infinity if there is none.

    A red line counts if the agent can stop by full braking, a yellow one if comfortable braking is enough.
    """
    for i in range(start, start + count):
        gap = stops[i].s - front
        room = gap + STOPPED_BEYOND_M
        if room < 0.0:
            continue
        state = light_state[lights + stops[i].light]
        if (state == RED and speed * speed <= 2.0 * p[B_MAX] * room) or (
            state == YELLOW and speed * speed <= 2.0 * p[B_COMFORT] * room
        ):
            return gap
    return math.inf


@njit(cache=True, nogil=True)
def find_leader(agents, sizes, present, n, me, path, record, position, reach, half_corridor):
    """Finds the nearest agent whose box reaches into the corridor along a path.

    Boxes far from the stretch ahead are rejected by one circle around it. For the others the path is walked by steps that cannot
    pass the box: whoever is D metres away at arclength s cannot touch the corridor before s + D - (its radius + half the corridor).

    Args:
        agents: (A, 8) x, y, yaw, vx, vy, speed, cos, sin of box centres; sizes (A, 2) length, width; present (A,).
        n: Number of agents; me: the row that looks.
        path, record: (rows, 4) points of all paths, and which of them are this agent's (bank.AGENT).
        position, reach: Its arclength, and how far it looks along its path [m].
        half_corridor: Half its width and the margin [m].

    Returns:
        Gap between the boxes along the path [m], infinity if nobody is there; the leader's speed along the path [m/s].
    """
    best, best_speed = math.inf, 0.0
    half_length = 0.5 * sizes[me, 0]
    first, count, spacing = record.path_start, record.path_count, record.path_ds
    i, t = path_row(position + 0.5 * reach, spacing, count)
    mx = path[first + i, 0] + t * (path[first + i + 1, 0] - path[first + i, 0])
    my = path[first + i, 1] + t * (path[first + i + 1, 1] - path[first + i, 1])
    bound = 0.5 * reach + half_corridor
    for j in range(n):
        dx, dy = agents[j, 0] - mx, agents[j, 1] - my
        limit = bound + 0.5 * (sizes[j, 0] + sizes[j, 1])
        if dx * dx + dy * dy > limit * limit or not present[j] or j == me:
            continue
        hl, hw = 0.5 * sizes[j, 0], 0.5 * sizes[j, 1]
        radius = math.sqrt(hl * hl + hw * hw)
        ahead = min(reach, best + half_length + radius)
        gap, speed = _gap_to(agents[j], hl, hw, radius, path, first, count, spacing, position, ahead, half_corridor)
        if gap - half_length < best:
            best, best_speed = gap - half_length, speed
    return best, best_speed


@njit(cache=True, nogil=True)
def _gap_to(other, hl, hw, radius, path, first, count, spacing, position, reach, half_corridor):
    """Returns the way along the path to the near side of a box in the corridor (infinity: none) and its speed along the path."""
    s, end = position, position + reach
    near = radius + half_corridor
    while s <= end:
        i, t = path_row(s, spacing, count)
        ux, uy = path[first + i + 1, 0] - path[first + i, 0], path[first + i + 1, 1] - path[first + i, 1]
        dx, dy = other[0] - path[first + i, 0] - t * ux, other[1] - path[first + i, 1] - t * uy
        d2 = dx * dx + dy * dy
        if d2 > near * near:
            s += max(math.sqrt(d2) - near, 0.1)
            continue
        ux, uy = ux / spacing, uy / spacing
        along = dx * ux + dy * uy
        if along > 0.5 * spacing:  # its centre is further on: look from there
            s += along
            continue
        if s + along > position:
            cos, sin = abs(other[6] * ux + other[7] * uy), abs(other[7] * ux - other[6] * uy)
            if abs(dy * ux - dx * uy) <= half_corridor + hl * sin + hw * cos:
                return s + along - hl * cos - hw * sin - position, other[3] * ux + other[4] * uy
        s += 1.0
    return math.inf, 0.0
