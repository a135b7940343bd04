"""Gaussian scenes in memory, as folders of PLY files, and quantised for packs."""

import json
import struct
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save
from scenes import random_gaussians, random_scene

from worldengine_envs.errors import DataError
from worldengine_envs.rendering.cpu.renderer import CpuRenderer
from worldengine_envs.rendering.frames import Frames
from worldengine_envs.rendering.ply import read_ply, write_ply
from worldengine_envs.rendering.quantised import FILE_FORMAT, decode_scene, encode_scene
from worldengine_envs.rendering.scene import GaussianScene, Node, validate_scene
from worldengine_envs.rendering.scene_folder import load_scene, save_scene
from worldengine_envs.scenario.pack_codec import METADATA

ARRAYS = ("means", "quats", "scales", "opacities", "sh")


def same(a: GaussianScene, b: GaussianScene) -> bool:
    """Whether two scenes are equal to the last bit."""
    if (a.name, a.kind, a.appearances, list(a.nodes)) != (b.name, b.kind, b.appearances, list(b.nodes)):
        return False
    for x, y in zip(a.nodes.values(), b.nodes.values(), strict=True):
        if x.size != y.size or set(x.looks) != set(y.looks):
            return False
        pairs = [(getattr(x.look(look), key), getattr(y.look(look), key)) for look in a.appearances for key in ARRAYS]
        if not all(np.array_equal(p, q) for p, q in pairs):
            return False
    return True


def test_a_scene_knows_what_it_holds():
    scene = random_scene()
    assert len(scene) == 300 + 75 + 100 and scene.actors == ("car 1/ä",)
    assert scene.nodes["background"].look("night").sh is scene.nodes["background"].looks["night"]
    assert scene.nodes["sky"].look("night") is scene.nodes["sky"].gaussians
    assert scene.nodes["sky"].nbytes == 75 * (3 + 4 + 3 + 1 + 3) * 4
    assert scene.nodes["background"].nbytes == 300 * (11 + 2 * 48) * 4  # arrays that are there twice count once
    with pytest.raises(DataError, match="no appearance 'dusk'"):
        scene.nodes["background"].look("dusk")


def changed(node="background", **changes) -> GaussianScene:
    scene = random_scene()
    gaussians = replace(scene.nodes[node].gaussians, **changes)
    return replace(scene, nodes=scene.nodes | {node: replace(scene.nodes[node], gaussians=gaussians)})


@pytest.mark.parametrize(
    ("scene", "message"),
    [
        (changed(means=np.full((300, 3), np.nan, np.float32)), "field nodes.background.means: 900 of 900 values are not finite"),
        (changed(means=np.zeros((300, 3))), "float64 (300, 3) must be a float32 array (300, 3)"),
        (changed(quats=np.zeros((300, 4), np.float32)), "300 of 300 quaternions have length 0"),
        (changed(quats=np.full((300, 4), 1e-30, np.float32)), "300 of 300 quaternions have length 0"),
        (changed(opacities=np.zeros((300, 1), np.float32)), "(300, 1) must be a float32 array (300,)"),
        (changed(scales=None), "NoneType must be"),
        (changed(sh=np.zeros((300, 5, 3), np.float32)), "1, 4, 9 or 16"),
        (changed(sh=np.zeros((299, 4, 3), np.float32)), "field nodes.background.sh"),
        (replace(random_scene(), kind="painted"), "field kind"),
        (replace(random_scene(), name="../x"), "field name"),
        (replace(random_scene(), appearances=()), "field appearances"),
        (replace(random_scene(), appearances=("day", "day")), "field appearances"),
        (replace(random_scene(), appearances=("day", "../x")), "field appearances"),
        (replace(random_scene(), appearances=("day", "night", "dusk")), "has looks day, night"),
        (replace(random_scene(), nodes={}), "has no node 'background'"),
        (replace(random_scene(), nodes={"background": random_scene().nodes["car 1/ä"]}), "background and sky have none"),
        (replace(random_scene(), nodes=random_scene().nodes | {"x": random_scene().nodes["sky"]}), "actors have a size"),
    ],
)
def test_what_is_wrong_is_told(scene, message):
    for check in (validate_scene, encode_scene):
        with pytest.raises(DataError) as error:
            check(scene)
        assert message in str(error.value)


