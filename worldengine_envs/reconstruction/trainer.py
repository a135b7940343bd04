"""The loop that turns a camera log into Gaussians: one image an iteration, resumable at any time."""

from __future__ import annotations

import hashlib
import json
import math
import resource
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.beside import beside_loss, left_of_path
from worldengine_envs.reconstruction.camera_log import CameraLog
from worldengine_envs.reconstruction.checkpoint import has_checkpoint, load_checkpoint, save_checkpoint
from worldengine_envs.reconstruction.corrections import Corrections
from worldengine_envs.reconstruction.densification import make_strategy
from worldengine_envs.reconstruction.finding.found_actors import with_found_actors
from worldengine_envs.reconstruction.losses import ImageLoss, inverse_depth, l1_ssim, out_of_box, shapes
from worldengine_envs.reconstruction.metrics import LEAST_ERROR
from worldengine_envs.reconstruction.optimiser import GaussianOptimiser
from worldengine_envs.reconstruction.pictures import Pictures
from worldengine_envs.reconstruction.points import find_points, view_depths
from worldengine_envs.reconstruction.previews import write_preview
from worldengine_envs.reconstruction.scene_graph import Moment, SceneGraph
from worldengine_envs.reconstruction.settings import ReconstructionSettings
from worldengine_envs.reconstruction.split import split
from worldengine_envs.reconstruction.start import start_graph, within_cap
from worldengine_envs.rendering.differentiable import ScreenStatistics
from worldengine_envs.scenario.pack_read import parse_json

MEGABYTE = 1 << 20
SETTINGS, CHECKPOINT = "settings.json", "checkpoint"


