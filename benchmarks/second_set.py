"""The gain of post-training on a second held-out set: seeds of the city beyond those of the starter pack, which nothing has seen.

    python benchmarks/second_set.py runs/main_job-starter-*               # runs of benchmarks/main_job.py

The set is built first, by the settings of the starter pack but for numbers and seeds, and kept in runs/second_set.
Results go to benchmarks/results/second_set.json.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from worldengine_envs.cli.build_pack import build
from worldengine_envs.cli.build_settings import read_settings
from worldengine_envs.scenario import Pack
from worldengine_envs.simulation.threads import num_threads
from worldengine_rl.evaluation import Evaluation, evaluate, make_console
from worldengine_rl.results import GROUPS, hardware, signed, write_json
from worldengine_rl.statistics import crossed_mean
from worldengine_rl.worlds import PackSet, WorldFactory, WorldSettings

COMMON, RARE = 40, 20  # scenarios of each family
STARTER = Path(__file__).parents[1] / "scenario_packs" / "starter"
FOLDER = Path("runs") / "second_set"
OUT = Path(__file__).parent / "results" / "second_set.json"


def build_second_set() -> None:
    """Builds the pack ``second`` from the first seed that the starter pack has not looked at."""
    starter = read_settings(STARTER / "build.toml")
    first = 1 + max(entry.recipe.seed for entry in Pack.open(STARTER).entries)
    rules = "\n".join(f"{name} = {value}" for name, value in vars(starter.acceptance).items())
    FOLDER.mkdir(parents=True, exist_ok=True)
    settings = FOLDER / "second.toml"
    settings.write_text(f'name = "second"\ncommon = {COMMON}\nrare = {RARE}\nfirst_seed = {first}\n\n[acceptance]\n{rules}\n')
    build(settings, FOLDER / "second")


def compare(before: list[Evaluation], after: list[Evaluation]) -> dict:
    """Returns means and differences over (runs, scenarios) of two policies, of progress also where both succeed."""
    success = [terms(part, "success") > 0 for part in (before, after)]
    report: dict = {"n": success[0].shape[1]}
    for term in ("success", "pdms", "ep", "progress"):
        clone, post_trained = terms(before, term), terms(after, term)
        difference = vars(crossed_mean(post_trained - clone))
        report[term] = {"clone": clone.mean(), "post-trained": post_trained.mean(), "difference": difference}
        if term in ("ep", "progress"):
            report[term]["where both succeed"] = vars(crossed_mean(post_trained - clone, success[0] & success[1]))
    return report


def terms(evaluations: list[Evaluation], term: str):
    """Returns (runs, scenarios) of one term."""
    return np.array([[float(getattr(r, term)) for r in evaluation.driven] for evaluation in evaluations])


def main(runs: list[str]) -> None:
    """Builds the set where it is not there, evaluates clone and post-trained policy of every run, and writes the table."""
    if not runs:
        sys.exit(__doc__)
    if not (FOLDER / "second" / "pack.json").exists():
        build_second_set()
    console, factory = make_console(), WorldFactory(PackSet([FOLDER / "second"]), WorldSettings())
    scenarios = factory.prepare(factory.packs.ids())
    results: dict = {
        "scenarios": len(scenarios),
        "failed_to_run": factory.errors,
        "runs": len(runs),
        "hardware": hardware(num_threads()),
    }
    drives = [[evaluate(str(Path(run) / f"{n}.zip"), factory, scenarios) for run in runs] for n in ("clone", "post_trained")]
    for tag in GROUPS:
        results[tag] = compare(*([evaluation.with_tag(tag) for evaluation in part] for part in drives))
        for term in ("success", "pdms", "ep", "progress"):
            row = results[tag][term]
            words = f"{tag:7} {term:9} clone {row['clone']:.3f}, post-trained {row['post-trained']:.3f}"
            words += f", difference {signed(row['difference'])}"
            if "where both succeed" in row:
                words += f", where both succeed {signed(row['where both succeed'])}"
            console.print(words, soft_wrap=True)
    OUT.parent.mkdir(exist_ok=True)
    write_json(OUT, results)


if __name__ == "__main__":
    main(sys.argv[1:])
