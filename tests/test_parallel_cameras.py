"""Cameras of many agents in one world: each sees the others, nobody sees the own body, and who failed stays in the way."""

import warnings

import numpy as np
import pytest

pytest.importorskip("pettingzoo", minversion="1.27")

from camera_worlds import instances, project, seen_pack
from factory import Agent, straight_scenario
from parallel_worlds import CROWD, LEAD
from pettingzoo.test import parallel_api_test
from test_envs_cameras import SMALL

from worldengine_envs.envs.driving_env import DrivingEnv
from worldengine_envs.envs.parallel_env import DrivingParallelEnv


def still(env, value=0.0):
    return {agent: np.full(env.action_space(agent).shape, value) for agent in env.agents}


def test_everyone_sees_everyone_else_where_they_are(recorder):
    env = DrivingParallelEnv(seen_pack([CROWD]), **SMALL)
    observations, _ = env.reset(seed=0)
    tokens, everyone = CROWD.tracks.tokens, set(range(len(CROWD.tracks)))
    for _ in range(4):
        frames, master = recorder.calls[-1], env.batch.master
        assert len(frames) == len(env.agents) == len(env.tracks)  # all in one call
        for f, agent in enumerate(env.agents):
            own = tokens.index(env.tracks[agent])
            seen = instances(frames, f)
            assert seen.keys() == everyone - {own}
            for a, what in seen.items():
                x, y, yaw = master.agents[0, a, :3]
                np.testing.assert_allclose(what["translation"], [x, y, 0.5 * CROWD.tracks.size[a, CROWD.start_step, 2]], atol=1e-9)
                np.testing.assert_allclose(what["rotation"] @ [1, 0, 0], [np.cos(yaw), np.sin(yaw), 0], atol=1e-9)
            # what is 10 m ahead of the own front axle is in the middle of the image from side to side
            x, y, yaw = master.agents[0, own, :3]
            ahead = np.array([x + 10 * np.cos(yaw), y + 10 * np.sin(yaw), 1.55])
            np.testing.assert_allclose(project(frames, f, ahead), (32.0, 18.0), atol=1e-6)
            assert env.observation_space(agent).contains(observations[agent])
        observations, *_ = env.step(still(env))
    assert env.borrowed_assets == dict.fromkeys(env.tracks, len(tokens) - 1)


def test_alone_it_is_a_single_environment(recorder):
    scenario = straight_scenario([Agent(25.0, 3.5, 6.0), Agent(12.0, -2.5, 1.0)], id="two")
    many = DrivingParallelEnv(seen_pack([scenario]), max_agents=1, image_history=2, action="trajectory", **SMALL)
    one = DrivingEnv(seen_pack([scenario]), image_history=2, action="trajectory", **SMALL)
    a, b = many.reset(seed=0)[0]["ego"], one.reset(seed=0)[0]
    for _ in range(5):
        np.testing.assert_array_equal(a["CAM_F0"], b["CAM_F0"])
        a, b = many.step({"ego": np.zeros((8, 3))})[0]["ego"], one.step(np.zeros((8, 3)))[0]


def test_who_failed_is_seen_by_the_others_and_its_last_image_is_of_that_moment(recorder):
    scenario = straight_scenario([Agent(13.0, 0.0), Agent(-15.0, 3.5, 8.0)], id="wall")
    env = DrivingParallelEnv(seen_pack([scenario]), action="trajectory", **SMALL)
    env.reset(seed=0)
    while "ego" in env.agents:
        *_, infos = env.step(still(env))
    time = infos["ego"]["infraction_time"]
    assert round(time * 10) % 5  # within a decision
    frames = recorder.calls[-1]
    assert len(frames) == 2
    # at 10 m/s the ego has come this far; the other one is seen where it was then, not where it is at the end of the decision
    seen = instances(frames, 0)
    np.testing.assert_allclose(seen[2]["translation"][0], -15.0 + 8.0 * time, atol=0.05)
    now = env.batch.master.step[0] * 0.1
    assert now > time + 0.05
    np.testing.assert_allclose(instances(frames, 1)[0]["translation"], [*env.batch.master.agents[0, 0, :2], 0.9], atol=1e-9)
    x = env.batch.master.agents[0, 0, 0]
    env.step(still(env))
    frames = recorder.calls[-1]
    assert len(frames) == 1 and instances(frames, 0).keys() == {0, 1}
    assert instances(frames, 0)[0]["translation"][0] > x  # its body brakes


def test_pettingzoos_own_test(recorder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parallel_api_test(DrivingParallelEnv(seen_pack([LEAD]), image_history=2, action="anchor", **SMALL), num_cycles=30)
