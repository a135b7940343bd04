"""``pdms-live`` against the independent scorer, step by step, on random worlds."""

import math

import numpy as np
import pytest
from factory import Agent, moved, straight_scenario
from live_oracle import Oracle, gravest
from live_worlds import Drive

from worldengine_envs.scenario.types import AgentType


def random_scenario(rng: np.random.Generator):
    """A crowded road, turned and shifted: vehicles, people, cones; late and early ones among them."""
    agents = []
    for _ in range(rng.integers(2, 9)):
        kind = AgentType(int(rng.choice([0, 0, 0, 0, 1, 2, 3, 4])))
        speed = 0.0 if kind > AgentType.BICYCLE else float(rng.choice([0.0, rng.uniform(0.5, 12.0)]))
        yaw = float(rng.choice([rng.normal(0, 0.15), rng.uniform(-math.pi, math.pi)]))
        first = int(rng.choice([-100, -100, rng.integers(1, 30)]))
        last = int(rng.choice([200, 200, rng.integers(5, 50)]))
        agents.append(Agent(rng.uniform(-15, 45), rng.uniform(-2.5, 6.0), speed, yaw, kind, rng.uniform(-2, 2), first, last))
    scenario = straight_scenario(agents, speed=float(rng.uniform(0.0, 14.0)), start_step=20 if rng.random() < 0.5 else 15)
    return moved(scenario, float(rng.uniform(-math.pi, math.pi)), float(rng.normal(0, 50)), float(rng.normal(0, 50)))


def drive_randomly(drive: Drive, rng: np.random.Generator) -> None:
    brakes, steers = rng.random() < 0.3, rng.random() < 0.5
    for _ in range(drive.horizon):
        drive.control(-6.0 if brakes else rng.uniform(-2.0, 2.0), rng.normal(0.0, 0.3 if steers else 0.02))


def compare(drive: Drive):
    verdict = Oracle(drive.rollout()).run()
    expected = np.stack([verdict.nc, verdict.dac, verdict.ttc, verdict.ep, verdict.comfort, verdict.score], axis=1)
    np.testing.assert_allclose(np.array(drive.terms), expected, atol=1e-9)
    np.testing.assert_allclose(drive.rewards, verdict.rewards, atol=1e-9)
    assert drive.score.hit_without_fault[0] == verdict.hit_without_fault
    assert drive.infraction() == gravest(verdict.infractions, drive.scenario.tracks.types)
    return verdict


@pytest.mark.parametrize("traffic", ["log", "idm"])
def test_random_worlds(traffic):
    rng = np.random.default_rng(7 if traffic == "log" else 8)
    seen = {name: set() for name in ("nc", "dac", "ttc", "comfort")}
    free_hits = 0
    for _ in range(40):
        drive = Drive(random_scenario(rng), traffic)
        drive_randomly(drive, rng)
        verdict = compare(drive)
        free_hits += verdict.hit_without_fault
        for name, values in seen.items():
            values.update(getattr(verdict, name))
    assert free_hits > 0
    assert seen == {"nc": {0.0, 0.5, 1.0}, "dac": {0.0, 1.0}, "ttc": {0.0, 1.0}, "comfort": {0.0, 1.0}}


def test_longer_horizon_slides_the_comfort_windows():
    rng = np.random.default_rng(3)
    comfort = set()
    for strength in (0.2, 3.0):
        drive = Drive(straight_scenario([Agent(60.0, 3.5, 9.0)]), horizon_s=8.0)
        for k in range(80):
            drive.control(strength * math.sin(0.15 * k), rng.normal(0.0, 0.001))
        comfort.add(compare(drive).comfort[-1])
    assert comfort == {0.0, 1.0}


def test_rewards_sum_to_the_score_and_minima_never_rise():
    rng = np.random.default_rng(11)
    for _ in range(20):
        drive = Drive(random_scenario(rng), {"*": "log", "agent_0": "idm"})
        drive_randomly(drive, rng)
        terms = np.array(drive.terms)
        assert abs(sum(drive.rewards) - terms[-1, 5]) < 1e-9
        assert (np.diff(terms[:, :3], axis=0) <= 0).all()
        assert ((terms >= 0) & (terms <= 1)).all()


def test_a_reset_forgets_everything():
    scenario = random_scenario(np.random.default_rng(5))
    drive = Drive(scenario)
    drive_randomly(drive, np.random.default_rng(6))
    terms, rewards = drive.terms, drive.rewards
    drive.restart()
    drive_randomly(drive, np.random.default_rng(6))
    assert drive.terms == terms
    assert drive.rewards == rewards
