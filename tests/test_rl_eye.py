"""The eye of a camera policy: what it is to tell, what it looks at, its mirror, and its place in a checkpoint."""

import json
import zipfile

import numpy as np
import pytest
import torch
from gymnasium import spaces

from worldengine_envs.envs.observations import AGENTS, SCENE_M, state_space
from worldengine_envs.errors import DataError
from worldengine_envs.rendering.cameras import RIGS
from worldengine_rl.camera_policy import CameraPolicy, camera_space
from worldengine_rl.checkpoints import load_policy
from worldengine_rl.eye import SEEN, Eye, see
from worldengine_rl.mirror import mirrored
from worldengine_rl.perception import AHEAD, ASIDE, CELL_M, PerceptionSettings, perception_targets, train_eye, visible_cells
from worldengine_rl.pretraining import Demonstrations
from worldengine_rl.views import Views, concatenate_views

SIZE = (24, 40)


def empty_state(decisions: int) -> dict[str, np.ndarray]:
    return {name: np.zeros((decisions, *space.shape), np.float32) for name, space in state_space().items()}


def put(state, decision: int, row: int, x: float, y: float, kind: int, vx=0.0, vy=0.0) -> None:
    state["agents"][decision, row, [0, 1, 4, 5]] = x / SCENE_M, y / SCENE_M, vx / 10, vy / 10
    state["agents"][decision, row, 8 + kind] = 1.0
    state["agents_mask"][decision, row] = 1.0


def test_targets_say_who_is_where_and_how_fast():
    state = empty_state(2)
    put(state, 0, 0, 10.0, 1.0, kind=0, vx=5.0, vy=-1.0)
    put(state, 0, 1, 31.0, -6.0, kind=2)  # a cyclist counts with pedestrians
    put(state, 0, 2, 200.0, 0.0, kind=0)  # too far away
    state["agents"][1, AGENTS - 1, 0] = 0.5  # nobody: its mask is 0
    targets = perception_targets(state)
    assert targets.occupied.sum() == 2
    assert targets.occupied[0, 0, 3, 6] == 1 and targets.occupied[0, 1, 10, 3] == 1
    np.testing.assert_allclose(targets.velocity[0, :, 3, 6], (0.5, -0.1), atol=1e-6)
    assert not targets.red.any()


def test_only_a_red_light_ahead_on_the_route_is_red():
    state = empty_state(4)
    for decision, (x, on_route, light) in enumerate(((1.0, 1, 10), (1.0, 0, 10), (1.0, 1, 8), (2.5, 1, 10))):
        state["map"][decision, 0, [0, 6, light]] = x, on_route, 1.0
        state["map_mask"][decision, 0] = 1.0
    assert perception_targets(state).red.tolist() == [1, 0, 0, 0]


def test_cells_beside_the_field_of_view_do_not_count():
    visible = visible_cells("front")
    pose, intrinsics = RIGS["front"].camera_to_ego[0], RIGS["front"].intrinsics[0]
    half = RIGS["front"].image_size[0, 1] / 2 / intrinsics[0, 0]  # tangent of half the field of view
    for i, j in np.ndindex(AHEAD, ASIDE):
        x, y = (i + 0.5) * CELL_M[0] - pose[0, 3], (j - ASIDE / 2 + 0.5) * CELL_M[1]
        assert visible[i, j] == (x > 0 and abs(y) <= half * x)
    assert visible_cells("front3").sum() > visible.sum()


def test_the_mirror_flips_images_and_swaps_left_and_right():
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (2, *SIZE, 3), np.uint8) for name in RIGS["surround8"].names}
    flipped = mirrored(empty_state(2) | images)
    np.testing.assert_array_equal(flipped["CAM_F0"], images["CAM_F0"][:, :, ::-1])
    np.testing.assert_array_equal(flipped["CAM_L1"], images["CAM_R1"][:, :, ::-1])
    twice = mirrored(flipped)
    for name, image in images.items():
        np.testing.assert_array_equal(twice[name], image)


def test_views_show_what_the_eye_sees_in_plain_and_mirrored_images():
    torch.manual_seed(0)
    eye = Eye(("CAM_F0",), SIZE, 1, 8).requires_grad_(False)
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
        put(state, i, 0, 20.0, 6.0 if left[i] else -6.0, kind=0)
    views = Views({"CAM_F0": images}, np.arange(count), np.zeros(count, bool))
    data = Demonstrations(state, np.zeros((count, 1), np.float32), np.zeros(count, np.float32), np.arange(count).astype(str), views)
    torch.manual_seed(0)
    eye = Eye(("CAM_F0",), SIZE, 1, 16)
    history = []
    settings = PerceptionSettings(epochs=4, batch_size=16)
    last = train_eye(eye, "front", data, settings, 0.2, 0, tmp_path / "eye.pt", history.append)
    assert last["validation_occupied"] < 0.2 * history[0]["occupied"]
    assert not any(parameter.requires_grad for parameter in eye.parameters())
    again = train_eye(Eye(("CAM_F0",), SIZE, 1, 16), "front", data, settings, 0.2, 0, tmp_path / "eye.pt")
    assert again == last  # it was done: read from the checkpoint


def camera_policy(**arguments) -> CameraPolicy:
    torch.manual_seed(0)
    sizes = {"image_height": SIZE[0], "image_width": SIZE[1], "image_history": 1, "eye_features": 16, "encoder_width": 8}
    return CameraPolicy(camera_space(16), spaces.Discrete(5), lambda _: 0.0, **sizes | arguments)


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
    ("name", "value"), [("rig", "../front"), ("image_height", 10**9), ("eye_features", -1), ("image_width", 50)]
)
def test_a_camera_checkpoint_with_other_settings_is_refused(tmp_path, name, value):
    save(camera_policy(), tmp_path / "policy.zip", **{name: value})
    with pytest.raises(DataError):
        load_policy(tmp_path / "policy.zip")
