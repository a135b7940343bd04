"""Hot loops of finding points."""

from __future__ import annotations

import math

from worldengine_envs.simulation.kernels import kernel


@kernel
def project_into(xyz, world_to_camera, intrinsics, height, width, nearest, rows, row, column, depth):
    """Writes which of N points are in an image, where, and how far away; returns how many.

    Args:
        xyz: (N, 3) float64 in the world [m].
        world_to_camera: (4, 4)
        intrinsics: (4,) fx, fy, cx, cy [px].
        height: [px]
        width: [px]
        nearest: Least depth [m].
        rows: (N,) int64, written: which points.
        row: (N,) int64, written: of the image [px].
        column: (N,) int64, written.
        depth: (N,) float64, written: along the camera's z [m].
    """
    t, found = world_to_camera, 0
    for i in range(len(xyz)):
        x, y, z = xyz[i, 0], xyz[i, 1], xyz[i, 2]
        ahead = t[2, 0] * x + t[2, 1] * y + t[2, 2] * z + t[2, 3]
        if not ahead > nearest:
            continue
        u = math.floor(intrinsics[0] * (t[0, 0] * x + t[0, 1] * y + t[0, 2] * z + t[0, 3]) / ahead + intrinsics[2])
        v = math.floor(intrinsics[1] * (t[1, 0] * x + t[1, 1] * y + t[1, 2] * z + t[1, 3]) / ahead + intrinsics[3])
        if 0 <= u < width and 0 <= v < height:
            rows[found], row[found], column[found], depth[found] = i, int(v), int(u), ahead
            found += 1
    return found
