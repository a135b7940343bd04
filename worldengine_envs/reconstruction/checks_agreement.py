"""Do the images move as their poses and lenses say? Corners are followed from image to image, and it is seen where they go."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.camera_log import CameraLog, View
from worldengine_envs.reconstruction.opencv import opencv
from worldengine_envs.reconstruction.pictures import read_rgb
from worldengine_envs.rendering.cameras import rigid_inverse
from worldengine_envs.rendering.lenses import undistort

PAIRS = 6  # of images, for each camera
APART_M, TURNED_DEG, APART_S = (0.1, 3.0), 15.0, 1.0  # between the two images of a pair
CORNERS, LEAST_CORNERS = 400, 30
RETURNS_PX = 0.5  # a corner that is followed there and back ends so near to where it began
MOVED_PX = 2.0  # with less, beyond what the camera's turning does, no direction can be told
ASTRAY_DEG, MOST_ASTRAY = 30.0, 0.5  # off the direction that the poses say, and the share of corners at which this is said


def agreement_problems(log: CameraLog) -> list[str]:
    """Returns a line for each camera whose images do not move as its poses say; nothing is said where it hardly moves.

    Half of all corners would have to lie on others who move for this to be wrong, in more than half of the pairs of images.
    """
    problems = []
    for c, camera in enumerate(log.cameras):
        shares = [share for pair in _pairs([view for view in log.views if view.camera == c]) if (share := astray(log, *pair)) >= 0]
        if len(shares) >= 2 and np.median(shares) > MOST_ASTRAY:
            share = f"{100.0 * np.median(shares):.0f} % of what its images show does not move as its poses and lens say"
            remedy = "are the poses camera to world, x right, y down, z forward, and of the same moments?"
            problems.append(f"camera {camera.name}: {share}; used all the same ({remedy})")
    return problems


def astray(log: CameraLog, first: View, second: View) -> float:
    """Returns the share of corners that go elsewhere than a camera's motion says, from one of its images to another.

    -1 if too few move.
    """
    cv2, camera = opencv(), log.cameras[first.camera]
    images = [cv2.cvtColor(read_rgb(view.image), cv2.COLOR_RGB2GRAY) for view in (first, second)]
    corners = cv2.goodFeaturesToTrack(images[0], CORNERS, 0.01, 8)
    if corners is None:
        return -1.0
    there, found, _ = cv2.calcOpticalFlowPyrLK(*images, corners, None, maxLevel=5)
    back, again, _ = cv2.calcOpticalFlowPyrLK(*images[::-1], there, None, maxLevel=5)
    good = (found.ravel() > 0) & (again.ravel() > 0) & (np.abs(back - corners).max(axis=(1, 2)) < RETURNS_PX)
    focal, center = np.asarray(camera.intrinsics[:2], np.float64), np.asarray(camera.intrinsics[2:], np.float64)
    a, b = ((points[good, 0].astype(np.float64) + 0.5 - center) / focal for points in (corners, there))
    if np.any(camera.distortion):
        try:
            a, b = undistort(a, camera.distortion), undistort(b, camera.distortion)
        except DataError:
            return -1.0  # a corner lies where the lens folds back
    motion = rigid_inverse(second.camera_to_world) @ first.camera_to_world
    turned = np.column_stack((a, np.ones(len(a)))) @ motion[:3, :3].T
    turned = turned[:, :2] / turned[:, 2:]
    moved = b - turned
    said = motion[:2, 3] - turned * motion[2, 3]  # where a point in front goes as it comes nearer
    far = np.linalg.norm(moved * focal, axis=1) > MOVED_PX
    if far.sum() < LEAST_CORNERS:
        return -1.0
    length = np.linalg.norm(moved, axis=1) * np.linalg.norm(said, axis=1)
    return float(((moved * said).sum(axis=1) < np.cos(np.radians(ASTRAY_DEG)) * length)[far].mean())


def _pairs(views: list[View]) -> list[tuple[View, View]]:
    """Returns up to ``PAIRS`` pairs of neighbouring images of one camera between which it moved, spread over the log."""
    pairs = [pair for pair in pairwise(views) if _can_tell(*pair)]
    return [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, PAIRS).astype(np.int64))] if pairs else []


def _can_tell(first: View, second: View) -> bool:
    motion = rigid_inverse(second.camera_to_world) @ first.camera_to_world
    turned = np.degrees(np.arccos(np.clip(0.5 * (np.trace(motion[:3, :3]) - 1.0), -1.0, 1.0)))
    soon = first.traversal == second.traversal and 0 < second.time_us - first.time_us <= APART_S * 1e6
    return bool(soon and APART_M[0] <= np.linalg.norm(motion[:3, 3]) <= APART_M[1] and turned <= TURNED_DEG)
