"""Readers of camera logs: poses, lenses, sweeps and boxes agree with what the data sets say in other places."""

import json
from dataclasses import replace
from zipfile import ZipFile

import numpy as np
import pytest
from factory import Agent, straight_scenario
from PIL import Image

from worldengine_envs.city.camera_log import CameraLogSettings, write_camera_log
from worldengine_envs.city.sensors import LidarSettings
from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.pictures import read_rgb
from worldengine_envs.reconstruction.readers import files
from worldengine_envs.reconstruction.readers.dgp import _pose
from worldengine_envs.reconstruction.readers.files import read_array, yaw_pose
from worldengine_envs.reconstruction.readers.nuscenes import read_nuscenes
from worldengine_envs.reconstruction.readers.registry import FORMATS, join_logs, read_camera_log
from worldengine_envs.scenario.types import AgentType
from worldengine_envs.sources.pickles import load_pickle


def seen_at(log, view, world):
    """Returns (n, 2) pixels and (n,) depth of points (n, 3) in a view."""
    to_camera = np.linalg.inv(view.camera_to_world)
    local = world @ to_camera[:3, :3].T + to_camera[:3, 3]
    intrinsics = log.cameras[view.camera].intrinsics
    return local[:, :2] / local[:, 2:] * intrinsics[:2] + intrinsics[2:], local[:, 2]


def in_world(sweep):
    return sweep.read() @ sweep.lidar_to_world[:3, :3].T + sweep.lidar_to_world[:3, 3]


class TestKittiOdometry:
    def write(self, folder, frames=3):
        """A sequence of two cameras, the second 0.5 m to the right, that drives 2 m a frame along z and climbs 0.1 m."""
        lens = np.array([[100.0, 0.0, 32.0], [0.0, 100.0, 16.0], [0.0, 0.0, 1.0]])
        rows = [np.column_stack((lens, lens @ np.array([-offset, 0.0, 0.0]))) for offset in (0.0, 0.5)]
        (folder / "calib.txt").write_text("\n".join(f"P{i}: " + " ".join(map(str, row.ravel())) for i, row in enumerate(rows)))
        poses = [np.column_stack((np.eye(3), (5.0, -0.1 * k, 2.0 * k))) for k in range(frames)]
        (folder / "poses.txt").write_text("\n".join(" ".join(map(str, pose.ravel())) for pose in poses))
        for name in ("image_0", "image_1"):
            (folder / name).mkdir()
            for k in range(frames):
                Image.fromarray(np.full((32, 64), 40 * k, np.uint8)).save(folder / name / f"{k:06d}.png")

    def test_world_is_z_up_and_starts_at_the_first_pose(self, tmp_path):
        self.write(tmp_path)
        log = read_camera_log("kitti", [tmp_path])
        assert [camera.name for camera in log.cameras] == ["image_0", "image_1"]
        assert np.allclose(log.cameras[0].intrinsics, (100.0, 100.0, 32.5, 16.5))
        assert [view.time_us for view in log.views] == [0, 0, 100_000, 100_000, 200_000, 200_000]
        places = np.stack([view.camera_to_world[:3, 3] for view in log.views])
        left = [(2.0 * k, 0.0, 1.65 + 0.1 * k) for k in range(3)]
        assert np.allclose(places[0::2], left)
        assert np.allclose(places[1::2], np.array(left) - (0.0, 0.5, 0.0))
        forward = log.views[0].camera_to_world[:3, 2]
        assert np.allclose(forward, (1.0, 0.0, 0.0))

    def test_times_file_and_images_without_a_pose(self, tmp_path):
        self.write(tmp_path)
        (tmp_path / "times.txt").write_text("0.0\n0.11\n0.23\n")
        Image.fromarray(np.zeros((32, 64), np.uint8)).save(tmp_path / "image_0" / "000003.png")
        log = read_camera_log("kitti", [tmp_path])
        assert [view.time_us for view in log.views[::2]] == [0, 110_000, 230_000]
        assert any("image_0" in problem and "without a pose" in problem for problem in log.problems)
        assert len(log.views) == 6

    @pytest.mark.parametrize(
        ("name", "text", "words"),
        [
            ("calib.txt", "P0: 1 2 3", "12"),
            ("calib.txt", "P0: " + "0 " * 12, "no projection"),
            ("poses.txt", "1 0 0 0 0 1 0 0 0 0 1 x", "no number"),
            ("poses.txt", "", "no poses"),
            ("times.txt", "0 0.1", "numbers"),
        ],
    )
    def test_malformed_files_are_named(self, tmp_path, name, text, words):
        self.write(tmp_path)
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=words) as caught:
            read_camera_log("kitti", [tmp_path])
        assert caught.value.file == tmp_path / name

    def test_epipolar_lines_of_the_real_street(self, shared):
        """Features found by OpenCV in two images lie on the lines that poses and lenses give."""
        cv2 = pytest.importorskip("cv2")
        log = read_camera_log("kitti", [shared / "data" / "kitti_stereo"], check=False)
        assert len(log.views) == 102
        left, right, later = log.views[40], log.views[41], log.views[42]
        assert np.isclose(np.linalg.norm(left.camera_to_world[:3, 3] - right.camera_to_world[:3, 3]), 0.537, atol=1e-3)
        fx, fy, cx, cy = log.cameras[0].intrinsics
        inverse = np.linalg.inv([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
        image = read_rgb(left.image)[..., 0].copy()
        corners = cv2.goodFeaturesToTrack(image, 500, 0.01, 8)
        for other in (right, later):
            moved, good, _ = cv2.calcOpticalFlowPyrLK(image, read_rgb(other.image)[..., 0].copy(), corners, None, maxLevel=5)
            a, b = (points[good.ravel() > 0, 0] + 0.5 for points in (corners, moved))
            motion = np.linalg.inv(other.camera_to_world) @ left.camera_to_world
            x, y, z = motion[:3, 3]
            fundamental = inverse.T @ np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]]) @ motion[:3, :3] @ inverse
            lines = np.column_stack((a, np.ones(len(a)))) @ fundamental.T
            off = np.abs((lines * np.column_stack((b, np.ones(len(b))))).sum(axis=1)) / np.hypot(lines[:, 0], lines[:, 1])
            assert np.median(off) < 0.5


