"""Where numbers go while a run trains: a JSON line each in ``metrics.jsonl``, TensorBoard, and Weights & Biases when asked."""

from __future__ import annotations

import json
from pathlib import Path

from worldengine_envs.errors import WorldEngineError


class Tracker:
    """Writes metrics of a run.

    Args:
        folder: The run's folder.
        wandb_project: Project in Weights & Biases, or None. Works offline with WANDB_MODE=offline.
        config: Settings of the run, for Weights & Biases.

    Raises:
        WorldEngineError: Weights & Biases is asked for and not installed.
    """

    def __init__(self, folder: Path, wandb_project: str | None = None, config: dict | None = None):
        from torch.utils.tensorboard import SummaryWriter

        self.file = folder / "metrics.jsonl"
        self.board = SummaryWriter(str(folder / "tensorboard"))
        self.wandb_run = _start_wandb(wandb_project, folder, config) if wandb_project else None

    def log(self, stage: str, step: int, metrics: dict[str, float]) -> None:
        """Writes one row; numbers only go to the boards."""
        with self.file.open("a") as file:
            file.write(json.dumps({"stage": stage, "step": step, **metrics}) + "\n")
        for name, value in metrics.items():
            self.board.add_scalar(f"{stage}/{name}", value, step)
        if self.wandb_run is not None:
            self.wandb_run.log({f"{stage}/{name}": value for name, value in metrics.items()} | {f"{stage}/step": step})

    def close(self) -> None:
        """Flushes everything."""
        self.board.close()
        if self.wandb_run is not None:
            self.wandb_run.finish()


def _start_wandb(project: str, folder: Path, config: dict | None):
    try:
        import wandb
    except ImportError as error:
        raise WorldEngineError(
            "--wandb-project was given, but Weights & Biases is not installed. Run: pip install 'worldengine[wandb]'"
        ) from error
    return wandb.init(project=project, dir=str(folder), name=folder.name, config=config, resume="allow")
