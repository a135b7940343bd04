"""Points of actors by flow: a wall that comes towards a camera that stands is an actor like any other."""

from dataclasses import replace

import numpy as np
import pytest
from reconstruction_room import STEP_M, STEP_US, WALL_M, camera_pose, color_at, write_log
from scipy.spatial import cKDTree

from worldengine_envs.reconstruction.camera_log import ActorTrack
from worldengine_envs.reconstruction.pictures import Pictures
from worldengine_envs.reconstruction.points.bodies import covered, pose_of, triangulate_bodies
from worldengine_envs.reconstruction.points.boxes import Boxes
from worldengine_envs.reconstruction.points.voxels import Cloud, no_points
from worldengine_envs.scenario.types import AgentType

CENTRE, SIZE = np.array([WALL_M, 0.0, 3.0]), np.array([4.0, 9.0, 5.0])


@pytest.fixture(scope="module")
def standing(tmp_path_factory):
    """The room as a camera sees it that thinks it stands: all of the room is an actor's box."""
    log = write_log(tmp_path_factory.mktemp("standing"))
    steps = len(log.views)
    poses = np.tile(np.eye(4), (steps, 1, 1))
    poses[:, :3, 3] = CENTRE - np.outer(np.arange(steps) * STEP_M, [1.0, 0.0, 0.0])
    track = ActorTrack("wall", AgentType.VEHICLE, SIZE, np.arange(steps) * STEP_US, poses)
    return replace(log, actors=(track,), views=tuple(replace(view, camera_to_world=camera_pose(0)) for view in log.views))


def found(log, lidar: Cloud) -> Cloud:
    views, centers = np.arange(len(log.views)), cKDTree(camera_pose(0)[None, :3, 3])
    return triangulate_bodies(log, Pictures(log), views, Boxes(log), lidar, centers, 0.15)


def test_points_lie_on_the_actor_with_its_colours(standing):
    cloud = found(standing, no_points())
    assert len(cloud.xyz) > 300 and (cloud.node == 0).all()
    off = np.abs(cloud.xyz[:, 0])
    assert np.median(off) < 0.3 and np.quantile(off, 0.9) < 0.9  # of 25 m, where a pixel is 0.2 m
    error = np.abs(cloud.rgb.astype(float) - color_at(cloud.xyz + CENTRE))
    assert np.median(error) < 15.0  # that of any two points is 60


def test_nothing_is_put_where_the_lidar_has_points(standing):
    y, z = (axis.ravel() for axis in np.meshgrid(np.arange(-4.5, 0.0, 0.2), np.arange(-2.5, 2.5, 0.2)))
    n = len(y)
    lidar = Cloud(
        np.column_stack([np.zeros(n), y, z]), np.zeros(n, np.int32), np.zeros((n, 3), np.float32), np.zeros(n), np.ones(n)
    )
    cloud, everywhere = found(standing, lidar), found(standing, no_points())
    assert (cloud.xyz[:, 1] < -0.8).sum() < 0.1 * (everywhere.xyz[:, 1] < -0.8).sum()
    assert (cloud.xyz[:, 1] > 0.8).sum() > 0.8 * (everywhere.xyz[:, 1] > 0.8).sum()


def test_a_box_covers_the_pixels_that_it_is_before(standing):
    picture, boxes = Pictures(standing)[0], Boxes(standing)
    pose = pose_of(boxes.timeline.at(0, "log"), 0)
    mask = covered(picture, [pose], boxes.sizes)
    fx, fy, cx, cy = picture.intrinsics
    near = WALL_M - 2.25
    left, top = cx - fx * 4.75 / near, cy - fy * (5.75 - 1.5) / near
    rows, columns = np.nonzero(mask)
    assert abs(columns.min() - left) < 3 and abs(rows.min() - top) < 3
    assert not covered(picture, [], np.zeros((0, 3))).any()
