"""Images of the worlds of a batch, drawn together and kept in arrays that are used again.

Everybody stands where the world has them: what is drawn is what can be hit. The car whose cameras look is never drawn.
"""

from __future__ import annotations

import weakref

import numpy as np

from worldengine_envs.envs.assets import Assets, Scenery, shared_assets
from worldengine_envs.envs.camera_frames import NOTHING, FrameWriter, Moments, make_stage
from worldengine_envs.envs.camera_settings import HISTORY_PERIOD_S, CameraSettings, Optics
from worldengine_envs.errors import DataError
from worldengine_envs.rendering.lenses import resample
from worldengine_envs.scenario.types import STEP_S, Scenario
from worldengine_envs.simulation.recordings import compile_log


class CameraObserver:
    """Sees the worlds of a batch.

    Args:
        settings: How.
        batch: ``WorldBatch`` or ``AgentBatch``; what its worlds hold is read, nothing is changed.
        on_device: Images stay on the device where they are drawn, as torch tensors, if that is not the CPU.
        assets: Renderer and parts; None = those that all environments with the same settings share.
    """

    def __init__(self, settings: CameraSettings, batch, on_device: bool = False, assets: Assets | None = None):
        self.settings, self.batch = settings, batch
        self.assets = assets or shared_assets(settings.renderer, settings.device)
        self.on_device = on_device and self.assets.renderer.device != "cpu"
        worlds, self.names = batch.num_worlds, settings.camera_names(batch.selection)
        self.stage = make_stage(worlds, 1, 0, len(self.names))
        self.spaces = settings.spaces(self.names)
        self.borrowed = np.zeros(worlds, np.int64)  # agents without an asset of their own
        self._every = round(HISTORY_PERIOD_S / STEP_S / batch.decisions.substeps)
        self._depth = (settings.image_history - 1) * self._every  # earlier decisions that are kept
        history, kept = settings.image_history, 1 + self._depth if self._depth else 0
        # (W, H, W', 3 * history) by camera, oldest first
        self.images = {name: self._room((worlds, *settings.image_size, 3 * history)) for name in self.names}
        self._ring = {name: self._room((worlds, kept, *settings.image_size, 3)) for name in self.names}
        self._writer = FrameWriter()
        self._optics: list[Optics | None] = [None] * worlds
        self._known_optics: dict[int, Optics] = {}  # by id() of the log's rig, which they keep
        self.on_stage: list[Scenery | None] = [None] * worlds
        weakref.finalize(self, _leave_all, self.assets, self.on_stage)

    def _room(self, shape: tuple[int, ...]):
        if not self.on_device:
            return np.zeros(shape, np.uint8)
        import torch

        return torch.zeros(shape, dtype=torch.uint8, device=self.assets.renderer.device)

    def begin(self, worlds: np.ndarray) -> None:
        """Sets the stage of worlds (n,) that were just reset, and draws what their logs have seen before.

        Raises:
            DataError: A scenario has no scene, or not the cameras or the appearance that were asked for.
        """
        for w in worlds.tolist():
            self._set_stage(w)
        if self._depth:
            self._look_back(worlds)

    def look(self, worlds: np.ndarray) -> None:
        """Draws worlds (n,) as they are now into ``images``, and keeps what was there as their past."""
        if not len(worlds):
            return
        batch = self.batch
        bank, state = batch.arguments[0], batch.worlds
        scenario = bank.scenarios[state.scenario[worlds]]
        lights = scenario["num_lights"].astype(np.int64)
        first = scenario["light_start"] + state.step[worlds] * lights
        moments = Moments(state.agents, state.agent_size, state.present, bank.light_state, first, lights)
        self._keep(worlds, self.draw(worlds, worlds, moments))

    def draw(self, source: np.ndarray, worlds: np.ndarray, moments: Moments):
        """Returns (n, cameras, H, W, 3) uint8: rows ``source`` (n,) of the moments on the stages of ``worlds`` (n,)."""
        optics = [self._optics[w] for w in worlds.tolist()]
        sizes = {one.size for one in optics}
        if len(sizes) == 1:
            return self._draw_alike(source, worlds, moments, optics)
        images = self._room((len(source), len(self.names), *self.settings.image_size, 3))
        for size in sizes:  # rigs whose lenses need pinhole images of another size
            rows = np.array([i for i, one in enumerate(optics) if one.size == size])
            lights = {name: getattr(moments, name)[rows] for name in ("light_row", "light_count")}
            images[rows] = self._draw_alike(source[rows], worlds[rows], moments._replace(**lights), [optics[i] for i in rows])
        return images

    def _draw_alike(self, source: np.ndarray, worlds: np.ndarray, moments: Moments, optics: list[Optics]):
        """As ``draw``, of worlds whose pinhole images have the same size."""
        bent = any(one.maps is not None for one in optics)
        with self.assets.lock:
            frames = self._writer.write(source, worlds, moments, self.stage, *optics[0].size)
            drawn = self.assets.renderer.render(frames).rgb
        if not isinstance(drawn, np.ndarray) and (bent or not self.on_device):
            drawn = drawn.cpu().numpy()
        drawn = drawn.reshape(len(source), len(self.names), *optics[0].size, 3)
        if not bent:
            return drawn
        images = np.empty((len(source), len(self.names), *self.settings.image_size, 3), np.uint8)
        for i, one in enumerate(optics):
            images[i] = drawn[i] if one.maps is None else resample(drawn[i], one.maps)
        return self._handed_on(images)

    def _handed_on(self, images: np.ndarray):
        """Returns images that were resampled on the host, on the device if they belong there."""
        return self._room((0,)).new_tensor(images) if self.on_device else images

    def _keep(self, worlds: np.ndarray, drawn) -> None:
        """Puts drawn images (n, cameras, H, W, 3) at the end of the history of worlds (n,) and writes what is observed."""
        for c, name in enumerate(self.names):
            images, ring = self.images[name], self._ring[name]
            if not self._depth:
                images[worlds] = drawn[:, c]
                continue
            ring[worlds, :-1] = ring[worlds, 1:]
            ring[worlds, -1] = drawn[:, c]
            for j in range(self.settings.image_history):
                images[worlds, :, :, 3 * j : 3 * j + 3] = ring[worlds, j * self._every]

    def _look_back(self, worlds: np.ndarray) -> None:
        """Fills the past of worlds (n,) with what the log's cameras saw at the decisions before the start.

        Where the log begins later, its first step stands for those before.
        """
        every = self.batch.decisions.substeps
        for w in worlds.tolist():
            scenario = self.batch.scenario_of(w)
            log, valid = compile_log(scenario.tracks)
            row = self.row_of(w)
            first = int(valid[:, row].argmax())
            back = scenario.start_step - every * np.arange(self._depth, 0, -1)
            steps = np.maximum(back, min(first, scenario.start_step))
            order = self.rows_of(w)
            lights = len(scenario.lights.lanes)
            state = np.ascontiguousarray(scenario.lights.state.T)
            moments = Moments(
                np.ascontiguousarray(log[steps][:, order]),
                np.ascontiguousarray(log[steps][:, order, 8:10]),
                np.ascontiguousarray(valid[steps][:, order]),
                state.reshape(-1) if lights else np.zeros(1, np.int8),
                lights * steps.astype(np.int64),
                np.full(len(steps), lights, np.int64),
            )
            drawn = self.draw(np.arange(len(steps)), np.full(len(steps), w), moments)
            for c, name in enumerate(self.names):
                self._ring[name][w, 1:] = drawn[:, c]  # the next look moves them on

    def row_of(self, w: int) -> int:
        """Returns the row in the scenario's tracks of the agent that world ``w`` is seen from."""
        tasks = getattr(self.batch, "tasks", None)
        return 0 if tasks is None else int(tasks.rows[w])

    def rows_of(self, w: int) -> np.ndarray:
        """Returns (agents,) rows in the scenario's tracks of world ``w``'s agents: the own one and the ego have changed places."""
        rows, own = np.arange(len(self.batch.scenario_of(w).tracks)), self.row_of(w)
        rows[0], rows[own] = own, 0
        return rows

    def _set_stage(self, w: int) -> None:
        """Puts the scenario of world ``w`` on its stage."""
        batch, settings, scenario = self.batch, self.settings, self.batch.scenario_of(w)
        optics = self._optics_of(scenario)
        scenery, cast = self.assets.take(batch.selection.pack, scenario, settings.scene_detail, settings.appearance)
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

    def _optics_of(self, scenario: Scenario) -> Optics:
        """Returns what is drawn for the cameras of a scenario; those of one recording share it."""
        log = scenario.camera_rig
        known = self._known_optics.get(id(log))
        if known is None:
            try:
                known = self.settings.optics(log)
            except DataError as error:
                raise DataError(error.problem, scenario=scenario.id, field=error.field, remedy=error.remedy) from None
            if known.names != self.names:
                problem = f"its cameras are {', '.join(known.names)}, not {', '.join(self.names)}"
                raise DataError(problem, scenario=scenario.id, field="cameras", remedy="Name cameras that all scenarios have")
            self._known_optics[id(log)] = known
        return known

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
