"""The keyword arguments that all environments share, checked once."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from gymnasium import spaces

from worldengine_envs.envs.actions import ACTION_KINDS, DECISION_PERIOD_S, action_space
from worldengine_envs.envs.anchors import load_vocabulary
from worldengine_envs.envs.batch import WorldBatch
from worldengine_envs.envs.camera_settings import HISTORY_PERIOD_S, IMAGE_SIZE, CameraSettings
from worldengine_envs.envs.observations import SHAPES, state_space
from worldengine_envs.envs.selection import Selection, select
from worldengine_envs.errors import DataError
from worldengine_envs.rendering.renderer import RENDERERS
from worldengine_envs.scenario.recipes import SCENE_DETAIL
from worldengine_envs.scenario.types import STEP_S

if TYPE_CHECKING:
    from worldengine_envs.envs.pictures import Photographer

RENDER_MODES = (None, "rgb_array")
OBSERVATIONS = ("state", "camera", "camera+state")
CAMERA_KEYS = ("ego", "route")  # of the state that a camera observation has too
CAMERA_ARGUMENTS = ("cameras", "image_size", "renderer", "device", "appearance", "image_history", "scene_detail", "min_confidence")
MAX_SIDE, MAX_HISTORY = 4096, 16


@dataclass(frozen=True)
class EnvironmentSettings:
    """Which scenarios are driven, and how.

    Args:
        pack: Name or folder of a pack, an open ``Pack``, or scenarios in memory.
        scenario: Id or ids to choose from; None = all of the pack.
        split: Only scenarios of this split.
        tags: Only scenarios that carry all of these (or this one).
        observation: "state" (arrays), "camera" (images, own motion and route) or "camera+state".
        action: "control", "trajectory" or "anchor".
        traffic: "log", "idm", or a mapping from track token to one of them ("*" = all others).
        decision_period_s: Time between decisions [s], a multiple of 0.1; None = 0.1 for `control`, 0.5 for the others.
        horizon_s: Length of an episode [s].
        tracker: "lqr" (with the kinematic bicycle) or "perfect" (plans are followed exactly).
        anchors: Vocabulary of `anchor`: an .npy file or poses (n, K, 3); None = the one that ships.
        render_mode: None or "rgb_array".
        cameras: Name of a rig ("front", "front3", "surround8"; "log" = the one of the scenario's log) or names of cameras; None =
            "front". With observation="state" it says what pictures of render_mode="rgb_array" show beside the bird's eye.
        image_size: Height and width of the images [px]; None = (72, 128).
        renderer, device: See ``rendering.renderer.make_renderer``. A vector environment that is given a CUDA device leaves images
            there, as torch tensors; without one it gives numpy arrays, wherever they are drawn.
        appearance: "day", "dusk", "night" or another one of the scene; None = the scenario's own.
        image_history: How many images, 0.5 s apart, are stacked along the channels, oldest first.
        scene_detail: Density of Gaussians in sampled scenes, 1 = for images of 320x180.
        min_confidence: An episode is truncated when the confidence of what its cameras show falls below this; 0 = never. Only
            with camera observations of reconstructed scenes: how well a frame was observed is known of these alone.

    Raises:
        DataError: An argument is not what it has to be.
    """

    pack: object
    scenario: str | Iterable[str] | None = None
    split: str | None = None
    tags: str | Iterable[str] | None = None
    observation: str = "state"
    action: str = "control"
    traffic: str | Mapping[str, str] = "log"
    decision_period_s: float | None = None
    horizon_s: float = 4.0
    tracker: str = "lqr"
    anchors: str | os.PathLike | np.ndarray | None = None
    render_mode: str | None = None
    cameras: str | Iterable[str] | None = None
    image_size: tuple[int, int] | None = None
    renderer: str = "auto"
    device: str | None = None
    appearance: str | None = None
    image_history: int = 1
    scene_detail: float = 1.0
    min_confidence: float = 0.0

    def __post_init__(self):
        self._check_observation()
        self._check_traffic()
        _choice("action", self.action, tuple(ACTION_KINDS))
        _choice("tracker", self.tracker, ("lqr", "perfect"))
        _choice("render_mode", self.render_mode, RENDER_MODES)
        for name, seconds in (("horizon_s", self.horizon_s), ("decision_period_s", self.decision_period_s)):
            if seconds is None:
                continue
            steps = seconds / STEP_S if math.isfinite(seconds) else 0.0
            if steps < 1 - 1e-8 or abs(steps - round(steps)) > 1e-6:
                raise DataError(f"{seconds!r} is not a positive multiple of {STEP_S} s", field=name)
        if self.action != "control" and self.substeps * STEP_S > 4.0:
            raise DataError(f"{self.decision_period_s} s is longer than a plan of 4 s", field="decision_period_s")
        self._check_history()

    def _check_observation(self) -> None:
        _choice("observation", self.observation, OBSERVATIONS)
        _choice("renderer", self.renderer, RENDERERS)
        for name in CAMERA_ARGUMENTS:
            if not self.has_cameras and getattr(self, name) != getattr(EnvironmentSettings, name):
                remedy = 'Use observation="camera", or render_mode="rgb_array" with cameras for pictures'
                raise DataError('there are no cameras with observation="state"', field=name, remedy=remedy)
        if self.image_size is not None:
            sides = tuple(self.image_size) if isinstance(self.image_size, tuple | list) else ()
            if len(sides) != 2 or not all(isinstance(n, int | np.integer) and 1 <= n <= MAX_SIDE for n in sides):
                raise DataError(f"{self.image_size!r} is not a height and a width in 1..{MAX_SIDE}", field="image_size")
        if not (isinstance(self.image_history, int) and 1 <= self.image_history <= MAX_HISTORY):
            raise DataError(f"{self.image_history!r} is not in 1..{MAX_HISTORY}", field="image_history")
        if not 0.0 <= self.min_confidence <= 1.0:
            raise DataError(f"{self.min_confidence!r} is not in [0, 1]", field="min_confidence")
        if self.min_confidence > 0.0 and self.observation == "state":
            raise DataError("nothing is seen", field="min_confidence", remedy='Use observation="camera"')
        least, most = SCENE_DETAIL
        if not least <= self.scene_detail <= most:
            raise DataError(f"{self.scene_detail!r} is not in [{least:g}, {most:g}]", field="scene_detail")

    def _check_history(self) -> None:
        if self.image_history > 1 and round(HISTORY_PERIOD_S / STEP_S) % self.substeps:
            problem = f"images {HISTORY_PERIOD_S} s apart do not fit decisions every {self.substeps * STEP_S:g} s"
            raise DataError(problem, field="image_history", remedy="Use image_history=1 or another decision_period_s")

    def _check_traffic(self) -> None:
        modes = [self.traffic] if isinstance(self.traffic, str) else list(self.traffic.values())
        if "behavior" in modes:
            raise DataError(
                "no behaviour model is available: this version has none to drive agents with",
                field="traffic",
                remedy='Use traffic="log" or "idm", or a mapping by track token',
            )
        for mode in modes:
            _choice("traffic", mode, ("log", "idm"))

    @property
    def has_cameras(self) -> bool:
        """Whether anything is drawn from Gaussians."""
        return self.observation != "state" or (self.render_mode is not None and self.cameras is not None)

    @property
    def state_keys(self) -> tuple[str, ...]:
        """Names of the arrays that are observed beside images."""
        return CAMERA_KEYS if self.observation == "camera" else tuple(SHAPES)

    @property
    def camera_settings(self) -> CameraSettings:
        """How worlds are seen."""
        cameras = "front" if self.cameras is None else self.cameras
        return CameraSettings(
            cameras if isinstance(cameras, str) else tuple(cameras),
            IMAGE_SIZE if self.image_size is None else tuple(int(n) for n in self.image_size),
            self.renderer,
            self.device,
            self.appearance,
            self.image_history,
            self.scene_detail,
            self.min_confidence,
        )

    @property
    def substeps(self) -> int:
        """Steps of 0.1 s between decisions."""
        period = DECISION_PERIOD_S[self.action] if self.decision_period_s is None else self.decision_period_s
        return round(period / STEP_S)

    def selection(self) -> Selection:
        """Returns the scenarios to draw from.

        Raises:
            DataError: There are none, or cameras are asked for and one of them has no scene.
        """
        selection = select(self.pack, self.scenario, self.split, self.tags, self.horizon_s)
        if self.has_cameras:
            from worldengine_envs.envs.scenes import check_scenes

            check_scenes(selection)
        return selection

    def make_batch(self, num_worlds: int, kind: type[WorldBatch] = WorldBatch, on_device: bool = False) -> WorldBatch:
        """Returns worlds that run under these settings, as ``WorldBatch`` or a kind of it.

        Args:
            num_worlds: How many.
            kind: The class.
            on_device: Images may stay where ``device`` says; they are copied to the host otherwise.
        """
        vocabulary = load_vocabulary(self.anchors) if self.action == "anchor" else None
        batch = kind(
            self.selection(),
            num_worlds,
            self.horizon_s,
            self.traffic,
            ACTION_KINDS[self.action],
            self.substeps,
            self.tracker == "perfect",
            vocabulary,
        )
        batch.keys = self.state_keys
        if self.observation != "state":
            batch.see(self.camera_settings, on_device and self.device is not None)
        return batch

    def photographer(self, batch: WorldBatch) -> Photographer:
        """Returns who draws pictures of these worlds: from above, and beside that what cameras see, where there are cameras."""
        from worldengine_envs.envs.pictures import Photographer

        return Photographer(batch, self.camera_settings if self.has_cameras else None)

    def observation_space(self, batch: WorldBatch) -> spaces.Dict:
        """Returns the space of one world's observations."""
        state = state_space().spaces
        images = {} if batch.cameras is None else batch.cameras.spaces
        return spaces.Dict(images | {name: state[name] for name in batch.keys})

    def single_action_space(self, batch: WorldBatch):
        """Returns the space of one world's action."""
        return action_space(self.action, len(batch.decisions.vocabulary))


def _choice(name: str, value, options: tuple) -> None:
    if value not in options:
        raise DataError(f"{value!r} is not one of {', '.join(map(repr, options))}", field=name)
