"""Logs with something wrong in them: the rest is used, and what is left out is said."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from reconstruction_room import write_log

from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.camera_log import ActorTrack, Camera, CameraLog, Sweep, View
from worldengine_envs.reconstruction.checks import checked, lens_problem
from worldengine_envs.reconstruction.checks_agreement import agreement_problems
from worldengine_envs.reconstruction.checks_motion import jumping, rigid
from worldengine_envs.scenario.types import AgentType

FORWARD = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # axes of a camera that looks along x
FRAMES, HEIGHT, WIDTH = 10, 24, 40


def pose_at(x, y=0.0, z=1.5, rotation=FORWARD):
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, (x, y, z)
    return pose


def box_at(*places):
    return np.stack([pose_at(*place, rotation=np.eye(3)) for place in places])


@pytest.fixture
def log(tmp_path):
    """Two cameras side by side that drive 1 m a frame along x, a LiDAR, and a car 10 m ahead."""
    lens = np.array([40.0, 40.0, WIDTH / 2, HEIGHT / 2])
    cameras = tuple(Camera(name, HEIGHT, WIDTH, lens, np.zeros(5)) for name in ("left", "right"))
    views = []
    for k in range(FRAMES):
        for c, camera in enumerate(cameras):
            path = tmp_path / f"{camera.name}_{k}.png"
            Image.fromarray(np.random.default_rng(k).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(path)
            views.append(View(c, 100_000 * k, pose_at(1.0 * k, -0.5 * c), path))
    points = np.array([[10.0, 0.0, -1.0], [20.0, 5.0, 0.0], [-10.0, 0.0, -1.0]], np.float32)
    sweeps = tuple(Sweep(100_000 * k, pose_at(1.0 * k, rotation=np.eye(3)), lambda: points) for k in range(FRAMES))
    times = np.arange(FRAMES) * 100_000
    car = ActorTrack(
        "car", AgentType.VEHICLE, np.array([4.0, 2.0, 1.5]), times, box_at(*((10.0 + k, 0.0, 0.8) for k in range(FRAMES)))
    )
    return CameraLog("street", "test", "none", cameras, tuple(views), sweeps, (car,))


def with_views(log, change):
    """The log with views changed by ``change(frame, camera, view)``."""
    return replace(log, views=tuple(change(i // 2, i % 2, view) for i, view in enumerate(log.views)))


def only_problem(log):
    (problem,) = log.problems
    return problem


class TestImages:
    def test_a_good_log_stays_as_it_is(self, log):
        good = checked(log)
        assert (good.views, good.cameras, good.actors, good.problems) == (log.views, log.cameras, log.actors, ())
        assert [len(sweep.read()) for sweep in good.sweeps] == [3] * FRAMES

    def test_missing_truncated_and_wrong_sized_images(self, log):
        for frame in (1, 2, 3, 4):
            log.views[2 * frame].image.unlink()
        broken, small, text = (log.views[2 * frame + 1].image for frame in (5, 6, 7))
        broken.write_bytes(broken.read_bytes()[:200])
        Image.new("RGB", (WIDTH // 2, HEIGHT // 2)).save(small)
        text.write_text("no image")
        left = checked(log)
        assert [view.image.name for view in log.views if view not in left.views] == [
            "left_1.png", "left_2.png", "left_3.png", "left_4.png", "right_5.png", "right_6.png", "right_7.png",
        ]  # fmt: skip
        assert left.problems == (
            "camera left: 4 of 10 images are missing (left_1.png, left_2.png, left_3.png, ...); left out",
            "camera right: 2 of 10 images cannot be read (right_5.png, right_7.png); left out",
            "camera right: 1 of 10 images are 20x12, not 40x24 as the intrinsics say (right_6.png); left out",
        )

    def test_an_image_that_comes_twice(self, log):
        left = checked(replace(log, views=(log.views[0], *log.views)))
        assert left.views == log.views
        assert "second time" in only_problem(left)

    def test_masks_that_do_not_fit(self, log, tmp_path):
        Image.new("L", (3, 3), 255).save(tmp_path / "mask.png")
        cameras = (replace(log.cameras[0], mask=tmp_path / "mask.png"), log.cameras[1])
        views = (replace(log.views[0], mask=tmp_path / "none.png"), *log.views[1:])
        left = checked(replace(log, cameras=cameras, views=views))
        assert left.cameras[0].mask is None
        assert len(left.views) == len(log.views) - 1
        assert ["camera left" in problem and "mask" in problem for problem in left.problems] == [True, True]

    def test_masks_that_hide_everything(self, log, tmp_path):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        Image.fromarray(mask).save(tmp_path / "all.png")
        mask[: HEIGHT // 2] = 255
        Image.fromarray(mask).save(tmp_path / "half.png")
        cameras = (replace(log.cameras[0], mask=tmp_path / "all.png"), replace(log.cameras[1], mask=tmp_path / "half.png"))
        views = (log.views[0], replace(log.views[1], mask=tmp_path / "all.png"), *log.views[2:])
        left = checked(replace(log, cameras=cameras, views=views))
        assert [camera.name for camera in left.cameras] == ["right"] and len(left.views) == FRAMES - 1
        assert left.problems == (
            "camera left: its mask hides its images; left out with its 10 images",
            "camera right: 1 of 10 images are hidden by their masks (right_0.png); left out",
        )

    def test_nothing_left_says_why(self, log):
        for view in log.views:
            view.image.unlink()
        with pytest.raises(DataError, match=r"no image that can be used is left.*10 of 10 images are missing"):
            checked(log)


class TestLenses:
    @pytest.mark.parametrize(
        ("intrinsics", "words"),
        [
            ((80.0, 80.0, 40.0, 24.0), "principal point is at 40.0, 24.0"),  # for images of twice the size
            ((20.0, 20.0, 10.0, 6.0), "principal point"),  # of half the size
            ((40.0, 90.0, 20.0, 12.0), "focal lengths"),
            ((np.nan, 40.0, 20.0, 12.0), "no such lens"),
            ((-40.0, -40.0, 20.0, 12.0), "no such lens"),
            ((0.5, 0.5, 20.0, 12.0), "degrees"),
        ],
    )
    def test_one_camera_goes_the_other_stays(self, log, intrinsics, words):
        bad = replace(log.cameras[0], intrinsics=np.array(intrinsics))
        left = checked(replace(log, cameras=(bad, log.cameras[1])))
        assert [camera.name for camera in left.cameras] == ["right"]
        assert [view.camera for view in left.views] == [0] * FRAMES
        assert words in only_problem(left)
        assert "camera left" in only_problem(left)

    def test_distortion_that_folds_back(self, log):
        camera = replace(
            log.cameras[0], intrinsics=np.array([15.0, 15.0, 20.0, 12.0]), distortion=np.array([-2.0, 0.0, 0.0, 0.0, 0.0])
        )
        assert "folds back" in lens_problem(camera)
        assert lens_problem(replace(camera, distortion=np.array([-0.2, 0.02, 0.0, 0.0, 0.0]))) == ""

    def test_those_of_the_real_cameras_fit(self, shared):
        from worldengine_envs.reconstruction.readers.registry import read_camera_log

        data = shared / "data"
        for form, folder in (("kitti", "kitti_stereo"), ("kitti-raw", "kitti_rgb_lidar"), ("nuscenes", "nuscenes_frame")):
            for camera in read_camera_log(form, [data / folder], check=False).cameras:
                assert lens_problem(camera) == ""


class TestPoses:
    def test_a_pose_that_jumps_takes_its_image_and_its_sweep(self, log):
        jump = pose_at(4.0, 6.0)
        views = with_views(log, lambda frame, camera, view: replace(view, camera_to_world=jump) if frame == 4 else view).views
        sweeps = tuple(replace(s, lidar_to_world=pose_at(3.0, z=9.0)) if s.time_us == 300_000 else s for s in log.sweeps)
        left = checked(replace(log, views=views, sweeps=sweeps))
        assert len(left.views) == 2 * FRAMES - 2
        assert {view.time_us for view in left.views} == set(range(0, 1_000_000, 100_000)) - {400_000}
        assert {sweep.time_us for sweep in left.sweeps} == set(range(0, 1_000_000, 100_000)) - {300_000}
        assert left.problems == (
            "camera left: 1 of 10 poses jump off the path (left_4.png); their images are left out",
            "camera right: 1 of 10 poses jump off the path (right_4.png); their images are left out",
            "LiDAR: 1 of 10 poses jump off the path (0.3 s); their sweeps are left out",
        )

    def test_poses_that_are_no_motions(self, log):
        bad = {1: np.full((4, 4), np.nan), 2: np.diag([1.0, 1.0, -1.0, 1.0]), 3: 2.0 * np.eye(4)}
        views = with_views(
            log, lambda frame, camera, view: replace(view, camera_to_world=bad[frame]) if frame in bad and camera == 0 else view
        ).views
        left = checked(replace(log, views=views))
        assert len(left.views) == 2 * FRAMES - 3
        assert "3 of 10 poses are no rigid motion" in only_problem(left)

    def test_rigid(self):
        assert rigid(pose_at(1.0, 2.0))
        assert not rigid(np.eye(3))
        assert not rigid(np.diag([1.0, 1.0, 1.1, 1.0]))

    @pytest.mark.parametrize(
        ("jumpers", "offset"), [((3,), 3.0), ((0,), 4.0), ((19,), -4.0), ((5, 6, 7), 8.0), (tuple(range(13, 20)), 5.0)]
    )
    def test_the_longest_drive_stays(self, jumpers, offset):
        """Single frames, several in a row, and a localisation that never comes back."""
        poses = np.stack([pose_at(0.5 * i, offset * (i in jumpers)) for i in range(20)])
        assert jumping(np.arange(20) * 100_000, poses) == list(jumpers)

    def test_a_turn_on_the_spot_jumps(self):
        poses = np.stack([pose_at(0.5 * i) for i in range(20)])
        poses[8, :3, :3] = FORWARD @ np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
        assert jumping(np.arange(20) * 100_000, poses) == [8]

    @settings(max_examples=60, deadline=None)
    @given(
        st.integers(0, 10_000), st.sampled_from([0.05, 0.1, 0.5]), st.floats(0.0, 35.0), st.floats(-0.6, 0.6), st.floats(-6.0, 3.0)
    )
    def test_no_real_drive_jumps(self, seed, period, speed, yaw_rate, acceleration):
        """Braking, turning with up to 8 m/s2 to the side, images that are missing, and centimetres of noise."""
        rng = np.random.default_rng(seed)
        seconds = np.sort(rng.choice(np.arange(60), 45, replace=False)) * period
        v = np.maximum(speed + acceleration * np.arange(0.0, 60 * period, 0.01), 0.0)
        rate = np.clip(yaw_rate, -8.0 / np.maximum(v, 1.0), 8.0 / np.maximum(v, 1.0))
        yaw = np.cumsum(rate) * 0.01
        x, y = np.cumsum(v * np.cos(yaw)) * 0.01, np.cumsum(v * np.sin(yaw)) * 0.01
        rows = np.minimum((seconds / 0.01).astype(int), len(v) - 1)
        turn = np.stack([[[np.cos(a), -np.sin(a), 0.0], [np.sin(a), np.cos(a), 0.0], [0.0, 0.0, 1.0]] for a in yaw[rows]])
        poses = np.stack([pose_at(x[r], y[r], rotation=t @ FORWARD) for r, t in zip(rows, turn, strict=True)])
        poses[:, :3, 3] += rng.normal(0.0, 0.03, (45, 3))
        assert jumping((seconds * 1e6).astype(np.int64), poses) == []


class TestSweepsAndActors:
    def test_sweeps_that_cannot_be_read(self, log):
        def fail():
            raise DataError("cannot be read as a LiDAR sweep", file="a.bin")

        nan = np.array([[np.nan, 0.0, 0.0], [1.0, 2.0, 3.0]], np.float32)
        reads = {0: fail, 1: lambda: np.zeros((0, 3), np.float32), 2: lambda: nan}
        left = checked(replace(log, sweeps=tuple(replace(s, read=reads.get(i, s.read)) for i, s in enumerate(log.sweeps))))
        assert len(left.sweeps) == FRAMES - 2
        assert left.sweeps[0].read().tolist() == [[1.0, 2.0, 3.0]]
        assert "2 of 10 sweeps cannot be used" in only_problem(left)

    def test_a_box_in_no_image_goes_with_its_returns(self, log):
        """One is behind both cameras, one above them, one so far off that it is smaller than a pixel."""
        places = {"behind": (-10.0, 0.0, 0.5), "above": (10.0, 0.0, 60.0), "far": (9000.0, 0.0, 1.0)}
        times = np.arange(FRAMES) * 100_000
        size = np.array([4.0, 2.0, 1.5])
        unseen = [
            ActorTrack(name, AgentType.VEHICLE, size, times, box_at(*((x + k, y, z) for k in range(FRAMES))))
            for name, (x, y, z) in places.items()
        ]
        left = checked(replace(log, actors=(*log.actors, *unseen)))
        assert [actor.token for actor in left.actors] == ["car"]
        assert "3 of 4 are in no image (behind, above, far)" in only_problem(left)
        assert [len(sweep.read()) for sweep in left.sweeps] == [2] * FRAMES

    @pytest.mark.parametrize(("place", "seen"), [((6.0, 2.0, 0.0), True), ((0.0, 8.0, 0.0), False), ((3.0, 3.0, 0.0), True)])
    def test_boxes_at_the_edge(self, log, place, seen):
        """The camera sees 26.6 degrees to each side; a box beside it reaches into the picture or does not."""
        actor = ActorTrack("edge", AgentType.VEHICLE, np.array([4.0, 2.0, 1.5]), np.array([0]), box_at(place))
        left = checked(replace(log, actors=(actor,)))
        assert bool(left.actors) == seen

    @pytest.mark.parametrize("size", [(0.0, 2.0, 1.5), (4.0, np.nan, 1.5), (400.0, 2.0, 1.5)])
    def test_boxes_without_a_size(self, log, size):
        left = checked(replace(log, actors=(*log.actors, replace(log.actors[0], token="odd", size=np.array(size)))))
        assert [actor.token for actor in left.actors] == ["car"]
        assert "actor odd: a box of" in only_problem(left)

    @pytest.mark.parametrize("token", ["car", "background", "sky"])
    def test_tokens_that_are_taken(self, log, token):
        left = checked(replace(log, actors=(*log.actors, replace(log.actors[0], token=token))))
        assert left.actors == log.actors
        assert only_problem(left) == f"actor {token}: another has its token; left out"

    def test_a_track_whose_times_do_not_increase(self, log):
        actor = replace(log.actors[0], time_us=log.actors[0].time_us[::-1])
        assert "do not increase" in only_problem(checked(replace(log, actors=(actor,))))


class TestParallax:
    def test_a_camera_that_never_moves(self, log):
        views = tuple(replace(view, camera_to_world=pose_at(0.0)) for view in log.views if view.camera == 0)
        still = checked(replace(log, views=views))
        assert "no parallax" in only_problem(still)
        assert "LiDAR alone" in only_problem(still)
        assert len(still.views) == FRAMES
        assert "guessed" in only_problem(checked(replace(log, views=views, sweeps=())))

    def test_stereo_and_driving_have_it(self, log):
        pair = tuple(view for view in log.views if view.time_us == 0)
        assert checked(replace(log, views=pair)).problems == ()
        single = tuple(view for view in log.views if view.camera == 0)
        assert checked(replace(log, views=single)).problems == ()

    def test_cameras_back_to_back_have_none(self, log):
        back = FORWARD @ np.diag([-1.0, 1.0, -1.0])
        views = (log.views[0], replace(log.views[1], camera_to_world=pose_at(-2.0, rotation=back)))
        assert "no parallax" in checked(replace(log, views=views, actors=())).problems[0]


class TestAgreement:
    """Images of a patterned ground and wall, past which a camera drives (see ``reconstruction_room``)."""

    def test_poses_that_the_images_follow(self, tmp_path):
        assert agreement_problems(write_log(tmp_path)) == []

    @pytest.mark.parametrize("wrong", ["backwards", "axes"])
    def test_poses_that_they_do_not_follow_are_said(self, tmp_path, wrong):
        room = write_log(tmp_path)
        axes = np.diag([1.0, -1.0, -1.0, 1.0])  # y up and z back, as some programs have them
        poses = [pose_at(-v.camera_to_world[0, 3]) if wrong == "backwards" else v.camera_to_world @ axes for v in room.views]
        views = tuple(replace(view, camera_to_world=pose) for view, pose in zip(room.views, poses, strict=True))
        (problem,) = agreement_problems(replace(room, views=views))
        assert "camera camera_0" in problem
        assert "do not" in problem or "does not" in problem

    def test_a_lens_is_taken_into_account(self, tmp_path):
        """With distortion that the images do not have, corners still go the right way; nothing breaks."""
        room = write_log(tmp_path)
        bent = replace(room.cameras[0], distortion=np.array([-0.2, 0.05, 0.0, 0.0, 0.0]))
        assert agreement_problems(replace(room, cameras=(bent,))) == []

    def test_nothing_is_said_where_nothing_moves(self, log, tmp_path):
        assert agreement_problems(write_log(tmp_path, moving=False)) == []
        assert agreement_problems(log) == []  # noise, in which no corner is found again


def test_a_traversal_without_images_goes_whole(log):
    views = with_views(log, lambda frame, camera, view: replace(view, traversal="day" if frame < 5 else "dusk")).views
    sweeps = tuple(replace(s, traversal="day" if s.time_us < 500_000 else "dusk") for s in log.sweeps)
    actors = (replace(log.actors[0], traversal="dusk"), replace(log.actors[0], token="other", traversal="day"))
    for view in views[10:]:
        view.image.unlink()
    left = checked(replace(log, views=views, sweeps=sweeps, actors=actors, traversals=("day", "dusk")))
    assert left.traversals == ("day",)
    assert (len(left.sweeps), [actor.token for actor in left.actors]) == (5, ["other"])
    assert any("traversal dusk" in problem for problem in left.problems)
