"""Corners of images whose depth a LiDAR measured, followed through the images before and after."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from worldengine_envs.reconstruction.camera_log import CameraLog
from worldengine_envs.reconstruction.finding.rigid_motion import Sightings
from worldengine_envs.reconstruction.opencv import opencv
from worldengine_envs.reconstruction.pictures import Pictures
from worldengine_envs.rendering.cameras import rigid_inverse

TOGETHER_US = 60_000  # image and sweep at most so far apart are of one time
REACH_US = 1_100_000  # features are followed so long before and after
WINDOW, LEVELS = 21, 4  # of the Lucas-Kanade pyramid
RETURN_PX = 0.5  # a feature that does not come back to where it was, this near, is lost
NEAR_PX, AGREE = 6.0, 0.04  # LiDAR points around a corner, and how far their depths may differ, of the depth
CORNERS = 2500


@dataclass(frozen=True, slots=True)
class FeatureTracks:
    """F features and M sightings of them, their own images left out."""

    sweep: np.ndarray  # (F,) row of ``CameraLog.sweeps``
    point: np.ndarray  # (F,) row of the sweep's points that is nearest to it
    feature: np.ndarray  # (M,) row of F
    seen: Sightings


def follow_features(log: CameraLog, pictures: Pictures, views: np.ndarray, sweeps: np.ndarray, step: np.ndarray) -> FeatureTracks:
    """Follows corners from the images taken with each sweep.

    Args:
        log: Poses and sweeps.
        pictures: Images, at the scale at which they are followed.
        views: (V,) rows that may be looked at, of one drive, by time.
        sweeps: (S,) rows of sweeps that may be looked at, by time.
        step: (views of the log,) time step of each view.
    """
    grey: dict[int, np.ndarray] = {}
    found: list[list[np.ndarray]] = []
    features = 0
    for s in sweeps:
        sweep = log.sweeps[s]
        for v in [v for v in grey if log.views[v].time_us < sweep.time_us - REACH_US]:
            del grey[v]
        xyz = np.asarray(sweep.read(), np.float64)[:, :3]
        for camera in range(len(log.cameras)):
            mine = [int(v) for v in views if log.views[v].camera == camera]
            if not mine:
                continue
            home = min(range(len(mine)), key=lambda k: abs(log.views[mine[k]].time_us - sweep.time_us))
            if abs(log.views[mine[home]].time_us - sweep.time_us) > TOGETHER_US:
                continue
            corners, depth, point = _corners(log, pictures, mine[home], sweep, xyz, grey)
            world = _lift(corners, depth, pictures.lens(mine[home])[0], log.views[mine[home]].camera_to_world)
            for way in (mine[home + 1 :], mine[:home][::-1]):
                for v, rows, pixel in _follow(log, pictures, mine[home], way, corners, grey):
                    steps = np.full(len(rows), step[mine[home]]), np.full(len(rows), step[v])
                    found.append([rows + features, world[rows], *steps, pixel, np.full(len(rows), v)])
            found.append([np.full(len(point), s), point])
            features += len(point)
    return _joined(found, log, pictures)


def _joined(found: list, log: CameraLog, pictures: Pictures) -> FeatureTracks:
    heads, sights = [part for part in found if len(part) == 2], [part for part in found if len(part) != 2]
    whole, places = np.zeros(0, np.int64), np.zeros((0, 2))
    empty = whole, np.zeros((0, 3)), whole, whole, places, whole
    columns = [np.concatenate(column) for column in zip(empty, *sights, strict=True)]
    sweep, point = (np.concatenate([whole, *(head[k] for head in heads)]) for k in range(2))
    poses = np.stack([rigid_inverse(view.camera_to_world)[:3] for view in log.views])
    lenses = np.stack([pictures.lens(v)[0] for v in range(len(log.views))])
    return FeatureTracks(sweep, point, columns[0], Sightings(*columns[1:], poses, lenses))


def _grey(pictures: Pictures, view: int, kept: dict[int, np.ndarray]) -> np.ndarray:
    if view not in kept:
        cv2 = opencv()
        kept[view] = cv2.cvtColor(pictures[view].rgb, cv2.COLOR_RGB2GRAY)
    return kept[view]


def _corners(log: CameraLog, pictures: Pictures, view: int, sweep, xyz: np.ndarray, kept):
    """Returns corners (F, 2) [px, OpenCV's], their depths [m], and the points of the sweep that they are nearest to."""
    cv2 = opencv()
    picture, lens = pictures[view], pictures.lens(view)[0]
    usable = picture.usable.astype(np.uint8)
    corners = cv2.goodFeaturesToTrack(_grey(pictures, view, kept), CORNERS, 0.003, 5, mask=usable)
    nothing = np.zeros((0, 2), np.float32), np.zeros(0), np.zeros(0, np.int64)
    pose = rigid_inverse(log.views[view].camera_to_world) @ sweep.lidar_to_world
    x, y, z = pose[:3, :3] @ xyz.T + pose[:3, 3:]
    rows = np.flatnonzero(z > 1.0)
    pixel = np.stack([lens[0] * x[rows] / z[rows] + lens[2], lens[1] * y[rows] / z[rows] + lens[3]], axis=1) - 0.5
    inside = (pixel > -NEAR_PX).all(1) & (pixel < np.array(picture.usable.shape[::-1]) + NEAR_PX).all(1)
    rows, pixel = rows[inside], pixel[inside]
    if corners is None or len(rows) < 3:
        return nothing
    corners = corners[:, 0]
    far, near = cKDTree(pixel).query(corners, k=3)
    depth = z[rows][near]
    good = (far[:, 2] < NEAR_PX) & (np.ptp(depth, axis=1) < AGREE * depth.min(1) + 0.1)
    return corners[good], np.median(depth[good], axis=1), rows[near[good, 0]]


def _lift(corners: np.ndarray, depth: np.ndarray, lens: np.ndarray, pose: np.ndarray) -> np.ndarray:
    ray = np.column_stack([(corners + 0.5 - lens[2:]) / lens[:2], np.ones(len(corners))])
    return (ray * depth[:, None]) @ pose[:3, :3].T + pose[:3, 3]


def _follow(log: CameraLog, pictures: Pictures, home: int, way: list[int], corners: np.ndarray, kept):
    """Yields view, rows of the corners that are still there, and where they are [px]."""
    cv2 = opencv()
    options = {"winSize": (WINDOW, WINDOW), "maxLevel": LEVELS}
    rows, before, at = np.arange(len(corners)), home, corners.astype(np.float32)[:, None]
    for v in way:
        if abs(log.views[v].time_us - log.views[home].time_us) > REACH_US or not len(rows):
            return
        images = _grey(pictures, before, kept), _grey(pictures, v, kept)
        moved, forth, _ = cv2.calcOpticalFlowPyrLK(*images, at, None, **options)
        back, again, _ = cv2.calcOpticalFlowPyrLK(*images[::-1], moved, None, **options)
        good = (forth[:, 0] > 0) & (again[:, 0] > 0) & (np.linalg.norm((back - at)[:, 0], axis=1) < RETURN_PX)
        rows, before, at = rows[good], v, moved[good]
        yield v, rows, at[:, 0].astype(np.float64) + 0.5
