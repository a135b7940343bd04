"""Backward pass of the view-dependent colour: real spherical harmonics of degree 0 to 3."""

from __future__ import annotations

import math

import numpy as np

from worldengine_envs.rendering.cpu.store import coefficients_of
from worldengine_envs.simulation.kernels import inlined_kernel


def _root(a: float, b: float) -> np.float32:
    return np.float32(math.sqrt(a / (b * math.pi)))


C0, C1 = _root(1, 4), _root(3, 4)
C2A, C2B, C2C = _root(15, 4), _root(5, 16), _root(15, 16)
C3A, C3B, C3C, C3D, C3E = _root(35, 32), _root(105, 4), _root(21, 32), _root(7, 16), _root(105, 16)
ZERO, ONE, TWO, THREE, FIVE = (np.float32(k) for k in (0, 1, 2, 3, 5))
SIX, TEN, FIFTEEN = (np.float32(k) for k in (6, 10, 15))


@inlined_kernel
def color_backward(g, sh, v_r, v_g, v_b, x, y, z, v_sh):
    """Carries the gradient of a colour to its coefficients and to the direction of view.

    Args:
        g: Number of the Gaussian.
        sh: ``Harmonics``.
        v_r, v_g, v_b: Gradient of the colour, float32; 0 for a channel that is clamped.
        x, y, z: Unit vector from the camera to the Gaussian, float32.
        v_sh: ``Harmonics`` of the same shapes, added to.

    Returns:
        Gradient of the direction, 3 numbers (its part along the direction is of no meaning).
    """
    _add(sh.first, g * sh.first_step, v_r, v_g, v_b, C0, v_sh.first)
    count = coefficients_of(g, sh)
    if count == 1:
        return ZERO, ZERO, ZERO
    rest, v_rest, at = sh.rest, v_sh.rest, sh.rest_start + g * sh.rest_step
    # each line: basis function k; what it returns is the gradient of its value, times the derivatives of the function
    v_y = -C1 * _add(rest, at, v_r, v_g, v_b, -C1 * y, v_rest)
    v_z = C1 * _add(rest, at + 3, v_r, v_g, v_b, C1 * z, v_rest)
    v_x = -C1 * _add(rest, at + 6, v_r, v_g, v_b, -C1 * x, v_rest)
    if count == 4:
        return v_x, v_y, v_z
    xx, yy, zz = x * x, y * y, z * z
    v = C2A * _add(rest, at + 9, v_r, v_g, v_b, C2A * x * y, v_rest)
    v_x, v_y = v_x + v * y, v_y + v * x
    v = -C2A * _add(rest, at + 12, v_r, v_g, v_b, -C2A * y * z, v_rest)
    v_y, v_z = v_y + v * z, v_z + v * y
    v = C2B * _add(rest, at + 15, v_r, v_g, v_b, C2B * (THREE * zz - ONE), v_rest)
    v_z += v * SIX * z
    v = -C2A * _add(rest, at + 18, v_r, v_g, v_b, -C2A * x * z, v_rest)
    v_x, v_z = v_x + v * z, v_z + v * x
    v = C2C * _add(rest, at + 21, v_r, v_g, v_b, C2C * (xx - yy), v_rest)
    v_x, v_y = v_x + v * TWO * x, v_y - v * TWO * y
    if count == 9:
        return v_x, v_y, v_z
    v = -C3A * _add(rest, at + 24, v_r, v_g, v_b, -C3A * y * (THREE * xx - yy), v_rest)
    v_x, v_y = v_x + v * SIX * x * y, v_y + v * THREE * (xx - yy)
    v = C3B * _add(rest, at + 27, v_r, v_g, v_b, C3B * x * y * z, v_rest)
    v_x, v_y, v_z = v_x + v * y * z, v_y + v * x * z, v_z + v * x * y
    v = -C3C * _add(rest, at + 30, v_r, v_g, v_b, -C3C * y * (FIVE * zz - ONE), v_rest)
    v_y, v_z = v_y + v * (FIVE * zz - ONE), v_z + v * TEN * y * z
    v = C3D * _add(rest, at + 33, v_r, v_g, v_b, C3D * z * (FIVE * zz - THREE), v_rest)
    v_z += v * (FIFTEEN * zz - THREE)
    v = -C3C * _add(rest, at + 36, v_r, v_g, v_b, -C3C * x * (FIVE * zz - ONE), v_rest)
    v_x, v_z = v_x + v * (FIVE * zz - ONE), v_z + v * TEN * x * z
    v = C3E * _add(rest, at + 39, v_r, v_g, v_b, C3E * z * (xx - yy), v_rest)
    v_x, v_y, v_z = v_x + v * TWO * x * z, v_y - v * TWO * y * z, v_z + v * (xx - yy)
    v = -C3A * _add(rest, at + 42, v_r, v_g, v_b, -C3A * x * (xx - THREE * yy), v_rest)
    return v_x + v * THREE * (xx - yy), v_y - v * SIX * x * y, v_z


@inlined_kernel
def _add(sh, at, v_r, v_g, v_b, basis, v_sh):
    """Adds to the gradient of the coefficient at a place, whose basis function has a value; returns the gradient of that."""
    v_sh[at] += basis * v_r
    v_sh[at + 1] += basis * v_g
    v_sh[at + 2] += basis * v_b
    return sh[at] * v_r + sh[at + 1] * v_g + sh[at + 2] * v_b
