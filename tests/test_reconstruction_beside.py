"""Views beside the path: images moved by their depth against planes whose image from aside is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from worldengine_envs.reconstruction.beside import left_of_path, moved_image
from worldengine_envs.reconstruction.camera_log import Camera, CameraLog, View

HEIGHT, WIDTH, LENS = 60, 90, np.array([80.0, 80.0, 45.0, 30.0])


def rays() -> np.ndarray:
    v, u = np.meshgrid(np.arange(HEIGHT) + 0.5, np.arange(WIDTH) + 0.5, indexing="ij")
    return np.stack([(u - LENS[2]) / LENS[0], (v - LENS[3]) / LENS[1], np.ones_like(u)], axis=-1)


def look(shift: float) -> tuple[np.ndarray, np.ndarray]:
    """The image and depth that a camera ``shift`` m to the right sees: a slanted ground, and a pillar 6 m before it."""
    ray, eye = rays(), np.array([shift, 0.0, 0.0])
    with np.errstate(divide="ignore"):
        depth = np.where(ray[..., 1] > 0.02, 1.6 / ray[..., 1], 80.0).clip(max=80.0)
    place = eye + depth[..., None] * ray
    red = 128 + 100 * np.sin(place[..., 0] / 3.0)
    at_pillar = eye + 6.0 * ray
    pillar = (np.abs(at_pillar[..., 0]) < 0.5) & (depth > 6.0)
    rgb = np.stack([np.where(pillar, 10.0, red), np.where(pillar, 240.0, 60.0), np.full(red.shape, 90.0)], axis=-1)
    return np.rint(rgb).astype(np.uint8), np.where(pillar, 6.0, depth).astype(np.float32)


@pytest.mark.parametrize("shift", [0.0, 0.7, -1.5])
def test_an_image_is_moved_to_where_a_camera_beside_sees_it(shift):
    rgb, depth = look(0.0)
    relative = np.eye(4)
    relative[0, 3] = -shift
    moved, known = moved_image(rgb, np.ones(depth.shape, bool), depth, np.ones_like(depth), LENS, relative)
    truth, _ = look(shift)
    error = np.abs(moved.astype(int) - truth)[known].max(axis=1)
    assert known.mean() > 0.6
    assert np.quantile(error, 0.95) < 20  # half a pixel of the pattern
    pillar = truth[..., 1] == 240
    inner = pillar & np.roll(pillar, 2, axis=1) & np.roll(pillar, -2, axis=1)
    assert (moved[inner & known][:, 1] == 240).all()  # nothing shines through
    if shift == 0.0:
        assert (moved[known] == rgb[known]).all()


def test_what_is_not_sure_is_not_moved():
    rgb, depth = look(0.0)
    usable, alpha = np.ones(depth.shape, bool), np.ones_like(depth)
    usable[:, :30], alpha[:, 60:] = False, 0.3
    _, known = moved_image(rgb, usable, depth, alpha, LENS, np.eye(4))
    assert known[:, 32:58].mean() > 0.6
    assert not known[:, :30].any() and not known[:, 60:].any()


def test_left_of_the_path_is_left_of_where_the_car_goes():
    camera = Camera("front", 10, 10, LENS, np.zeros(5))
    turn = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # looks along x
    views = []
    for step in range(4):
        for c in range(2):
            pose = np.eye(4)
            pose[:3, :3], pose[:3, 3] = turn, (0.0, 2.0 * step + 0.1 * c, 1.5)  # drives along y
            views.append(View(c, step, pose, Path("none.png")))
    log = CameraLog("log", "test", "none", (camera, camera), tuple(views))
    np.testing.assert_allclose(left_of_path(log), np.tile([-1.0, 0.0, 0.0], (8, 1)), atol=1e-12)
    still = CameraLog("log", "test", "none", (camera,), (views[0],))
    np.testing.assert_allclose(left_of_path(still), [[0.0, 1.0, 0.0]], atol=1e-12)  # left of where it looks
