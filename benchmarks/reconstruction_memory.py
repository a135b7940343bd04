"""How much memory a reconstruction takes of logs that are 1, 4, 16, ... times as long: not more than a stated cap.

    python benchmarks/reconstruction_memory.py [--times 1 4 16] [--iterations 40] [--json FILE] [--work DIR]

The camera log of a city street (three cameras of 320x180, LiDAR) is repeated, 200 m farther on and later each time. Each length
is a process of its own that finds its points and learns for some iterations with the default settings, but for fewer Gaussians
and a smaller cache; it prints the most memory that it held. The cap is that of ``memory_cap_mb``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from worldengine_envs.hardware import describe
from worldengine_envs.reconstruction.camera_log import CameraLog
from worldengine_envs.reconstruction.settings import ReconstructionSettings

SCENARIO = "starter.lane_follow_000"
OPTIONS = ("--cameras", "front3", "--image-size", "180", "320", "--every", "2")
STRIDE_M, PAUSE_US = 200.0, 1_000_000
GAUSSIANS, CACHE_MB = 100_000, 256


def repeated(log: CameraLog, times: int) -> CameraLog:
    """Returns a log so many times as long: each time a street farther on, a while later, with actors of its own."""
    span = max(view.time_us for view in log.views) + PAUSE_US
    views, sweeps, actors = [], [], []
    for k in range(times):
        move = np.eye(4)
        move[1, 3], late = STRIDE_M * k, span * k
        views += [replace(v, time_us=v.time_us + late, camera_to_world=move @ v.camera_to_world) for v in log.views]
        sweeps += [replace(s, time_us=s.time_us + late, lidar_to_world=move @ s.lidar_to_world) for s in log.sweeps]
        actors += [
            replace(a, token=f"{a.token}_{k}", time_us=a.time_us + late, box_to_world=move @ a.box_to_world) for a in log.actors
        ]
    return replace(log, views=tuple(views), sweeps=tuple(sweeps), actors=tuple(actors))


def measure(source: Path, times: int, iterations: int) -> dict:
    """Returns what a reconstruction of the log, repeated so many times, takes."""
    from worldengine_envs.reconstruction.readers.registry import read_camera_log
    from worldengine_envs.reconstruction.trainer import memory_cap_mb, peak_memory_mb, train

    log = repeated(read_camera_log("city", [source]), times)
    settings = ReconstructionSettings(
        iterations=iterations, max_gaussians=GAUSSIANS, cache_mb=CACHE_MB, checkpoint_every=iterations, preview_every=0
    )
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        trainer = train(log, Path(out), settings)
    row = {"views": len(log.views), "sweeps": len(log.sweeps), "actors": len(log.actors), "gaussians": len(trainer.graph)}
    pixels = max(camera.height * camera.width for camera in log.cameras)
    row |= {"peak_memory_mb": round(peak_memory_mb()), "cap_mb": round(memory_cap_mb(settings, pixels))}
    return row | {"seconds": round(time.perf_counter() - begun, 1)}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--work", type=Path, default=Path("runs/reconstruction_memory"))
    parser.add_argument("--json", type=Path, help="where results go")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    source = args.work / "log"
    if args.one is not None:
        print(json.dumps(measure(source, args.one, args.iterations)))
        return
    if not source.exists():
        command = ["worldengine_envs.cli.main", "camera-log", SCENARIO, "--out", str(source), *OPTIONS]
        subprocess.run([sys.executable, "-m", *command], check=True)
    rows = []
    for times in args.times:
        options = ["--one", str(times), "--iterations", str(args.iterations), "--work", str(args.work)]
        done = subprocess.run([sys.executable, __file__, *options], check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print("  ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    holds = all(row["peak_memory_mb"] <= row["cap_mb"] for row in rows)
    print(f"{'within' if holds else 'ABOVE'} the cap; {describe(1)}")
    if args.json is not None:
        args.json.write_text(json.dumps({"rows": rows, "holds": holds, "hardware": describe(1)}, indent=1) + "\n", encoding="utf-8")
    if not holds:
        sys.exit(1)


if __name__ == "__main__":
    main()
