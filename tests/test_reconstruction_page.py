"""The page of a reconstruction shows every actor's changes and every appearance, and its parts are whole HTML."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from reconstruction_learned import FORWARD, LOOKS, learn, pose_of

from worldengine_envs.reconstruction import html
from worldengine_envs.reconstruction.export import export_scene
from worldengine_envs.reconstruction.page import edited, front_views, spread, window_of, write_page
from worldengine_envs.reconstruction.settings import ReconstructionSettings
from worldengine_envs.reconstruction.split import split
from worldengine_envs.rendering.confidence import witnesses_of
from worldengine_envs.rendering.cpu.renderer import CpuRenderer
from worldengine_envs.rendering.frames import RenderSettings

QUALITY = {
    "psnr": 21.5,
    "psnr_worst_tenth": 18.25,
    "ssim": 0.75,
    "depth_rel_error": 0.043,
    "gaussians": 200,
    "actors": 2,
    "seconds": 120.0,
    "iterations": 7,
    "peak_memory_mb": 345,
    "train_views": 6,
    "test_views": 2,
}


@pytest.mark.parametrize("held_out", [True, False])
def test_what_is_shown(tmp_path, held_out):
    log, graph, corrections, shots = learn(tmp_path)
    renderer = CpuRenderer(RenderSettings(near=0.2))
    scene = export_scene(graph, log, corrections)
    missing = {} if held_out else {"psnr": None, "psnr_worst_tenth": None, "ssim": None, "depth_rel_error": None}
    scene = replace(scene, quality=QUALITY | missing, witnesses=witnesses_of(scene, map(shots.of, range(8)), renderer))
    chosen = split(log, 4 if held_out else 0)
    rows = [{"view": int(v), "psnr": 20.0 + v, "ssim": 0.5} for v in chosen.test]
    history = [{"iteration": k, "psnr": 10.0 + k, "gaussians": 100 + k} for k in range(0, 50, 10)]
    file = tmp_path / "report.html"
    write_page(file, scene, shots, chosen, {"per_view": rows}, history, renderer, ReconstructionSettings())
    text = file.read_text(encoding="utf-8")
    words = ["car_day", "car_dusk", "2 m to its left", "turned by 20 degrees", "removed", "Appearances", *LOOKS, "polyline"]
    words += ["21.50 (worst tenth 18.25)", "4.3 %", "PSNR 22.00 dB", "Held-out views"] if held_out else ["Training views"]
    for word in words:
        assert word in text, word
    assert text.count("<figure>") == text.count("</figure>") == text.count("data:image/jpeg") > 20


def test_texts_are_escaped():
    hostile = "<script>alert(1)</script>"
    parts = [html.heading(hostile, hostile), html.table([(hostile, 1.5)], (hostile, "x")), html.bullets([hostile])]
    parts += [html.pictures([(np.zeros((4, 6, 3), np.uint8), hostile)]), html.curve([0, 1], [2.0, 3.0], hostile, hostile)]
    assert "<script" not in html.page(hostile, parts)
    assert html.curve([1], [1.0], "x", "y") == "" and html.curve([0, 1], [2.0, 2.0], "x", "y")


def test_large_pictures_become_small():
    noise = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3)).astype(np.uint8)
    assert len(html.pictures([(noise, "")])) < 150_000


def test_what_is_chosen(tmp_path):
    assert spread(list(range(100)), 3) == [0, 50, 99] and spread([4], 3) == [4] and spread([], 3) == []
    mask = np.zeros((40, 60), bool)
    mask[30:38, 2:10] = True
    rows, columns = window_of(mask)
    assert (rows, columns) == (slice(20, 40), slice(0, 30)) and mask[rows, columns].sum() == mask.sum()
    box = np.eye(4)
    (_, moved), (_, turned), (_, gone) = edited(box)
    np.testing.assert_allclose(moved[:3, 3], [0.0, 2.0, 0.0])
    np.testing.assert_allclose(turned[:3, 0], [np.cos(np.radians(20.0)), np.sin(np.radians(20.0)), 0.0])
    assert gone is None and np.array_equal(box, np.eye(4))
    log, _, _, shots = learn(tmp_path)
    aside = pose_of(0.0, 0.0, 0.0, 1.0, axes=FORWARD)
    left = replace(log.cameras[0], name="left")
    both = [
        view for front in log.views for view in (replace(front, camera=1, camera_to_world=front.camera_to_world @ aside), front)
    ]
    two = replace(log, cameras=(*log.cameras, left), views=tuple(both))
    shots.log = two
    assert front_views(shots, split(two, 0)) == list(range(1, 16, 2))
    shots.log = log
    assert front_views(shots, split(log, 4)) == [2, 6] and front_views(shots, split(log, 0)) == list(range(8))
