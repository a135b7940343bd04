"""What a training ends with, without the training: a log of two drives, random Gaussians, corrections that moved all boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from worldengine_envs.reconstruction.camera_log import ActorTrack, Camera, CameraLog, View
from worldengine_envs.reconstruction.corrections import Corrections
from worldengine_envs.reconstruction.export import box_offsets
from worldengine_envs.reconstruction.pictures import Pictures
from worldengine_envs.reconstruction.scene_graph import BACKGROUND, FIRST_ACTOR, SKY, SceneGraph
from worldengine_envs.reconstruction.settings import ReconstructionSettings
from worldengine_envs.reconstruction.split import split
from worldengine_envs.reconstruction.stage import LogShots
from worldengine_envs.scenario import AgentType

HEIGHT, WIDTH, LENS = 32, 48, (40.0, 40.0, 24.0, 16.0)
LOOKS = ("day", "dusk")
FORWARD = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # axes of a camera that looks along x


def pose_of(x: float, y: float, z: float, yaw: float = 0.0, axes=None) -> np.ndarray:
    pose, (cos, sin) = np.eye(4), (np.cos(yaw), np.sin(yaw))
    pose[:3, :3] = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]) @ (np.eye(3) if axes is None else axes)
    pose[:3, 3] = x, y, z
    return pose


def make_log(folder: Path) -> CameraLog:
    """Returns four times of two traversals, with images of noise; one actor in each."""
    rng = np.random.default_rng(5)
    camera = Camera("front", HEIGHT, WIDTH, np.array(LENS), np.zeros(5))
    views, actors = [], []
    for look in LOOKS:
        for k in range(4):
            path = folder / f"{look}{k}.png"
            Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)).save(path)
            views.append(View(0, 100_000 * k, pose_of(0.5 * k, 0.0, 0.0, axes=FORWARD), path, look))
        boxes = np.stack([pose_of(8.0 + k, 0.5, 0.0, 0.4) for k in range(4)])
        actors.append(ActorTrack(f"car_{look}", AgentType.VEHICLE, np.ones(3), np.arange(4) * 100_000, boxes, look))
    return CameraLog("a.street", "test", "none", (camera,), tuple(views), (), tuple(actors), LOOKS)


def make_graph(count: int = 200) -> SceneGraph:
    """Returns random Gaussians of all nodes, with harmonics of degree 2 of which degree 1 is in use."""
    rng = np.random.default_rng(3)
    node = rng.choice([BACKGROUND, SKY, FIRST_ACTOR, FIRST_ACTOR + 1], count)
    means = np.where(node[:, None] < FIRST_ACTOR, rng.uniform((4, -3, -2), (12, 3, 2), (count, 3)), rng.normal(0, 0.5, (count, 3)))
    tables = {
        "means": means,
        "quats": rng.normal(size=(count, 4)),
        "scales": rng.uniform(-2.5, -0.8, (count, 3)),
        "opacities": rng.normal(size=count),
        "dc": rng.normal(size=(count, 1, 3)),
        "rest": rng.normal(size=(count, 8, 3)) * 0.3,
        "looks": rng.normal(size=(count, 2, 3)) * 0.3,
    }
    tensors = {name: torch.tensor(table, dtype=torch.float32) for name, table in tables.items()}
    return SceneGraph(tensors, torch.tensor(node), torch.ones(2, 3), 2, degree=1)


def learn(folder: Path) -> tuple[CameraLog, SceneGraph, Corrections, LogShots]:
    """Returns the log, the graph, the corrections and the shots of the log."""
    log, graph = make_log(folder), make_graph()
    corrections = Corrections(log, split(log, 0), ReconstructionSettings(test_every=0))
    with torch.no_grad():
        corrections.parameters["actors"] += torch.tensor([0.2, -0.1, 0.05, 0.3, 0.1, 0.9], dtype=torch.float64)
    return log, graph, corrections, LogShots(log, Pictures(log), corrections, box_offsets(log, corrections))
