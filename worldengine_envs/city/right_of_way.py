"""Where paths meet: lanes that several paths share, zones in which connectors come close, and people in the way (numba)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from worldengine_envs.city.exact import sin_cos
from worldengine_envs.city.placing import on_line

CLOSE = 2.7  # between the centres of two lanes in whose zone only one car may be [m]
SAMPLES = 96  # points a connector, at most
MEETS, PARTS = 0, 1  # kinds of zones: connectors that cross or merge, and those that begin together
CAR_HALF_WIDTH = 1.05


class Ways(NamedTuple):
    """What drivers know about their paths. Lanes are numbered as they occur in the paths."""

    lanes: np.ndarray  # (paths, most) lane of each piece of a path, -1 beyond its end
    starts: np.ndarray  # (paths, most + 1) arclength where each piece begins [m], inf beyond the end
    where: np.ndarray  # (paths, lanes) arclength at which a lane begins on a path [m], inf = not on it
    rank: np.ndarray  # (lanes,) who has priority where connectors meet: higher goes first
    waits: np.ndarray  # (lanes,) bool: connectors before whose start drivers wait for a gap
    zone_of: np.ndarray  # (lanes + 1,) first zone of each lane
    zone_with: np.ndarray  # (zones,) the other lane
    zone: np.ndarray  # (zones, 4) from, to on this lane, from, to on the other [m]
    zone_kind: np.ndarray  # (zones,) MEETS or PARTS
    limit: np.ndarray  # (paths, metres) speed that bends allow [m/s]
    stop_s: np.ndarray  # (paths, stops) arclength of lines with a traffic light [m], inf = none
    stop_group: np.ndarray  # (paths, stops) row in the lights
    block_of: np.ndarray  # (paths + 1,) first row of what crosses each path
    block: np.ndarray  # (rows, 3) arclength [m], first and last step at which somebody is there


@njit(cache=True, nogil=True)
def find_zones(points, offsets, connector, before, room, zone_of, zone_with, zone, kind):
    """Finds where the centres of connectors come closer than ``CLOSE``; returns how many zones were written.

    Args:
        points: (7, points) tables of all lanes, one after another.
        offsets: (lanes + 1,) where each begins.
        connector: (lanes,) bool.
        before: (lanes,) the lane that leads into each, -1 = unknown.
        room: (lanes, SAMPLES, 2) scratch.
        zone_of, zone_with, zone, kind: As in ``Ways``, written.
    """
    count = len(connector)
    samples = np.zeros(count, np.int64)
    length = np.zeros(count)
    low, high = np.zeros((count, 2)), np.zeros((count, 2))
    for a in range(count):
        if not connector[a]:
            continue
        line = points[:, offsets[a] : offsets[a + 1]]
        length[a] = line[0, -1]
        samples[a] = min(int(length[a]) + 2, SAMPLES)
        row = 0
        for i in range(samples[a]):
            x, y, _, _, row = on_line(line, length[a] * i / (samples[a] - 1), row)
            room[a, i, 0], room[a, i, 1] = x, y
        for d in range(2):
            low[a, d] = high[a, d] = room[a, 0, d]
            for i in range(samples[a]):
                low[a, d], high[a, d] = min(low[a, d], room[a, i, d]), max(high[a, d], room[a, i, d])
    found = 0
    for a in range(count):
        zone_of[a] = found
        for b in range(count):
            if a == b or not connector[a] or not connector[b]:
                continue
            if (
                low[a, 0] > high[b, 0] + CLOSE
                or low[b, 0] > high[a, 0] + CLOSE
                or low[a, 1] > high[b, 1] + CLOSE
                or low[b, 1] > high[a, 1] + CLOSE
            ):
                continue
            first_a, last_a, first_b, last_b = samples[a], -1, samples[b], -1
            for i in range(samples[a]):
                for j in range(samples[b]):
                    dx, dy = room[a, i, 0] - room[b, j, 0], room[a, i, 1] - room[b, j, 1]
                    if dx * dx + dy * dy < CLOSE * CLOSE:
                        first_a, last_a = min(first_a, i), max(last_a, i)
                        first_b, last_b = min(first_b, j), max(last_b, j)
            if last_a < 0:
                continue
            step_a, step_b = length[a] / (samples[a] - 1), length[b] / (samples[b] - 1)
            zone_with[found] = b
            zone[found, 0], zone[found, 1] = first_a * step_a, last_a * step_a
            zone[found, 2], zone[found, 3] = first_b * step_b, last_b * step_b
            kind[found] = PARTS if before[a] >= 0 and before[a] == before[b] else MEETS
            found += 1
    zone_of[count] = found
    return found


@njit(cache=True, nogil=True)
def find_blocks(points, offsets, people, size, rows):
    """Finds when people are in the way of cars on paths; returns how many rows were written.

    Args:
        points: (7, points) tables of all paths, one after another.
        offsets: (paths + 1,) where each begins.
        people: (people, steps, 4) x, y [m], cos, sin of the yaw.
        size: (people, 2) length, width [m].
        rows: (most, 4) written: path, arclength [m] where a car's front has to stay, first and last step.
    """
    found, steps = 0, people.shape[1]
    for p in range(len(offsets) - 1):
        line = points[:, offsets[p] : offsets[p + 1]]
        for i in range(people.shape[0]):
            reach = 0.5 * (size[i, 0] + size[i, 1]) + CAR_HALF_WIDTH + 0.4
            low_x = high_x = people[i, 0, 0]
            low_y = high_y = people[i, 0, 1]
            for k in range(0, steps, 5):
                low_x, high_x = min(low_x, people[i, k, 0]), max(high_x, people[i, k, 0])
                low_y, high_y = min(low_y, people[i, k, 1]), max(high_y, people[i, k, 1])
            first, last, nearest = steps, -1, 1e18
            for g in range(line.shape[1] - 1):
                x0, y0, x1, y1 = line[1, g], line[2, g], line[1, g + 1], line[2, g + 1]
                if min(x0, x1) > high_x + reach or max(x0, x1) < low_x - reach or min(y0, y1) > high_y + reach:
                    continue
                if max(y0, y1) < low_y - reach:
                    continue
                length = line[0, g + 1] - line[0, g]
                c, n = (x1 - x0) / length, (y1 - y0) / length
                for k in range(0, steps, 2):
                    dx, dy = people[i, k, 0] - x0, people[i, k, 1] - y0
                    along, across = dx * c + dy * n, dy * c - dx * n
                    if along < -0.5 or along > length + 0.5:
                        continue
                    cosine = abs(people[i, k, 2] * c + people[i, k, 3] * n)
                    sine = abs(people[i, k, 3] * c - people[i, k, 2] * n)
                    if abs(across) < 0.5 * (size[i, 0] * sine + size[i, 1] * cosine) + CAR_HALF_WIDTH + 0.4:
                        first, last = min(first, k), max(last, k)
                        nearest = min(nearest, line[0, g] + along - 0.5 * (size[i, 0] * cosine + size[i, 1] * sine))
            if last >= 0:
                rows[found, 0], rows[found, 1], rows[found, 2], rows[found, 3] = p, nearest, first, last
                found += 1
    return found


def ways_of(scene) -> Ways:
    """Returns what drivers have to know about the paths of a scene."""
    network, paths = scene.street.network, scene.paths
    number: dict[int, int] = {}
    for path in paths:
        for lane in path.lanes:
            number.setdefault(lane, len(number))
    most = max(len(path.lanes) for path in paths)
    lanes = np.full((len(paths), most), -1)
    starts = np.full((len(paths), most + 1), np.inf)
    where = np.full((len(paths), len(number)), np.inf)
    before = np.full(len(number), -1)
    for p, path in enumerate(paths):
        rows = [number[lane] for lane in path.lanes]
        lanes[p, : len(rows)], starts[p, : len(rows)] = rows, path.starts
        where[p, rows] = path.starts
        before[rows[1:]] = rows[:-1]
    rank, waits = _ranks(scene, list(number))
    block_of, block = _blocks(scene)
    stops = [scene.stop_lines(path) for path in paths]
    width = max(1, max(len(stop) for stop in stops))
    stop_s, stop_group = np.full((len(stops), width), np.inf), np.zeros((len(stops), width), dtype=np.int64)
    for p, stop in enumerate(stops):
        for q, (s, group) in enumerate(stop):
            stop_s[p, q], stop_group[p, q] = s, group
    limit = np.array(scene.tables)
    return Ways(lanes, starts, where, rank, waits, *_zones(network, number, before), limit, stop_s, stop_group, block_of, block)


def _zones(network, lanes: dict[int, int], before: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns zone_of, zone_with, zone, zone_kind of ``Ways`` for these rows of the network."""
    connector = np.array([bool(network.movement[lane]) for lane in lanes])
    points, offsets = tables([network.lanes[lane].table for lane in lanes])
    most = int(connector.sum()) ** 2
    zone_of, zone_with, kind = np.zeros(len(lanes) + 1, np.int64), np.zeros(most, np.int64), np.zeros(most, np.int8)
    zone, room = np.empty((most, 4)), np.empty((len(lanes), SAMPLES, 2))
    count = find_zones(points, offsets, connector, before, room, zone_of, zone_with, zone, kind)
    return zone_of, zone_with[:count], zone[:count], kind[:count]


