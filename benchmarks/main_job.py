"""The main job with several seeds: what post-training gains over the clone on held-out scenarios, and how long each stage takes.

    python benchmarks/main_job.py                            # pack starter, 5 seeds; goes on where it was stopped
    python benchmarks/main_job.py --logs ../shared/data      # once on real logs, from the import to the table

Differences are paired by scenario; their intervals cover new seeds as well as new scenarios. Every seed's run is kept under
runs/main_job-PACK-SEED and is not repeated. Results go to benchmarks/results/main_job.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from worldengine_rl.evaluation import Evaluation, make_console
from worldengine_rl.pipeline import GROUPS, Run, Settings, hardware, write_json
from worldengine_rl.statistics import crossed_mean

TERMS = ("success", "pdms", "progress")
IMPORTS = (("scenarionet", "nuscenes_mini"), ("argoverse2", "argoverse2"))


@dataclass(frozen=True)
class Arguments:
    """What to run."""

    pack: str = "starter"
    """Pack to train and evaluate on."""
    seeds: int = 5
    """Number of seeds."""
    logs: Path | None = None
    """Folder with nuscenes_mini/ and argoverse2/: import them and run the job on them once instead."""
    threads: int = 2
    """Threads of torch and of the worlds."""
    out: Path = Path(__file__).parent / "results" / "main_job.json"
    """Where results go; parts that are there already and not run now are kept."""


def run_seed(pack: tuple[str, ...], name: str, seed: int, threads: int, console) -> Path:
    """Does one run, or what is missing of it; returns its folder."""
    settings = Settings(pack=pack, name=name, seed=seed, threads=threads, baselines=seed == 0)
    console.rule(f"{'+'.join(pack)}, seed {seed}")
    if not (settings.folder / "table.json").exists():
        Run(settings, resume=(settings.folder / "settings.json").exists(), console=console).run()
    return settings.folder


def differences(folders: list[Path], tag: str, term: str) -> np.ndarray:
    """Returns (seeds, scenarios) post-trained minus clone."""
    rows = []
    for folder in folders:
        parts = []
        for name in ("post-trained", "clone"):
            evaluation = Evaluation.from_dict(json.loads((folder / f"evaluation_{name}_test.json").read_text()))
            parts.append({r.scenario: float(getattr(r, term)) for r in evaluation.driven if tag == "all" or tag in r.tags})
        rows.append([parts[0][scenario] - parts[1][scenario] for scenario in sorted(parts[0])])
    return np.array(rows)


def seeds_report(folders: list[Path]) -> dict:
    """Returns means of clone and post-trained by seed, and the differences over all seeds, for all, common and rare scenarios."""
    tables = [json.loads((folder / "table.json").read_text()) for folder in folders]
    groups = {}
    for tag in [group for group in ("all", *GROUPS) if group in tables[0]["groups"]]:
        policies = [table["groups"][tag]["policies"] for table in tables]
        groups[tag] = {
            "n": policies[0]["clone"]["n"],
            "failed_to_run": policies[0]["clone"]["failed_to_run"],
            "by_seed": {
                name: {term: [policy[name]["means"][term]["mean"] for policy in policies] for term in TERMS}
                for name in ("clone", "post-trained")
            },
            "post-trained minus clone": {term: vars(crossed_mean(differences(folders, tag, term))) for term in TERMS},
            "baselines": {n: policies[0][n]["means"] for n in policies[0] if n not in ("clone", "post-trained")},
        }
    stages = {stage for table in tables for stage in table["timings_s"]}
    timings = {stage: [round(table["timings_s"].get(stage, 0.0), 1) for table in tables] for stage in sorted(stages)}
    totals = [round(sum(table["timings_s"].values()), 1) for table in tables]
    return {"conditions": tables[0]["conditions"], "groups": groups, "wall_s_by_seed": timings, "wall_s_total": totals}


def import_logs(logs: Path, folder: Path) -> list[str]:
    """Imports nuScenes and Argoverse 2 logs with the command line; returns the packs."""
    packs = []
    for source, name in IMPORTS:
        packs.append(str(folder / name))
        command = ["worldengine", "import", source, str(logs / name), "--out", packs[-1]]
        print("$", *command, flush=True)
        code = subprocess.run([str(Path(sys.executable).parent / command[0]), *command[1:]], check=False).returncode
        if code not in (0, 1):  # 1: some files could not be imported; they were listed
            raise SystemExit(f"the import ended with code {code}")
    return packs


def logs_report(logs: Path, threads: int, console) -> dict:
    """Runs import and job on real logs; returns the table with the wall time of the whole."""
    start = time.perf_counter()
    folder = Path("runs") / "main_job_logs"
    packs = import_logs(logs, folder / time.strftime("packs-%Y%m%d-%H%M%S"))
    imported = time.perf_counter() - start
    run = run_seed(tuple(packs), f"main_job-logs-{time.strftime('%Y%m%d-%H%M%S')}", 0, threads, console)
    table = json.loads((run / "table.json").read_text())
    return table | {"wall_s_import": round(imported, 1), "wall_s_total": round(time.perf_counter() - start, 1)}


def main() -> None:
    """Runs what is asked for and writes the results."""
    arguments, console = tyro.cli(Arguments, description=__doc__), make_console()
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)

    def keep(title: str, report: dict) -> None:
        results[title] = report | {"hardware": hardware(arguments.threads)}
        write_json(arguments.out, results)

    if arguments.logs is not None:
        keep("real logs", logs_report(arguments.logs, arguments.threads, console))
    else:
        folders, pack = [], Path(arguments.pack).name
        for seed in range(arguments.seeds):
            folders.append(run_seed((arguments.pack,), f"main_job-{pack}-{seed}", seed, arguments.threads, console))
            keep(f"pack {pack}", seeds_report(folders))
    for title, part in results.items():
        for tag, group in part.get("groups", {}).items():
            gains = group["post-trained minus clone"]
            words = [f"{t} {gains[t]['mean']:+.3f} [{gains[t]['low']:+.3f}, {gains[t]['high']:+.3f}]" for t in TERMS]
            console.print(f"{title}, {tag}: post-trained minus clone: {', '.join(words)}", soft_wrap=True)
    console.print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
