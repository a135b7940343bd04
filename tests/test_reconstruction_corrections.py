"""Corrections of poses and exposures against rotations and interpolation of scipy."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation, Slerp

from worldengine_envs.reconstruction.camera_log import ActorTrack, Camera, CameraLog, View
from worldengine_envs.reconstruction.corrections import TURN_M, Corrections, motion
from worldengine_envs.reconstruction.settings import CorrectionSettings, ReconstructionSettings
from worldengine_envs.scenario.types import AgentType

STEP_US = 100_000


def pose(seed: int, reach: float = 10.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    made = np.eye(4)
    made[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    made[:3, 3] = rng.normal(0.0, reach, 3)
    return made


def actor(token: str, steps: range, traversal: str = "day") -> ActorTrack:
    poses = np.tile(np.eye(4), (len(steps), 1, 1))
    for k, step in enumerate(steps):
        poses[k, :3, :3] = Rotation.from_euler("z", 0.1 * step).as_matrix()
        poses[k, :3, 3] = 2.0 * step, 1.0, 0.8
    times = np.array(steps, np.int64) * STEP_US + 1_600_000_000_000_000
    return ActorTrack(token, AgentType.VEHICLE, np.array([4.5, 1.8, 1.6]), times, poses, traversal)


@pytest.fixture
def log() -> CameraLog:
    """Two cameras, 8 times of one drive and 4 of another; two actors in the first drive, one in the second."""
    cameras = tuple(Camera(name, 40, 60, np.array([50.0, 50.0, 30.0, 20.0]), np.zeros(5)) for name in ("left", "right"))
    start, views = 1_600_000_000_000_000, []
    for drive, steps in (("day", 8), ("dusk", 4)):
        for step in range(steps):
            views += [View(c, start + step * STEP_US, pose(step * 2 + c), Path("none.png"), drive) for c in range(2)]
    actors = actor("a", range(8)), actor("b", range(2, 6)), actor("c", range(4), "dusk")
    return CameraLog("test", "test", "none", cameras, tuple(views), actors=actors, traversals=("day", "dusk"))


def made(log: CameraLog, held_out: int = 4, **wanted) -> Corrections:
    train = [v for v, view in enumerate(log.views) if view.time_us != log.views[0].time_us + held_out * STEP_US]
    settings = ReconstructionSettings(iterations=400, corrections=CorrectionSettings(**wanted))
    return Corrections(log, SimpleNamespace(train=np.array(train)), settings)


def set_table(corrections: Corrections, name: str, row: int, value) -> None:
    with torch.no_grad():
        corrections.parameters[name][row] = torch.as_tensor(value, dtype=corrections.parameters[name].dtype)


def test_motion_is_a_rotation_vector_and_a_translation():
    deltas = np.random.default_rng(0).normal(0.0, 1.0, (20, 6))
    deltas[0] = 0.0
    moved = motion(torch.from_numpy(deltas)).numpy()
    np.testing.assert_allclose(moved[:, :3, :3], Rotation.from_rotvec(deltas[:, 3:] / TURN_M).as_matrix(), atol=1e-12)
    np.testing.assert_array_equal(moved[:, :3, 3], deltas[:, :3])
    still = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    motion(still)[2, 1].backward()
    np.testing.assert_allclose(still.grad.numpy(), [0, 0, 0, 1 / TURN_M, 0, 0])


def test_before_training_all_is_as_logged(log):
    corrections = made(log)
    for v, view in enumerate(log.views):
        np.testing.assert_allclose(corrections.world_to_camera(v).detach().numpy() @ view.camera_to_world, np.eye(4), atol=1e-9)
        image = torch.rand(4, 5, 3)
        assert torch.equal(corrections.exposed(image, v), image)
    assert float(corrections.penalty().detach()) == 0.0


def test_a_held_out_view_takes_the_corrections_of_its_neighbours_in_time(log):
    corrections = made(log)
    right = [v for v, view in enumerate(log.views) if view.camera == 1 and view.traversal == "day"]
    set_table(corrections, "cameras", right[3], [0.1, 0, 0, 0, 0, 0])
    set_table(corrections, "cameras", right[5], [0.3, 0, 0, 0, 0, 0])
    set_table(corrections, "cameras", right[4], [9.0, 0, 0, 0, 0, 0])  # is never read
    set_table(corrections, "rig", 1, [0, 0.05, 0, 0, 0, TURN_M * 0.01])
    expected = log.views[right[4]].camera_to_world.copy()
    rig = np.eye(4)
    rig[:3, :3], rig[:3, 3] = Rotation.from_rotvec([0, 0, 0.01]).as_matrix(), (0, 0.05, 0)
    moved = np.eye(4)
    moved[0, 3] = 0.2
    found = np.linalg.inv(corrections.world_to_camera(right[4]).detach().numpy())
    np.testing.assert_allclose(found, expected @ rig @ moved, atol=1e-9)
    assert made(log, cameras=False).world_to_camera(right[4]).requires_grad is False


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_actors_are_interpolated(log, share):
    time_us = int(log.views[0].time_us + (3 + share) * STEP_US)
    rotation, centre, present = made(log).actor_poses(time_us, "day")
    assert present.tolist() == [True, True, False]
    for a in range(2):
        track = log.actors[a]
        expected = Slerp(track.time_us - time_us, Rotation.from_matrix(track.box_to_world[:, :3, :3]))(0).as_matrix()
        np.testing.assert_allclose(rotation[a].detach(), expected, atol=1e-4)
        np.testing.assert_allclose(centre[a].detach(), [2.0 * (3 + share), 1.0, 0.8], atol=1e-5)


def test_actors_are_there_from_their_first_box_to_their_last(log):
    corrections, start = made(log), log.views[0].time_us
    there = [corrections.actor_poses(start + step * STEP_US, "day")[2].tolist() for step in range(8)]
    assert [row[1] for row in there] == [False, False, True, True, True, True, False, False]
    assert all(row[0] for row in there) and not any(row[2] for row in there)
    gap = replace(log.actors[0], time_us=log.actors[0].time_us * 20 - 19 * log.actors[0].time_us[0])
    sparse = made(replace(log, actors=(gap,)))
    assert sparse.actor_poses(start + 2_000_000, "day")[2].tolist() == [True]
    assert sparse.actor_poses(start + 3_000_000, "day")[2].tolist() == [False]


def test_actors_corrections_at_held_out_times_lie_between_those_of_training_times(log):
    corrections, start = made(log), log.views[0].time_us
    time_us = start + 4 * STEP_US
    loss = corrections.actor_poses(time_us, "day")[1][1, 0]
    before = float(loss.detach())
    loss.backward()
    rows = torch.nonzero(corrections.parameters["actors"].grad.abs().sum(1)).flatten()
    assert len(rows) == 2  # steps 3 and 5 of actor b
    with torch.no_grad():
        corrections.parameters["actors"][rows[0], 0], corrections.parameters["actors"][rows[1], 0] = 0.2, 0.6
    heading = Rotation.from_euler("z", 0.4).as_matrix()[:, 0]
    assert float(corrections.actor_poses(time_us, "day")[1][1, 0].detach()) == pytest.approx(before + 0.4 * heading[0], abs=1e-6)


def test_exposure_is_relative_to_the_mean(log):
    corrections = made(log)
    with torch.no_grad():
        corrections.parameters["exposures"][:, :, 3] = torch.rand(len(log.views), 3)
    image, train = torch.rand(3, 3, 3), corrections.train
    day = [v for v in train if log.views[v].traversal == "day"]
    mean = torch.stack([corrections.exposed(image, v) for v in day]).mean(0).detach()
    np.testing.assert_allclose(mean, image, atol=1e-6)
    assert made(log, exposures=False).exposed(image, 0) is image


def learn(corrections: Corrections, steps: range, truth: dict[int, np.ndarray]) -> None:
    views = sorted(truth)
    for step in steps:
        view = views[step % len(views)]
        loss = (corrections.world_to_camera(view) - torch.from_numpy(truth[view])).square().sum() + corrections.penalty()
        loss.backward()
        corrections.step(step)


def test_training_finds_an_error_of_the_rig_and_resumes_with_the_same_bits(log):
    rig = np.eye(4)
    rig[0, 3] = 0.004
    truth = {v: np.linalg.inv(log.views[v].camera_to_world @ rig) for v in made(log).train}
    whole, first, second = made(log), made(log), made(log)
    learn(whole, range(400), truth)
    far = max(np.abs(whole.world_to_camera(v).detach().numpy() - truth[v]).max() for v in truth)
    assert far < 0.002
    learn(first, range(160), truth)
    second.restore({name: tensor.clone() for name, tensor in first.tensors().items()})
    learn(second, range(160, 400), truth)
    for name, tensor in whole.parameters.items():
        assert torch.equal(tensor, second.parameters[name]), name


def test_a_log_without_actors(log):
    corrections = made(replace(log, actors=()))
    rotation, centre, present = corrections.actor_poses(log.views[0].time_us, "day")
    assert rotation.shape == (0, 3, 3) and centre.shape == (0, 3) and present.shape == (0,)
    corrections.penalty().backward()
    corrections.step(200)


def test_an_image_moves_only_what_it_asks_for(log):
    corrections = made(log)
    first, other = (int(v) for v in corrections.train[:2])
    for step in range(200, 230):
        target = corrections.world_to_camera(first if step == 200 else other).detach() + 0.01
        (corrections.world_to_camera(first if step == 200 else other) - target).square().sum().backward()
        corrections.step(step)
        if step == 200:
            kept = corrections.parameters["cameras"][first].detach().clone()
    assert kept.abs().max() > 0.0  # Adam's first step
    assert torch.equal(corrections.parameters["cameras"][first].detach(), kept)  # and none after it
