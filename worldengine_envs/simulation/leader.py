"""What an agent must brake for on its own path: whoever is in the corridor ahead, and lights."""

from __future__ import annotations

import math

from worldengine_envs.scenario.types import LightState
from worldengine_envs.simulation.idm import B_COMFORT, B_MAX
from worldengine_envs.simulation.kernels import kernel

STOPPED_BEYOND_M = 1.5  # an agent whose front stands at most this far over a stop line still waits at it
JOINT_M = 0.5  # straight pieces of a path reach this far beyond their ends, so that no box hides in the wedge between two [m]
RED, YELLOW = int(LightState.RED), int(LightState.YELLOW)


@kernel
def path_row(position, spacing, count):
    """Returns the point of a path before an arclength and the fraction of the way to the next one."""
    at = position / spacing
    i = min(max(int(at), 0), count - 2)
    return i, at - i


@kernel
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


@kernel
def gather_present(agents, sizes, present, n, crowd):
    """Writes x, y, half length + half width [m], row of everyone present to ``crowd`` (A, 4) and returns how many there are."""
    count = 0
    for j in range(n):
        if present[j]:
            crowd[count, 0], crowd[count, 1] = agents[j, 0], agents[j, 1]
            crowd[count, 2], crowd[count, 3] = 0.5 * (sizes[j, 0] + sizes[j, 1]), j
            count += 1
    return count


@kernel
def find_leader(agents, sizes, crowd, me, path, segments, record, position, segment, reach, half_corridor):
    """Finds the nearest agent whose box reaches into the corridor along a path.

    Boxes far from the stretch ahead are rejected by one circle around it, others are compared with its straight pieces.

    Args:
        agents: (A, 8) x, y, yaw, vx, vy, speed, cos, sin of box centres; sizes (A, 2) length, width.
        crowd: (count, 4) x, y, half length + half width, row of everyone present (see ``gather_present``); me: the row that looks.
        path, segments, record: All paths by points and by straight pieces, and which of them are this agent's (bank.AGENT).
        position, segment, reach: Its arclength, the piece that it is on, and how far it looks along its path [m].
        half_corridor: Half its width and the margin [m].

    Returns:
        Gap between the boxes along the path [m], infinity if nobody is there; the leader's speed along the path [m/s].
    """
    best, best_speed = math.inf, 0.0
    half_length = 0.5 * sizes[me, 0]
    i, t = path_row(position + 0.5 * reach, record.path_ds, record.path_count)
    i += record.path_start
    mx, my = path[i, 0] + t * (path[i + 1, 0] - path[i, 0]), path[i, 1] + t * (path[i + 1, 1] - path[i, 1])
    bound = 0.5 * reach + half_corridor
    first, last = record.segment_start + segment, record.segment_start + record.segment_count
    for c in range(len(crowd)):
        dx, dy, limit = crowd[c, 0] - mx, crowd[c, 1] - my, bound + crowd[c, 2]
        if dx * dx + dy * dy > limit * limit:
            continue
        j = int(crowd[c, 3])
        if j == me:
            continue
        end = position + min(reach, best + half_length) + 0.5 * sizes[j, 0]
        way, speed = _way_to(agents[j], sizes[j], segments, first, last, position, end, half_corridor)
        if way - half_length < best:
            best, best_speed = way - half_length, speed
    return best, best_speed


@kernel
def _way_to(other, size, segments, first, last, position, end, half_corridor):
    """Returns the way along the path to the near side of a box in the corridor (infinity: none) and its speed along the path."""
    half_length, half_width = 0.5 * size[0], 0.5 * size[1]
    for i in range(first, last):
        if segments[i, 4] > end:
            break
        ux, uy = segments[i, 2], segments[i, 3]
        dx, dy = other[0] - segments[i, 0], other[1] - segments[i, 1]
        along, aside = dx * ux + dy * uy, abs(dy * ux - dx * uy)
        if along < -JOINT_M or along > segments[i, 5] + JOINT_M or aside > half_corridor + half_length + half_width:
            continue
        s = segments[i, 4] + along
        if s <= position or s > end:
            continue
        cos, sin = abs(other[6] * ux + other[7] * uy), abs(other[7] * ux - other[6] * uy)
        if aside <= half_corridor + half_length * sin + half_width * cos:
            return s - half_length * cos - half_width * sin - position, other[3] * ux + other[4] * uy
    return math.inf, 0.0
