"""Paths for IDM agents: the logged path, then lane successors of the map, as points at equal spacing.

A path is x, y [m], yaw [rad, unwrapped], desired speed [m/s]. Its yaw is the logged one along the log (so reversing cars keep
facing backwards) and the lane's direction beyond it. Where the log ends beside a lane's centreline, a cubic curve leads from the
logged pose onto it, so that neither position nor direction jumps.

Desired speed: the 95th percentile of the agent's logged speeds; beyond the log no more than the lane's limit; everywhere no more
than a comfortable cornering speed (unless the log was faster there).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from worldengine_envs.scenario.types import AgentType, VectorMap
from worldengine_envs.simulation.idm import MAX_LOOK_AHEAD, PARAMETERS, IDMParameters
from worldengine_envs.simulation.kernels import allocating_kernel, kernel

MIN_DESIRED_SPEED = 0.5  # [m/s]


@dataclass(frozen=True, slots=True)
class PathSettings:
    """How paths are made."""

    speed_percentile: float = 95.0  # logged speeds above are taken for noise, and so are positions of parked agents
    min_move: float = 0.3  # logged points closer than this to the last kept one are dropped: standing tracks jitter [m]
    max_lane_offset: float = 1.5  # a log that ends further from every centreline has left the road: it stops and stays [m]
    max_lane_angle: float = math.radians(30.0)
    merge_length: float = 15.0  # the curve from the log's end onto the centreline [m]
    lateral_acceleration: float = 2.5  # bound for cornering [m/s2]
    max_extension: float = 400.0  # longest way on lanes beyond the log [m]
    straight_tolerance: float = 0.1  # straight pieces stay this near to the path [m]


SETTINGS = PathSettings()


@dataclass(frozen=True, slots=True)
class AgentPath:
    """The path of one agent."""

    points: np.ndarray  # (points, 4) float64: x, y [m], yaw [rad, unwrapped], desired speed [m/s]
    spacing: float  # [m]
    s_at_step: np.ndarray  # (steps,) float64 arclength by step of the recording [m], NaN where the agent is not valid


@kernel
def mark_moving(xy, min_move, keep):
    """Marks the points that are at least ``min_move`` from the last marked one."""
    last = 0
    keep[0] = True
    for i in range(1, len(xy)):
        dx, dy = xy[i, 0] - xy[last, 0], xy[i, 1] - xy[last, 1]
        if dx * dx + dy * dy >= min_move * min_move:
            keep[i] = True
            last = i


@kernel
def nearest_lane(centerline, offsets, x, y, yaw, max_offset, max_angle):
    """Returns lane row (-1 = none) and segment of the centreline nearest to a pose; 1 rad weighs as much as 4 m."""
    best, best_lane, best_segment = math.inf, -1, -1
    for lane in range(len(offsets) - 1):
        for i in range(offsets[lane], offsets[lane + 1] - 1):
            ux, uy = centerline[i + 1, 0] - centerline[i, 0], centerline[i + 1, 1] - centerline[i, 1]
            vx, vy = x - centerline[i, 0], y - centerline[i, 1]
            length2 = ux * ux + uy * uy
            if length2 == 0.0:
                continue
            t = min(max((vx * ux + vy * uy) / length2, 0.0), 1.0)
            ex, ey = vx - t * ux, vy - t * uy
            d2 = ex * ex + ey * ey
            if d2 > max_offset * max_offset:
                continue
            angle = abs((math.atan2(uy, ux) - yaw + math.pi) % (2.0 * math.pi) - math.pi)
            cost = math.sqrt(d2) + 4.0 * angle
            if angle <= max_angle and cost < best:
                best, best_lane, best_segment = cost, lane, i
    return best_lane, best_segment


@allocating_kernel
def percentile(values, percent):
    """Returns a percentile of values (n,), between two of them by linear interpolation: ``numpy.percentile`` in less time."""
    ordered = np.sort(values)
    place = (len(ordered) - 1) * (percent / 100.0)
    low = min(int(place), len(ordered) - 1)
    high, t = min(low + 1, len(ordered) - 1), place - low
    change = ordered[high] - ordered[low]
    return ordered[high] - change * (1.0 - t) if t >= 0.5 else ordered[low] + change * t


def is_static(xy: np.ndarray, kind: int) -> bool:
    """Whether logged positions (steps, 2) stay in one place (parked, or standing throughout), a few wild ones apart."""
    middle = np.array([percentile(xy[:, 0], 50.0), percentile(xy[:, 1], 50.0)])
    away = np.hypot(*(xy - middle).T)
    return bool(percentile(away, SETTINGS.speed_percentile) < PARAMETERS[kind].static_displacement)


def build_path(log: np.ndarray, valid: np.ndarray, kind: int, vector_map: VectorMap, horizon_s: float) -> AgentPath:
    """Builds the path of one moving agent.

    Args:
        log: (steps, 10) its rows of the time-major log, see ``recordings``.
        valid: (steps,) bool.
        kind: AgentType of the agent: VEHICLE, PEDESTRIAN or BICYCLE.
        vector_map: Where it goes on behind the log; pedestrians do not.
        horizon_s: Time for which the way on lanes must suffice [s].
    """
    p = PARAMETERS[kind]
    steps = np.flatnonzero(valid)
    keep = np.zeros(len(steps), np.bool_)
    mark_moving(log[steps, :2], min(SETTINGS.min_move, p.static_displacement / 2), keep)
    kept = steps[keep]
    xy, yaw = log[kept, :2], np.unwrap(log[kept, 2])
    speed = log[steps, 5]
    desired = max(percentile(speed, SETTINGS.speed_percentile), MIN_DESIRED_SPEED)
    floor = log[kept, 5]
    cap = np.full(len(kept), desired)
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
    s_at_step = _s_at_steps(log, steps, kept, xy, s)
    if kind != AgentType.PEDESTRIAN:
        length = min(desired * horizon_s + MAX_LOOK_AHEAD, SETTINGS.max_extension)
        beyond = _extension(vector_map, xy[-1], float(yaw[-1]), length)
        if beyond is not None:
            xy = np.concatenate([xy, beyond[:, :2]])
            yaw = np.concatenate([yaw, yaw[-1] + (beyond[:, 2] - yaw[-1] + np.pi) % (2 * np.pi) - np.pi])
            yaw[len(kept) :] = np.unwrap(np.concatenate([yaw[len(kept) - 1 : len(kept)], yaw[len(kept) :]]))[1:]
            cap = np.concatenate([cap, np.fmax(np.fmin(beyond[:, 3], desired), MIN_DESIRED_SPEED)])
            floor = np.concatenate([floor, np.zeros(len(beyond))])
    return _resample(xy, yaw, cap, floor, s_at_step, p, kind)


def _s_at_steps(log, steps, kept, xy, s) -> np.ndarray:
    """Arclength of the logged position at each step: its projection on the segment between the kept points around the step."""
    out = np.full(len(log), np.nan)
    segment = np.clip(np.searchsorted(kept, steps, side="right") - 1, 0, len(kept) - 2)
    along = xy[segment + 1] - xy[segment]
    length = s[segment + 1] - s[segment]
    t = np.einsum("ij,ij->i", log[steps, :2] - xy[segment], along) / length**2
    out[steps] = s[segment] + np.clip(t, 0.0, 1.0) * length
    return out


def _resample(xy, yaw, cap, floor, s_at_step, p: IDMParameters, kind: int) -> AgentPath:
    """Puts points at equal spacing, smooths their yaw and bounds the desired speed by curvature."""
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
    count = max(math.ceil(s[-1] / p.path_spacing), 1) + 1
    spacing = s[-1] / (count - 1)
    at = np.linspace(0.0, s[-1], count)
    points = np.stack([np.interp(at, s, column) for column in (xy[:, 0], xy[:, 1], yaw, cap)], axis=1)
    padded = np.pad(points[:, 2], 1, mode="edge")
    points[:, 2] = 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]
    if kind != AgentType.PEDESTRIAN:
        cornering = np.fmax(_cornering_speed(points[:, :2], spacing, p), np.interp(at, s, floor))
        points[:, 3] = np.fmax(np.fmin(points[:, 3], cornering), MIN_DESIRED_SPEED)
    return AgentPath(points, spacing, s_at_step)


@kernel
def brake_in_time(speed, change):
    """Bounds speeds by point so that their squares fall by no more than ``change`` from one to the next."""
    for i in range(len(speed) - 2, -1, -1):
        speed[i] = min(speed[i], math.sqrt(speed[i + 1] ** 2 + change))


def _cornering_speed(xy: np.ndarray, spacing: float, p: IDMParameters) -> np.ndarray:
    """Speed [m/s] by point that keeps lateral acceleration in bounds and can be reached by comfortable braking."""
    window = max(round(3.0 / spacing), 1)  # direction over 3 m: logged points jitter
    index = np.arange(len(xy))
    before, after = np.maximum(index - window, 0), np.minimum(index + window, len(xy) - 1)
    into, out_of = xy - xy[before], xy[after] - xy
    turn = np.abs(np.arctan2(into[:, 0] * out_of[:, 1] - into[:, 1] * out_of[:, 0], np.einsum("ij,ij->i", into, out_of)))
    curvature = turn / (window * spacing)
    speed = np.sqrt(SETTINGS.lateral_acceleration / np.fmax(curvature, 1e-6))
    brake_in_time(speed, 2.0 * p.comfortable_deceleration * spacing)
    return speed


def _extension(vector_map: VectorMap, end: np.ndarray, yaw: float, length: float) -> np.ndarray | None:
    """Way on lanes from the log's last pose: (points, 4) x, y, yaw, speed limit; None where no lane fits."""
    lane, segment = nearest_lane(
        vector_map.centerline, vector_map.centerline_offsets, end[0], end[1], yaw, SETTINGS.max_lane_offset, SETTINGS.max_lane_angle
    )
    if lane < 0:
        return None
    xy, limit = _lane_chain(vector_map, lane, segment, length + SETTINGS.merge_length)
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
    start = _project(xy, s, end)
    if s[-1] - start < 1.0:
        return None
    stop = min(s[-1], start + length)
    at = np.linspace(start, stop, max(math.ceil(stop - start), 2) + 1)
    x, y, limits = (np.interp(at, s, column) for column in (xy[:, 0], xy[:, 1], limit))
    heading = np.unwrap(np.arctan2(np.gradient(y, at), np.gradient(x, at)))
    merge = min(SETTINGS.merge_length, at[-1] - start)
    points = np.stack([x, y, heading, limits], axis=1)
    return _merge(points, at - start, end, yaw, merge)[1:]


