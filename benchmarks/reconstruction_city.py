"""How true reconstructed city streets are, judged by the ray caster that made their camera logs.

    python benchmarks/reconstruction_city.py [--scenarios lane_follow_000 turn_024] [--work runs/reconstruction_city]
        [--cameras surround8] [--every 2] [--set iterations=2000 ...] [--json benchmarks/results/reconstruction_city.json]

For each starter scenario: its camera log (320x180, LiDAR, 5 images a second of each camera, exact poses and boxes), a
reconstruction in which every eighth time is held out, and its judgement. Steps that are done in ``--work`` are not done again;
a reconstruction that was cut off goes on. Judged are, against the ray caster:

    path        all cameras at the held-out times
    beside_1..3 the same, but with the car 1, 2, 3 m beside its path, left and right by turns
    depth       relative error of depth where the truth is within 80 m: median over all of these pictures
    moved, turned, removed
                every actor of whom 200 pixels are seen at a held-out time, in the picture in which most of it is seen: moved 2 m
                sideways (to the side with more room), turned by 20 degrees, taken away. PSNR of the part of the picture around
                where it was and where it is
    confidence  Spearman's rank correlation of the confidence of all of these pictures with their PSNR
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
from city_truth import EDITS, Drawn, Truth, depth_error, psnr
from PIL import Image
from scipy.stats import spearmanr

from worldengine_envs.city.camera_log import NAME, CameraLogSettings, write_camera_log
from worldengine_envs.envs.assets import NEAREST_M
from worldengine_envs.hardware import describe
from worldengine_envs.reconstruction.job import reconstruct
from worldengine_envs.reconstruction.readers.registry import read_camera_log
from worldengine_envs.reconstruction.settings import ReconstructionSettings
from worldengine_envs.rendering.cameras import find_rig, scaled_rig
from worldengine_envs.rendering.frames import RenderSettings
from worldengine_envs.rendering.renderer import make_renderer
from worldengine_envs.rendering.scene_folder import load_scene
from worldengine_envs.scenario import Pack, Scenario, find_packs
from worldengine_envs.scenario.types import AgentType
from worldengine_envs.simulation.threads import num_threads

SIZE = (180, 320)
BARS = {"path": 27.0, "beside_1": 24.0, "beside_2": 22.0, "beside_3": 20.0, "moved": 22.0, "turned": 22.0, "removed": 22.0}
DEPTH_BAR, CONFIDENCE_BAR = 0.03, 0.6
EVERY = 8  # time steps from one that is held out to the next


def log_of(scenario: Scenario, folder: Path, cameras: str, every: int) -> Path:
    """Returns the folder of a scenario's camera log, which is written if it is not there."""
    if not (folder / NAME).exists():
        write_camera_log(scenario, folder, CameraLogSettings(cameras=cameras, image_size=SIZE, every=every))
    return folder


def judge(scene, truth: Truth, held_out: list[int], work: Path, appearance: str | None = None) -> list[dict]:
    """Returns a row of results for each picture that is judged; rows of pictures go to ``work / "pictures"``."""
    shots = truth.views(held_out) + truth.changes(held_out)
    rgb, depth = truth.pictures(shots, work / f"truth_{truth.caster.time_of_day}.npz")
    drawn, rows = Drawn(scene, truth, make_renderer("cpu", settings=RenderSettings(near=NEAREST_M)), appearance), []
    tracks, folder = truth.scenario.tracks, work / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    for shot, true_rgb, true_depth in zip(shots, rgb, depth, strict=True):
        image, seen_depth, confidence = drawn.draw(shot)
        errors = depth_error(seen_depth, true_depth)
        row = {"kind": shot.kind, "step": shot.step, "camera": truth.rig.names[shot.camera], "psnr": psnr(image, true_rgb)}
        row |= {"depth_error": float(np.median(errors)) if len(errors) else None, "confidence": confidence}
        if shot.kind in EDITS:
            top, bottom, left, right = shot.window
            part = (slice(top, bottom + 1), slice(left, right + 1))
            kind = AgentType(int(tracks.types[shot.track])).name.lower()
            row |= {"actor": tracks.tokens[shot.track], "type": kind, "has_node": shot.track in drawn.actors}
            row |= {"window": list(shot.window), "psnr_window": psnr(image[part], true_rgb[part])}
        rows.append(row)
        name = f"{shot.kind}_{row.get('actor', '')}_{shot.step:03d}_{row['camera']}.jpg"
        Image.fromarray(np.concatenate((true_rgb, image), axis=1)).save(folder / name, quality=90)
    drawn.close()
    return rows


