"""The images of a camera log as training wants them: pinhole, smaller, with what must not be used marked."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.camera_log import Camera, CameraLog
from worldengine_envs.reconstruction.opencv import opencv
from worldengine_envs.rendering.cameras import rigid_inverse
from worldengine_envs.rendering.lenses import distort, fold_radius

MAX_BYTES = 512 * 2**20


class Picture(NamedTuple):
    """An image and its pinhole camera."""

    rgb: np.ndarray  # (h, w, 3) uint8
    usable: np.ndarray  # (h, w) bool, False: beyond the lens' image, or masked
    intrinsics: np.ndarray  # (4,) float64 fx, fy, cx, cy [px]; the first pixel's centre is at 0.5, 0.5
    world_to_camera: np.ndarray  # (4, 4) float64


class Pictures:
    """Reads images when they are asked for and keeps the last ones.

    A lens' distortion is undone on the full image, keeping its intrinsics; then areas are averaged. A pixel is usable if all
    of its area is. Nothing here knows which images are held out: ask only for those that may be seen.

    Args:
        log: Names the files.
        scale: Of the images' sides, in (0, 1].
        max_bytes: Of the images that are kept, at least one always is.

    Raises:
        DataError: There is no such scale, or OpenCV is not installed.
    """

    def __init__(self, log: CameraLog, scale: float = 1.0, max_bytes: int = MAX_BYTES):
        if not 0.0 < scale <= 1.0:
            raise DataError(f"{scale!r} is not in (0, 1]", field="scale")
        opencv()
        self.log, self.scale, self.max_bytes = log, scale, max_bytes
        self._kept: OrderedDict[int, Picture] = OrderedDict()
        self._bytes = 0
        self._warps: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._usable: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.log.views)

    def __getitem__(self, row: int) -> Picture:
        """Returns the image of a row of ``log.views``.

        Raises:
            DataError: It cannot be read, or is not of its camera's size.
        """
        row = range(len(self.log.views))[row]
        if row in self._kept:
            self._kept.move_to_end(row)
            return self._kept[row]
        picture = self._read(row)
        self._kept[row] = picture
        self._bytes += self._cost(row, picture)
        while self._bytes > self.max_bytes and len(self._kept) > 1:
            old, dropped = self._kept.popitem(last=False)
            self._bytes -= self._cost(old, dropped)
        return picture

    def lens(self, row: int) -> tuple[np.ndarray, int, int]:
        """Returns (4,) float64 fx, fy, cx, cy [px], height and width [px] of a row's picture, without reading it."""
        camera = self.log.cameras[self.log.views[row].camera]
        height, width = (max(round(side * self.scale), 1) for side in (camera.height, camera.width))
        shrink = np.array([width / camera.width, height / camera.height])
        return np.asarray(camera.intrinsics, np.float64) * np.tile(shrink, 2), height, width

    def _cost(self, row: int, picture: Picture) -> int:
        """Returns the bytes of a picture; what all images of a camera share costs nothing."""
        return picture.rgb.nbytes + (0 if self.log.views[row].mask is None else picture.usable.nbytes)

    def _read(self, row: int) -> Picture:
        cv2, view = opencv(), self.log.views[row]
        camera = self.log.cameras[view.camera]
        intrinsics, height, width = self.lens(row)
        rgb = read_rgb(view.image)
        _check_size(rgb, camera, view.image)
        if np.any(camera.distortion):
            rgb = cv2.remap(rgb, self._warp(view.camera)[0], None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        if (height, width) != rgb.shape[:2]:
            rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
        usable = self._usable_of(view.camera, height, width)
        if view.mask is not None:
            usable = usable & self._unmasked(view.camera, view.mask, height, width)
        return Picture(rgb, usable, intrinsics, rigid_inverse(view.camera_to_world))

    def _usable_of(self, row: int, height: int, width: int) -> np.ndarray:
        """Returns (height, width) bool what all images of a camera have in common."""
        if row not in self._usable:
            camera = self.log.cameras[row]
            usable = np.ones((height, width), bool)
            if np.any(camera.distortion):
                usable &= _all_of_area(self._warp(row)[1], height, width)
            if camera.mask is not None:
                usable &= self._unmasked(row, camera.mask, height, width)
            self._usable[row] = usable
        return self._usable[row]

    def _unmasked(self, row: int, path: Path, height: int, width: int) -> np.ndarray:
        """Returns (height, width) bool where a mask, which is drawn as the lens sees, lets pixels be used."""
        camera, cv2 = self.log.cameras[row], opencv()
        mask = read_mask(path, camera.height, camera.width)
        if np.any(camera.distortion):
            mask = cv2.remap(mask, self._warp(row)[0], None, cv2.INTER_NEAREST)
        return _all_of_area(mask > 0, height, width)

    def _warp(self, camera: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns for each pixel of the pinhole image where the lens saw it, (H, W, 2) float32, and whether it did."""
        if camera not in self._warps:
            self._warps[camera] = lens_map(self.log.cameras[camera])
        return self._warps[camera]


def lens_map(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Returns where a lens sees the pixels of a pinhole camera of the same intrinsics and size.

    Returns:
        (H, W, 2) float32 x, y [px] with the first pixel's centre at 0, 0 (as OpenCV resamples), and (H, W) bool whether that is
        inside the image and before the lens model folds back.
    """
    v, u = np.meshgrid(np.arange(camera.height) + 0.5, np.arange(camera.width) + 0.5, indexing="ij")
    focal, center = np.asarray(camera.intrinsics[:2], np.float64), np.asarray(camera.intrinsics[2:], np.float64)
    points = (np.stack([u, v], axis=-1) - center) / focal
    seen = distort(points, camera.distortion) * focal + center - 0.5
    inside = np.hypot(points[..., 0], points[..., 1]) < fold_radius(camera.distortion)
    inside &= ((seen >= -0.5) & (seen <= np.array([camera.width, camera.height]) - 0.5)).all(axis=-1)
    return np.where(inside[..., None], seen, -1.0).astype(np.float32), inside


def read_rgb(path: Path) -> np.ndarray:
    """Returns (H, W, 3) uint8 an image file's pixels as they lie in it; grey becomes three equal channels, 16 bits become 8.

    Raises:
        DataError: The file is missing or truncated, or no image.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I"):
                grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=2)
            return np.array(image.convert("RGB"))
    except UnidentifiedImageError:
        raise DataError("is no image that can be read", file=path) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot be read as an image ({error})", file=path) from None


def read_mask(path: Path, height: int, width: int) -> np.ndarray:
    """Returns (height, width) uint8: 0 where a mask says that pixels are never used, else 255.

    Raises:
        DataError: It cannot be read, or has another size.
    """
    mask = read_rgb(path)
    if mask.shape[:2] != (height, width):
        remedy = "Masks have the size of their camera's images"
        raise DataError(f"{mask.shape[1]}x{mask.shape[0]}, not {width}x{height}", file=path, field="mask", remedy=remedy)
    return np.where(mask.any(axis=2), 255, 0).astype(np.uint8)


def _all_of_area(usable: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns (height, width) bool: all that a pixel of the smaller image covers is usable."""
    if usable.shape == (height, width):
        return usable
    cv2 = opencv()
    return cv2.resize(usable.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) > 1.0 - 1e-4


def _check_size(rgb: np.ndarray, camera: Camera, path: Path) -> None:
    if rgb.shape[:2] != (camera.height, camera.width):
        problem = f"{rgb.shape[1]}x{rgb.shape[0]}, but camera {camera.name} has {camera.width}x{camera.height}"
        raise DataError(problem, file=path, field="image")