def _lane_chain(vector_map: VectorMap, lane: int, segment: int, length: float) -> tuple[np.ndarray, np.ndarray]:
    """Centreline from ``segment`` of ``lane`` on through the straightest successors: (points, 2), limit by point (points,)."""
    parts, limits, total, first = [], [], 0.0, segment - vector_map.centerline_offsets[lane]
    while True:
        xy = vector_map.lane_centerline(lane)[first:]
        parts.append(xy)
        limits.append(np.full(len(xy), np.nan_to_num(vector_map.lane_speed_limit[lane], nan=np.inf)))
        total += float(np.hypot(*np.diff(xy, axis=0).T).sum())
        followers = vector_map.lane_successors(lane)
        if total >= length or len(followers) == 0 or len(parts) > 200:
            break
        heading = _end_heading(vector_map.lane_centerline(lane))
        turns = [abs(math.remainder(_end_heading(vector_map.lane_centerline(f)) - heading, 2 * math.pi)) for f in followers]
        lane, first = int(followers[int(np.argmin(turns))]), 0
    xy, limit = np.concatenate(parts), np.concatenate(limits)
    distinct = np.append(True, np.hypot(*np.diff(xy, axis=0).T) > 1e-6)
    return xy[distinct], limit[distinct]


def _end_heading(xy: np.ndarray) -> float:
    """Direction of a centreline's last piece [rad]."""
    dx, dy = xy[-1] - xy[max(len(xy) - 3, 0)]
    return math.atan2(dy, dx)