class Trainer:
    """A reconstruction under way.

    Args:
        log: What was recorded.
        settings: How it is reconstructed.
    """

    def __init__(self, log: CameraLog, settings: ReconstructionSettings):
        self.settings, self.split = settings, split(log, settings.test_every, settings.test_first)
        self.log = log = with_found_actors(log, self.split) if settings.corrections.find_actors else log
        cache = settings.cache_mb * MEGABYTE
        self.pictures = Pictures(log, settings.scale, cache // 2)
        self.corrections = Corrections(log, self.split, settings)
        self.depths = view_depths(log, self.pictures, self.split, settings.points, cache // 4)
        self.left = left_of_path(log)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.iteration, self.seconds, self.order = 0, 0.0, torch.zeros(0, dtype=torch.int64)
        self.graph: SceneGraph | None = None

    def start(self) -> None:
        """Finds the points that training starts from."""
        points = find_points(self.log, self.pictures, self.split, within_cap(self.settings), self.depths.maps)
        self._take_graph(start_graph(self.log, points, self.settings))
        self._note(points.problems)

    def _note(self, problems: Sequence[str]) -> None:
        """Keeps what the user should know of the points, and says it with what is wrong with the log."""
        self.problems = tuple(problems)
        self.log = replace(self.log, problems=(*self.log.problems, *problems))

    def _take_graph(self, graph: SceneGraph) -> None:
        self.graph = graph
        self.optimiser = GaussianOptimiser(graph, self.settings.rates, self.settings.iterations)
        self.strategy = make_strategy(self.settings, self.generator)

    def moment(self, view: int) -> Moment:
        """Returns where actors stand at the time of a view."""
        seen = self.log.views[view]
        return Moment(*self.corrections.actor_poses(seen.time_us, seen.traversal), self.log.traversals.index(seen.traversal))

    def render(self, view: int, statistics: ScreenStatistics | None = None, relative: torch.Tensor | None = None):
        """Returns what a view's camera sees, at its corrected pose, or one beside: ``relative`` (4, 4) leads from it into that."""
        lens, height, width = self.pictures.lens(view)
        pose = self.corrections.world_to_camera(view)
        pose = (pose if relative is None else relative @ pose.detach())[None].float()
        lens = torch.from_numpy(np.asarray(lens, np.float32))[None].to(self.graph.device)
        return self.graph.render(self.moment(view), pose.to(self.graph.device), lens, width, height, statistics)

    def step(self) -> float:
        """Learns from one image; returns its PSNR [dB] before."""
        settings, graph = self.settings, self.graph
        graph.degree = min(settings.sh_degree, self.iteration // settings.sh_every)
        view = self._next_view()
        counted = self.strategy.wants_statistics(self.iteration) and graph.device.type == "cpu"
        picture, statistics = self.pictures[view], ScreenStatistics() if counted else None
        rendering = self.render(view, statistics)
        rgb = self.corrections.exposed(rendering.rgb[0], view)
        image = l1_ssim(rgb, picture.rgb, picture.usable)
        loss = self._loss(image, rendering, view)
        if settings.weights.beside > 0.0 and (aside := beside_loss(self, view, picture, rendering)) is not None:
            loss = loss + settings.weights.beside * aside
        if not torch.isfinite(loss):
            raise DataError(f"the loss is {float(loss)} at iteration {self.iteration}", field="loss", remedy="Lower settings.rates")
        loss.backward()
        spare_unseen(graph)
        self.strategy.after_backward(self.iteration, graph, statistics)
        self.optimiser.step(self.iteration)
        self.corrections.step(self.iteration)
        self.strategy.after_step(self.iteration, graph, self.optimiser)
        self.iteration += 1
        return -10.0 * math.log10(max(float(image.mse), LEAST_ERROR))

    def _loss(self, image: ImageLoss, rendering, view: int) -> torch.Tensor:
        w, tables, graph = self.settings.weights, self.graph.parameters, self.graph
        loss = w.l1 * image.l1 + w.ssim * (1.0 - image.ssim)
        samples = self.depths.get(view)
        if w.inverse_depth > 0.0 and len(samples.pixel):
            loss = loss + w.inverse_depth * inverse_depth(rendering.depth[0], rendering.alpha[0], samples)
        loss = loss + shapes(tables["scales"], graph.node, w.flatness, w.needles)
        if len(graph.actor_rows):
            loss = loss + w.out_of_box * out_of_box(tables["means"], tables["opacities"], graph.node, graph.sizes)
        return loss + self.corrections.penalty() + self.strategy.penalty(graph)

    def _next_view(self) -> int:
        """Returns each training view once before any comes again."""
        if not len(self.order):
            self.order = torch.randperm(len(self.split.train), generator=self.generator)
        row, self.order = int(self.order[0]), self.order[1:]
        return int(self.split.train[row])

    def save(self, folder: Path) -> None:
        """Writes everything that is needed to go on with the same bits."""
        graph = self.graph
        tensors = {f"graph.{name}": tensor.detach() for name, tensor in graph.parameters.items()}
        tensors |= {"node": graph.node, "tone": graph.tone.detach(), "order": self.order, "generator": self.generator.get_state()}
        tensors |= {f"adam.{name}": tensor for name, tensor in self.optimiser.tensors().items()}
        tensors |= {f"corrections.{name}": tensor for name, tensor in self.corrections.tensors().items()}
        tensors |= {f"strategy.{name}": tensor for name, tensor in self.strategy.tensors().items()}
        save_checkpoint(folder, tensors, {"iteration": self.iteration, "seconds": self.seconds, "problems": self.problems})

    def restore(self, folder: Path) -> None:
        """Goes on from what ``save`` wrote.

        Raises:
            DataError: The checkpoint is missing or damaged, or is of another log or other settings.
        """
        tensors, state = load_checkpoint(folder)
        parts: dict[str, dict] = {"graph": {}, "adam": {}, "corrections": {}, "strategy": {}}
        for name, tensor in tensors.items():
            part, dot, rest = name.partition(".")
            if dot:
                parts[part][rest] = tensor
        device = torch.device(self.settings.device)
        sizes = torch.from_numpy(np.array([actor.size for actor in self.log.actors], np.float32).reshape(-1, 3))
        tables = {name: tensor.to(device) for name, tensor in parts["graph"].items()}
        graph = SceneGraph(tables, tensors["node"].to(device), sizes.to(device), len(self.log.traversals))
        with torch.no_grad():
            graph.tone.copy_(tensors["tone"])
        self.iteration, self.seconds, self.order = state["iteration"], state["seconds"], tensors["order"]
        self.generator.set_state(tensors["generator"])
        self._take_graph(graph)
        self._note(state.get("problems", ()))
        self.optimiser.restore(parts["adam"])
        self.corrections.restore(parts["corrections"])
        self.strategy.restore(parts["strategy"])
        graph.degree = min(self.settings.sh_degree, max(self.iteration - 1, 0) // self.settings.sh_every)


def train(log: CameraLog, out: Path, settings: ReconstructionSettings, *, resume: bool = False, progress=None) -> Trainer:
    """Reconstructs a camera log, or goes on with it, and returns the finished training.

    Args:
        log: What was recorded.
        out: Folder for checkpoints and previews.
        settings: How it is reconstructed.
        resume: Go on from the checkpoint in ``out``.
        progress: Is called with iteration, mean PSNR of the last images [dB] and number of Gaussians.

    Raises:
        DataError: There is nothing to learn from, ``out`` holds another reconstruction, or the loss is not finite.
        KeyboardInterrupt: As it came; all is kept if that was between two iterations (``progress`` may raise it), else the last
            checkpoint.
    """
    out, begun = Path(out), time.perf_counter()
    _check_folder(out, log, settings, resume)
    trainer = Trainer(log, settings)
    _claim(out, log, settings)
    if resume and has_checkpoint(out / CHECKPOINT):
        trainer.restore(out / CHECKPOINT)
    else:
        trainer.start()
    begun -= trainer.seconds
    recent, whole = [], True
    try:
        while trainer.iteration < settings.iterations:
            whole = False  # within a step nothing is fit to be kept
            recent = [*recent[-99:], trainer.step()]
            whole, trainer.seconds = True, time.perf_counter() - begun
            if progress is not None:
                progress(trainer.iteration, float(np.mean(recent)), len(trainer.graph))
            if trainer.iteration % settings.checkpoint_every == 0:
                trainer.save(out / CHECKPOINT)
            if settings.preview_every and trainer.iteration % settings.preview_every == 0:
                write_preview(trainer, out / "previews")
    finally:
        if whole:
            trainer.save(out / CHECKPOINT)
    return trainer


@torch.no_grad()
def spare_unseen(graph: SceneGraph) -> None:
    """Forgets what penalties ask of Gaussians that the image does not show: it has nothing to say against it.

    Else those behind parked cars and beside the field of view would shrink and fade until they are seen, or for good.
    """
    tables = graph.parameters
    red, green, blue = tables["dc"].grad[:, 0].unbind(1)
    seen = (red != 0.0) | (green != 0.0) | (blue != 0.0)
    tables["opacities"].grad *= seen
    tables["scales"].grad *= seen[:, None]


def _check_folder(out: Path, log: CameraLog, settings: ReconstructionSettings, resume: bool) -> None:
    """Raises DataError if a folder holds a reconstruction that cannot be gone on with: of another log, or with other settings."""
    if not (out / SETTINGS).exists():
        return
    if not resume:
        raise DataError("holds a reconstruction already", file=out, remedy="Go on with it (--resume), or name a new folder")
    mine, kept = _claims(log, settings), parse_json((out / SETTINGS).read_bytes(), out / SETTINGS)
    if type(kept) is not dict:
        raise DataError("is no object", file=out / SETTINGS, remedy="Begin anew in another folder")
    differing = [name for name in mine if mine[name] != kept.get(name)]
    if differing:
        problem = f"was begun with {differing[0]} = {kept.get(differing[0])!r}, not {mine[differing[0]]!r}"
        raise DataError(problem, file=out / SETTINGS, field=differing[0], remedy="Resume with the same log and the same settings")


def _claim(out: Path, log: CameraLog, settings: ReconstructionSettings) -> None:
    """Writes into the folder what it is for."""
    out.mkdir(parents=True, exist_ok=True)
    part = out / f".{SETTINGS}.part"
    part.write_text(json.dumps(_claims(log, settings), indent=1) + "\n", encoding="utf-8")
    part.replace(out / SETTINGS)  # as a whole: a run that was killed here can be gone on with


def _claims(log: CameraLog, settings: ReconstructionSettings) -> dict:
    """Returns the settings, and a text that tells logs apart."""
    digest = hashlib.sha256()
    for view in log.views:
        digest.update(f"{view.camera} {view.time_us} {view.traversal} {view.image.name}".encode())
        digest.update(np.asarray(view.camera_to_world, np.float64).tobytes())
    return {"log": f"{log.name}-{digest.hexdigest()[:16]}"} | json.loads(json.dumps(asdict(settings)))


def peak_memory_mb() -> float:
    """Returns the most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE


def memory_cap_mb(settings: ReconstructionSettings, pixels: int) -> float:
    """Returns the most memory that a reconstruction takes on a CPU, however long the log is; measured, with some room.

    Args:
        settings: ``cache_mb`` and ``max_gaussians`` count.
        pixels: Of the largest image, as it is in the file.
    """
    return 1000.0 + settings.cache_mb + (4000.0 * settings.max_gaussians + 1000.0 * pixels) / MEGABYTE
