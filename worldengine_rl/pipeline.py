"""The whole job: clone, mine, post-train, evaluate, table. Every stage leaves a file and is skipped where that is there."""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from stable_baselines3.common.vec_env import VecEnv

from worldengine_envs.envs.anchors import cluster, kinematic_fan, logged_plans
from worldengine_envs.envs.baselines import BASELINES
from worldengine_envs.envs.observations import state_space
from worldengine_envs.envs.sb3 import SB3VecEnv
from worldengine_envs.errors import DataError, WorldEngineError
from worldengine_rl.camera_policy import CameraPolicy, camera_space
from worldengine_rl.checkpoints import load_policy
from worldengine_rl.demonstrations import collect_demonstrations, concatenate
from worldengine_rl.evaluation import Evaluation, evaluate, make_table
from worldengine_rl.eye import SeeingEnv
from worldengine_rl.mining import mine
from worldengine_rl.mirror import HalfMirrored, mirrored_poses
from worldengine_rl.perception import train_eye
from worldengine_rl.policies import DrivingPolicy
from worldengine_rl.post_training import make_model, post_train, save_model
from worldengine_rl.pretraining import Demonstrations, clone
from worldengine_rl.randomness import derived_seed, seed_torch
from worldengine_rl.results import hardware, signed, summary, write_json
from worldengine_rl.run_settings import Settings, check_cameras, check_rollout
from worldengine_rl.splits import common_with_some_rare, contents_digest, split_scenarios
from worldengine_rl.tracking import Tracker
from worldengine_rl.views import concatenate_views
from worldengine_rl.worlds import PackSet, WorldFactory


class Run:
    """One run of the job in its folder.

    Raises:
        WorldEngineError: The folder has a run already and ``resume`` is False, or one with other settings or other packs; or
            rollouts are too short for an episode, worlds cannot be halved, or there is no such rig of cameras.
    """

    def __init__(self, settings: Settings, resume: bool = False, console: Console | None = None):
        self.settings, self.folder, self.console = settings, settings.folder, console or Console()
        check_rollout(settings)
        check_cameras(settings)
        self.packs = PackSet(settings.pack)
        self._replay: dict[str, np.ndarray] | None = None
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
        policy = self._untrained(spaces.Discrete(settings.anchors))
        plans = [logged_plans(self.packs.load(name), agents=False) for name in self.train_ids]
        anchors = cluster(np.concatenate([*plans, kinematic_fan(settings.fan, settings.seed)]), settings.anchors, settings.seed)
        anchors[np.abs(anchors).sum((1, 2)).argmin()] = 0.0  # one is to stand still, exactly
        policy.anchors.copy_(torch.as_tensor(anchors))
        return policy

    def _untrained(self, actions: spaces.Discrete) -> DrivingPolicy:
        settings = self.settings
        widths = {"encoder_width": settings.encoder_width, "trunk_width": settings.trunk_width}
        if settings.cameras is None:
            return DrivingPolicy(state_space(), actions, lambda _: 0.0, **widths)
        (height, width), history = settings.image_size, settings.image_history
        eye = {"rig": settings.cameras, "image_height": height, "image_width": width, "image_history": history}
        space = camera_space(settings.cameras, settings.image_size, settings.column_features)
        return CameraPolicy(space, actions, lambda _: 0.0, column_features=settings.column_features, **eye, **widths)

    def _clone(self) -> DrivingPolicy:
        settings, file = self.settings, self.folder / "clone.zip"
        if file.exists():
            return load_policy(file)
        with self._timed("vocabulary"):
            policy = self._new_policy()
        data = self._demonstrations(policy)
        if isinstance(policy, CameraPolicy):
            self._train_eye(policy, data)
            data = data.seen_by(policy)
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
        envs = self.factory.make(1, autoreset_mode=AutoresetMode.SAME_STEP, **policy.training_world_arguments)
        save_model(make_model(policy, self._learnable(policy, SB3VecEnv(envs)), settings.post_training, settings.seed), file)
        self._replay = data.observations
        return load_policy(file)

    def _demonstrations(self, policy: DrivingPolicy) -> Demonstrations:
        """Returns what the clone learns from; the same whenever it is asked for."""
        scenarios = common_with_some_rare(self.train_ids, self.packs, self.settings.rare_share, self.settings.seed)
        return self._drive_logs(policy, scenarios, self.settings.clone.rounds)

    def _drive_logs(self, policy: DrivingPolicy, scenarios: Sequence[str], rounds: int) -> Demonstrations:
        settings = replace(self.settings.clone, rounds=rounds)
        with self._timed("demonstrations"), self.console.status(f"driving {len(scenarios)} logs for demonstrations"):
            envs = self.factory.make(min(64, len(scenarios)), **policy.training_world_arguments)
            return collect_demonstrations(envs, self.packs, scenarios, settings, self.settings.seed)

    def _train_eye(self, policy: CameraPolicy, data: Demonstrations) -> None:
        """Trains the policy's eye on the images of the demonstrations, and of the training scenarios that they leave out."""
        settings, known = self.settings, set(data.recordings)
        others = [name for name in self.train_ids if self.packs.recording(name) not in known]
        if others and settings.perception.rounds:
            more = self._drive_logs(policy, others, settings.perception.rounds)
            data = concatenate([data, more], concatenate_views([data.views, more.views]))
        with self._timed("eye"), self._progress("training the eye", settings.perception.epochs) as advance:

            def on_epoch(metrics: dict) -> None:
                self.tracker.log("perception", metrics["epoch"], metrics)
                advance(f"directions told right {metrics['validation_right']:.3f}")

            share, file = settings.clone.validation_share, self.folder / "eye_checkpoint.pt"
            metrics = train_eye(policy.eye, policy.rig, data, settings.perception, share, settings.seed, file, on_epoch)
        words = ", ".join(f"{name} {metrics[f'validation_{name}']:.3f}" for name in ("right", "nearness", "velocity", "red"))
        self.console.print(f"eye: {len(data)} decisions; on those held out: {words}", soft_wrap=True)

    def _learnable(self, policy: DrivingPolicy, envs: VecEnv) -> VecEnv:
        """Returns worlds as the policy learns in them: what has cameras is looked at by its eye."""
        return SeeingEnv(envs, policy.eye) if isinstance(policy, CameraPolicy) else envs

    def _replayed(self, cloned: DrivingPolicy) -> dict[str, np.ndarray]:
        """Returns the observations at which the policy is to stay as the clone was."""
        if self._replay is None:  # the clone was made by an earlier run
            data = self._demonstrations(cloned)
            self._replay = (data.seen_by(cloned) if isinstance(cloned, CameraPolicy) else data).observations
        return self._replay

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
        replay, arguments = self._replayed(cloned), cloned.training_world_arguments
        draw_from = arguments | {"autoreset_mode": AutoresetMode.SAME_STEP, "scenarios": self.train_ids}
        vocabularies = (arguments["anchors"], mirrored_poses(arguments["anchors"]))
        halves = (self.factory.make(settings.worlds // 2, **draw_from | {"anchors": anchors}) for anchors in vocabularies)
        envs = self._learnable(cloned, HalfMirrored(*(SB3VecEnv(half) for half in halves)))
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
