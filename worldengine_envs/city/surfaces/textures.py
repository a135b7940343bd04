"""What colour a point of a surface has, and how light falls on it (numba).

All colours are display values in [0, 1]. Textures are gentle and at least a few decimetres coarse: they are looked at from a
driving car, in small pictures.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from worldengine_envs.city.surfaces.noise import hash3, noise2, noise3, random3, smooth
from worldengine_envs.simulation.kernels import inlined_kernel, kernel

KERB = 0.2  # width of kerbs [m]
PAVEMENT = 4.2  # from the road's edge to where the pavement ends [m]
PAVED = 11.5  # from the road's edge to where paving gives way to grass [m]
ACTOR_LIT = 0.5  # share of a lamp's light that falls on actors, wherever they are
ACTOR_SUN = 0.35  # share of the sun's light that falls on actors, however they are turned


class Texture(IntEnum):
    """Patterns of primitives."""

    PLAIN = 0
    FACADE = 1  # walls with rows of windows, roof on top
    FOLIAGE = 2  # leaves
    CABIN = 3  # glass between pillars, body colour above
    WHEEL = 4  # tyre around a hub, axis along z of the cylinder
    CHEVRON = 5  # white slanted stripes on a board across x
    HEAD = 6  # face, hair above and behind
    STONE = 7  # mottled
    FENCE = 8  # upright boards


class Area(IntEnum):
    """What covers a cell of the ground; pavements and kerbs follow the distance to the road's edge."""

    GRASS = 0
    PAVED = 1
    ROAD = 2
    JUNCTION = 3
    CARPARK = 4


_PAVED, _JUNCTION, _CARPARK = int(Area.PAVED), int(Area.JUNCTION), int(Area.CARPARK)
_FACADE, _FOLIAGE, _CABIN, _WHEEL = int(Texture.FACADE), int(Texture.FOLIAGE), int(Texture.CABIN), int(Texture.WHEEL)
_CHEVRON, _HEAD, _STONE, _FENCE = int(Texture.CHEVRON), int(Texture.HEAD), int(Texture.STONE), int(Texture.FENCE)


@inlined_kernel
def sample(field, ground, x, y, outside):
    """Returns a field of the ground's cells at x, y [m], linear between the centres of cells; ``outside`` beyond the map."""
    c, r = (x - ground.origin[0]) / ground.cell - 0.5, (y - ground.origin[1]) / ground.cell - 0.5
    rows, columns = field.shape
    if not (0.0 <= c < columns - 1 and 0.0 <= r < rows - 1):
        return outside
    j, i = np.int64(c), np.int64(r)
    u, v = c - j, r - i
    low = field[i, j] * (1.0 - u) + field[i, j + 1] * u
    high = field[i + 1, j] * (1.0 - u) + field[i + 1, j + 1] * u
    return low * (1.0 - v) + high * v


@inlined_kernel
def _stripe_at(ground, x, y):
    """Returns the row of the topmost stripe over a point, -1 if there is none."""
    j, i = (
        np.int64(np.floor((x - ground.origin[0]) / ground.bin_size)),
        np.int64(np.floor((y - ground.origin[1]) / ground.bin_size)),
    )
    if j < 0 or i < 0 or j >= ground.bin_columns or (i + 1) * ground.bin_columns >= len(ground.bin_offsets):
        return -1
    b = i * ground.bin_columns + j
    for k in range(ground.bin_offsets[b + 1] - 1, ground.bin_offsets[b] - 1, -1):
        s = ground.bin_stripes[k]
        dx, dy = x - ground.stripe[s, 0], y - ground.stripe[s, 1]
        cos, sin = ground.stripe[s, 2], ground.stripe[s, 3]
        if abs(dx * cos + dy * sin) <= ground.stripe[s, 4] and abs(dy * cos - dx * sin) <= ground.stripe[s, 5]:
            return s
    return -1


