"""Distorted lenses against the formula, the inverse, and images whose every pixel is known."""

import numpy as np
import pytest

from worldengine_envs.errors import DataError
from worldengine_envs.rendering.cameras import RIGS, intrinsics_of, scaled_rig
from worldengine_envs.rendering.lenses import distort, pinhole_views, resample, undistort
from worldengine_envs.scenario.types import CameraRig

NUPLAN = np.array([-0.356123, 0.172545, -0.00213, 0.000464, -0.05231])


def real_rig(image_size, coefficients=NUPLAN):
    """The three front cameras with the lens of a real car."""
    rig = scaled_rig(RIGS["front3"], image_size)
    return CameraRig(rig.names, rig.camera_to_ego, rig.intrinsics, np.tile(coefficients, (3, 1)), rig.image_size)


def test_distortion_by_hand():
    k1, k2, p1, p2, k3 = NUPLAN
    assert distort(np.array([0.5, 0.0]), NUPLAN) == pytest.approx(
        [0.5 * (1 + k1 / 4 + k2 / 16 + k3 / 64) + p2 * 3 / 4, p1 / 4], abs=1e-12
    )
    assert distort(np.zeros((4, 2)), NUPLAN) == pytest.approx(np.zeros((4, 2)))


def test_undistort_is_the_inverse():
    points = np.random.default_rng(0).uniform(-0.6, 0.6, (500, 2))
    assert undistort(distort(points, NUPLAN), NUPLAN) == pytest.approx(points, abs=1e-7)


def test_lens_that_folds_is_refused():
    with pytest.raises(DataError, match="folds back"):
        undistort(np.array([[0.0, 0.0], [1.0, 1.0]]), NUPLAN * [1, 0, 0, 0, 0])
    with pytest.raises(DataError, match="distortion"):
        pinhole_views(real_rig((400, 100), np.array([-0.5, 0, 0, 0, 0])))


def test_plain_rig_stays_as_it_is():
    rig = scaled_rig(RIGS["front3"], (72, 128))
    plain, maps = pinhole_views(rig)
    assert plain is rig and maps is None


def test_resampled_image_shows_what_the_lens_sees():
    """A pattern in space, drawn through the pinhole and resampled, is the pattern seen through the lens."""
    rig = real_rig((90, 160))
    plain, maps = pinhole_views(rig)
    assert not plain.distortion.any() and (plain.image_size == [113, 200]).all()
    height, width = plain.image_size[0]

    def pattern(points):
        x, y = points[..., 0], points[..., 1]
        return np.stack([0.5 + 0.5 * np.sin(5 * x), 0.5 + 0.5 * np.cos(6 * y), 0.5 + 0.5 * np.sin(3 * x + 4 * y)], -1) * 255

    images = np.empty((6, height, width, 3), np.uint8)
    for i in range(6):
        fx, fy, cx, cy = intrinsics_of(plain)[i % 3]
        v, u = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
        images[i] = pattern(np.stack([(u - cx) / fx, (v - cy) / fy], -1)).round()
    seen = resample(images, maps)
    assert seen.shape == (6, 90, 160, 3)
    fx, fy, cx, cy = intrinsics_of(rig)[0]
    for row, column in ((0, 0), (45, 80), (89, 159), (10, 120)):
        truth = pattern(undistort(np.array([(column + 0.5 - cx) / fx, (row + 0.5 - cy) / fy]), NUPLAN))
        assert np.abs(seen[4, row, column] - truth).max() < 1.5


def test_wide_lens_fits_with_a_shorter_focal_length():
    rig = real_rig((90, 160), np.array([-0.36, 0.3, 0.0, 0.0, -0.05]) * [1.4, 1, 1, 1, 1])
    plain, maps = pinhole_views(rig)
    assert (plain.image_size == [113, 200]).all() and intrinsics_of(plain)[0, 0] < intrinsics_of(rig)[0, 0]
    assert maps.min() > 0.9 and (maps < [199.1, 112.1]).all()


def test_there_and_back():
    """Undistorting what was distorted gives the pinhole image again, inside of what the lens saw."""
    rig = real_rig((120, 200))
    plain, maps = pinhole_views(rig)
    height, width = (int(side) for side in plain.image_size[0])
    smooth = np.add.outer(np.arange(height), np.arange(width))[:, :, None] * np.array([0.4, 0.3, 0.2]) + 20
    seen = resample(np.tile(smooth.round().astype(np.uint8), (3, 1, 1, 1)), maps)
    lens, pinhole = intrinsics_of(rig)[0], intrinsics_of(plain)[0]
    pixels = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)
    points = (pixels - pinhole[2:]) / pinhole[:2]
    back = (distort(points, rig.distortion[0]) * lens[:2] + lens[2:]).astype(np.float32)
    inside = ((back > 1) & (back < [199, 119])).all(-1)
    assert inside.mean() > 0.6
    again = resample(seen[:1], back[None])[0]
    assert np.abs(again[inside] - smooth[inside]).max() <= 2
    assert np.array_equal(
        resample(seen, np.stack([np.stack(np.meshgrid(np.arange(200) + 0.5, np.arange(120) + 0.5), -1)] * 3)), seen
    )
