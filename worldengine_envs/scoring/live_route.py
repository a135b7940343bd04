"""Progress along the route of a compiled scenario."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from worldengine_envs.simulation.geometry import project_on_polyline_window


@njit(cache=True, nogil=True)
def project_on_route(bank, s, hint, x, y):
    """Nearest point of scenario ``s``'s route; the first one where several are equally near.

    Args:
        bank: The compiled scenarios.
        s: Row of the scenario.
        hint: A segment near the answer; any answer is the same, a good one is found sooner.
        x, y: The point [m].

    Returns:
        Arclength of the nearest point [m], row of its segment.
    """
    first = bank.route_start[s]
    last = bank.route_count[s] - 1
    xy, at = bank.route[first : first + last + 1], bank.route_s[first : first + last + 1]
    low, high = max(hint - 2, 0), min(hint + 4, last)
    _, offset, _ = project_on_polyline_window(xy, at, low, high, x, y)
    limit = abs(offset) * (1.0 + 1e-9) + 1e-9
    best, best_s, best_row = math.inf, 0.0, np.int32(hint)
    i = 0
    while i < last:
        dx, dy = x - xy[i, 0], y - xy[i, 1]
        clear = at[i] + math.sqrt(dx * dx + dy * dy) - limit  # nothing nearer than the limit lies before this arclength
        if clear > at[i + 1]:
            i = np.searchsorted(at, clear, side="right") - 1
            if i >= last:
                break
            continue
        s_i, offset_i, _ = project_on_polyline_window(xy, at, i, i + 1, x, y)
        if abs(offset_i) < best:
            best, best_s, best_row = abs(offset_i), s_i, np.int32(i)
        i += 1
    return best_s, best_row
