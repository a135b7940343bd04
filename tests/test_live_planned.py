"""Where its two differences do not matter, ``pdms-live`` of a tracked plan in the recorded world is ``pdms-v1`` of the plan."""

from dataclasses import replace

import numpy as np
from factory import Agent, straight_scenario
from live_worlds import Drive

from worldengine_envs.scenario.types import AgentType, ProgressReference
from worldengine_envs.scoring.pdms import score_proposals
from worldengine_envs.scoring.pdms_details import detail_proposals
from worldengine_envs.scoring.scene import scene_of

PLANNED = (
    "no_at_fault_collisions",
    "drivable_area_compliance",
    "time_to_collision_within_bound",
    "ego_progress",
    "comfort",
    "score",
)


def proposals(rng: np.random.Generator, count: int, speed: float) -> np.ndarray:
    """Returns (count, 8, 3) plans of constant acceleration and yaw rate."""
    plans = np.zeros((count, 8, 3))
    for plan in plans:
        x = y = yaw = 0.0
        v, a, rate = speed, rng.uniform(-4, 2), rng.normal(0, 0.06)
        for k in range(1, 81):
            v, yaw = max(v + 0.05 * a, 0.0), yaw + 0.05 * rate * (v > 0)
            x, y = x + 0.05 * v * np.cos(yaw), y + 0.05 * v * np.sin(yaw)
            if k % 10 == 0:
                plan[k // 10 - 1] = x, y, yaw
    return plans


def steady_scenario(rng: np.random.Generator):
    """Everyone is there throughout and keeps type and speed, so first appearance and current step are the same."""
    agents = []
    for _ in range(rng.integers(1, 6)):
        kind = AgentType(int(rng.choice([0, 0, 0, 1, 3])))
        speed = 0.0 if kind > AgentType.BICYCLE else float(rng.uniform(0.0, 10.0))
        agents.append(Agent(rng.uniform(8, 50), rng.uniform(-2.5, 6.0), speed, rng.normal(0, 0.4), kind))
    return straight_scenario(agents, speed=float(rng.uniform(2.0, 13.0)))


def test_tracked_plans_score_the_same():
    rng = np.random.default_rng(1)
    seen = set()
    for _ in range(12):
        scenario = steady_scenario(rng)
        reference = ProgressReference("log", {4.0: float(rng.uniform(3.0, 40.0))})
        scenario = replace(scenario, reference=reference)
        scene, plans = scene_of(scenario), proposals(rng, 6, scenario.tracks.state[0, scenario.start_step, 3])
        scores, details = score_proposals(scene, plans, 0.5), detail_proposals(scene, plans, 0.5)
        for i in range(len(plans)):
            drive = Drive(scenario)
            for state in details.states[i, 1:]:
                drive.force(state)
            planned = [getattr(scores, name)[i] for name in PLANNED]
            np.testing.assert_allclose(drive.terms[-1], planned, atol=1e-9)
            seen.add(tuple(np.array(planned)[[0, 1, 2, 4]]))
    assert len(seen) >= 5  # the plans were not all alike