class TestKittiRaw:
    def test_short_layout(self, shared):
        log = read_camera_log("kitti-raw", [shared / "data" / "kitti_rgb_lidar"])
        assert (len(log.views), len(log.sweeps), log.problems) == (30, 8, ())
        assert [sweep.time_us for sweep in log.sweeps] == [400_000 * k for k in range(8)]
        road = in_world(log.sweeps[0])
        near = road[(np.abs(road[:, 1]) < 2.0) & (road[:, 0] > 4.0) & (road[:, 0] < 12.0)]
        assert abs(np.percentile(near[:, 2], 20)) < 0.1
        travelled = np.linalg.norm(log.views[29].camera_to_world[:3, 3] - log.views[0].camera_to_world[:3, 3])
        assert 5.0 < travelled < 6.5
        pixels, depth = seen_at(log, log.views[0], road[road[:, 0] > 3.0])
        assert ((pixels > 0).all(axis=1) & (pixels < (1242, 375)).all(axis=1) & (depth > 0)).mean() > 0.3

    def test_drive_of_kitti(self, tmp_path):
        """The files of a drive that heads north-east at 10 m a frame, with a parked car 10 m ahead of the first scan."""
        day, drive = tmp_path / "2011_09_26", tmp_path / "2011_09_26" / "2011_09_26_drive_0001_sync"
        for name in ("image_02/data", "velodyne_points/data", "oxts/data"):
            (drive / name).mkdir(parents=True)
        identity = "1 0 0 0 1 0 0 0 1"
        optical = "0 -1 0 0 0 -1 1 0 0"  # the Velodyne looks along x, the camera along z
        lines = [f"R_rect_00: {identity}", "P_rect_02: 100 0 32 6 0 100 16 0 0 0 1 0"]
        (day / "calib_cam_to_cam.txt").write_text("calib_time: 09-Jan-2012\n" + "\n".join(lines))
        (day / "calib_velo_to_cam.txt").write_text(f"R: {optical}\nT: 0 -0.08 -0.27")
        (day / "calib_imu_to_velo.txt").write_text(f"R: {identity}\nT: -0.8 0 -0.8")
        radius, latitude, yaw = 6378137.0, 49.0, np.pi / 4
        for k in range(3):
            step = np.degrees(10.0 * k * np.sqrt(0.5) / radius)
            row = (latitude + step, 8.0 + step / np.cos(np.radians(latitude)), 110.0, 0.0, 0.0, yaw)
            (drive / f"oxts/data/{k:010d}.txt").write_text(" ".join(f"{value:.12f}" for value in (*row, *[0.0] * 24)))
            Image.fromarray(np.zeros((32, 64, 3), np.uint8)).save(drive / f"image_02/data/{k:010d}.png")
            np.array([[10.0 - 10.0 * k, 0.0, -1.0, 0.5]], np.float32).tofile(drive / f"velodyne_points/data/{k:010d}.bin")
        stamps = [f"2011-09-26 13:02:25.{k}00000000" for k in range(3)]
        (drive / "image_02" / "timestamps.txt").write_text("\n".join(stamps))
        poses = "".join(f"<item><tx>{10 - 10 * k}</tx><ty>0</ty><tz>-1.7</tz><rz>0</rz></item>" for k in range(2))
        car = "<objectType>Car</objectType><h>1.4</h><w>1.8</w><l>4</l><first_frame>0</first_frame>"
        car = f"<item>{car}<poses>{poses}</poses></item>"
        (drive / "tracklet_labels.xml").write_text(f"<boost_serialization><tracklets>{car}</tracklets></boost_serialization>")
        log = read_camera_log("kitti-raw", [drive])
        assert np.allclose(np.diff([view.time_us for view in log.views]), 100_000)
        points = np.concatenate([in_world(sweep) for sweep in log.sweeps])
        assert np.abs(points - points[0]).max() < 0.01  # one place, seen from three
        first = log.views[0].camera_to_world
        assert np.allclose(first[:3, 2], (np.sqrt(0.5), np.sqrt(0.5), 0.0), atol=1e-6)
        assert np.isclose(first[2, 3], 0.93 + 0.8 - 0.08, atol=1e-6)
        local = np.linalg.inv(first) @ (*points[0], 1.0)
        assert np.allclose(local[:3], (0.06, 0.92, 9.73), atol=1e-3)  # P_rect moves points 0.06 m to the right
        actor = log.actors[0]
        assert (actor.type, list(actor.size), len(actor.time_us)) == (AgentType.VEHICLE, [4.0, 1.8, 1.4], 2)
        assert np.allclose(actor.box_to_world[:, :2, 3], points[0, :2], atol=0.01)

    def test_what_is_missing_is_named(self, tmp_path):
        (tmp_path / "calib.json").write_text("{}")
        with pytest.raises(DataError, match="K_rect"):
            read_camera_log("kitti-raw", [tmp_path])
        (tmp_path / "calib.json").unlink()
        with pytest.raises(DataError, match="calib_cam_to_cam"):
            read_camera_log("kitti-raw", [tmp_path])


