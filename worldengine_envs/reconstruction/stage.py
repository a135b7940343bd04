"""A finished scene on its own: what a camera sees of it, with actors wherever they are put."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from worldengine_envs.reconstruction.camera_log import CameraLog
from worldengine_envs.reconstruction.corrections import Corrections
from worldengine_envs.reconstruction.pictures import Pictures
from worldengine_envs.rendering.cameras import rigid_inverse
from worldengine_envs.rendering.confidence import Shot, frame_of
from worldengine_envs.rendering.frames import Frames, Images, Renderer
from worldengine_envs.rendering.scene import GaussianScene


class Stage:
    """Draws a scene with its own actors only; whoever has no box in a shot is not there.

    Args:
        scene: What is drawn.
        renderer: Who draws; ``close`` takes back what it was given.
        appearance: One of the scene's; None = the first.
    """

    def __init__(self, scene: GaussianScene, renderer: Renderer, appearance: str | None = None):
        look = scene.appearances[0] if appearance is None else appearance
        self.renderer, self.actors = renderer, scene.actors
        self.parts = {name: renderer.add(node.look(look)) for name, node in scene.nodes.items()}

    def frame(self, shot: Shot) -> Frames:
        """Returns one frame; its node image shows rows of ``actors``."""
        rows = {name: row for row, name in enumerate(self.actors)}
        return frame_of(self.parts, rows, shot, {name: shot.boxes[name] for name in self.actors if name in shot.boxes})

    def draw(self, shot: Shot, outputs: tuple[str, ...] = ("rgb",)) -> Images:
        """Returns the images named in ``outputs``, as ``Renderer.render`` does, without the leading dimension."""
        return on_host(self.renderer.render(self.frame(shot), outputs))

    def close(self) -> None:
        """Takes the parts back."""
        for part in self.parts.values():
            self.renderer.remove(part)


class LogShots:
    """The views of a log as shots of its exported scene: from where each image was taken, and where everybody stood then.

    Args:
        log: What was recorded.
        pictures: Its images; only their lenses are asked for.
        corrections: Where cameras and actors really were.
        offsets: (actors, 4, 4) from ``export.box_offsets``: how far actors' Gaussians were moved into their logged boxes.
    """

    def __init__(self, log: CameraLog, pictures: Pictures, corrections: Corrections, offsets: np.ndarray):
        self.log, self.pictures, self.corrections, self._back = log, pictures, corrections, rigid_inverse(offsets)

    def of(self, view: int) -> Shot:
        """Returns the shot of a row of ``log.views``."""
        seen, (lens, height, width) = self.log.views[view], self.pictures.lens(view)
        with torch.no_grad():
            pose = self.corrections.world_to_camera(view).cpu().numpy()
        return Shot(pose, np.asarray(lens, np.float64), height, width, self.boxes(seen.time_us, seen.traversal))

    def boxes(self, time_us: int, traversal: str) -> dict[str, np.ndarray]:
        """Returns (4, 4) where the boxes of everybody who is there are at a time of a traversal, by token."""
        with torch.no_grad():
            rotation, centre, present = (tensor.cpu().numpy() for tensor in self.corrections.actor_poses(time_us, traversal))
        poses = np.tile(np.eye(4), (len(present), 1, 1))
        poses[:, :3, :3], poses[:, :3, 3] = rotation, centre
        poses = poses @ self._back
        return {self.log.actors[a].token: poses[a] for a in np.flatnonzero(present)}


def beside(shot: Shot, shift: np.ndarray) -> Shot:
    """Returns a shot from a camera that stands elsewhere by ``shift`` (3,) [m]."""
    pose = shot.world_to_camera.copy()
    pose[:3, 3] -= pose[:3, :3] @ shift
    return replace(shot, world_to_camera=pose)


def with_box(shot: Shot, token: str, pose: np.ndarray | None) -> Shot:
    """Returns a shot with one actor's box elsewhere (4, 4), or without the actor."""
    boxes: Mapping[str, np.ndarray] = {name: box for name, box in shot.boxes.items() if name != token}
    return replace(shot, boxes=boxes if pose is None else {**boxes, token: pose})


def on_host(images: Images) -> Images:
    """Returns the first frame's images as arrays, without the leading dimension."""
    arrays = (image if image is None or isinstance(image, np.ndarray) else image.cpu().numpy() for image in images)
    return Images(*(None if array is None else array[0] for array in arrays))
