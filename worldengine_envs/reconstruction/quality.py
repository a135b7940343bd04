"""How good a reconstruction is, by the images and LiDAR sweeps that it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from worldengine_envs.reconstruction.camera_log import CameraLog
from worldengine_envs.reconstruction.metrics import psnr, relative_depth_errors, ssim
from worldengine_envs.reconstruction.pictures import Pictures
from worldengine_envs.reconstruction.points.boxes import Boxes
from worldengine_envs.reconstruction.points.colour import hidden, project
from worldengine_envs.reconstruction.points.lidar import sweep_points
from worldengine_envs.reconstruction.split import Split

if TYPE_CHECKING:
    from worldengine_envs.reconstruction.trainer import Trainer

FARTHEST_M = 120.0  # measurements beyond say nothing
LATEST_US = 60_000  # a sweep is compared with an image that was taken so much earlier or later
ENOUGH = 5000  # measurements of one image: memory does not grow with the density of sweeps


class Drawn(NamedTuple):
    """What a reconstruction shows in place of an image of the log."""

    rgb: np.ndarray  # (H, W, 3) float32 in [0, 1], or uint8
    depth: np.ndarray  # (H, W) float32 [m]
    world_to_camera: np.ndarray  # (4, 4) where the camera is thought to have been


def evaluate(draw: Callable[[int], Drawn], log: CameraLog, pictures: Pictures, split: Split) -> dict:
    """Compares all held-out images, and sweeps taken at their times, with what is drawn.

    Args:
        draw: Returns what is seen from a row of ``log.views``.
        log: What was recorded.
        pictures: Its images.
        split: Which are held out.

    Returns:
        ``psnr`` [dB] and ``ssim``, means over views; ``psnr_worst_tenth``, mean over the worst tenth of them (at least one);
        ``depth_rel_error``, the median over measurements of |drawn - measured| / measured; ``per_view``, a list of rows with
        ``view``, ``camera``, ``time_us``, ``traversal`` and the same measures. Where nothing is held out they are None.
    """
    boxes, rows, pooled = Boxes(log), [], []
    for v in split.test:
        view, picture, drawn = log.views[v], pictures[int(v)], draw(int(v))
        errors = depth_errors(drawn, int(v), log, pictures, split, boxes)
        pooled.append(errors)
        row = {"view": int(v), "camera": log.cameras[view.camera].name, "time_us": int(view.time_us), "traversal": view.traversal}
        row |= {"psnr": psnr(drawn.rgb, picture.rgb, picture.usable), "ssim": ssim(drawn.rgb, picture.rgb, picture.usable)}
        rows.append(row | {"depth_rel_error": float(np.median(errors)) if len(errors) else None})
    errors, levels = np.concatenate([np.zeros(0), *pooled]), np.sort([row["psnr"] for row in rows])
    return {
        "psnr": float(levels.mean()) if rows else None,
        "psnr_worst_tenth": float(levels[: -(-len(levels) // 10)].mean()) if rows else None,
        "ssim": float(np.mean([row["ssim"] for row in rows])) if rows else None,
        "depth_rel_error": float(np.median(errors)) if len(errors) else None,
        "per_view": rows,
    }


def depth_errors(drawn: Drawn, v: int, log: CameraLog, pictures: Pictures, split: Split, boxes: Boxes) -> np.ndarray:
    """Returns (S,) relative errors of a view's depth by the held-out sweep nearest in time; none if there is none in time.

    Measurements on actors are moved with their boxes to the time of the image; those behind nearer ones, which another eye than
    the LiDAR's may not see, do not count.
    """
    view = log.views[v]
    times = {
        int(s): abs(log.sweeps[s].time_us - view.time_us) for s in split.test_sweeps if log.sweeps[s].traversal == view.traversal
    }
    if not times or min(times.values()) > LATEST_US:
        return np.zeros(0)
    sweep = log.sweeps[min(times, key=times.get)]
    local, node = boxes.divide(sweep_points(sweep, FARTHEST_M), sweep.time_us, sweep.traversal)
    xyz, there = boxes.gather(local, node, view.time_us, view.traversal)
    intrinsics, height, width = pictures.lens(v)
    _, row, column, depth = project(xyz[there], drawn.world_to_camera, intrinsics, height, width)
    seen = np.flatnonzero(pictures[v].usable[row, column] & ~hidden(row, column, depth, height, width))
    seen = seen[:: max(-(-len(seen) // ENOUGH), 1)]
    return relative_depth_errors(drawn.depth, row[seen] * width + column[seen], depth[seen])


def as_trained(trainer: Trainer) -> Callable[[int], Drawn]:
    """Returns what draws a training's Gaussians for ``evaluate``: with corrected poses and exposures."""

    @torch.no_grad()
    def draw(view: int) -> Drawn:
        rendering = trainer.render(view)
        rgb = trainer.corrections.exposed(rendering.rgb[0], view)
        pose = trainer.corrections.world_to_camera(view).numpy()
        return Drawn(rgb.cpu().numpy(), rendering.depth[0].cpu().numpy(), pose)

    return draw
