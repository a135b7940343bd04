"""Witnesses and quality of a scene survive being stored, and damaged ones are refused."""

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from scenes import random_scene

from worldengine_envs.errors import DataError
from worldengine_envs.rendering.quantised import decode_scene, encode_scene
from worldengine_envs.rendering.scene import validate_scene
from worldengine_envs.rendering.scene_folder import load_scene, save_scene
from worldengine_envs.rendering.witnesses import (
    MAX_CELLS,
    MAX_WITNESSES,
    Sight,
    Witnesses,
    cell_intrinsics,
    cells_of,
    choose_witnesses,
    make_witnesses,
)

ACTOR = "car 1/ä"  # of ``random_scene``
QUALITY = {"psnr": 24.5, "problems": ["one"], "counts": {"background": 3}}


def some_witnesses(seed: int = 0) -> Witnesses:
    """Two views, of which the second, of another size, sees the actor."""
    rng, box = np.random.default_rng(seed), np.eye(4)
    box[:3, 3] = 4.0, -2.0, 0.7
    sights = []
    for v, (h, w) in enumerate(((180, 320), (72, 128))):
        node = np.full((h, w), -1, np.int32)
        node[h // 2 :, w // 2 :] = -1 + v
        pose = np.eye(4)
        pose[:3, 3] = v, 2.0, 3.0
        lens = np.array([w, w, w / 2, h / 2], float)
        sights.append(Sight(pose, lens, rng.uniform(1.0, 90.0, (h, w)), rng.uniform(0.2, 1.0, (h, w)), node, {0: box}))
    return make_witnesses([ACTOR], sights)


def same(a: Witnesses, b: Witnesses) -> bool:
    return all(
        np.array_equal(getattr(a, field.name), getattr(b, field.name))
        and np.asarray(getattr(a, field.name)).dtype == np.asarray(getattr(b, field.name)).dtype
        for field in fields(Witnesses)
    )


@pytest.mark.parametrize("size", [(180, 320), (72, 128), (185, 613), (1, 1), (540, 960), (16, 16000)])
def test_cells_lie_evenly_and_intrinsics_follow_them(size):
    rows, columns, step = cells_of(*size)
    assert 1 <= len(rows) * len(columns) <= 1.1 * MAX_CELLS + max(len(rows), len(columns))
    assert rows[-1] < size[0] and columns[-1] < size[1]
    lens = np.array([300.0, 310.0, 0.4 * size[1], 0.6 * size[0]])
    fx, fy, cx, cy = cell_intrinsics(lens, step)
    for j, column in enumerate(columns):  # the ray through a cell's centre is the one through its pixel's
        assert (j + 0.5 - cx) / fx == pytest.approx((column + 0.5 - lens[2]) / lens[0], abs=1e-9)
    for i, row in enumerate(rows):
        assert (i + 0.5 - cy) / fy == pytest.approx((row + 0.5 - lens[3]) / lens[1], abs=1e-9)


def test_views_of_a_long_log_are_chosen_by_whole_moments():
    moments = [("day", t) for t in range(500) for _ in range(3)]
    rows = choose_witnesses(moments)
    assert len(rows) <= MAX_WITNESSES and len(set(rows.tolist())) == len(rows)
    chosen = [moments[row] for row in rows]
    assert all(chosen.count(moment) == 3 for moment in set(chosen))
    assert chosen[0] == ("day", 0) and chosen[-1] == ("day", 499)
    assert choose_witnesses(moments[:30]).tolist() == list(range(30))
    assert choose_witnesses([]).tolist() == []


def test_sightings_are_of_the_world_and_of_actors_that_are_seen():
    witnesses = some_witnesses()
    assert witnesses.node.tolist() == [-1, -1, 0] and witnesses.view.tolist() == [0, 1, 1]
    point = np.array([1.0, 0.5, -0.2, 1.0])  # in the box's frame
    assert witnesses.to_camera[2] @ point == pytest.approx([1.0 + 5.0, 0.5 + 0.0, -0.2 + 3.7])


def test_folders_and_packs_keep_witnesses_and_quality(tmp_path):
    scene = replace(random_scene(), witnesses=some_witnesses(), quality=QUALITY)
    folder = save_scene(scene, tmp_path / "scene")
    for found in (load_scene(folder), decode_scene(encode_scene(scene), Path("scene.safetensors"))):
        assert same(found.witnesses, scene.witnesses) and found.quality == QUALITY
    assert json.loads((folder / "manifest.json").read_text())["quality"] == QUALITY
    plain = random_scene()
    assert load_scene(save_scene(plain, tmp_path / "plain")).witnesses is None
    assert not (tmp_path / "plain" / "witnesses.safetensors").exists()


def test_no_view_is_a_witness_too(tmp_path):
    scene = replace(random_scene(), witnesses=make_witnesses([], []))
    assert len(load_scene(save_scene(scene, tmp_path / "scene")).witnesses) == 0


def changed(name: str, change) -> Witnesses:
    witnesses = some_witnesses()
    array = getattr(witnesses, name).copy()
    change(array)
    return replace(witnesses, **{name: array})


@pytest.mark.parametrize(
    ("field", "broken"),
    [
        ("actors", lambda: replace(some_witnesses(), actors=("nobody",))),
        ("view", lambda: changed("view", lambda a: a.__setitem__(1, 2))),
        ("node", lambda: changed("node", lambda a: a.__setitem__(2, 1))),
        ("node", lambda: changed("seen", lambda a: a.__setitem__((0, 0, 0), 1))),
        ("node", lambda: replace(some_witnesses(), node=np.array([-1, 0, -1], np.int32))),
        ("size", lambda: changed("size", lambda a: a.__setitem__((0, 0), 999))),
        ("to_camera", lambda: changed("to_camera", lambda a: a.__setitem__((0, 0, 0), np.nan))),
        ("inverse_depth", lambda: changed("inverse_depth", lambda a: a.__setitem__((0, 0, 0), -1.0))),
        ("intrinsics", lambda: changed("intrinsics", lambda a: a.__setitem__((0, 0), 0.0))),
        ("seen", lambda: replace(some_witnesses(), seen=np.zeros((2, 3, 3), np.int16))),
    ],
)
def test_witnesses_that_do_not_fit_are_refused(field, broken):
    with pytest.raises(DataError) as caught:
        validate_scene(replace(random_scene(), witnesses=broken()))
    assert caught.value.field == f"witnesses.{field}"


@pytest.mark.parametrize("quality", [{"psnr": float("nan")}, {"psnr": np.float32(1.0)}, {"long": "x" * 300_000}, {1: object()}])
def test_quality_is_plain_and_short(quality, tmp_path):
    with pytest.raises(DataError) as caught:
        save_scene(replace(random_scene(), quality=quality), tmp_path / "scene")
    assert caught.value.field == "quality"
    assert not (tmp_path / "scene").exists()


def test_a_missing_or_damaged_file_is_an_error(tmp_path):
    folder = save_scene(replace(random_scene(), witnesses=some_witnesses()), tmp_path / "scene")
    file = folder / "witnesses.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"witnesses\.safetensors"):
        load_scene(folder)
    file.unlink()
    with pytest.raises(DataError, match=r"witnesses\.safetensors"):
        load_scene(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"witnesses": "../other"}))
    with pytest.raises(DataError) as caught:
        load_scene(folder)
    assert caught.value.field == "witnesses"
