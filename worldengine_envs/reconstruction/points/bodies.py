"""Points of actors above and beside what the LiDAR saw of them: flow between images in which they move against the camera."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from worldengine_envs.reconstruction.camera_log import CameraLog
from worldengine_envs.reconstruction.opencv import opencv
from worldengine_envs.reconstruction.pictures import Picture, Pictures
from worldengine_envs.reconstruction.points.boxes import MARGIN_M, Boxes
from worldengine_envs.reconstruction.points.flow import flow_depth
from worldengine_envs.reconstruction.points.voxels import Cloud, join, no_points, thin

VIEWS = 10  # of an actor, at the most, that are looked at
SMALLEST_PX = 800  # of its box on an image: smaller ones have enough of the LiDAR's points
BASELINE = 0.08  # by which the camera ought to have moved against the actor, of the distance
LEAST_BASELINE = 0.01
CELL_PX = 2  # side of the parts of an image of which each gets a point
LIDAR_CELL_PX = 12  # nothing is triangulated in cells of that side with LiDAR points in them
ROUND_PX = 48  # around the box, where matches may lie


def triangulate_bodies(
    log: CameraLog, pictures: Pictures, views: np.ndarray, boxes: Boxes, lidar: Cloud, centers: cKDTree, voxel_m: float
) -> Cloud:
    """Returns coloured points in the boxes' frames, one wherever an image shows a surface of an actor without LiDAR points.

    Args:
        log: What was recorded.
        pictures: Its images.
        views: (V,) rows of the views that may be looked at.
        boxes: Of the actors.
        lidar: Points that are there already.
        centers: Of the cameras.
        voxel_m: Side of the voxels in which points are thinned [m].
    """
    present = {int(v): boxes.timeline.at(log.views[v].time_us, log.views[v].traversal) for v in views} if len(log.actors) else {}
    parts = []
    for a in range(len(log.actors)):
        poses = {v: pose_of(found, a) for v, found in present.items() if found[2][a]}
        shown = {v: window for v, pose in poses.items() if (window := _window(pictures, v, log, pose, boxes.sizes[a])) is not None}
        chosen = sorted(shown, key=lambda v: (log.views[v].time_us, v))
        chosen = (
            [chosen[k] for k in np.unique(np.linspace(0, len(chosen) - 1, min(VIEWS, len(chosen))).astype(int))] if chosen else []
        )
        mine = lidar.xyz[lidar.node == a]
        for v in chosen:
            others = _partners(log, v, poses)
            if others:
                parts.append(_points(log, pictures, a, v, others, poses, shown[v], boxes.sizes[a], mine))
    return thin(join([no_points(), *parts]), centers, voxel_m)


def pose_of(found, actor: int) -> np.ndarray:
    """Returns the (4, 4) pose of an actor's box, out of what ``Timeline.at`` gave."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = found[0][actor], found[1][actor]
    return pose


def outline(intrinsics: np.ndarray, world_to_camera: np.ndarray, pose: np.ndarray, size: np.ndarray) -> np.ndarray | None:
    """Returns the (K, 2) convex outline of a box on an image [px], or None if it is not all in front of the camera."""
    corners = np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3, indexing="ij"), axis=-1).reshape(-1, 3) * (size + 2.0 * MARGIN_M)
    grid = np.linspace(0.0, 1.0, 9)[:, None, None]
    along = np.concatenate([corners[:4] * (1.0 - grid) + corners[4:] * grid])  # edges along x: part of it may be behind the camera
    local = along.reshape(-1, 3) @ (world_to_camera @ pose)[:3, :3].T + (world_to_camera @ pose)[:3, 3]
    local = local[local[:, 2] > 0.5]
    if len(local) < 3:
        return None
    pixel = local[:, :2] / local[:, 2:] * intrinsics[:2] + intrinsics[2:]
    return opencv().convexHull(np.clip(pixel, -1e4, 1e4).astype(np.float32))[:, 0]


def covered(picture: Picture, poses: list[np.ndarray], sizes: np.ndarray) -> np.ndarray:
    """Returns (H, W) bool which pixels boxes cover."""
    mask = np.zeros(picture.usable.shape, np.uint8)
    for pose, size in zip(poses, sizes, strict=True):
        hull = outline(picture.intrinsics, picture.world_to_camera, pose, size)
        if hull is not None:
            opencv().fillConvexPoly(mask, np.rint(hull).astype(np.int32), 1)
    return mask > 0


