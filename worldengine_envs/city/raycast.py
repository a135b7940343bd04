"""Rays against surfaces: the nearest solid or the ground along each ray, and its colour.

Solids are in a tree of boxes that is made for one origin of rays, nearer children first. Its nodes are in the order of a walk that
goes down before it goes on, so that a ray needs no stack: where it misses a node's box it goes on at ``skip``. Nothing here knows
of Gaussians.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from worldengine_envs.city.raytree import build_tree
from worldengine_envs.city.surfaces.parts import half_extents
from worldengine_envs.city.surfaces.textures import ground_color, lamp_light, shade, sky_color, soft_shadow, surface_color
from worldengine_envs.city.surfaces.types import Ground, Light, Shape
from worldengine_envs.simulation.kernels import inlined_kernel, kernel

SKY, GROUND = -1, -2  # what a ray hits that is no solid
NOT_IN_TREE = 1e-12  # smallest component of a ray's direction: 1 / 0 is kept out of the slab tests
UNDISTORT_STEPS = 30
SHADOW_END = 1.5  # beyond so many halves of a box's sides there is no ``soft_shadow``
BOX, ELLIPSOID = int(Shape.BOX), int(Shape.ELLIPSOID)


class Solids(NamedTuple):
    """Solids as seen from one origin, in the order of their tree."""

    origin: np.ndarray  # (3,) float64 where all rays start, world [m]
    primitives: np.ndarray  # (n,) PRIMITIVE as their street or model has them
    to_unit: np.ndarray  # (n, 3, 4) float64 world -> unit shape
    start: np.ndarray  # (n, 3) float64 the origin in the frames of the unit shapes
    owner: np.ndarray  # (n,) int32 row of the track, EVERYWHERE for what is no actor
    is_static: np.ndarray  # (n,) bool: part of the street, lit by the sun
    node_box: np.ndarray  # (nodes, 6) float64 lowest and highest x, y, z relative to the origin [m]
    node_skip: np.ndarray  # (nodes,) int32 node to go on with after this one's subtree
    node_first: np.ndarray  # (nodes,) int32 solids of a leaf: first
    node_last: np.ndarray  # (nodes,) int32 and the one behind the last; first = last for inner nodes
    shadow: np.ndarray  # (actors, 7) float64 x, y [m], cos, sin, half length, half width [m], strength


class Surfaces(NamedTuple):
    """What gives colours."""

    ground: Ground
    light: Light


class Lens(NamedTuple):
    """Where pixels look."""

    rotation: np.ndarray  # (3, 3) float64 camera -> world
    intrinsics: np.ndarray  # (4,) float64 fx, fy, cx, cy [px]
    distortion: np.ndarray  # (5,) float64 k1, k2, p1, p2, k3 (OpenCV)


def make_solids(origin, primitives, from_unit, owner, is_static, shadow) -> Solids:
    """Returns solids sorted into a tree for rays from one origin.

    Args:
        origin: (3,) x, y, z [m] in the world.
        primitives: (n,) PRIMITIVE; their own matrices only serve textures.
        from_unit: (n, 3, 4) unit shape -> world; the linear part has an inverse.
        owner: (n,) row of the track, EVERYWHERE for what is no actor.
        is_static: (n,) bool.
        shadow: (actors, 7) see ``Solids``.
    """
    origin = np.asarray(origin, np.float64)
    to_unit, start, low, high = seen_from(origin, primitives["shape"], from_unit)
    order, box, skip, first, last = build_tree(low, high)
    return Solids(
        origin,
        primitives[order],
        to_unit[order],
        start[order],
        owner[order],
        is_static[order],
        box,
        skip,
        first,
        last,
        np.asarray(shadow, np.float64).reshape(-1, 7),
    )


def seen_from(origin: np.ndarray, shape: np.ndarray, from_unit: np.ndarray):
    """Returns of n solids: world -> unit shape (n, 3, 4), origin in the unit frame, lowest and highest x, y, z beside it (n, 3)."""
    linear, offset = from_unit[:, :, :3], from_unit[:, :, 3]
    inverse = np.linalg.inv(linear)
    start = np.einsum("nij,nj->ni", inverse, origin - offset)
    to_unit = np.concatenate((inverse, -np.einsum("nij,nj->ni", inverse, offset)[:, :, None]), axis=2)
    half = half_extents(shape, linear)
    return to_unit, start, offset - half - origin, offset + half - origin


@inlined_kernel
def _hit_unit(shape, ox, oy, oz, dx, dy, dz):
    """Returns the t > 0 at which a ray first meets the surface of a unit shape (from inside: where it leaves), inf if never."""
    near, far = -np.inf, np.inf
    if shape == ELLIPSOID:
        a, b, c = dx * dx + dy * dy + dz * dz, ox * dx + oy * dy + oz * dz, ox * ox + oy * oy + oz * oz - 1.0
        root = b * b - a * c
        if root < 0.0:
            return np.inf
        near, far = (-b - np.sqrt(root)) / a, (-b + np.sqrt(root)) / a
        return near if near > 0.0 else (far if far > 0.0 else np.inf)
    if shape == BOX:
        u, v = (-1.0 - ox) / dx, (1.0 - ox) / dx
        near, far = min(u, v), max(u, v)
        u, v = (-1.0 - oy) / dy, (1.0 - oy) / dy
        near, far = max(near, min(u, v)), min(far, max(u, v))
    else:
        a, b, c = dx * dx + dy * dy, ox * dx + oy * dy, ox * ox + oy * oy - 1.0
        root = b * b - a * c
        if root < 0.0:
            return np.inf
        near, far = (-b - np.sqrt(root)) / a, (-b + np.sqrt(root)) / a
    u, v = (-1.0 - oz) / dz, (1.0 - oz) / dz
    near, far = max(near, min(u, v)), min(far, max(u, v))
    if near > far:
        return np.inf
    return near if near > 0.0 else (far if far > 0.0 else np.inf)


@inlined_kernel
def _not_zero(x):
    return x if abs(x) > NOT_IN_TREE else (NOT_IN_TREE if x >= 0.0 else -NOT_IN_TREE)


@inlined_kernel
def nearest(solids, dx, dy, dz):
    """Returns (t, what) of what a ray from ``solids.origin`` meets first: the row of a solid, GROUND or SKY (t = inf)."""
    dx, dy, dz = _not_zero(dx), _not_zero(dy), _not_zero(dz)
    best, what = np.inf, SKY
    if dz * solids.origin[2] < 0.0:
        best, what = -solids.origin[2] / dz, GROUND
    x, y, z = 1.0 / dx, 1.0 / dy, 1.0 / dz
    node, nodes, boxes = 0, len(solids.node_skip), solids.node_box
    while node < nodes:
        x0, x1 = boxes[node, 0] * x, boxes[node, 3] * x
        y0, y1 = boxes[node, 1] * y, boxes[node, 4] * y
        z0, z1 = boxes[node, 2] * z, boxes[node, 5] * z
        near = max(max(min(x0, x1), min(y0, y1)), max(min(z0, z1), 0.0))
        far = min(min(max(x0, x1), max(y0, y1)), min(max(z0, z1), best))
        if near > far:
            node = solids.node_skip[node]
            continue
        for i in range(solids.node_first[node], solids.node_last[node]):
            m, start = solids.to_unit, solids.start
            u = _not_zero(m[i, 0, 0] * dx + m[i, 0, 1] * dy + m[i, 0, 2] * dz)
            v = _not_zero(m[i, 1, 0] * dx + m[i, 1, 1] * dy + m[i, 1, 2] * dz)
            w = _not_zero(m[i, 2, 0] * dx + m[i, 2, 1] * dy + m[i, 2, 2] * dz)
            t = _hit_unit(solids.primitives[i].shape, start[i, 0], start[i, 1], start[i, 2], u, v, w)
            if t < best:
                best, what = t, i
        node += 1
    return best, what


@inlined_kernel
def _unit_normal(shape, u, v, w):
    """Returns the outward normal of a unit shape at a point on it (length one only for boxes and cylinders)."""
    if shape == ELLIPSOID:
        return u, v, w
    if shape == BOX:
        a, b, c = abs(u), abs(v), abs(w)
        if a >= b and a >= c:
            return np.sign(u), 0.0, 0.0
        return (0.0, np.sign(v), 0.0) if b >= c else (0.0, 0.0, np.sign(w))
    return (u, v, 0.0) if u * u + v * v > w * w else (0.0, 0.0, np.sign(w))


@inlined_kernel
def ground_light(solids, x, y):
    """Returns what the soft shadows of actors leave of the light at a point of the ground, in (0, 1]."""
    left = 1.0
    for s in range(len(solids.shadow)):
        row = solids.shadow[s]
        dx, dy = x - row[0], y - row[1]
        u, v = (row[2] * dx + row[3] * dy) / row[4], (row[2] * dy - row[3] * dx) / row[5]
        if abs(u) < SHADOW_END and abs(v) < SHADOW_END:
            left *= 1.0 - row[6] * soft_shadow(u, v)
    return left


@inlined_kernel
def color_of(solids, surfaces, dx, dy, dz, t, what):
    """Returns r, g, b in [0, 1] of what a ray meets."""
    light, ground = surfaces.light, surfaces.ground
    if what == SKY:
        size = np.sqrt(dx * dx + dy * dy + dz * dz)
        return sky_color(dx / size, dy / size, dz / size, light)
    x, y, z = solids.origin[0] + t * dx, solids.origin[1] + t * dy, solids.origin[2] + t * dz
    if what == GROUND:
        r, g, b = ground_color(ground, x, y)
        left = ground_light(solids, x, y)
        r, g, b = shade(r, g, b, 0.0, 0.0, 1.0, lamp_light(ground, x, y, 0.0), light, True)
        return left * r, left * g, left * b
    m, start = solids.to_unit[what], solids.start[what]
    u = start[0] + t * (m[0, 0] * dx + m[0, 1] * dy + m[0, 2] * dz)
    v = start[1] + t * (m[1, 0] * dx + m[1, 1] * dy + m[1, 2] * dz)
    w = start[2] + t * (m[2, 0] * dx + m[2, 1] * dy + m[2, 2] * dz)
    r, g, b, glows = surface_color(solids.primitives, what, u, v, w, light.is_dark)
    if glows:
        return r, g, b
    p, q, s = _unit_normal(solids.primitives[what].shape, u, v, w)
    nx = m[0, 0] * p + m[1, 0] * q + m[2, 0] * s
    ny = m[0, 1] * p + m[1, 1] * q + m[2, 1] * s
    nz = m[0, 2] * p + m[1, 2] * q + m[2, 2] * s
    size = np.sqrt(nx * nx + ny * ny + nz * nz)
    is_static = solids.is_static[what]
    lit = lamp_light(ground, x, y, z) if is_static else 0.0
    return shade(r, g, b, nx / size, ny / size, nz / size, lit, light, is_static)


@inlined_kernel
def undo_distortion(lens, u, v):
    """Returns x / z and y / z in the camera's frame of an image position [px]: the distortion is undone by fixed-point steps."""
    f, d = lens.intrinsics, lens.distortion
    goal_x, goal_y = (u - f[2]) / f[0], (v - f[3]) / f[1]
    x, y = goal_x, goal_y
    if d[0] == 0.0 and d[1] == 0.0 and d[2] == 0.0 and d[3] == 0.0 and d[4] == 0.0:
        return x, y
    for _ in range(UNDISTORT_STEPS):
        r = x * x + y * y
        radial = 1.0 + r * (d[0] + r * (d[1] + r * d[4]))
        x, y = (
            (goal_x - 2.0 * d[2] * x * y - d[3] * (r + 2.0 * x * x)) / radial,
            (goal_y - d[2] * (r + 2.0 * y * y) - 2.0 * d[3] * x * y) / radial,
        )
    return x, y


