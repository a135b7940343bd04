"""Poses and actors found with a LiDAR, against streets of which both are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from worldengine_envs.reconstruction.camera_log import Camera, CameraLog, Sweep, View
from worldengine_envs.reconstruction.finding.alignment import Drive, align, standing
from worldengine_envs.reconstruction.finding.clusters import above_ground, find_clusters, rectangle
from worldengine_envs.reconstruction.finding.feature_tracks import FeatureTracks
from worldengine_envs.reconstruction.finding.found_actors import expected, find_actors, velocity_of, with_found_actors
from worldengine_envs.reconstruction.finding.rigid_motion import Motion, Sightings, reprojection, solve
from worldengine_envs.reconstruction.split import Split
from worldengine_envs.rendering.cameras import rigid_inverse

STEPS, STEP_US, EVERY = 17, 100_000, 4  # of the drive; a sweep comes with every fourth image
LENS = np.array([300.0, 300.0, 320.0, 120.0])
TURNED = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # camera axes in the world: it looks along x
EGO_MPS, CAR_MPS, LENGTH_M = 6.0, 9.0, 4.6


def box_surface(rng, size, count: int) -> np.ndarray:
    """Points on the four walls of a box that stands on the ground."""
    side, along, up = rng.integers(0, 4, count), rng.uniform(-0.5, 0.5, count), rng.uniform(0.0, 1.0, count)
    x = np.choose(side, [along, along, np.full(count, 0.5), np.full(count, -0.5)]) * size[0]
    y = np.choose(side, [np.full(count, 0.5), np.full(count, -0.5), along, along]) * size[1]
    return np.column_stack([x, y, up * size[2]])


class Street:
    """Flat ground between two walls, a parked car and one that drives; the camera drives behind."""

    def __init__(self, seed: int = 0):
        rng = np.random.default_rng(seed)
        ground = np.column_stack([rng.uniform(-20, 60, 30000), rng.uniform(-9, 9, 30000), rng.normal(0.0, 0.01, 30000)])
        wall = np.column_stack([rng.uniform(-20, 60, 9000), np.full(9000, 9.0), rng.uniform(0, 5, 9000)])
        self.still = np.concatenate([ground, wall, wall * [1, -1, 1]])
        self.parked = box_surface(rng, (4.4, 1.8, 1.5), 1500) + np.array([18.0, 5.0, 0.0])
        self.car = box_surface(rng, (LENGTH_M, 1.8, 1.5), 1500) + np.array([12.0, -1.0, 0.0])
        self.poses = np.tile(np.eye(4), (STEPS, 1, 1))
        self.poses[:, :3, :3] = TURNED
        self.poses[:, :3, 3] = np.column_stack([0.1 * EGO_MPS * np.arange(STEPS), np.zeros(STEPS), np.full(STEPS, 1.6)])
        self.rng = rng

    def scan(self, step: int) -> np.ndarray:
        """Points at a time, in the true world."""
        return np.concatenate([self.still, self.parked, self.car + np.array([0.1 * CAR_MPS * step, 0.0, 0.0])])

    def log(self, errors: np.ndarray) -> CameraLog:
        """The log of a car that believes itself at ``errors @ pose``."""
        cameras = (Camera("front", 240, 640, LENS, np.zeros(5)),)
        views = tuple(View(0, k * STEP_US, errors[k] @ self.poses[k], Path("none.png")) for k in range(STEPS))
        sweeps = [
            Sweep(k * STEP_US, views[k].camera_to_world, lambda k=k: self.seen_from(self.scan(k), k))
            for k in range(0, STEPS, EVERY)
        ]
        return CameraLog("street", "test", "none", cameras, views, tuple(sweeps))

    def seen_from(self, xyz: np.ndarray, k: int) -> np.ndarray:
        back = rigid_inverse(self.poses[k])
        return (xyz @ back[:3, :3].T + back[:3, 3]).astype(np.float32)

    def drive(self, log: CameraLog) -> Drive:
        """What features would tell: those near the camera, seen from all steps within a second, half a pixel off."""
        parts, heads, features, points, clusters = [], [], 0, {}, {}
        for s, k in enumerate(range(0, STEPS, EVERY)):
            local, pose = self.seen_from(self.scan(k), k), log.sweeps[s].lidar_to_world
            points[s] = local @ pose[:3, :3].T + pose[:3, 3]
            clusters[s] = find_clusters(points[s], pose[:3, 3])
            rows = np.flatnonzero((local[:, 2] > 4.0) & (local[:, 2] < 25.0))
            rows = self.rng.choice(rows, 600, replace=False)
            driving = rows >= len(self.still) + len(self.parked)
            for other in range(max(k - 8, 0), min(k + 9, STEPS)):
                if other == k:
                    continue
                moved = self.scan(k)[rows] + np.where(driving, 0.1 * CAR_MPS * (other - k), 0.0)[:, None] * [1, 0, 0]
                eye = self.seen_from(moved, other).astype(float)
                pixel = eye[:, :2] / eye[:, 2:] * LENS[:2] + LENS[2:] + self.rng.normal(0.0, 0.3, (len(rows), 2))
                good = np.flatnonzero((eye[:, 2] > 2.0) & (pixel > 0).all(1) & (pixel < [640, 240]).all(1))
                where = np.full(len(good), k), np.full(len(good), other), pixel[good], np.full(len(good), other)
                parts.append([good + features, points[s][rows[good]], *where])
            heads.append((np.full(len(rows), s), rows))
            features += len(rows)
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        cameras = np.stack([rigid_inverse(view.camera_to_world)[:3] for view in log.views])
        seen = Sightings(*columns[1:], cameras, np.tile(LENS, (STEPS, 1)))
        tracks = FeatureTracks(*(np.concatenate(column) for column in zip(*heads, strict=True)), columns[0], seen)
        return Drive(np.arange(STEPS), np.arange(STEPS) * float(STEP_US), tracks, points, clusters)


@pytest.fixture(scope="module")
def street() -> Street:
    return Street()


def everything(log: CameraLog, held: tuple[int, ...] = ()) -> Split:
    rows = np.arange(len(log.views))
    return Split(rows[~np.isin(rows, held)], np.array(held, np.int64), np.arange(len(log.sweeps)), np.zeros(0, np.int64))


def test_heights_are_above_the_ground_even_where_it_rises():
    rng = np.random.default_rng(0)
    ground = np.column_stack([rng.uniform(0, 40, 20000), rng.uniform(0, 40, 20000), np.zeros(20000)])
    ground[:, 2] = 0.05 * ground[:, 0]
    mirrored = np.array([[20.0, 20.0, -6.0]] * 40)
    high = np.array([[10.0, 10.0, 0.5 + 1.5], [30.0, 12.0, 1.5 + 0.4]])
    height = above_ground(np.concatenate([ground, mirrored, high]))
    assert np.abs(height[:20000]).max() < 0.25
    np.testing.assert_allclose(height[-2:], [1.5, 0.4], atol=0.15)


def test_clusters_are_what_stands_on_the_ground_and_is_small_enough(street):
    xyz = street.scan(0)
    clusters = find_clusters(xyz, np.array([0.0, 0.0, 1.6]))
    first, second = len(street.still), len(street.still) + len(street.parked)
    assert clusters.count == 2
    assert len({*clusters.label[first:second][clusters.height[first:second] > 0.35].tolist()}) == 1
    assert (clusters.label[:first][clusters.height[:first] > 0.3] < 0).all()  # walls are too long


def test_a_rectangle_lies_along_the_sides():
    rng = np.random.default_rng(1)
    xy = box_surface(rng, (4.4, 1.8, 1.0), 4000)[:, :2]
    turn = Rotation.from_euler("z", 0.5236).as_matrix()[:2, :2]
    centre, heading, sides = rectangle(xy @ turn.T + [3.0, 4.0])
    np.testing.assert_allclose(centre, [3.0, 4.0], atol=0.05)
    np.testing.assert_allclose(heading, 0.5236, atol=0.03)
    np.testing.assert_allclose(sides, [4.4, 1.8], atol=0.12)


def test_reprojection_of_what_stands_is_nothing_and_the_derivatives_are_right():
    rng, steps = np.random.default_rng(2), 5
    xyz = np.column_stack([rng.uniform(5, 20, 40), rng.uniform(-4, 4, 40), rng.uniform(-1, 3, 40)])
    camera = np.column_stack([TURNED.T, np.zeros(3)])[None]
    source, step = rng.integers(0, steps, 40), rng.integers(0, steps, 40)
    eye = xyz @ TURNED
    seen = Sightings(xyz, source, step, eye[:, :2] / eye[:, 2:] * LENS[:2] + LENS[2:], np.zeros(40, int), camera, LENS[None])
    motion = Motion(np.tile(np.eye(4), (steps, 1, 1)), rng.normal(0, 5, (steps, 3)))
    error, good = reprojection(motion, seen)
    assert good.all() and np.abs(error).max() < 1e-9
    from worldengine_envs.reconstruction.finding.rigid_motion import _project

    motion = motion.moved(0.05 * rng.normal(size=(steps, 6)))
    error, _, slope, at, back = _project(motion, seen)
    delta = 1e-6 * rng.normal(size=(steps, 6))
    change = np.einsum("mrx,mxk,mk->mr", slope, at, delta[step]) + np.einsum("mrx,mxk,mk->mr", slope, back, delta[source])
    np.testing.assert_allclose(_project(motion.moved(delta), seen)[0] - error, change, atol=1e-7)


def test_a_known_motion_is_found_again_in_spite_of_outliers(street):
    log = street.log(np.tile(np.eye(4), (STEPS, 1, 1)))
    drive = street.drive(log)
    driving = drive.tracks.point[drive.tracks.feature] >= len(street.still) + len(street.parked)
    seen = drive.tracks.seen.take(driving)
    pixel = seen.pixel.copy()
    pixel[::7] += 40.0
    seen = seen._replace(pixel=pixel)
    anchor = np.tile(street.car.mean(0), (STEPS, 1))
    start = Motion(np.tile(np.eye(4), (STEPS, 1, 1)), anchor)
    start.pose[:, 0, 3] = 0.08 * CAR_MPS * np.arange(STEPS)
    found = solve(start, seen, expected(start, 0.1 * np.arange(STEPS), 0))
    np.testing.assert_allclose(found.path[:, 0] - anchor[:, 0], 0.1 * CAR_MPS * np.arange(STEPS), atol=0.1)
    np.testing.assert_allclose(velocity_of(seen, drive.times), [CAR_MPS, 0.0], atol=0.6)


def test_who_drives_is_found_and_who_is_parked_is_not(street):
    log = street.log(np.tile(np.eye(4), (STEPS, 1, 1)))
    (track,) = find_actors(log, street.drive(log), "log")
    step = np.rint(track.time_us / STEP_US).astype(int)
    np.testing.assert_array_equal(step, np.arange(STEPS))
    centre = track.box_to_world[:, :3, 3]
    np.testing.assert_allclose(centre[:, 0], 12.0 + 0.1 * CAR_MPS * step, atol=0.25)
    np.testing.assert_allclose(centre[:, 1], -1.0, atol=0.2)
    np.testing.assert_allclose(track.size, [LENGTH_M, 1.8, 1.5], atol=0.4)
    np.testing.assert_allclose(track.box_to_world[:, 0, 0], 1.0, atol=1e-3)


def test_errors_of_poses_are_found_and_held_out_times_follow_their_neighbours(street):
    errors = np.tile(np.eye(4), (STEPS, 1, 1))
    errors[:, 0, 3] = -0.4 * np.minimum(np.arange(STEPS), 8) / 8.0
    errors[:, :3, :3] = Rotation.from_euler("z", 0.0005 * np.arange(STEPS)[:, None]).as_matrix().reshape(-1, 3, 3)
    held = 6
    log = street.log(errors)
    drive = street.drive(log)
    tracks = drive.tracks
    kept = tracks.seen.step != held
    drive = replace(drive, tracks=replace(tracks, feature=tracks.feature[kept], seen=tracks.seen.take(kept)))
    corrected, moved = align(log, drive, everything(log, (held,)), "log")
    assert len(corrected.problems) == 1 and "did not fit" in corrected.problems[0]
    for k in range(STEPS):
        off = rigid_inverse(street.poses[k]) @ corrected.views[k].camera_to_world
        assert np.linalg.norm(off[:3, 3]) < 0.06, k
        assert np.degrees(np.linalg.norm(Rotation.from_matrix(off[:3, :3]).as_rotvec())) < 0.2, k
    cluster = moved.on_actors()[1]
    still = Motion(np.tile(np.eye(4), (STEPS, 1, 1)), np.zeros((STEPS, 3)))
    count = sum(clusters.count for clusters in moved.clusters.values())
    stands, known = standing(moved, cluster, still, count)
    assert known.sum() >= 8 and 4 <= stands.sum() < known.sum()  # the parked car in each sweep


def test_poses_that_fit_are_left_alone(street):
    log = street.log(np.tile(np.eye(4), (STEPS, 1, 1)))
    assert align(log, street.drive(log), everything(log), "log")[0] is log


def test_a_real_street_fits_scans_that_nobody_looked_at(shared):
    from worldengine_envs.reconstruction.readers.registry import read_camera_log
    from worldengine_envs.reconstruction.split import split

    log = read_camera_log("kitti-raw", [shared / "data/kitti_rgb_lidar"])
    parts = split(log, 8, 4)
    found = with_found_actors(log, parts)
    speeds = [np.linalg.norm(np.diff(track.box_to_world[:, :3, 3], axis=0), axis=1) / 0.1 for track in found.actors]
    assert len(speeds) == 2 and all(speed.max() < 7.0 for speed in speeds)  # a lorry and the car ahead; the others stand
    steps = np.diff([view.camera_to_world[:3, 3] for view in found.views], axis=0)
    assert np.abs(np.diff(steps, axis=0)).max() < 0.02  # logged poses jolt by 0.07 m
    assert with_found_actors(found, parts) is found
