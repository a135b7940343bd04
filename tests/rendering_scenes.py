"""Sets of Gaussians and cameras for tests of rasterisers."""

from __future__ import annotations

import numpy as np
import torch

from worldengine_envs.city import make_scenario
from worldengine_envs.city.gaussians import make_scene
from worldengine_envs.rendering.cameras import find_rig, intrinsics_of, scaled_rig, world_to_camera
from worldengine_envs.rendering.cpu.blending_backward import find_rows
from worldengine_envs.rendering.cpu.rasteriser import Rasteriser, make_canvas, make_view, place
from worldengine_envs.rendering.cpu.stages import DEPTH
from worldengine_envs.rendering.cpu.store import pack
from worldengine_envs.rendering.frames import RenderSettings
from worldengine_envs.rendering.gaussians import Gaussians

WIDTH, HEIGHT = 52, 38  # neither a multiple of a tile
INTRINSICS = np.array([44.0, 47.0, 25.0, 20.5])


def look(position=(0.0, 0.0, 0.0), yaw=0.0, pitch=0.0, roll=0.0) -> np.ndarray:
    """Returns (4, 4) world to camera of a camera that stands at a position; without turns it looks along the world's z, y down."""
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (yaw, pitch, roll))
    turn = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    turn = turn @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, -turn @ np.asarray(position, float)
    return pose


def random_gaussians(seed: int, n: int, degree: int, *, size=(-2.5, -0.7), depth=(0.5, 12.0), spread=1.2) -> Gaussians:
    """Returns Gaussians of many shapes in front of ``look()``, some beside and behind it."""
    random = np.random.default_rng(seed)
    z = random.uniform(*depth, n)
    z[: n // 10] *= -1.0  # behind
    means = np.stack([random.uniform(-spread, spread, n) * z, random.uniform(-spread, spread, n) * z, z], 1)
    sh = 0.25 * random.normal(size=(n, (degree + 1) ** 2, 3))
    sh[:, 0] += 0.7 * random.normal(size=(n, 3))
    arrays = (
        means,
        random.normal(size=(n, 4)) * random.uniform(0.2, 3.0, (n, 1)),
        random.uniform(*size, (n, 3)),
        random.normal(0.5, 1.5, n),
        sh,
    )
    return Gaussians(*(array.astype(np.float32) for array in arrays))


def tensors(gaussians: Gaussians, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Returns the parameters as torch tensors of their own memory: means, quats, scales, opacities, sh."""
    return [torch.tensor(array, dtype=dtype) for array in astuple(gaussians)]


def city_view(family: str, size: tuple[int, int], detail: float) -> tuple[Gaussians, np.ndarray, np.ndarray]:
    """Returns the Gaussians of a street that are in view at the start of a scenario, world to camera, and intrinsics."""
    scenario = make_scenario(family, 0)
    nodes = [node.look("dusk") for node in make_scene(scenario, detail).nodes.values()]
    rig = scaled_rig(find_rig("front"), size)
    pose, lens = world_to_camera(rig, *scenario.tracks.state[0, scenario.start_step, :3])[0], intrinsics_of(rig)[0]
    gaussians = Gaussians(*(np.concatenate(arrays) for arrays in zip(*(astuple(node) for node in nodes), strict=True)))
    seen = np.isfinite(drawn_depths(gaussians, pose, lens, size))
    return Gaussians(*(array[seen] for array in astuple(gaussians))), pose, lens


def astuple(gaussians: Gaussians) -> tuple[np.ndarray, ...]:
    return gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.sh


def drawn_depths(gaussians: Gaussians, pose, lens, size: tuple[int, int]) -> np.ndarray:
    """Returns (N,) depths as the CPU rasteriser has them [m], inf for what it does not draw."""
    rasteriser, rows = Rasteriser(), np.empty(len(gaussians), np.int32)
    part, one = pack(gaussians, in_order=True), np.ones((1, 3))
    placed = place([part], np.eye(3)[None], one, 0 * one, np.zeros(1, np.int32), pose)
    rasteriser.draw(placed, make_view(RenderSettings(), lens, *size), make_canvas(*size, ("alpha",)))
    find_rows(rasteriser.splats, rows)
    return np.where(rows < 0, np.inf, rasteriser.splats.records[rows, DEPTH])
