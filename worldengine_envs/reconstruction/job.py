"""The whole way from a camera log to a folder that people use: training, measures, scene, page."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from worldengine_envs.reconstruction.camera_log import CameraLog
from worldengine_envs.reconstruction.export import box_offsets, check_names, export_scene
from worldengine_envs.reconstruction.quality import as_trained, evaluate
from worldengine_envs.reconstruction.scene_graph import NEAR_M
from worldengine_envs.reconstruction.settings import ReconstructionSettings
from worldengine_envs.reconstruction.stage import LogShots
from worldengine_envs.reconstruction.trainer import Trainer, peak_memory_mb, train
from worldengine_envs.rendering.confidence import witnesses_of
from worldengine_envs.rendering.frames import Renderer, RenderSettings
from worldengine_envs.rendering.renderer import make_renderer
from worldengine_envs.rendering.scene import GaussianScene
from worldengine_envs.rendering.scene_folder import save_scene
from worldengine_envs.rendering.witnesses import choose_witnesses

SCENE, PAGE, QUALITY, HISTORY = "scene", "report.html", "quality.json", "history.jsonl"
HISTORY_EVERY = 20  # iterations between two rows of the history
MAX_PROBLEMS = 50  # that the manifest repeats

Progress = Callable[[int, float, int], None]


def reconstruct(
    log: CameraLog,
    out: Path | str,
    settings: ReconstructionSettings | None = None,
    *,
    resume: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Turns a camera log into a Gaussian scene and returns the scene's folder, ``out/scene``.

    Beside it are written report.html for people, quality.json (all measures, also by view), history.jsonl (how training went),
    previews and the checkpoint from which an interrupted run goes on.

    Args:
        log: What was recorded.
        out: The folder to write into.
        settings: How.
        resume: Go on with what is in ``out``; if it is finished, only measures, scene and page are made anew.
        progress: Is called after each iteration with its number, the mean PSNR of the last images [dB] and the number of Gaussians.
            If it raises KeyboardInterrupt, everything up to there is kept.

    Raises:
        DataError: There is nothing to learn from, ``out`` holds another reconstruction, two actors have one name, or training got
            lost.
        RendererError: The device is not there.
    """
    out, settings = Path(out), settings or ReconstructionSettings()
    check_names(log)
    renderer_for(settings.device)  # whatever would fail at the end has to fail before the beginning
    history = History(out / HISTORY)
    trainer = train(log, out, settings, resume=resume, progress=history.noting(progress))
    history.close()
    return finish(trainer, out)


def finish(trainer: Trainer, out: Path) -> Path:
    """Measures a finished training, writes scene and page, and returns the scene's folder."""
    from worldengine_envs.reconstruction.page import write_page

    log, measured = trainer.log, evaluate(as_trained(trainer), trainer.log, trainer.pictures, trainer.split)
    renderer = renderer_for(trainer.settings.device)
    shots = LogShots(log, trainer.pictures, trainer.corrections, box_offsets(log, trainer.corrections))
    scene = export_scene(trainer.graph, log, trainer.corrections)
    scene = replace(scene, witnesses=witnesses_of(scene, map(shots.of, witness_views(trainer)), renderer))
    scene = replace(scene, quality=quality_of(trainer, scene, measured))
    folder = save_scene(scene, out / SCENE, overwrite=True)
    content = dict(scene.quality) | {"problems": list(log.problems), "per_view": measured["per_view"]}
    (out / QUALITY).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    write_page(out / PAGE, scene, shots, trainer.split, measured, read_history(out / HISTORY), renderer, trainer.settings)
    return folder


def quality_of(trainer: Trainer, scene: GaussianScene, measured: dict) -> dict:
    """Returns what the manifest of a scene tells: measures on held-out views, what it took, what there is, what was left out."""
    log, split, settings = trainer.log, trainer.split, trainer.settings
    names = ("psnr", "psnr_worst_tenth", "ssim", "depth_rel_error")
    return {name: measured[name] for name in names} | {
        "seconds": round(trainer.seconds, 1),
        "peak_memory_mb": round(peak_memory_mb()),
        "gaussians": len(scene),
        "actors": len(scene.actors),
        "train_views": len(split.train),
        "test_views": len(split.test),
        "iterations": trainer.iteration,
        "scale": settings.scale,
        "dataset": log.dataset,
        "licence": log.licence,
        "problems": list(log.problems[:MAX_PROBLEMS]),
    }


def witness_views(trainer: Trainer) -> list[int]:
    """Returns the training views that become the scene's witnesses."""
    train_views = [int(v) for v in trainer.split.train]
    moments = [(trainer.log.views[v].traversal, trainer.log.views[v].time_us) for v in train_views]
    return [train_views[row] for row in choose_witnesses(moments)]


def renderer_for(device: str) -> Renderer:
    """Returns who draws the finished scene on a device, as training draws it."""
    return make_renderer("cpu" if device == "cpu" else "gsplat", device, RenderSettings(near=NEAR_M))


class History:
    """How training goes, row by row, in a file that an interrupted run goes on with.

    Args:
        file: JSON lines.
    """

    def __init__(self, file: Path):
        self.file, self._stream = file, None

    def noting(self, progress: Progress | None) -> Progress:
        """Returns a function that takes notes and then calls ``progress``, if there is one."""

        def note(iteration: int, psnr: float, gaussians: int) -> None:
            if iteration % HISTORY_EVERY == 0:
                if self._stream is None:
                    self._stream = self._open(iteration)
                self._stream.write(json.dumps({"iteration": iteration, "psnr": round(psnr, 3), "gaussians": gaussians}) + "\n")
            if progress is not None:
                progress(iteration, psnr, gaussians)

        return note

    def _open(self, iteration: int):
        """Returns the file, ready for a row, without what was noted after the checkpoint that training goes on from."""
        rows = [row for row in read_history(self.file) if row["iteration"] < iteration]
        self.file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return self.file.open("a", buffering=1, encoding="utf-8")

    def close(self) -> None:
        """Closes the file."""
        if self._stream is not None:
            self._stream.close()


def read_history(file: Path) -> list[dict]:
    """Returns the rows of a history: ``iteration``, ``psnr`` [dB], ``gaussians``; none if there is no file."""
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]  # the last one of a killed run may be half-written
