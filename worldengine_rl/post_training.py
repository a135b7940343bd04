"""Post-training: BR-PPO in the scenarios where the clone fails, mixed with others, with a checkpoint after every iteration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from worldengine_rl.br_ppo import BRPPO
from worldengine_rl.policies import DrivingPolicy
from worldengine_rl.randomness import derived_seed, seed_torch


@dataclass(frozen=True)
class PostTrainSettings:
    """Settings of post-training."""

    iterations: int = 120
    """Rollouts followed by an update."""
    worlds: int = 256
    """Worlds that are driven side by side, half of them in the mirror; each starts an iteration with a fresh scenario."""
    decisions: int = 8
    """Decisions of every world in an iteration (8 are one episode of 4 s)."""
    mined_share: float = 0.5
    """Share of worlds that start in a mined scenario; the others start in those of the training split that the clone masters."""
    learning_rate: float = 7e-4
    """At the start; it falls linearly to a tenth."""
    batch_size: int = 512
    epochs: int = 3
    clip_range: float = 0.2
    target_kl_ref: float = 0.7
    """KL per decision to the clone that the coefficient is adapted to [nats]; more allows more change."""
    kl_coef: float = 0.1
    """Coefficient of the KL term at the start."""
    replay_coef: float = 3.0
    """Weight of the KL term that keeps the policy as the clone was in what the clone learned from, mostly common driving
    (experience mixing). Without it the policy drives slower everywhere, because that helps in mined scenarios; more keeps more
    progress and gains less success."""
    replay_batch_size: int = 256
    critic_warmup: int = 3
    """First iterations that train the critic only: what the clone earns is not what the driver earned."""


def draw_scenarios(mined: Sequence[str], others: Sequence[str], settings: PostTrainSettings, seed: int) -> list[str]:
    """Returns one scenario for each world: ``mined_share`` of them from the mined ones, without repeats as far as they reach."""
    rng = np.random.default_rng(seed)
    from_mined = round(settings.mined_share * settings.worlds) if mined else 0
    drawn: list[str] = []
    for pool, count in ((mined, from_mined), (others, settings.worlds - from_mined)):
        rounds = range(-(-count // max(len(pool), 1)))
        drawn += [pool[i] for _ in rounds for i in rng.permutation(len(pool))][:count]
    return drawn


class IterationBoundary(BaseCallback):
    """Before every rollout: saves the model, seeds all randomness from (seed, iteration), and puts new scenarios into the worlds.

    Nothing else is carried from one iteration to the next, so going on from the last checkpoint gives the same numbers.
    """

    def __init__(self, checkpoint: Path, draw: Callable[[int], list[str]], seed: int, on_iteration: Callable[[dict], None]):
        super().__init__()
        self.checkpoint, self.draw, self.seed, self.on_iteration = checkpoint, draw, seed, on_iteration
        self.episodes: list[dict] = []

    def _on_rollout_start(self) -> None:
        self._boundary()
        model, iteration = self.model, self.model.iterations_done
        seed_torch(derived_seed(self.seed, "iteration", iteration))
        self.training_env.seed(derived_seed(self.seed, "worlds", iteration))
        self.training_env.set_options({"scenarios": self.draw(iteration)})
        model._last_obs = self.training_env.reset()
        model._last_episode_starts = np.ones(self.training_env.num_envs, bool)

    def _on_step(self) -> bool:
        self.episodes += [info for info, done in zip(self.locals["infos"], self.locals["dones"], strict=True) if done]
        return True

    def _on_training_end(self) -> None:
        self._boundary()

    def _boundary(self) -> None:
        if not self.episodes:
            return  # at the start, or right after loading
        save_model(self.model, self.checkpoint)
        logged = self.model.logger.name_to_value
        metrics = {"iteration": self.model.iterations_done, "decisions": self.model.num_timesteps, "episodes": len(self.episodes)}
        for name in ("success", "pdms"):
            metrics[name] = float(np.mean([info[name] for info in self.episodes]))
        metrics |= {name.split("/")[1]: float(logged[name]) for name in logged if name.startswith(("train/", "rollout/"))}
        self.on_iteration(metrics)
        self.episodes = []


def save_model(model: BRPPO, path: Path) -> None:
    """Saves a model so that an interruption leaves the old file or the new one, never half of one."""
    part = path.with_name(f"{path.stem}.part.zip")
    model.save(part)
    part.replace(path)


def make_model(policy: DrivingPolicy, envs: VecEnv, settings: PostTrainSettings, seed: int) -> BRPPO:
    """Returns BR-PPO around a cloned policy, which becomes its reference."""
    model = BRPPO(
        type(policy),
        envs,
        target_kl_ref=settings.target_kl_ref,
        kl_coef=settings.kl_coef,
        replay_coef=settings.replay_coef,
        replay_batch_size=settings.replay_batch_size,
        critic_warmup=settings.critic_warmup,
        learning_rate=LinearSchedule(settings.learning_rate, settings.learning_rate / 10, 1.0),
        n_steps=settings.decisions,
        batch_size=settings.batch_size,
        n_epochs=settings.epochs,
        clip_range=settings.clip_range,
        policy_kwargs=policy.plain_arguments,
        seed=seed,
        device="cpu",
    )
    model.policy.load_state_dict(policy.state_dict())
    model.set_reference()
    return model


def post_train(
    policy: DrivingPolicy,
    envs: VecEnv,
    mined: Sequence[str],
    mastered: Sequence[str],
    replay: dict[str, np.ndarray],
    settings: PostTrainSettings,
    seed: int,
    folder: Path,
    on_iteration: Callable[[dict], None] = lambda metrics: None,
) -> BRPPO:
    """Post-trains a cloned policy, or goes on from ``folder/checkpoint.zip``.

    Args:
        policy: The clone; it stays as it is.
        envs: ``settings.worlds`` worlds.
        mined, mastered: Scenarios to start episodes in; worlds that end early go on in any scenario of ``envs``.
        replay: (decisions, ...) observations at which the policy is to stay as it was.
        settings, seed: What to do, and where randomness comes from.
        folder: Where checkpoints go.
        on_iteration: Called with the metrics of every iteration, after its checkpoint is written.
    """
    checkpoint = folder / "checkpoint.zip"
    model = make_model(policy, envs, settings, seed)
    if checkpoint.exists():
        model.restore(checkpoint)
    model.set_replay(replay)
    model.set_logger(configure(str(folder), []))  # the tracker writes; this folder is where a batch with NaN goes

    def draw(iteration: int) -> list[str]:
        return draw_scenarios(mined, mastered, settings, derived_seed(seed, "scenarios", iteration))

    boundary = IterationBoundary(checkpoint, draw, seed, on_iteration)
    left = settings.iterations * settings.worlds * settings.decisions - model.num_timesteps
    if left > 0:
        model.learn(left, callback=boundary, log_interval=None, reset_num_timesteps=False)
    return model
