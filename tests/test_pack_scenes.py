"""Scenes in packs: stored, made on demand, dressed; which scenario has which, and what hostile manifests get."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pettingzoo
import pytest
from pack_helpers import edit_manifest, file_of, forge_file, sample, small_pack, windows
from scenes import random_scene

import worldengine_envs
from worldengine_envs.cli.main import main
from worldengine_envs.envs import scenes
from worldengine_envs.envs.scenes import appearance_of, scene_key, scene_of
from worldengine_envs.envs.selection import MemoryPack
from worldengine_envs.errors import DataError
from worldengine_envs.rendering.gaussians import Gaussians
from worldengine_envs.rendering.quantised import decode_scene, encode_scene
from worldengine_envs.rendering.scene import GaussianScene, Node, validate_scene
from worldengine_envs.scenario import Pack, PackedScene, verify, write_pack
from worldengine_envs.scenario.pack_manifest import SceneInfo
from worldengine_envs.scenario.recipes import SCENE_MAKERS


def maker_of_tests(scenario, detail):
    """Makes a scene of one Gaussian that tells for whom it was made."""
    mean = np.array([[scenario.start_step, detail, len(scenario.tracks)]], np.float32)
    one = np.ones((1, 4), np.float32)
    gaussians = Gaussians(mean, one, one[:, :3], one[:, 0], one[:, None, :3])
    return GaussianScene(scenario.id, "sampled", {"background": Node(gaussians)}, ("day", "dusk", "night"))


def refusing_maker(scenario, detail):
    """Makes no scene of one of the recordings."""
    if scenario.id == "b_015":
        raise DataError("its road is a point", scenario=scenario.id)
    return maker_of_tests(scenario, detail)


@pytest.fixture
def maker(monkeypatch):
    """The city's maker is replaced, and nothing is kept from other tests."""
    monkeypatch.setitem(SCENE_MAKERS, "city", f"{__name__}:maker_of_tests")
    monkeypatch.setattr(scenes, "_recent", scenes._Recent(scenes.KEPT_BYTES))


def with_scenes() -> list:
    """Two windows of a recording with a stored scene and one without."""
    first, second, other = windows()
    return [replace(first, gaussian_scene="street_1"), replace(second, gaussian_scene="street_1"), other]


def packed(scene=None) -> dict:
    return {"street_1": PackedScene("reconstructed", data=encode_scene(scene or random_scene()))}


def test_stored_scenes(tmp_path):
    """A scene is stored once, found by its scenarios, and the same for them all."""
    folder = small_pack(tmp_path / "p", scenarios=with_scenes(), scenes=packed())
    pack = Pack.open(folder)
    assert verify(folder) == []
    assert [entry.has_scene for entry in pack.entries] == [True, True, False]
    assert len(list((folder / "scenes").iterdir())) == 1
    scene = scene_of(pack, "a_015")
    expected = decode_scene(encode_scene(random_scene()), "x")
    assert np.array_equal(scene.nodes["background"].gaussians.means, expected.nodes["background"].gaussians.means)
    assert scene.kind == "reconstructed" and scene_of(pack, pack.load("a_025")) is scene
    assert scene_key(pack, "a_015") == scene_key(Pack.open(folder), "a_025")
    with pytest.raises(DataError, match="b_015, field gaussian_scene: it has no Gaussian scene"):
        scene_of(pack, "b_015")


def test_scenes_have_to_be_given(tmp_path):
    with pytest.raises(DataError, match="a_015, field gaussian_scene: no scene 'street_1' was given"):
        small_pack(tmp_path / "p", scenarios=with_scenes())
    for wrong in (PackedScene("dressed"), PackedScene("dressed", "city", b"x")):
        with pytest.raises(DataError, match="either a maker or data"):
            small_pack(tmp_path / "p", scenarios=with_scenes(), scenes={"street_1": wrong})
    assert not (tmp_path / "p").exists()


def set_scene(**values):
    return lambda content: content["scenes"]["street_1"].update(values)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_scene(kind="painted"), "field scenes.street_1.kind"),
        (set_scene(maker="city"), "either a maker or a part"),
        (set_scene(part="../../etc/passwd"), "field scenes.street_1.part"),
        (set_scene(part="0" * 16), "its file scenes/0000000000000000.safetensors is not listed"),
        (lambda c: c["scenes"].update(x={"kind": "dressed", "maker": "os"}), "nobody makes scenes called 'os'"),
        (lambda c: c["scenes"].update({"../x": {}}), "must match"),
        (lambda c: c["scenes"].update(x=1), "must be an object"),
        (lambda c: c.update(scenes=[]), "must be of type dict"),
        (lambda c: c["scenarios"][0].update(gaussian_scene="street_2"), "street_2 is not listed in scenes"),
        (lambda c: c.update(scenes={}), "street_1 is not listed in scenes"),
    ],
)
def test_hostile_manifests(tmp_path, edit, message):
    folder = small_pack(tmp_path / "p", scenarios=with_scenes(), scenes=packed())
    edit_manifest(folder, edit)
    with pytest.raises(DataError) as error:
        Pack.open(folder)
    assert message in str(error.value) and "pack.json" in str(error.value)


