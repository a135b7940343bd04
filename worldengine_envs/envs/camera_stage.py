"""Cameras in the worlds of a batch: the stage that each world is, and the images of whatever moment it is asked for.

Everybody stands where the world has them: what is drawn is what can be hit. The car whose cameras look is never drawn.
"""

from __future__ import annotations

import weakref

import numpy as np

from worldengine_envs.envs.assets import Assets, Scenery, shared_assets
from worldengine_envs.envs.camera_frames import NOTHING, FrameWriter, Moments, make_stage
from worldengine_envs.envs.camera_settings import CameraSettings, Optics
from worldengine_envs.errors import DataError
from worldengine_envs.rendering.cameras import find_rig
from worldengine_envs.rendering.frames import Frames, Images
from worldengine_envs.rendering.lenses import resample
from worldengine_envs.rendering.witnesses import OUTPUTS
from worldengine_envs.scenario.types import Scenario


class Cameras:
    """Draws the worlds of a batch.

    Args:
        settings: How.
        batch: ``WorldBatch`` or ``AgentBatch``; what its worlds hold is read, nothing is changed.
        on_device: Images stay on the device where they are drawn, as torch tensors, if that is not the CPU.
    """

    def __init__(self, settings: CameraSettings, batch, on_device: bool = False):
        self.settings, self.batch = settings, weakref.proxy(batch)  # the batch holds its cameras: both go at once
        self.assets = shared_assets(settings.renderer, settings.device)
        self.on_device = on_device and self.assets.renderer.device != "cpu"
        worlds, self.names = batch.num_worlds, settings.camera_names(batch.selection)
        self.stage = make_stage(worlds, 1, 0, len(self.names))
        self.borrowed = np.zeros(worlds, np.int64)  # agents without an asset of their own
        self.judged = np.zeros(worlds, np.bool_)  # the scene is a reconstruction that knows how well it was seen
        self._witnessed = [np.zeros(0, np.int32)] * worlds  # by row of the tracks, as in ``Cast``
        self._writer = FrameWriter()
        self._optics: list[Optics | None] = [None] * worlds
        self._known_optics: dict[tuple, Optics] = {}  # by the rig's content
        self.on_stage: list[Scenery | None] = [None] * worlds
        weakref.finalize(self, _leave_all, self.assets, self.on_stage)

    def set_stage(self, w: int) -> None:
        """Puts the scenario that world ``w`` is in on its stage.

        Raises:
            DataError: It has no scene, or not the cameras or the appearance that were asked for, or ``min_confidence`` has no use.
        """
        batch, settings, scenario = self.batch, self.settings, self.batch.scenario_of(w)
        optics = self._optics_of(scenario)
        scenery, cast = self.assets.take(batch.selection.pack, scenario, settings.scene_detail, settings.appearance)
        if settings.min_confidence > 0.0 and scenery.judge is None:
            self.assets.leave(scenery)
            problem = f"its scene is {scenery.kind} and knows nothing of confidence"
            remedy = "Leave min_confidence at 0, or drive in a reconstructed scene"
            raise DataError(problem, scenario=scenario.id, field="min_confidence", remedy=remedy)
        old, self.on_stage[w] = self.on_stage[w], scenery
        if old is not None:
            self.assets.leave(old)
        order = self.rows_of(w)
        self._make_room(len(order), len(cast.light_pose))
        stage, n, lights = self.stage, len(order), len(cast.light_pose)
        stage.scenery[w] = scenery.background, scenery.sky
        stage.part[w] = NOTHING
        stage.part[w, :n], stage.node[w, :n] = cast.part[order], order
        stage.part[w, 0] = NOTHING  # the own body
        stage.per_size[w, :n], stage.height[w, :n] = cast.per_size[order], cast.height[order]
        stage.light[w], stage.light_z[w] = cast.light, cast.light_z
        stage.light_pose[w], stage.light_pose[w, :lights] = np.nan, cast.light_pose
        stage.to_center[w] = batch.arguments[0].scenarios[batch.worlds.scenario[w]]["rear_axle_to_center"]
        stage.ego_to_camera[w], stage.intrinsics[w], self._optics[w] = optics.ego_to_camera, optics.intrinsics, optics
        self.borrowed[w] = int(cast.borrowed[order[1:]].sum())
        self.judged[w], self._witnessed[w] = scenery.judge is not None, cast.witnessed

    def draw(self, source: np.ndarray, worlds: np.ndarray, moments: Moments, confidence: np.ndarray | None = None):
        """Returns (n, cameras, H, W, 3) uint8: rows ``source`` (n,) of the moments on the stages of ``worlds`` (n,).

        ``confidence`` (n,), if given, gets the mean confidence of the images of each draw, 0 where the scene does not know.
        """
        optics = [self._optics[w] for w in worlds.tolist()]
        sizes = {one.size for one in optics}
        if len(sizes) == 1:
            return self._draw_alike(source, worlds, moments, optics, confidence)
        images = self.room((len(source), len(self.names), *self.settings.image_size, 3))
        for size in sizes:  # rigs whose lenses need pinhole images of another size
            rows = np.array([i for i, one in enumerate(optics) if one.size == size])
            lights = {name: getattr(moments, name)[rows] for name in ("light_row", "light_count")}
            mine = None if confidence is None else np.zeros(len(rows))
            images[rows] = self._draw_alike(source[rows], worlds[rows], moments._replace(**lights), [optics[i] for i in rows], mine)
            if confidence is not None:
                confidence[rows] = mine
        return images

    def _draw_alike(self, source: np.ndarray, worlds: np.ndarray, moments: Moments, optics: list[Optics], confidence):
        """As ``draw``, of worlds whose pinhole images have the same size."""
        bent = any(one.maps is not None for one in optics)
        judges = confidence is not None and self.judged[worlds].any()
        with self.assets.lock:
            frames = self._writer.write(source, worlds, moments, self.stage, *optics[0].size)
            seen = self.assets.renderer.render(frames, ("rgb", *OUTPUTS) if judges else ("rgb",))
        if judges:
            confidence[:] = self._judge(frames, seen, worlds)
        drawn = seen.rgb
        if not isinstance(drawn, np.ndarray) and (bent or not self.on_device):
            drawn = drawn.cpu().numpy()
        drawn = drawn.reshape(len(source), len(self.names), *optics[0].size, 3)
        if not bent:
            return drawn
        images = np.empty((len(source), len(self.names), *self.settings.image_size, 3), np.uint8)
        for i, one in enumerate(optics):
            images[i] = drawn[i] if one.maps is None else resample(drawn[i], one.maps)
        return self._handed_on(images)

    def _judge(self, frames: Frames, images: Images, worlds: np.ndarray) -> np.ndarray:
        """Returns (n,) the mean confidence of the frames of each draw."""
        from worldengine_envs.rendering.confidence import judge_frames

        shown = np.repeat(worlds, len(self.names)).tolist()
        judges = [self.on_stage[w].judge for w in shown]
        confidence = judge_frames(frames, images, judges, [self._witnessed[w] for w in shown])
        return confidence.reshape(len(worlds), len(self.names)).mean(axis=1, dtype=np.float64)

    def room(self, shape: tuple[int, ...]):
        """Returns zeros for images, where they are kept."""
        if not self.on_device:
            return np.zeros(shape, np.uint8)
        import torch

        return torch.zeros(shape, dtype=torch.uint8, device=self.assets.renderer.device)

    def _handed_on(self, images: np.ndarray):
        """Returns images that were resampled on the host, on the device if they belong there."""
        return self.room((0,)).new_tensor(images) if self.on_device else images

    def row_of(self, w: int) -> int:
        """Returns the row in the scenario's tracks of the agent that world ``w`` is seen from."""
        tasks = getattr(self.batch, "tasks", None)
        return 0 if tasks is None else int(tasks.rows[w])

    def rows_of(self, w: int) -> np.ndarray:
        """Returns (agents,) rows in the scenario's tracks of world ``w``'s agents: the own one and the ego have changed places."""
        rows, own = np.arange(len(self.batch.scenario_of(w).tracks)), self.row_of(w)
        rows[0], rows[own] = own, 0
        return rows

    def _optics_of(self, scenario: Scenario) -> Optics:
        """Returns what is drawn for the cameras of a scenario; recordings with the same rig share it."""
        try:
            rig = find_rig(self.settings.cameras, scenario.camera_rig)
            key = (rig.names, *(array.tobytes() for array in (rig.camera_to_ego, rig.intrinsics, rig.distortion, rig.image_size)))
            if key not in self._known_optics:
                self._known_optics[key] = self.settings.optics(rig)
        except DataError as error:
            raise DataError(error.problem, scenario=scenario.id, field=error.field, remedy=error.remedy) from None
        if rig.names != self.names:
            problem = f"its cameras are {', '.join(rig.names)}, not {', '.join(self.names)}"
            raise DataError(problem, scenario=scenario.id, field="cameras", remedy="Name cameras that all scenarios have")
        return self._known_optics[key]

    def _make_room(self, agents: int, lights: int) -> None:
        worlds, a, b = *self.stage.part.shape, self.stage.light_pose.shape[1]
        if agents > a or lights > b:
            old, self.stage = self.stage, make_stage(worlds, max(agents, a), max(lights, b), len(self.names))
            for mine, theirs in zip(self.stage, old, strict=True):
                mine[tuple(slice(0, n) for n in theirs.shape)] = theirs


def _leave_all(assets: Assets, on_stage: list[Scenery | None]) -> None:
    for scenery in on_stage:
        if scenery is not None:
            assets.leave(scenery)
