"""What the ray caster shows of a city street where a reconstruction is judged: held-out views, views beside them, changed actors.

Not a benchmark itself: ``reconstruction_city.py`` and ``reconstruction_traversals.py`` use it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from worldengine_envs.city.camera_log import ego_to_world
from worldengine_envs.city.sensors import Moment, SurfaceCaster
from worldengine_envs.rendering.cameras import intrinsics_of, rigid_inverse
from worldengine_envs.rendering.confidence import Judge, judge_frames
from worldengine_envs.rendering.frames import EVERYWHERE, Frames, Renderer
from worldengine_envs.rendering.scene import BACKGROUND, SKY, GaussianScene
from worldengine_envs.rendering.witnesses import UNKNOWN
from worldengine_envs.scenario.types import CameraRig, Scenario

VISIBLE_PX = 200  # an actor with so many pixels in a picture is judged
PADDING_PX, PADDING = 4, 0.15  # around the pixels of an actor where it was and where it is, and their share of its height and width
MOVED_M, TURNED_DEG = 2.0, 20.0
EDITS = ("as_it_was", "moved", "turned", "removed")
FARTHEST_M = 80.0  # depth beyond is not judged


class Shot(NamedTuple):
    """One picture that is judged."""

    kind: str  # "path", "beside_1", "beside_2", "beside_3", or one of EDITS
    step: int
    camera: int
    shift: float = 0.0  # of the ego to the left [m]
    track: int = EVERYWHERE  # row of the actor that is changed
    side: float = 1.0  # to which it is moved: 1 = its left
    window: tuple[int, int, int, int] | None = None  # first and last row, first and last column that are judged; None = all


class Truth:
    """Shots of one scenario and what the ray caster shows in them.

    Args:
        scenario: Of the city.
        rig: Cameras, with images of one size.
        caster: Of the scenario; None = its own street in its own light.
    """

    def __init__(self, scenario: Scenario, rig: CameraRig, caster: SurfaceCaster | None = None):
        self.scenario, self.rig = scenario, rig
        self.caster = SurfaceCaster(scenario) if caster is None else caster
        self.intrinsics = intrinsics_of(rig)
        self.size = tuple(int(side) for side in rig.image_size[0])

    def moment(self, shot: Shot) -> Moment:
        """Returns where everything is in a shot."""
        moment = self.caster.logged(shot.step)
        if shot.track == EVERYWHERE or shot.kind == "as_it_was":
            return moment
        boxes, present = moment.boxes.copy(), moment.present.copy()
        if shot.kind == "moved":
            boxes[shot.track, :2] += shot.side * MOVED_M * left_of(boxes[shot.track, 2])
        elif shot.kind == "turned":
            boxes[shot.track, 2] += np.radians(TURNED_DEG)
        else:
            present[shot.track] = False
        return moment._replace(boxes=boxes, present=present)

    def pose(self, shot: Shot) -> np.ndarray:
        """Returns (4, 4) camera to world."""
        ego = ego_to_world(self.scenario, shot.step)
        ego[:2, 3] += shot.shift * ego[:2, 1]
        return ego @ self.rig.camera_to_ego[shot.camera]

    def cast(self, shot: Shot):
        """Returns the ``CameraView`` of a shot."""
        return self.caster.camera(self.moment(shot), self.pose(shot), self.intrinsics[shot.camera], *self.size)

    def views(self, steps, cameras=None, shifts=(0.0, 1.0, 2.0, 3.0)) -> list[Shot]:
        """Returns views from the path and beside it, left and right by turns of the steps."""
        shots = []
        for shift in shifts:
            kind = f"beside_{shift:.0f}" if shift else "path"
            for k, step in enumerate(steps):
                chosen = range(len(self.rig.names)) if cameras is None else cameras
                shots += [Shot(kind, int(step), c, shift if k % 2 == 0 else 0.0 - shift) for c in chosen]
        return shots

    def changes(self, steps) -> list[Shot]:
        """Returns shots of every actor that is seen at one of the steps: as it was, moved, turned and taken away.

        Each is judged in the picture in which most of it is seen, pictures at whose edge it is cut off last.
        """
        best: dict[int, tuple] = {}
        for shot in self.views(steps, shifts=(0.0,)):
            instance = self.cast(shot).instance
            edge = np.concatenate((instance[0], instance[-1], instance[:, 0], instance[:, -1]))
            for row, pixels in zip(*np.unique(instance[instance >= 0], return_counts=True), strict=True):
                score = (row not in edge, int(pixels))
                if pixels >= VISIBLE_PX and score > best.get(int(row), ((False, 0),))[0]:
                    best[int(row)] = score, shot
        shots = []
        for row, (_, shot) in sorted(best.items()):
            side = self._free_side(shot, row)
            for kind in EDITS:
                edit = shot._replace(kind=kind, track=row, side=side)
                shots.append(edit._replace(window=self._window(shot, edit)))
        return shots

    def _free_side(self, shot: Shot, row: int) -> float:
        """Returns 1 if an actor has more room to its left than to its right, else -1."""
        moment = self.caster.logged(shot.step)
        others = moment.boxes[moment.present & (np.arange(len(moment.present)) != row), :2]
        sides = [(1.0, -1.0)[k] * MOVED_M * left_of(moment.boxes[row, 2]) + moment.boxes[row, :2] for k in range(2)]
        room = [np.hypot(*(others - place).T).min(initial=1e3) for place in sides]
        return 1.0 if room[0] >= room[1] else -1.0

    def _window(self, before: Shot, after: Shot) -> tuple[int, int, int, int]:
        """Returns the part of the picture around an actor where it was and where it is."""
        mask = (self.cast(before).instance == after.track) | (self.cast(after).instance == after.track)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        window = []
        for found, end in ((rows, self.size[0]), (columns, self.size[1])):
            pad = PADDING_PX + int(PADDING * (found[-1] + 1 - found[0]))
            window += [max(int(found[0]) - pad, 0), min(int(found[-1]) + pad, end - 1)]
        return tuple(window)

    def pictures(self, shots: list[Shot], file: Path) -> tuple[np.ndarray, np.ndarray]:
        """Returns rgb (S, H, W, 3) uint8 and depth (S, H, W) float32 [m]; read from ``file`` where it holds the same shots."""
        ego = self.scenario.tracks.state[0, :, :3].tolist()
        key = json.dumps([self.scenario.id, self.caster.time_of_day, *shots, self.intrinsics.tolist(), ego])
        if file.exists():
            with np.load(file, allow_pickle=False) as kept:
                if str(kept["key"]) == key:
                    return kept["rgb"], kept["depth"]
        casts = [self.cast(shot) for shot in shots]
        rgb, depth = np.stack([view.rgb for view in casts]), np.stack([view.depth for view in casts])
        np.savez(file, rgb=rgb, depth=depth, key=np.array(key))
        return rgb, depth


class Drawn:
    """A reconstructed scene, drawn as the ray caster's moments say.

    Args:
        scene: With actors named by the tokens of the scenario's tracks.
        truth: Whose shots are drawn.
        renderer: Draws.
        appearance: One of the scene's; None = the first.
    """

    def __init__(self, scene: GaussianScene, truth: Truth, renderer: Renderer, appearance: str | None = None):
        self.truth, self.renderer = truth, renderer
        look = scene.appearances[0] if appearance is None else appearance
        parts = {name: renderer.add(node.look(look)) for name, node in scene.nodes.items()}
        self.scenery = [parts[name] for name in (BACKGROUND, SKY) if name in parts]
        self.actors = {row: parts[t] for row, t in enumerate(truth.scenario.tracks.tokens) if t in parts and row > 0}
        self.parts, self.judge, tokens = list(parts.values()), None, truth.scenario.tracks.tokens
        if scene.witnesses is not None:
            self.judge = Judge(scene.witnesses)
            self.known = np.array([self.judge.rows.get(token, UNKNOWN) for token in tokens], np.int32)

    def frame(self, shot: Shot) -> Frames:
        """Returns the frame of a shot."""
        moment = self.truth.moment(shot)
        rows = [(part, 0.0, (0.0, 0.0, 0.0), EVERYWHERE) for part in self.scenery]
        for a, part in self.actors.items():
            if moment.present[a]:
                x, y, yaw, _, _, height = moment.boxes[a]
                rows.append((part, yaw, (x, y, 0.5 * height), a))
        part, yaw, place, node = zip(*rows, strict=True)
        turn = np.zeros((len(rows), 3, 3))
        turn[:, 0, 0] = turn[:, 1, 1] = np.cos(yaw)
        turn[:, 1, 0], turn[:, 0, 1], turn[:, 2, 2] = np.sin(yaw), -np.sin(yaw), 1.0
        to_camera, lens = rigid_inverse(self.truth.pose(shot)), self.truth.intrinsics[shot.camera]
        return Frames(
            np.array(part, np.int32), turn, np.ones((len(rows), 3)), np.array(place, float), np.array(node, np.int32),
            np.array([0, len(rows)], np.int64), to_camera[None], lens[None], *self.truth.size,
        )  # fmt: skip

    def draw(self, shot: Shot) -> tuple[np.ndarray, np.ndarray, float | None]:
        """Returns rgb (H, W, 3) uint8, depth (H, W) [m] and confidence, None where the scene has no witnesses."""
        frame = self.frame(shot)
        images = self.renderer.render(frame, ("rgb", "depth", "alpha", "node"))
        rgb, depth = np.asarray(images.rgb)[0], np.asarray(images.depth)[0]
        return rgb, depth, None if self.judge is None else float(judge_frames(frame, images, [self.judge], [self.known])[0])

    def close(self) -> None:
        """Takes the parts back."""
        for part in self.parts:
            self.renderer.remove(part)


def left_of(yaw: float) -> np.ndarray:
    """Returns (2,) the direction to the left of a heading."""
    return np.array([-np.sin(yaw), np.cos(yaw)])


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio of uint8 images [dB]."""
    error = np.mean((image.astype(float) - truth.astype(float)) ** 2) / 255.0**2
    return float(-10.0 * np.log10(max(error, 1e-10)))


def depth_error(depth: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns relative errors of depth where there is something to measure; nothing drawn counts as an error of 1."""
    there = (truth > 0.0) & (truth <= FARTHEST_M)
    return np.abs(depth[there] - truth[there]) / truth[there]