class TestNuScenes:
    def test_boxes_are_where_the_images_have_them(self, shared):
        folder = shared / "data" / "nuscenes_frame"
        log = read_camera_log("nuscenes", [folder], check=False)
        sample = load_pickle(next(folder.glob("*.pkl")))["data_list"][0]
        centers = np.stack([actor.box_to_world[0, :3, 3] for actor in log.actors])
        count = 0
        for view in log.views:
            pixels, depth = seen_at(log, view, centers)
            for box in sample["cam_instances"][log.cameras[view.camera].name]:
                off = np.abs(pixels[depth > 0] - np.array(box["center_2d"]) - 0.5).max(axis=1)
                assert off.min() < 0.01
                count += 1
        assert count == 84
        points = in_world(log.sweeps[0])
        assert abs(np.percentile(points[np.hypot(*points[:, :2].T) < 15][:, 2], 20)) < 0.2
        inside = 0
        for actor in log.actors:
            local = (points - actor.box_to_world[0, :3, 3]) @ actor.box_to_world[0, :3, :3]
            inside += (np.abs(local) <= 0.5 * actor.size).all(axis=1).sum()
        listed = sum(box["num_lidar_pts"] for box in sample["instances"])
        assert abs(inside - listed) < 0.05 * listed

    def test_boxes_are_followed(self, shared, monkeypatch):
        """Three samples half a second apart: a car at 8 m/s, one that stands beside its path, a pedestrian who comes late."""
        path = next((shared / "data" / "nuscenes_frame").glob("*.pkl"))
        data = load_pickle(path)
        samples = []
        for k in range(3):
            boxes = [(0, (8.0 * 0.5 * k, 20.0), (8.0, 0.0)), (0, (4.0, 23.0), (np.nan, np.nan))]
            boxes += [(7, (0.0, 15.0), (0.0, 1.0))] * (k > 0)
            entries = [
                {"bbox_3d": [*place, 0.0, 4.0, 2.0, 1.5, 0.0], "bbox_label_3d": label, "velocity": velocity}
                for label, place, velocity in boxes
            ]
            samples.append(data["data_list"][0] | {"timestamp": 100.0 + 0.5 * k, "instances": entries[:: -1 if k == 1 else 1]})
        lists = {"metainfo": data["metainfo"], "data_list": samples}
        monkeypatch.setattr("worldengine_envs.sources.pickles.load_pickle", lambda _: lists)
        log, _ = read_nuscenes(path)
        assert sorted(len(actor.time_us) for actor in log.actors) == [2, 3, 3]
        moved = [np.linalg.norm(actor.box_to_world[-1, :3, 3] - actor.box_to_world[0, :3, 3]) for actor in log.actors]
        assert sorted(np.round(moved, 6)) == [0.0, 0.0, 8.0]