def test_folder_round_trip_is_exact(tmp_path):
    scene = random_scene()
    folder = save_scene(scene, tmp_path / "new" / "street")
    assert same(load_scene(folder), scene)
    names = sorted(p.name for p in folder.iterdir())
    assert names == [
        "actor_0002.day.ply",
        "actor_0002.night.ply",
        "background.day.ply",
        "background.night.ply",
        "manifest.json",
        "sky.ply",
    ]
    assert np.array_equal(read_ply(folder / "background.night.ply").sh, scene.nodes["background"].looks["night"])
    with pytest.raises(DataError, match="exists"):
        save_scene(scene, folder)
    other = random_scene(1)
    assert same(load_scene(save_scene(other, folder, overwrite=True)), other)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["street"]
    with pytest.raises(DataError, match="is no scene"):
        save_scene(scene, tmp_path, overwrite=True)


def test_quality_is_kept(tmp_path):
    scene = replace(random_scene(), quality={"psnr": 27.5, "problems": ["ä"], "views": {"seen": 3}})
    for kept in (load_scene(save_scene(scene, tmp_path / "s")), decode_scene(encode_scene(scene), "x")):
        assert kept.quality == scene.quality
    assert json.loads((tmp_path / "s" / "manifest.json").read_text())["quality"]["psnr"] == 27.5
    assert decode_scene(encode_scene(random_scene()), "x").quality == {}


def edit(folder, change):
    file = folder / "manifest.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(change(content) or content))


def swap_files(content):
    sky, night = "sky.ply", "background.night.ply"
    content["nodes"]["background"]["files"]["night"], content["nodes"]["sky"]["files"][""] = sky, night


