"""gsplat on a CUDA device against the CPU rasteriser: the same images and gradients, and how fast both are; a reconstruction.

    python benchmarks/gpu.py                    from a checkout, where torch, the package's needs and gsplat >= 1.5.3 are installed
    python benchmarks/gpu.py --install          installs the checkout and gsplat with pip first
    python benchmarks/gpu.py --gsplat FOLDER    gsplat from a folder (a checkout with its submodules, or an unpacked wheel)

gsplat's CUDA extension is built where it is not yet, which takes most of the time. Results go to benchmarks/results/<device>.json
after each stage, with the hardware, the versions and the seconds that every stage took. Scenes are random but like streets (see
rasteriser.py). Times are the least of several runs by the wall clock, the device synchronised. Last, a clip of a city street with
eight cameras is reconstructed and measured by what was held out (see city_clip.py; it needs opencv-python-headless).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GSPLAT = "gsplat==1.5.3"  # for --install
MODULES = ("torch", "numpy", "numba", "gymnasium", "safetensors", "gsplat", "cv2")
CASES = ((50_000, 128, 72), (200_000, 480, 270))  # Gaussians, width, height
WORLDS, WORLD_GAUSSIANS, ACTORS = 64, 50_000, 20
SEED = 0


def find_packages(install: bool, folder: Path | None) -> None:
    """Makes the package and gsplat importable, or says what is missing."""
    sys.path.insert(0, str(ROOT))
    if folder is not None:
        sys.path.insert(0, str(folder.resolve()))
    if install:
        subprocess.run([sys.executable, "-m", "pip", "install", "-e", f"{ROOT}[reconstruct]", GSPLAT, "ninja"], check=True)
        importlib.invalidate_caches()
    missing = [name for name in MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise SystemExit(f"{', '.join(missing)} cannot be imported: run with --install, or give --gsplat FOLDER")
    os.environ.setdefault("MAX_JOBS", str(os.cpu_count() or 1))  # of the extension's build
    os.environ.setdefault("NUM_CHANNELS", "1,3,4")  # gsplat 1.6 builds its kernels for these alone; 1.5 does not look


class Report:
    """Results, written anew after every stage."""

    def __init__(self, device: str, out: Path | None):
        import gsplat
        import torch

        from worldengine_envs import hardware
        from worldengine_envs.simulation.threads import num_threads

        name = torch.cuda.get_device_name(device) if device != "cpu" else "cpu"
        self.path = out or ROOT / "benchmarks" / "results" / (re.sub(r"\W+", "_", name).strip("_").lower() + ".json")
        self.results = {
            "device": name,
            "hardware": hardware.describe(num_threads()),
            "versions": {"gsplat": gsplat.__version__, "torch": torch.__version__, "cuda": torch.version.cuda},
            "seconds": {},
        }

    def stage(self, name: str, function, *arguments) -> None:
        """Runs one stage and keeps what it returns."""
        start = time.perf_counter()
        self.results[name] = function(*arguments)
        self.results["seconds"][name] = round(time.perf_counter() - start, 1)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.results, indent=1) + "\n")
        print(f"{name} ({self.results['seconds'][name]} s)\n{json.dumps(self.results[name], indent=1)}", flush=True)


def least(function, device: str, repeats: int = 20) -> float:
    """Returns the least time [s] of calls."""
    import torch

    def wait():
        if device != "cpu":
            torch.cuda.synchronize(device)

    function(), wait()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function(), wait()
        times.append(time.perf_counter() - start)
    return min(times)


def one_scene_frames(part: int, n: int, width: int, height: int):
    """Returns n frames of one part along its street."""
    import numpy as np
    from rasteriser import make_frames

    places = np.column_stack([np.linspace(0.0, 4.0, n), np.linspace(-1.0, 1.0, n)])
    return make_frames([part] * n, places, width, height)


def many_worlds(worlds: int, gaussians: int, actors: int):
    """Returns parts, and one frame (128 x 72) for each of different worlds, with actors that have been turned and stretched."""
    import numpy as np
    from rasteriser import random_street

    from worldengine_envs.rendering.frames import EVERYWHERE, Frames
    from worldengine_envs.rendering.gaussians import Gaussians

    rng, parts = np.random.default_rng(SEED), []
    for seed in range(worlds):
        street = random_street(int(gaussians * rng.uniform(0.5, 1.0)), seed)
        parts.append(Gaussians(street.means, street.quats, street.scales, street.opacities, street.sh[:, :1].copy()))
    for _ in range(8):  # a library of actors
        values = rng.normal(0, 0.5, (1000, 3)), rng.normal(size=(1000, 4)), rng.normal(-2.5, 0.3, (1000, 3))
        values += rng.normal(2.0, 1.0, 1000), rng.normal(0, 1.0, (1000, 1, 3))
        parts.append(Gaussians(*(value.astype(np.float32) for value in values)))
    count, total = actors + 1, worlds * (actors + 1)
    part = np.concatenate([np.append(w, worlds + rng.integers(0, 8, actors)) for w in range(worlds)]).astype(np.int32)
    yaw, still = rng.uniform(-np.pi, np.pi, total), np.arange(total) % count == 0
    rotation, scale = np.tile(np.eye(3), (total, 1, 1)), rng.uniform(0.7, 1.5, (total, 3))
    rotation[:, 0, 0] = rotation[:, 1, 1] = np.cos(yaw)
    rotation[:, 1, 0], rotation[:, 0, 1] = np.sin(yaw), -np.sin(yaw)
    place = np.column_stack([rng.uniform(4, 60, total), rng.uniform(-8, 8, total), np.full(total, 0.8)])
    rotation[still], scale[still], place[still] = np.eye(3), 1.0, 0.0
    node = np.where(still, EVERYWHERE, np.arange(total) % count).astype(np.int32)
    one = one_scene_frames(0, worlds, 128, 72)
    offsets = np.arange(worlds + 1) * count
    return parts, Frames(part, rotation, scale, place, node, offsets, one.world_to_camera, one.intrinsics, 72, 128)


def split(frames) -> list:
    """Returns frames one by one."""
    from worldengine_envs.rendering.frames import Frames

    out = []
    for f in range(len(frames)):
        rows, here = slice(int(frames.offsets[f]), int(frames.offsets[f + 1])), slice(f, f + 1)
        stand = (array[rows] for array in (frames.part, frames.rotation, frames.scale, frames.translation, frames.node))
        cameras = frames.world_to_camera[here], frames.intrinsics[here]
        out.append(Frames(*stand, frames.offsets[f : f + 2] - frames.offsets[f], *cameras, frames.height, frames.width))
    return out


def compare(parts, frames, renderers) -> dict:
    """Returns how far the images of two renderers lie apart."""
    import numpy as np

    images = []
    for renderer in renderers:
        handles = [renderer.add(part) for part in parts]
        drawn = renderer.render(frames, ("rgb", "alpha", "depth", "node"))
        images.append([a if isinstance(a, np.ndarray) else a.cpu().numpy() for a in drawn])
        for handle in handles:
            renderer.remove(handle)
    rgb, alpha, depth, node = (np.abs(a.astype(np.float64) - b) for a, b in zip(*images, strict=True))
    thick = images[1][1] > 0.05
    return {
        "rgb_levels_max": float(rgb.max()),
        "rgb_levels_mean": float(rgb.mean()),
        "rgb_share_over_1_level": float((rgb > 1).mean()),
        "alpha_max": float(alpha.max()),
        "alpha_mean": float(alpha.mean()),
        "depth_relative_median": float(np.median(depth[thick] / images[1][2][thick])),
        "node_share_equal": float((node == 0).mean()),
    }


def same_images(device: str, backend) -> dict:
    """Images of both renderers: one scene at two sizes with spherical harmonics of degree 3, and worlds with actors."""
    from rasteriser import random_street

    from worldengine_envs.rendering.cpu.renderer import CpuRenderer
    from worldengine_envs.rendering.gsplat_renderer import GsplatRenderer

    found = {}
    for n, width, height in CASES:
        renderers = GsplatRenderer(None, device, backend), CpuRenderer()
        found[f"{n} at {width}x{height}"] = compare([random_street(n, SEED)], one_scene_frames(0, 2, width, height), renderers)
    parts, frames = many_worlds(4, WORLD_GAUSSIANS, ACTORS)
    found["4 worlds with actors"] = compare(parts, frames, (GsplatRenderer(None, device, backend), CpuRenderer()))
    return found


def same_gradients(device: str, functions) -> dict:
    """Relative difference (2-norm) of the gradients of each parameter, and times of forward and backward together."""
    import torch
    from rasteriser import random_street

    n, width, height = CASES[0]
    scene, frames = random_street(n, SEED), one_scene_frames(0, 2, width, height)
    arrays = [getattr(scene, name) for name in ("means", "quats", "scales", "opacities", "sh")]
    arrays[3] = arrays[3].clip(max=4.5)  # alpha is capped at 0.99 by gsplat 1.6 and here, at 0.999 by 1.5
    names = ("means", "quats", "scales", "opacities", "sh", "world_to_camera")
    weight = torch.rand((2, height, width, 5), generator=torch.Generator().manual_seed(SEED))
    gradients, seconds = [], []
    for place, function in zip((device, "cpu"), functions, strict=True):
        values = [torch.tensor(a, dtype=torch.float32, device=place) for a in (*arrays, frames.world_to_camera)]
        lens, w = torch.tensor(frames.intrinsics, dtype=torch.float32, device=place), weight.to(place)

        def backward(function=function, values=values, lens=lens, w=w):
            for value in values:
                value.grad = None
                value.requires_grad_()
            rgb, alpha, depth = function(*values, lens, width, height)
            ((rgb * w[..., :3]).sum() + (alpha * w[..., 3]).sum() + 0.02 * (depth * w[..., 4]).sum()).backward()

        seconds.append(least(backward, place, 5))
        gradients.append([value.grad.cpu().double() for value in values])
    apart = [float((a - b).norm() / b.norm()) for a, b in zip(*gradients, strict=True)]
    return {
        "relative_difference": dict(zip(names, apart, strict=True)),
        "forward_and_backward_ms": {"gsplat": 1e3 * seconds[0], "cpu": 1e3 * seconds[1]},
    }


def one_scene_speed(device: str, backend) -> dict:
    """Frames a second of one scene: this renderer, gsplat's own function, the CPU."""
    import numpy as np
    import torch
    from rasteriser import random_street

    from worldengine_envs.rendering.cpu.renderer import CpuRenderer
    from worldengine_envs.rendering.gsplat_renderer import GsplatRenderer

    found = {}
    for n, width, height in CASES:
        scene = random_street(n, SEED)
        ours, cpu = GsplatRenderer(None, device, backend), CpuRenderer()
        part = ours.add(scene), cpu.add(scene)
        arrays = scene.means, scene.quats, np.exp(scene.scales), 1 / (1 + np.exp(-scene.opacities)), scene.sh
        values = [torch.tensor(a, dtype=torch.float32, device=device) for a in arrays]
        for count in (1, 16):
            frames = one_scene_frames(part[0], count, width, height)
            fx, fy, cx, cy = frames.intrinsics[0]
            lens = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float32, device=device).repeat(count, 1, 1)

            def raw(frames=frames, values=values, lens=lens, size=(width, height)):
                view = torch.tensor(frames.world_to_camera, dtype=torch.float32, device=device)
                with torch.no_grad():
                    rgb = backend.rasterization(
                        *values, view, lens, *size, sh_degree=3, packed=False, rasterize_mode="antialiased"
                    )[0]
                    return (rgb.clamp(0, 1) * 255).round().to(torch.uint8)

            theirs = least(raw, device)
            mine = least(lambda frames=frames, ours=ours: ours.render(frames), device)
            on_cpu = least(lambda frames=frames, cpu=cpu: cpu.render(frames), "cpu", 3)
            found[f"{n} at {width}x{height}, {count} frame(s)"] = {
                "frames_per_s": count / mine,
                "raw_gsplat_frames_per_s": count / theirs,
                "cpu_frames_per_s": count / on_cpu,
                "time_over_raw_gsplat": mine / theirs,  # wanted: at most 1.1
            }
    return found


