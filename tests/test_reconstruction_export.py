"""Exported scenes show what training shows; scenes in packs stand where their scenario is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pack_helpers import sample, small_pack
from reconstruction_learned import HEIGHT, LENS, LOOKS, WIDTH, learn
from scenes import random_scene

from worldengine_envs.cli.add_scene import check_place, shifted
from worldengine_envs.cli.main import main
from worldengine_envs.envs.scenes import scene_of
from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.export import LEAST_ACTOR, export_scene
from worldengine_envs.reconstruction.scene_graph import BACKGROUND, FIRST_ACTOR, Moment
from worldengine_envs.reconstruction.stage import Stage, beside, with_box
from worldengine_envs.rendering.confidence import Judge, judge_frames, witnesses_of
from worldengine_envs.rendering.cpu.renderer import CpuRenderer
from worldengine_envs.rendering.frames import RenderSettings
from worldengine_envs.rendering.scene_folder import save_scene
from worldengine_envs.scenario import Pack, verify


@pytest.fixture
def learned(tmp_path):
    return learn(tmp_path)


def test_the_scene_shows_what_was_learned(learned):
    log, graph, corrections, shots = learned
    scene = export_scene(graph, log, corrections)
    assert (scene.name, scene.kind, scene.appearances) == ("a_street", "reconstructed", LOOKS)
    assert scene.actors == ("car_day", "car_dusk") and scene.nodes["background"].gaussians.sh_degree == 1
    stages = {look: Stage(scene, CpuRenderer(RenderSettings(near=0.2)), look) for look in LOOKS}
    for v, view in enumerate(log.views):
        shot = shots.of(v)
        moment = Moment(*corrections.actor_poses(view.time_us, view.traversal), LOOKS.index(view.traversal))
        pose, lens = torch.tensor(shot.world_to_camera)[None].float(), torch.tensor(LENS)[None]
        with torch.no_grad():
            expected = graph.render(moment, pose, lens, WIDTH, HEIGHT).rgb[0].clamp(0.0, 1.0).numpy()
        drawn = stages[view.traversal].draw(shot).rgb
        assert np.abs(drawn - 255.0 * expected).max() < 1.0, v
        assert list(shot.boxes) == [f"car_{view.traversal}"]
        np.testing.assert_allclose(shot.boxes[f"car_{view.traversal}"], log.actors[0].box_to_world[v % 4], atol=1e-6)


def test_what_cannot_be_drawn_is_left_out(learned):
    log, graph, corrections, _ = learned
    rows = torch.nonzero(graph.node == BACKGROUND).flatten()
    whole = export_scene(graph, log, corrections)
    with torch.no_grad():
        graph.parameters["means"][rows[0], 1] = float("nan")
        graph.parameters["opacities"][rows[1]] = -6.0
        graph.parameters["quats"][rows[2]] = 0.0
        graph.parameters["looks"][rows[3], 1] = float("inf")
        graph.parameters["scales"][rows[4]] = 90.0
    cut = export_scene(graph, log, corrections)
    assert len(whole.nodes["background"].gaussians) - len(cut.nodes["background"].gaussians) == 5
    keep = torch.ones(len(graph), dtype=torch.bool)
    keep[torch.nonzero(graph.node == FIRST_ACTOR).flatten()[LEAST_ACTOR - 1 :]] = False
    graph.take(torch.nonzero(keep).flatten())
    assert export_scene(graph, log, corrections).actors == ("car_dusk",)
    twice = replace(log, actors=(log.actors[1], log.actors[1]))
    with pytest.raises(DataError, match=r"actors\.car_dusk: there are two of that name"):
        export_scene(graph, twice, corrections)


def test_shots_beside_the_path(learned):
    _, _, _, shots = learned
    shot = shots.of(1)
    moved = beside(shot, np.array([0.0, 2.0, 0.0]))
    center = -moved.world_to_camera[:3, :3].T @ moved.world_to_camera[:3, 3]
    np.testing.assert_allclose(center, [0.5, 2.0, 0.0], atol=1e-6)
    assert with_box(shot, "car_day", None).boxes == {} and set(shot.boxes) == {"car_day"}


def test_a_shifted_scene_is_the_same_elsewhere(learned):
    log, graph, corrections, shots = learned
    renderer, shift = CpuRenderer(RenderSettings(near=0.2)), np.array([3.0, -2.0, 1.0])
    scene = export_scene(graph, log, corrections)
    scene = replace(scene, witnesses=witnesses_of(scene, map(shots.of, range(4)), renderer))
    other, shot = shifted(scene, shift), beside(shots.of(2), np.array([0.0, 0.4, 0.0]))
    move = np.eye(4)
    move[:3, 3] = shift
    there = replace(beside(shot, shift), boxes={name: move @ box for name, box in shot.boxes.items()})
    results = []
    for one, view in ((scene, shot), (other, there)):
        stage, judge = Stage(one, renderer), Judge(one.witnesses)
        frames = stage.frame(view)
        images = renderer.render(frames, ("rgb", "depth", "alpha", "node"))
        rows = np.array([judge.rows[name] for name in one.actors], np.int32)
        results.append((images.rgb.astype(int), judge_frames(frames, images, [judge], [rows])[0]))
    assert np.abs(results[0][0] - results[1][0]).max() <= 1 and results[0][1] == pytest.approx(results[1][1], abs=1e-3)
    assert 0.2 < results[0][1] <= 1.0


def test_scenes_of_packs(tmp_path, capsys, learned):
    pack = small_pack(tmp_path / "p")
    scene = save_scene(random_scene(), tmp_path / "scene")
    args = ["packs", "add-scene", str(pack), f"a_015={scene}", "--out"]
    assert main([*args, str(tmp_path / "q")]) == 0
    assert "3 scenarios, 2 of them with new scenes" in capsys.readouterr().out  # the other window of the recording too
    copy, old = Pack.open(tmp_path / "q"), Pack.open(pack)
    assert verify(copy) == [] and verify(pack) == []
    assert [entry.has_scene for entry in copy.entries] == [True, True, False]
    assert copy.content_hash("b_015") == old.content_hash("b_015") and copy.content_hash("a_015") != old.content_hash("a_015")
    assert scene_of(copy, "a_025").kind == "reconstructed" and len(scene_of(copy, "a_015")) == len(random_scene())
    other = save_scene(random_scene(1, n=99), tmp_path / "other")
    again = ["packs", "add-scene", str(tmp_path / "q"), f"a_015={other}", "--out", str(tmp_path / "q"), "--overwrite"]
    assert main(again) == 0 and verify(tmp_path / "q") == []
    assert len(list((tmp_path / "q" / "scenes").iterdir())) == 1  # nobody needs the first any more
    for wrong, message in (("a_015", "is not ID=FOLDER"), (f"nobody={scene}", "no scenario 'nobody'"), ("a_015=x", "no such file")):
        assert main(["packs", "add-scene", str(pack), wrong, "--out", str(tmp_path / "r")]) == 1
        assert message in capsys.readouterr().err and not (tmp_path / "r").exists()
    of_another = save_scene(replace(random_scene(), name="b_015"), tmp_path / "b")
    assert main(["packs", "add-scene", str(pack), f"a_015={of_another}", "--out", str(tmp_path / "r")]) == 1
    assert "it is a scene of b_015" in capsys.readouterr().err
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "scene").symlink_to(scene)
    assert main(["packs", "add-scene", str(pack), f"a_015={tmp_path / 'run'}", "--out", str(tmp_path / "r")]) == 1
    assert f"Give {tmp_path / 'run' / 'scene'}" in capsys.readouterr().err


def test_scenes_of_other_places_are_refused(learned):
    log, graph, corrections, shots = learned
    scene = export_scene(graph, log, corrections)
    scene = replace(scene, witnesses=witnesses_of(scene, [shots.of(0)], CpuRenderer()))
    check_place(scene, sample())
    with pytest.raises(DataError, match=r"never within 30 m of the logged ego.*--shift moves"):
        check_place(shifted(scene, np.array([0.0, 90.0, 0.0])), sample())
