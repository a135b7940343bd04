"""``worldengine packs build``: settings, choice of candidates, interruption, and that workers do not change the result."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from worldengine_envs.city import FAMILIES, RARE, make_scenario
from worldengine_envs.cli import build_choice, build_pack, judging
from worldengine_envs.cli.build_choice import Family
from worldengine_envs.cli.build_settings import Acceptance, PackSettings, read_settings
from worldengine_envs.cli.judging import Outcome, drive_baseline
from worldengine_envs.envs.baselines import logged_poses
from worldengine_envs.envs.reference import attach_reference
from worldengine_envs.errors import DataError
from worldengine_envs.scenario.pack import Pack
from worldengine_envs.scenario.pack_verify import verify

SMALL = """
name = "mine"
version = "3.1"
first_seed = 4
[families]
car_following = 2
cut_in = 2
[acceptance]
most_trivial = 1.0
"""


@pytest.fixture
def settings(tmp_path):
    file = tmp_path / "build.toml"
    file.write_text(SMALL)
    return file


def test_starter_settings_ask_for_enough():
    wanted = read_settings(Path(__file__).parents[1] / "scenario_packs" / "starter" / "build.toml")
    counts = wanted.counts()
    assert set(counts) == set(FAMILIES) and wanted.horizons_s == (4.0, 8.0)
    assert wanted.common == 140 and wanted.rare == 60 and wanted.acceptance.brake_margin == 0.2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "is no TOML"),
        ("common = 2", "field name: is missing"),
        ('name = "a b"', "field name: must match"),
        ('name = "a"', "no scenarios are asked for"),
        ('name = "a"\ncommon = 3', "field common: 3 is not an even number"),
        ('name = "a"\ncommon = true', "field common: True is not a whole number"),
        ('name = "a"\ncommon = 2.0', "field common: 2.0 is not a whole number"),
        ('name = "a"\ncommmon = 2', "field commmon: no such setting. Settings here: name, version"),
        ('name = "a"\nversion = 2', "field version: 2 is not text"),
        ('name = "a"\nfamilies = 2', "field families: 2 is not a table"),
        ('name = "a"\n[families]\nflying = 2', "field families.flying: no such family"),
        ('name = "a"\n[families]\ncut_in = "2"', "field families.cut_in: '2' is not a whole number"),
        ('name = "a"\ncommon = 2\nhorizons_s = [8.0]', "field horizons_s: must be"),
        ('name = "a"\ncommon = 2\nfirst_seed = -1', "field first_seed: -1 is no seed"),
        ('name = "a"\ncommon = 2\n[acceptance]\nbrake = 0.2', "field acceptance.brake: no such setting"),
        ('name = "a"\ncommon = 2\n[acceptance]\nbrake_margin = nan', "field acceptance.brake_margin: must lie"),
        ('name = "a"\ncommon = 2\n[acceptance]\nmost_trivial = 2', "field acceptance.most_trivial: must lie"),
        ('name = "a"\ncommon = 2\n[acceptance]\nmost_attempts = 0', "field acceptance.most_attempts: must be 1 or more"),
    ],
)
def test_wrong_settings_are_named_with_file_and_field(tmp_path, text, message):
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(DataError) as error:
        read_settings(file)
    assert str(file) in str(error.value) and message in str(error.value)


def test_a_missing_settings_file(tmp_path):
    with pytest.raises(DataError, match=r"none\.toml: cannot be read"):
        read_settings(tmp_path / "none.toml")


def verdicts(seed: int) -> Outcome:
    """Every third candidate is refused, and two in five of the others are trivial."""
    return Outcome("cut_in", seed, "", "" if seed % 3 else "a reason", 1, "easy", trivial=seed % 5 in (1, 2), pdms={}, success={})


@pytest.mark.parametrize("order", [1, -1])
def test_the_first_good_seeds_of_each_parity_are_chosen(order):
    family = Family("cut_in", 24, PackSettings("x", first_seed=7, acceptance=Acceptance(most_trivial=0.25)))
    asked: list[int] = []
    while not family.complete:
        chunks = []
        while seeds := family.next_seeds():
            chunks.append(seeds)
        assert chunks
        asked += [seed for seeds in chunks for seed in seeds]
        for seeds in chunks[::order]:
            family.add([verdicts(seed) for seed in seeds[::order]])
    assert asked == list(range(7, 7 + len(asked)))
    expected = []
    for parity in (0, 1):
        mine: list[int] = []
        for seed in asked:
            trivial = [s for s in (*mine, seed) if verdicts(s).trivial]  # at most a quarter at any time
            fits = not verdicts(seed).trivial or len(trivial) <= (len(mine) + 1) / 4
            if seed % 2 == parity and seed % 3 and fits and len(mine) < 12:
                mine.append(seed)
        expected += mine
    assert [o.seed for o in family.chosen] == sorted(expected)
    assert family.next_seeds() == [] and "24 of 24 wanted" in family.summary()


def test_a_family_is_given_up(tmp_path, monkeypatch, settings, capsys):
    monkeypatch.setattr(build_pack, "judge", lambda family, seeds, *_: [replace(verdicts(3), seed=seed) for seed in seeds])
    with pytest.raises(DataError, match="too few candidates fit: car_following 0 of 2, cut_in 0 of 2"):
        build_pack.build(settings, tmp_path / "mine", workers=1)
    assert "48 a reason" in capsys.readouterr().out and not (tmp_path / "mine").exists()


def test_build_stops_and_goes_on(tmp_path, monkeypatch, settings):
    monkeypatch.setattr(build_choice, "CHUNK", 2)
    asked = set()

    def stop_after_cut_in(family, seeds, *rest):
        if family == "car_following":
            raise KeyboardInterrupt
        return judging.judge(family, seeds, *rest)

    def counted(family, seeds, *rest):
        asked.add(family)
        return judging.judge(family, seeds, *rest)

    monkeypatch.setattr(build_pack, "judge", stop_after_cut_in)
    with pytest.raises(KeyboardInterrupt):
        build_pack.build(settings, tmp_path / "mine", workers=1)
    notes = tmp_path / ".mine.progress.jsonl"
    assert not (tmp_path / "mine").exists() and len(notes.read_text().splitlines()) > 2
    with notes.open("a") as file:
        file.write('{"family": "cut_')  # cut off in the middle of a line
    monkeypatch.setattr(build_pack, "judge", counted)
    assert build_pack.build(settings, tmp_path / "mine", workers=1) == 0
    assert asked == {"car_following"}  # the other family was judged before
    pack = Pack.open(tmp_path / "mine")
    assert [entry.id for entry in pack.entries] == ["car_following_000", "car_following_001", "cut_in_000", "cut_in_001"]
    assert (pack.name, pack.manifest.version) == ("mine", "3.1") and min(e.recipe.seed for e in pack.entries) >= 4
    assert verify(pack) == [] and sorted(p.name for p in tmp_path.iterdir()) == ["build.toml", "mine"]
    assert (pack.folder / "build.toml").read_text() == SMALL
    with pytest.raises(DataError, match="a pack already"):
        build_pack.build(settings, tmp_path / "mine")


def test_notes_that_do_not_fit(tmp_path, settings):
    notes = tmp_path / ".x.progress.jsonl"
    for text, message in (('{"settings": "old"}\n', "another version of the settings"), ('{"family": 3}\n', "line 1")):
        notes.write_text(text)
        with pytest.raises(DataError, match=message):
            build_pack.build(settings, tmp_path / "x", workers=1)


def test_workers_do_not_change_the_pack(tmp_path, settings):
    env = {**os.environ, "WORLDENGINE_PACKS": ""}
    for workers in (1, 2):
        command = [sys.executable, "-m", "worldengine_envs.cli.main", "packs", "build", str(settings)]
        out = subprocess.run(
            [*command, "--out", str(tmp_path / str(workers)), "--workers", str(workers)], env=env, capture_output=True
        )
        assert out.returncode == 0, out.stderr
    assert (tmp_path / "1" / "pack.json").read_bytes() == (tmp_path / "2" / "pack.json").read_bytes()


def test_ctrl_c_ends_workers_and_leaves_notes(tmp_path):
    file = tmp_path / "large.toml"
    file.write_text('name = "large"\nrare = 600\n')
    command = [sys.executable, "-m", "worldengine_envs.cli.main", "packs", "build", str(file), "--out", str(tmp_path / "large")]
    process = subprocess.Popen(
        [*command, "--workers", "2"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )
    notes, deadline = tmp_path / ".large.progress.jsonl", time.monotonic() + 120
    while not (notes.exists() and notes.read_text().count("\n") > 2):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does: all of the group
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and b"Traceback" not in errors and b"half-written" in errors
    assert sorted(p.name for p in tmp_path.iterdir()) == [".large.progress.jsonl", "large.toml"]
    with pytest.raises(ProcessLookupError):
        for _ in range(100):  # until the last one is gone
            os.killpg(process.pid, 0)
            time.sleep(0.1)


def test_references_found_side_by_side_equal_those_found_alone():
    family = next(iter(RARE))
    outcomes = judging.judge(family, range(4))
    for outcome in outcomes:
        if outcome.progress:
            scenario = make_scenario(family, outcome.seed)
            alone = attach_reference(scenario, logged_poses(scenario, scenario.steps_ahead)).reference
            assert (alone.source, {f"{h:g}": p for h, p in alone.progress.items()}) == (outcome.source, outcome.progress)
            result = drive_baseline([replace(scenario, reference=alone)], "idm")[0]
            assert outcome.success["idm"] == result["success"] and outcome.pdms["idm"] == round(result["pdms"], 4)
    assert any(outcome.progress for outcome in outcomes)


def test_seeds_that_take_long_are_refused(monkeypatch):
    def slow(family, seed):
        scenario = make_scenario(family, seed)
        return replace(scenario, parent={**scenario.parent, "attempts": 1 + seed})

    monkeypatch.setattr("worldengine_envs.city.make_scenario", slow)
    outcomes = judging.judge("jaywalker", range(6), acceptance=Acceptance(most_attempts=3))
    assert [o.seed for o in outcomes if o.refused == "more than 3 attempts to draw it"] == [3, 4, 5]
    assert [o.attempts for o in outcomes] == [1, 2, 3, 4, 5, 6]
