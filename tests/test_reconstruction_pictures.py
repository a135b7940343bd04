"""Pictures against areas averaged by hand, a lens in closed form and OpenCV's maps; the split against counting."""

import numpy as np
import pytest
from PIL import Image

from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.camera_log import Camera, CameraLog, Sweep, View
from worldengine_envs.reconstruction.pictures import Pictures, lens_map, read_rgb
from worldengine_envs.reconstruction.split import split, time_steps
from worldengine_envs.rendering.lenses import undistort

NO_DISTORTION = np.zeros(5)
LENS = np.array([-0.3, 0.08, 0.001, -0.002, 0.0])


def camera_of(height, width, distortion=NO_DISTORTION, **more):
    return Camera("front", height, width, np.array([0.8 * width, 0.9 * width, 0.51 * width, 0.48 * height]), distortion, **more)


def log_of(folder, images, camera, **more):
    views = []
    for i, image in enumerate(images):
        path = folder / f"{i}.png"
        Image.fromarray(image).save(path)
        pose = np.eye(4)
        pose[:3, 3] = i, 0.0, 1.5
        views.append(View(0, 100_000 * i, pose, path, **more))
    return CameraLog("log", "test", "none", (camera,), tuple(views))


def noise(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def area_mean(image, height, width):
    """Each pixel of the smaller image is the mean over the area that it covers, parts of pixels counted as parts."""

    def weights(large, small):
        edges = np.linspace(0, large, small + 1)
        low, high = np.maximum(edges[:-1, None], np.arange(large)), np.minimum(edges[1:, None], np.arange(large) + 1)
        return np.maximum(high - low, 0.0) * small / large

    rows, columns = weights(image.shape[0], height), weights(image.shape[1], width)
    return np.einsum("ij,jkc,lk->ilc", rows, image.astype(float), columns)


class TestPictures:
    @pytest.mark.parametrize(("scale", "size"), [(1.0, (30, 50)), (0.5, (15, 25)), (0.3, (9, 15)), (0.37, (11, 18))])
    def test_areas_are_averaged_and_the_lens_goes_with_them(self, tmp_path, scale, size):
        image, camera = noise(30, 50), camera_of(30, 50)
        pictures = Pictures(log_of(tmp_path, [image], camera), scale)
        picture = pictures[0]
        assert picture.rgb.shape == (*size, 3)
        assert np.abs(picture.rgb - area_mean(image, *size)).max() <= 0.51
        assert picture.usable.shape == size
        assert picture.usable.all()
        shrink = np.array([size[1] / 50, size[0] / 30] * 2)
        assert np.allclose(picture.intrinsics, camera.intrinsics * shrink)
        intrinsics, height, width = pictures.lens(0)
        assert np.array_equal(intrinsics, picture.intrinsics)
        assert (height, width) == size

    def test_pose_is_turned_round(self, tmp_path):
        log = log_of(tmp_path, [noise(4, 6)] * 2, camera_of(4, 6))
        angle = 0.3
        log.views[1].camera_to_world[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        assert np.allclose(Pictures(log)[1].world_to_camera @ log.views[1].camera_to_world, np.eye(4))

    def test_distortion_is_undone(self, tmp_path):
        """The world is a smooth function of the ray; the lens records it bent, the picture has it straight."""

        def world(rays):
            return np.stack([128 + 90 * np.sin(7 * rays[..., 0]), 128 + 90 * np.cos(9 * rays[..., 1]), 100 + 60 * rays[..., 0]], -1)

        camera = camera_of(120, 200, LENS)
        v, u = np.meshgrid(np.arange(120) + 0.5, np.arange(200) + 0.5, indexing="ij")
        seen = (np.stack([u, v], -1) - camera.intrinsics[2:]) / camera.intrinsics[:2]
        image = np.rint(world(undistort(seen, LENS))).astype(np.uint8)
        picture = Pictures(log_of(tmp_path, [image], camera))[0]
        assert 0.8 < picture.usable.mean() <= 1.0
        assert np.abs(picture.rgb - world(seen))[picture.usable].max() < 2.0
        small = Pictures(log_of(tmp_path, [image], camera), 0.25)[0]
        assert np.abs(small.rgb - area_mean(world(seen), 30, 50))[small.usable].max() < 2.0

    @pytest.mark.parametrize("coefficients", [LENS, np.array([0.15, -0.02, 0.003, 0.001, 0.002])])
    def test_maps_are_those_of_opencv(self, coefficients):
        cv2 = pytest.importorskip("cv2")
        camera = camera_of(60, 90, coefficients)
        fx, fy, cx, cy = camera.intrinsics
        matrix = np.array([[fx, 0.0, cx - 0.5], [0.0, fy, cy - 0.5], [0.0, 0.0, 1.0]])
        theirs = np.stack(cv2.initUndistortRectifyMap(matrix, coefficients, None, matrix, (90, 60), cv2.CV_32FC1), axis=-1)
        maps, inside = lens_map(camera)
        assert np.allclose(maps[inside], theirs[inside], atol=1e-3)
        outside = (theirs < -0.5).any(axis=-1) | (theirs > (89.5, 59.5)).any(axis=-1)
        assert np.array_equal(inside, ~outside)

    def test_what_lies_behind_the_fold_is_not_used(self):
        """This lens bends rays from far outside back into the image."""
        _, inside = lens_map(Camera("wide", 100, 100, np.array([30.0, 30.0, 50.0, 50.0]), np.array([-0.3, 0.0, 0.0, 0.0, 0.0])))
        v, u = np.meshgrid(np.arange(100) + 0.5, np.arange(100) + 0.5, indexing="ij")
        radius = np.hypot(u - 50.0, v - 50.0) / 30.0
        assert not inside[radius > np.sqrt(1 / 0.9)].any()
        assert inside[radius < 1.0].all()

    def test_masks_of_camera_and_view_are_both_kept(self, tmp_path):
        of_camera, of_view = np.full((20, 40), 255, np.uint8), np.full((20, 40), 255, np.uint8)
        of_camera[19], of_view[0, 0] = 0, 0
        for name, mask in (("camera", of_camera), ("view", of_view)):
            Image.fromarray(mask).save(tmp_path / f"{name}.png")
        camera = camera_of(20, 40, mask=tmp_path / "camera.png")
        log = log_of(tmp_path, [noise(20, 40)], camera, mask=tmp_path / "view.png")
        usable = Pictures(log, 0.5)[0].usable
        expected = np.ones((10, 20), bool)
        expected[9], expected[0, 0] = False, False
        assert np.array_equal(usable, expected)

    def test_other_kinds_of_images(self, tmp_path):
        grey = noise(6, 8)[..., 0]
        kinds = {
            "grey": (Image.fromarray(grey), np.repeat(grey[..., None], 3, 2)),
            "deep": (Image.fromarray(grey.astype(np.uint16) * 256 + 7), np.repeat(grey[..., None], 3, 2)),
            "alpha": (Image.fromarray(noise(6, 8, 4)), noise(6, 8, 4)[..., :3]),
            "palette": (Image.fromarray(grey).convert("P"), np.repeat(grey[..., None], 3, 2)),
        }
        for name, (image, rgb) in kinds.items():
            image.save(tmp_path / f"{name}.png")
            assert np.array_equal(read_rgb(tmp_path / f"{name}.png"), rgb), name

    def test_what_is_kept_is_bounded(self, tmp_path):
        images = [noise(20, 30, seed=i) for i in range(12)]
        pictures = Pictures(log_of(tmp_path, images, camera_of(20, 30)), 1.0, max_bytes=3 * 20 * 30 * 3)
        for _ in range(2):
            for i, image in enumerate(images):
                assert np.array_equal(pictures[i].rgb, image)
                assert sum(kept.rgb.nbytes for kept in pictures._kept.values()) <= pictures.max_bytes
        assert pictures[11] is pictures[11]
        assert list(pictures._kept) == [9, 10, 11]
        assert len(pictures) == 12

    def test_images_that_would_fill_the_memory_are_refused(self, tmp_path, monkeypatch):
        log = log_of(tmp_path, [noise(20, 30)], camera_of(20, 30))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        with pytest.raises(DataError, match="cannot be read as an image"):
            Pictures(log)[0]

    def test_bad_images_are_named(self, tmp_path):
        log = log_of(tmp_path, [noise(20, 30)] * 3, camera_of(20, 31))
        pictures = Pictures(log)
        with pytest.raises(DataError, match="30x20, but camera front has 31x20"):
            pictures[0]
        log.views[1].image.write_bytes(log.views[1].image.read_bytes()[:300])
        log.views[2].image.write_text("no image")
        for i in (1, 2):
            with pytest.raises(DataError) as caught:
                pictures[i]
            assert caught.value.file == log.views[i].image
        with pytest.raises(DataError, match="scale"):
            Pictures(log, 0.0)


class TestSplit:
    def log(self, times_us, sweeps_us=(), traversal="log", cameras=2, spread_us=0):
        camera = camera_of(4, 6)
        views = [View(c, time + c * spread_us, np.eye(4), None, traversal) for time in times_us for c in range(cameras)]
        sweeps = tuple(Sweep(time, np.eye(4), None, traversal) for time in sweeps_us)
        return CameraLog("log", "test", "none", (camera,) * cameras, tuple(views), sweeps, (), (traversal,))

    @pytest.mark.parametrize("spread_us", [0, 20_000])
    def test_every_eighth_with_all_its_cameras_and_sweeps(self, spread_us):
        times = [100_000 * i for i in range(30)]
        log = self.log(times, [400_000 * i for i in range(8)], spread_us=spread_us)
        found = split(log, 8)
        steps = (4, 12, 20, 28)
        assert found.test.tolist() == [2 * i + c for i in steps for c in range(2)]
        assert found.test_sweeps.tolist() == [1, 3, 5, 7]
        assert sorted([*found.train, *found.test]) == list(range(60))
        assert sorted([*found.train_sweeps, *found.test_sweeps]) == list(range(8))

    def test_sweeps_within_half_a_step(self):
        log = self.log([0, 100_000, 200_000, 300_000], [51_000, 100_000, 149_000, 151_000, 290_000])
        assert split(log, 4, 1).test_sweeps.tolist() == [0, 1, 2]

    def test_each_traversal_counts_for_itself(self):
        day, dusk = self.log([0, 1, 2, 3], traversal="day", cameras=1), self.log([7, 8, 9], traversal="dusk", cameras=1)
        both = CameraLog("log", "test", "none", day.cameras, day.views + dusk.views, (), (), ("day", "dusk"))
        assert split(both, 2, 1).test.tolist() == [1, 3, 5]

    def test_a_missing_image_does_not_shift_the_steps(self):
        log = self.log([100_000 * i for i in range(10)])
        views = log.views[:4] + log.views[5:]
        step, times = time_steps(CameraLog("log", "test", "none", log.cameras, views), "log")
        assert step.tolist() == [0, 0, 1, 1, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9]
        assert np.allclose(times, np.arange(10) * 100_000)

    def test_cameras_that_fire_once_are_one_step(self):
        step, _ = time_steps(self.log([0], cameras=6, spread_us=8_000), "log")
        assert step.tolist() == [0] * 6

    def test_nothing_held_out_and_bad_requests(self):
        log = self.log([0, 1, 2])
        assert len(split(log, 0).test) == 0
        for every, first, words in ((-1, None, "negative"), (4, 4, "not from 0 to 3"), (1, 0, "every image")):
            with pytest.raises(DataError, match=words):
                split(log, every, first)