def _window(pictures: Pictures, v: int, log: CameraLog, pose: np.ndarray, size: np.ndarray) -> tuple[slice, slice] | None:
    """Returns rows and columns of an image in which a box is, and some around; None if it is hardly there."""
    lens, height, width = pictures.lens(v)
    hull = outline(lens, np.linalg.inv(log.views[v].camera_to_world), pose, size)
    if hull is None:
        return None
    low, high = np.clip(hull.min(0), 0, [width, height]), np.clip(hull.max(0), 0, [width, height])
    if np.prod(high - low) < SMALLEST_PX:
        return None
    left, top = np.maximum(low - ROUND_PX, 0).astype(int)
    right, bottom = np.minimum(high + ROUND_PX, [width, height]).astype(int)
    return slice(top, bottom), slice(left, right)


def _partners(log: CameraLog, v: int, poses: dict[int, np.ndarray]) -> list[int]:
    """Returns a view before and one after, of the same camera, between which it moves about as much as is best."""
    eye = (np.linalg.inv(poses[v]) @ log.views[v].camera_to_world)[:3, 3]
    best: dict[bool, tuple[float, int]] = {}
    for other, pose in poses.items():
        if other == v or log.views[other].camera != log.views[v].camera:
            continue
        moved = np.linalg.norm((np.linalg.inv(pose) @ log.views[other].camera_to_world)[:3, 3] - eye) / max(
            np.linalg.norm(eye), 1.0
        )
        later = log.views[other].time_us > log.views[v].time_us
        off = abs(np.log(max(moved, 1e-6) / BASELINE))
        if moved > LEAST_BASELINE and off < best.get(later, (np.inf, 0))[0]:
            best[later] = off, other
    return [other for _, other in best.values()]


def _points(log, pictures: Pictures, a: int, v: int, others: list[int], poses, window, size, lidar: np.ndarray) -> Cloud:
    """Returns the points of one view in the box's frame."""
    mine = _cut(pictures[v], poses[v], window)
    found = flow_depth(mine, [_cut(pictures[other], poses[other], window) for other in others], 200.0)
    height, width = mine.usable.shape
    free = found.depth > 0.0
    fx, fy, cx, cy = mine.intrinsics
    eye = lidar @ mine.world_to_camera[:3, :3].T + mine.world_to_camera[:3, 3]
    eye = eye[eye[:, 2] > 0.3]
    column, row = (np.floor(f * eye[:, k] / eye[:, 2] + c).astype(np.int64) for k, (f, c) in enumerate(((fx, cx), (fy, cy))))
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    cells = np.zeros((height // LIDAR_CELL_PX + 1, width // LIDAR_CELL_PX + 1), bool)
    cells[row[inside] // LIDAR_CELL_PX, column[inside] // LIDAR_CELL_PX] = True
    free &= ~np.repeat(np.repeat(cells, LIDAR_CELL_PX, 0), LIDAR_CELL_PX, 1)[:height, :width]
    free &= (np.arange(height) % CELL_PX == 0)[:, None] & (np.arange(width) % CELL_PX == 0)
    v_, u_ = np.nonzero(free)
    depth = found.depth[v_, u_]
    local = np.column_stack([(u_ + 0.5 - cx) / fx * depth, (v_ + 0.5 - cy) / fy * depth, depth])
    back = np.linalg.inv(mine.world_to_camera)
    xyz = local @ back[:3, :3].T + back[:3, 3]
    kept = (np.abs(xyz) < 0.5 * size).all(1)
    n, rgb = int(kept.sum()), mine.rgb[v_, u_].astype(np.float32)[kept]
    return Cloud(xyz[kept], np.full(n, a, np.int32), rgb, np.full(n, log.views[v].time_us), np.ones(n))


def _cut(picture: Picture, pose: np.ndarray, window: tuple[slice, slice]) -> Picture:
    """Returns a part of an image, as a camera that stands in the box's frame."""
    top, left = window[0].start, window[1].start
    lens = picture.intrinsics - [0.0, 0.0, left, top]
    return Picture(np.ascontiguousarray(picture.rgb[window]), picture.usable[window], lens, picture.world_to_camera @ pose)
