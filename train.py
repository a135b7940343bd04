"""Clones the logged driver, finds where the clone fails, post-trains it there with BR-PPO, and compares on held-out scenarios.

    python train.py                        # the pack that ships, in a few minutes on two cores
    python train.py --pack my_pack --name first --seed 1
    python train.py --pack my_pack --name first --seed 1 --resume    # goes on after Ctrl-C or a crash

Everything is kept under runs/NAME: settings.json, metrics.jsonl, tensorboard/, clone.zip, mined.json, checkpoint.zip (after every
iteration), post_trained.zip, evaluation_*.json (every scenario), table.json.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import tyro

from worldengine_envs.errors import WorldEngineError
from worldengine_rl.evaluation import make_console
from worldengine_rl.pipeline import Run
from worldengine_rl.run_settings import Settings


@dataclass(frozen=True)
class TrainSettings(Settings):
    """Settings of a run of the whole job."""

    resume: bool = False
    """Go on with the run of this name from the last finished iteration."""


def main() -> int:
    """Runs the job; returns the exit code."""
    arguments = tyro.cli(TrainSettings, description=__doc__)
    settings = Settings(**{name: getattr(arguments, name) for name in Settings.__dataclass_fields__})
    console = make_console()
    try:
        Run(settings, arguments.resume, console).run()
    except WorldEngineError as error:
        console.print(f"[red]error:[/] {error}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print(f"stopped; nothing is lost: give the same command with --resume to go on ({settings.folder})")
        return 130
    console.print(f"everything is in {settings.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
