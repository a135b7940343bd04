"""Light on Gaussians: one colour each for every time of day."""

from __future__ import annotations

import numpy as np

from worldengine_envs.city.gaussians.cloud import Cloud
from worldengine_envs.city.surfaces.light import LIGHTS
from worldengine_envs.city.surfaces.textures import lamp_light, shade
from worldengine_envs.city.surfaces.types import Ground
from worldengine_envs.rendering.gaussians import sh_from_rgb
from worldengine_envs.simulation.kernels import kernel


@kernel
def _shade_static(cloud, n, ground, light, rgb):
    for i in range(n):
        m, c, k = cloud.means, cloud.albedo, cloud.normal
        lit = lamp_light(ground, m[i, 0], m[i, 1], m[i, 2])
        r, g, b = shade(c[i, 0], c[i, 1], c[i, 2], k[i, 0], k[i, 1], k[i, 2], lit, light, True)
        rgb[i, 0], rgb[i, 1], rgb[i, 2] = r, g, b


@kernel
def _shade_actor(cloud, n, light, rgb):
    for i in range(n):
        c, k = cloud.albedo, cloud.normal
        r, g, b = shade(c[i, 0], c[i, 1], c[i, 2], k[i, 0], k[i, 1], k[i, 2], 0.0, light, False)
        rgb[i, 0], rgb[i, 1], rgb[i, 2] = r, g, b


def looks_of(cloud: Cloud, ground: Ground | None) -> dict[str, np.ndarray]:
    """Returns spherical harmonics (n, 1, 3) of a cloud by time of day; without a ground it is an actor, who moves and turns."""
    n, looks = int(cloud.count[0]), {}
    glow, share, always = cloud.glow[:n, :3], cloud.glow[:n, 3:], cloud.always[:n, None]
    for name, light in LIGHTS.items():
        rgb = np.empty((n, 3), np.float32)
        if ground is None:
            _shade_actor(cloud, n, light, rgb)
        else:
            _shade_static(cloud, n, ground, light, rgb)
        shining = share if light.is_dark else share * always
        looks[name] = sh_from_rgb(rgb + shining * (glow - rgb))
    return looks
