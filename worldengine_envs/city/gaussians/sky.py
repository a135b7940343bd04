"""The sky as flat Gaussians on a far dome: patches of azimuth and elevation, finer along the skyline."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np

from worldengine_envs.city.gaussians.cloud import add_patch, gaussians_of, new_cloud
from worldengine_envs.city.gaussians.viewing import coarseness
from worldengine_envs.city.surfaces.light import LIGHTS
from worldengine_envs.city.surfaces.textures import sky_color
from worldengine_envs.rendering.gaussians import sh_from_rgb
from worldengine_envs.rendering.scene import Node
from worldengine_envs.simulation.kernels import inlined_kernel, kernel

RADIUS = 3000.0  # of the dome [m]
LOWEST = -0.03  # elevation at which it starts [rad]
SECTORS = 48  # first patches around
SIDE = 6  # samples along each side of a patch
LARGEST = 0.14  # [rad]
SMALLEST = 0.008
ERROR = 2e-6  # most squared error times solid angle of a patch, at detail 1
SPREAD = 2.5
STACK = 64


@inlined_kernel
def _mean_color(azimuth0, elevation0, azimuth1, elevation1, light):
    """Returns (r, g, b, squared error) of a patch of the sky."""
    r = g = b = square = 0.0
    for i in range(SIDE):
        elevation = elevation0 + (i + 0.5) / SIDE * (elevation1 - elevation0)
        flat, dz = math.cos(elevation), math.sin(elevation)
        for j in range(SIDE):
            azimuth = azimuth0 + (j + 0.5) / SIDE * (azimuth1 - azimuth0)
            x, y, z = sky_color(flat * math.cos(azimuth), flat * math.sin(azimuth), dz, light)
            r, g, b, square = r + x, g + y, b + z, square + x * x + y * y + z * z
    n = SIDE * SIDE
    return r / n, g / n, b / n, max(square / n - (r * r + g * g + b * b) / (n * n), 0.0)


@kernel
def _split_sky(light, error, logit, cloud, patches, stack):
    """Adds the Gaussians of the sky, and writes their patches (capacity, 4) of azimuth and elevation [rad]."""
    for sector in range(SECTORS):
        stack[0, 0], stack[0, 1] = sector * 2.0 * math.pi / SECTORS, LOWEST
        stack[0, 2], stack[0, 3] = (sector + 1) * 2.0 * math.pi / SECTORS, 0.5 * math.pi
        top = 1
        while top > 0:
            top -= 1
            a0, e0, a1, e1 = stack[top, 0], stack[top, 1], stack[top, 2], stack[top, 3]
            wide, high = (a1 - a0) * math.cos(0.5 * (e0 + e1)), e1 - e0
            split = max(wide, high) > LARGEST
            if not split and max(wide, high) > SMALLEST:
                _, _, _, rest = _mean_color(a0, e0, a1, e1, light)
                split = rest * wide * high > error
            if split and top + 2 <= STACK:
                for k in range(2):
                    stack[top + k, 0], stack[top + k, 1], stack[top + k, 2], stack[top + k, 3] = a0, e0, a1, e1
                if high >= wide:
                    middle = 0.5 * (e0 + e1)
                    stack[top, 3], stack[top + 1, 1] = middle, middle
                else:
                    middle = 0.5 * (a0 + a1)
                    stack[top, 2], stack[top + 1, 0] = middle, middle
                top += 2
                continue
            a, e = 0.5 * (a0 + a1), 0.5 * (e0 + e1)
            ca, sa, ce, se = math.cos(a), math.sin(a), math.cos(e), math.sin(e)
            u, v = SPREAD / math.sqrt(12.0) * RADIUS * wide, SPREAD / math.sqrt(12.0) * RADIUS * high
            row = add_patch(
                cloud, RADIUS * ce * ca, RADIUS * ce * sa, RADIUS * se,
                -u * sa, u * ca, 0.0, -v * se * ca, -v * se * sa, v * ce, 1.0, logit,
            )  # fmt: skip
            patches[row, 0], patches[row, 1], patches[row, 2], patches[row, 3] = a0, e0, a1, e1


@kernel
def _color_sky(patches, n, light, rgb):
    for i in range(n):
        r, g, b, _ = _mean_color(patches[i, 0], patches[i, 1], patches[i, 2], patches[i, 3], light)
        rgb[i, 0], rgb[i, 1], rgb[i, 2] = r, g, b


@lru_cache(maxsize=8)
def _dome(detail: float, logit: float) -> Node:
    """Returns the sky around 0, 0; it is the same over every street."""
    cloud, patches = new_cloud(1 << 16), np.empty((1 << 16, 4))
    _split_sky(LIGHTS["day"], ERROR * coarseness(detail) ** 2, logit, cloud, patches, np.empty((STACK, 4)))
    n = int(cloud.count[0])
    looks = {}
    for name, light in LIGHTS.items():
        rgb = np.empty((n, 3), np.float32)
        _color_sky(patches, n, light, rgb)
        looks[name] = sh_from_rgb(rgb)
    return Node(gaussians_of(cloud, looks["day"]), looks)


def sample_sky(x: float, y: float, detail: float, logit: float) -> Node:
    """Returns the sky around x, y [m], with a look for each of LIGHTS."""
    dome = _dome(detail, logit)
    means = dome.gaussians.means + np.array((x, y, 0.0), np.float32)
    return replace(dome, gaussians=replace(dome.gaussians, means=means))
