"""Which Gaussians may be seen at all: training changes all of them at every step, but packs only these."""

from __future__ import annotations

import math

import numpy as np

from worldengine_envs.rendering.cpu.projection import MAX_EXTEND, WIDEST
from worldengine_envs.simulation.kernels import inlined_kernel, kernel

FAINTEST = -5.6  # logit: opacity under 1/255, whatever rounding does
SLACK = 1e-5  # of the distance, against rounding


@kernel
def find_in_sight(first, last, means, scales, opacities, poses, lenses, width, height, settings, seen):
    """Writes for Gaussians first to last - 1 whether some camera may draw them.

    By the rules of ``projection._outside``, with a sphere around the mean that is as small as rounding. What is not finite is not
    looked at here.

    Args:
        first, last: Rows.
        means, scales, opacities: (N, 3), (N, 3), (N,) float32 as in ``Gaussians``.
        poses: (C, 4, 4) float64 world to camera.
        lenses: (C, 4) float64 fx, fy, cx, cy [px].
        width, height: [px]
        settings: near [m], far [m], eps2d [px^2].
        seen: (N,) bool, written.
    """
    for g in range(first, last):
        seen[g] = False
        if opacities[g] < FAINTEST:
            continue
        p0, p1, p2 = np.float64(means[g, 0]), np.float64(means[g, 1]), np.float64(means[g, 2])
        spread = 1.001 * MAX_EXTEND * math.exp(np.float64(max(scales[g, 0], scales[g, 1], scales[g, 2])))
        for c in range(len(poses)):
            x = poses[c, 0, 0] * p0 + poses[c, 0, 1] * p1 + poses[c, 0, 2] * p2 + poses[c, 0, 3]
            y = poses[c, 1, 0] * p0 + poses[c, 1, 1] * p1 + poses[c, 1, 2] * p2 + poses[c, 1, 3]
            z = poses[c, 2, 0] * p0 + poses[c, 2, 1] * p1 + poses[c, 2, 2] * p2 + poses[c, 2, 3]
            if not _outside(x, y, z, spread, lenses[c], width, height, settings):
                seen[g] = True
                break


@inlined_kernel
def _outside(x, y, z, spread, lens, width, height, settings):
    near, far, eps2d = settings
    fx, fy, cx, cy, radius = lens[0], lens[1], lens[2], lens[3], SLACK * (1.0 + abs(x) + abs(y) + abs(z))
    if z + radius < near or z - radius > far:
        return True
    blur, right, below = MAX_EXTEND * math.sqrt(eps2d) + 1.0, width - cx, height - cy
    steep_x = math.sqrt(1.0 + (max(cx, right) / fx + WIDEST * 0.5 * width / fx) ** 2)
    steep_y = math.sqrt(1.0 + (max(cy, below) / fy + WIDEST * 0.5 * height / fy) ** 2)
    grow_x, grow_y = spread * fx * steep_x, spread * fy * steep_y
    return (
        _behind(fx * x, cx + blur, z, fx, radius, grow_x)
        or _behind(-fx * x, right + blur, z, fx, radius, grow_x)
        or _behind(fy * y, cy + blur, z, fy, radius, grow_y)
        or _behind(-fy * y, below + blur, z, fy, radius, grow_y)
    )


@inlined_kernel
def _behind(side, pixels, z, focal, radius, grow):
    return side + pixels * z + radius * math.sqrt(focal * focal + pixels * pixels) + grow < 0.0
