"""Evaluation reports how far the images of a camera policy could be trusted, where that is known."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from camera_worlds import seen_pack, small_scene
from test_envs_confidence import CAMERA, EMPTY, rebuilt

from worldengine_rl.evaluation import Evaluation, evaluate, make_console, make_table
from worldengine_rl.worlds import PackSet, WorldFactory, WorldSettings


def straight_on(factory: WorldFactory, observation: str = "camera") -> Evaluation:
    """A policy that sees and goes straight on."""
    arguments = {**CAMERA, "action": "control"} if observation == "camera" else {"action": "control"}
    policy = SimpleNamespace(world_arguments=arguments, act=lambda observed: np.zeros((len(observed["ego"]), 2), np.float32))
    return evaluate(policy, factory, factory.packs.ids(), name=f"by {observation}")


def table(evaluations: list[Evaluation]) -> str:
    console = make_console()
    with console.capture() as captured:
        console.print(make_table(evaluations, "closed loop"))
    return captured.get()


@pytest.fixture(scope="module")
def factory() -> WorldFactory:
    return WorldFactory(PackSet([seen_pack([EMPTY], rebuilt())]), WorldSettings())


def test_a_policy_that_sees_is_told_how_well(factory):
    seeing, blind = straight_on(factory), straight_on(factory, "state")
    assert 0.9 < seeing.records[0].confidence <= 1.0 and blind.records[0].confidence is None
    assert seeing.confidence.mean == seeing.records[0].confidence and blind.confidence.n == 0
    stored = json.loads(json.dumps(seeing.as_dict()))
    assert Evaluation.from_dict(stored) == seeing and stored["confidence"]["n"] == 1
    assert "confidence" not in blind.as_dict()
    shown = table([seeing, blind])
    assert "confidence" in shown and f"{seeing.confidence.mean:.3f}" in shown and "–" in shown
    assert "confidence" not in table([blind])


def test_scenes_that_know_nothing_have_no_column():
    other = WorldFactory(PackSet([seen_pack([EMPTY], small_scene())]), WorldSettings())
    assert straight_on(other).confidence.n == 0
