"""Packs appear whole or not at all; recipes are stored as such; packs are found by name."""

import importlib
import os
import subprocess
import sys
import types
from dataclasses import replace

import pytest
from pack_helpers import edit_manifest, sample, small_pack, windows

from worldengine_envs.errors import DataError
from worldengine_envs.scenario import Origin, Pack, find_packs, quantised, scenario_hash, verify, write_pack
from worldengine_envs.scenario.recipes import MAKERS


def tree(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def broken_after(count, error):
    yield from windows()[:count]
    raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), ValueError("x"), MemoryError()])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_interrupt_leaves_nothing(tmp_path, error, count):
    with pytest.raises(type(error)):
        write_pack(tmp_path / "deep" / "p", "p", "1", "x", broken_after(count, error))
    assert tree(tmp_path) == []


@pytest.mark.parametrize("function", ["new_folder._move_into_place", "pack_write.read_manifest"])
def test_an_interrupt_at_the_end_leaves_the_old_pack(tmp_path, monkeypatch, function):
    folder = small_pack(tmp_path / "p")
    before = {name: (tmp_path / name).stat() for name in tree(tmp_path)}

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"worldengine_envs.scenario.{function}", interrupt)
    with pytest.raises(KeyboardInterrupt):
        small_pack(folder, version="2.0", overwrite=True)
    assert {name: (tmp_path / name).stat() for name in tree(tmp_path)}.keys() == before.keys()
    assert Pack.open(folder).manifest.version == "1.0" and verify(folder) == []


def test_a_rename_that_fails_brings_the_old_pack_back(tmp_path, monkeypatch):
    folder = small_pack(tmp_path / "p")
    rename = type(folder).rename

    def full_disk(path, target):
        if path.name.startswith(".p.") and target == folder:
            raise OSError("disk full")
        return rename(path, target)

    monkeypatch.setattr(type(folder), "rename", full_disk)
    with pytest.raises(OSError, match="disk full"):
        small_pack(folder, version="2.0", overwrite=True)
    assert os.listdir(tmp_path) == ["p"] and Pack.open(folder).manifest.version == "1.0"


def test_an_old_pack_that_cannot_be_put_back_is_not_deleted(tmp_path, monkeypatch):
    folder = small_pack(tmp_path / "p")
    rename = type(folder).rename

    def gone(path, target):
        if target == folder:
            raise OSError("no such disk")
        return rename(path, target)

    monkeypatch.setattr(type(folder), "rename", gone)
    with pytest.raises(OSError, match="no such disk"):
        small_pack(folder, version="2.0", overwrite=True)
    (kept,) = tmp_path.glob(".p.*/old")
    assert Pack.open(kept).manifest.version == "1.0" and verify(kept) == []


