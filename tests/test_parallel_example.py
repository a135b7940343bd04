"""The example in which cars learn together."""
# ruff: noqa: E402 (without PettingZoo nothing here can be imported)

import importlib
from pathlib import Path

import gymnasium
import numpy as np
import pytest

pettingzoo = pytest.importorskip("pettingzoo", minversion="1.27")

from factory import Agent, straight_scenario

import worldengine_envs
from worldengine_envs.scenario.pack_write import write_pack


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The example's module; a pack "road" with four straight roads is registered."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    monkeypatch.setenv("WORLDENGINE_PACKS", str(tmp_path))
    cars = [Agent(20.0 * i - 50.0, 3.5 * (i % 3), 9.0) for i in (0, 1, 3, 4, 5, 6, 7, 8)]
    roads = [straight_scenario(cars, id=f"road_{v}", speed=float(v), lanes=4, split="common_train") for v in (7, 8, 9, 10)]
    write_pack(tmp_path / "road", "road", "1.0", "Apache-2.0", roads)
    worldengine_envs.register_packs()
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "examples")
    yield importlib.import_module("many_agents")
    torch.set_num_threads(threads)
    for registry in (gymnasium.registry, pettingzoo.parallel_registry):
        for env_id in [name for name in registry if name.startswith("WorldEngine/road")]:
            del registry[env_id]


def test_cars_learn_to_stay_on_the_road(example, capsys):
    history = example.train(example.Settings(pack="road", worlds=4, passes=12, seed=0))
    assert len(history) == 12 and np.mean(history[-3:]) > np.mean(history[:3]) + 0.1
    assert "pass 12/12" in capsys.readouterr().out


def test_it_repeats(example):
    settings = example.Settings(pack="road", worlds=3, passes=2)
    assert example.train(settings) == example.train(settings)
