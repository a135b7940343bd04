"""Depth of an image by optical flow to others whose poses are known."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from worldengine_envs.reconstruction.opencv import opencv
from worldengine_envs.reconstruction.pictures import Picture
from worldengine_envs.simulation.threads import num_threads

THERE_AND_BACK_PX = 1.0  # flow there and back ends at most so far from where it began
EPIPOLAR_PX = 1.0  # and so far from the line on which the poses say it must end
LEAST_PX = 1.0  # parallax under which nothing is said about depth
AGREEING_PX = 1.0  # error of a match, when it is judged whether two images say the same depth
ALONE_PX = 4.0  # parallax with which one image alone is believed
TEXTURE = 2.0  # standard deviation of the grey values around a pixel, of 255, under which a match is a guess
WINDOW_PX = 7
NEAREST_M = 0.5
LEAST_SIDE_PX = 12  # smaller images have no flow


class Depth(NamedTuple):
    """What one image's pixels are away."""

    depth: np.ndarray  # (H, W) float32 along the camera's z [m], 0 = not known
    parallax: np.ndarray  # (H, W) float32 how far pixels move between the images when their depth changes by a factor e [px]


def flow_depth(picture: Picture, others: list[Picture], farthest_m: float) -> Depth:
    """Returns the depth of the pixels whose matches in other images fit the poses and one another.

    The flow (Kroeger et al. 2016, dense inverse search) has to end where it began when it is followed there and back, and near the
    epipolar line; then the point on the pixel's ray that is nearest to the match (least squares) is taken. Images that disagree
    about a pixel mean that something moves, or a wrong match: it is left out.

    Args:
        picture: Whose depth.
        others: Images of the same from elsewhere; those of another size are left out.
        farthest_m: Depths beyond are left out.
    """
    shape = picture.usable.shape
    others = [other for other in others if other.usable.shape == shape and min(shape) >= LEAST_SIDE_PX]
    if not others:
        none = np.zeros(shape, np.float32)
        return Depth(none, none)
    grey = _grey(picture)
    matches = _flows(grey, [_grey(other) for other in others])
    found = [_triangulate(picture, other, *match, farthest_m) for other, match in zip(others, matches, strict=True)]
    depth, parallax = _agree(np.stack([d for d, _ in found]), np.stack([p for _, p in found]))
    known = picture.usable & _textured(grey)
    return Depth(np.where(known, depth, 0.0).astype(np.float32), np.where(known, parallax, 0.0).astype(np.float32))


def _grey(picture: Picture) -> np.ndarray:
    return opencv().cvtColor(picture.rgb, opencv().COLOR_RGB2GRAY)


def _textured(grey: np.ndarray) -> np.ndarray:
    """Returns (H, W) bool where grey values differ."""
    cv2, values = opencv(), grey.astype(np.float32)
    mean = cv2.blur(values, (WINDOW_PX, WINDOW_PX))
    return cv2.blur(values * values, (WINDOW_PX, WINDOW_PX)) - mean * mean > TEXTURE * TEXTURE


def _flows(grey: np.ndarray, others: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the flow to each other image and back, (H, W, 2) float32 [px]; the same with any number of threads."""
    cv2, tasks = opencv(), [pair for other in others for pair in ((grey, other), (other, grey))]
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)  # it would search stripes of the image, as many as there are threads
    try:
        with ThreadPoolExecutor(num_threads()) as pool:
            flows = list(pool.map(lambda pair: _flow(*pair), tasks))
    finally:
        cv2.setNumThreads(before)
    return list(zip(flows[::2], flows[1::2], strict=True))


def _flow(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns (H, W, 2) float32 where pixels of a go in b [px]."""
    cv2 = opencv()
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)
    return search.calc(a, b, None)


def _triangulate(
    picture: Picture, other: Picture, there: np.ndarray, back: np.ndarray, farthest_m: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns depth and parallax (H, W) by one other image, 0 where there is no match."""
    cv2 = opencv()
    height, width = picture.usable.shape
    v, u = np.meshgrid(np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32), indexing="ij")
    to_u, to_v = u + there[..., 0], v + there[..., 1]  # the first pixel's centre at 0, 0
    home = cv2.remap(back, to_u, to_v, cv2.INTER_LINEAR)
    seen = (to_u >= 0) & (to_u <= other.usable.shape[1] - 1) & (to_v >= 0) & (to_v <= other.usable.shape[0] - 1)
    good = seen & (np.hypot(there[..., 0] + home[..., 0], there[..., 1] + home[..., 1]) < THERE_AND_BACK_PX)
    depth, parallax, off = _nearest_on_rays(picture, other, u + 0.5, v + 0.5, to_u + 0.5, to_v + 0.5)
    good &= (off < EPIPOLAR_PX) & (parallax > LEAST_PX) & (depth > NEAREST_M) & (depth < farthest_m)
    return np.where(good, depth, 0.0), np.where(good, parallax, 0.0)


def _nearest_on_rays(picture: Picture, other: Picture, u, v, to_u, to_v):
    """Returns depth along a pixel's ray [m], parallax [px] and how far off it the match is [px], inf = none."""
    fx, fy, cx, cy = picture.intrinsics
    gx, gy, ox, oy = other.intrinsics
    turn = other.world_to_camera @ np.linalg.inv(picture.world_to_camera)
    rays = np.stack(((u - cx) / fx, (v - cy) / fy, np.ones_like(u)), axis=-1) @ turn[:3, :3].T  # in the other camera, a metre deep
    t, x, y = turn[:3, 3], (to_u - ox) / gx, (to_v - oy) / gy
    a = np.stack((gx * (rays[..., 0] - x * rays[..., 2]), gy * (rays[..., 1] - y * rays[..., 2])))  # a depth = b
    b = np.stack((gx * (x * t[2] - t[0]), gy * (y * t[2] - t[1])))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        depth = (a * b).sum(0) / (a * a).sum(0)
        ahead = depth * rays[..., 2] + t[2]
        off = np.hypot(*(a * depth - b)) / np.abs(ahead)
        move = np.stack((gx * (rays[..., 0] * t[2] - rays[..., 2] * t[0]), gy * (rays[..., 1] * t[2] - rays[..., 2] * t[1])))
        parallax = np.hypot(*move) * depth / (ahead * ahead)
    bad = ~np.isfinite(depth) | ~np.isfinite(parallax) | (ahead < NEAREST_M)
    return np.where(bad, 0.0, depth), np.where(bad, 0.0, parallax), np.where(bad, np.inf, off)


def _agree(depth: np.ndarray, parallax: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean depth (H, W) and parallax of the pixels about which images (M, H, W) agree, 0 elsewhere.

    Errors of the logarithm of the depth are as 1 / parallax; means are weighted by its square.
    """
    known = depth > 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        log, error = np.where(known, np.log(depth), 0.0), np.where(known, AGREEING_PX / parallax, np.inf)
    best = np.argmax(parallax, axis=0)[None]
    first, first_error = np.take_along_axis(log, best, 0), np.take_along_axis(error, best, 0)
    agreeing = known & (np.abs(log - first) < 2.0 * (error + first_error))
    weight = np.where(agreeing, parallax * parallax, 0.0)
    total = weight.sum(0)
    votes, strongest = agreeing.sum(0), parallax.max(0)
    accepted = (votes == known.sum(0)) & ((votes >= 2) | ((votes == 1) & (strongest > ALONE_PX)))
    mean = np.exp((weight * log).sum(0) / np.where(total > 0.0, total, 1.0))
    return np.where(accepted, mean, 0.0), np.where(accepted, np.sqrt(total), 0.0)