def test_damaged_and_lying_scene_files(tmp_path):
    folder = small_pack(tmp_path / "p", scenarios=with_scenes(), scenes=packed())
    name = file_of(folder, "scenes")
    forge_file(folder, name, encode_scene(random_scene(kind="dressed")))
    assert any("is dressed, not reconstructed" in problem for problem in verify(folder))
    forge_file(folder, name, b"\0" * 99)
    assert any("field header" in problem for problem in verify(folder))
    with pytest.raises(DataError, match="field header"):
        scene_of(Pack.open(folder), "a_015")
    (folder / name).unlink()
    with pytest.raises(DataError, match="no such file"):
        scene_of(Pack.open(folder), "a_015")


def test_recipes_of_the_city_have_scenes(maker):
    """Every scenario of starter does, without a change of its manifest; what is made is kept, by content and detail."""
    pack = Pack.open("starter")
    assert all(entry.has_scene for entry in pack.entries) and not pack.manifest.scenes
    scene = scene_of(pack, "cut_in_003")
    assert (scene.name, scene.kind) == ("cut_in_003", "sampled") and scene_of(pack, "cut_in_003") is scene
    coarse = scene_of(pack, "cut_in_003", 0.25)
    assert coarse is not scene and coarse.nodes["background"].gaussians.means[0, 1] == 0.25
    assert scene_key(pack, "cut_in_003") != scene_key(pack, "cut_in_004")
    alone = MemoryPack([pack.load("cut_in_003")])
    assert scene_of(alone, "cut_in_003") is scene  # the same content


def test_scenarios_in_memory(maker):
    given = random_scene()
    first, second, other = with_scenes()
    other = replace(other, gaussian_scene="made")
    pack = MemoryPack([first, second, other], {"street_1": given, "made": SceneInfo("dressed", maker="city")})
    assert scene_of(pack, first) is given and scene_key(pack, first.id) == scene_key(pack, second.id)
    assert scene_of(pack, other.id).kind == "dressed"
    with pytest.raises(DataError, match="no such scenario"):
        scene_of(pack, "x")
    bare = MemoryPack([sample()])
    with pytest.raises(DataError, match="no Gaussian scene"):
        scene_of(bare, "a_015")


def test_few_scenes_are_kept():
    kept, made = scenes._Recent(1000), []

    def make(name):
        return lambda: made.append(name) or random_scene(n=3)

    for name in "abcab":
        kept.get(name, make(name))
    assert "".join(made) == "abcab"  # each of them is larger than all that may be kept
    roomy, made = scenes._Recent(10**7), []
    for name in "abcab":
        roomy.get(name, make(name))
    assert "".join(made) == "abc"


def test_appearances(maker):
    stored = random_scene()
    assert appearance_of(stored, "a") == "day" and appearance_of(stored, "a", "night") == "night"
    with pytest.raises(DataError, match="no appearance 'dusk'"):
        appearance_of(stored, "a", "dusk")
    pack = Pack.open("starter")
    names = [entry.id for entry in pack.entries[::10]]
    scene = scene_of(pack, names[0])
    own = [appearance_of(scene, name) for name in names]
    assert 0.5 < own.count("day") / len(own) < 0.7 and {"dusk", "night"} <= set(own)


def test_dress(tmp_path, capsys, maker):
    """What had no scene gets one that is made when it is asked for, shared by the windows of a recording."""
    folder = small_pack(tmp_path / "p", scenarios=with_scenes(), scenes=packed(), description="Logs")
    assert main(["packs", "dress", str(folder), "--out", str(tmp_path / "p2")]) == 0
    assert "3 scenarios, 1 of them dressed with the city's surfaces, not reconstructed" in capsys.readouterr().out
    pack = Pack.open(tmp_path / "p2")
    assert verify(pack) == [] and pack.name == "p2" and pack.manifest.description.startswith("Logs; dressed with")
    assert [pack.manifest.scene(e).kind for e in pack.entries] == ["reconstructed", "reconstructed", "dressed"]
    assert scene_of(pack, "b_015").kind == "dressed" and scene_of(pack, "a_015").kind == "reconstructed"
    for entry in Pack.open(folder).entries:
        old, new = Pack.open(folder).load(entry.id), pack.load(entry.id)
        assert np.array_equal(old.tracks.state, new.tracks.state) and old.tags == new.tags and old.reference == new.reference
    assert main(["packs", "info", str(tmp_path / "p2")]) == 0
    assert "reconstructed 2, dressed 1" in capsys.readouterr().out