@kernel
def ground_color(ground, x, y):
    """Returns r, g, b (float32) of the ground at x, y [m] in the scenario's frame: albedo, with markings and shade."""
    far = 1000.0
    d = sample(ground.edge, ground, x, y, far)
    patch, grain = noise2(x * 0.11, y * 0.11, 11), noise2(x * 0.55, y * 0.55, 12)
    worn = 0.94 + 0.08 * patch + 0.04 * grain
    if d < 0.0:
        j, i = np.int64((x - ground.origin[0]) / ground.cell), np.int64((y - ground.origin[1]) / ground.cell)
        area = ground.area[i, j]
        r, g, b = 0.385, 0.39, 0.405
        if area == _JUNCTION:
            r, g, b = 0.40, 0.403, 0.412
        elif area == _CARPARK:
            r, g, b = 0.355, 0.35, 0.35
    elif d < KERB:
        r, g, b, worn = 0.66, 0.65, 0.63, 1.0
    elif d < PAVEMENT:
        r, g, b = 0.60, 0.575, 0.54
    else:
        rows, columns = ground.area.shape
        j = min(max(np.int64((x - ground.origin[0]) / ground.cell), 0), columns - 1)
        i = min(max(np.int64((y - ground.origin[1]) / ground.cell), 0), rows - 1)
        worn = 0.82 + 0.22 * patch + 0.14 * grain
        r, g, b = 0.37, 0.47, 0.25
        if d < PAVED and ground.area[i, j] == _PAVED:
            worn = 0.94 + 0.08 * patch + 0.04 * grain
            r, g, b = 0.535, 0.515, 0.49
    r, g, b = r * worn, g * worn, b * worn
    s = _stripe_at(ground, x, y)
    if s >= 0:
        paint = 0.86 + 0.12 * grain
        r += paint * (ground.stripe_color[s, 0] - r)
        g += paint * (ground.stripe_color[s, 1] - g)
        b += paint * (ground.stripe_color[s, 2] - b)
    left = 1.0 - sample(ground.shadow, ground, x, y, 0.0)
    return np.float32(left * r), np.float32(left * g), np.float32(left * b)


@inlined_kernel
def _length(primitives, i, axis):
    """Returns the length of a primitive along one of its unit axes [m]."""
    m = primitives[i].from_unit
    return 2.0 * np.sqrt(m[0, axis] * m[0, axis] + m[1, axis] * m[1, axis] + m[2, axis] * m[2, axis])


@inlined_kernel
def _facade(primitives, i, u, v, w, is_dark):
    """Returns r, g, b, glows of a house."""
    p = primitives[i]
    r, g, b, seed = np.float64(p.color[0]), np.float64(p.color[1]), np.float64(p.color[2]), p.seed
    au, av, aw = abs(u), abs(v), abs(w)
    if aw >= au and aw >= av:  # roof
        tone = 0.30 + 0.12 * random3(seed, 5, 1)
        return tone * 1.02, tone, tone * 0.97, False
    side = 0 if au >= av else 1
    if side == 0:
        width, along, face = _length(primitives, i, 1), 0.5 * (v + 1.0), 0 if u > 0 else 1
    else:
        width, along, face = _length(primitives, i, 0), 0.5 * (u + 1.0), 2 if v > 0 else 3
    height = _length(primitives, i, 2)
    bays, floors = max(1.0, np.rint(width / 3.0)), max(1.0, np.rint(height / 3.1))
    bay, floor = along * bays, 0.5 * (w + 1.0) * floors
    column, row = min(np.floor(bay), bays - 1.0), min(np.floor(floor), floors - 1.0)
    t, f = bay - column, floor - row
    shop = row == 0.0 and random3(seed, 9, 2) < 0.6
    narrow = 0.27 - 0.1 * random3(seed, 3, 3)  # of the wall beside a window
    inside = (0.1 < t < 0.9 and 0.06 < f < 0.74) if shop else (narrow < t < 1.0 - narrow and 0.26 < f < 0.8)
    if inside:
        chance = random3(hash3(np.int64(column), np.int64(row), face), seed, 4)
        if is_dark and chance < (0.55 if shop else 0.28):
            warm = 0.75 + 0.25 * random3(np.int64(column), np.int64(row), seed)
            return 0.95 * warm, 0.80 * warm, 0.52 * warm, True
        tone = 0.85 + 0.3 * chance
        return 0.37 * tone, 0.42 * tone, 0.47 * tone, False
    tone = 0.96 + 0.08 * noise2(along * width * 0.3, w * height * 0.15, seed)
    if row == 0.0 and shop:
        tone *= 0.8
    elif f > 0.93 and (row == floors - 1.0 or row == 0.0):
        tone *= 1.1  # cornice
    return min(r * tone, 1.0), min(g * tone, 1.0), min(b * tone, 1.0), False


