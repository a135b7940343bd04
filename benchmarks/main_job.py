"""The main job with several seeds: what post-training gains over the clone on held-out scenarios, and how long each stage takes.

    python benchmarks/main_job.py                            # pack starter, 5 seeds; goes on where it was stopped
    python benchmarks/main_job.py --cameras front            # the policies drive by images
    python benchmarks/main_job.py --logs ../shared/data      # once on real logs, from the import to the table

Differences are paired by scenario; their intervals cover new seeds as well as new scenarios. "Where both succeed" is over the pairs
in which clone and post-trained policy both came to the horizon without a failure: ego progress (the term EP, and metres) that is
lost there is what safety costs. Every seed's run is kept under
runs/main_job-PACK-SEED and is not repeated. Results go to benchmarks/results/main_job.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from rich.table import Table

from worldengine_envs.city import FAMILIES, RARE
from worldengine_envs.envs.baselines import BASELINES
from worldengine_rl.evaluation import Evaluation, make_console
from worldengine_rl.pipeline import Run
from worldengine_rl.results import GROUPS, signed, write_json
from worldengine_rl.run_settings import Settings
from worldengine_rl.statistics import crossed_mean

TERMS = ("success", "pdms", "ep", "progress")
CAMERA_WORLDS = 128  # side by side in post-training by cameras: half as many as with states, for the sake of time
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
    cameras: str | None = None
    """Rig whose images the policies drive by; default: they have the state."""
    threads: int = 2
    """Threads of torch and of the worlds."""
    out: Path = Path(__file__).parent / "results" / "main_job.json"
    """Where results go; parts that are there already and not run now are kept."""


def run_seed(pack: tuple[str, ...], name: str, seed: int, threads: int, console, cameras: str | None = None) -> Path:
    """Does one run, or what is missing of it; returns its folder.

    Raises:
        WorldEngineError: The folder holds a run with other settings, or of another version of the pack.
    """
    settings = Settings(pack=pack, name=name, seed=seed, threads=threads, baselines=seed == 0, cameras=cameras)
    if cameras is not None:
        settings = replace(settings, post_training=replace(settings.post_training, worlds=CAMERA_WORLDS))
    console.rule(f"{'+'.join(pack)}, seed {seed}")
    run = Run(settings, resume=(settings.folder / "settings.json").exists(), console=console)  # refuses other settings or packs
    if not (settings.folder / "table.json").exists():
        run.run()
    return settings.folder


class Pairs:
    """What clone and post-trained policy did in the same held-out scenarios, over all seeds."""

    def __init__(self, folders: list[Path], tag: str):
        both = [[read_evaluation(folder, name) for folder in folders] for name in ("clone", "post-trained")]
        names = sorted(r.scenario for r in both[0][0].driven if tag == "all" or tag in r.tags)
        rows = [[{r.scenario: r for r in evaluation.driven} for evaluation in evaluations] for evaluations in both]
        self.before, self.after = ([[row[name] for name in names] for row in part] for part in rows)

    def values(self, term: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns (seeds, scenarios) of a term for the clone and for the post-trained policy."""
        before, after = (np.array([[float(getattr(r, term)) for r in row] for row in part]) for part in (self.before, self.after))
        return before, after

    def report(self) -> dict:
        """Returns means by seed and paired differences, of progress also where both succeed."""
        values = {term: self.values(term) for term in TERMS}
        both = (values["success"][0] > 0) & (values["success"][1] > 0)
        return {
            "n": both.shape[1],
            "by_seed": {
                name: {term: values[term][i].mean(1).tolist() for term in TERMS} for i, name in enumerate(("clone", "post-trained"))
            },
            "post-trained minus clone": {term: vars(crossed_mean(after - before)) for term, (before, after) in values.items()},
            "where both succeed": {
                "scenarios_by_seed": both.sum(1).tolist(),
                **{term: vars(crossed_mean(values[term][1] - values[term][0], both)) for term in ("ep", "progress")},
            },
        }