def many_worlds_speed(device: str, backend) -> dict:
    """Frames a second of worlds of different scenes at 128 x 72 in one call, and in one call a world."""
    import torch

    from worldengine_envs.rendering.cpu.renderer import CpuRenderer
    from worldengine_envs.rendering.gsplat_renderer import GsplatRenderer

    parts, frames = many_worlds(WORLDS, WORLD_GAUSSIANS, ACTORS)
    ours, cpu = GsplatRenderer(None, device, backend), CpuRenderer()
    for part in parts:
        ours.add(part), cpu.add(part)
    single = split(frames)
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
    batch = least(lambda: ours.render(frames), device)
    images = ours.render(frames).rgb
    apart = least(lambda: [ours.render(frame) for frame in single], device, 5)
    on_cpu = least(lambda: cpu.render(frames), "cpu", 2)
    found = {
        "worlds": len(frames),
        "gaussians": sum(len(part) for part in parts),
        "frames_per_s": len(frames) / batch,
        "one_call_a_world_frames_per_s": len(frames) / apart,
        "cpu_frames_per_s": len(frames) / on_cpu,
        "times_faster_than_one_call_a_world": apart / batch,  # wanted: at least 5
        "same_images_as_one_call_a_world": all(torch.equal(ours.render(f).rgb[0], i) for f, i in zip(single, images, strict=True)),
        "images_stay_on": str(images.device),
    }
    if device != "cpu":
        found["scenes_mb"] = held / 1e6
        found["passing_arrays_mb"] = (torch.cuda.max_memory_allocated(device) - held) / 1e6
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--install", action="store_true", help="pip install the checkout and gsplat first")
    parser.add_argument("--gsplat", type=Path, help="folder to import gsplat from")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--out", type=Path, help="where results go")
    arguments = parser.parse_args()
    start = time.perf_counter()
    find_packages(arguments.install, arguments.gsplat)
    from worldengine_envs.rendering.renderer import why_not_gsplat

    reason = why_not_gsplat(arguments.device)  # builds the extension
    if reason is not None:
        raise SystemExit(f"gsplat cannot draw here: {reason}")
    import gsplat
    from city_clip import reconstruct_city_clip

    from worldengine_envs.rendering import differentiable, gsplat_renderer

    device, report = arguments.device, Report(arguments.device, arguments.out)
    report.results["seconds"]["installation and extension"] = round(time.perf_counter() - start, 1)
    report.stage("same_images", same_images, device, gsplat)
    report.stage("same_gradients", same_gradients, device, (gsplat_renderer.rasterise, differentiable.rasterise))
    report.stage("one_scene", one_scene_speed, device, gsplat)
    report.stage("many_worlds", many_worlds_speed, device, gsplat)
    report.stage("city_reconstruction", reconstruct_city_clip, device)
    print(f"{time.perf_counter() - start:.0f} s in all; results in {report.path}")


if __name__ == "__main__":
    main()