@kernel
def surface_color(primitives, i, u, v, w, is_dark):
    """Returns the colour of a point of a primitive.

    Args:
        primitives: (n,) PRIMITIVE.
        i: Row of the primitive.
        u, v, w: The point in the frame of the unit shape, each in [-1, 1].
        is_dark: Whether lamps, windows and vehicle lights shine (``Light.is_dark``).

    Returns:
        r, g, b (float32), and whether they are shown as they are (the surface shines) or are an albedo for ``shade``.
    """
    p = primitives[i]
    if p.glow_when == 2 or (p.glow_when == 1 and is_dark):
        return p.glow[0], p.glow[1], p.glow[2], True
    r, g, b, tone = np.float64(p.color[0]), np.float64(p.color[1]), np.float64(p.color[2]), 1.0
    texture, glows = p.texture, False
    if texture == _FACADE:
        r, g, b, glows = _facade(primitives, i, u, v, w, is_dark)
    elif texture == _FOLIAGE:
        x, y, z = u * 0.5 * _length(primitives, i, 0), v * 0.5 * _length(primitives, i, 1), w * 0.5 * _length(primitives, i, 2)
        tone = (0.72 + 0.56 * noise3(x * 1.4, y * 1.4, z * 1.4, p.seed)) * (0.9 + 0.12 * w)
    elif texture == _CABIN:
        if abs(w) < 0.84 and min(abs(u), abs(v)) < 0.86:
            r, g, b = 0.13, 0.16, 0.19
    elif texture == _WHEEL:
        if u * u + v * v < 0.36:
            r, g, b = 0.52, 0.53, 0.55
    elif texture == _CHEVRON:
        y, z = v * 0.5 * _length(primitives, i, 1), w * 0.5 * _length(primitives, i, 2)
        t = (y + z) / 0.5
        if t - np.floor(t) < 0.5:
            r, g, b = 0.93, 0.93, 0.92
    elif texture == _HEAD:
        if w > 0.45 or (u < -0.1 and w > -0.4):
            shade_of_hair = 0.1 + 0.35 * random3(p.seed, 1, 1)
            r, g, b = shade_of_hair, shade_of_hair * 0.78, shade_of_hair * 0.6
    elif texture == _STONE:
        tone = 0.9 + 0.2 * noise3(u * 3.0, v * 3.0, w * 3.0, p.seed)
    elif texture == _FENCE:
        t = (u if abs(v) > 0.98 else v) * 0.5 * _length(primitives, i, 0) / 0.8
        tone = 0.88 + 0.2 * random3(np.int64(np.floor(t)), p.seed, 6)
    return np.float32(min(r * tone, 1.0)), np.float32(min(g * tone, 1.0)), np.float32(min(b * tone, 1.0)), glows


@kernel
def lamp_light(ground, x, y, z):
    """Returns the share of the lamps' light [0, 1] at a point of the ground or of what stands [m]; see ``shade``."""
    return sample(ground.lit, ground, x, y, 0.0) * min(max(1.15 - 0.15 * z, 0.0), 1.0)


