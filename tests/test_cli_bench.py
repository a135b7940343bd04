"""``worldengine bench`` counts what was driven."""

import json

import pytest
from camera_worlds import seen_pack
from factory import Agent, straight_scenario

from worldengine_envs.cli.bench import main, measure
from worldengine_envs.errors import DataError

SCENARIOS = [straight_scenario([Agent(x=30.0, y=3.5)], id=name) for name in ("a", "b", "c")]


def test_a_control_decision_is_one_step_and_a_plan_at_most_five():
    control = measure(SCENARIOS, 4, 0.2, "control", "log", 8, 4.0, 0)
    assert control.scenarios == 3 and control.agents == 2.0
    assert control.world_steps_per_s == pytest.approx(control.decisions_per_s)
    assert control.real_time == pytest.approx(0.1 * control.world_steps_per_s)
    plans = measure(SCENARIOS, 4, 0.2, "trajectory", "idm", 2, 4.0, 0)
    assert plans.scenarios == 2
    assert plans.decisions_per_s < plans.world_steps_per_s <= 5.0 * plans.decisions_per_s + 1e-6


def test_results_are_printed_and_written_with_the_hardware(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WORLDENGINE_THREADS", "1")
    main(SCENARIOS, num_envs=2, seconds=0.1, out=tmp_path / "bench.json")
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["hardware"]["threads"] == 1 and written["hardware"]["processor"]
    assert f"{written['world_steps_per_s']:,.0f} world-steps/s" in capsys.readouterr().out


@pytest.mark.parametrize(("wrong", "field"), [({"seconds": 0.0}, "--seconds"), ({"scenarios": 0}, "--scenarios")])
def test_settings_that_measure_nothing_are_refused(wrong, field):
    with pytest.raises(DataError, match=field):
        main(SCENARIOS, **wrong)


def test_images_are_counted_too(recorder):
    result = measure(seen_pack(SCENARIOS), 2, 0.1, "anchor", "log", 3, 4.0, 0, observation="camera", cameras="front3")
    assert result.scenarios == 3 and result.world_steps_per_s > 0
    assert {len(frames) for frames in recorder.calls} >= {6}