def tables(parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns tables (7, points) of lines one after another, and where each begins."""
    return np.concatenate(parts, axis=1), np.concatenate(([0], np.cumsum([part.shape[1] for part in parts])))


def _ranks(scene, lanes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns (rank, waits) of lanes; see ``Ways``."""
    network = scene.street.network
    rank = np.array([-network.rank[lane] for lane in lanes], dtype=np.float64)
    return rank, np.array([scene.gives_way(lane) for lane in lanes])


def _blocks(scene) -> tuple[np.ndarray, np.ndarray]:
    """Returns (block_of, block) of ``Ways``: whoever crosses a road on foot, or stands on it."""
    in_the_way = [w for w in scene.walkers if w.has_part or w.crosses]
    count = len(scene.paths)
    if not in_the_way:
        return np.zeros(count + 1, np.int64), np.zeros((0, 3))
    yaw = np.stack([w.yaw for w in in_the_way])
    sine, cosine = sin_cos(yaw)
    people = np.concatenate((np.stack([w.xy for w in in_the_way]), cosine[:, :, None], sine[:, :, None]), axis=2)
    points, offsets = tables([path.line.table for path in scene.paths])
    rows = np.zeros((count * len(in_the_way), 4))
    found = find_blocks(points, offsets, people, np.array([w.size[:2] for w in in_the_way]), rows)
    return np.searchsorted(rows[:found, 0], np.arange(count + 1)), rows[:found, 1:].copy()
