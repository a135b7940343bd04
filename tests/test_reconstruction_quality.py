"""Quality by held-out images and sweeps, of a log whose truth is known: a grey wall in front of which a box stands."""

import numpy as np
import pytest
from PIL import Image

from worldengine_envs.reconstruction.camera_log import ActorTrack, Camera, CameraLog, Sweep, View
from worldengine_envs.reconstruction.pictures import Pictures
from worldengine_envs.reconstruction.points.boxes import Boxes
from worldengine_envs.reconstruction.quality import Drawn, depth_errors, evaluate
from worldengine_envs.reconstruction.split import Split
from worldengine_envs.scenario.types import AgentType

HEIGHT, WIDTH, FOCAL = 48, 64, 40.0
WALL, CAR = 20.0, 8.0  # depths [m]
POSE = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])  # looks along x, 1.5 m above the ground
STEP_US = 100_000


def points(depth: float, right: float, up: float) -> np.ndarray:
    """Returns points of a plane before the camera, in the world."""
    u, v = (axis.ravel() for axis in np.meshgrid(np.linspace(-right, right, 41), np.linspace(-up, up, 21)))
    return np.stack([np.full(u.size, depth), u * depth, v * depth + 1.5], axis=1)


def make_log(folder, late_us: int = 0) -> CameraLog:
    """Returns two images; the car drives to the left by 1 m from one to the next, and the sweep of the second is late."""
    views = []
    for k in range(2):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 100 + 20 * k, np.uint8)).save(folder / f"{k}.png")
        views.append(View(0, k * STEP_US, POSE, folder / f"{k}.png"))
    boxes = np.tile(np.eye(4), (3, 1, 1))
    boxes[:, :3, 3] = [[CAR + 1.0, y, 1.5] for y in (0.0, 1.0, 2.0)]
    car = ActorTrack("car", AgentType.VEHICLE, np.array([2.0, 1.0, 3.0]), STEP_US * np.arange(3), boxes)
    time = STEP_US + late_us
    face = points(CAR, 0.05, 0.17) + np.array([0.0, time / STEP_US, 0.0])  # where its near side was then
    xyz = np.concatenate([points(WALL, 0.7, 0.4), face]).astype(np.float32)
    camera = Camera("front", HEIGHT, WIDTH, np.array([FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2]), np.zeros(5))
    sweeps = (Sweep(0, np.eye(4), lambda: xyz[:1]), Sweep(time, np.eye(4), lambda: xyz))
    return CameraLog("wall", "test", "CC0", (camera,), tuple(views), sweeps, (car,))


SPLIT = Split(*(np.array([row]) for row in (0, 1, 0, 1)))


def true_depth(shift_m: float = 1.0) -> np.ndarray:
    """Returns the depth image where the car is so far to the left."""
    u = (np.arange(WIDTH) + 0.5 - WIDTH / 2) / FOCAL * CAR
    depth = np.full((HEIGHT, WIDTH), WALL, np.float32)
    depth[:, np.abs(-u - shift_m) < 0.5] = CAR
    return depth


@pytest.mark.parametrize("late_us", [0, 40_000])
def test_images_and_depths_that_were_held_out(tmp_path, late_us):
    log, asked = make_log(tmp_path, late_us), []

    def draw(view):
        asked.append(view)
        return Drawn(np.full((HEIGHT, WIDTH, 3), 130, np.uint8), 1.1 * true_depth(), np.linalg.inv(POSE))

    found = evaluate(draw, log, Pictures(log), SPLIT)
    assert asked == [1]
    assert found["psnr"] == pytest.approx(20 * np.log10(255 / 10))
    assert found["psnr_worst_tenth"] == found["psnr"]
    assert found["depth_rel_error"] == pytest.approx(0.1, abs=1e-5)
    (row,) = found["per_view"]
    assert (row["view"], row["camera"], row["time_us"], row["traversal"]) == (1, "front", STEP_US, "log")
    assert row["psnr"] == found["psnr"] and row["ssim"] == found["ssim"] and row["depth_rel_error"] == found["depth_rel_error"]


def test_depths_move_with_their_box(tmp_path):
    log = make_log(tmp_path, late_us=40_000)
    image, pictures, boxes = np.full((HEIGHT, WIDTH, 3), 120, np.uint8), Pictures(log), Boxes(log)
    wrong = []
    for shift in (1.0, 1.4):  # where the car is at the time of the image, and of the sweep
        drawn = Drawn(image, true_depth(shift), np.linalg.inv(POSE))
        errors = depth_errors(drawn, 1, log, pictures, SPLIT, boxes)
        assert len(errors) > 500
        wrong.append(np.mean(errors > 0.01))
    assert wrong[0] < 0.04  # at its edges
    assert wrong[1] > 0.1


def test_sweeps_of_other_times_do_not_count(tmp_path):
    log = make_log(tmp_path, late_us=70_000)
    image = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    found = evaluate(lambda _: Drawn(image, true_depth(), np.linalg.inv(POSE)), log, Pictures(log), SPLIT)
    assert found["depth_rel_error"] is None and found["psnr"] == 100.0


def test_nothing_held_out_is_no_measure(tmp_path):
    log, none = make_log(tmp_path), np.zeros(0, np.int64)
    found = evaluate(
        lambda _: pytest.fail("nothing is to be drawn"), log, Pictures(log), Split(np.arange(2), none, np.arange(2), none)
    )
    assert found == {"psnr": None, "psnr_worst_tenth": None, "ssim": None, "depth_rel_error": None, "per_view": []}
