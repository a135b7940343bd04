"""The whole job on a small pack: it completes, accounts for every scenario, and an interrupted run comes to the same end."""

import json

import numpy as np
import pytest
import torch
from rich.console import Console

from worldengine_envs.city.maker import make_scenario
from worldengine_envs.envs.reference import attach_reference
from worldengine_envs.errors import DataError, WorldEngineError
from worldengine_envs.scenario.pack_write import write_pack
from worldengine_rl.checkpoints import load_policy
from worldengine_rl.evaluation import Evaluation, evaluate
from worldengine_rl.mining import MiningSettings, mine
from worldengine_rl.perception import PerceptionSettings
from worldengine_rl.pipeline import Run
from worldengine_rl.post_training import PostTrainSettings, draw_scenarios
from worldengine_rl.pretraining import CloneSettings
from worldengine_rl.results import signed, write_json
from worldengine_rl.run_settings import Settings
from worldengine_rl.splits import common_with_some_rare, split_scenarios
from worldengine_rl.worlds import PackSet, WorldFactory, WorldSettings


@pytest.fixture(scope="module")
def scenarios():
    made = [make_scenario(family, seed) for family in ("lane_follow", "jaywalker") for seed in range(4)]
    return [attach_reference(scenario) for scenario in made]


@pytest.fixture(scope="module")
def pack(scenarios, tmp_path_factory):
    return write_pack(tmp_path_factory.mktemp("packs") / "small", "small", "1", "Apache-2.0", scenarios)


@pytest.fixture
def factory(scenarios):
    return WorldFactory(PackSet([scenarios]), WorldSettings())


def quiet():
    return Console(quiet=True)


def settings(pack, name):
    return Settings(
        pack=(str(pack),),
        name=name,
        threads=1,
        anchors=64,
        fan=200,
        rare_share=0.5,
        clone=CloneSettings(rounds=1, max_epochs=3, batch_size=16),
        post_training=PostTrainSettings(iterations=3, worlds=8, batch_size=32, critic_warmup=1),
    )


