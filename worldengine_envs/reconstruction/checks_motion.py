"""Checks of poses and boxes: what a car cannot have driven, and what no camera saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from worldengine_envs.reconstruction.camera_log import ActorTrack, CameraLog, View
from worldengine_envs.rendering.cameras import rigid_inverse
from worldengine_envs.rendering.scene import BACKGROUND, SKY

RIGID = 1e-3  # how far a rotation may be from orthonormal
JUMP_M, JUMP_M_S, JUMP_M_S2 = 0.5, 1.0, 3.0  # a step may be off by this, by this a second, by this a square second,
JUMP_SHARE, HARDEST_M_S2 = 0.1, 10.0  # by this share of its length, and as far as so much acceleration brings the car
JUMP_DEG, JUMP_DEG_S = 10.0, 90.0  # and turn by this, and by this a second
NEIGHBOURS, WINDOW_S = 5, 1.0  # steps to each side that say how fast the usual step is: so many, not farther than this, but two
LINKS = 32  # poses back to which a pose may connect
NEAR_M = 0.1  # in front of a camera
LEAST_PX = 4.0  # area of an actor's box in an image
SLACK_US = 60_000  # cameras and boxes are not of exactly one time
MARGIN_M = 0.25  # around a box whose returns are taken out
PARALLAX_M = 0.05
MOST_VIEWS = 200  # that are compared in pairs


def rigid(pose: np.ndarray) -> bool:
    """Whether a (4, 4) matrix is a rotation and a translation."""
    pose = np.asarray(pose, np.float64)
    if pose.shape != (4, 4) or not np.isfinite(pose).all() or not np.allclose(pose[3], (0.0, 0.0, 0.0, 1.0), atol=RIGID):
        return False
    rotation = pose[:3, :3]
    return bool(np.abs(rotation.T @ rotation - np.eye(3)).max() < RIGID and np.linalg.det(rotation) > 0)


def jumping(times_us: np.ndarray, poses: np.ndarray) -> list[int]:
    """Returns which poses of a path jump off it: those outside the longest sequence that a car could have driven.

    A step is believed if it differs little from the usual one there (the median velocity of the steps around), and turns little.

    Args:
        times_us: (n,) increasing.
        poses: (n, 4, 4).
    """
    n = len(times_us)
    if n < 3:
        return []
    seconds, places = (times_us - times_us[0]) * 1e-6, poses[:, :3, 3]
    usual, lag = _usual_velocity(seconds, places)
    length, before = np.ones(n, np.int64), np.full(n, -1)
    for i in range(1, n):
        j = np.arange(max(i - LINKS, 0), i)
        elapsed, velocity = seconds[i] - seconds[j], 0.5 * (usual[i] + usual[j])
        off = np.linalg.norm(places[i] - places[j] - velocity * elapsed[:, None], axis=1)
        speed = JUMP_M_S + JUMP_SHARE * np.linalg.norm(velocity, axis=1) + HARDEST_M_S2 * 0.5 * (lag[i] + lag[j])
        near = off <= JUMP_M + (speed + JUMP_M_S2 * elapsed) * elapsed
        cosine = 0.5 * (np.einsum("nij,ij->n", poses[j, :3, :3], poses[i, :3, :3]) - 1.0)
        near &= np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))) <= JUMP_DEG + JUMP_DEG_S * elapsed
        chain = np.where(near, length[j], 0)
        best = len(chain) - 1 - int(chain[::-1].argmax())  # of equals the nearest in time
        if chain[best]:
            length[i], before[i] = chain[best] + 1, j[best]
    kept, i = set(), int(length.argmax())
    while i >= 0:
        kept.add(i)
        i = before[i]
    return [i for i in range(n) if i not in kept]


def _usual_velocity(seconds: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (n, 3) the median velocity of the steps around each pose [m/s], and (n,) how far their middle is from it [s]."""
    n, dt = len(seconds), np.maximum(np.diff(seconds), 1e-6)
    steps, middle = np.diff(places, axis=0) / dt[:, None], seconds[:-1] + 0.5 * dt
    usual, lag = np.empty((n, 3)), np.empty(n)
    for i in range(n):
        first, last = np.searchsorted(seconds, (seconds[i] - WINDOW_S, seconds[i] + WINDOW_S))
        around = slice(max(i - NEIGHBOURS, min(first, i - 2), 0), min(i + NEIGHBOURS, max(last, i + 2)))
        usual[i], lag[i] = np.median(steps[around], axis=0), abs(middle[around].mean() - seconds[i])
    return usual, lag


def check_actors(log: CameraLog, problems: list[str]) -> CameraLog:
    """Returns the log without actors that cannot be used; the returns of those that no camera sees leave the sweeps."""
    kept, unseen, tokens = [], [], {BACKGROUND, SKY}
    of_traversal = {name: _Looking([view for view in log.views if view.traversal == name], log) for name in log.traversals}
    for actor in log.actors:
        reason = _box_problem(actor) or ("another has its token" if actor.token in tokens else "")
        if reason:
            problems.append(f"actor {actor.token}: {reason}; left out")
            continue
        tokens.add(actor.token)
        if of_traversal[actor.traversal].sees(actor):
            kept.append(actor)
        else:
            unseen.append(actor)
    if unseen:
        named = ", ".join(actor.token for actor in unseen[:3]) + (", ..." if len(unseen) > 3 else "")
        problems.append(f"actors: the boxes of {len(unseen)} of {len(log.actors)} are in no image ({named}); left out")
    return replace(log, actors=tuple(kept), sweeps=tuple(_without_returns(sweep, unseen) for sweep in log.sweeps))


