"""Agent-steps a second of ``DrivingParallelEnv`` on one core, and what making a scenario's tasks costs.

    python benchmarks/parallel.py [--pack starter] [--scenarios 6] [--episodes 10]

An agent-step is 0.1 s of one agent that is driven: its action, its body, its score, its observation and info, dictionaries and
resets included. Actions are small and random, so nearly all agents stay to the end. Times are processor time of this process on
one thread, the least over three rounds; compiling is left out.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ["WORLDENGINE_THREADS"] = "1"

import numpy as np

from worldengine_envs.envs.parallel_batch import compile_tasks
from worldengine_envs.envs.parallel_env import DrivingParallelEnv
from worldengine_envs.hardware import processor


def drive(env: DrivingParallelEnv, episodes: int, seed: int) -> tuple[int, int]:
    """Drives episodes and returns world-steps and agent-steps."""
    random, worlds, agents = np.random.default_rng(seed), 0, 0
    actions = random.uniform(-0.2, 0.2, (64, env.batch.num_worlds, 2)).astype(np.float32) * (1.0, 0.1)
    for _ in range(episodes):
        env.reset()
        while env.agents:
            worlds, agents = worlds + 1, agents + len(env.agents)
            env.step(dict(zip(env.agents, actions[worlds % 64], strict=False)))
    return worlds, agents


def measure(pack: str, scenario: str, traffic: str, episodes: int) -> tuple[float, float, float]:
    """Returns agent-steps a second, agents a step, and milliseconds to make the tasks of one scenario."""
    env = DrivingParallelEnv(pack, scenario=scenario, traffic=traffic)
    env.reset(seed=0)
    drive(env, 1, 0)
    best, agents = np.inf, 0.0
    for round_ in range(3):
        start = time.process_time()
        worlds, driven = drive(env, episodes, round_)
        best, agents = min(best, (time.process_time() - start) / driven), driven / worlds
    batch, times = env.batch, []
    for _ in range(3):
        start = time.process_time()
        compile_tasks(batch.scenario_of(0), batch.library.arrays[0], batch.scenario_row, batch.horizon_s, batch.num_worlds)
        times.append(time.process_time() - start)
    return 1.0 / best, agents, 1e3 * min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", default="starter")
    parser.add_argument("--scenarios", type=int, default=6, help="how many, spread over the pack")
    parser.add_argument("--episodes", type=int, default=10)
    args = parser.parse_args()
    ids = DrivingParallelEnv(args.pack).scenario_ids
    print(f"{processor()}, one thread")
    rows = []
    for scenario in ids[:: max(len(ids) // args.scenarios, 1)][: args.scenarios]:
        for traffic in ("log", "idm"):
            rows.append(measure(args.pack, scenario, traffic, args.episodes))
            rate, agents, tasks = rows[-1]
            print(f"{scenario:30s} {traffic:4s} {rate:9,.0f} agent-steps/s  {agents:5.1f} agents  {tasks:5.1f} ms to make tasks")
    rates = [row[0] for row in rows]
    print(f"median {np.median(rates):,.0f}, least {min(rates):,.0f} agent-steps/s")


if __name__ == "__main__":
    main()