def summary(rows: list[dict]) -> dict:
    """Returns the numbers that the bars are about."""
    found: dict = {}
    for kind in ("path", "beside_1", "beside_2", "beside_3"):
        chosen = [row for row in rows if row["kind"] == kind]
        values, errors = [row["psnr"] for row in chosen], [row["depth_error"] for row in chosen if row["depth_error"] is not None]
        found[kind] = {"psnr": float(np.mean(values)), "worst": min(values), "depth_error": float(np.median(errors))}
        by_camera = {c: [row["psnr"] for row in chosen if row["camera"] == c] for c in dict.fromkeys(r["camera"] for r in chosen)}
        found[kind]["by_camera"] = {camera: float(np.mean(psnrs)) for camera, psnrs in by_camera.items()}
    for kind in EDITS:
        chosen = [row for row in rows if row["kind"] == kind]
        by_type = {t: [row["psnr_window"] for row in chosen if row["type"] == t] for t in sorted({row["type"] for row in chosen})}
        values = [row["psnr_window"] for row in chosen]
        found[kind] = {"actors": len(values), "psnr": float(np.mean(values)), "worst": min(values)}
        found[kind] |= {"below_22_dB": sum(value < BARS["moved"] for value in values)}
        found[kind]["by_type"] = {t: {"actors": len(v), "psnr": float(np.mean(v)), "worst": min(v)} for t, v in by_type.items()}
    known = [(row["confidence"], row["psnr"]) for row in rows if row["confidence"] is not None]
    found["confidence"] = {"pictures": len(known), "spearman": float(spearmanr(*zip(*known, strict=True))[0]) if known else None}
    return found


def show(found: dict) -> None:
    """Prints a summary."""
    for kind, numbers in found.items():
        if kind in EDITS:
            types = ", ".join(f"{t} {v['psnr']:.1f} (worst {v['worst']:.1f}, {v['actors']})" for t, v in numbers["by_type"].items())
            few = f"{numbers['below_22_dB']} of {numbers['actors']} actors below 22 dB"
            print(f"  {kind:9} {numbers['psnr']:6.2f} dB, {few}: {types}")
        elif kind in BARS:
            cameras = " ".join(f"{c[4:]} {v:.1f}" for c, v in numbers["by_camera"].items())
            depth = f"depth error {100 * numbers['depth_error']:.2f} %"
            print(f"  {kind:9} {numbers['psnr']:6.2f} dB (bar {BARS[kind]:.0f}), worst {numbers['worst']:.1f}; {depth}; {cameras}")
    if found["confidence"]["spearman"] is not None:
        pictures, rank = found["confidence"]["pictures"], found["confidence"]["spearman"]
        print(f"  confidence: Spearman {rank:.2f} (bar {CONFIDENCE_BAR}) with the PSNR of {pictures} pictures")


def settings_of(changes: list[str]) -> ReconstructionSettings:
    """Returns settings with changes such as ``iterations=500`` or ``points.voxel_m=0.2``."""
    settings = ReconstructionSettings(test_every=EVERY)
    for change in changes:
        name, value = change.split("=", 1)
        *path, last = name.split(".")
        inner = settings if not path else getattr(settings, path[0])
        value = type(getattr(inner, last))(json.loads(value)) if not isinstance(getattr(inner, last), str) else value
        inner = dataclasses.replace(inner, **{last: value})
        settings = inner if not path else dataclasses.replace(settings, **{path[0]: inner})
    return settings


def measure(scenario: Scenario, work: Path, args: argparse.Namespace) -> dict:
    """Returns the results of one scenario."""
    log = read_camera_log("city", [log_of(scenario, work / "log", args.cameras, args.every)])
    scene = work / "out" / "scene"
    if not scene.exists():
        scene = reconstruct(log, work / "out", settings_of(args.set), resume=(work / "out").exists())
    steps = list(range(0, scenario.tracks.steps, args.every))
    truth = Truth(scenario, scaled_rig(find_rig(args.cameras), SIZE))
    learned = load_scene(scene)
    rows = judge(learned, truth, steps[EVERY // 2 :: EVERY], work)
    told = {name: learned.quality[name] for name in ("seconds", "peak_memory_mb", "iterations", "gaussians")}
    found = summary(rows) | {"views": len(log.views)} | told
    (work / "judged.json").write_text(json.dumps({"summary": found, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", nargs="+", default=["lane_follow_000", "turn_024"])
    parser.add_argument("--work", type=Path, default=Path("runs/reconstruction_city"))
    parser.add_argument("--cameras", default="surround8", help="a rig")
    parser.add_argument("--every", type=int, default=2, help="steps of 0.1 s from image to image")
    parser.add_argument("--set", nargs="*", default=[], help="settings of the reconstruction, such as iterations=500")
    parser.add_argument("--json", type=Path, help="where results go")
    args = parser.parse_args()
    pack = Pack.open(next(path for path in find_packs() if path.name == "starter"))
    results = {}
    for scenario_id in args.scenarios:
        results[scenario_id] = measure(pack.load(scenario_id), args.work / scenario_id, args)
        print(f"{scenario_id}: {results[scenario_id]['views']} views, {results[scenario_id]['seconds']:.0f} s")
        show(results[scenario_id])
    print(describe(num_threads()))
    if args.json is not None:
        args.json.write_text(json.dumps({"scenarios": results, "hardware": describe(num_threads())}, indent=1) + "\n")


if __name__ == "__main__":
    main()
