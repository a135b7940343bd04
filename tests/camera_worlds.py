"""Worlds with scenes for tests of cameras, and a renderer that keeps what it was asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scenes import random_gaussians

from worldengine_envs.city.surfaces.models import MODELS
from worldengine_envs.envs.selection import MemoryPack
from worldengine_envs.rendering.frames import Frames, Images, RenderSettings
from worldengine_envs.rendering.gaussians import Gaussians
from worldengine_envs.rendering.scene import GaussianScene, Node
from worldengine_envs.scenario.types import Scenario


class Recorder:
    """Keeps all frames. Its images are black but for a dot where each part's origin is, in a colour by its node and part."""

    device = "cpu"

    def __init__(self, settings: RenderSettings | None = None):
        self.settings, self.parts, self.free, self.calls = settings, {}, [], []

    def add(self, gaussians: Gaussians) -> int:
        handle = self.free.pop() if self.free else len(self.parts)
        self.parts[handle] = gaussians
        return handle

    def remove(self, part: int) -> None:
        del self.parts[part]
        self.free.append(part)

    def render(self, frames: Frames, outputs=("rgb",)) -> Images:
        assert set(frames.part.tolist()) <= self.parts.keys()
        self.calls.append(Frames(*(np.copy(x) for x in frames[:8]), frames.height, frames.width))
        rgb = np.zeros((len(frames), frames.height, frames.width, 3), np.uint8)
        for f in range(len(frames)):
            for k in range(frames.offsets[f], frames.offsets[f + 1]):
                pixel = project(frames, f, frames.translation[k])
                if pixel is not None:
                    color = (100 + 7 * frames.node[k]) % 256, int(self.parts[frames.part[k]].sh[0, 0, 0] * 40) % 256, 1
                    rgb[f, int(pixel[1]), int(pixel[0])] = color
        return Images(rgb, None, None, None)


def project(frames: Frames, f: int, point: np.ndarray) -> tuple[float, float] | None:
    """Returns the pixel of a world point (3,) in frame ``f``, None where it is not seen."""
    x, y, z, _ = frames.world_to_camera[f] @ [*point, 1.0]
    fx, fy, cx, cy = frames.intrinsics[f]
    if z < 0.01:
        return None
    u, v = fx * x / z + cx, fy * y / z + cy
    return (u, v) if 0 <= u < frames.width and 0 <= v < frames.height else None


def instances(frames: Frames, f: int = 0) -> dict[int, dict[str, np.ndarray]]:
    """Returns what stands for each track's row in frame ``f``: part, rotation, scale and translation."""
    rows = range(frames.offsets[f], frames.offsets[f + 1])
    fields = ("part", "rotation", "scale", "translation")
    found = [(int(frames.node[k]), {name: getattr(frames, name)[k] for name in fields}) for k in rows]
    actors = [(node, what) for node, what in found if node >= 0]
    assert len({node for node, _ in actors}) == len(actors)
    return dict(actors)


def small_model(index: int, detail: float = 1.0) -> Node:
    """Stands in for ``city.gaussians.model_gaussians``: a few Gaussians inside the model's box; the row is in the first number."""
    size = MODELS[index].size
    rng = np.random.default_rng(index)
    gaussians = random_gaussians(rng, 12)
    means = (rng.uniform(-0.5, 0.5, (12, 3)) * size).astype(np.float32)
    sh = gaussians.sh.copy()
    sh[0, 0, 0] = index
    looks = {name: sh + np.float32(0.1 * i) for i, name in enumerate(("day", "dusk", "night"))}
    return Node(replace(gaussians, means=means, scales=gaussians.scales - 1.0, opacities=np.full(12, 3.0, np.float32)), looks, size)


def small_scene(kind: str = "dressed", actors: tuple[str, ...] = (), appearances=("day", "dusk", "night"), seed=0) -> GaussianScene:
    """A few hundred Gaussians along the road of ``factory``, and a node for each of these tokens."""
    rng = np.random.default_rng(seed)
    ground = random_gaussians(rng, 200)
    means = rng.uniform((-50, -20, -0.2), (150, 20, 0.2), (200, 3)).astype(np.float32)

    def looks(gaussians: Gaussians) -> dict[str, np.ndarray]:
        return {name: (gaussians.sh * np.float32(1.0 - 0.3 * i)) for i, name in enumerate(appearances)}

    ground = replace(ground, means=means, scales=ground.scales + 1.0)
    sky = random_gaussians(rng, 30, extent=500.0)
    nodes = {"background": Node(ground, looks(ground)), "sky": Node(sky, looks(sky))}
    for token in actors:
        car = random_gaussians(rng, 20, extent=1.0)
        nodes[token] = Node(car, looks(car), (4.0, 1.8, 1.5))
    return GaussianScene(f"{kind}_{seed}", kind, nodes, tuple(appearances))


def seen_pack(scenarios: list[Scenario], scene: GaussianScene | None = None) -> MemoryPack:
    """The scenarios in memory, all on one street with a scene."""
    scene = scene or small_scene()
    return MemoryPack([replace(scenario, gaussian_scene=scene.name) for scenario in scenarios], {scene.name: scene})