class TestDgp:
    @pytest.mark.parametrize(("scene", "cameras", "actors"), [("scene_01", 3, 97), ("scene_02", 6, 13)])
    def test_boxes_agree_with_those_of_the_cameras(self, shared, scene, cameras, actors):
        folder = shared / "data" / "surround_rgb_lidar" / scene
        log = read_camera_log("dgp", [folder], check=False)
        assert (len(log.cameras), len(log.views), len(log.sweeps), len(log.actors)) == (cameras, 3 * cameras, 3, actors)
        tracks = {actor.token: actor for actor in log.actors}
        data = json.loads(next(folder.glob("scene_*.json")).read_text())["data"]
        images = {entry["datum"]["image"]["filename"]: entry["datum"]["image"] for entry in data if "image" in entry["datum"]}
        compared = 0
        for view in log.views:
            entry = images[view.image.relative_to(folder).as_posix()]
            for box in json.loads((folder / entry["annotations"]["1"]).read_text())["annotations"]:
                actor = tracks[str(box["instance_id"])]
                (row,) = np.flatnonzero(actor.time_us == view.time_us)
                assert np.allclose(np.linalg.inv(view.camera_to_world) @ actor.box_to_world[row], _pose(box["box"]["pose"]))
                compared += 1
        assert compared > 30

    def test_a_data_set_is_no_scene(self, shared):
        with pytest.raises(DataError, match="scene_01, scene_02"):
            read_camera_log("dgp", [shared / "data" / "surround_rgb_lidar"])


@pytest.fixture(scope="module")
def city_log(tmp_path_factory):
    """Folder of a log of a street with a car and a pedestrian, and the scenario."""
    scenario = straight_scenario([Agent(15.0, 0.0), Agent(12.0, 3.0, kind=AgentType.PEDESTRIAN)], speed=5.0)
    settings = CameraLogSettings(
        cameras="front",
        image_size=(36, 64),
        first_step=15,
        last_step=17,
        every=2,
        truth=True,
        lidar=LidarSettings(beams=16, columns=300),
    )
    return write_camera_log(scenario, tmp_path_factory.mktemp("city") / "log", settings).parent