def read_evaluation(folder: Path, policy: str) -> Evaluation:
    """Returns what a run wrote of a policy on the held-out scenarios."""
    return Evaluation.from_dict(json.loads((folder / f"evaluation_{policy}_test.json").read_text()))


def families_report(folders: list[Path]) -> dict:
    """Returns success of every policy in each family of the city: over all seeds, baselines from the first."""
    policies = {name: [read_evaluation(folder, name) for folder in folders] for name in ("clone", "post-trained")}
    policies |= {name: [read_evaluation(folders[0], name)] for name in BASELINES}
    families = {}
    for family in FAMILIES:
        parts = {name: [e.with_tag(family).driven for e in evaluations] for name, evaluations in policies.items()}
        if parts["clone"][0]:
            success = {name: float(np.mean([[r.success for r in part] for part in rows])) for name, rows in parts.items()}
            families[family] = {"n": len(parts["clone"][0]), "rare": family in RARE, "success": success}
    return families


def seeds_report(folders: list[Path]) -> dict:
    """Returns what clone and post-trained policy did by seed, and the differences over all seeds, for all, common and rare ones."""
    tables = [json.loads((folder / "table.json").read_text()) for folder in folders]
    groups = {}
    for tag in [group for group in ("all", *GROUPS) if group in tables[0]["groups"]]:
        policies = tables[0]["groups"][tag]["policies"]
        groups[tag] = {
            "failed_to_run": policies["clone"]["failed_to_run"],
            **Pairs(folders, tag).report(),
            "baselines": {name: policies[name]["means"] for name in policies if name not in ("clone", "post-trained")},
        }
    stages = {stage for table in tables for stage in table["timings_s"]}
    timings = {stage: [round(table["timings_s"].get(stage, 0.0), 1) for table in tables] for stage in sorted(stages)}
    totals = [round(sum(table["timings_s"].values()), 1) for table in tables]
    return {
        "conditions": tables[0]["conditions"],
        "groups": groups,
        "families": families_report(folders),
        "clone": [table["clone"] for table in tables],
        "hardware": tables[0]["hardware"],
        "wall_s_by_seed": timings,
        "wall_s_total": totals,
    }


def families_table(families: dict) -> Table:
    """Returns a table of success by family."""
    table = Table(title="success by family, held out", title_justify="left")
    names = list(next(iter(families.values()))["success"])
    for name in ("family", "n", *names):
        table.add_column(name, justify="left" if name == "family" else "right", no_wrap=True)
    for family, row in families.items():
        table.add_row(family, str(row["n"]), *(f"{row['success'][name]:.2f}" for name in names))
    return table


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
        results[title] = report
        write_json(arguments.out, results)

    if arguments.logs is not None:
        keep("real logs", logs_report(arguments.logs, arguments.threads, console))
    else:
        folders, pack = [], Path(arguments.pack).name
        kind = f"{pack}-{arguments.cameras}" if arguments.cameras else pack
        title = f"pack {pack}, cameras {arguments.cameras}" if arguments.cameras else f"pack {pack}"
        for seed in range(arguments.seeds):
            run = (arguments.pack,), f"main_job-{kind}-{seed}", seed, arguments.threads, console, arguments.cameras
            folders.append(run_seed(*run))
            keep(title, seeds_report(folders))
    for title, part in results.items():
        for tag, group in part.get("groups", {}).items():
            gains, kept = group["post-trained minus clone"], group.get("where both succeed")
            words = [f"{term} {signed(gains[term])}" for term in ("success", "pdms", "progress")]
            words += [f"where both succeed: ep {signed(kept['ep'])}, progress {signed(kept['progress'])} m"] if kept else []
            console.print(f"{title}, {tag}: post-trained minus clone: {', '.join(words)}", soft_wrap=True)
        if "families" in part:
            if part["families"]:  # packs of other worlds than the city have none
                console.print(families_table(part["families"]))
            ends = [f"{c['best_epoch']} of {c['epoch']}" + ("" if c["stopped_improving"] else " (cut off)") for c in part["clone"]]
            console.print(f"best epochs of cloning by seed: {', '.join(ends)}; wall time [s]: {part['wall_s_total']}")
    console.print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