def _box_problem(actor: ActorTrack) -> str:
    size = np.asarray(actor.size, np.float64)
    if size.shape != (3,) or not np.isfinite(size).all() or size.min() < 0.05 or size.max() > 60.0:
        return f"a box of {' x '.join(f'{side:g}' for side in size.ravel())} m"
    if not len(actor.time_us) or len(actor.time_us) != len(actor.box_to_world) or (np.diff(actor.time_us) <= 0).any():
        return "the times of its boxes do not increase"
    if not all(rigid(pose) for pose in actor.box_to_world):
        return "a pose of its box is no rigid motion"
    return ""


class _Looking:
    """The cameras of one traversal, to ask whether they see a box."""

    def __init__(self, views: list[View], log: CameraLog):
        self.times_us = np.array([view.time_us for view in views], np.int64)
        self.poses = np.stack([rigid_inverse(view.camera_to_world) for view in views]) if views else np.zeros((0, 4, 4))
        cameras = [log.cameras[view.camera] for view in views]
        self.intrinsics = np.array([camera.intrinsics for camera in cameras], np.float64).reshape(-1, 4)
        self.sizes = np.array([(camera.width, camera.height) for camera in cameras], np.float64).reshape(-1, 2)

    def sees(self, actor: ActorTrack) -> bool:
        """Whether an actor's box lies before a camera and in its image, at least ``LEAST_PX`` large, at a time when it is there."""
        times = np.asarray(actor.time_us)
        there = np.flatnonzero((self.times_us >= times[0] - SLACK_US) & (self.times_us <= times[-1] + SLACK_US))
        nearest = np.abs(self.times_us[there, None] - times).argmin(axis=1)
        signs = np.stack(np.meshgrid((-0.5, 0.5), (-0.5, 0.5), (-0.5, 0.5), indexing="ij"), axis=-1).reshape(8, 3)
        boxes, corners = np.asarray(actor.box_to_world)[nearest], signs * actor.size
        world = np.einsum("nij,kj->nki", boxes[:, :3, :3], corners) + boxes[:, None, :3, 3]
        seen = np.einsum("nij,nkj->nki", self.poses[there, :3, :3], world) + self.poses[there, None, :3, 3]
        depth = np.maximum(seen[..., 2:], NEAR_M)  # what is behind goes far off to its side, as it should
        pixels = seen[..., :2] / depth * self.intrinsics[there, None, :2] + self.intrinsics[there, None, 2:]
        low, high = np.maximum(pixels.min(axis=1), 0.0), np.minimum(pixels.max(axis=1), self.sizes[there])
        area = np.prod(np.maximum(high - low, 0.0), axis=1)
        return bool(((area >= LEAST_PX) & (seen[..., 2].max(axis=1) > NEAR_M)).any())


def _without_returns(sweep, actors: list[ActorTrack]):
    """Returns the sweep without what lies in the boxes of actors who are there at its time."""
    boxes = []
    for actor in actors:
        row = int(np.abs(actor.time_us - sweep.time_us).argmin())
        near = actor.time_us[0] - SLACK_US <= sweep.time_us <= actor.time_us[-1] + SLACK_US
        if near and actor.traversal == sweep.traversal:
            boxes.append((rigid_inverse(actor.box_to_world[row]) @ sweep.lidar_to_world, 0.5 * actor.size + MARGIN_M))
    return replace(sweep, read=partial(_outside, sweep.read, tuple(boxes))) if boxes else sweep


def _outside(read: Callable[[], np.ndarray], boxes: tuple[tuple[np.ndarray, np.ndarray], ...]) -> np.ndarray:
    xyz = read()
    for lidar_to_box, half in boxes:
        xyz = xyz[~(np.abs(xyz @ lidar_to_box[:3, :3].T + lidar_to_box[:3, 3]) <= half).all(axis=1)]
    return xyz


def parallax_problem(log: CameraLog) -> list[str]:
    """Returns a line if no two cameras that look the same way stand apart, else none."""
    rows = np.unique(np.linspace(0, len(log.views) - 1, MOST_VIEWS).astype(np.int64))
    views = [log.views[row] for row in rows]
    poses = np.stack([view.camera_to_world for view in views])
    cameras = [log.cameras[view.camera] for view in views]
    reach = np.array([0.7 * np.arctan(0.5 * camera.width / camera.intrinsics[0]) for camera in cameras])
    angle = np.arccos(np.clip(poses[:, :3, 2] @ poses[:, :3, 2].T, -1.0, 1.0))
    apart = np.linalg.norm(poses[:, None, :3, 3] - poses[None, :, :3, 3], axis=2)
    if ((angle < reach[:, None] + reach) & (apart >= PARALLAX_M)).any():
        return []
    known = "distances are known from the LiDAR alone" if log.sweeps else "distances cannot be known; they are guessed"
    return [f"no parallax: nothing is seen from two places {PARALLAX_M:g} m or more apart, so {known}"]