@kernel
def cast_ranges(start, stop, solids, directions, distance, what):
    """Writes how far (in lengths of their directions, inf = never) rays start..stop-1 go, and what they meet, as ``nearest`` says.

    Args:
        start, stop: Range of rays.
        solids: ``Solids``.
        directions: (rays, 3) float64 in the world.
        distance: (rays,) float64.
        what: (rays,) int32.
    """
    for i in range(start, stop):
        distance[i], what[i] = nearest(solids, directions[i, 0], directions[i, 1], directions[i, 2])


@kernel
def cast_pixels(start, stop, solids, surfaces, lens, supersample, rgb, depth, owner):
    """Writes pixels start..stop-1 of an image, row by row.

    Args:
        start, stop: Range of pixels.
        solids: ``Solids`` with the camera's centre as origin.
        surfaces: ``Surfaces``.
        lens: ``Lens``.
        supersample: Odd number of rays along each side of a pixel; the colour is their mean, the rest is the middle one's.
        rgb: (H, W, 3) float32.
        depth: (H, W) float32 camera z [m], 0 where nothing is.
        owner: (H, W) int32.
    """
    width, middle, m = rgb.shape[1], supersample // 2, lens.rotation
    for pixel in range(start, stop):
        row, column = pixel // width, pixel % width
        r = g = b = 0.0
        for k in range(supersample * supersample):
            i, j = k // supersample, k % supersample
            x, y = undo_distortion(lens, column + (j + 0.5) / supersample, row + (i + 0.5) / supersample)
            dx, dy, dz = (
                m[0, 0] * x + m[0, 1] * y + m[0, 2],
                m[1, 0] * x + m[1, 1] * y + m[1, 2],
                m[2, 0] * x + m[2, 1] * y + m[2, 2],
            )
            t, what = nearest(solids, dx, dy, dz)
            cr, cg, cb = color_of(solids, surfaces, dx, dy, dz, t, what)
            r, g, b = r + cr, g + cg, b + cb
            if i == middle and j == middle:
                depth[row, column] = t if what != SKY else 0.0
                owner[row, column] = solids.owner[what] if what >= 0 else -1
        rays = supersample * supersample
        rgb[row, column, 0], rgb[row, column, 1], rgb[row, column, 2] = r / rays, g / rays, b / rays
