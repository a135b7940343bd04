"""Poses of cars that nobody verified: corrected by features of the street whose depth the LiDAR measured.

Odometry from LiDAR alone starts late and slides where traffic moves along. Features of what cannot be an actor (the ground, walls,
whatever is too large) are followed from image to image, and the poses found with which they stay where they are. All cameras and
sweeps of a time move together. Times that are held out take their poses from their neighbours, not from their own images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, Slerp

from worldengine_envs.reconstruction.camera_log import CameraLog
from worldengine_envs.reconstruction.finding.clusters import Clusters, find_clusters
from worldengine_envs.reconstruction.finding.feature_tracks import FeatureTracks, follow_features
from worldengine_envs.reconstruction.finding.rigid_motion import Motion, Prior, reprojection, solve
from worldengine_envs.reconstruction.finding.surfaces import Surface, lay
from worldengine_envs.reconstruction.pictures import Pictures
from worldengine_envs.reconstruction.split import Split, time_steps
from worldengine_envs.rendering.cameras import rigid_inverse

WIDEST_PX = 1280  # images are made so small before features are followed
FITTING_PX, BETTER = 0.6, 0.7  # poses stay with a median error below that, or where it would not fall below so much of it
FEWEST = 100  # sightings with which anything is corrected
ROUNDS = ((1.0, 12.0, 6.0), (0.5, 6.0, 3.0), (0.3, 3.0, 2.0), (0.3, 1.5, 1.5, 1.5))  # what touches [m], and scales of errors [px]
STANDING_US, STANDING_PX = 500_000, 2.0  # so little do features of one who stands stray in so long, in the median
APART_US = 350_000  # between sweeps that are looked at: more would tell nothing new
TELLING = 10  # sightings that tell whether a cluster stands
NEAREST_M, FARTHEST_M = 3.0, 60.0  # of a sweep's points
SIGMA_SHIFT_M, SIGMA_TURN = 0.1, 0.001  # how far the logged motion from one time to the next may be off


@dataclass(frozen=True, slots=True)
class Drive:
    """What is known of one drive with a LiDAR, before it is known who moves."""

    step: np.ndarray  # (views of the log,) time step, -1 = of another drive
    times: np.ndarray  # (steps,) [us]
    tracks: FeatureTracks
    points: dict[int, np.ndarray]  # (N, 3) in the world [m], by row of the sweep
    clusters: dict[int, Clusters]  # likewise

    def step_of(self, time_us: int) -> int:
        """Returns the time step nearest to a time."""
        return int(np.abs(self.times - time_us).argmin())

    def on_actors(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns (features,) which could-be actor each is a part of, -1 = none, and (M,) the same for sightings.

        Could-be actors are counted through all sweeps, in their order.
        """
        found, before = np.full(len(self.tracks.sweep), -1, np.int64), 0
        for s, clusters in self.clusters.items():
            mine = np.flatnonzero(self.tracks.sweep == s)
            label = clusters.label[self.tracks.point[mine]]
            found[mine] = np.where(label < 0, -1, label + before)
            before += clusters.count
        return found, found[self.tracks.feature]

    def moved(self, log: CameraLog, corrections: np.ndarray) -> Drive:
        """Returns the same with the poses of all steps multiplied from the left by ``corrections`` (steps, 4, 4)."""
        seen, d = self.tracks.seen, corrections
        xyz = np.einsum("mij,mj->mi", d[seen.source, :3, :3], seen.xyz) + d[seen.source, :3, 3]
        mine = self.step >= 0
        cameras = seen.world_to_camera.copy()
        cameras[mine] = cameras[mine] @ np.linalg.inv(d)[self.step[mine]]
        points = {}
        for s, old in self.points.items():
            pose = d[self.step_of(log.sweeps[s].time_us)]
            points[s] = old @ pose[:3, :3].T + pose[:3, 3]
        return replace(self, tracks=replace(self.tracks, seen=seen._replace(xyz=xyz, world_to_camera=cameras)), points=points)


def small_pictures(log: CameraLog) -> Pictures:
    """Returns the images of a log at the scale at which features are followed."""
    return Pictures(log, min(1.0, WIDEST_PX / max(camera.width for camera in log.cameras)))


def look_around(log: CameraLog, pictures: Pictures, split: Split, traversal: str) -> Drive:
    """Follows features through the training images of a drive and groups what stands on the ground."""
    step, times = time_steps(log, traversal)
    views = np.array(sorted((v for v in split.train if step[v] >= 0), key=lambda v: log.views[v].time_us), np.int64)
    sweeps: list[int] = []
    for s in sorted(split.train_sweeps.tolist(), key=lambda s: log.sweeps[s].time_us):
        sweep = log.sweeps[s]
        if sweep.traversal == traversal and (not sweeps or sweep.time_us - log.sweeps[sweeps[-1]].time_us > APART_US):
            sweeps.append(s)
    tracks, points, clusters = follow_features(log, pictures, views, np.array(sweeps, np.int64), step), {}, {}
    for s in sweeps:
        pose = log.sweeps[s].lidar_to_world
        points[s] = np.asarray(log.sweeps[s].read(), np.float64)[:, :3] @ pose[:3, :3].T + pose[:3, 3]
        clusters[s] = find_clusters(points[s], pose[:3, 3])
    return Drive(step, times, tracks, points, clusters)


