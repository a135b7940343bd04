"""Time to score 8192 planned trajectories in each scene, on one core.

    python benchmarks/scoring.py [DIR] [--pattern 'w*'] [--anchors 8192]

DIR holds reference cases (default: ../shared/reference/pdm_cases). Trajectories fan out from each scene's own ego state: constant
acceleration and curvature over a grid, poses every 0.5 s. Times are processor time of this process, the least of several runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np

from worldengine_envs.hardware import processor

DEFAULT = Path(__file__).resolve().parents[2] / "shared/reference/pdm_cases"


def fan(speed: float, count: int, poses: int = 8, interval: float = 0.5) -> np.ndarray:
    """Returns (count, poses, 3) trajectories that start at ``speed`` [m/s] with constant acceleration and curvature."""
    side = int(np.ceil(np.sqrt(count)))
    acceleration, curvature = (
        v.ravel()[:count, None] for v in np.meshgrid(np.linspace(-4.0, 3.0, side), np.linspace(-0.1, 0.1, side))
    )
    t = np.arange(1, int(poses * interval / 0.01) + 1) * 0.01
    v = np.maximum(speed + acceleration * t, 0.0)
    yaw = np.cumsum(v * curvature * 0.01, axis=1)
    x, y = np.cumsum(v * np.cos(yaw) * 0.01, axis=1), np.cumsum(v * np.sin(yaw) * 0.01, axis=1)
    at = np.round(np.arange(1, poses + 1) * interval / 0.01).astype(int) - 1
    return np.stack([x[:, at], y[:, at], yaw[:, at]], axis=-1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--pattern", default="w*", help="which cases")
    parser.add_argument("--anchors", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    from worldengine_envs.scoring.cases import load_case, scene_of_case
    from worldengine_envs.scoring.pdms import score_proposals

    files = sorted(arguments.folder.glob(f"{arguments.pattern}.npz"))
    if not files:
        print(f"no case {arguments.pattern}.npz in {arguments.folder}", file=sys.stderr)
        return 1
    seconds = {}
    for file in files:
        case = load_case(file)
        scene = scene_of_case(case)
        anchors = fan(float(case["ego_state"][3]), arguments.anchors)
        score_proposals(scene, anchors[:2], 0.5)  # compiles, once
        runs = []
        for _ in range(arguments.repeats):
            start = time.process_time()
            scores = score_proposals(scene, anchors, 0.5)
            runs.append(time.process_time() - start)
        seconds[file.stem] = min(runs)
        print(
            f"{file.stem:24s} {min(runs):7.3f} s  {min(runs) / arguments.anchors * 1e6:6.1f} us each {len(scene.tokens):3d} tracks "
            f"{np.mean(scores.score > 0):5.0%} above 0, mean score {scores.score.mean():.3f}"
        )
    worst = max(seconds, key=seconds.get)
    print(
        f"{arguments.anchors} trajectories in {len(files)} scenes: median {np.median(list(seconds.values())):.3f} s, "
        f"worst {seconds[worst]:.3f} s ({worst}); one core of {processor()} ({os.cpu_count()} cores)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
