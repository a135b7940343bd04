"""Time of the score of executed motion (``pdms-live``) a world-step, and of a PDM-Closed plan, on one core.

    python benchmarks/live_score.py [--steps 20000] [--data ../shared/data] [--families car_following cut_in jaywalker]

Worlds have at least 30 agents, every second one of them driven by IDM, on a map of at least 150 polygons: scenarios of the city and
recordings where they are there. Each world is driven along its log for a number of steps and its state is then scored again and
again; a state without a predicted collision costs the most, and such states are timed. Processor time, the least of several runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

os.environ["WORLDENGINE_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
from numba import njit
from world_step import RECORDINGS, city_pack, half_idm, recorded_pack

from worldengine_envs.scenario.types import Scenario
from worldengine_envs.scoring.live import live_reset, live_update, make_live_score
from worldengine_envs.scoring.pdm_closed_world import PdmClosedDriver
from worldengine_envs.simulation.bank import ScenarioBank
from worldengine_envs.simulation.world import make_worlds, move_ego, reset_world

HORIZON_S = 4.0


@njit(nogil=True, _nrt=False)
def score_again(bank, worlds, score, w, count):
    """Scores one state ``count`` times and returns the sum of rewards."""
    total = 0.0
    for _ in range(count):
        total += live_update(bank, worlds, score, w, False)
    return total


def follow_log(scenario: Scenario, bank, worlds, score, w: int, steps: int) -> None:
    """Puts the ego where its log has it, step by step."""
    reset_world(bank, worlds, w, w)
    live_reset(bank, worlds, score, w)
    ahead = scenario.ego.rear_axle_to_center
    for k in range(scenario.start_step + 1, scenario.start_step + steps + 1):
        x, y, yaw = scenario.tracks.state[0, k, :3]
        move_ego(bank, worlds, w, x - ahead * np.cos(yaw), y - ahead * np.sin(yaw), yaw)
        live_update(bank, worlds, score, w, False)


def least(function, repeats: int) -> float:
    """Returns the least processor time of a call [s]."""
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        function()
        best = min(best, time.process_time() - start)
    return best


def measure(scenarios: list[Scenario], count: int) -> tuple[list[float], list[float]]:
    """Returns times of a score [us] and of a plan [ms] by world."""
    builder = ScenarioBank(HORIZON_S, half_idm(scenarios))
    for scenario in scenarios:
        builder.add(scenario)
    bank = builder.arrays
    worlds, score = make_worlds(len(scenarios), builder.max_agents, 40), make_live_score(len(scenarios), builder.max_agents, 40)
    driver, scores, plans = PdmClosedDriver(builder.max_agents), [], []
    for w, scenario in enumerate(scenarios):
        for steps in (5, 30):
            follow_log(scenario, bank, worlds, score, w, steps)
            score.ttc[w] = 1.0  # an infraction would spare the search
            score_again(bank, worlds, score, w, 10)
            if score.ttc[w] == 1.0:
                scores.append(1e6 / count * least(lambda w=w: score_again(bank, worlds, score, w, count), 5))
        driver.plan(bank, worlds, [w])
        plans.append(1e3 * least(lambda w=w: driver.plan(bank, worlds, [w]), 5))
    return scores, plans


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20000, help="scores a measurement")
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared/data")
    parser.add_argument("--families", nargs="*", default=["car_following", "cut_in", "jaywalker"])
    arguments = parser.parse_args()
    packs = {family: city_pack(family, 4) for family in arguments.families}
    packs |= {
        name: recorded_pack(arguments.data / name, kind)[:4]
        for name, kind in RECORDINGS.items()
        if (arguments.data / name).is_dir()
    }
    for name, scenarios in packs.items():
        if not scenarios:
            print(f"{name:20s} no scenario with 30 agents and 150 polygons")
            continue
        scores, plans = measure(scenarios, arguments.steps)
        polygons = np.mean([s.vector_map.num_polygons for s in scenarios])
        agents = np.mean([s.tracks.valid[:, s.start_step].sum() - 1 for s in scenarios])
        score = (
            f"{np.median(scores):5.2f} (worst {max(scores):5.2f}) us a score"
            if scores
            else "no state without a predicted collision"
        )
        plan = f"{np.median(plans):5.2f} (worst {max(plans):5.2f}) ms a plan"
        print(f"{name:20s} {agents:4.0f} agents {polygons:4.0f} polygons  {score}, {plan}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
