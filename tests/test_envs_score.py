"""The return of an episode is its PDM Score, and that is what an independent scorer says."""

import numpy as np
import pytest
from factory import Agent, moved, straight_scenario
from live_oracle import Oracle, gravest
from live_worlds import Drive

from worldengine_envs.envs.baselines import BASELINES
from worldengine_envs.envs.driving_env import DrivingEnv
from worldengine_envs.envs.vector_env import DrivingVectorEnv
from worldengine_envs.scenario.types import AgentType, LightState

PACK = [
    straight_scenario([Agent(22.0, 0.0, 5.0), Agent(10.0, 3.5, 9.0)], id="lead", light=LightState.GREEN),
    moved(straight_scenario([Agent(26.0, 0.0), Agent(-12.0, 0.0, 14.0)], id="wall", speed=8.0), 1.0, 50.0, -20.0),
    straight_scenario([Agent(18.0, 0.4, kind=AgentType.TRAFFIC_CONE)], id="cone", speed=7.0),
    straight_scenario([Agent(25.0, -3.0, 1.5, 1.57, AgentType.PEDESTRIAN)], id="walker", speed=9.0),
]
NAMES = {"collision": "collision", "off_road": "off_road", "time_to_collision": "time_to_collision"}


class Recorder(Drive):
    """Notes the world of an environment instead of driving one."""

    def __init__(self, env):
        self.worlds, self.score = env.batch.worlds, env.batch.score
        self.scenario, self.horizon = env.batch.scenario_of(0), env.batch.horizon_steps
        self.terms, self.rewards, self.ego, self.boxes = [], [], [], []
        self._note()


@pytest.mark.parametrize("traffic", ["log", "idm"])
@pytest.mark.parametrize("action", ["control", "trajectory", "anchor"])
def test_return_and_terms_are_the_oracles(action, traffic):
    env = DrivingEnv(PACK, action=action, traffic=traffic, decision_period_s=0.1)
    rng = np.random.default_rng(0)
    ends = set()
    for scenario in [s.id for s in PACK] * 3:
        env.reset(seed=1, options={"scenario": scenario})
        record, done, rewards = Recorder(env), False, []
        still, bias = rng.random() < 0.5, rng.normal(0, 0.03)
        while not done:
            if action == "anchor":
                u = int(rng.integers(0, 256)) if not still else int(np.argmin(np.abs(env.batch.decisions.vocabulary).sum((1, 2))))
            elif action == "control":
                u = np.array([rng.uniform(-0.6, 0.5), bias])
            else:
                u = rng.normal(0, 0.02, (8, 3)) - (0.3 * still, 0, 0)
            _, reward, terminated, truncated, info = env.step(u)
            rewards.append(reward)
            record._note()
            done = terminated or truncated
        verdict = Oracle(record.rollout()).run()
        assert sum(rewards) == pytest.approx(info["pdms"], abs=1e-9)
        assert info["pdms"] == pytest.approx(verdict.score[-1], abs=1e-9)
        np.testing.assert_allclose(rewards, verdict.rewards, atol=1e-9)
        for name in ("nc", "dac", "ttc", "ep", "comfort"):
            assert info[name] == pytest.approx(getattr(verdict, name)[-1], abs=1e-9)
        expected = gravest(verdict.infractions, env.batch.scenario_of(0).tracks.types)
        assert info.get("infraction") == (expected[0] if expected else None)
        ends.add((terminated, info["success"]))
    assert len(ends) > 1


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("traffic", ["log", "idm"])
def test_rewards_of_baselines_sum_to_the_score(name, traffic):
    envs = DrivingVectorEnv(PACK, num_envs=len(PACK), autoreset_mode="SameStep", action=BASELINES[name].action, traffic=traffic)
    envs.reset(seed=0, options={"scenarios": [s.id for s in PACK]})
    policy, returns, open_worlds = BASELINES[name](envs), np.zeros(len(PACK)), np.ones(len(PACK), bool)
    for _ in range(40):
        _, rewards, terminated, truncated, infos = envs.step(policy())
        returns += np.where(open_worlds, rewards, 0.0)
        for w in np.flatnonzero(open_worlds & (terminated | truncated)):
            assert returns[w] == pytest.approx(infos["final_info"]["pdms"][w], abs=1e-9)
        open_worlds &= ~(terminated | truncated)
        if not open_worlds.any():
            break
    assert not open_worlds.any()
