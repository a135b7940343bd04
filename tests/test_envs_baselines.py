"""Baselines, progress references and anchor vocabularies."""

from dataclasses import replace

import numpy as np
import pytest
from factory import Agent, moved, straight_scenario
from pack_helpers import small_pack

from worldengine_envs.envs.anchors import cluster, kinematic_fan, load_vocabulary, logged_plans, make_vocabulary, save_vocabulary
from worldengine_envs.envs.baselines import baseline, logged_poses
from worldengine_envs.envs.reference import attach_reference
from worldengine_envs.envs.vector_env import DrivingVectorEnv
from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import LightState

PACK = [
    straight_scenario([Agent(20.0, 0.0, 8.0)], id="lead", seconds=12.0),
    straight_scenario([Agent(40.0, 0.0)], id="wall"),
    straight_scenario(id="red", speed=12.0, light=LightState.RED),
    moved(straight_scenario(id="free", speed=9.0), 2.0, 30.0, 40.0),
]


def drive(name, horizon_s=8.0, pack=PACK):
    """Returns the batch after one episode of each scenario, and infos by scenario."""
    envs = DrivingVectorEnv(pack, len(pack), "Disabled", action=baseline(name).action, horizon_s=horizon_s)
    names = [s.id for s in pack]
    envs.reset(seed=0, options={"scenarios": names})
    policy, infos, speeds = baseline(name)(envs), {}, []
    while len(infos) < len(names):
        _, _, terminated, truncated, info = envs.step(policy())
        speeds.append(envs.batch.worlds.ego[:, 3].copy())
        for w in np.flatnonzero(terminated | truncated):
            infos.setdefault(names[w], {key: value[w] for key, value in info.items()})
        if (terminated | truncated).any():
            envs.reset(options={"reset_mask": terminated | truncated, "scenarios": names})
    return envs.batch, infos, np.array(speeds)


def test_log_follows_the_log():
    _, infos, _ = drive("log", 4.0)
    assert infos["free"]["progress"] == pytest.approx(36.0, abs=0.01) and infos["free"]["pdms"] == pytest.approx(1.0)
    assert infos["lead"]["progress"] == pytest.approx(40.0, abs=0.01)


def test_constant_velocity_runs_into_the_wall_and_braking_does_not():
    _, infos, _ = drive("constant-velocity")
    assert infos["wall"]["infraction"] == "collision" and infos["free"]["success"]
    _, infos, _ = drive("brake")
    assert all(info["success"] for info in infos.values())
    # 0.25 s of lag before 8 m/s2: v^2 / (2 * 8) + 0.2 v
    assert infos["free"]["progress"] == pytest.approx(81 / 16 + 0.2 * 9, abs=0.3)


@pytest.mark.parametrize("name", ["idm", "pdm-closed"])
def test_planners_keep_their_distance_and_stop_at_red(name):
    batch, infos, _ = drive(name)
    assert all(info["success"] for info in infos.values())
    assert 24.0 < infos["wall"]["progress"] < 40.0 - 2.3 - 2.588
    assert infos["red"]["progress"] < 80.0 - 2.588
    assert 60.0 < infos["free"]["progress"] < 8.0 * 13.9
    assert batch.score.comfort.all()


def test_idm_returns_to_its_lane_and_to_the_limit():
    off = straight_scenario(id="off", speed=8.0, seconds=16.0)
    state = off.tracks.state.copy()
    state[0, :, 1] = 1.0
    off = replace(off, tracks=replace(off.tracks, state=state))
    batch, infos, speeds = drive("idm", 15.0, [off])
    assert infos["off"]["success"]
    assert abs(batch.worlds.ego_history[0, -1, 1]) < 0.05
    assert speeds[-1, 0] == pytest.approx(13.9, abs=0.3)


def test_unknown_baselines_are_named():
    with pytest.raises(DataError, match="pdm-closed"):
        baseline("pdm")


def test_logged_poses_bridge_gaps_and_go_on():
    scenario = straight_scenario(speed=10.0)
    valid = scenario.tracks.valid.copy()
    valid[0, 20:25] = False
    state = np.where(valid[..., None], scenario.tracks.state, 0.0)
    scenario = replace(scenario, tracks=replace(scenario.tracks, state=state, valid=valid))
    poses = logged_poses(scenario, 130)
    np.testing.assert_allclose(poses, np.stack([np.arange(131.0) - 1.461, np.zeros(131), np.zeros(131)], axis=1), atol=1e-9)


@pytest.mark.parametrize("scenario", PACK, ids=lambda s: s.id)
def test_reference_is_what_pdm_closed_reaches(scenario):
    attached = attach_reference(replace(scenario, reference=None))
    assert attached.reference.source == "pdm-closed" and set(attached.reference.progress) == {4.0, 8.0}
    for horizon in (4.0, 8.0):
        _, infos, _ = drive("pdm-closed", horizon, [attached])
        assert infos[scenario.id]["ep"] == 1.0
        assert infos[scenario.id]["progress"] == pytest.approx(attached.reference.progress[horizon], abs=1e-9)


