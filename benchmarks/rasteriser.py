"""Frames a second of the CPU rasteriser, for frames one after the other and for a batch of different scenes, on 1 and 2 threads.

    python benchmarks/rasteriser.py [--repeats 20] [--batch 16]

The scene is random but like a street: a ground of flat Gaussians, walls on both sides and loose ones, spherical harmonics of degree
3, seen by a camera that drives along; the share of Gaussians in view and the mean overdraw (Gaussians added a pixel) are printed.
Times are the least over repeats, every frame from another place: of the wall clock (frames/s), and of the processor time of this
process, which other work on the machine does not spoil.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np

from worldengine_envs import hardware
from worldengine_envs.rendering.cpu.renderer import CpuRenderer
from worldengine_envs.rendering.cpu.stages import ACROSS, ALONG, POWER, SLOPE, TILE, X, Y
from worldengine_envs.rendering.frames import EVERYWHERE, Frames
from worldengine_envs.rendering.gaussians import Gaussians
from worldengine_envs.simulation.kernels import allocating_kernel

CASES = ((50_000, 128, 72, 120.0), (200_000, 480, 270, 25.0))  # Gaussians, width, height, frames/s that are wanted


def random_street(n: int, seed: int) -> Gaussians:
    """Returns n Gaussians along the x axis: 50 % ground, 35 % walls, 15 % loose."""
    rng = np.random.default_rng(seed)
    ground, walls = n // 2, 35 * n // 100
    x = np.concatenate([-5.0 + 85.0 * rng.random(n) ** 2])
    y, z = rng.uniform(-9.0, 9.0, n), np.zeros(n)
    side = rng.choice([-9.0, 9.0], n)
    wall, loose = slice(ground, ground + walls), slice(ground + walls, n)
    y[wall], z[wall] = side[wall], rng.uniform(0.0, 10.0, walls)
    y[loose], z[loose] = rng.uniform(-9.0, 9.0, n - ground - walls), rng.uniform(0.0, 3.0, n - ground - walls)
    size = 0.006 * (50_000 / n) ** 0.5 * (6.0 + np.abs(x))
    scales = np.log(np.stack([size, size, size], 1) * rng.uniform(0.5, 2.0, (n, 3)))
    scales[:ground, 2] = scales[wall, 1] = np.log(0.01)
    quats = rng.normal(size=(n, 4)) * 0.05 + np.array([1.0, 0.0, 0.0, 0.0])
    quats[loose] = rng.normal(size=(n - ground - walls, 4))
    sh = rng.normal(0.0, 0.1, (n, 16, 3))
    sh[:, 0] = rng.uniform(-1.5, 1.5, (n, 3))
    opacities = rng.normal(1.5, 1.5, n)
    means = np.stack([x, y, z], 1)
    return Gaussians(*(a.astype(np.float32) for a in (means, quats, scales, opacities, sh)))


def make_frames(parts: list[int], places: np.ndarray, width: int, height: int) -> Frames:
    """Returns one frame for each part, from (x, y) places 1.5 m above the ground looking along x, 60 degrees wide."""
    n = len(parts)
    turn = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
    pose = np.tile(np.eye(4), (n, 1, 1))
    pose[:, :3, :3] = turn
    pose[:, :3, 3] = -np.column_stack([places, np.full(n, 1.5)]) @ turn.T
    focal = 0.5 * width / np.tan(np.radians(30.0))
    lens = np.tile([focal, focal, width / 2, height / 2], (n, 1))
    stand = np.tile(np.eye(3), (n, 1, 1)), np.ones((n, 3)), np.zeros((n, 3))
    return Frames(np.array(parts, np.int32), *stand, np.full(n, EVERYWHERE, np.int32), np.arange(n + 1), pose, lens, height, width)


@allocating_kernel
def count_added(splats, lists, width, height):
    """Returns the mean number of Gaussians that a pixel adds: the blending once more, pixel by pixel."""
    total = 0
    for py in range(height):
        for px in range(width):
            tile, left = (py // TILE) * ((width + TILE - 1) // TILE) + px // TILE, 1.0
            for i in range(lists.offsets[tile], lists.offsets[tile + 1]):
                r = splats.records[lists.entries[i] & 0xFFFFFFFF]
                dx, dy = px + 0.5 - r[X], py + 0.5 - r[Y]
                alpha = min(0.99, 2.0 ** (r[POWER] - (r[ALONG] * (dx - r[SLOPE] * dy)) ** 2 - (r[ACROSS] * dy) ** 2))
                if alpha >= 1.0 / 255.0:
                    if left * (1.0 - alpha) <= 1e-4:
                        break
                    left *= 1.0 - alpha
                    total += 1
    return total / (width * height)


def measure(renderer: CpuRenderer, batches: list[Frames], repeats: int) -> tuple[float, float]:
    """Returns the least wall-clock and processor time of a batch [s], each of them drawn again and again."""
    renderer.render(batches[0])
    best = np.full(2, np.inf)
    for _ in range(repeats):
        for frames in batches:
            start = np.array([time.perf_counter(), time.process_time()])
            renderer.render(frames)
            best = np.minimum(best, np.array([time.perf_counter(), time.process_time()]) - start)
    return tuple(best.tolist())


def run_case(n: int, width: int, height: int, wanted: float, repeats: int, batch: int) -> None:
    """Measures one size of scene and image."""
    scenes = [random_street(n, seed) for seed in range(2 if n > 100_000 else 4)]
    places = np.column_stack([np.linspace(0.0, 4.0, 8), np.linspace(-1.0, 1.0, 8)])
    renderer = CpuRenderer()
    parts = [renderer.add(scene) for scene in scenes]
    single = [make_frames(parts[:1], places[i : i + 1], width, height) for i in range(8)]
    several = make_frames([parts[i % len(parts)] for i in range(batch)], np.resize(places, (batch, 2)), width, height)
    print(f"\n{n} Gaussians, {width} x {height}, spherical harmonics of degree 3 (wanted: {wanted:.0f} frames/s on 2 threads)")
    for threads in (1, 2):
        os.environ["WORLDENGINE_THREADS"] = str(threads)
        renderer.render(single[0])
        if threads == 1:
            raster = renderer._rasterisers[0]
            seen, entries = raster.splats.counts.sum(), raster.lists.offsets[-1]
            added = count_added(raster.splats, raster.lists, width, height)
            print(f"in view {seen / n:.0%}, mean overdraw {added:.1f}, entries in tile lists {entries}")
        for name, batches, frames in (("one by one", single, 1), (f"batch of {batch}", [several], batch)):
            wall, busy = (t / frames for t in measure(renderer, batches, repeats))
            print(f"{threads} thread(s), {name}: {1 / wall:.0f} frames/s, processor time {1e3 * busy:.2f} ms a frame")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--batch", type=int, default=16)
    arguments = parser.parse_args()
    print(hardware.describe(2))
    for case in CASES:
        run_case(*case, arguments.repeats, arguments.batch)


if __name__ == "__main__":
    main()
