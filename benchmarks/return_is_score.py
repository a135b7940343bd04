"""Is the return of an episode its score? Drives every scenario of packs and scores the drives a second time, independently.

    python benchmarks/return_is_score.py [--pack starter PACK ...] [--clone runs/NAME/clone.zip] [--every 1]

Random, PDM-Closed and (with --clone) cloned actions, log and IDM traffic by turns. Two differences are printed for each: between
the sum of rewards and ``info["pdms"]``, and between that and the shapely scorer of the tests (``tests/live_oracle.py``), which sees
only what was driven. The exit code is 1 where one of them is over 1e-9.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from live_oracle import Oracle
from live_worlds import Drive

from worldengine_envs.envs.baselines import BASELINES
from worldengine_envs.envs.vector_env import DrivingVectorEnv
from worldengine_rl.checkpoints import load_policy

TOLERANCE = 1e-9


class Recorder(Drive):
    """Notes the world of an environment instead of driving one."""

    def __init__(self, envs: DrivingVectorEnv):
        self.worlds, self.score = envs.batch.worlds, envs.batch.score
        self.scenario, self.horizon = envs.batch.scenario_of(0), envs.batch.horizon_steps
        self.terms, self.rewards, self.ego, self.boxes = [], [], [], []
        self._note()


def make(name: str, pack: str, traffic: str):
    """Returns one world, and a function from observations to actions; ``name`` is "random", a baseline or a checkpoint."""
    policy = load_policy(name) if name.endswith(".zip") else None
    arguments = policy.world_arguments if policy else {"action": BASELINES[name].action if name in BASELINES else "control"}
    envs = DrivingVectorEnv(pack, 1, autoreset_mode="Disabled", traffic=traffic, **arguments | {"decision_period_s": 0.1})
    if policy:
        return envs, policy.act
    if name in BASELINES:
        return envs, BASELINES[name](envs)
    rng = np.random.default_rng(0)
    return envs, lambda observations: rng.uniform(-0.3, 0.3, (1, 2)).astype(np.float32)


def episode(envs: DrivingVectorEnv, act, scenario: str) -> tuple[float, float]:
    """Drives one scenario; returns how far the return is from ``info["pdms"]``, and that from the independent score."""
    observations, _ = envs.reset(seed=0, options={"scenario": scenario})
    record, total, over = Recorder(envs), 0.0, False
    while not over:
        observations, rewards, terminated, truncated, infos = envs.step(act(observations))
        record._note()
        total, over = total + rewards[0], bool(terminated[0] or truncated[0])
    score = infos["pdms"][0]
    return abs(total - score), abs(score - Oracle(record.rollout()).run().score[-1])


def main() -> int:
    """Runs all packs and policies; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", nargs="+", default=["starter"])
    parser.add_argument("--clone", help="checkpoint of a cloned policy")
    parser.add_argument("--every", type=int, default=1, help="only every n-th scenario")
    arguments = parser.parse_args()
    worst = 0.0
    for pack in arguments.pack:
        for name in ("random", "pdm-closed", *([arguments.clone] if arguments.clone else [])):
            for first, traffic in enumerate(("log", "idm")):
                start = time.perf_counter()
                envs, act = make(name, pack, traffic)
                gaps = np.array([episode(envs, act, s) for s in envs.scenario_ids[first :: 2 * arguments.every]])
                worst = max(worst, gaps.max())
                to_pdms, to_oracle = gaps.max(0)
                label = f"{Path(pack).name:16} {Path(name).stem:12} {traffic:4} {len(gaps):4d} episodes"
                seconds = time.perf_counter() - start
                print(f"{label}: return to pdms {to_pdms:.1e}, to independent score {to_oracle:.1e} ({seconds:.0f} s)", flush=True)
    print(f"largest difference {worst:.1e}, {'within' if worst <= TOLERANCE else 'beyond'} {TOLERANCE:.0e}")
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