def test_the_job_leaves_what_it_promises(pack, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = Run(settings(pack, "first"), console=quiet()).run()
    folder = tmp_path / "runs" / "first"
    assert {"settings.json", "metrics.jsonl", "clone.zip", "mined.json", "checkpoint.zip", "post_trained.zip", "table.json"} <= {
        file.name for file in folder.iterdir()
    }
    assert set(result["groups"]) == {"all", "common", "rare"}
    assert result["clone"]["epoch"] == 3 and not result["clone"]["stopped_improving"]
    policies = result["groups"]["all"]["policies"]
    assert list(policies) == ["clone", "post-trained", "log", "constant-velocity", "brake", "idm", "pdm-closed"]
    assert all(policy["n"] == 4 and policy["failed_to_run"] == {} for policy in policies.values())
    assert policies["log"]["means"]["success"]["mean"] == 1.0
    assert result["groups"]["rare"]["policies"]["constant-velocity"]["means"]["success"]["mean"] == 0.0
    assert json.loads((folder / "table.json").read_text())["conditions"] == {
        "pack": "small", "split": "test", "tags": [], "traffic": "log", "horizon_s": 4.0,
    }  # fmt: skip
    stages = [json.loads(line)["stage"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert stages == ["clone"] * 3 + ["post_training"] * 3
    with pytest.raises(WorldEngineError, match="--resume"):
        Run(settings(pack, "first"), console=quiet())
    with pytest.raises(WorldEngineError, match="seed"):
        Run(Settings(**{**settings(pack, "first").__dict__, "seed": 9}), resume=True, console=quiet())


def test_a_run_does_not_go_on_with_another_version_of_its_pack(scenarios, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pack = write_pack(tmp_path / "pack", "small", "1", "Apache-2.0", scenarios)
    Run(settings(pack, "run"), console=quiet())
    Run(settings(pack, "run"), resume=True, console=quiet())
    write_pack(pack, "small", "1", "Apache-2.0", scenarios[:-1], overwrite=True)
    with pytest.raises(WorldEngineError, match="pack_contents"):
        Run(settings(pack, "run"), resume=True, console=quiet())


def test_rollouts_and_cameras_that_cannot_be_are_refused(pack, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    longer = {**settings(pack, "long").__dict__, "worlds": WorldSettings(horizon_s=8.0)}
    with pytest.raises(WorldEngineError, match=r"--post-training\.decisions 16"):
        Run(Settings(**longer), console=quiet())
    odd = {**settings(pack, "odd").__dict__, "post_training": PostTrainSettings(worlds=7)}
    with pytest.raises(WorldEngineError, match="even number"):
        Run(Settings(**odd), console=quiet())
    for changed, words in (
        (("cameras", "CAM_F0"), "no such rig"),
        (("perception", PerceptionSettings(epochs=0)), "has to be trained"),
    ):
        blind = settings(pack, "blind").__dict__ | {"cameras": "front"} | dict([changed])
        with pytest.raises(WorldEngineError, match=words):
            Run(Settings(**blind), console=quiet())
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("stage, step", [("clone", 2), ("post_training", 1), ("post_training", 2)])
def test_interrupted_runs_end_in_the_same_policy(pack, tmp_path, monkeypatch, stage, step):
    monkeypatch.chdir(tmp_path)
    without_table = {**settings(pack, "whole").__dict__, "baselines": False}
    Run(Settings(**without_table), console=quiet()).run()

    interrupted = Run(Settings(**{**without_table, "name": "halves"}), console=quiet())
    log = interrupted.tracker.log

    def interrupt(at_stage, at_step, metrics):
        log(at_stage, at_step, metrics)
        if (at_stage, at_step) == (stage, step):
            raise KeyboardInterrupt

    interrupted.tracker.log = interrupt
    with pytest.raises(KeyboardInterrupt):
        interrupted.run()
    assert not (tmp_path / "runs/halves/post_trained.zip").exists()
    Run(Settings(**{**without_table, "name": "halves"}), resume=True, console=quiet()).run()

    ends = [Run(Settings(**{**without_table, "name": name}), resume=True, console=quiet()) for name in ("whole", "halves")]
    weights = [load_policy(end.folder / "post_trained.zip").state_dict() for end in ends]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    records = [json.loads((end.folder / "evaluation_post-trained_test.json").read_text())["records"] for end in ends]
    assert records[0] == records[1]


def test_every_scenario_is_accounted_for(scenarios):
    """One that is too short for the horizon is named, with the reason, and reaches no average."""
    from dataclasses import replace

    short = replace(scenarios[0], id="short", start_step=scenarios[0].tracks.steps - 45, reference=None)
    factory = WorldFactory(PackSet([[*scenarios[:3], short]]), WorldSettings())
    evaluation = evaluate("log", factory, factory.packs.ids(), num_envs=2)
    assert [record.scenario for record in evaluation.records] == factory.packs.ids()
    assert (len(evaluation.driven), [record.scenario for record in evaluation.failed_to_run]) == (3, ["short"])
    assert "horizon" in evaluation.failed_to_run[0].error and evaluation.mean("pdms").n == 3
    assert Evaluation.from_dict(json.loads(json.dumps(evaluation.as_dict()))) == evaluation


def test_results_do_not_depend_on_worlds_side_by_side(factory):
    one, many = (evaluate("idm", factory, factory.packs.ids(), num_envs=n) for n in (1, 5))
    assert one == many


def test_mining_names_reasons(factory):
    evaluation = evaluate("constant-velocity", factory, factory.packs.ids())
    mined = mine(evaluation, MiningSettings())
    failed = {record.scenario for record in evaluation.driven if not record.success}
    assert {entry["scenario"] for entry in mined if entry["reason"] in ("collision", "off_road")} == failed
    assert all(name.startswith("jaywalker") or name in failed for name in (entry["scenario"] for entry in mined))
    collision = next(entry for entry in mined if entry["reason"] == "collision")
    assert collision["pdms"] == 0.0 and collision["infraction"]["term"] == "collision" and collision["infraction"]["what"]
    slow = mine(evaluate("brake", factory, factory.packs.ids()), MiningSettings(low_score=0.7))
    assert {entry["reason"] for entry in slow} == {"low_score"}


def test_worlds_start_in_the_asked_mix():
    settings = PostTrainSettings(worlds=10, mined_share=0.3)
    drawn = draw_scenarios(["a", "b"], ["c", "d", "e", "f", "g", "h", "i"], settings, seed=1)
    assert len(drawn) == 10 and sum(name in "ab" for name in drawn) == 3
    assert sorted(drawn[3:]) == list("cdefghi")  # without repeats as far as they reach
    assert draw_scenarios([], ["c"], settings, seed=1) == ["c"] * 10
    assert drawn == draw_scenarios(["a", "b"], ["c", "d", "e", "f", "g", "h", "i"], settings, seed=1)


def test_rare_share(factory):
    train = factory.packs.ids("train")
    assert train == [f"{family}_{seed:03d}" for family in ("lane_follow", "jaywalker") for seed in (0, 2)]
    chosen = common_with_some_rare(train, factory.packs, 0.34, seed=0)
    assert len(chosen) == 3 and sum(name.startswith("jaywalker") for name in chosen) == 1


def test_validation_is_held_out_of_the_train_splits(factory):
    train, name, held_out = split_scenarios(factory.packs, 0.25, seed=0)
    assert name == "validation" and len(held_out) == 1 and sorted(train + held_out) == sorted(factory.packs.ids("train"))
    assert split_scenarios(factory.packs, 0.0, seed=0) == (factory.packs.ids("train"), "test", factory.packs.ids("test"))
    with pytest.raises(WorldEngineError, match="validation-share"):
        split_scenarios(factory.packs, 1.0, seed=0)


def test_differences_where_both_succeed(factory):
    first, second = (evaluate(name, factory, factory.packs.ids()) for name in ("idm", "constant-velocity"))
    both = [(a, b) for a, b in zip(first.driven, second.driven, strict=True) if a.success and b.success]
    estimate = second.minus(first, "ep", successes_only=True)
    assert 0 < estimate.n == len(both) < len(first.driven)
    assert estimate.mean == pytest.approx(np.mean([b.ep - a.ep for a, b in both]))


def test_differences_that_are_not_known_are_dashes(tmp_path):
    """One recording has no interval, and two policies may succeed together nowhere; JSON has null there."""
    difference = {"mean": 0.25, "low": float("nan"), "high": float("nan")}
    write_json(tmp_path / "table.json", difference)
    assert signed(json.loads((tmp_path / "table.json").read_text())) == signed(difference) == "+0.250 [–, –]"
    assert signed({"mean": -0.5, "low": -1.0, "high": 0.0}) == "-0.500 [-1.000, +0.000]"


def test_unknown_policies_and_packs_are_clear_errors(factory, scenarios):
    with pytest.raises(DataError, match=r"nothing\.zip"):
        evaluate("nothing.zip", factory, factory.packs.ids()[:1])
    with pytest.raises(DataError, match="same id"):
        PackSet([scenarios, scenarios])


def test_demonstrations_point_along_the_log(factory):
    """Following the closest anchors stays near the log, and targets are distributions whose best anchor is the closest."""
    from worldengine_rl.demonstrations import collect_demonstrations, returns_to_go

    ids = factory.prepare(factory.packs.ids())
    data = collect_demonstrations(factory.make(3), factory.packs, ids, CloneSettings(rounds=2), seed=0)
    np.testing.assert_allclose(data.targets.sum(1), 1.0, atol=1e-5)
    assert set(data.recordings) == set(ids) and len(data) <= 2 * 2 * 8 * len(ids)  # two rounds, and each in the mirror
    assert data.returns.max() <= 1.0 + 1e-6
    np.testing.assert_allclose(returns_to_go(np.array([0, 1, 0, 1, 0]), np.array([1.0, 2, 3, 4, 5])), [9, 6, 8, 4, 5])


def test_an_interrupted_run_with_cameras_ends_in_the_same_policy(scenarios, tmp_path, monkeypatch):
    """Interrupted while the eye is trained, then again while the policy is post-trained."""
    monkeypatch.chdir(tmp_path)
    pack = write_pack(tmp_path / "small", "small", "1", "Apache-2.0", scenarios, recipes=True)
    eye = {"cameras": "front", "image_size": (24, 40), "perception": PerceptionSettings(epochs=2)}
    eye |= {"worlds": WorldSettings(scene_detail=0.25), "baselines": False}
    Run(Settings(**settings(pack, "whole").__dict__ | eye), console=quiet()).run()
    interrupted = Settings(**settings(pack, "interrupted").__dict__ | eye)
    for i, stage in enumerate(("perception", "post_training")):
        run = Run(interrupted, resume=i > 0, console=quiet())

        def interrupt(at_stage, step, metrics, stage=stage, log=run.tracker.log):
            log(at_stage, step, metrics)
            if (at_stage, step) == (stage, 1):
                raise KeyboardInterrupt

        run.tracker.log = interrupt
        with pytest.raises(KeyboardInterrupt):
            run.run()
    Run(interrupted, resume=True, console=quiet()).run()
    one, other = (load_policy(tmp_path / "runs" / name / "post_trained.zip").state_dict() for name in ("whole", "interrupted"))
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
