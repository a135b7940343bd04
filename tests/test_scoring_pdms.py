"""``pdms-v1`` against the real scorer's numbers, and on hand-made streets where the answer is known."""

import sys
from pathlib import Path

import numpy as np
import pytest
from factory import Agent, moved, straight_scenario
from scorer_parity import fast_path_agrees, scorer_errors, scorer_tolerances

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import AgentType
from worldengine_envs.scoring.cases import load_case
from worldengine_envs.scoring.pdms import score_proposals, score_scenes
from worldengine_envs.scoring.pdms_details import detail_proposals, infractions
from worldengine_envs.scoring.scene import make_scene, scene_of
from worldengine_envs.scoring.trajectories import knot_times, query_times
from worldengine_envs.simulation.map_index import build_map_index


def straight_on(speed, poses=8, interval=0.5):
    """Returns (1, poses, 3) at constant speed."""
    t = np.arange(1, poses + 1) * interval
    return np.stack([speed * t, 0 * t, 0 * t], axis=1)[None]


def score_one(agents=(), speed=10.0, plan=None, **options):
    scene = scene_of(straight_scenario(agents, speed=speed, **options))
    return score_proposals(scene, straight_on(speed) if plan is None else plan, 0.5)


def test_every_term_of_every_case_equals_the_real_scorer(shared):
    files = sorted((shared / "reference/pdm_cases").glob("*.npz"))
    assert len(files) == 55
    for file in files:
        case = load_case(file)
        tolerances = scorer_tolerances(case)
        errors = scorer_errors(case)
        errors.pop("flagged")
        assert {term: error for term, error in errors.items() if not error <= tolerances.get(term, 0.0)} == {}, file.stem


@pytest.mark.parametrize("name", ["w05_325_61_35", "p35_intersection_straight_inside_crash", "p07_straight_cones"])
def test_early_exits_and_batches_change_no_bit(shared, name):
    case = load_case(shared / f"reference/pdm_cases/{name}.npz")
    from scorer_parity import detail_case

    assert fast_path_agrees(case, detail_case(case)[1])


def test_a_wrong_case_is_noticed(shared, tmp_path):
    import pdm_cases

    case = load_case(shared / "reference/pdm_cases/p00_straight_flow.npz")
    case["out_pdm_score"] = case["out_pdm_score"].copy()
    case["out_pdm_score"][0, 3] = 1.0 - case["out_pdm_score"][0, 3]
    np.savez(tmp_path / "wrong.npz", **case)
    (tmp_path / "broken.npz").write_bytes(b"no archive")
    arguments, sys.argv = sys.argv, ["pdm_cases.py", str(tmp_path)]
    try:
        assert pdm_cases.main() == 1
    finally:
        sys.argv = arguments


def test_a_free_street_gives_full_score():
    scores = score_one()
    assert scores.score[0] == pytest.approx(1.0) and scores.progress[0] == pytest.approx(40.0, abs=0.05)


def test_a_stopped_car_ahead():
    scores = score_one([Agent(30.0, 0.0)])
    assert scores.no_at_fault_collisions[0] == 0.0 and scores.score[0] == 0.0
    assert scores.collision_step[0] == np.ceil((30.0 - 2.3 - 2.588) / 1.0)
    assert scores.ttc_step[0] == scores.collision_step[0] - 9


def test_a_cone_costs_half():
    scores = score_one([Agent(30.0, 0.0, kind=AgentType.TRAFFIC_CONE)])
    assert scores.no_at_fault_collisions[0] == 0.5 and scores.time_to_collision_within_bound[0] == 0.0
    assert scores.score[0] == pytest.approx(0.5 * (5 * 0.5 + 2) / 12, abs=2e-3)


def test_being_hit_from_behind_is_not_at_fault():
    scores = score_one([Agent(-15.0, 0.0, 20.0)])
    assert scores.no_at_fault_collisions[0] == 1.0
    # Looked at 0.9 s ahead, both are in front of where the ego is now: time to collision does count it.
    assert scores.time_to_collision_within_bound[0] == 0.0 and scores.score[0] == pytest.approx(7 / 12)


def test_type_and_speed_are_those_of_the_first_appearance():
    braking = score_one([Agent(25.0, 0.0, 10.0, acceleration=-8.0)], plan=straight_on(10.0))
    assert braking.no_at_fault_collisions[0] == 0.0
    parked_later = Agent(0.0, 3.5, 10.0, first=0)  # beside the ego all the time, never touching
    assert score_one([parked_later]).score[0] == pytest.approx(1.0)


