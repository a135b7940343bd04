"""``worldengine reconstruct`` and ``worldengine packs reconstruct`` on tiny logs: files, numbers, page, Ctrl-C and going on."""

from __future__ import annotations

import json
import re
import signal
from html.parser import HTMLParser

import numpy as np
import pytest
from pack_helpers import sample, small_pack
from PIL import Image
from reconstruction_room import FOCAL, FORWARD, HEIGHT, WIDTH, camera_pose, color_at, depth_image
from scenes import random_scene

from worldengine_envs.city import make_scenario
from worldengine_envs.cli import reconstruct_pack
from worldengine_envs.cli.main import main
from worldengine_envs.cli.reconstruct_pack import Verdict
from worldengine_envs.cli.street_judge import StreetJudge, memory_pack
from worldengine_envs.envs.reference import attach_reference
from worldengine_envs.envs.scenes import scene_of
from worldengine_envs.envs.selection import MemoryPack
from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.metrics import psnr
from worldengine_envs.reconstruction.settings import ReconstructionSettings
from worldengine_envs.reconstruction.trainer import Trainer
from worldengine_envs.rendering.cameras import find_rig, scaled_rig
from worldengine_envs.rendering.scene_folder import load_scene, save_scene
from worldengine_envs.scenario import Pack, verify, write_pack

STEPS = 10
SETTINGS = "--iterations 24 --max-gaussians 3000 --points.max-points 2500 --sky-gaussians 60 --scale 0.5 --test-every 5"
OPTIONS = [*SETTINGS.split(), "--checkpoint-every", "10", "--preview-every", "10"]


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """The room of the other tests as a sequence of KITTI, with one image that is no image."""
    folder = tmp_path_factory.mktemp("logs") / "room"
    (folder / "image_l").mkdir(parents=True)
    poses = []
    for step in range(STEPS):
        pose = camera_pose(step)
        xyz = depth_image(pose)[1]
        pixels = color_at(xyz.reshape(-1, 3)).reshape(HEIGHT, WIDTH, 3)
        Image.fromarray(pixels).save(folder / "image_l" / f"{step:06d}.png")
        local = np.eye(4)
        local[:3, 3] = FORWARD.T @ (pose[:3, 3] - camera_pose(0)[:3, 3])
        poses.append(" ".join(f"{x:.9f}" for x in local[:3].reshape(-1)))
    (folder / "poses.txt").write_text("\n".join(poses) + "\n")
    (folder / "calib.txt").write_text(f"P0: {FOCAL} 0 {WIDTH / 2 - 0.5} 0 0 {FOCAL} {HEIGHT / 2 - 0.5} 0 0 0 1 0\n")
    (folder / "image_l" / "000004.png").write_bytes(b"nothing")
    return folder


