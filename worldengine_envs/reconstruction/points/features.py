"""Points of what images show from several places."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from worldengine_envs.reconstruction.camera_log import CameraLog
from worldengine_envs.reconstruction.pictures import Picture, Pictures
from worldengine_envs.reconstruction.points.bodies import covered, pose_of
from worldengine_envs.reconstruction.points.boxes import Boxes
from worldengine_envs.reconstruction.points.colour import project
from worldengine_envs.reconstruction.points.flow import Depth
from worldengine_envs.reconstruction.points.maps import DepthMaps
from worldengine_envs.reconstruction.points.voxels import Cloud, join, no_points, thin

LIDAR_CELL_PX = 12  # side of the parts of an image in which nothing is triangulated where LiDAR points are: they are more exact
CELL_PX = 3  # side of the parts of an image of which each gets a point
PASSES_PX = (16.0, 4.0, 1.0)  # least parallax: what is seen best goes first, and others only where nothing is yet
SAME = 0.15  # difference of the logarithms of two depths of one surface, with a match's error on top
MATCH_PX = 1.0
THROUGH = 0.75  # of the depth of an image: points nearer than that are seen through


def rays(picture: Picture, pixel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns a camera's centre (3,) in the world [m] and (N, 3) the vectors from there to one metre deep at pixels (N,)."""
    camera_to_world, width = np.linalg.inv(picture.world_to_camera), picture.usable.shape[1]
    fx, fy, cx, cy = picture.intrinsics
    u, v = pixel % width + 0.5, pixel // width + 0.5
    local = np.stack(((u - cx) / fx, (v - cy) / fy, np.ones(len(pixel))), axis=1)
    return camera_to_world[:3, 3], local @ camera_to_world[:3, :3].T


def triangulate(
    log: CameraLog,
    pictures: Pictures,
    maps: DepthMaps,
    views: np.ndarray,
    boxes: Boxes,
    lidar: Cloud,
    centers: cKDTree,
    voxel_m: float,
) -> Cloud:
    """Returns coloured points of the background: one wherever an image shows a surface that has none.

    Args:
        log: What was recorded.
        pictures: Its images.
        maps: Their depths.
        views: (V,) rows of those that are triangulated.
        boxes: Of the actors. Flow between two times is meaningless where one moves: nothing is triangulated there.
        lidar: Points that are there already.
        centers: Of the cameras.
        voxel_m: Side of the voxels in which points are thinned [m].
    """
    cloud = no_points()
    views = [int(i) for i in views if maps.neighbours.of(int(i))]
    for least in PASSES_PX:
        for i in views:
            new = _new_points(log, pictures[i], maps[i], i, cloud, boxes, lidar, least)
            cloud = join([cloud, thin(new, centers, voxel_m)])
        cloud = thin(cloud, centers, voxel_m)
    return cloud.take(_supported(cloud, pictures, maps, views))


def _new_points(
    log: CameraLog, picture: Picture, found: Depth, i: int, cloud: Cloud, boxes: Boxes, lidar: Cloud, least: float
) -> Cloud:
    """Returns a point for each cell of an image with enough parallax whose surface has none in the cloud."""
    view, width = log.views[i], picture.usable.shape[1]
    wanted = (found.parallax > least) & ~_taken(picture, boxes.gather(lidar.xyz, lidar.node, view.time_us, view.traversal))
    wanted &= ~_covered(picture, found, cloud.xyz) & ~_before_actors(picture, boxes, view)
    pixel = np.flatnonzero(wanted)
    cell = (pixel // width // CELL_PX) * width + pixel % width // CELL_PX
    order = np.lexsort((-found.parallax.reshape(-1)[pixel], cell))  # of each cell the pixel that is surest
    pixel = pixel[order[np.unique(cell[order], return_index=True)[1]]]
    center, directions = rays(picture, pixel)
    placed, node = boxes.divide(center + directions * found.depth.reshape(-1)[pixel, None], view.time_us, view.traversal)
    rgb, n = picture.rgb.reshape(-1, 3)[pixel].astype(np.float32), len(pixel)
    return Cloud(placed, node, rgb, np.full(n, view.time_us), np.ones(n)).take(node < 0)


def _before_actors(picture: Picture, boxes: Boxes, view) -> np.ndarray:
    """Returns (H, W) bool where actors' boxes are: who drives along looks as if he stood, far away or near."""
    if not len(boxes.sizes):
        return np.zeros(picture.usable.shape, bool)
    found = boxes.timeline.at(view.time_us, view.traversal)
    there = np.flatnonzero(found[2])
    return covered(picture, [pose_of(found, a) for a in there], boxes.sizes[there])


def _taken(picture: Picture, placed: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Returns (H, W) bool near which pixels points (N, 3) are, of those that are there (N,)."""
    xyz, there = placed
    height, width = picture.usable.shape
    _, row, column, _ = project(xyz[there], picture.world_to_camera, picture.intrinsics, height, width)
    cells = np.zeros((height // LIDAR_CELL_PX + 1, width // LIDAR_CELL_PX + 1), bool)
    cells[row // LIDAR_CELL_PX, column // LIDAR_CELL_PX] = True
    return _spread(cells, LIDAR_CELL_PX, height, width)


def _covered(picture: Picture, found: Depth, xyz: np.ndarray) -> np.ndarray:
    """Returns (H, W) bool in which pixels' cells the nearest or farthest of the points has the depth of the pixel."""
    height, width = picture.usable.shape
    _, row, column, depth = project(xyz, picture.world_to_camera, picture.intrinsics, height, width)
    shape = height // CELL_PX + 1, width // CELL_PX + 1
    covered = np.zeros((height, width), bool)
    for choose, start in ((np.minimum, np.inf), (np.maximum, 0.0)):
        cells = np.full(shape, start)
        choose.at(cells, (row // CELL_PX, column // CELL_PX), depth)
        covered |= _same(_spread(cells, CELL_PX, height, width), found.depth, found.parallax)
    return covered


def _supported(cloud: Cloud, pictures: Pictures, maps: DepthMaps, views: list[int]) -> np.ndarray:
    """Returns (N,) bool which points more images confirm than see through."""
    votes = np.zeros(len(cloud.xyz))
    for i in views:
        picture, found = pictures[i], maps[i]
        height, width = picture.usable.shape
        rows, row, column, depth = project(cloud.xyz, picture.world_to_camera, picture.intrinsics, height, width)
        measured, parallax = found.depth[row, column], found.parallax[row, column]
        votes[rows] += _same(depth, measured, parallax)
        votes[rows] -= depth < THROUGH * measured
    return votes > 0


def _same(depth: np.ndarray, measured: np.ndarray, parallax: np.ndarray) -> np.ndarray:
    """Returns where two depths [m] are of one surface, as far as the parallax [px] allows to say."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.abs(np.log(depth / measured)) < SAME + MATCH_PX / parallax


def _spread(cells: np.ndarray, side: int, height: int, width: int) -> np.ndarray:
    """Returns (height, width) what cells of so many pixels' side say of their pixels."""
    return np.repeat(np.repeat(cells, side, axis=0), side, axis=1)[:height, :width]