class TestCity:
    def test_boxes_and_returns_are_where_the_images_have_them(self, city_log):
        log = read_camera_log("city", [city_log])
        assert (len(log.views), len(log.sweeps), len(log.actors), log.problems) == (2, 2, 2, ())
        assert sorted(actor.type for actor in log.actors) == [AgentType.VEHICLE, AgentType.PEDESTRIAN]
        for i, (view, sweep) in enumerate(zip(log.views, log.sweeps, strict=True)):
            truth = city_log / "truth" / "instance" / view.image.relative_to(city_log / "images")
            instance = np.asarray(Image.open(truth))
            centers = np.stack([actor.box_to_world[i, :3, 3] for actor in log.actors])
            pixels, _ = seen_at(log, view, centers)
            column, row = pixels.astype(int).T
            assert sorted(instance[row, column]) == [2, 3]
            ground = in_world(sweep)[:, 2]
            assert (np.abs(ground) < 0.1).mean() > 0.3
        assert log.views[1].time_us - log.views[0].time_us == 200_000

    def test_several_logs_are_laid_over_each_other(self, city_log, tmp_path):
        """The second log is of a place 100 m to the east, at dusk, with another lens."""
        data = json.loads((city_log / "log.json").read_text())
        data["offset"][0] += 100.0
        data["time_of_day"] = "dusk"
        data["cameras"]["CAM_F0"]["intrinsics"][0] += 1.0
        data |= {"frames": [frame | {"images": {}} for frame in data["frames"][:1]] + data["frames"][1:]}
        (tmp_path / "log.json").write_text(json.dumps(data))
        both = read_camera_log("city", [city_log, tmp_path], check=False)
        first = json.loads((city_log / "log.json").read_text())["time_of_day"]
        assert both.traversals == (first, "dusk")
        assert [camera.name for camera in both.cameras] == ["CAM_F0", "CAM_F0@dusk"]
        assert [(view.traversal, view.camera) for view in both.views] == [(first, 0), (first, 0), ("dusk", 1)]
        apart = both.views[2].camera_to_world - both.views[1].camera_to_world
        assert np.allclose(apart[:3, 3], (100.0, 0.0, 0.0))
        assert len({actor.token for actor in both.actors}) == 4
        assert np.allclose(
            both.actors[2].box_to_world - both.actors[0].box_to_world, np.pad([[100.0], [0], [0], [0]], ((0, 0), (3, 0)))
        )

    def test_equal_cameras_become_one_and_equal_names_do_not(self, city_log):
        log = read_camera_log("city", [city_log], check=False)
        both = join_logs([log, log, log], ["monday", "tuesday", "tuesday"])
        assert both.cameras == log.cameras
        assert both.traversals == (log.traversals[0], f"{log.traversals[0]}-tuesday", f"{log.traversals[0]}-2")
        assert [view.traversal for view in both.views] == [name for name in both.traversals for _ in range(2)]
        noted = join_logs([replace(log, problems=("a",)), log], ["x", "y"])
        assert noted.problems == ("x: a",)

    def test_the_least_that_a_log_of_ones_own_needs(self, tmp_path):
        """Two cameras that fire one after the other, each with its own pose; a mask beside them for one, and for one image."""
        (tmp_path / "masks" / "b").mkdir(parents=True)
        for name in ("a", "b", "masks/a", "masks/b/b"):
            Image.fromarray(np.full((12, 20), 255, np.uint8)).save(tmp_path / f"{name}.png")
        lens = {"height": 12, "width": 20, "intrinsics": [20.0, 20.0, 10.0, 6.0], "camera_to_ego": np.eye(4).tolist()}
        poses = np.tile(np.eye(4), (2, 1, 1))
        poses[:, :3, :3], poses[1, 0, 3] = [[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]], 0.4
        frames = [
            {"time_us": 1000 * (1 - i), "ego_to_world": poses[i].tolist(), "images": {name: f"{name}.png"}}
            for i, name in enumerate("ab")
        ]
        data = {"format": "worldengine-camera-log", "version": 1, "cameras": {"a": lens, "b": lens}, "frames": frames}
        (tmp_path / "log.json").write_text(json.dumps(data))
        log = read_camera_log("city", [tmp_path])
        assert [view.image.name for view in log.views] == ["b.png", "a.png"]
        assert np.array_equal(log.views[0].camera_to_world, poses[1])
        assert [camera.mask and camera.mask.name for camera in log.cameras] == ["a.png", None]
        assert [view.mask and view.mask.name for view in log.views] == ["b.png", None]
        assert (log.traversals, log.actors, log.sweeps, log.problems) == (("log",), (), (), ())
        (tmp_path / "log.json").write_text(json.dumps(data | {"time_of_day": "late, at night " + 100 * "x"}))
        (late,) = read_camera_log("city", [tmp_path]).traversals
        assert late.startswith("late_at_night_x") and len(late) == 64  # a scene may have it for an appearance

    @pytest.mark.parametrize(
        ("place", "value", "words"),
        [
            (("frames", 0, "time_us"), float("inf"), "malformed"),
            (("frames", 0, "time_us"), "x", "malformed"),
            (("frames", 0, "time_us"), 10**30, "malformed"),
            (("frames", 0, "ego_to_world"), [[1.0]], "shape"),
            (("frames", 0, "ego_to_world", 0, 0), float("inf"), "no rigid motion"),
            (("frames", 0, "images", "CAM_F0"), "none.png", "missing"),
            (("frames", 0, "boxes", 0, "yaw"), float("nan"), "no rigid motion"),
            (("frames", 0, "boxes", 0, "track"), 99, "malformed"),
            (("cameras", "CAM_F0", "width"), 0, "no image that can be used"),
        ],
    )
    def test_one_bad_value_is_refused_or_left_out(self, city_log, tmp_path, place, value, words):
        for name in ("images", "lidar"):
            (tmp_path / name).symlink_to(city_log / name)
        data = json.loads((city_log / "log.json").read_text())
        entry = data
        for key in place[:-1]:
            entry = entry[key]
        entry[place[-1]] = value
        (tmp_path / "log.json").write_text(json.dumps(data))
        try:
            log = read_camera_log("city", [tmp_path])
        except DataError as error:
            assert words in str(error)
        else:
            assert any(words in problem for problem in log.problems)

    @pytest.mark.parametrize("text", ["{", "[]", '{"format": "worldengine-camera-log", "version": 1}', '{"format": "other"}'])
    def test_malformed_logs_are_named(self, tmp_path, text):
        (tmp_path / "log.json").write_text(text)
        with pytest.raises(DataError, match="log"):
            read_camera_log("city", [tmp_path])


