"""What one iteration of a reconstruction costs, and where.

    python benchmarks/reconstruction_step.py FORMAT SRC [--scale 0.5] [--views 40] [--before 200] [--steps 40] [--threads 1]

Learns from the first images of a camera log for some iterations; then measures: milliseconds an iteration on the clock, processor
time of all threads (which other programs disturb less), and with cProfile on one thread the share of each function that takes
over 1 %. Images and depths have been read before.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from worldengine_envs import hardware


def make_trainer(arguments: argparse.Namespace):
    """Returns a training under way."""
    from worldengine_envs.reconstruction.readers.registry import read_camera_log
    from worldengine_envs.reconstruction.settings import ReconstructionSettings
    from worldengine_envs.reconstruction.trainer import Trainer

    log = read_camera_log(arguments.format, [arguments.source], check=False)
    log = replace(log, views=log.views[: arguments.views])
    settings = ReconstructionSettings(scale=arguments.scale, sh_every=max(arguments.before // 3, 1))
    settings = replace(settings, max_gaussians=arguments.gaussians or settings.max_gaussians)
    points = replace(settings.points, max_points=min(settings.points.max_points, settings.max_gaussians))
    trainer = Trainer(log, replace(settings, points=points))
    start = time.perf_counter()
    trainer.start()
    print(f"points {time.perf_counter() - start:.1f} s", flush=True)
    start = time.perf_counter()
    for view in trainer.split.train:
        trainer.depths.get(int(view))
    print(f"depths of {len(trainer.split.train)} images {time.perf_counter() - start:.1f} s", flush=True)
    for _ in range(arguments.before):
        trainer.step()
    return trainer


def shares(profile: cProfile.Profile, steps: int) -> list[tuple[str, float]]:
    """Returns functions and their own time [ms an iteration], the longest first."""
    rows = [
        (f"{Path(file).name}:{name}", 1e3 * own / steps)
        for (file, _, name), (_, _, own, _, _) in pstats.Stats(profile).stats.items()
    ]
    total = sum(own for _, own in rows)
    return sorted((row for row in rows if row[1] > 0.01 * total), key=lambda row: -row[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("format")
    parser.add_argument("source", type=Path)
    parser.add_argument("--scale", type=float, default=0.5)
    parser.add_argument("--views", type=int, default=40)
    parser.add_argument("--gaussians", type=int, default=0, help="at most; 0 = as the settings say")
    parser.add_argument("--before", type=int, default=200)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    os.environ["WORLDENGINE_THREADS"] = str(arguments.threads)
    torch.set_num_threads(arguments.threads)
    trainer = make_trainer(arguments)
    clock, processor = [], []
    for _ in range(arguments.steps):
        start, begun = time.perf_counter(), time.process_time()
        trainer.step()
        clock.append(time.perf_counter() - start)
        processor.append(time.process_time() - begun)
    _, height, width = trainer.pictures.lens(0)
    print(hardware.describe(arguments.threads))
    print(
        f"{len(trainer.graph)} Gaussians, {width} x {height}: an iteration takes {1e3 * np.median(clock):.0f} ms (median), "
        f"{1e3 * np.median(processor):.0f} ms of processor time"
    )
    os.environ["WORLDENGINE_THREADS"] = "1"
    torch.set_num_threads(1)
    profile = cProfile.Profile(time.process_time)
    profile.runcall(lambda: [trainer.step() for _ in range(arguments.steps)])
    for name, milliseconds in shares(profile, arguments.steps):
        print(f"{milliseconds:8.1f} ms  {name}")


if __name__ == "__main__":
    main()
