"""The gain of post-training on a second held-out set: scenarios that neither training nor the choice of settings has seen.

    worldengine packs build --out second --name second --common 60 --rare 60      # the seeds of starter, and later ones
    python benchmarks/second_set.py second runs/main_job-starter-*               # runs of benchmarks/main_job.py

Scenarios that are also in starter are left out. Results go to benchmarks/results/second_set.json.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from worldengine_envs.scenario import Pack
from worldengine_rl.evaluation import Evaluation, evaluate, make_console
from worldengine_rl.pipeline import GROUPS, hardware, write_json
from worldengine_rl.statistics import crossed_mean
from worldengine_rl.worlds import PackSet, WorldFactory, WorldSettings

TERMS = ("success", "pdms", "progress")
OUT = Path(__file__).parent / "results" / "second_set.json"


def values(evaluations: list[Evaluation], tag: str, term: str) -> np.ndarray:
    """Returns (seeds, scenarios) of one term."""
    return np.array([[float(getattr(r, term)) for r in e.with_tag(tag).driven] for e in evaluations])


def main(pack: str, runs: list[str]) -> None:
    """Evaluates clone and post-trained policy of every run and writes the table."""
    console, packs = make_console(), PackSet([pack])
    known = {entry.hash for entry in Pack.open("starter").entries}
    factory = WorldFactory(packs, WorldSettings())
    scenarios = factory.prepare([entry.id for entry in packs.entries if entry.hash not in known])
    results: dict = {"scenarios": len(scenarios), "failed_to_run": factory.errors, "runs": len(runs), "hardware": hardware(2)}
    drives = {n: [evaluate(str(Path(run) / f"{n}.zip"), factory, scenarios) for run in runs] for n in ("clone", "post_trained")}
    for tag in GROUPS:
        results[tag] = {"n": len(drives["clone"][0].with_tag(tag).driven)}
        for term in TERMS:
            before, after = (values(drives[name], tag, term) for name in ("clone", "post_trained"))
            gain = crossed_mean(after - before)
            results[tag][term] = {"clone": before.mean(), "post-trained": after.mean(), "difference": vars(gain)}
            console.print(f"{tag:7} {term:9} clone {before.mean():.3f}, post-trained {after.mean():.3f}, difference {gain}")
    OUT.parent.mkdir(exist_ok=True)
    write_json(OUT, results)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
