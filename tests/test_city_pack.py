"""The pack that ships, the builder that made it, and recipes that give the same bits on other machines."""

import os
import subprocess
import sys

import pytest

from worldengine_envs.city import FAMILIES, RARE, make_scenario
from worldengine_envs.cli import build_pack
from worldengine_envs.errors import DataError
from worldengine_envs.scenario.pack import Pack
from worldengine_envs.scenario.pack_verify import verify
from worldengine_envs.scenario.quantise import scenario_hash

HASHES = """
from worldengine_envs.city import make_scenario
from worldengine_envs.scenario.quantise import scenario_hash
print(scenario_hash(make_scenario("turn", 1)), scenario_hash(make_scenario("cut_in", 2)))
"""


@pytest.fixture(scope="module")
def starter():
    import scenario_packs

    return Pack.open(os.path.join(os.path.dirname(scenario_packs.__file__), "starter"))


def test_starter_is_large_balanced_and_light(starter):
    counts = starter.manifest.counts("split")
    assert counts["common_train"] == counts["common_test"] >= 50 and counts["rare_train"] == counts["rare_test"] >= 50
    assert {entry.recipe.family for entry in starter.entries} == set(FAMILIES)
    assert len({entry.hash for entry in starter.entries}) == len(starter)
    assert (starter.folder / "pack.json").stat().st_size < 2_000_000
    for entry in starter.entries:
        assert set(entry.reference.progress) == {4.0, 8.0} and min(entry.reference.progress.values()) > 0.0
        rare = entry.recipe.family in RARE
        assert entry.split == f"{'rare' if rare else 'common'}_{'test' if entry.recipe.seed % 2 else 'train'}"
        assert ("rare" in entry.tags) == rare


def test_starter_recipes_give_what_their_hashes_say(starter):
    for family in FAMILIES:
        entries = [entry for entry in starter.entries if entry.recipe.family == family]
        assert entries[3].id == f"{family}_003"
        for entry in entries[:: len(entries) // 3]:
            starter.load(entry.id)  # compares the hash


def test_rare_starter_scenarios_meet_their_definition(starter):
    scenarios = [starter.load(f"{family}_{i:03d}") for family in RARE for i in (1, 8)]
    runs = {name: build_pack.drive_baseline(scenarios, name) for name in ("log", "constant-velocity", "brake", "pdm-closed")}
    for i, scenario in enumerate(scenarios):
        source = "pdm-closed" if scenario.reference.source == "pdm-closed" else "log"
        assert runs[source][i]["success"] and runs["log"][i]["success"]
        assert not runs["constant-velocity"][i]["success"]
        assert runs["brake"][i]["pdms"] <= runs[source][i]["pdms"] - 0.2


def test_interpreted_code_on_a_plain_processor_gives_the_same_bits():
    """Without numba's compiler and numpy's wide instructions: as near to another machine as one machine comes."""
    expected = [scenario_hash(make_scenario("turn", 1)), scenario_hash(make_scenario("cut_in", 2))]
    plain = {"NUMBA_DISABLE_JIT": "1", "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512_SKX AVX512_ICL AVX512_SPR"}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HASHES], env={**os.environ, **plain}, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == expected


def test_build_stops_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(build_pack, "CHUNK", 2)
    asked = []
    judge = build_pack.judge

    def stop_at_cut_in(family, seeds):
        if family == "cut_in":
            raise KeyboardInterrupt
        return judge(family, seeds)

    def counted(family, seeds):
        asked.extend((family, seed) for seed in seeds)
        return judge(family, seeds)

    settings = {"common": 2, "rare": 2, "families": ("car_following", "cut_in")}
    monkeypatch.setattr(build_pack, "judge", stop_at_cut_in)
    with pytest.raises(KeyboardInterrupt):
        build_pack.build(tmp_path / "mine", **settings)
    assert not (tmp_path / "mine").exists() and (tmp_path / ".mine.progress.jsonl").exists()
    with (tmp_path / ".mine.progress.jsonl").open("a") as file:
        file.write('{"family": "cut_')  # cut off in the middle of a line
    monkeypatch.setattr(build_pack, "judge", counted)
    assert build_pack.build(tmp_path / "mine", name="mine", **settings) == 0
    assert {family for family, _ in asked} == {"cut_in"}  # the other family was judged before
    pack = Pack.open(tmp_path / "mine")
    assert [entry.id for entry in pack.entries] == ["car_following_000", "car_following_001", "cut_in_000", "cut_in_001"]
    assert verify(pack) == [] and list(tmp_path.iterdir()) == [tmp_path / "mine"]
    with pytest.raises(DataError, match="a pack already"):
        build_pack.build(tmp_path / "mine", **settings)


def test_build_refuses_wrong_settings(tmp_path):
    with pytest.raises(DataError, match="no family 'flying'"):
        build_pack.build(tmp_path / "x", families=("flying",))
    with pytest.raises(DataError, match="even"):
        build_pack.build(tmp_path / "x", common=3)
    (tmp_path / ".x.progress.jsonl").write_text('{"family": 3}\n')
    with pytest.raises(DataError, match="line 1"):
        build_pack.build(tmp_path / "x")
