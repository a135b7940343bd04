"""Puts primitives together."""

from __future__ import annotations

import math

import numpy as np

from worldengine_envs.city.surfaces.textures import Texture
from worldengine_envs.city.surfaces.types import PRIMITIVE, Glow, Shape

BLACK = (0.0, 0.0, 0.0)
ALONG = {"x": (0.0, 0.0, 1.0, 0.0, 1.0, 0.0, -1.0, 0.0, 0.0), "y": (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0, 0.0)}


class Parts:
    """Collects boxes, ellipsoids and cylinders in one frame; ``array`` gives them as primitives.

    Sizes are full lengths [m] along the shape's own x, y, z; ``at`` is its centre.
    """

    def __init__(self):
        self._rows: list[tuple] = []

    def __len__(self) -> int:
        return len(self._rows)

    def box(self, at, size, color, texture=Texture.PLAIN, *, yaw=0.0, lean=0.0, **look) -> None:
        """Adds a box, turned by ``yaw`` [rad]; its top is shifted by ``lean`` [m] along its x against its bottom."""
        cos, sin = math.cos(yaw), math.sin(yaw)
        half_l, half_w, half_h = (0.5 * s for s in size)
        slope = 0.5 * lean
        linear = (half_l * cos, -half_w * sin, slope * cos, half_l * sin, half_w * cos, slope * sin, 0.0, 0.0, half_h)
        self._add(Shape.BOX, at, linear, color, texture, **look)

    def ellipsoid(self, at, size, color, texture=Texture.PLAIN, *, yaw=0.0, **look) -> None:
        """Adds an ellipsoid, turned by ``yaw`` [rad]."""
        cos, sin = math.cos(yaw), math.sin(yaw)
        half_l, half_w, half_h = (0.5 * s for s in size)
        self._add(
            Shape.ELLIPSOID,
            at,
            (half_l * cos, -half_w * sin, 0.0, half_l * sin, half_w * cos, 0.0, 0.0, 0.0, half_h),
            color,
            texture,
            **look,
        )

    def cylinder(self, at, diameter, length, color, texture=Texture.PLAIN, *, axis="z", **look) -> None:
        """Adds a round cylinder along an axis: "x", "y" or "z"."""
        r, h = 0.5 * diameter, 0.5 * length
        if axis == "z":
            linear = (r, 0.0, 0.0, 0.0, r, 0.0, 0.0, 0.0, h)
        else:
            scale = (r, r, h)
            linear = tuple(value * scale[k % 3] for k, value in enumerate(ALONG[axis]))
        self._add(Shape.CYLINDER, at, linear, color, texture, **look)

    def rod(self, start, end, diameter, color, **look) -> None:
        """Adds a cylinder from one point to another [m]."""
        a, b = np.asarray(start, float), np.asarray(end, float)
        axis = 0.5 * (b - a)
        away = np.array((1.0, 0.0, 0.0)) if abs(axis[0]) < 0.9 * np.linalg.norm(axis) else np.array((0.0, 1.0, 0.0))
        side = np.cross(axis, away)
        side *= 0.5 * diameter / np.linalg.norm(side)
        other = np.cross(axis, side) / np.linalg.norm(axis)
        self._add(Shape.CYLINDER, 0.5 * (a + b), np.stack((side, other, axis), axis=1).ravel(), color, Texture.PLAIN, **look)

    def _add(self, shape, at, linear, color, texture, *, seed=0, glow=BLACK, glow_when=Glow.NEVER) -> None:
        self._rows.append((shape, texture, glow_when, seed, (*linear, *at), (*color, *glow)))

    def array(self) -> np.ndarray:
        """Returns (n,) PRIMITIVE."""
        primitives = np.zeros(len(self._rows), PRIMITIVE)
        if not self._rows:
            return primitives
        shapes, textures, when, seeds, maps, colors = zip(*self._rows, strict=True)
        primitives["shape"], primitives["texture"], primitives["glow_when"] = shapes, textures, when
        primitives["seed"] = np.array(seeds, np.uint64) % 2**32
        maps, colors = np.array(maps), np.array(colors, np.float32)
        linear, offset = maps[:, :9].reshape(-1, 3, 3), maps[:, 9:]
        back = np.linalg.inv(linear)
        primitives["from_unit"][:, :, :3], primitives["from_unit"][:, :, 3] = linear, offset
        primitives["to_unit"][:, :, :3] = back
        primitives["to_unit"][:, :, 3] = -np.einsum("nij,nj->ni", back, offset)
        primitives["color"], primitives["glow"] = colors[:, :3], colors[:, 3:]
        return primitives


def half_extents(shape: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Returns (n, 3) how far shapes (n,) Shape reach from their centre along x, y, z [m]; linear (n, 3, 3) unit shape -> frame."""
    a = np.abs(linear)
    disc = np.hypot(a[:, :, 0], a[:, :, 1])
    half = np.where((shape == Shape.ELLIPSOID)[:, None], np.hypot(disc, a[:, :, 2]), disc + a[:, :, 2])
    return np.where((shape == Shape.BOX)[:, None], a.sum(2), half)


def squeezed(primitives: np.ndarray, size) -> np.ndarray:
    """Returns primitives, squeezed along x, y, z so that none reaches out of a box of this size [m] around the origin."""
    linear, at = primitives["from_unit"][:, :, :3], primitives["from_unit"][:, :, 3]
    reach = (np.abs(at) + half_extents(primitives["shape"], linear)).max(0)
    factor = np.minimum(0.5 * np.asarray(size) / reach, 1.0)
    fitting = primitives.copy()
    fitting["from_unit"] *= factor[:, None]
    fitting["to_unit"][:, :, :3] /= factor
    return fitting