def test_leaving_the_road():
    plan = straight_on(10.0)
    plan[0, :, 1] = -0.5 * np.arange(1, 9)
    scores = score_one(plan=plan)
    assert scores.drivable_area_compliance[0] == 0.0 and scores.score[0] == 0.0


def test_scores_do_not_depend_on_the_frame():
    scenario = straight_scenario([Agent(28.0, 0.4, 3.0), Agent(10.0, 3.5, 9.0)])
    rng = np.random.default_rng(0)
    plans = straight_on(10.0) + np.cumsum(rng.normal(0, [0.5, 0.1, 0.01], (200, 8, 3)), axis=1)
    expected = score_proposals(scene_of(scenario), plans, 0.5)
    turned = score_proposals(scene_of(moved(scenario, 2.0, 300.0, -200.0)), plans, 0.5)
    for name, a, b in zip(expected._fields, expected, turned, strict=True):
        assert a == pytest.approx(b, abs=1e-8), name


def test_several_scenes_at_once():
    scenes = [scene_of(straight_scenario([Agent(x, 0.0)])) for x in (15.0, 30.0, 60.0)]
    plans = straight_on(10.0) * np.linspace(0.1, 1.0, 300)[:, None, None]
    together = score_scenes(scenes, plans, 0.5)
    for scene, scores in zip(scenes, together, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(scores, score_proposals(scene, plans, 0.5), strict=True))
    assert len({tuple(s.score) for s in together}) == 3
    with pytest.raises(DataError, match="batches"):
        score_scenes(scenes, [plans], 0.5)


def test_infractions_say_what_when_and_where():
    scene = scene_of(straight_scenario([Agent(30.0, 0.0)]))
    found = infractions(scene, detail_proposals(scene, straight_on(10.0), 0.5))
    hit = next(i for i in found if i.term == "no_at_fault_collisions")
    assert (hit.token, hit.what) == ("agent_0", "stopped track collision")
    assert hit.time_s == pytest.approx(2.6) and hit.x == pytest.approx(26.0, abs=0.1)


def test_times_pass_through_float_seconds():
    times = query_times(1_621_966_866_499_850)
    assert set(np.diff(times)) <= {99_999, 100_000, 100_001}
    assert knot_times(0, 8, 0.5).tolist() == [0, *range(500_000, 4_000_001, 500_000)]
    assert len(query_times(0)) == 41 and query_times(0)[-1] == 4_000_000


@pytest.mark.parametrize(
    ("plans", "interval", "word"),
    [(np.zeros((8, 3)), 0.5, "shape"), (np.full((1, 8, 3), np.nan), 0.5, "finite"), (np.zeros((1, 8, 3)), 1e-7, "interval")],
)
def test_wrong_proposals_are_refused(plans, interval, word):
    with pytest.raises(DataError, match=word):
        score_proposals(scene_of(straight_scenario()), plans, interval)


def test_a_scenario_that_is_too_short_is_refused():
    with pytest.raises(DataError, match="scenario straight"):
        scene_of(straight_scenario(seconds=4.5), reference=np.zeros((41, 3)))


def test_cases_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "case.npz", ego_state=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="readable"):
        load_case(Path(tmp_path / "case.npz"))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"ego_state": np.zeros(12)}, "ego_state"),
        ({"on_route": np.ones(3, bool)}, "on_route"),
        ({"m": 1}, "map 1"),
        ({"valid": np.ones((50, 2), bool)}, "valid"),
        ({"tracks": np.zeros((50, 1, 5))}, "tracks"),
        ({"centerline": np.zeros((1, 2))}, "centerline"),
        ({"reference_progress": None}, "reference"),
        ({"reference_progress": np.nan}, "reference"),
        ({"reference": (np.arange(41), np.full((41, 3), np.nan))}, "reference"),
        ({"reference": (np.zeros(41), np.zeros((41, 3)))}, "ascend"),
    ],
)
def test_scenes_that_compiled_code_would_misread_are_refused(change, word):
    scenario = straight_scenario()
    good = {
        "ego_state": np.zeros(11),
        "vehicle": scenario.ego,
        "map_index": build_map_index([scenario.vector_map]),
        "m": 0,
        "on_route": np.ones(scenario.vector_map.num_polygons, bool),
        "centerline": scenario.route.centerline,
        "tracks": np.ones((50, 1, 7)),
        "valid": np.ones((50, 1), bool),
        "types": [0],
        "tokens": ["other"],
        "reference_progress": 40.0,
    }
    assert make_scene(**good).tokens == ("other",)
    with pytest.raises(DataError, match=word):
        make_scene(**(good | change))