def _project(xy: np.ndarray, s: np.ndarray, point: np.ndarray) -> float:
    """Arclength of a point's projection on the first metres of a polyline."""
    near = max(int(np.searchsorted(s, 20.0)), 1)
    a, b = xy[:near], xy[1 : near + 1]
    a = a[: len(b)]
    ab = b - a
    t = np.clip(np.einsum("ij,ij->i", point - a, ab) / np.einsum("ij,ij->i", ab, ab), 0.0, 1.0)
    i = int(np.argmin(np.hypot(*(a + t[:, None] * ab - point).T)))
    return float(s[i] + t[i] * np.hypot(*ab[i]))


def _merge(points: np.ndarray, s: np.ndarray, end: np.ndarray, yaw: float, length: float) -> np.ndarray:
    """Bends the first ``length`` metres: the lateral offset and the heading difference of the log's end fade out smoothly."""
    normal = np.array([-math.sin(points[0, 2]), math.cos(points[0, 2])])
    offset = float((end - points[0, :2]) @ normal)
    slope = math.tan(math.remainder(yaw - points[0, 2], 2 * math.pi))
    t = np.clip(s / length, 0.0, 1.0)
    h0, h1 = (1 + 2 * t) * (1 - t) ** 2, t * (1 - t) ** 2  # cubic Hermite: value and slope at 0, both 0 at 1
    d = offset * h0 + slope * length * h1
    d_slope = (offset * (6 * t * t - 6 * t) + slope * length * (1 - t) * (1 - 3 * t)) / length
    merged = points.copy()
    merged[:, 0] -= np.sin(points[:, 2]) * d
    merged[:, 1] += np.cos(points[:, 2]) * d
    merged[:, 2] += np.where(s < length, np.arctan(d_slope), 0.0)
    return merged


