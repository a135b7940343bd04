"""Whether other people's agents learn here: every example with several seeds, its return at the start and at the end.

    python benchmarks/examples.py [--seeds 3] [--only sb3_ppo cleanrl_ppo]

An example passes where with every seed the mean return of the last tenth of its episodes lies at least MARGIN above that of the
first tenth. Results go to benchmarks/results/examples.json; examples that are there already and not run now are kept.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from worldengine_envs.hardware import describe
from worldengine_envs.simulation.threads import num_threads

ROOT = Path(__file__).resolve().parents[1]
LEARNING = ("sb3_ppo", "sb3_sac", "cleanrl_ppo", "torchrl_ppo", "many_agents")
MARGIN = 0.2


@dataclass(frozen=True)
class Arguments:
    """What to run."""

    seeds: int = 3
    """Number of seeds."""
    only: tuple[str, ...] = LEARNING
    """Examples to run."""
    out: Path = ROOT / "benchmarks" / "results" / "examples.json"
    """Where results go."""


def load(name: str):
    """Returns the module of an example."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def run(name: str, seed: int) -> dict:
    """Trains one example and returns its mean returns in the first and the last tenth of its episodes."""
    module = load(name)
    begun = time.perf_counter()
    returns = module.train(module.Settings(seed=seed))
    part = max(1, len(returns) // 10)
    return {
        "seed": seed,
        "episodes": len(returns),
        "first": float(np.mean(returns[:part])),
        "last": float(np.mean(returns[-part:])),
        "seconds": round(time.perf_counter() - begun, 1),
    }


def main() -> int:
    """Runs the examples, prints a table and returns 1 if one did not learn."""
    arguments = tyro.cli(Arguments, description=__doc__)
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    for name in arguments.only:
        runs = [run(name, seed) for seed in range(arguments.seeds)]
        learned = all(r["last"] - r["first"] >= MARGIN for r in runs)
        results[name] = {"runs": runs, "margin": MARGIN, "learned": learned, "hardware": describe(num_threads())}
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    for name in arguments.only:
        words = ", ".join(f"{r['first']:.2f} -> {r['last']:.2f} in {r['seconds']:.0f} s" for r in results[name]["runs"])
        print(f"{name:<12} {'learns' if results[name]['learned'] else 'DOES NOT LEARN'}: {words}")
    return int(not all(results[name]["learned"] for name in arguments.only))


if __name__ == "__main__":
    sys.exit(main())
