"""Environments of broken packs: import goes on with a warning, making one ends in a DataError that names the file."""

import gymnasium as gym
import pytest
from pack_helpers import file_of, small_pack

import worldengine_envs
from worldengine_envs.errors import DataError


@pytest.fixture
def packs(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLDENGINE_PACKS", str(tmp_path))
    before = dict(gym.registry)
    yield tmp_path
    gym.registry.clear()
    gym.registry.update(before)


def test_a_broken_manifest_warns_and_raises_when_made(packs):
    small_pack(packs / "fine_pack", name="fine_pack")
    (packs / "broken_pack").mkdir()
    (packs / "broken_pack" / "pack.json").write_text("{")
    with pytest.warns(RuntimeWarning, match=r"broken_pack/pack\.json: not valid JSON"):
        worldengine_envs.register_packs()
    assert "WorldEngine/fine_pack.a_025-v0" in gym.registry
    with pytest.raises(DataError, match=r"broken_pack/pack\.json: not valid JSON"):
        gym.make("WorldEngine/broken_pack-v0")


@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_a_damaged_file_raises_when_its_scenario_is_made(packs, make):
    folder = small_pack(packs / "cut_pack", name="cut_pack")
    file = folder / file_of(folder, "maps")
    file.write_bytes(file.read_bytes()[:-7])
    worldengine_envs.register_packs()
    with pytest.raises(DataError, match=file.name):
        env = make("WorldEngine/cut_pack.a_015-v0")
        env.reset(seed=0)
