"""The whole job: clone, mine, post-train, evaluate, table. Every stage leaves a file and is skipped where that is there."""

from __future__ import annotations

import gc
import json
import math
import os
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from worldengine_envs.envs.actions import DECISION_PERIOD_S
from worldengine_envs.envs.anchors import cluster, kinematic_fan, logged_plans
from worldengine_envs.envs.baselines import BASELINES
from worldengine_envs.envs.observations import state_space
from worldengine_envs.envs.sb3 import SB3VecEnv
from worldengine_envs.errors import DataError, WorldEngineError
from worldengine_rl.demonstrations import collect_demonstrations
from worldengine_rl.evaluation import Evaluation, evaluate, make_table
from worldengine_rl.mining import MiningSettings, mine
from worldengine_rl.mirror import HalfMirrored, mirrored_poses
from worldengine_rl.policies import DrivingPolicy, load_policy
from worldengine_rl.post_training import PostTrainSettings, make_model, post_train, save_model
from worldengine_rl.pretraining import CloneSettings, Demonstrations, clone
from worldengine_rl.randomness import derived_seed, seed_torch
from worldengine_rl.results import hardware, signed, summary, write_json
from worldengine_rl.splits import common_with_some_rare, contents_digest, split_scenarios
from worldengine_rl.tracking import Tracker
from worldengine_rl.worlds import PackSet, WorldFactory, WorldSettings


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
    encoder_width: int = 32
    """Width of the policy's set encoders."""
    trunk_width: int = 128
    """Width of the policy's other layers."""
    worlds: WorldSettings = field(default_factory=WorldSettings)
    clone: CloneSettings = field(default_factory=CloneSettings)
    mining: MiningSettings = field(default_factory=MiningSettings)
    post_training: PostTrainSettings = field(default_factory=PostTrainSettings)

    @property
    def folder(self) -> Path:
        """Where the run is kept."""
        return Path("runs") / (self.name or f"{'+'.join(Path(pack).name for pack in self.pack)}-{self.seed}")