@kernel
def shade(r, g, b, nx, ny, nz, lit, light, is_static):
    """Returns r, g, b (float32) of a surface of this albedo in this light.

    Args:
        r, g, b: Albedo, from ``ground_color`` or ``surface_color`` (where it does not shine).
        nx, ny, nz: Outward normal, of length one.
        lit: Share of lamp light: ``lamp_light`` for the ground and statics; ignored for actors, who always get ACTOR_LIT.
        light: ``Light``.
        is_static: Whether the sun falls on it from its side; actors turn, so they get it from everywhere.
    """
    sun, lamp = ACTOR_SUN, ACTOR_LIT
    if is_static:
        s = light.sun_direction
        sun, lamp = max(nx * s[0] + ny * s[1] + nz * s[2], 0.0), lit
    lamp *= 0.75 + 0.25 * nz
    r *= light.ambient[0] + light.above[0] * nz + light.sun[0] * sun + light.lamp[0] * lamp
    g *= light.ambient[1] + light.above[1] * nz + light.sun[1] * sun + light.lamp[1] * lamp
    b *= light.ambient[2] + light.above[2] * nz + light.sun[2] * sun + light.lamp[2] * lamp
    return np.float32(min(max(r, 0.0), 1.0)), np.float32(min(max(g, 0.0), 1.0)), np.float32(min(max(b, 0.0), 1.0))


@kernel
def soft_shadow(u, v):
    """Returns how much of a model's ``shadow`` falls on the ground [0, 1] at u, v in halves of the box's length and width."""
    e = np.sqrt(np.sqrt(u * u * u * u + v * v * v * v))
    return np.float32(1.0 - smooth(0.75, 1.35, e))


@kernel
def sky_color(dx, dy, dz, light):
    """Returns r, g, b (float32) of the sky in a direction of length one: clouds, the sun's glow, far roofs and trees."""
    up = min(max(dz, 0.0), 1.0)
    high = np.sqrt(up)
    near_sun = max(dx * light.sun_direction[0] + dy * light.sun_direction[1] + dz * light.sun_direction[2], 0.0)
    glow = 0.5 * near_sun**8
    cloud = smooth(0.5, 0.8, noise2(dx / (up + 0.15) * 1.2, dy / (up + 0.15) * 1.2, 31)) * smooth(0.02, 0.25, up) * 0.35
    r = light.horizon[0] + (light.zenith[0] - light.horizon[0]) * high
    g = light.horizon[1] + (light.zenith[1] - light.horizon[1]) * high
    b = light.horizon[2] + (light.zenith[2] - light.horizon[2]) * high
    white = 0.25 * (light.horizon[0] + light.horizon[1] + light.horizon[2]) + 0.25 * max(r, b)
    r, g, b = r + cloud * (white - r), g + cloud * (white - g), b + cloud * (white - b)
    r, g, b = r + glow * light.sun[0], g + glow * light.sun[1], b + glow * light.sun[2]
    flat = np.sqrt(dx * dx + dy * dy) + 1e-9
    ex, ey = dx / flat, dy / flat
    skyline = (
        0.012 + 0.05 * noise2(ex * 6.0 + 50.0, ey * 6.0 + 50.0, 32) ** 2 + 0.016 * noise2(ex * 25.0 + 90.0, ey * 25.0 + 90.0, 33)
    )
    far = 0.6 * (1.0 - smooth(skyline - 0.004, skyline + 0.004, dz / flat))
    r += far * (0.62 * light.horizon[0] - r)
    g += far * (0.66 * light.horizon[1] - g)
    b += far * (0.70 * light.horizon[2] - b)
    return np.float32(min(max(r, 0.0), 1.0)), np.float32(min(max(g, 0.0), 1.0)), np.float32(min(max(b, 0.0), 1.0))
