"""Where the corners of the ego's box are on the map."""

from __future__ import annotations

from numba import njit

from worldengine_envs.simulation.map_index import is_drivable, lanes_at


@njit(cache=True, nogil=True)
def off_road_corner(index, m, corners):
    """Returns the first of the four corners (4, 2) that no drivable polygon holds, -1 if there is none."""
    for i in range(4):
        if not is_drivable(index, m, corners[i, 0], corners[i, 1]):
            return i
    return -1


@njit(cache=True, nogil=True)
def in_multiple_lanes(index, m, corners, lanes):
    """Whether more than one lane holds a corner and none holds all four; ``lanes`` (4, n) int32 is overwritten."""
    n0, n1 = lanes_at(index, m, corners[0, 0], corners[0, 1], lanes[0]), lanes_at(index, m, corners[1, 0], corners[1, 1], lanes[1])
    n2, n3 = lanes_at(index, m, corners[2, 0], corners[2, 1], lanes[2]), lanes_at(index, m, corners[3, 0], corners[3, 1], lanes[3])
    counts = (n0, n1, n2, n3)
    for i in range(n0):
        lane = lanes[0, i]
        if _holds(lanes[1], n1, lane) and _holds(lanes[2], n2, lane) and _holds(lanes[3], n3, lane):
            return False
    first = -1
    for corner in range(4):
        for i in range(counts[corner]):
            if first < 0:
                first = lanes[corner, i]
            elif lanes[corner, i] != first:
                return True
    return False


@njit(cache=True, nogil=True)
def _holds(row, count, lane):
    for i in range(count):
        if row[i] == lane:
            return True
    return False
