"""Progress along one of many routes."""

from __future__ import annotations

import math

import numpy as np

from worldengine_envs.simulation.geometry import project_on_polyline_window
from worldengine_envs.simulation.kernels import kernel


@kernel
def project_on_route(route, route_s, first, count, hint, x, y):
    """Nearest point of a route; the first one where several are equally near.

    Args:
        route: (rows, 2 or more) x, y [m] of all routes.
        route_s: (rows,) arclength [m].
        first, count: Rows of the route.
        hint: A segment near the answer; any answer is the same, a good one is found sooner.
        x, y: The point [m].

    Returns:
        Arclength of the nearest point [m], number of its segment in the route.
    """
    last = count - 1
    xy, at = route[first : first + count], route_s[first : first + count]
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
