"""Compares the rules of this package with gsplat's own torch reference, on the CPU: projection, compensation, colours.

    python benchmarks/gsplat_parity.py                   gsplat is installed
    python benchmarks/gsplat_parity.py --gsplat FOLDER   a checkout of it: the folder that holds gsplat/cuda/_torch_impl.py

gsplat's file is run as it is; its CUDA extension is neither needed nor built. What is compared is the dense reference of the tests
(float64, see tests/reference_rasteriser.py), which the CPU rasteriser is held to by tests/test_rendering_exact.py.
"""

from __future__ import annotations

import argparse
import enum
import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from reference_rasteriser import project, rotation_matrices
from rendering_scenes import HEIGHT, INTRINSICS, WIDTH, look, random_gaussians

from worldengine_envs.rendering.frames import RenderSettings


def load_reference(folder: Path | None) -> types.ModuleType:
    """Returns gsplat's module of plain torch code, with a stand-in for the module that would build the extension."""
    if folder is None:
        spec = importlib.util.find_spec("gsplat")
        if spec is None:
            raise SystemExit("gsplat is not installed: give --gsplat FOLDER, the root of a checkout")
        folder = Path(spec.origin).parents[1]
    for name in ("gsplat", "gsplat.cuda"):
        package = types.ModuleType(name)
        package.__path__ = [str(folder.joinpath(*name.split(".")))]
        sys.modules[name] = package
    wrapper = types.ModuleType("gsplat.cuda._wrapper")
    wrapper.CameraModel, wrapper.RollingShutterType = str, enum.Enum("RollingShutterType", "GLOBAL")
    sys.modules[wrapper.__name__] = wrapper
    return importlib.import_module("gsplat.cuda._torch_impl")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gsplat", type=Path, help="root of a checkout of gsplat")
    theirs = load_reference(parser.parse_args().gsplat)
    settings, worst = RenderSettings(), {}
    for seed in range(8):
        degree = seed % 4
        gaussians = random_gaussians(seed, 4000, degree, size=(-5.0, 1.0), spread=2.0)
        tensors = (torch.tensor(getattr(gaussians, name), dtype=torch.float64) for name in gaussians.__slots__)
        means, quats, scales, opacities, sh = tensors
        pose = torch.tensor(look((0.3 * seed, -0.2, 0.1), yaw=0.2 * seed - 0.7, pitch=0.1, roll=0.05 * seed))
        ours = project(means, quats, scales, opacities, sh, pose, torch.tensor(INTRINSICS), WIDTH, HEIGHT, settings)
        fx, fy, cx, cy = INTRINSICS
        matrix = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]], dtype=torch.float64)
        axes = rotation_matrices(quats) * scales.exp()[:, None]
        _, mean, depth, conic, compensation = theirs._fully_fused_projection(
            means, axes @ axes.transpose(1, 2), pose[None], matrix[None], WIDTH, HEIGHT, calc_compensations=True
        )
        center = torch.linalg.inv(pose)[:3, 3]
        color = (theirs._spherical_harmonics(degree, means - center, sh) + 0.5).clamp_min(0.0)
        precision = torch.linalg.inv(ours.cov)
        pairs = {
            "centre [px]": (ours.mean, mean[0]),
            "depth [m]": (ours.z, depth[0]),
            "inverse covariance [1/px^2]": (torch.stack([precision[:, 0, 0], precision[:, 0, 1], precision[:, 1, 1]], 1), conic[0]),
            "compensated opacity": (ours.opacity, opacities.sigmoid() * compensation[0]),
            "colour": (ours.color, color),
        }
        for name, (a, b) in pairs.items():
            error = (a - b)[ours.drawn].abs() / b[ours.drawn].abs().clamp_min(1.0)
            worst[name] = max(worst.get(name, 0.0), float(error.max()))
    print("largest difference from gsplat's torch reference (float64, relative where the value is over 1), 8 x 4000 Gaussians")
    for name, value in worst.items():
        print(f"  {name:30s} {value:.1e}")
    if not max(worst.values()) < 1e-6 or not np.isfinite(list(worst.values())).all():
        raise SystemExit("the rules differ")


if __name__ == "__main__":
    main()
