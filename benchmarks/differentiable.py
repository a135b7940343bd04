"""Time of the CPU rasteriser's backward pass against its forward pass, on the random streets of benchmarks/rasteriser.py.

    python benchmarks/differentiable.py [--repeats 10] [--threads 1]

Forward: what a renderer takes for a frame of Gaussians that it keeps. Packing: what is added in training, where parameters change
at every step. Backward: gradients of all parameters and of the pose, from a loss on colour, alpha and depth. Each the least
processor time (of all threads) over repeats, every frame from another place.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
import torch
from rasteriser import CASES, make_frames, random_street

from worldengine_envs import hardware
from worldengine_envs.rendering.cpu.renderer import CpuRenderer
from worldengine_envs.rendering.cpu.store import pack
from worldengine_envs.rendering.differentiable import rasterise


def run_case(n: int, width: int, height: int, repeats: int) -> None:
    """Measures one size of scene and image."""
    street = random_street(n, 0)
    parameters = [torch.tensor(getattr(street, name), requires_grad=True) for name in street.__slots__]
    renderer, best = CpuRenderer(), {}
    part = renderer.add(street)

    def measure(name: str, work):
        start = time.process_time()
        result = work()
        best[name] = min(best.get(name, np.inf), 1e3 * (time.process_time() - start))
        return result

    for i in range(repeats):
        frames = make_frames([part], np.array([[4.0 * i / repeats, 0.5]]), width, height)
        camera = torch.tensor(frames.world_to_camera, requires_grad=True), torch.tensor(frames.intrinsics)
        measure("forward", lambda frames=frames: renderer.render(frames, ("rgb",)))
        measure("packing", lambda: pack(street, in_order=True))
        seen = measure("forward with packing", lambda camera=camera: rasterise(*parameters, *camera, width, height))
        loss = seen.rgb.square().sum() + seen.alpha.sum() + 0.01 * seen.depth.sum()
        measure("backward", lambda loss=loss, camera=camera: torch.autograd.grad(loss, [*parameters, camera[0]]))
    print(f"\n{n} Gaussians, {width} x {height}, spherical harmonics of degree 3, mean alpha {seen.alpha.mean():.2f} [ms]")
    print(", ".join(f"{name} {value:.1f}" for name, value in best.items()))
    ratios = best["backward"] / best["forward"], best["backward"] / best["forward with packing"]
    print(f"backward / forward {ratios[0]:.1f}, with packing {ratios[1]:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    os.environ["WORLDENGINE_THREADS"] = str(arguments.threads)
    torch.set_num_threads(1)
    print(hardware.describe(arguments.threads))
    for n, width, height, _ in CASES:
        run_case(n, width, height, arguments.repeats)


if __name__ == "__main__":
    main()
