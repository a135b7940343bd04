"""Actors of a drive whose log names none: clusters of the LiDAR that move, followed from sweep to sweep and image to image.

A cluster that features or the next sweep say has moved is tried with several velocities: those that single features speak for,
those that lead to a cluster of the next sweep, standing, and driving along. The one under which it lies best on what is there
next is taken. Clusters that are one through time become one actor, whose motion at all times is then found at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from worldengine_envs.reconstruction.camera_log import ActorTrack, CameraLog
from worldengine_envs.reconstruction.finding.alignment import Drive, align, look_around, small_pictures, standing
from worldengine_envs.reconstruction.finding.clusters import LARGEST_M, overlap, rectangle
from worldengine_envs.reconstruction.finding.rigid_motion import Motion, Prior, Sightings, reprojection, solve
from worldengine_envs.reconstruction.finding.surfaces import Surface, lay
from worldengine_envs.reconstruction.split import Split, time_steps
from worldengine_envs.scenario.types import AgentType

LONGEST = 400  # time steps of a drive that are laid over each other at once
FASTEST_MPS, ACCELERATION_MPS2 = 40.0, 2.0
GOOD_PX = 4.0  # a feature is for a velocity that takes it so near to where it is
FEATURES = 5  # that have to speak for a velocity
SUPPORT = 0.5  # of a cluster's points have to lie on what is there in the next sweep
STILL = 0.05  # of the points: what lies so nearly as well as the best where it was stands
HARDEST_MPS2 = 6.0  # nobody's speed changes faster
MOVES_M = 0.7  # who never gets so far from where it was first is part of the street
BEFORE_US = 1_000_000  # actors are thought to be there so long before their first sweep and after their last
SINGLE_US = 400_000  # apart from their sweep, at the most, features that tell a velocity
SLIM_M = 0.3  # sides at least
MARGIN_M, BULGE_M = 0.1, 0.3  # around the points; around those of a lorry, whose upper part no beam meets
TOP_RAD = 0.01  # points so near to the highest beam do not tell how high something is
CAR_LENGTH_M, CAR_WIDTH_M, LORRY_WIDTH_M, LORRY_M = 4.4, 1.8, 2.2, 4.0


@dataclass(slots=True)
class Found:
    """One who moves, as far as it is known."""

    clusters: list[tuple[int, int]]  # row of the sweep, cluster
    knots: dict[int, np.ndarray]  # (2,) how far it has come by a step, from its first sweep on [m]


def with_found_actors(log: CameraLog, split: Split) -> CameraLog:
    """Returns the log with what a LiDAR tells of drives without boxes: corrected poses, and the actors that move.

    Nothing that is held out is looked at. A log that names actors, or has no LiDAR, is returned as it is. ``problems`` say what
    was found.
    """
    if log.actors or not len(split.train_sweeps):
        return log
    pictures = small_pictures(log)
    for traversal in log.traversals:
        steps = len(time_steps(log, traversal)[1])
        if steps > LONGEST:
            problem = f"drive {traversal} has {steps} times, too many to look for actors ({LONGEST} at the most)"
            log = replace(log, problems=(*log.problems, f"{problem}: what moves is blurred. Give boxes, or cut it"))
            continue
        log, drive = align(log, look_around(log, pictures, split, traversal), split, traversal)
        found = find_actors(log, drive, traversal)
        problem = f"drive {traversal} names no actors: {len(found) or 'none'} that move were found with the LiDAR"
        log = replace(log, actors=(*log.actors, *found), problems=(*log.problems, problem))
    return log


def find_actors(log: CameraLog, drive: Drive, traversal: str) -> tuple[ActorTrack, ...]:
    """Returns who moves in a drive.

    Args:
        log: With poses that fit.
        drive: Its features and clusters.
        traversal: Its name.
    """
    search = Search(log, drive)
    tracks = []
    for k, found in enumerate(search.follow()):
        track = search.track(found, f"found_{traversal}_{k}", traversal)
        if track is not None:
            tracks.append(track)
    return tuple(tracks)


class Search:
    """What is needed to follow clusters through a drive."""

    def __init__(self, log: CameraLog, drive: Drive):
        self.log, self.drive, self.sweeps = log, drive, sorted(drive.clusters, key=lambda s: log.sweeps[s].time_us)
        self.step = {s: drive.step_of(log.sweeps[s].time_us) for s in self.sweeps}
        self.cluster = drive.on_actors()[1]
        self.first, count = {}, 0
        for s in drive.clusters:
            self.first[s], count = count, count + drive.clusters[s].count
        still = Motion(np.tile(np.eye(4), (len(drive.times), 1, 1)), np.zeros((len(drive.times), 3)))
        self.stands, self.known = standing(drive, self.cluster, still, count)
        self.raised = {s: np.flatnonzero(drive.clusters[s].label >= 0) for s in self.sweeps}
        self.trees = {s: cKDTree(drive.points[s][self.raised[s]]) for s in self.sweeps}
        self.clouds = {s: cKDTree(drive.points[s]) for s in self.sweeps}

    def points(self, s: int, k: int) -> np.ndarray:
        """Returns the points of a cluster of a sweep [m]."""
        return self.drive.points[s][self.drive.clusters[s].rows(k)]

    def sightings(self, clusters: list[tuple[int, int]]) -> Sightings:
        """Returns the sightings of clusters' features."""
        wanted = [self.first[s] + k for s, k in clusters]
        return self.drive.tracks.seen.take(np.isin(self.cluster, wanted))

    def may_move(self, s: int, k: int) -> bool:
        """Whether features, or where there are none the sweeps next to it, say that a cluster did not stand."""
        if self.known[self.first[s] + k]:
            return not self.stands[self.first[s] + k]
        at = self.sweeps.index(s)
        others = self.sweeps[max(at - 1, 0) : at] + self.sweeps[at + 1 : at + 2]
        return all(overlap(self.points(s, k), self.clouds[other]) < SUPPORT for other in others)

    def follow(self) -> list[Found]:
        """Returns chains of clusters that may have moved."""
        open_, done, taken = [], [], set()
        for s, after in zip(self.sweeps, [*self.sweeps[1:], None], strict=True):
            for k in range(self.drive.clusters[s].count):
                if (s, k) not in taken and self.may_move(s, k):
                    open_.append(Found([(s, k)], {self.step[s]: np.zeros(2)}))
            if after is None:
                break
            for found in open_:
                if not self._extend(found, s, after, taken):
                    done.append(found)
            open_ = [found for found in open_ if found.clusters[-1][0] == after]
        chains = [*done, *open_]
        return [found for found in chains if len(self.sightings(found.clusters).step) >= FEATURES]

    def _extend(self, found: Found, s: int, after: int, taken: set) -> bool:
        """Finds the clusters of the next sweep that are the same, and how far they have come."""
        xyz = np.concatenate([self.points(*cluster) for cluster in found.clusters if cluster[0] == s])
        seconds = 1e-6 * (self.drive.times[self.step[after]] - self.drive.times[self.step[s]])
        here = found.knots[self.step[s]]
        seen = self.sightings([cluster for cluster in found.clusters if cluster[0] == s])
        guesses = [velocity * seconds for velocity in self._velocities(found, seen)]
        centre = xyz.mean(0)[:2]
        for k in range(self.drive.clusters[after].count):
            shift = self.points(after, k).mean(0)[:2] - centre
            if np.hypot(*shift) < FASTEST_MPS * seconds and len(self.points(after, k)) > 0.3 * len(xyz):
                guesses.append(shift)
        support = [self._support(xyz, guess, after) for guess in guesses]
        best = 0 if support[0] > max(support) - STILL else int(np.argmax(support))
        if support[best] < SUPPORT:
            return False
        shift = self._refined(xyz, guesses[best], after)
        if len(found.knots) > 1 and np.hypot(*(shift / seconds - self._velocity(found))) > HARDEST_MPS2 * seconds:
            return False
        near = cKDTree(shifted(xyz, shift))
        members = [k for k in range(self.drive.clusters[after].count) if overlap(self.points(after, k), near, 0.5) > SUPPORT]
        members = [k for k in members if (after, k) not in taken]
        found.clusters += [(after, k) for k in members]
        taken.update((after, k) for k in members)
        found.knots[self.step[after]] = here + shift
        return bool(members)

    def _velocities(self, found: Found, seen: Sightings) -> list[np.ndarray]:
        """Returns velocities (2,) [m/s] that are worth a try."""
        guess = velocity_of(seen, self.drive.times)
        guesses = [np.zeros(2), *([] if guess is None else [guess])]
        return guesses if len(found.knots) < 2 else [*guesses, self._velocity(found)]

    def _velocity(self, found: Found) -> np.ndarray:
        """Returns how fast (2,) it was last [m/s]."""
        a, b = sorted(found.knots)[-2:]
        return (found.knots[b] - found.knots[a]) / (1e-6 * (self.drive.times[b] - self.drive.times[a]))

    def _support(self, xyz: np.ndarray, shift: np.ndarray, after: int) -> float:
        sample = xyz[:: max(len(xyz) // 300, 1)]
        return overlap(shifted(sample, shift), self.trees[after])

    def _refined(self, xyz: np.ndarray, shift: np.ndarray, after: int) -> np.ndarray:
        """Returns the shift (2,) under which points lie nearest to those of the next sweep."""
        sample, target = xyz[:: max(len(xyz) // 500, 1)], self.drive.points[after][self.raised[after]]
        for _ in range(10):
            moved = shifted(sample, shift)
            far, near = self.trees[after].query(moved, distance_upper_bound=0.5)
            good = np.isfinite(far)
            if not good.any():
                break
            shift = shift + np.median((target[near[good]] - moved[good])[:, :2], axis=0)
        return shift

    def track(self, found: Found, token: str, traversal: str) -> ActorTrack | None:
        """Returns where it was at all times, or None if it stood."""
        seen, times = self.sightings(found.clusters), self.drive.times
        knots = sorted(found.knots)
        first = np.searchsorted(times, times[knots[0]] - BEFORE_US)
        last = np.searchsorted(times, times[knots[-1]] + BEFORE_US, side="right")
        window = np.arange(first, last)
        path = self._path(found, seen, window)
        if path is None:
            return None
        home = max({s for s, _ in found.clusters}, key=lambda s: sum(len(self.points(*c)) for c in found.clusters if c[0] == s))
        path = path - path[self.step[home] - first]
        body = np.concatenate([self.points(*cluster) for cluster in found.clusters if cluster[0] == home])
        poses = np.tile(np.eye(4), (len(window), 1, 1))
        poses[:, :2, 3] = path
        motion = Motion(poses, np.tile(body.mean(0), (len(window), 1)))
        inside = (seen.step >= first) & (seen.step < last)
        seen = seen.take(inside)._replace(source=seen.source[inside] - first, step=seen.step[inside] - first)
        motion = self._solved(motion, found, seen, window, self.step[home] - first)
        error, good = reprojection(motion, seen)
        off = np.linalg.norm(error, axis=1)[good]
        speed = np.diff(motion.path, axis=0) / np.diff(1e-6 * times[window])[:, None]
        jumps = np.linalg.norm(np.diff(speed, axis=0), axis=1) / (1e-6 * (times[window][2:] - times[window][:-2]) / 2.0)
        wild = len(jumps) > 0 and np.percentile(jumps, 90) > HARDEST_MPS2
        if wild or np.linalg.norm(np.ptp(motion.path, axis=0)) < MOVES_M or (len(off) and np.median(off) > GOOD_PX):
            return None
        size, box = self._box(found, motion, home, first)
        if size[0] > LARGEST_M[0] + 1.0 or size[1] > LARGEST_M[1] + 1.0:
            return None
        return ActorTrack(token, AgentType.VEHICLE, size, np.rint(times[window]).astype(np.int64), motion.pose @ box, traversal)

    def _path(self, found: Found, seen: Sightings, window: np.ndarray) -> np.ndarray | None:
        """Returns (steps, 2) how far it has come: between the sweeps evenly, beyond them as fast as features say, or as before."""
        times, knots = self.drive.times, sorted(found.knots)
        far = np.array([found.knots[k] for k in knots])
        if len(knots) == 1:
            velocity = velocity_of(seen, times)
            if velocity is None:
                return None
            return 1e-6 * (times[window] - times[knots[0]])[:, None] * velocity
        path = np.column_stack([np.interp(times[window], times[knots], far[:, k]) for k in range(2)])
        ends = [np.diff(far[i : i + 2], axis=0)[0] / (times[knots[i + 1]] - times[knots[i]]) for i in (0, len(knots) - 2)]
        early, late = window < knots[0], window > knots[-1]
        path[early] += (times[window[early]] - times[knots[0]])[:, None] * ends[0]
        path[late] += (times[window[late]] - times[knots[-1]])[:, None] * ends[1]
        return path

    def _solved(self, motion: Motion, found: Found, seen: Sightings, window: np.ndarray, home: int) -> Motion:
        surfaces: dict[int, list] = {}
        for s, k in found.clusters:
            surfaces.setdefault(self.step[s] - int(window[0]), []).append(self.points(s, k))
        laid = {step: Surface(np.concatenate(parts)) for step, parts in surfaces.items()}
        seconds = 1e-6 * self.drive.times[window]
        for radius_m, *scales in ((0.8, 12.0, 8.0), (0.5, 6.0, 4.0), (0.3, 3.0, 2.0), (0.3, 1.5, 1.5, 1.5)):
            motion = solve(motion, seen, expected(motion, seconds, home), lay(motion, laid, radius_m, 1000), scales)
        return motion

    def _box(self, found: Found, motion: Motion, home: int, first: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns length, width, height [m] and the box's pose (4, 4) at the home sweep."""
        parts, unsure = [], False
        back = np.linalg.inv(motion.pose)
        for s, k in found.clusters:
            xyz, sensor = self.points(s, k), self.log.sweeps[s].lidar_to_world[:3, 3]
            all_ = self.drive.points[s] - sensor
            rise, mine = (np.arctan2(p[:, 2], np.hypot(p[:, 0], p[:, 1])) for p in (all_, xyz - sensor))
            unsure |= float(np.percentile(mine, 99)) > float(np.percentile(rise, 99.5)) - TOP_RAD
            pose = back[self.step[s] - first]
            parts.append(xyz @ pose[:3, :3].T + pose[:3, 3])
        body = np.concatenate(parts)
        way = motion.path[-1] - motion.path[0]
        heading = float(np.arctan2(way[1], way[0]))
        centre, _, sides = rectangle(body[:, :2], heading)
        rows = self.drive.clusters[home].rows(next(k for s, k in found.clusters if s == home))
        ground = float(np.median(self.drive.points[home][rows, 2] - self.drive.clusters[home].height[rows]))
        return _grown(centre, heading, sides, ground, float(body[:, 2].max()), unsure, self.log.sweeps[home].lidar_to_world[:3, 3])


def _grown(centre, heading: float, sides, ground: float, top: float, unsure: bool, sensor) -> tuple[np.ndarray, np.ndarray]:
    """Returns size and pose of a box around what was seen, with what of a car or a lorry cannot have been seen."""
    axes = np.array([[np.cos(heading), np.sin(heading)], [-np.sin(heading), np.cos(heading)]])
    lorry = unsure and (sides[0] > 1.5 * CAR_LENGTH_M or top - ground > LORRY_WIDTH_M)
    sides = np.maximum(sides + 2.0 * (BULGE_M if lorry else MARGIN_M), SLIM_M)
    if sides.max() > 1.0:  # smaller ones walk
        least = np.array([CAR_LENGTH_M, LORRY_WIDTH_M if lorry else CAR_WIDTH_M])
        away = np.sign((centre - sensor[:2]) @ axes.T)
        more = np.maximum(least - sides, 0.0)
        centre, sides = centre + (0.5 * more * away) @ axes, sides + more
    height = max(top - ground + MARGIN_M, LORRY_M if lorry else 0.0)
    box = np.eye(4)
    box[:2, :2], box[:3, 3] = axes.T, (*centre, ground + 0.5 * height)
    return np.array([*sides, height]), box


def shifted(xyz: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Returns points (N, 3) shifted on the ground by (2,) [m]."""
    return xyz + np.append(shift, 0.0)


def velocity_of(seen: Sightings, times: np.ndarray) -> np.ndarray | None:
    """Returns the velocity on the ground (2,) [m/s] for which most features speak, or None if they are too few.

    Each sighting names one velocity: that with which it is exactly where it was seen, by the two linear equations of projection.
    """
    seconds = 1e-6 * (times[seen.step] - times[seen.source])
    seen, seconds = (seen.take(near := np.abs(seconds) < 1e-6 * SINGLE_US), seconds[near])
    if len(seconds) < FEATURES:
        return None
    camera, lens = seen.world_to_camera[seen.view], seen.intrinsics[seen.view]
    rotation = camera[:, :, :3]
    point = np.einsum("mij,mj->mi", rotation, seen.xyz) + camera[:, :, 3]
    ray = (seen.pixel - lens[:, 2:]) / lens[:, :2]
    matrix = rotation[:, :2, :2] - ray[:, :, None] * rotation[:, 2:, :2]
    vector = ray * point[:, 2:] - point[:, :2]
    flat = np.abs(np.linalg.det(matrix))
    rows = np.flatnonzero(flat > np.percentile(flat, 20))
    rows = rows[:: max(len(rows) // 300, 1)]
    guesses = np.linalg.solve(matrix[rows], vector[rows, :, None])[..., 0] / seconds[rows, None]
    guesses = guesses[np.hypot(*guesses.T) < FASTEST_MPS]
    best, most = None, 0
    for guess in guesses:
        moved = point + np.einsum("mij,j->mi", rotation[:, :, :2], guess) * seconds[:, None]
        z = np.maximum(moved[:, 2:], 0.1)
        off = np.abs(moved[:, :2] / z - ray) * lens[:, :2]
        votes = int((off.max(1) < GOOD_PX * np.abs(seconds) / (1e-6 * SINGLE_US) + 0.5).sum())
        if votes > most:
            best, most = guess, votes
    return best if most >= max(FEATURES, 0.2 * len(seconds)) else None


def expected(motion: Motion, seconds: np.ndarray, home: int) -> tuple[Prior, ...]:
    """It is at home where it was measured, goes on as it went, and neither rolls, nods nor flies."""
    steps, inf = len(seconds), np.inf
    anchor = Prior(np.eye(steps)[home : home + 1], np.full((1, 6), 1e-4))
    level = Prior(np.eye(steps), np.tile([inf, inf, 0.1, 0.003, 0.003, 0.1], (steps, 1)))
    if steps < 3:
        return anchor, level
    rate = np.diff(np.eye(steps), axis=0) / np.diff(seconds)[:, None]
    change = np.diff(rate, axis=0)
    apart = (0.5 * (seconds[2:] - seconds[:-2]))[:, None]
    sigma = np.array([[ACCELERATION_MPS2, ACCELERATION_MPS2, 0.3, 0.1, 0.1, 0.3]]) * apart
    return anchor, level, Prior(change, sigma)
