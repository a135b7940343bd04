"""Drives every scenario of a pack once with a policy, and prints a table with intervals.

python evaluate.py --policy pdm-closed --pack starter
python evaluate.py --policy runs/starter-0/post_trained.zip --pack starter --traffic idm --split test --horizon-s 8
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from worldengine_envs.envs.baselines import BASELINES
from worldengine_envs.errors import WorldEngineError
from worldengine_rl.evaluation import evaluate, make_console, make_table
from worldengine_rl.results import GROUPS, write_json
from worldengine_rl.worlds import PackSet, WorldFactory, WorldSettings


@dataclass(frozen=True)
class EvaluateSettings:
    """What to evaluate, and where."""

    policy: tuple[str, ...]
    """Checkpoints (.zip that train.py wrote) or baselines: log, constant-velocity, brake, idm, pdm-closed."""
    pack: tuple[str, ...] = ("starter",)
    """Names or folders of packs."""
    split: str | None = "test"
    """Only scenarios of this split; "all" for every split."""
    tags: tuple[str, ...] = ()
    """Only scenarios that carry all of these tags."""
    traffic: str = "log"
    """Who moves the others: log (as recorded) or idm (they react)."""
    horizon_s: float = 4.0
    """Length of an episode [s]."""
    baselines: bool = False
    """Add all baselines to the table."""
    num_envs: int = 64
    """Worlds side by side."""
    out: Path = field(default=Path("evaluation.json"))
    """JSON file for the means, intervals and the record of every scenario."""


def main() -> int:
    """Evaluates; returns the exit code: 1 for an error, 2 where scenarios failed to run."""
    settings, console = tyro.cli(EvaluateSettings, description=__doc__), make_console()
    policies = list(dict.fromkeys([*settings.policy, *(BASELINES if settings.baselines else ())]))
    split = None if settings.split == "all" else settings.split
    try:
        if not settings.out.resolve().parent.is_dir():
            raise WorldEngineError(f"--out {settings.out}: there is no folder {settings.out.parent}. Make it first")
        for policy in policies:
            if policy not in BASELINES and not Path(policy).is_file():
                raise WorldEngineError(f"--policy {policy}: neither a checkpoint nor one of {', '.join(BASELINES)}")
        packs = PackSet(settings.pack)
        factory = WorldFactory(packs, WorldSettings(settings.traffic, settings.horizon_s))
        scenarios = packs.ids(split, settings.tags)
        if not scenarios:
            raise WorldEngineError(f"no scenario of {packs.name} has split {split} and tags {list(settings.tags)}")
        with console.status(f"{len(scenarios)} scenarios"):
            evaluations = [evaluate(p, factory, scenarios, split, settings.tags, num_envs=settings.num_envs) for p in policies]
    except WorldEngineError as error:
        console.print(f"[red]error:[/] {error}", soft_wrap=True)
        return 1
    console.print(make_table(evaluations, "closed loop"))
    for group in GROUPS:
        parts = [evaluation.with_tag(group) for evaluation in evaluations]
        if 0 < len(parts[0].records) < len(scenarios):
            console.print(make_table(parts, group))
    for name, why in factory.errors.items():
        console.print(f"[yellow]not run:[/] {name}: {why}")
    write_json(settings.out, [evaluation.as_dict() for evaluation in evaluations])
    console.print(f"every scenario's record is in {settings.out}")
    return 2 if any(evaluation.failed_to_run for evaluation in evaluations) else 0


if __name__ == "__main__":
    sys.exit(main())
