"""How true a scene of a city street looks: as environments draw it, against the ray caster, on the path and beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from worldengine_envs.city.camera_log import ego_to_world
from worldengine_envs.city.sensors import SurfaceCaster
from worldengine_envs.envs.assets import shared_assets
from worldengine_envs.envs.camera_frames import NOTHING, FrameWriter, Moments, make_stage
from worldengine_envs.envs.selection import MemoryPack
from worldengine_envs.rendering.cameras import intrinsics_of, rigid_inverse
from worldengine_envs.rendering.scene import GaussianScene
from worldengine_envs.scenario.types import CameraRig, Scenario

BESIDE_M = 2.0
RENDERER = "cpu"  # verdicts are the same on every machine


class StreetJudge:
    """Views of one scenario of the city, and what the ray caster shows in them.

    Args:
        scenario: Of the city; its logged ego carries the cameras.
        rig: Cameras without distortion, with images of one size.
        steps: Of the recording, at which the cameras look; on the path, and beside it to the left and to the right by turns.
    """

    def __init__(self, scenario: Scenario, rig: CameraRig, steps: Sequence[int]):
        self.scenario, self.rig, self.steps = scenario, rig, tuple(steps)
        self.beside = np.repeat([False, True], len(self.steps))  # (views,) of each camera
        self.shift = np.concatenate((np.zeros(len(self.steps)), np.resize([BESIDE_M, -BESIDE_M], len(self.steps))))
        caster, size, truth = SurfaceCaster(scenario), rig.image_size[0].tolist(), []
        for step, shift in zip(self.steps * 2, self.shift, strict=True):
            ego, moment = ego_to_world(scenario, step), caster.logged(step)
            ego[:2, 3] += shift * ego[:2, 1]
            truth += [
                caster.camera(moment, ego @ pose, lens, *size).rgb
                for pose, lens in zip(rig.camera_to_ego, intrinsics_of(rig), strict=True)
            ]
        self.truth = np.stack(truth).reshape(len(self.shift), len(rig.names), *size, 3)

    def psnr(self, pack, scenario_id: str) -> tuple[float, float]:
        """Returns the mean PSNR [dB] of views on the path and beside it, drawn as environments on a pack draw the scenario."""
        drawn = self.draw(pack, scenario_id).astype(np.float64)
        errors = ((drawn - self.truth) ** 2).mean(axis=(2, 3, 4)) / 255.0**2
        levels = -10.0 * np.log10(np.maximum(errors, 1e-10))
        return float(levels[~self.beside].mean()), float(levels[self.beside].mean())

    def draw(self, pack, scenario_id: str) -> np.ndarray:
        """Returns (views, cameras, H, W, 3) uint8."""
        scenario, assets = pack.load(scenario_id), shared_assets(RENDERER, None)
        tracks, lights = scenario.tracks, scenario.lights
        scenery, cast = assets.take(pack, scenario)
        stage = make_stage(1, len(tracks), len(cast.light_pose), len(self.rig.names))
        stage.scenery[0] = scenery.background, scenery.sky
        stage.part[0], stage.node[0] = cast.part, np.arange(len(tracks))
        stage.part[0, 0] = NOTHING  # the own body
        stage.per_size[0], stage.height[0] = cast.per_size, cast.height
        stage.light[0], stage.light_z[0], stage.light_pose[0] = cast.light, cast.light_z, cast.light_pose
        stage.to_center[0] = scenario.ego.rear_axle_to_center
        stage.ego_to_camera[0], stage.intrinsics[0] = rigid_inverse(self.rig.camera_to_ego), intrinsics_of(self.rig)
        steps, count = np.array(self.steps * 2), len(cast.light_pose)
        agents = tracks.state[:, steps, :3].transpose(1, 0, 2).astype(np.float64)
        left = np.stack((-np.sin(agents[:, 0, 2]), np.cos(agents[:, 0, 2])), axis=1)
        agents[:, 0, :2] += self.shift[:, None] * left
        size = np.ascontiguousarray(tracks.size[:, steps, :2].transpose(1, 0, 2), np.float64)
        states = np.ascontiguousarray(lights.state[:count, steps].T).reshape(-1).astype(np.int8)
        n = len(steps)
        rows, counts = np.arange(n) * count, np.full(n, count)
        moments = Moments(agents, size, np.ascontiguousarray(tracks.valid[:, steps].T), states, rows, counts)
        frames = FrameWriter().write(np.arange(n), np.zeros(n, np.int64), moments, stage, *self.rig.image_size[0].tolist())
        with assets.lock:
            rgb = np.asarray(assets.renderer.render(frames).rgb)
        assets.leave(scenery)
        return rgb.reshape(self.truth.shape)


def memory_pack(scenario: Scenario, scene: GaussianScene, name: str) -> MemoryPack:
    """Returns a pack of one scenario, seen through a scene, with the scenario under its own id."""
    return MemoryPack([replace(scenario, gaussian_scene=name)], {name: scene})
