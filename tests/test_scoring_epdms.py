"""``epdms-v2`` against the real scorer's sub-scores, against published scores, and on hand-made streets."""

import csv
import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factory import Agent, straight_scenario

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import LightState
from worldengine_envs.scoring.cases import load_case, scene_of_case, to_local
from worldengine_envs.scoring.epdms import ExtendedScores, extended_comfort, extended_score, score_extended
from worldengine_envs.scoring.epdms_scene import extend_scene, extended_scene_of, history_states
from worldengine_envs.scoring.scene import scene_of

REAL = Path(__file__).parent / "data/epdms_v2.npz"  # made by benchmarks/navsim_v2.py
TERMS = ExtendedScores._fields[:8]


def extended_case(case, history_times, history, red_steps=25, human=1):
    """Returns the scene of a case with what benchmarks/navsim_v2.py made up."""
    scene = scene_of_case(case)
    tokens, route = case["map_tokens"].tolist(), set(case["route_lane_ids"].tolist())
    rows = [tokens.index(token) for token in case["red_light_lane_ids"].tolist() if token in route]
    return extend_scene(
        scene,
        red=np.tile(np.arange(41) < red_steps, (len(rows), 1)),
        red_rows=rows,
        history=history_states(history_times, to_local(history, scene.offset)),
        human_poses=case["proposals"][human],
        human_interval=float(case["proposal_interval"]),
    )


def test_sub_scores_equal_the_real_scorer(shared):
    with np.load(REAL, allow_pickle=False) as archive:
        real = {key: archive[key] for key in archive.files}
    names = sorted({key.split(".")[0] for key in real})
    assert len(names) == 39
    for name in names:
        case = load_case(shared / f"reference/pdm_cases/{name}.npz")
        scene = extended_case(case, real[f"{name}.history_times"], real[f"{name}.history"])
        stable = case["out_stable"][1:] & case["out_stable"][0]
        for kind, human_filter in (("plain", False), ("filtered", True)):
            scores = score_extended(scene, case["proposals"], float(case["proposal_interval"]), human_filter=human_filter)
            for column, term in enumerate((*TERMS, "score")):
                tolerance = 1e-8 if term in ("ego_progress", "score") else 0.0
                difference = np.abs(getattr(scores, term) - real[f"{name}.{kind}"][:, column])[stable]
                assert difference.max(initial=0.0) <= tolerance, (name, kind, term)
        comfort = extended_comfort(scores.states, np.roll(scores.states, 1, axis=0))
        assert np.array_equal(comfort, real[f"{name}.extended_comfort"]), name


def test_published_scores_follow_from_their_terms(shared):
    with gzip.open(shared / "data/navsim_scores/human_replay_two_sided_reactive.csv.gz", "rt") as file:
        rows = [row for row in csv.DictReader(file) if row["log_name"]]  # the last row is the mean
    assert len(rows) == 12_146
    terms = {name: np.array([float(row[name]) for row in rows]) for name in TERMS}
    assert extended_score(terms) == pytest.approx(np.array([float(row["score"]) for row in rows]), abs=1e-12)


def straight_on(speed, steps=41):
    t = np.arange(steps) * 0.1
    return np.stack([speed * t, 0 * t, 0 * t], axis=1)


def score_street(agents=(), speed=10.0, plan=None, scenario=None, **options):
    scenario = straight_scenario(agents, speed=speed, **options) if scenario is None else scenario
    reference = straight_on(speed) - [scenario.ego.rear_axle_to_center, 0, 0]
    plan = straight_on(speed)[5::5][None] if plan is None else plan
    return score_extended(extended_scene_of(scenario, reference), plan, 0.5)


def test_a_free_street_gives_full_score():
    scores = score_street()
    assert scores.score[0] == pytest.approx(1.0) and scores.extended_comfort is None


def test_running_a_red_light_counts_unless_the_human_did():
    scores = score_street(light=LightState.RED, speed=24.0)
    assert scores.traffic_light_compliance[0] == 1.0  # the logged ego ran it too
    scenario = straight_scenario(light=LightState.RED, speed=24.0)
    scene = replace(extended_scene_of(scenario, straight_on(24.0) - [1.461, 0, 0]), human_poses=None)
    scores = score_extended(scene, straight_on(24.0)[5::5][None], 0.5)
    assert scores.traffic_light_compliance[0] == 0.0 and scores.score[0] == 0.0
    slow = score_extended(scene, straight_on(15.0)[5::5][None], 0.5)
    assert slow.traffic_light_compliance[0] == 1.0


def test_lane_keeping_needs_two_seconds_off_the_centreline():
    plan = straight_on(10.0)[5::5][None]
    plan[0, 1:, 1] = 1.2
    assert score_street(plan=plan).lane_keeping[0] == 0.0
    plan[0, 3:, 1] = 0.0
    assert score_street(plan=plan).lane_keeping[0] == 1.0


def test_who_touches_the_ego_at_the_start_is_left_out():
    touching, ahead = Agent(4.5, 0.0), Agent(30.0, 0.0)
    scenes = [extended_scene_of(straight_scenario(a), straight_on(10.0)) for a in ([touching], [touching, ahead])]
    assert [len(scene.base.tokens) for scene in scenes] == [0, 1]


def test_history_comfort_sees_a_rough_past():
    scenario = straight_scenario()
    state = scenario.tracks.state.copy()
    state[0, :10, 3] = 2.0  # a jump to 10 m/s, 0.5 s ago
    rough = replace(scenario, tracks=replace(scenario.tracks, state=state))
    assert score_street(scenario=scenario).history_comfort[0] == 1.0
    assert score_street(scenario=rough).history_comfort[0] == 0.0


def test_extended_comfort_compares_two_frames():
    steady = score_street()
    same = np.roll(steady.states, 0, axis=0)
    assert extended_comfort(steady.states, same)[0] == 1.0
    jerky = steady.states.copy()
    jerky[0, :, 5] += 1.0
    assert extended_comfort(jerky, same)[0] == 0.0
    scene = extended_scene_of(straight_scenario(), straight_on(10.0) - [1.461, 0, 0])
    scores = score_extended(scene, straight_on(10.0)[5::5][None], 0.5, previous_states=jerky)
    assert scores.extended_comfort[0] == 0.0 and scores.score[0] == pytest.approx(14 / 16)
    with pytest.raises(DataError, match="overlap"):
        extended_comfort(steady.states, same[:, :-1])
    with pytest.raises(DataError, match="overlap"):
        extended_comfort(steady.states[..., :3], same[..., :3])


def test_a_scene_without_reference_poses_is_refused():
    with pytest.raises(DataError, match="reference"):
        extend_scene(scene_of(straight_scenario()))


@pytest.mark.parametrize(
    "change",
    [
        {"red": np.ones((1, 41), bool)},
        {"red": np.ones((1, 40), bool), "red_rows": np.zeros(1, int)},
        {"red": np.ones((1, 41), bool), "red_rows": np.array([10**6])},
        {"history": np.zeros((4, 3))},
        {"history": np.full((4, 11), np.nan)},
        {"human_poses": np.zeros((8, 2))},
    ],
)
def test_what_compiled_code_would_misread_is_refused(change):
    scene = scene_of(straight_scenario(), straight_on(10.0))
    with pytest.raises(DataError, match=next(iter(change)).split("_")[0]):
        extend_scene(scene, **change)
