"""The eye of a camera policy: what it is to tell, what it looks at, its mirror, and its place in a checkpoint."""

import json
import zipfile

import numpy as np
import pytest
import shapely
import shapely.affinity
import torch
from gymnasium import spaces

from worldengine_envs.envs.observations import SCENE_M, state_space
from worldengine_envs.errors import DataError
from worldengine_envs.rendering.cameras import RIGS
from worldengine_rl.camera_policy import CameraPolicy, camera_space
from worldengine_rl.checkpoints import load_policy
from worldengine_rl.eye import SEEN, Eye, see
from worldengine_rl.mirror import mirrored
from worldengine_rl.perception import (
    HALF_M,
    NOBODY,
    PERSON,
    RAYS,
    REACH_M,
    THING,
    VEHICLE,
    PerceptionSettings,
    perception_targets,
    train_eye,
    viewing_rays,
)
from worldengine_rl.pretraining import Demonstrations
from worldengine_rl.views import Views, concatenate_views

SIZE, WIDTH = (24, 40), 128


def empty_state(decisions: int) -> dict[str, np.ndarray]:
    return {name: np.zeros((decisions, *space.shape), np.float32) for name, space in state_space().items()}


def put(state, decision: int, row: int, x: float, y: float, kind: int, vx=0.0, vy=0.0) -> None:
    state["agents"][decision, row, [0, 1, 4, 5]] = x / SCENE_M, y / SCENE_M, vx / 10, vy / 10
    state["agents"][decision, row, 8 + kind] = 1.0
    state["agents_mask"][decision, row] = 1.0


def test_targets_say_who_is_nearest_in_each_direction():
    """Against shapely: the nearest box on the middle ray of each direction, and the distance to it."""
    rng = np.random.default_rng(0)
    state = empty_state(20)
    for decision in range(20):
        for row in range(6):
            put(state, decision, row, rng.uniform(4, 70), rng.uniform(-20, 20), int(rng.integers(4)), *rng.uniform(-5, 5, 2))
            angle = rng.uniform(-np.pi, np.pi)
            state["agents"][decision, row, [2, 3, 6, 7]] = (
                np.cos(angle),
                np.sin(angle),
                rng.uniform(0.1, 1.2),
                rng.uniform(0.1, 0.5),
            )
    targets, (origins, directions) = perception_targets(state, "front3", WIDTH), viewing_rays("front3", WIDTH)
    kinds = {0: VEHICLE, 1: PERSON, 2: PERSON, 3: THING}
    compared = 0
    for decision, direction in np.ndindex(targets.kind.shape):
        hits = []
        for ray in range(RAYS * direction, RAYS * (direction + 1)):
            line = shapely.LineString([origins[ray], origins[ray] + 1000 * directions[ray]])
            for agent in state["agents"][decision, :6].astype(float):
                box = shapely.box(-2.5 * agent[6], -2.5 * agent[7], 2.5 * agent[6], 2.5 * agent[7])
                turn = [agent[2], -agent[3], agent[3], agent[2], SCENE_M * agent[0], SCENE_M * agent[1]]
                met = shapely.affinity.affine_transform(box, turn).intersection(line)
                if not met.is_empty:
                    hits.append((met.distance(shapely.Point(origins[ray])), kinds[int(agent[8:12].argmax())], agent[4:6]))
        distance, kind, velocity = min(hits, key=lambda hit: hit[0], default=(1e9, NOBODY, np.zeros(2)))
        if abs(distance - REACH_M) < 1e-3:
            continue
        if distance > REACH_M:
            distance, kind, velocity = 1e9, NOBODY, np.zeros(2)
        assert targets.kind[decision, direction] == kind
        nearness = 0.0 if kind == NOBODY else HALF_M / (HALF_M + distance)
        assert targets.nearness[decision, direction] == pytest.approx(nearness, abs=1e-4)
        np.testing.assert_allclose(targets.velocity[decision, direction], velocity, atol=1e-6)
        compared += kind != NOBODY
    assert compared > 100