def align(log: CameraLog, drive: Drive, split: Split, traversal: str) -> tuple[CameraLog, Drive]:
    """Returns both with corrected poses of one drive, or as they are where that would not be better; ``problems`` say so."""
    cluster = drive.on_actors()[1]
    street = cluster < 0
    if street.sum() < FEWEST:
        return log, drive
    surfaces = {drive.step_of(log.sweeps[s].time_us): _street(log, drive, s) for s in drive.points}
    cameras = [log.views[np.flatnonzero(drive.step == k)[0]].camera_to_world[:3, 3] for k in range(len(drive.times))]
    start = Motion(np.tile(np.eye(4), (len(cameras), 1, 1)), np.array(cameras))
    found = start
    for radius_m, *scales in ROUNDS:
        still = drive.tracks.seen.take(street)
        found = solve(found, still, _expected(drive.times), lay(found, surfaces, radius_m), scales)
        stands = standing(drive, cluster, found, sum(clusters.count for clusters in drive.clusters.values()))[0]
        street = (cluster < 0) | (np.append(stands, False)[cluster])
    errors = [_median_error(motion, drive.tracks.seen.take(street)) for motion in (start, found)]
    if errors[0] < FITTING_PX or errors[1] > BETTER * errors[0]:
        return log, drive
    corrections = _corrections(found, log, drive, split)
    problem = f"the poses of drive {traversal} did not fit its images (features {errors[0]:.1f} px off in the median)"
    problem += f": they were corrected ({errors[1]:.1f} px) by features whose depth the LiDAR measured"
    fields = _moved(log, drive, corrections, traversal)
    return replace(log, **fields, problems=(*log.problems, problem)), drive.moved(log, corrections)


def _street(log: CameraLog, drive: Drive, sweep: int) -> Surface:
    """Returns the ground, and what else cannot be an actor, of a sweep."""
    xyz, clusters = drive.points[sweep], drive.clusters[sweep]
    far = np.linalg.norm(xyz - log.sweeps[sweep].lidar_to_world[:3, 3], axis=1)
    return Surface(xyz[(clusters.label < 0) & (far > NEAREST_M) & (far < FARTHEST_M) & (clusters.height > -0.5)])


def standing(drive: Drive, cluster: np.ndarray, motion: Motion, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Tells which could-be actors stand.

    Args:
        drive: Their features.
        cluster: (M,) could-be actor of each sighting, -1 = none.
        motion: Of the street.
        count: Number of could-be actors.

    Returns:
        (count,) bool whether most of its features say that it stands, and whether it has enough of them to tell.
    """
    error, good = reprojection(motion, drive.tracks.seen)
    apart = np.abs(drive.times[drive.tracks.seen.step] - drive.times[drive.tracks.seen.source])
    near = good & (cluster >= 0) & (apart < STANDING_US)
    off = np.linalg.norm(error, axis=1)
    stands, known = np.zeros(count, bool), np.bincount(cluster[near], minlength=count) >= TELLING
    for k in np.flatnonzero(known):
        stands[k] = np.median(off[near & (cluster == k)]) < STANDING_PX
    return stands, known


def _expected(times: np.ndarray) -> tuple[Prior, ...]:
    """The first pose is right, and each motion to the next nearly."""
    first, following = np.eye(1, len(times)), np.diff(np.eye(len(times)), axis=0)
    slack = np.sqrt(np.maximum(np.diff(times), 1.0) / 1e5)[:, None]
    sigma = np.array([[SIGMA_SHIFT_M] * 3 + [SIGMA_TURN] * 3])
    return Prior(first, np.full((1, 6), 1e-4)), Prior(following, sigma * slack)


def _median_error(motion: Motion, seen) -> float:
    error, good = reprojection(motion, seen)
    return float(np.median(np.linalg.norm(error[good], axis=1))) if good.any() else np.inf


def _corrections(found: Motion, log: CameraLog, drive: Drive, split: Split) -> np.ndarray:
    """Returns (steps, 4, 4) what logged poses have to be multiplied by from the left.

    At held-out times the car moves smoothly between where it was before and after; beyond the ends, the nearest correction holds.
    """
    made, steps = np.linalg.inv(found.pose), len(drive.times)
    trained = np.unique(drive.step[split.train][drive.step[split.train] >= 0])
    if len(trained) == 1:
        return np.tile(made[trained], (steps, 1, 1))
    logged = np.stack([log.views[np.flatnonzero(drive.step == k)[0]].camera_to_world for k in range(steps)])
    right = made[trained] @ logged[trained]
    path = CubicSpline(drive.times[trained], right[:, :3, 3])
    turns = Slerp(drive.times[trained], Rotation.from_matrix(right[:, :3, :3]))
    for k in np.setdiff1d(np.arange(steps), trained):
        if trained[0] < k < trained[-1]:
            pose = np.eye(4)
            pose[:3, :3], pose[:3, 3] = turns(drive.times[k]).as_matrix(), path(drive.times[k])
            made[k] = pose @ rigid_inverse(logged[k])
        else:
            made[k] = made[trained[np.abs(trained - k).argmin()]]
    return made


def _moved(log: CameraLog, drive: Drive, corrections: np.ndarray, traversal: str) -> dict:
    """Returns the fields of the log with the poses of one drive corrected."""
    views = tuple(
        view if k < 0 else replace(view, camera_to_world=corrections[k] @ view.camera_to_world)
        for k, view in zip(drive.step, log.views, strict=True)
    )
    sweeps = []
    for sweep in log.sweeps:
        if sweep.traversal == traversal:
            nearest = corrections[np.abs(drive.times - sweep.time_us).argmin()]
            sweep = replace(sweep, lidar_to_world=nearest @ sweep.lidar_to_world)
        sweeps.append(sweep)
    return {"views": views, "sweeps": tuple(sweeps)}
