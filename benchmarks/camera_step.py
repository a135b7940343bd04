"""Camera world-steps a second: physics, reward, state and one image of 128x72 of each world, drawn by the CPU.

    python benchmarks/camera_step.py [--worlds 16] [--detail 1.0] [--steps 40] [--rounds 4] [--threads 2] [--cameras front]

A world-step is 0.1 s of a world of the starter pack with random `control` actions, through ``DrivingVectorEnv``. Scenarios are
spread evenly over the pack. Resets are counted apart: those to a scenario whose scene has to be made, and those to one that is
known. On a machine that others use too, wall time says little, so the rate comes from processor time: threads over the processor
seconds of all threads, the least of the rounds; wall time is printed beside it. Compiling is left out.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np

from worldengine_envs.hardware import describe

TARGET = 100.0  # world-steps a second in a batch of 16


class Clock:
    """Wall and processor time of a block [s]."""

    def __enter__(self) -> Clock:
        self._wall, self._processor = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_) -> None:
        self.wall, self.processor = time.perf_counter() - self._wall, time.process_time() - self._processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=16)
    parser.add_argument("--detail", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cameras", default="front")
    parser.add_argument("--pack", default="starter")
    args = parser.parse_args()
    os.environ["WORLDENGINE_THREADS"] = str(args.threads)

    from worldengine_envs.envs.vector_env import DrivingVectorEnv

    settings = {"autoreset_mode": "Disabled", "renderer": "cpu", "cameras": args.cameras, "scene_detail": args.detail}
    envs = DrivingVectorEnv(args.pack, args.worlds, observation="camera", **settings)
    ids = envs.scenario_ids
    envs.reset(seed=0, options={"scenario": ids[-1]})  # compiles
    envs.step(np.zeros((args.worlds, 2)))
    chosen = [ids[i] for i in np.linspace(0, len(ids) - 2, args.worlds).astype(int)]
    with Clock() as first:
        envs.reset(options={"scenarios": chosen})
    with Clock() as again:
        envs.reset(options={"scenarios": chosen})
    scenery = list(dict.fromkeys(envs.batch.cameras.on_stage))
    rng, best, wall, resets = np.random.default_rng(0), np.inf, np.inf, 0
    for _ in range(args.rounds):
        spent = took = 0.0
        for _ in range(args.steps):
            actions = rng.uniform(-0.5, 0.5, (args.worlds, 2)) * (1.0, 0.2)
            with Clock() as clock:
                _, _, terminated, truncated, _ = envs.step(actions)
            spent, took = spent + clock.processor, took + clock.wall
            over = terminated | truncated
            if over.any():
                resets += int(over.sum())
                envs.reset(options={"scenarios": chosen, "reset_mask": over})
        best, wall = min(best, spent / args.steps), min(wall, took / args.steps)
    rate, by_wall = args.threads * args.worlds / best, args.worlds / wall
    print(describe(args.threads))
    print(f"{args.worlds} worlds of {args.pack}, {args.cameras}, 128x72, detail {args.detail:g}: {len(scenery)} scenes of")
    print(
        f"{np.mean([one.count for one in scenery]):.0f} Gaussians and {np.mean([one.nbytes for one in scenery]) / 1e6:.1f} MB each"
    )
    new, known = (1e3 * clock.processor / args.worlds for clock in (first, again))
    print(f"a reset: {new:.0f} ms with a new scene, {known:.1f} ms with a known one")
    print(f"a world-step: {1e3 * best / args.worlds:.2f} ms of one core; {resets} resets left out")
    print(f"{rate:.0f} world-steps/s on {args.threads} cores (by wall time {by_wall:.0f})")
    print(f"target {TARGET:.0f} world-steps/s: {'met' if rate >= TARGET else 'MISSED'}")


if __name__ == "__main__":
    main()