def test_only_a_red_light_ahead_on_the_route_is_red():
    state = empty_state(4)
    for decision, (x, on_route, light) in enumerate(((1.0, 1, 10), (1.0, 0, 10), (1.0, 1, 8), (2.5, 1, 10))):
        state["map"][decision, 0, [0, 6, light]] = x, on_route, 1.0
        state["map_mask"][decision, 0] = 1.0
    assert perception_targets(state, "front", WIDTH).red.tolist() == [1, 0, 0, 0]


def test_rays_span_the_field_of_view_from_left_to_right():
    origins, directions = viewing_rays("front", WIDTH)
    angles = np.degrees(np.arctan2(directions[:, 1], directions[:, 0]))
    assert len(origins) == RAYS * WIDTH // 8 and (np.diff(angles) < 0).all()
    assert angles[0] == pytest.approx(30.0, abs=1.0) and angles[-1] == pytest.approx(-30.0, abs=1.0)


def test_the_mirror_flips_images_and_swaps_left_and_right():
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (2, *SIZE, 3), np.uint8) for name in RIGS["surround8"].names}
    flipped = mirrored(empty_state(2) | images)
    np.testing.assert_array_equal(flipped["CAM_F0"], images["CAM_F0"][:, :, ::-1])
    np.testing.assert_array_equal(flipped["CAM_L1"], images["CAM_R1"][:, :, ::-1])
    twice = mirrored(flipped)
    for name, image in images.items():
        np.testing.assert_array_equal(twice[name], image)


def test_views_show_what_the_eye_sees_in_plain_and_mirrored_images(monkeypatch):
    monkeypatch.setattr("worldengine_rl.views.CHUNK", 2)
    torch.manual_seed(0)
    eye = Eye(("CAM_F0",), SIZE, 1, 4).requires_grad_(False)
    images = {"CAM_F0": np.random.default_rng(1).integers(0, 256, (3, *SIZE, 3), np.uint8)}
    views = Views(images, np.tile(np.arange(3), 2), np.repeat([False, True], 3))
    both = concatenate_views([views, views]).part(np.array([1, 4, 10]))
    seen = both.seen(eye)
    plain = see(eye, {"CAM_F0": images["CAM_F0"][[1]]})[SEEN][0]
    flipped = see(eye, {"CAM_F0": np.ascontiguousarray(images["CAM_F0"][[1], :, ::-1])})[SEEN][0]
    np.testing.assert_allclose(seen, [plain, flipped, flipped], atol=1e-2)  # convolutions are in bfloat16
    assert np.abs(plain - flipped).max() > 0.05
    for rows in ([0], [1, 2]):
        given, expected = both.tensors(np.array(rows))["CAM_F0"], images["CAM_F0"][[1] * len(rows)]
        np.testing.assert_array_equal(given, expected if rows == [0] else expected[:, :, ::-1])


def test_an_eye_learns_where_a_bright_car_stands(tmp_path):
    """A white square in the left or right half of the image, and a car left or right ahead: held out, the eye tells which."""
    rng = np.random.default_rng(0)
    count = 240
    state, left = empty_state(count), rng.random(count) < 0.5
    images = rng.integers(0, 40, (count, *SIZE, 3), np.uint8)
    for i in range(count):
        column = 8 if left[i] else 28
        images[i, 10:16, column : column + 6] = 255
        put(state, i, 0, 20.0, 5.0 if left[i] else -5.0, kind=0)
        state["agents"][i, 0, [2, 6, 7]] = 1.0, 0.4, 0.8
    views = Views({"CAM_F0": images}, np.arange(count), np.zeros(count, bool))
    data = Demonstrations(state, np.zeros((count, 1), np.float32), np.zeros(count, np.float32), np.arange(count).astype(str), views)
    torch.manual_seed(0)
    eye = Eye(("CAM_F0",), SIZE, 1, 4)
    history = []
    settings = PerceptionSettings(epochs=10, batch_size=16, learning_rate=3e-3)
    last = train_eye(eye, "front", data, settings, 0.2, 0, tmp_path / "eye.pt", history.append)
    assert last["validation_right"] > 0.95 > history[0]["right"]
    assert not any(parameter.requires_grad for parameter in eye.parameters())
    again = train_eye(Eye(("CAM_F0",), SIZE, 1, 4), "front", data, settings, 0.2, 0, tmp_path / "eye.pt")
    assert again == last  # it was done: read from the checkpoint


