"""A real street with LiDAR and slow traffic (KITTI raw), reconstructed on the CPU: held-out images and scans against baselines.

    python benchmarks/reconstruction_kitti_raw.py [SOURCE] --out DIR [--scale 0.5] [--iterations 2500] [--resume]

Every eighth time from the fifth on (frames 4, 12, 20, 28) is held out with its image and scan. Baselines: the mean of the two
neighbouring images, pixel by pixel; the scan nearest in time, taken to the held-out camera with the poses as logged and as
corrected, each held-out measurement compared with the reprojected point nearest to it on the image. Prints a table and writes
benchmarks/results/reconstruction_kitti_raw.json. Images and scans of KITTI are for non-commercial use and not part of the project.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import tyro
from scipy.spatial import cKDTree

from worldengine_envs.cli.reconstruct import progress_bar
from worldengine_envs.hardware import describe
from worldengine_envs.reconstruction.camera_log import CameraLog
from worldengine_envs.reconstruction.finding.found_actors import with_found_actors
from worldengine_envs.reconstruction.job import QUALITY, reconstruct
from worldengine_envs.reconstruction.metrics import psnr, ssim
from worldengine_envs.reconstruction.pictures import Pictures
from worldengine_envs.reconstruction.points.colour import hidden, project
from worldengine_envs.reconstruction.points.lidar import sweep_points
from worldengine_envs.reconstruction.readers.registry import read_camera_log
from worldengine_envs.reconstruction.settings import DensificationSettings, LearningRates, ReconstructionSettings
from worldengine_envs.reconstruction.split import Split, split
from worldengine_envs.rendering.cameras import rigid_inverse
from worldengine_envs.simulation.threads import num_threads

SOURCE = Path(__file__).resolve().parents[1].parent / "shared/data/kitti_rgb_lidar"
RESULT = Path(__file__).parent / "results/reconstruction_kitti_raw.json"
FARTHEST_M = 120.0
BETTER_DB, DEPTH = 3.0, 0.06  # what is asked for
SHORT = ReconstructionSettings(  # a hundred looks at each image: colours learn faster, and new Gaussians come sooner
    test_every=8,
    test_first=4,
    max_gaussians=65_000,
    rates=LearningRates(dc=5e-3, rest=2.5e-4),
    densification=DensificationSettings(first=300),
)


def main(
    source: tyro.conf.Positional[Path] = SOURCE,
    *,
    out: Path,
    scale: float = 0.5,
    iterations: int = 2500,
    resume: bool = False,
    result: Path = RESULT,
) -> None:
    """Reconstructs, measures and compares.

    Args:
        source: Folder of the log.
        out: Where the reconstruction is written.
        scale: Of the images' sides.
        iterations: Of training.
        resume: Go on with an interrupted run.
        result: File of the results.
    """
    log = read_camera_log("kitti-raw", [source])
    settings = replace(SHORT, scale=scale, iterations=iterations, sh_every=max(iterations // 4, 1))
    parts = split(log, settings.test_every, settings.test_first)
    corrected = with_found_actors(log, parts)
    pictures = Pictures(log, scale)
    row = {"source": source.name, "machine": describe(num_threads()), "baselines": baselines(log, corrected, pictures, parts)}
    print(json.dumps(row["baselines"], indent=1), flush=True)
    with progress_bar(iterations) as (progress, _):
        reconstruct(log, out, settings, resume=resume, progress=progress)
    quality = json.loads((out / QUALITY).read_text(encoding="utf-8"))
    row |= quality
    base = row["baselines"]
    row["psnr_over_neighbours"] = quality["psnr"] - base["neighbours"]["psnr"]
    depth, nearest = quality["depth_rel_error"], min(base["nearest_scan"].values())
    row["holds"] = bool(row["psnr_over_neighbours"] >= BETTER_DB and depth <= DEPTH and depth < nearest)
    result.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    print(
        f"PSNR {quality['psnr']:.2f} dB, mean of neighbours {base['neighbours']['psnr']:.2f}: {row['psnr_over_neighbours']:+.2f} dB"
    )
    print(f"SSIM {quality['ssim']:.3f}, mean of neighbours {base['neighbours']['ssim']:.3f}")
    depths = ", ".join(f"{name.replace('_', ' ')} {100.0 * value:.2f} %" for name, value in base["nearest_scan"].items())
    print(f"depth error {100.0 * quality['depth_rel_error']:.2f} %; nearest scan with poses {depths}")
    print(
        f"{quality['gaussians']} Gaussians, {quality['actors']} actors, {quality['seconds']:.0f} s, {quality['peak_memory_mb']} MB"
    )


def baselines(log: CameraLog, corrected: CameraLog, pictures: Pictures, parts: Split) -> dict:
    """Returns PSNR and SSIM of the mean of the neighbouring images, and median relative depth errors of the nearest scan."""
    rows = [neighbours(log, pictures, parts, int(v)) for v in parts.test]
    errors = {}
    for name, known in (("as_logged", log), ("corrected", corrected)):
        parts_of = [nearest_scan(known, pictures, parts, int(v)) for v in parts.test]
        errors[name] = float(np.median(np.concatenate(parts_of)))
    mean = {name: float(np.mean([row[name] for row in rows])) for name in ("psnr", "ssim")}
    return {"neighbours": mean | {"per_view": rows}, "nearest_scan": errors}


def neighbours(log: CameraLog, pictures: Pictures, parts: Split, v: int) -> dict:
    """Returns how good the mean of the training images before and after a held-out one is."""
    mine = sorted((int(t) for t in parts.train if log.views[t].camera == log.views[v].camera), key=lambda t: log.views[t].time_us)
    before = [t for t in mine if log.views[t].time_us < log.views[v].time_us][-1:]
    after = [t for t in mine if log.views[t].time_us > log.views[v].time_us][:1]
    mean = np.mean([pictures[t].rgb.astype(np.float64) for t in before + after], axis=0) / 255.0
    truth = pictures[v]
    rgb = mean.astype(np.float32)
    return {"view": v, "psnr": psnr(rgb, truth.rgb, truth.usable), "ssim": ssim(rgb, truth.rgb, truth.usable)}


def nearest_scan(log: CameraLog, pictures: Pictures, parts: Split, v: int) -> np.ndarray:
    """Returns (S,) relative errors of the depths that the training scan nearest in time gives at a held-out scan's points."""
    view = log.views[v]
    held = min((log.sweeps[s] for s in parts.test_sweeps), key=lambda sweep: abs(sweep.time_us - view.time_us))
    known = min((log.sweeps[s] for s in parts.train_sweeps), key=lambda sweep: abs(sweep.time_us - view.time_us))
    lens, height, width = pictures.lens(v)
    seen = []
    for sweep in (held, known):
        xyz = sweep_points(sweep, FARTHEST_M)
        _, row, column, depth = project(xyz, rigid_inverse(view.camera_to_world), lens, height, width)
        kept = ~hidden(row, column, depth, height, width)
        seen.append((np.column_stack([row, column])[kept], depth[kept]))
    near = cKDTree(seen[1][0]).query(seen[0][0])[1]
    return np.abs(seen[1][1][near] - seen[0][1]) / seen[0][1]


if __name__ == "__main__":
    tyro.cli(main)
