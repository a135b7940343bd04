"""Views beside the path: what an image shows has to be seen from a few metres aside too, where no camera of the log ever was.

A training image is moved, pixel by pixel, by the depth that was just drawn for it, into a camera that stands aside. What is drawn
for that camera should look the same wherever a pixel of the image has come to lie: colours that fit one line of sight only, and
Gaussians that float before a camera unseen, do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from worldengine_envs.reconstruction.camera_log import CameraLog
from worldengine_envs.reconstruction.losses import l1_ssim
from worldengine_envs.reconstruction.pictures import Picture
from worldengine_envs.rendering.differentiable import Rendering
from worldengine_envs.simulation.kernels import inlined_kernel, kernel

if TYPE_CHECKING:
    from worldengine_envs.reconstruction.trainer import Trainer

FARTHEST_M = 3.0  # to which side of the path
EVERY, FIRST = 4, 0.2  # iterations from one look aside to the next; share of the iterations before the first
LEAST_KNOWN = 0.05  # share of an image
LEAST_ALPHA = 0.5  # pixels that are less opaque have no depth
EDGE = 0.05  # by how much inverse depth bends at an edge, relative to itself; on a plane it is straight
IN_FRONT = 0.15  # relative difference of depths that are one surface
NEAREST_M = 0.5
STILL_M = 0.05  # a camera that moves less from image to image does not say which way it drives


def left_of_path(log: CameraLog) -> np.ndarray:
    """Returns (V, 3) unit vectors that point horizontally to the left of the path at each view.

    The path leads from the camera's last place to its next; where it stands, the direction is that of its x axis.
    """
    centers = np.array([view.camera_to_world[:3, 3] for view in log.views]).reshape(-1, 3)
    ahead = np.zeros_like(centers)
    groups: dict[tuple[int, str], list[int]] = {}
    for v, view in enumerate(log.views):
        groups.setdefault((view.camera, view.traversal), []).append(v)
    for rows in groups.values():
        if len(rows) > 1:
            ahead[rows] = np.gradient(centers[rows], axis=0)
    left = np.stack([-ahead[:, 1], ahead[:, 0], np.zeros(len(ahead))], axis=1)
    across = np.array([view.camera_to_world[:3, 0] for view in log.views]).reshape(-1, 3) * (1.0, 1.0, 0.0)
    left = np.where(np.linalg.norm(left, axis=1, keepdims=True) > STILL_M, left, -across)
    return left / np.maximum(np.linalg.norm(left, axis=1, keepdims=True), 1e-9)


def beside_loss(trainer: Trainer, view: int, picture: Picture, rendering: Rendering) -> torch.Tensor | None:
    """Returns how much what is seen from a random place aside differs from the image (mean absolute difference).

    Args:
        trainer: Whose scene is drawn; its generator is asked for one number.
        view: A training view.
        picture: Its image.
        rendering: What was just drawn for it.

    Returns:
        A scalar, differentiable; None where it is not the time to look aside, or hardly anything is known of the image there.
    """
    if trainer.iteration % EVERY or trainer.iteration < FIRST * trainer.settings.iterations:
        return None
    pose = trainer.corrections.world_to_camera(view).detach()
    reach = FARTHEST_M * (2.0 * float(torch.rand((), generator=trainer.generator)) - 1.0)
    relative = torch.eye(4, dtype=pose.dtype)
    relative[:3, 3] = -pose[:3, :3] @ torch.from_numpy(reach * trainer.left[view])
    depth, alpha = (image[0].detach().cpu().numpy() for image in (rendering.depth, rendering.alpha))
    rgb, known = moved_image(picture.rgb, picture.usable, depth, alpha, picture.intrinsics, relative.numpy())
    if known.mean() < LEAST_KNOWN:
        return None
    aside = trainer.render(view, relative=relative)
    return l1_ssim(trainer.corrections.exposed(aside.rgb[0], view), rgb, known).l1


def moved_image(rgb, usable, depth, alpha, intrinsics, relative) -> tuple[np.ndarray, np.ndarray]:
    """Returns what is known of the image of a camera beside: rgb (H, W, 3) uint8 and where it is known (H, W) bool.

    Args:
        rgb: (H, W, 3) uint8 an image.
        usable: (H, W) bool its pixels that count.
        depth: (H, W) float32 their depth [m].
        alpha: (H, W) float32 how sure it is.
        intrinsics: (4,) fx, fy, cx, cy [px] of both cameras.
        relative: (4, 4) from the image's camera into the one beside.
    """
    nearest = np.full(depth.shape, np.inf, np.float32)
    total, count = np.zeros(rgb.shape, np.float32), np.zeros(depth.shape, np.int32)
    arrays = (np.ascontiguousarray(array) for array in (rgb, usable, depth, alpha))
    _move(*arrays, np.asarray(intrinsics, np.float64), np.ascontiguousarray(relative, np.float64), nearest, total, count)
    return np.rint(total / np.maximum(count, 1)[..., None]).astype(np.uint8), count > 0


@inlined_kernel
def _edge(depth, r, c):
    """Returns whether a pixel may be a mixture of what lies before and behind an edge."""
    near = 1.0 / depth[r, c]
    for i, j in ((1, 0), (0, 1)):
        a, b = depth[r - i, c - j], depth[r + i, c + j]
        if a < NEAREST_M or b < NEAREST_M or abs(1.0 / a + 1.0 / b - 2.0 * near) > EDGE * near:
            return True
    return False


@kernel
def _move(rgb, usable, depth, alpha, intrinsics, m, nearest, total, count):
    """Adds up colours (H, W, 3) and their number (H, W) where pixels come to lie; first finds what is ``nearest`` around there."""
    height, width = depth.shape
    fx, fy, cx, cy = intrinsics
    for turn in range(2):
        for r in range(1, height - 1):
            for c in range(1, width - 1):
                d = depth[r, c]
                if not usable[r, c] or alpha[r, c] < LEAST_ALPHA or d < NEAREST_M:
                    continue
                x, y = d * (c + 0.5 - cx) / fx, d * (r + 0.5 - cy) / fy
                z = m[2, 0] * x + m[2, 1] * y + m[2, 2] * d + m[2, 3]
                if z < NEAREST_M:
                    continue
                u = int(np.floor(fx * (m[0, 0] * x + m[0, 1] * y + m[0, 2] * d + m[0, 3]) / z + cx))
                v = int(np.floor(fy * (m[1, 0] * x + m[1, 1] * y + m[1, 2] * d + m[1, 3]) / z + cy))
                if turn == 0:  # a surface hides what is behind it between its pixels too
                    for i in range(max(v - 1, 0), min(v + 2, height)):
                        for j in range(max(u - 1, 0), min(u + 2, width)):
                            nearest[i, j] = min(nearest[i, j], z)
                elif 0 <= u < width and 0 <= v < height and not _edge(depth, r, c) and z < (1.0 + IN_FRONT) * nearest[v, u]:
                    count[v, u] += 1
                    for k in range(3):
                        total[v, u, k] += rgb[r, c, k]
