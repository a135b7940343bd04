"""Camera rigs: where points of the world fall in the image, in any size, with and without distortion."""

import numpy as np
import pytest

from worldengine_envs.errors import DataError
from worldengine_envs.rendering.cameras import RIGS, find_rig, intrinsics_of, scaled_rig, world_to_camera


def project(rig, camera, points, pose=(0.0, 0.0, 0.0)):
    """Pixels and depth of world points (n, 3), seen from an ego at pose, by the textbook."""
    to_camera = world_to_camera(rig, *pose)[camera]
    p = points @ to_camera[:3, :3].T + to_camera[:3, 3]
    fx, fy, cx, cy = intrinsics_of(rig)[camera]
    return np.stack([fx * p[:, 0] / p[:, 2] + cx, fy * p[:, 1] / p[:, 2] + cy], 1), p[:, 2]


def test_front_camera_sees_ahead():
    rig = scaled_rig(RIGS["front"], (72, 128))
    points = np.array([[11.7, 0.0, 1.55], [11.7, 10 * np.tan(np.radians(30)), 1.55], [11.7, -1.0, 0.55]])
    pixels, depth = project(rig, 0, points)
    assert depth == pytest.approx([10, 10, 10])
    assert pixels[0] == pytest.approx([64, 36])  # straight ahead: the middle
    assert pixels[1] == pytest.approx([0, 36])  # 30 degrees to the left: the left edge
    assert pixels[2, 0] > 64 and pixels[2, 1] > 36  # right of the camera and below it


def test_pose_of_the_car_moves_the_camera():
    rig = RIGS["surround8"]
    here = np.random.default_rng(0).normal(0, 20, (50, 3))
    x, y, yaw = 103.0, -42.0, 2.2
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    there = here @ turn.T + [x, y, 0]
    for camera in range(8):
        at_origin, moved = project(rig, camera, here), project(rig, camera, there, (x, y, yaw))
        assert np.allclose(at_origin[1], moved[1])
        assert np.allclose(at_origin[0], moved[0])


def test_poses_broadcast():
    rig = RIGS["front3"]
    x, yaw = np.arange(6.0).reshape(2, 3), np.array([0.1, 0.2, 0.3])
    many = world_to_camera(rig, x, 1.0, yaw)
    assert many.shape == (2, 3, 3, 4, 4)
    assert np.allclose(many[1, 2], world_to_camera(rig, 5.0, 1.0, 0.3))


def test_surround8_leaves_no_gap():
    rig = RIGS["surround8"]
    angle = np.radians(np.arange(360))
    points = np.stack([200 * np.cos(angle), 200 * np.sin(angle), np.full(360, 1.5)], 1)
    seen = np.zeros(360, bool)
    for camera in range(8):
        pixels, depth = project(rig, camera, points)
        seen |= (depth > 0) & (pixels[:, 0] >= 0) & (pixels[:, 0] <= 1920)
    assert seen.all()
    assert RIGS["front3"].names == ("CAM_L0", "CAM_F0", "CAM_R0")


def test_size_keeps_the_horizontal_view_and_the_proportions():
    rig = RIGS["front"]
    for size in ((72, 128), (128, 128), (90, 320), (1, 1)):
        fx, fy, cx, cy = intrinsics_of(scaled_rig(rig, size))[0]
        assert fx == pytest.approx(fy)
        assert 2 * np.degrees(np.arctan(0.5 * size[1] / fx)) == pytest.approx(60)
        assert (cx, cy) == pytest.approx((size[1] / 2, size[0] / 2))


def test_cameras_are_found_by_name():
    rig = find_rig(("CAM_B0", "CAM_F0"))
    assert rig.names == ("CAM_B0", "CAM_F0")
    assert np.array_equal(rig.camera_to_ego[1], RIGS["front"].camera_to_ego[0])
    assert find_rig("CAM_L1").names == ("CAM_L1",)
    assert find_rig("log", log=rig) is rig
    for wrong in ("log", "nowhere", (), ("CAM_F0", "CAM_F0")):
        with pytest.raises(DataError, match="cameras"):
            find_rig(wrong)
    with pytest.raises(DataError, match="image_size"):
        scaled_rig(rig, (0, 128))
