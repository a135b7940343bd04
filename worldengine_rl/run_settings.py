"""Settings of a run of the whole job."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from worldengine_envs.envs.actions import DECISION_PERIOD_S
from worldengine_envs.errors import WorldEngineError
from worldengine_envs.rendering.cameras import RIGS
from worldengine_rl.mining import MiningSettings
from worldengine_rl.perception import PerceptionSettings
from worldengine_rl.post_training import PostTrainSettings
from worldengine_rl.pretraining import CloneSettings
from worldengine_rl.worlds import WorldSettings


@dataclass(frozen=True)
class Settings:
    """Settings of a run of the whole job."""

    pack: tuple[str, ...] = ("starter",)
    """Names or folders of packs; scenarios of their train splits are trained on, those of their test splits are held out."""
    name: str | None = None
    """Name of the run: everything goes under runs/NAME. Default: packs and seed."""
    seed: int = 0
    """All randomness of the run comes from it."""
    threads: int = 2
    """Threads of torch and of the worlds. On a CPU, the same seed and threads give the same numbers."""
    validation_share: float = 0.0
    """Share of the recordings of the train splits to hold out and to evaluate on instead of the test splits: choose settings by
    these, then train without, so that nothing is chosen by what the results are measured on."""
    rare_share: float = 0.05
    """Share of rare scenarios among those that the clone learns from; packs without tags "rare" are used whole."""
    anchors: int = 256
    """Size of the policy's vocabulary of trajectories."""
    fan: int = 1000
    """The vocabulary is made (k-means) from what the logged drivers did and from so many kinematic plans: braking and swerving."""
    baselines: bool = True
    """Whether the table has the baselines."""
    wandb_project: str | None = None
    """Also log to this project of Weights & Biases (pip install 'worldengine[wandb]')."""
    cameras: str | None = None
    """Drive by the images of this rig (front, front3, surround8) instead of by the state; only the critic still has the state."""
    image_size: tuple[int, int] = (72, 128)
    """Height and width of the images [px]."""
    image_history: int = 2
    """Images, 0.5 s apart, that the policy sees of each camera."""
    column_features: int = 12
    """Numbers that the policy's eye gives for each column of 8 pixels."""
    encoder_width: int = 32
    """Width of the policy's set encoders."""
    trunk_width: int = 128
    """Width of the policy's other layers."""
    worlds: WorldSettings = field(default_factory=WorldSettings)
    perception: PerceptionSettings = field(default_factory=PerceptionSettings)
    clone: CloneSettings = field(default_factory=CloneSettings)
    mining: MiningSettings = field(default_factory=MiningSettings)
    post_training: PostTrainSettings = field(default_factory=PostTrainSettings)

    @property
    def folder(self) -> Path:
        """Where the run is kept."""
        return Path("runs") / (self.name or f"{'+'.join(Path(pack).name for pack in self.pack)}-{self.seed}")


def check_rollout(settings: Settings) -> None:
    """Refuses rollouts that cannot be.

    Raises:
        WorldEngineError: A rollout is shorter than an episode, so that no world would ever come to its horizon; or there are not as
            many worlds in the mirror as others.
    """
    horizon_s, decisions = settings.worlds.horizon_s, settings.post_training.decisions
    needed = math.ceil(horizon_s / DECISION_PERIOD_S["anchor"] - 1e-9)
    if decisions < needed:
        problem = f"an episode of {horizon_s:g} s has {needed} decisions, a rollout {decisions}"
        raise WorldEngineError(f"{problem}. Add --post-training.decisions {needed}")
    if settings.post_training.worlds < 2 or settings.post_training.worlds % 2:
        problem = f"--post-training.worlds {settings.post_training.worlds} cannot be halved, and half are driven in the mirror"
        raise WorldEngineError(f"{problem}. Give an even number")


def check_cameras(settings: Settings) -> None:
    """Refuses what an eye cannot be made or trained with.

    Raises:
        WorldEngineError: There is no such rig, or the eye would not be trained.
    """
    if settings.cameras is not None and settings.cameras not in RIGS:
        raise WorldEngineError(f"--cameras {settings.cameras}: there is no such rig. Give one of {', '.join(RIGS)}")
    if settings.cameras is not None and settings.perception.epochs < 1:
        raise WorldEngineError(f"--perception.epochs {settings.perception.epochs}: the eye has to be trained. Give 1 or more")