def test_training_of_an_eye_that_was_interrupted_ends_in_the_same_eye(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, *SIZE, 3), np.uint8)
    state = empty_state(40)
    for i in range(40):
        put(state, i, 0, 20.0, rng.uniform(-8, 8), kind=0)
        state["agents"][i, 0, [2, 6, 7]] = 1.0, 0.4, 0.8
    views = Views({"CAM_F0": images}, np.tile(np.arange(20), 2), np.repeat([False, True], 20))
    recordings = np.tile(np.arange(10).astype(str), 4)
    data = Demonstrations(state, np.zeros((40, 1), np.float32), np.zeros(40, np.float32), recordings, views)
    settings = PerceptionSettings(epochs=3, batch_size=8)

    def train(folder, on_epoch=lambda metrics: None):
        torch.manual_seed(0)
        eye = Eye(("CAM_F0",), SIZE, 1, 4)
        folder.mkdir(exist_ok=True)
        return eye, train_eye(eye, "front", data, settings, 0.2, 0, folder / "eye.pt", on_epoch)

    def interrupt(metrics):
        if metrics["epoch"] == 2:
            raise KeyboardInterrupt

    whole, metrics = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "interrupted", interrupt)
    torch.rand(7)
    resumed, again = train(tmp_path / "interrupted")
    assert again == metrics
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])


def camera_policy(**arguments) -> CameraPolicy:
    torch.manual_seed(0)
    sizes = {"image_height": SIZE[0], "image_width": SIZE[1], "image_history": 1, "column_features": 4, "encoder_width": 8}
    return CameraPolicy(camera_space("front", SIZE, 4), spaces.Discrete(5), lambda _: 0.0, **sizes | arguments)


def save(policy: CameraPolicy, path, **changed) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", json.dumps({"policy_kwargs": policy.plain_arguments | changed}))
        with archive.open("policy.pth", "w") as file:
            torch.save(policy.state_dict(), file)


def test_a_camera_policy_acts_from_images_alone_and_comes_back_from_its_checkpoint(tmp_path):
    policy = camera_policy().eval()
    rng = np.random.default_rng(0)
    shapes = {"ego": state_space()["ego"].shape, "route": state_space()["route"].shape}
    seen = {name: rng.normal(size=(4, *shape)).astype(np.float32) for name, shape in shapes.items()}
    seen["CAM_F0"] = rng.integers(0, 256, (4, *SIZE, 3), np.uint8)
    save(policy, tmp_path / "policy.zip")
    loaded = load_policy(tmp_path / "policy.zip")
    np.testing.assert_array_equal(loaded.act(seen), policy.act(seen))
    assert loaded.world_arguments["observation"] == "camera" and loaded.world_arguments["image_size"] == SIZE


@pytest.mark.parametrize(
    ("name", "value"),
    [("rig", "../front"), ("rig", ["front"]), ("image_height", 10**9), ("column_features", -1), ("image_width", 80)],
)
def test_a_camera_checkpoint_with_other_settings_is_refused(tmp_path, name, value):
    save(camera_policy(), tmp_path / "policy.zip", **{name: value})
    with pytest.raises(DataError):
        load_policy(tmp_path / "policy.zip")


def test_settings_that_make_a_giant_are_refused_before_memory_is_taken(tmp_path):
    giant = {"rig": "surround8", "image_width": 8192, "column_features": 8192, "trunk_width": 8192}
    save(camera_policy(), tmp_path / "policy.zip", **giant)
    with pytest.raises(DataError, match="numbers, more than"):
        load_policy(tmp_path / "policy.zip")


@pytest.mark.parametrize("weights", [[torch.zeros(3)], torch.zeros(3), {1: torch.zeros(3)}, {"action_net.anchors": 3}])
def test_weights_that_are_none_are_refused(tmp_path, weights):
    with zipfile.ZipFile(tmp_path / "policy.zip", "w") as archive:
        archive.writestr("data", json.dumps({"policy_kwargs": {}}))
        with archive.open("policy.pth", "w") as file:
            torch.save(weights, file)
    with pytest.raises(DataError):
        load_policy(tmp_path / "policy.zip")