def test_windows_share_what_is_made(tmp_path, maker):
    """It is made from the first window of the manifest, whichever is asked for first."""
    write_pack(tmp_path / "p", "p", "1.0", "CC0-1.0", windows())
    main(["packs", "dress", str(tmp_path / "p"), "--out", str(tmp_path / "p2"), "--name", "seen"])
    pack = Pack.open(tmp_path / "p2")
    scene = scene_of(pack, "a_025")
    assert scene.name == "a_015" and scene_of(pack, "a_015") is scene
    assert scene_of(pack, "b_015") is not scene and pack.name == "seen"


def test_dress_tells_what_cannot_be_dressed(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(SCENE_MAKERS, "city", f"{__name__}:refusing_maker")
    folder = small_pack(tmp_path / "p")
    assert main(["packs", "dress", str(folder), "--out", str(tmp_path / "p2")]) == 1
    captured = capsys.readouterr()
    assert "2 of them dressed" in captured.out and "left bare: scenario b_015: its road is a point\n" in captured.err
    assert [entry.has_scene for entry in Pack.open(tmp_path / "p2").entries] == [True, True, False]


def test_dress_refuses(tmp_path, capsys):
    folder = small_pack(tmp_path / "p")
    for args, message in (
        (["starter", "--out", str(tmp_path / "x")], "every scenario of pack 'starter' has a scene"),
        ([str(folder), "--out", str(folder)], "is the pack itself"),
        (["nothing", "--out", str(tmp_path / "x")], "no pack 'nothing'"),
        ([str(folder), "--out", str(tmp_path)], "exists and is no pack"),
    ):
        assert main(["packs", "dress", *args]) == 1
        assert message in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p"]


def test_scenarios_tell_their_scenes(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLDENGINE_PACKS", str(tmp_path))
    small_pack(tmp_path / "half", name="half", scenarios=with_scenes(), scenes=packed())
    before = dict(gym.registry)
    try:
        worldengine_envs.register_packs()
        assert [info.scene for info in worldengine_envs.scenarios("half")] == ["reconstructed", "reconstructed", ""]
    finally:
        gym.registry.clear()
        gym.registry.update(before)
    assert {info.scene for info in worldengine_envs.scenarios("starter")} == {"sampled"}


def test_a_real_log_is_dressed(tmp_path, shared, capsys):
    """Logs as imported, without a word about surfaces, get a street by the city's own maker."""
    log = shared / "data" / "nuscenes_mini" / "sd_nuscenes_v1.0-mini_scene-0757.pkl"
    assert main(["import", "scenarionet", str(log), "--out", str(tmp_path / "logs")]) == 0
    assert main(["packs", "dress", str(tmp_path / "logs"), "--out", str(tmp_path / "seen")]) == 0
    pack = Pack.open(tmp_path / "seen")
    first, last = pack.entries[0].id, pack.entries[-1].id
    scene = scene_of(pack, last, 0.25)
    assert scene.kind == "dressed" and set(scene.appearances) == {"day", "dusk", "night"}
    assert len(scene.nodes["background"].gaussians) > 1000 and scene.actors == ()
    assert first != last and scene_of(pack, first, 0.25) is scene
    validate_scene(scene)
    ground = scene.nodes["background"].gaussians.means
    x, y = pack.load(last).tracks.state[0, pack.entries[-1].start_step, :2]
    assert (np.hypot(ground[:, 0] - x, ground[:, 1] - y) < 30.0).sum() > 100  # where the ego is


def test_cameras_are_the_default_where_everything_can_be_seen(tmp_path, monkeypatch):
    """Of an id: where all scenarios that it stands for have a scene. Resolved when ids are registered, for PettingZoo too."""
    monkeypatch.setenv("WORLDENGINE_PACKS", str(tmp_path))
    small_pack(tmp_path / "half", name="half", scenarios=with_scenes(), scenes=packed())
    small_pack(tmp_path / "bare", name="bare")
    main(["packs", "dress", str(tmp_path / "bare"), "--out", str(tmp_path / "seen")])
    before, parallel = dict(gym.registry), dict(pettingzoo.parallel_registry)
    expected = {"half": "state", "half.a_015": "camera", "half.b_015": "state", "bare": "state", "seen": "camera"}
    try:
        worldengine_envs.register_packs()
        for registry in (gym.registry, pettingzoo.parallel_registry):
            for name, observation in {**expected, "starter": "camera", "starter.cut_in_003": "camera"}.items():
                assert registry[f"WorldEngine/{name}-v0"].kwargs["observation"] == observation, name
    finally:
        for registry, old in ((gym.registry, before), (pettingzoo.parallel_registry, parallel)):
            registry.clear()
            registry.update(old)