BAD_FOLDERS = {
    "path out": (lambda c: c["nodes"]["sky"]["files"].update({"": "../sky.ply"}), "must match"),
    "no file": (lambda c: c["nodes"]["sky"]["files"].update({"": "ski.ply"}), "cannot be read"),
    "other look": (lambda c: c["nodes"]["background"].update(files={"day": "sky.ply"}), "a file for each appearance"),
    "files a list": (lambda c: c["nodes"]["background"].update(files=[]), "a file for each appearance"),
    "a node of nothing": (lambda c: c["nodes"].update(background=None), "a file for each appearance"),
    "other shapes": (lambda c: swap_files(c), "the same Gaussians in other colours"),
    "one file twice": (lambda c: c["nodes"].update(other=c["nodes"]["background"]), "'background.day.ply' is named twice"),
    "one look twice": (lambda c: c["appearances"].append("day"), "'background.day.ply' is named twice"),
    "size": (lambda c: c["nodes"]["car 1/ä"].update(size=[1, 2]), "must be length, width, height"),
    "size of words": (lambda c: c["nodes"]["car 1/ä"].update(size="big"), "must be three numbers"),
    "version": (lambda c: c.update(format_version=2), "of version 1"),
    "a list": (lambda c: [c], "of version 1"),
    "no nodes": (lambda c: c.update(nodes=3), "field nodes: must be of type dict"),
    "appearances": (lambda c: c.update(appearances=[1]), "must be names"),
    "no appearance": (lambda c: c.update(appearances=[]), "field nodes.background.files"),
    "kind": (lambda c: c.update(kind="x"), "field kind"),
    "quality": (lambda c: c.update(quality=[1]), "field quality"),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_bad_folders(tmp_path, case):
    change, message = BAD_FOLDERS[case]
    folder = save_scene(random_scene(), tmp_path / "s")
    edit(folder, change)
    with pytest.raises(DataError) as error:
        load_scene(folder)
    assert message in str(error.value) and str(folder) in str(error.value)


def test_bad_files_in_folders(tmp_path):
    folder = save_scene(random_scene(), tmp_path / "s")
    (folder / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        load_scene(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(DataError, match="no such file"):
        load_scene(folder)
    folder = save_scene(random_scene(), tmp_path / "t")
    write_ply(tmp_path / "elsewhere.ply", random_scene().nodes["sky"].gaussians)
    (folder / "sky.ply").unlink()
    (folder / "sky.ply").symlink_to(tmp_path / "elsewhere.ply")
    with pytest.raises(DataError, match="leads out of the scene"):
        load_scene(folder)


def nearest(found: Node, given: Node) -> np.ndarray:
    """Rows of the Gaussians that were given, in the order in which they were found."""
    distance = np.linalg.norm(found.gaussians.means[:, None] - given.gaussians.means[None], axis=2)
    assert (distance.min(axis=1) < 0.001).all()
    return distance.argmin(axis=1)


def test_quantised_scenes_are_nearly_the_same():
    """Errors stay within what the module says, and nothing else changes."""
    scene = random_scene(n=600)
    found = decode_scene(encode_scene(scene), "x")
    assert (found.name, found.kind, found.appearances, list(found.nodes)) == (
        scene.name,
        scene.kind,
        scene.appearances,
        list(scene.nodes),
    )
    for name, node in scene.nodes.items():
        rows = nearest(found.nodes[name], node)
        assert sorted(rows) == list(range(len(node.gaussians))) and found.nodes[name].size == node.size
        a, b = found.nodes[name].gaussians, node.gaussians
        assert np.abs(a.means - b.means[rows]).max() < 0.00011
        assert np.abs(np.exp(a.scales - b.scales[rows]) - 1.0).max() < 0.0158
        unit = b.quats[rows] / np.linalg.norm(b.quats[rows], axis=1, keepdims=True)
        cos = np.abs((unit * a.quats).sum(axis=1)) / np.linalg.norm(a.quats, axis=1)
        assert np.degrees(2.0 * np.arccos(np.clip(cos, -1.0, 1.0))).max() < 0.13
        assert np.abs(1 / (1 + np.exp(-a.opacities)) - 1 / (1 + np.exp(-b.opacities[rows]))).max() < 0.0079
        for look in scene.appearances:
            x, y = found.nodes[name].look(look).sh, node.look(look).sh[rows]
            assert np.abs(x[:, 0] - y[:, 0]).max() * 0.2821 < 0.0003
            assert np.abs(x[:, 1:] - y[:, 1:]).max(initial=0.0) < 0.0040


def test_quantised_scenes_are_small():
    rng = np.random.default_rng(0)
    scene = GaussianScene("s", "reconstructed", {"background": Node(random_gaussians(rng, 20_000, 3))}, ("day",))
    assert len(encode_scene(scene)) < 0.32 * 20_000 * 59 * 4
    flat = GaussianScene("s", "sampled", {"background": Node(random_gaussians(rng, 20_000, 0))}, ("day",))
    assert len(encode_scene(flat)) < 0.45 * 20_000 * 14 * 4


def test_quantised_scenes_look_the_same():
    """Pictures from before and after differ by less than what a screen shows."""
    scene = GaussianScene(
        "s", "reconstructed", {"background": Node(random_gaussians(np.random.default_rng(1), 5000, 3, 10.0))}, ("day",)
    )
    renderer, images = CpuRenderer(), []
    camera = np.eye(4)
    camera[2, 3] = 16.0
    for shown in (scene, decode_scene(encode_scene(scene), "x")):
        part = np.array([renderer.add(shown.nodes["background"].gaussians)], np.int32)
        one = np.ones((1, 3))
        lens = np.array([[80.0, 80.0, 64.0, 36.0]])
        frames = Frames(part, np.eye(3)[None], one, 0 * one, part, np.array([0, 1]), camera[None], lens, 72, 128)
        images.append(renderer.render(frames).rgb[0].astype(float))
    assert images[0].std() > 20.0
    assert 10.0 * np.log10(255.0**2 / np.square(images[0] - images[1]).mean()) > 45.0


def test_extremes():
    """Opacities of 0 and 1, quaternions of any length, empty nodes, a scene of kilometres; what does not fit is told."""
    rng = np.random.default_rng(0)
    g = random_gaussians(rng, 50, 1, 5e4)
    g.opacities[:2] = -1e30, 1e30
    g.quats[:] *= (10.0 ** rng.uniform(-11, 30, (50, 1))).astype(np.float32)
    nodes = {"background": Node(g), "sky": Node(random_gaussians(rng, 0, 2))}
    found = decode_scene(encode_scene(GaussianScene("s", "sampled", nodes, ("day",))), "x")
    opacities = found.nodes["background"].gaussians.opacities
    assert (opacities.min(), opacities.max()) == (-20.0, 20.0)
    assert np.abs(np.linalg.norm(found.nodes["background"].gaussians.quats, axis=1) - 1.0).max() < 0.002
    distance = np.linalg.norm(found.nodes["background"].gaussians.means[:, None] - g.means[None], axis=2)
    assert distance.min(axis=1).max() < 0.01  # float32 has no millimetres 50 km out
    assert len(found.nodes["sky"].gaussians) == 0 and found.nodes["sky"].gaussians.sh_degree == 2
    g.means[7] = 1e6
    with pytest.raises(DataError, match="too large to store"):
        encode_scene(GaussianScene("s", "sampled", nodes, ("day",)))


def forged(change=None, tensors=None) -> bytes:
    """A quantised scene with other metadata or tensors."""
    data = encode_scene(random_scene())
    (length,) = struct.unpack("<Q", data[:8])
    content = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][METADATA])
    content = (change(content) if change else None) or content
    return save(load(data) | (tensors or {}), {METADATA: json.dumps(content)})


def node(i, **values):
    return lambda content: content["nodes"][i].update(values)


BAD_FILES = {
    "claims more": (forged(node(0, gaussians=301)), "n0"),
    "claims a billion": (forged(node(0, gaussians=10**9)), "claims more than"),
    "claims many in all": (forged(lambda c: c.update(nodes=[c["nodes"][1] | {"gaussians": 10**7}] * 60)), "claims more than"),
    "claims what zlib cannot hold": (forged(node(1, gaussians=10**6)), "packed in"),
    "negative": (forged(node(0, gaussians=-1)), "between 0 and"),
    "no number": (forged(node(0, gaussians=1.5)), "between 0 and"),
    "degree": (forged(node(0, degrees={"day": 4, "night": 0})), "degrees from 0 to 3"),
    "degree of lists": (forged(node(0, degrees={"day": [3]})), "degrees from 0 to 3"),
    "truth is no degree": (forged(node(0, degrees={"day": True})), "degrees from 0 to 3"),
    "other looks": (forged(node(0, degrees={"day": 3, "dusk": 3})), "has looks day, dusk"),
    "two kinds of looks": (forged(node(0, degrees={"": 3, "day": 3})), "has looks"),
    "size": (forged(node(2, size=[1, 2, float("nan")])), "length, width, height"),
    "size of a word": (forged(node(2, size="big")), "three numbers"),
    "name": (forged(node(0, name=7)), "an object with a name"),
    "twice": (forged(node(1, name="background")), "two have the same name"),
    "no nodes": (forged(lambda c: c.update(nodes=[])), "no node 'background'"),
    "nodes an object": (forged(lambda c: c.update(nodes={})), "must be a list"),
    "format": (forged(lambda c: c.update(format="worldengine-parts-1")), FILE_FORMAT),
    "kind": (forged(lambda c: c.update(kind=3)), "must be a text"),
    "tensor of noise": (forged(tensors={"n0.means": np.arange(100, dtype=np.uint8)}), "cannot be inflated"),
    "tensor of floats": (forged(tensors={"n0.means": np.zeros(4, np.float32)}), "dtype must be U8"),
    "cut": (encode_scene(random_scene())[:-9], "not valid safetensors"),
    "empty": (b"", "too few"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_quantised_files(case):
    data, message = BAD_FILES[case]
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as error:
            decode_scene(data, "scene.safetensors")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert message in str(error.value) and "file scene.safetensors" in str(error.value)
    assert peak < 3e6


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_flipped_bits_never_crash(data):
    """A damaged file gives a DataError or, where the bits mean something else, a valid scene."""
    good = encode_scene(random_scene(n=20))
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        bad[data.draw(st.integers(0, len(bad) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        validate_scene(decode_scene(bytes(bad), "x"))
    except DataError:
        pass
