"""A real street from stereo images alone: KITTI odometry at half resolution, every 8th time held out with both images.

    python benchmarks/reconstruction_kitti.py [--source ../shared/data/kitti_stereo] [--out DIR] [--iterations N] [--scale 0.5]

Prints PSNR and SSIM of the held-out images, those of a copy of the training image nearest in time, seconds and memory, and writes
them to ``benchmarks/results/reconstruction_kitti.json``. With ``--out`` a run that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from worldengine_envs.hardware import describe

RESULTS = Path(__file__).parent / "results" / "reconstruction_kitti.json"
SOURCE = Path(__file__).resolve().parents[2] / "shared" / "data" / "kitti_stereo"
PSNR, SSIM, SECONDS = 20.5, 0.65, 1200.0  # the bar


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=SOURCE)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--scale", type=float, default=0.5)
    parser.add_argument("--test-every", type=int, default=8)
    args = parser.parse_args()

    from worldengine_envs.reconstruction.quality import as_trained, evaluate
    from worldengine_envs.reconstruction.readers.registry import read_camera_log
    from worldengine_envs.reconstruction.settings import ReconstructionSettings
    from worldengine_envs.reconstruction.trainer import peak_memory_mb, train
    from worldengine_envs.simulation.threads import num_threads

    settings = ReconstructionSettings(scale=args.scale, test_every=args.test_every)
    if args.iterations:
        settings = replace(settings, iterations=args.iterations)
    log, begun = read_camera_log("kitti", [args.source]), time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        trainer = train(log, args.out or Path(temporary), settings, resume=args.out is not None, progress=_say)
    seconds = time.perf_counter() - begun
    nearest = evaluate(lambda v: _nearest(trainer, v), log, trainer.pictures, trainer.split)
    ours = evaluate(as_trained(trainer), log, trainer.pictures, trainer.split)
    row = {name: ours[name] for name in ("psnr", "psnr_worst_tenth", "ssim")}
    row |= {"nearest_psnr": nearest["psnr"], "nearest_ssim": nearest["ssim"], "iterations": settings.iterations}
    row |= {"gaussians": len(trainer.graph), "seconds": seconds, "training_seconds": trainer.seconds}
    row |= {"peak_memory_mb": peak_memory_mb(), "machine": describe(num_threads()), "source": args.source.name, "scale": args.scale}
    row["holds"] = bool(row["psnr"] >= PSNR and row["ssim"] >= SSIM and trainer.seconds <= SECONDS)
    for view in ours["per_view"]:
        print(f"  {view['camera']:8} {view['time_us'] / 1e6:5.1f} s: {view['psnr']:.2f} dB, SSIM {view['ssim']:.3f}")
    print(f"copy of the nearest image: {nearest['psnr']:.2f} dB, SSIM {nearest['ssim']:.3f}")
    print(f"held-out images:           {ours['psnr']:.2f} dB, SSIM {ours['ssim']:.3f} (bar: {PSNR} dB, {SSIM})")
    print(f"{trainer.seconds:.0f} s of training, {row['gaussians']} Gaussians, {row['peak_memory_mb']:.0f} MB, {row['machine']}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")


def _say(iteration: int, psnr: float, gaussians: int) -> None:
    if iteration % 250 == 0:
        print(f"  {iteration}: {psnr:.2f} dB on the last training images, {gaussians} Gaussians", flush=True)


def _nearest(trainer, view: int):
    """Returns the training image of the same camera that is nearest in time, as if it had been drawn."""
    from worldengine_envs.reconstruction.quality import Drawn

    views = trainer.log.views
    same = [int(i) for i in trainer.split.train if views[i].camera == views[view].camera]
    picture = trainer.pictures[min(same, key=lambda i: abs(views[i].time_us - views[view].time_us))]
    return Drawn(picture.rgb, np.ones(picture.usable.shape, np.float32), picture.world_to_camera)


if __name__ == "__main__":
    main()
