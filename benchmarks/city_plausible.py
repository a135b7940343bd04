"""Prints by family whether the city's traffic is plausible, and what making a scenario costs.

    python benchmarks/city_plausible.py [--seeds 2000] [--families cut_in,turn]

The seeds are spread evenly over the families; checks look at the finished arrays alone (tests/plausibility.py). Times are thread
CPU time of a second making, failed attempts included. Ends with exit code 1 if anything is not plausible.
"""

import argparse
import re
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

from worldengine_envs.city import FAMILIES, make_scenario
from worldengine_envs.errors import DataError

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from plausibility import problems

NEAR = 150.0  # of the ego, within which agents are counted [m]


def look_at(family: str, seeds: range) -> tuple[Counter, dict[str, str], list[float], list[int], list[int]]:
    """Returns kinds of problems with how many scenarios have them, one example each, times [ms], agents near, attempts."""
    kinds, examples, times, agents, attempts = Counter(), {}, [], [], []
    for seed in seeds:
        try:
            make_scenario(family, seed)
            start = time.thread_time()
            scenario = make_scenario(family, seed)
            times.append(1e3 * (time.thread_time() - start))
            found = problems(scenario)
        except DataError as error:
            found = [error.problem]
        else:
            k = scenario.start_step
            away = scenario.tracks.state[:, k, :2] - scenario.tracks.state[0, k, :2]
            agents.append(int(np.count_nonzero(scenario.tracks.valid[:, k] & (np.hypot(*away.T) < NEAR))))
            attempts.append(scenario.parent["attempts"])
        for kind, example in {re.sub(r"_\d+|-?\d+(\.\d+)?", "", problem): problem for problem in found}.items():
            kinds[kind] += 1
            examples.setdefault(kind, f"seed {seed}: {example}")
    return kinds, examples, times, agents, attempts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2000, help="in all families together")
    parser.add_argument("--families", default="", help="names with commas between, all if empty")
    settings = parser.parse_args()
    families = settings.families.split(",") if settings.families else list(FAMILIES)
    count = -(-settings.seeds // len(families))
    bad = total = 0
    print(f"{'family':22s} seeds  problems  median ms  max ms  agents within {NEAR:.0f} m  attempts")
    for family in families:
        kinds, examples, times, agents, attempts = look_at(family, range(count))
        total, bad = total + count, bad + sum(kinds.values())
        row = f"{family:22s} {count:5d}  {sum(kinds.values()):8d}  {np.median(times):9.1f}  {max(times):6.1f}"
        print(f"{row}  {min(agents):3d} .. {max(agents):3d}           {np.mean(attempts):.2f}, at most {max(attempts)}", flush=True)
        for kind, number in kinds.most_common():
            print(f"    {number} x {kind}; {examples[kind]}")
    print(f"{total} scenarios, {bad} problems")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