@kernel
def straight_ends(points, tolerance, ends):
    """Writes the points at which straight pieces end to ``ends`` and returns their number: greedy, each as long as it can be."""
    count, start, last = 0, 0, len(points) - 1
    while start < last:
        end = start + 1
        while end < last:
            dx, dy = points[end + 1, 0] - points[start, 0], points[end + 1, 1] - points[start, 1]
            length = math.sqrt(dx * dx + dy * dy)
            straight = length > 0.9 * (end + 1 - start) * math.sqrt(
                (points[1, 0] - points[0, 0]) ** 2 + (points[1, 1] - points[0, 1]) ** 2
            )
            for i in range(start + 1, end + 1):
                ex, ey = points[i, 0] - points[start, 0], points[i, 1] - points[start, 1]
                straight = straight and abs(dx * ey - dy * ex) <= tolerance * length
            if not straight:
                break
            end += 1
        ends[count] = end
        count += 1
        start = end
    return count


def straight_segments(points: np.ndarray, spacing: float) -> np.ndarray:
    """Returns a path's points (points, 4) as few straight pieces: (pieces, 6) x, y, direction x, y, arclength, length."""
    ends = np.zeros(len(points), np.int64)
    ends = np.concatenate([[0], ends[: straight_ends(points, SETTINGS.straight_tolerance, ends)]])
    start, along = points[ends[:-1], :2], np.diff(points[ends, :2], axis=0)
    length = np.hypot(along[:, 0], along[:, 1])
    return np.column_stack([start, along / np.fmax(length, 1e-9)[:, None], spacing * ends[:-1], length])