class Run:
    """One run of the job in its folder.

    Raises:
        WorldEngineError: The folder has a run already and ``resume`` is False, or one with other settings or other packs; or
            rollouts are too short for an episode, or worlds cannot be halved.
    """

    def __init__(self, settings: Settings, resume: bool = False, console: Console | None = None):
        self.settings, self.folder, self.console = settings, settings.folder, console or Console()
        check_rollout(settings)
        self.packs = PackSet(settings.pack)
        self._take_folder(resume)
        os.environ["WORLDENGINE_THREADS"] = str(settings.threads)
        torch.set_num_threads(settings.threads)
        self.tracker = Tracker(self.folder, settings.wandb_project, asdict(settings))
        self.train_ids, self.held_out, self.held_out_ids = split_scenarios(self.packs, settings.validation_share, settings.seed)
        if not self.train_ids or not self.held_out_ids:
            problem = f"{len(self.train_ids)} train and {len(self.held_out_ids)} {self.held_out} scenarios"
            raise DataError(problem, field="split", remedy="Packs for training need scenarios in both splits")

    def _take_folder(self, resume: bool) -> None:
        file, mine = self.folder / "settings.json", json.loads(json.dumps(asdict(self.settings)))
        mine["pack_contents"] = contents_digest(self.packs)  # results of another version of a pack are not to be mixed in
        if file.exists():
            if not resume:
                raise WorldEngineError(f"{self.folder} holds a run already. Give --resume to go on with it, or another --name")
            theirs = json.loads(file.read_text())
            changed = [name for name in mine if mine[name] != theirs.get(name)]
            if changed:
                raise WorldEngineError(f"{self.folder} was started with other settings ({', '.join(changed)}); give another --name")
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(file, mine)

    # -- stages ------------------------------------------------------------------------------------------------------------------

    def run(self) -> dict:
        """Does all stages that are not done yet and returns what ``table.json`` holds."""
        if not (self.folder / "post_trained.zip").exists():
            self.train_ids = self._read(self.train_ids, "to train on")
            cloned = self._clone()
            self._post_train(cloned, self._mine(cloned))
        self._read(self.held_out_ids, "held out")  # those to train on are not needed any more, and leave memory
        policies = {"clone": load_policy(self.folder / "clone.zip"), "post-trained": load_policy(self.folder / "post_trained.zip")}
        policies |= {name: name for name in BASELINES} if self.settings.baselines else {}
        rows = [self._evaluate(name, policy, self.held_out_ids, self.held_out) for name, policy in policies.items()]
        result = self._table(rows[0], rows[1], rows[2:])
        self.tracker.close()
        return result

    def _read(self, scenarios: Sequence[str], purpose: str) -> list[str]:
        """Reads and compiles scenarios in place of those before; returns those that can be driven."""
        self.packs = self.factory = None
        gc.collect()  # compiled maps take gigabytes, and worlds that refer to them are in cycles
        self.packs = PackSet(self.settings.pack)
        self.factory = WorldFactory(self.packs, self.settings.worlds)
        with self._timed("read scenarios"), self._progress("scenarios", len(scenarios)) as advance:
            good = self.factory.prepare(scenarios, advance)
        self.console.print(f"{len(good)} scenarios {purpose} in {self.packs.name}")
        for name, why in self.factory.errors.items():
            self.console.print(f"[yellow]left out:[/] {name}: {why}")
        return good

    def _new_policy(self) -> DrivingPolicy:
        """Returns an untrained policy over anchors that are made from what the logged drivers of the training split did."""
        settings = self.settings
        seed_torch(derived_seed(settings.seed, "policy"))
        widths = {"encoder_width": settings.encoder_width, "trunk_width": settings.trunk_width}
        policy = DrivingPolicy(state_space(), spaces.Discrete(settings.anchors), lambda _: 0.0, **widths)
        plans = [logged_plans(self.packs.load(name), agents=False) for name in self.train_ids]
        anchors = cluster(np.concatenate([*plans, kinematic_fan(settings.fan, settings.seed)]), settings.anchors, settings.seed)
        anchors[np.abs(anchors).sum((1, 2)).argmin()] = 0.0  # one is to stand still, exactly
        policy.anchors.copy_(torch.as_tensor(anchors))
        return policy

    def _clone(self) -> DrivingPolicy:
        settings, file = self.settings, self.folder / "clone.zip"
        if file.exists():
            return load_policy(file)
        with self._timed("vocabulary"):
            policy = self._new_policy()
        data = self._demonstrations(policy)
        with self._timed("clone"), self._progress("cloning", settings.clone.max_epochs) as advance:

            def on_epoch(metrics: dict) -> None:
                self.tracker.log("clone", metrics["epoch"], metrics)
                advance(f"validation loss {metrics['validation_loss']:.3f}")

            progress = clone(policy, data, settings.clone, settings.seed, self.folder / "clone_checkpoint.pt", on_epoch)
        ended = "it had stopped improving" if progress.stopped_improving(settings.clone) else "--clone.max-epochs were over"
        words = f"best validation loss {progress.best_loss:.3f} in epoch {progress.best_epoch} of {progress.epoch} ({ended})"
        self.console.print(f"clone: {len(data)} decisions, {words}", soft_wrap=True)
        report = {name: getattr(progress, name) for name in ("epoch", "best_epoch", "best_loss")}
        report |= {"stopped_improving": progress.stopped_improving(settings.clone), "decisions": len(data)}
        write_json(self.folder / "clone.json", report)
        envs = self.factory.make(1, autoreset_mode=AutoresetMode.SAME_STEP, **policy.world_arguments)
        save_model(make_model(policy, SB3VecEnv(envs), settings.post_training, settings.seed), file)
        return load_policy(file)

    def _demonstrations(self, policy: DrivingPolicy) -> Demonstrations:
        """Returns what the clone learns from; the same whenever it is asked for, so that it needs not be kept."""
        settings = self.settings
        scenarios = common_with_some_rare(self.train_ids, self.packs, settings.rare_share, settings.seed)
        with self._timed("demonstrations"), self.console.status(f"driving {len(scenarios)} logs for demonstrations"):
            envs = self.factory.make(min(64, len(scenarios)), **policy.world_arguments)
            return collect_demonstrations(envs, self.packs, scenarios, settings.clone, settings.seed)

    def _mine(self, policy: DrivingPolicy) -> list[dict]:
        file = self.folder / "mined.json"
        if not file.exists():
            evaluation = self._evaluate("clone", policy, self.train_ids, "train")
            write_json(file, mine(evaluation, self.settings.mining))
        mined = json.loads(file.read_text())
        reasons = {entry["reason"] for entry in mined}
        counts = ", ".join(f"{sum(entry['reason'] == reason for entry in mined)} {reason}" for reason in sorted(reasons))
        self.console.print(f"mined {len(mined)} of {len(self.train_ids)} scenarios ({counts or 'nothing'})")
        return mined

    def _post_train(self, cloned: DrivingPolicy, mined: Sequence[dict]) -> None:
        settings, names = self.settings.post_training, [entry["scenario"] for entry in mined]
        failed = set(names)
        mastered = [name for name in self.train_ids if name not in failed] or names
        replay = self._demonstrations(cloned).observations
        draw_from = {"action": "anchor", "autoreset_mode": AutoresetMode.SAME_STEP, "scenarios": self.train_ids}
        anchors = cloned.anchors.cpu().numpy()
        halves = (self.factory.make(settings.worlds // 2, anchors=a, **draw_from) for a in (anchors, mirrored_poses(anchors)))
        envs = HalfMirrored(*(SB3VecEnv(half) for half in halves))
        with self._timed("post-train"), self._progress("post-training", settings.iterations) as advance:

            def on_iteration(metrics: dict) -> None:
                self.tracker.log("post_training", metrics["iteration"], metrics)
                advance(f"success {metrics['success']:.2f}, pdms {metrics['pdms']:.2f}, KL {metrics['kl_ref']:.2f}")

            seed, folder = self.settings.seed, self.folder
            model = post_train(cloned, envs, names, mastered, replay, settings, seed, folder, on_iteration)
        save_model(model, self.folder / "post_trained.zip")

    def _evaluate(self, name: str, policy: str | DrivingPolicy, scenarios: Sequence[str], split: str) -> Evaluation:
        file = self.folder / f"evaluation_{name}_{split}.json"
        if not file.exists():
            with (
                self._timed(f"evaluate {name} on {split}"),
                self.console.status(f"evaluating {name} on {len(scenarios)} scenarios"),
            ):
                evaluation = evaluate(policy, self.factory, scenarios, split, name=name)
            write_json(file, evaluation.as_dict())
        return Evaluation.from_dict(json.loads(file.read_text()))

    def _table(self, before: Evaluation, after: Evaluation, baselines: Sequence[Evaluation]) -> dict:
        result = summary(before, after, baselines) | {"clone": json.loads((self.folder / "clone.json").read_text())}
        result |= {"timings_s": self._timings(), "hardware": hardware(self.settings.threads)}
        for group in result["groups"]:
            rows = [e if group == "all" else e.with_tag(group) for e in (before, after, *baselines)]
            self.console.print(make_table(rows, f"{group}: held-out scenarios"))
            gain, kept = (result["groups"][group][name] for name in ("post-trained minus clone", "where both succeed"))
            words = [f"{term} {signed(gain[term])}" for term in ("success", "pdms")]
            words.append(f"where both succeed ({kept['ep']['n']}): ep {signed(kept['ep'])}, progress {signed(kept['progress'])} m")
            self.console.print(f"post-trained minus clone, paired: {', '.join(words)}\n", soft_wrap=True)
        write_json(self.folder / "table.json", result)
        return result

    # -- bookkeeping -------------------------------------------------------------------------------------------------------------

    def _timings(self) -> dict[str, float]:
        file = self.folder / "timings.json"
        return json.loads(file.read_text()) if file.exists() else {}

    @contextmanager
    def _timed(self, stage: str):
        """Adds the wall time of a stage to ``timings.json``, also where it is interrupted."""
        start = time.perf_counter()
        if not self.console.is_terminal:  # there are no progress bars then
            self.console.print(f"{stage} ...")
        try:
            yield
        finally:
            timings = self._timings()
            timings[stage] = timings.get(stage, 0.0) + time.perf_counter() - start
            write_json(self.folder / "timings.json", timings)

    @contextmanager
    def _progress(self, what: str, total: int):
        """Yields a function that moves a progress bar on by one, with a word on how it goes."""
        word = TextColumn("{task.fields[word]}")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), word)
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(what, total=total, word="")
            yield lambda word="": progress.update(task, advance=1, word=word)


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