class TestRegistry:
    def test_every_reader_is_there(self):
        for form in FORMATS.values():
            assert callable(form.reader())

    def test_bad_requests_name_what_is_wrong(self, tmp_path):
        with pytest.raises(DataError, match="Known: city, kitti"):
            read_camera_log("kity", [tmp_path])
        with pytest.raises(DataError, match="no camera log"):
            read_camera_log("city", [])
        with pytest.raises(DataError, match="does not exist"):
            read_camera_log("city", [tmp_path / "none"])
        with pytest.raises(DataError, match="Of these they can: city"):
            read_camera_log("kitti", [tmp_path, tmp_path])

    def test_foreign_pickles_are_not_run(self, tmp_path):
        (tmp_path / "a.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
        with pytest.raises(DataError, match="refused"):
            read_camera_log("nuscenes", [tmp_path])


class TestSweeps:
    def test_files_that_claim_more_than_they_hold(self, tmp_path, monkeypatch):
        with (tmp_path / "huge.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 3)})
        with ZipFile(tmp_path / "huge.npz", "w") as archive:
            archive.write(tmp_path / "huge.npy", "data.npy")
        np.savez_compressed(tmp_path / "bomb.npz", data=np.zeros((10_000, 3)))
        for name in ("huge.npy", "huge.npz"):
            with pytest.raises(DataError, match="cannot be read as a LiDAR sweep"):
                read_array(tmp_path / name, "data", 3)
        assert read_array(tmp_path / "bomb.npz", "data", 3).shape == (10_000, 3)
        monkeypatch.setattr(files, "MAX_SWEEP_BYTES", 100_000)
        with pytest.raises(DataError, match="more than 100000 bytes"):
            read_array(tmp_path / "bomb.npz", "data", 3)

    def test_arrays_of_numpy_and_raw_floats_are_read(self, tmp_path):
        xyzi = np.arange(12, dtype=np.float32).reshape(3, 4)
        np.save(tmp_path / "a.npy", xyzi)
        np.save(tmp_path / "none.npy", xyzi[:0])
        xyzi.tofile(tmp_path / "a.bin")
        assert all(np.array_equal(read_array(tmp_path / name, None, 4), xyzi) for name in ("a.npy", "a.bin"))
        assert len(read_array(tmp_path / "none.npy", None, 4)) == 0


def test_yaw_turns_from_x_to_y():
    assert np.allclose(yaw_pose(np.pi / 2, np.zeros(3)) @ (1.0, 0.0, 0.0, 1.0), (0.0, 1.0, 0.0, 1.0))


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "a/../../b.png"])
def test_a_log_names_files_in_its_own_folder_only(tmp_path, name):
    eye = np.eye(4).tolist()
    camera = {"height": 8, "width": 8, "intrinsics": [8, 8, 4, 4], "camera_to_ego": eye}
    frame = {"time_us": 0, "ego_to_world": eye, "images": {"front": name}}
    content = {"format": "worldengine-camera-log", "version": 1, "cameras": {"front": camera}, "frames": [frame]}
    (tmp_path / "log.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="out of its folder"):
        read_camera_log("city", [tmp_path])
