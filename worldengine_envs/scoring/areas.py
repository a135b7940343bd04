"""Where a box lies on the map: off the road, in several lanes, on the route (rule 5 of the PDM Score)."""

from __future__ import annotations

import numpy as np

from worldengine_envs.simulation.kernels import inlined_kernel, kernel
from worldengine_envs.simulation.map_index import DRIVABLE, LANES, MAX_LANES_AT_POINT, find_group, group_in_layers, in_entry

ALL_CORNERS = 0b1111


def make_lane_scratch() -> np.ndarray:
    """Returns room for ``in_multiple_lanes``."""
    return np.zeros((2, 4 * MAX_LANES_AT_POINT), np.int32)


@inlined_kernel
def first_corner_off_road(index, m, corners):
    """Returns the first of the corners (4, 2) that lies in no drivable polygon of map ``m``, -1 if there is none.

    Each corner may lie in another polygon. Lanes do not count, roadblocks, intersections, car parks and drivable areas do.
    """
    for i in range(4):
        x, y = corners[i, 0], corners[i, 1]
        group = find_group(index, m, x, y)
        if group < 0 or not group_in_layers(index, m, group, DRIVABLE, x, y):
            return i
    return -1


@kernel
def in_multiple_lanes(index, m, corners, scratch):
    """Whether more than one lane or connector holds a corner of a box and none holds all four.

    Args:
        index, m: Map index and number of the map.
        corners: (4, 2) x, y [m].
        scratch: From ``make_lane_scratch``, overwritten.
    """
    count = 0
    rows, held = scratch[0], scratch[1]
    for i in range(4):
        x, y = corners[i, 0], corners[i, 1]
        group = find_group(index, m, x, y)
        if group < 0 or not (index.groups[group].whole | index.groups[group].part) & LANES:
            continue
        for entry in range(index.groups[group].entry, index.groups[group + 1].entry):
            if not (1 << index.entries[entry].layer) & LANES or not in_entry(index, m, entry, x, y):
                continue
            polygon = index.entries[entry].polygon
            slot = 0
            while slot < count and rows[slot] != polygon:
                slot += 1
            if slot == count:
                if count == len(rows):
                    continue
                rows[slot], held[slot] = polygon, 0
                count += 1
            held[slot] |= 1 << i
            if held[slot] == ALL_CORNERS:
                return False
    return count > 1
