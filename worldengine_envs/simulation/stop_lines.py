"""Stop lines on paths: where a path enters a lane that a traffic light governs."""

from __future__ import annotations

import math

import numpy as np

from worldengine_envs.scenario.types import VectorMap
from worldengine_envs.simulation.kernels import kernel

MAX_OFFSET_M = 2.0  # a path this near to a lane's start, and on average to its centreline, drives on that lane
MAX_ANGLE = math.radians(45.0)
SAME_LINE_M = 3.0  # lanes entered this close to one another share a stop line: only the one that fits best counts
SAMPLES = np.array([0.25, 0.5, 0.75, 1.0])  # parts of a lane's length at which a path is compared with it


def governed_lanes(vector_map: VectorMap, lanes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns start x, y, direction (lights, 3), points along the centrelines (lights, samples, 2) and lengths (lights,)."""
    start, points, length = np.zeros((len(lanes), 3)), np.zeros((len(lanes), len(SAMPLES), 2)), np.zeros(len(lanes))
    for i, lane in enumerate(lanes):
        xy = vector_map.lane_centerline(lane)
        s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
        length[i] = s[-1]
        ahead = [np.interp(min(2.0, s[-1]), s, xy[:, c]) for c in (0, 1)]
        start[i] = *xy[0], math.atan2(ahead[1] - xy[0, 1], ahead[0] - xy[0, 0])
        points[i] = np.stack([np.interp(SAMPLES * s[-1], s, xy[:, c]) for c in (0, 1)], axis=1)
    return start, points, length


@kernel
def nearest_point(path, first, x, y):
    """Returns distance [m] and row of the point of a path (points, 2 or more), from row ``first`` on, that is nearest to (x, y)."""
    best, nearest = math.inf, first
    for i in range(first, len(path)):
        distance = math.hypot(path[i, 0] - x, path[i, 1] - y)
        if distance < best:
            best, nearest = distance, i
    return best, nearest


def stop_lines(path: np.ndarray, spacing: float, lanes: tuple[np.ndarray, np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Finds the lights on a path.

    Args:
        path: (points, 4) x, y [m], yaw [rad], desired speed.
        spacing: Distance between its points [m].
        lanes: What ``governed_lanes`` returns.

    Returns:
        Arclengths of the stop lines [m], ascending, and rows of their lights.
    """
    start, points, length = lanes
    if len(start) == 0:
        return np.zeros(0), np.zeros(0, np.int32)
    low, high = path[:, :2].min(0) - MAX_OFFSET_M, path[:, :2].max(0) + MAX_OFFSET_M
    found: list[tuple[float, float, int]] = []  # arclength, misfit, light
    for light in np.flatnonzero(((start[:, :2] > low) & (start[:, :2] < high)).all(1)):
        distance, i = nearest_point(path, 0, start[light, 0], start[light, 1])
        if distance >= MAX_OFFSET_M:
            continue
        a, b = path[max(i - 1, 0), :2], path[min(i + 1, len(path) - 1), :2]
        if abs(math.remainder(math.atan2(b[1] - a[1], b[0] - a[0]) - start[light, 2], 2 * math.pi)) > MAX_ANGLE:
            continue
        direction = np.array([math.cos(start[light, 2]), math.sin(start[light, 2])])
        s = i * spacing + float((start[light, :2] - path[i, :2]) @ direction)
        reached = s + SAMPLES * length[light] <= (len(path) - 1) * spacing
        misfit = 0.0
        if reached.any():
            misfit = float(np.mean([nearest_point(path, i, x, y)[0] for x, y in points[light, reached]]))
        if misfit < MAX_OFFSET_M:
            found.append((s, misfit, int(light)))
    found.sort()
    lines: list[tuple[float, float, int]] = []
    for line in found:
        if lines and line[0] - lines[-1][0] < SAME_LINE_M:
            lines[-1] = min(lines[-1], line, key=lambda candidate: candidate[1])
        else:
            lines.append(line)
    return np.array([line[0] for line in lines]), np.array([line[2] for line in lines], np.int32)