@pytest.fixture(scope="module")
def finished(street, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "a"
    assert main(["reconstruct", "kitti", str(street), "--out", str(out), *OPTIONS]) == 0
    return out


def test_what_is_written(finished):
    scene, quality = load_scene(finished / "scene"), json.loads((finished / "quality.json").read_text())
    manifest = json.loads((finished / "scene" / "manifest.json").read_text())
    assert scene.kind == "reconstructed" and scene.name == "room" and scene.witnesses is not None
    for name in ("psnr", "ssim", "seconds", "peak_memory_mb"):
        assert manifest["quality"][name] == quality[name] and quality[name] > 0.0
    assert manifest["quality"]["depth_rel_error"] is None  # there is no LiDAR
    assert quality["train_views"] + quality["test_views"] == STEPS - 1 and len(quality["per_view"]) == quality["test_views"]
    assert quality["psnr"] == pytest.approx(np.mean([row["psnr"] for row in quality["per_view"]]))
    assert any("000004.png" in problem for problem in quality["problems"])
    history = [json.loads(line) for line in (finished / "history.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in history] == [20] and len(list((finished / "previews").iterdir())) == 2


class _Page(HTMLParser):
    """Collects what a page shows and what it loads."""

    def __init__(self):
        super().__init__()
        self.sources, self.open, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_needs_nothing_else(finished):
    text = (finished / "report.html").read_text()
    page = _Page()
    page.feed(text)
    shown = " ".join(page.text)
    assert page.open == [] and len(text) < 2_000_000
    assert page.sources and all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert not re.search(r"https?://", text)
    quality = json.loads((finished / "quality.json").read_text())
    for word in (
        "Held-out views",
        "Beside the path",
        "-3 m",
        "+2 m",
        "Left out",
        "000004.png",
        f"{quality['psnr']:.2f}",
        "confidence",
    ):
        assert word in shown, word


def test_a_folder_is_not_reconstructed_twice(street, finished, capsys):
    args = ["reconstruct", "kitti", str(street), "--out", str(finished), *OPTIONS]
    assert main(args) == 1 and "Go on with it (--resume)" in capsys.readouterr().err
    assert main([*args, "--resume", "--seed", "3"]) == 1 and "seed" in capsys.readouterr().err
    (street / "image_l" / "000009.png").rename(street / "gone.png")
    assert main([*args, "--resume"]) == 1 and "field log" in capsys.readouterr().err  # it is another log now
    (street / "gone.png").rename(street / "image_l" / "000009.png")
    before = load_scene(finished / "scene").nodes["background"].gaussians.means
    assert main([*args, "--resume"]) == 0  # nothing is left to learn: the scene is written again
    assert np.array_equal(load_scene(finished / "scene").nodes["background"].gaussians.means, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_gone_on_with(street, finished, tmp_path, monkeypatch, capsys, number):
    """A signal within a step ends after it; going on gives the same bits as never having stopped."""
    step, out = Trainer.step, tmp_path / "b"

    def interrupted(trainer):
        if trainer.iteration == 13:
            signal.raise_signal(number)
        return step(trainer)

    args = ["reconstruct", "kitti", str(street), "--out", str(out), *OPTIONS]
    monkeypatch.setattr(Trainer, "step", interrupted)
    assert main(args) == 128 + number
    assert "--resume goes on" in capsys.readouterr().err and not (out / "scene").exists()
    monkeypatch.setattr(Trainer, "step", step)
    assert main([*args, "--resume"]) == 0
    for one, two in zip(*(load_scene(folder / "scene").nodes.values() for folder in (out, finished)), strict=True):
        assert all(np.array_equal(getattr(one.gaussians, k), getattr(two.gaussians, k)) for k in ("means", "scales", "sh", "quats"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nonsense", "."], "no format 'nonsense'"),
        (["kitti", "nowhere"], "does not exist"),
        (["kitti"], "no camera log"),
        (["kitti", ".", "--scale", "2"], "scale"),
        (["kitti", ".", "--points.voxel-m", "0"], "points.voxel_m"),
        (["kitti", ".", "--densification.every", "0"], "densification.every"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, capsys, words, message):
    assert main(["reconstruct", *words, "--out", str(tmp_path / "x")]) in (1, 2)
    assert message in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_a_device_that_is_not_there_is_told_before_anything_is_learned(street, tmp_path, capsys):
    assert main(["reconstruct", "kitti", str(street), "--out", str(tmp_path / "x"), *OPTIONS, "--device", "cuda:99"]) == 1
    assert "cuda:99" in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_a_street_that_was_recorded_otherwise_is_not_gone_on_with(tmp_path):
    street, settings = attach_reference(make_scenario("car_following", 0)), ReconstructionSettings()
    (tmp_path / "log").mkdir()
    (tmp_path / "recorded.json").write_text("{}")
    with pytest.raises(DataError, match="recorded with other settings"):
        reconstruct_pack._reconstruct(street, tmp_path, reconstruct_pack.RecordedSettings(), settings)


def test_the_truer_scene_is_used(tmp_path, monkeypatch, capsys):
    """Of two streets one looks truer reconstructed; the copy of the pack has that scene only, and the same ids."""
    streets = [attach_reference(make_scenario("car_following", seed)) for seed in range(2)]
    write_pack(tmp_path / "p", "streets", "1.0", "Apache-2.0", streets, recipes=True)
    ids, verdicts = [s.id for s in streets], iter([Verdict((27.0, 24.0), (25.0, 25.0)), Verdict((26.0, 20.0), (25.0, 25.0))])
    monkeypatch.setattr(
        reconstruct_pack, "_reconstruct", lambda _, folder, *__: save_scene(random_scene(), folder / "run" / "scene") and 0
    )
    monkeypatch.setattr(reconstruct_pack, "judge", lambda *_: next(verdicts))
    out = tmp_path / "q"
    assert main(["packs", "reconstruct", str(tmp_path / "p"), *ids, "--out", str(out)]) == 0
    pack = Pack.open(out)
    assert verify(pack) == [] and pack.name == "streets" and [entry.id for entry in pack.entries] == ids
    assert [pack.manifest.scene(entry).kind for entry in pack.entries] == ["reconstructed", "sampled"]
    assert len(scene_of(pack, ids[0])) == len(random_scene()) and "1 of them reconstructed" in capsys.readouterr().out
    small_pack(tmp_path / "logs", scenarios=[sample()])
    assert main(["packs", "reconstruct", str(tmp_path / "logs"), "a_015", "--out", str(tmp_path / "r")]) == 1
    assert "is no street of the city" in capsys.readouterr().err


def test_judge_of_streets():
    """Sampled streets look about as in docs/city.md says; nothing at all looks worse."""
    scenario = make_scenario("car_following", 0)
    judge = StreetJudge(scenario, scaled_rig(find_rig("front"), (45, 80)), [20, 60])
    assert judge.truth.shape == (4, 1, 45, 80, 3) and list(judge.beside) == [False, False, True, True]
    pack = MemoryPack([scenario])
    path, beside = judge.psnr(pack, scenario.id)
    assert 20.0 < path < 40.0 and 20.0 < beside < 40.0
    assert path == pytest.approx(
        np.mean([psnr(a, b) for a, b in zip(judge.draw(pack, scenario.id)[:2, 0], judge.truth[:2, 0], strict=True)])
    )
    wrong = judge.psnr(memory_pack(scenario, random_scene(), "x"), scenario.id)
    assert max(wrong) < min(path, beside) - 3.0