def test_termination_in_the_middle_leaves_nothing(tmp_path):
    """A command that is told to end while it writes removes what it has written."""
    code = (
        "import sys, time, types\n"
        "from worldengine_envs.cli import main as cli\nfrom worldengine_envs.scenario import write_pack\n"
        "from pack_helpers import windows\n"
        "def slow():\n    yield from windows()\n    print('written', flush=True)\n    time.sleep(60)\n"
        f"def main() -> None:\n    write_pack({str(tmp_path / 'p')!r}, 'p', '1', 'x', slow())\n"
        "sys.modules['slow'] = types.SimpleNamespace(main=main)\n"
        "cli.COMMANDS['slow'] = ('slow', 'main', '')\nsys.exit(cli.main(['slow']))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout.readline() == b"written\n"
        assert tree(tmp_path)
        process.terminate()
        assert process.wait(20) == 143
    assert tree(tmp_path) == []


def test_what_is_there_is_not_replaced_unasked(tmp_path):
    folder = small_pack(tmp_path / "p")
    with pytest.raises(DataError, match="exists"):
        small_pack(folder)
    assert small_pack(folder, version="2.0", overwrite=True) == folder
    assert Pack.open(folder).manifest.version == "2.0" and tree(tmp_path)[0] == "p" and len(os.listdir(tmp_path)) == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match="is no pack"):
        small_pack(tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenarios": []}, "no scenarios"),
        ({"scenarios": [sample(), sample()]}, "scenario a_015, field id: the id appears twice"),
        ({"scenarios": [sample(split="a b")]}, "field split"),
        ({"name": "a/b"}, "field name"),
        ({"version": ""}, "field version"),
        ({"licence": "x\ny"}, "field licence"),
        ({"scenarios": [sample(parent={"a": float("nan")})]}, "NaN"),
        ({"recipes": True}, "scenario a_015, field parent: no recipe"),
    ],
)
def test_bad_content_is_refused_and_leaves_nothing(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        small_pack(tmp_path / "p", **changes)
    assert tree(tmp_path) == []


# Verification


def test_verify_lists_all_problems(tmp_path):
    first, second, other = windows()
    moved_start = first.tracks.state.copy()
    moved_start[0, :, 1] -= 1.0
    bad = [
        replace(first, reference=None),
        replace(second, split="test"),
        replace(second, id="twin"),
        replace(other, tracks=replace(first.tracks, state=moved_start)),
    ]
    folder = small_pack(tmp_path / "p", scenarios=bad)
    (folder / "notes.txt").write_text("x")
    map_file = next(folder.glob("maps/*"))
    data = bytearray(map_file.read_bytes())
    data[-1] ^= 1
    map_file.write_bytes(data)
    problems = "\n".join(verify(folder))
    for problem in (
        "notes.txt: not listed",
        "its SHA-256 is not that of the manifest",
        "scenario a_015, field reference: no reference motion",
        "is in split 'test' here and in 'train' by scenario a_015",
        "scenario twin, field hash: the same content as scenario a_025",
    ):
        assert problem in problems
    data[-1] ^= 1
    map_file.write_bytes(data)
    problems = "\n".join(verify(folder))
    assert "SHA-256" not in problems and "scenario b_015, field start_step: 2 of the ego's corners are off" in problems


def test_variants_of_one_log_may_not_straddle_splits(tmp_path):
    first, _, other = windows()
    folder = small_pack(tmp_path / "p", scenarios=[first, replace(other, origin=first.origin)])
    assert any("recording log-1 token of handmade is in split 'test' here and in 'train'" in p for p in verify(folder))


# Recipes


@pytest.fixture
def maker(monkeypatch):
    """A maker of scenarios under the name "toy"; counts its calls."""
    calls = []

    def make_scenario(family, seed):
        calls.append((family, seed))
        if family != "straight":
            raise DataError(f"no family {family!r}", field="family")
        origin = Origin("toy", family, str(seed), "Apache-2.0")
        return sample(f"{family}_{seed}", speed=8.0 + seed, origin=origin, parent={"family": family, "seed": seed})

    monkeypatch.setitem(sys.modules, "toy_city", types.SimpleNamespace(make_scenario=make_scenario))
    monkeypatch.setitem(MAKERS, "toy", "toy_city:make_scenario")
    make_scenario.calls = calls
    return make_scenario


def test_recipes_are_made_when_asked_for(tmp_path, maker):
    scenarios = [replace(maker("straight", s), split=f"s{s}") for s in range(3)]
    folder = small_pack(tmp_path / "p", scenarios=scenarios, recipes=True)
    assert tree(folder) == ["pack.json"]
    maker.calls.clear()
    pack = Pack.open(folder)
    assert maker.calls == []
    entry = pack.entry("straight_2")
    assert (entry.recipe.family, entry.recipe.seed, entry.agents, entry.steps_ahead) == ("straight", 2, 4, 90)
    made = pack.load("straight_2")
    assert maker.calls == [("straight", 2)]
    assert made.split == "s2" and made.reference == quantised(scenarios[2]).reference and made.parent == scenarios[2].parent
    assert scenario_hash(made) == scenario_hash(scenarios[2]) and verify(pack) == []


def test_recipes_that_give_something_else_are_refused(tmp_path, maker, monkeypatch):
    folder = small_pack(tmp_path / "p", scenarios=[maker("straight", 1)], recipes=True)
    edit_manifest(folder, lambda c: c["scenarios"][0]["recipe"].update(seed=2))
    with pytest.raises(DataError, match=r"scenario straight_1, field hash: .*Install the version"):
        Pack.open(folder).load("straight_1")
    edit_manifest(folder, lambda c: c["scenarios"][0]["recipe"].update(family="tunnel"))
    with pytest.raises(DataError, match="no family 'tunnel'"):
        Pack.open(folder).load("straight_1")
    edit_manifest(folder, lambda c: c["scenarios"][0]["recipe"].update(family="os.system"))
    with pytest.raises(DataError, match=r"recipe\.family"):
        Pack.open(folder)


@pytest.mark.parametrize("dataset", ["os", "subprocess:run", "builtins"])
def test_makers_are_named_in_code_only(tmp_path, maker, dataset, monkeypatch):
    folder = small_pack(tmp_path / "p", scenarios=[maker("straight", 1)], recipes=True)
    edit_manifest(folder, lambda c: c["scenarios"][0]["recipe"].update(dataset=dataset))
    monkeypatch.setattr(importlib, "import_module", lambda name: pytest.fail(f"imported {name}"))
    with pytest.raises(DataError, match="nobody makes"):
        Pack.open(folder).load("straight_1")


def test_a_manifest_of_many_recipes_is_small(tmp_path, maker):
    scenarios = [maker("straight", 0)]
    folder = small_pack(tmp_path / "p", scenarios=scenarios, recipes=True)

    def edit(content):
        (row,) = content["scenarios"]
        content["scenarios"] = [row | {"id": f"straight_{i}", "recipe": row["recipe"] | {"seed": i}} for i in range(1600)]

    edit_manifest(folder, edit)
    assert (folder / "pack.json").stat().st_size < 2e6
    maker.calls.clear()
    assert len(Pack.open(folder)) == 1600 and maker.calls == []


# Where packs are


def test_packs_are_found(tmp_path, monkeypatch):
    inside, alone = tmp_path / "many", tmp_path / "one"
    small_pack(inside / "a", name="a")
    small_pack(inside / "folder-b", name="b")
    small_pack(alone, name="c")
    (inside / ".hidden").mkdir()
    (inside / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLDENGINE_PACKS", os.pathsep.join([str(inside), str(alone), str(tmp_path / "absent")]))
    assert [p.name for p in find_packs()][:3] == ["a", "folder-b", "one"]
    assert Pack.open("b").folder == inside / "folder-b" and Pack.open("c").folder == alone
    assert Pack.open(inside / "a").name == Pack.open("many/a").name == "a"
    small_pack(tmp_path / "scenario_packs" / "d", name="d")
    assert Pack.open("d").name == "d"
    with pytest.raises(DataError, match=r"no pack 'nope'.*found by name: a, b, c, d"):
        Pack.open("nope")
    with pytest.raises(DataError, match="no such file"):
        Pack.open(tmp_path / "nope")
    (inside / "a" / "pack.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        Pack.open("a")
    assert Pack.open("b").name == "b"


def test_unknown_scenarios_are_named(tmp_path):
    pack = Pack.open(small_pack(tmp_path / "p"))
    with pytest.raises(DataError, match="'small' has no scenario 'x'"):
        pack.load("x")
    assert [e.id for e in pack.select("train")] == ["a_015", "a_025"] and pack.select("train", ["x"]) == ()
    assert [e.id for e in pack.select(tags=["straight"])] == [e.id for e in pack.entries]
