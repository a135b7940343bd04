"""Scenes on disk: what is read is what was made, damaged files are made anew, and the cache stays within its bounds."""

import os

import numpy as np
import pytest

from worldengine_envs.envs import scene_cache
from worldengine_envs.envs.scene_cache import VARIABLE, cached_scene, prune
from worldengine_envs.rendering.gaussians import Gaussians, sh_from_rgb
from worldengine_envs.rendering.scene import BACKGROUND, GaussianScene, Node

MAKER = "worldengine_envs.city.gaussians"


def some_scene(seed: int = 0, n: int = 50) -> GaussianScene:
    rng = np.random.default_rng(seed)
    means, quats, scales = (rng.normal(size=(n, k)).astype(np.float32) for k in (3, 4, 3))
    gaussians = Gaussians(means, quats, scales, rng.normal(size=n).astype(np.float32), sh_from_rgb(rng.random((n, 3))))
    return GaussianScene("s", "sampled", {BACKGROUND: Node(gaussians)}, ("day",))


def refuse():
    raise AssertionError("it was made again")


def assert_same(a: GaussianScene, b: GaussianScene) -> None:
    for name in ("means", "quats", "scales", "opacities", "sh"):
        mine, theirs = (getattr(scene.nodes[BACKGROUND].gaussians, name) for scene in (a, b))
        np.testing.assert_array_equal(mine, theirs)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


def files(folder) -> list:
    return [path for path in folder.glob("*/*") if path.is_file()]


def test_the_second_time_it_is_read_and_the_first_time_it_is_the_same(folder, monkeypatch):
    made = cached_scene("a", MAKER, some_scene)
    assert_same(made, cached_scene("a", MAKER, refuse))
    assert len(files(folder)) == 1
    monkeypatch.setenv(VARIABLE, "off")
    assert_same(made, cached_scene("a", MAKER, some_scene))  # also without a cache


def test_other_keys_and_other_code_have_other_scenes(folder, monkeypatch):
    cached_scene("a", MAKER, some_scene)
    with pytest.raises(AssertionError):
        cached_scene("b", MAKER, refuse)
    monkeypatch.setattr(scene_cache, "_code_of", lambda maker: "edited")
    with pytest.raises(AssertionError):
        cached_scene("a", MAKER, refuse)


def test_a_damaged_file_is_made_anew_with_a_warning(folder):
    made = cached_scene("a", MAKER, some_scene)
    (file,) = files(folder)
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.warns(RuntimeWarning, match="made anew"):
        assert_same(made, cached_scene("a", MAKER, some_scene))
    assert_same(made, cached_scene("a", MAKER, refuse))


def test_what_cannot_be_written_is_made_each_time_with_a_warning(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv(VARIABLE, str(blocked / "cache"))
    with pytest.warns(RuntimeWarning, match=VARIABLE):
        assert_same(cached_scene("a", MAKER, some_scene), some_scene_as_stored(monkeypatch))


def some_scene_as_stored(monkeypatch) -> GaussianScene:
    monkeypatch.setenv(VARIABLE, "off")
    return cached_scene("a", MAKER, some_scene)


def test_nothing_is_left_of_a_file_that_could_not_be_written(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scene_cache.os, "replace", full)
    with pytest.warns(RuntimeWarning, match="No space left"):
        cached_scene("a", MAKER, some_scene)
    assert not files(folder)


def test_a_cache_that_can_only_be_read_is_used(folder, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied")

    made = cached_scene("a", MAKER, some_scene)
    monkeypatch.setattr(scene_cache.os, "utime", refused)
    assert_same(made, cached_scene("a", MAKER, refuse))


def test_the_first_file_of_a_process_looks_whether_there_are_too_many(folder, monkeypatch):
    cached_scene("a", MAKER, some_scene)
    monkeypatch.setattr(scene_cache, "_written", 0)
    monkeypatch.setattr(scene_cache, "MAX_BYTES", 3 * files(folder)[0].stat().st_size // 2)
    cached_scene("b", MAKER, lambda: some_scene(1))
    assert len(files(folder)) == 1


def test_pruning_leaves_the_files_of_others_alone(folder):
    """The folder may be one that the user keeps other things in."""
    cached_scene("a", MAKER, some_scene)
    (file,) = files(folder)
    file.with_name("letter.txt").write_text("dear")
    prune(folder, 0)
    assert [path.name for path in file.parent.iterdir()] == ["letter.txt"]


def test_pruning_deletes_what_was_used_longest_ago(folder):
    for i, key in enumerate("abcd"):
        cached_scene(key, MAKER, lambda i=i: some_scene(i))
        (new,) = [file for file in files(folder) if file.stat().st_mtime > 1000]
        os.utime(new, (i, i))
    cached_scene("a", MAKER, refuse)  # used again: now it is the newest
    sizes = sorted((file.stat().st_mtime, file.stat().st_size) for file in files(folder))
    prune(folder, sizes[-1][1] + sizes[-2][1])
    cached_scene("a", MAKER, refuse)
    cached_scene("d", MAKER, refuse)
    assert len(files(folder)) == 2
