"""The look of a patch of a primitive: samples of its texture, their mean, and where two colours meet."""

from __future__ import annotations

from worldengine_envs.city.gaussians.charts import chart_point
from worldengine_envs.city.surfaces.textures import Texture, surface_color
from worldengine_envs.city.surfaces.types import Glow
from worldengine_envs.simulation.kernels import inlined_kernel

NEVER, ALWAYS = int(Glow.NEVER), int(Glow.ALWAYS)
FACADE = int(Texture.FACADE)
SIDE = 6  # most samples along one side of a patch
CHANNELS = 7  # albedo (3), colour where it shines in the dark (3), share that shines


@inlined_kernel
def sample_point(primitives, i, x, y, z, is_facade, row):
    """Writes the CHANNELS of a point of the unit shape."""
    row[0], row[1], row[2], shines = surface_color(primitives, i, x, y, z, False)
    row[3] = row[4] = row[5] = row[6] = 0.0
    if shines:
        row[3], row[4], row[5], row[6] = row[0], row[1], row[2], 1.0
    elif is_facade:
        r, g, b, shines = surface_color(primitives, i, x, y, z, True)
        if shines:
            row[3], row[4], row[5], row[6] = r, g, b, 1.0


@inlined_kernel
def sample_patch(primitives, i, chart, u0, v0, u1, v1, nu, nv, samples):
    """Writes the CHANNELS of nu x nv points of a patch."""
    shape, is_facade = primitives[i].shape, primitives[i].texture == FACADE
    for a in range(nv):
        for b in range(nu):
            u, v = u0 + (b + 0.5) / nu * (u1 - u0), v0 + (a + 0.5) / nv * (v1 - v0)
            x, y, z = chart_point(shape, chart, u, v)
            sample_point(primitives, i, x, y, z, is_facade, samples[a, b])


@inlined_kernel
def set_look(cloud, row, primitives, i, nu, nv, samples):
    """Gives a Gaussian the mean look of nu x nv samples."""
    n, p = nu * nv, primitives[i]
    for c in range(3):
        total = glow = shine = 0.0
        for a in range(nv):
            for b in range(nu):
                total += samples[a, b, c]
                glow += samples[a, b, 3 + c]
                shine += samples[a, b, 6]
        cloud.albedo[row, c] = total / n
        cloud.glow[row, c] = glow / shine if shine > 0.0 else 0.0
        cloud.glow[row, 3] = shine / n
        if p.glow_when != NEVER:
            cloud.glow[row, c], cloud.glow[row, 3] = p.glow[c], 1.0
    cloud.always[row] = p.glow_when == ALWAYS


@inlined_kernel
def best_split(samples, nu, nv, sums):
    """Returns (error, gain, axis, place): mean squared error of one colour for all, and the split that lowers it most.

    ``axis`` is 0 for a split of u, 1 of v, behind ``place`` samples; colours are the first six channels.
    """
    n = nu * nv
    error, best, axis, place = 0.0, 0.0, 0, 0
    for c in range(6):
        sums[SIDE, c] = 0.0
    for a in range(nv):
        for b in range(nu):
            for c in range(6):
                sums[SIDE, c] += samples[a, b, c]
                error += samples[a, b, c] * samples[a, b, c]
    for c in range(6):
        error -= sums[SIDE, c] * sums[SIDE, c] / n
    for side in range(2):
        lines, other = (nu, nv) if side == 0 else (nv, nu)
        for c in range(6):
            sums[0, c] = 0.0
        for k in range(1, lines):
            gain = 0.0
            for c in range(6):
                for m in range(other):
                    sums[0, c] += samples[m, k - 1, c] if side == 0 else samples[k - 1, m, c]
                rest = sums[SIDE, c] - sums[0, c]
                gain += sums[0, c] * sums[0, c] / (k * other) + rest * rest / ((lines - k) * other)
                gain -= sums[SIDE, c] * sums[SIDE, c] / n
            if gain > best:
                best, axis, place = gain, side, k
    return max(error, 0.0) / n, best / n, axis, place