def test_reference_falls_back_and_says_why():
    blocked = straight_scenario([Agent(14.0, 0.0)], id="blocked", speed=14.0)
    with pytest.raises(DataError, match=r"pdm-closed: hit agent_0.*log: hit agent_0"):
        attach_reference(replace(blocked, reference=None))
    x = 1.4 * np.arange(90)
    y = 3.5 / (1.0 + np.exp(-(x - 17.0) / 3.0))  # changes lanes in time
    solution = np.stack([x - 1.461, y, np.arctan(np.gradient(y, x))], axis=1)
    parked = straight_scenario([Agent(32.0, 0.0)], id="parked", speed=14.0)
    with pytest.raises(DataError, match="log: hit agent_0"):
        attach_reference(replace(parked, reference=None))
    reference = attach_reference(replace(parked, reference=None), solution).reference
    assert reference.source == "solution" and reference.progress[4.0] == pytest.approx(56.0, abs=0.5)


def test_a_recording_too_short_has_no_reference():
    with pytest.raises(DataError, match="too few"):
        attach_reference(replace(straight_scenario(seconds=4.0), reference=None))


def test_the_vocabulary_that_ships_covers_what_driving_needs():
    anchors = load_vocabulary()
    assert anchors.shape == (256, 8, 3) and (anchors == 0).all((1, 2)).any()
    speed = np.hypot(*np.diff(anchors[:, :, :2], axis=1, prepend=0.0).transpose(2, 0, 1)) / 0.5
    start, end = speed[:, 0], speed[:, -1]
    for v in (4.0, 8.0, 12.0):
        near = (np.abs(start - v) < 1.5) & (np.abs(anchors[:, -1, 1]) < 4.0)
        assert (end[near] < 0.6 * v).any() and (end[near] > v + 0.5).any()
    assert ((start > 5.0) & (end < 0.7)).any()  # to a stop
    for side in (1, -1):
        assert (side * anchors[:, -1, 2] > 1.2).any()  # a turn
        assert ((side * anchors[:, :, 1].max(1) * side > 1.0) & (np.abs(anchors[:, -1, 2]) < 0.2) & (start > 5.0)).any()  # a swerve


def test_kinematic_plans_are_drivable():
    fan = kinematic_fan(2000)
    steps = np.hypot(*np.diff(fan[:, :, :2], axis=1, prepend=0.0).transpose(2, 0, 1))
    turns = np.diff(fan[:, :, 2], axis=1, prepend=0.0)
    assert np.isfinite(fan).all() and (np.abs(turns) <= 0.41 * steps + 1e-6).all()


def test_clusters_are_those_of_plain_k_means():
    rng = np.random.default_rng(0)
    means = np.array([[0.0, 0.0, 0.0], [20.0, 0.0, 0.0], [10.0, 8.0, 0.5]])
    plans = (means[:, None, None] + rng.normal(0, 0.1, (3, 50, 8, 3))).reshape(150, 8, 3)
    found = cluster(plans, 3)
    expected = plans.reshape(3, 50, 8, 3).mean(1)
    for center in expected:
        assert np.abs(found - center).max((1, 2)).min() < 2e-3
    np.testing.assert_array_equal(found, cluster(plans, 3))
    with pytest.raises(DataError, match="151 anchors"):
        cluster(plans, 151)
    assert len(cluster(plans, 150)) == 150


def test_logged_plans_are_what_was_driven():
    scenario = moved(straight_scenario([Agent(20.0, 3.5, 6.0), Agent(50.0, 0.0)], speed=10.0), 1.3, 5.0, 9.0)
    plans = logged_plans(scenario)
    t = 0.5 * np.arange(1, 9)
    distances = sorted(set(plans[:, -1, 0].round(6)))
    assert distances == [24.0, 40.0]  # the parked car is left out
    np.testing.assert_allclose(plans[plans[:, -1, 0] > 30][0], np.stack([10 * t, 0 * t, 0 * t], axis=1), atol=1e-9)
    assert make_vocabulary([scenario], 16, fan=200).shape == (16, 8, 3)


def test_vocabularies_on_disk(tmp_path):
    file = tmp_path / "anchors.npy"
    save_vocabulary(kinematic_fan(30), file)
    np.testing.assert_allclose(load_vocabulary(file), kinematic_fan(30), atol=1e-4)
    np.save(tmp_path / "evil.npy", np.array([{}], dtype=object), allow_pickle=True)
    header = file.read_bytes()[:128].replace(b"(30, 8, 3), }", b"(9999999999, 8, 3), }")[:128]
    (tmp_path / "huge.npy").write_bytes(header)
    (tmp_path / "cut.npy").write_bytes(file.read_bytes()[:500])
    for name in ("evil.npy", "huge.npy", "cut.npy", "none.npy"):
        with pytest.raises(DataError, match=name):
            load_vocabulary(tmp_path / name)


def test_the_command_writes_a_vocabulary(tmp_path, capsys):
    from worldengine_envs.cli.main import main

    small_pack(tmp_path / "small")
    out = tmp_path / "anchors.npy"
    assert main(["anchors", str(tmp_path / "small"), "--size", "12", "--fan", "500", "--out", str(out)]) == 0
    assert "12 anchors" in capsys.readouterr().out and load_vocabulary(out).shape == (12, 8, 3)
    assert main(["anchors", str(tmp_path / "small"), "--size", "4000", "--out", str(out)]) == 1
    assert load_vocabulary(out).shape == (12, 8, 3)
