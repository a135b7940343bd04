"""``worldengine reconstruct``: a camera log becomes a Gaussian scene, with a page that shows how good it is."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import tyro

from worldengine_envs.reconstruction.settings import ReconstructionSettings

STOPPED = 128  # plus the number of the signal
LINES = 20  # of progress, where there is no terminal to move a bar on


def main(
    format: tyro.conf.Positional[str],
    source: tyro.conf.Positional[tuple[Path, ...]],
    out: Path,
    resume: bool = False,
    settings: Annotated[ReconstructionSettings, tyro.conf.arg(name="")] = ReconstructionSettings(),  # noqa: B008 (frozen)
) -> int:
    """Learns a Gaussian scene from images whose cameras and poses are known, with LiDAR and boxes of actors where there are any.

    Writes OUT/scene (for packs and viewers), OUT/report.html and OUT/quality.json. Ctrl-C keeps what was learned so far.

    Args:
        format: city, kitti, kitti-raw, nuscenes or dgp.
        source: Folder of the log; with several, each is a traversal of the same place.
        out: The folder to write into.
        resume: Go on with an interrupted run; all settings have to be the same.
        settings: How it is reconstructed.
    """
    from worldengine_envs.reconstruction.opencv import require_extra

    require_extra()
    from worldengine_envs.reconstruction.checkpoint import has_checkpoint
    from worldengine_envs.reconstruction.job import reconstruct
    from worldengine_envs.reconstruction.readers.registry import read_camera_log
    from worldengine_envs.reconstruction.trainer import CHECKPOINT

    log = read_camera_log(format, source)
    print(f"{log.name}: {len(log.views)} images, {len(log.sweeps)} LiDAR sweeps, {len(log.actors)} actors", flush=True)
    for problem in log.problems:
        print(f"note: {problem}", file=sys.stderr)
    with progress_bar(settings.iterations) as (progress, stopped):
        try:
            folder = reconstruct(log, out, settings, resume=resume, progress=progress)
        except (KeyboardInterrupt, SystemError):  # the latter where the signal came inside a compiled function
            if not stopped:
                raise
            kept = f"what was learned is kept in {out}: the same command with --resume goes on"
            print(f"stopped; {kept if has_checkpoint(out / CHECKPOINT) else 'nothing was learned yet'}", file=sys.stderr)
            return STOPPED + stopped[0]
    _tell(folder, out, log.problems)
    return 0


def _tell(folder: Path, out: Path, told: tuple[str, ...]) -> None:
    """Prints what came out, and the problems that came up since those that were ``told``."""
    from worldengine_envs.reconstruction.job import PAGE, QUALITY
    from worldengine_envs.scenario.pack_read import parse_json

    quality = parse_json((out / QUALITY).read_bytes(), out / QUALITY)
    for problem in quality["problems"]:
        if problem not in told:
            print(f"note: {problem}", file=sys.stderr)
    words = [f"{quality['gaussians']} Gaussians", f"{quality['seconds'] / 60.0:.1f} min", f"{quality['peak_memory_mb']} MB at most"]
    if quality["psnr"] is not None:
        words.insert(0, f"held-out views: PSNR {quality['psnr']:.2f} dB, SSIM {quality['ssim']:.3f}")
    if quality["depth_rel_error"] is not None:
        words.insert(1, f"depth error {100.0 * quality['depth_rel_error']:.1f} %")
    print(f"{folder}: {', '.join(words)}\n{out / PAGE} shows it")


@contextlib.contextmanager
def progress_bar(iterations: int, name: str = "") -> Iterator[tuple]:
    """Gives a function for ``reconstruct`` that moves a bar, and the list of signals that came; a file gets lines instead.

    A signal is obeyed after the iteration that is under way, so that what is kept is whole; before the first and after the last
    iteration, and when it comes a second time, at once.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    prefix = f"{name}: " if name else ""
    columns = TextColumn(prefix + "{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    bar, stopped, learning = Progress(*columns, console=Console(stderr=True)), [], False

    def stop(number: int, _frame) -> None:
        stopped.append(number)
        if not learning or len(stopped) > 1:
            raise KeyboardInterrupt

    def progress(iteration: int, psnr: float, gaussians: int) -> None:
        nonlocal learning
        told = f"PSNR {psnr:5.2f} dB, {gaussians} Gaussians"
        bar.update(task, completed=iteration, description=told)
        if not bar.console.is_terminal and (iteration == 1 or iteration % max(iterations // LINES, 1) == 0):
            print(f"{prefix}{iteration}/{iterations}: {told}", file=sys.stderr, flush=True)
        if stopped:
            raise KeyboardInterrupt
        learning = iteration < iterations
        if not learning:
            bar.update(task, description="measuring, drawing the page")

    task = bar.add_task("finding points", total=iterations)
    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with bar:
            yield progress, stopped
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
