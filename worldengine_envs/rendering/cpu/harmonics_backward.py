"""Backward pass of the view-dependent colour: real spherical harmonics of degree 0 to 3."""

from __future__ import annotations

import math

from worldengine_envs.rendering.cpu.projection import BRIGHTEST
from worldengine_envs.simulation.kernels import inlined_kernel, kernel

_PI = math.pi
C0 = 0.5 / math.sqrt(_PI)
C1 = math.sqrt(3 / (4 * _PI))
C2A, C2B, C2C = math.sqrt(15 / (4 * _PI)), math.sqrt(5 / (16 * _PI)), math.sqrt(15 / (16 * _PI))
C3A, C3B, C3C = math.sqrt(35 / (32 * _PI)), math.sqrt(105 / (4 * _PI)), math.sqrt(21 / (32 * _PI))
C3D, C3E = math.sqrt(7 / (16 * _PI)), math.sqrt(105 / (16 * _PI))


@kernel
def color_backward(sh, v_r, v_g, v_b, x, y, z, v_sh):
    """Carries the gradient of a colour to its coefficients and to the direction of view.

    A channel that is clamped (at 0, or absurdly bright) gets no gradient.

    Args:
        sh: (K, 3) coefficients, K = 1, 4, 9 or 16.
        v_r, v_g, v_b: Gradient of the clamped colour.
        x, y, z: Unit vector from the camera to the Gaussian.
        v_sh: (K, 3), added to.

    Returns:
        Gradient of the direction, 3 numbers (its part along the direction is of no meaning).
    """
    degree = 0 if len(sh) == 1 else 1 if len(sh) == 4 else 2 if len(sh) == 9 else 3
    r, g, b = _color(sh, degree, x, y, z)
    v_r = v_r if 0.0 < r < BRIGHTEST else 0.0
    v_g = v_g if 0.0 < g < BRIGHTEST else 0.0
    v_b = v_b if 0.0 < b < BRIGHTEST else 0.0
    _add(sh, 0, v_r, v_g, v_b, C0, v_sh)
    if degree == 0:
        return 0.0, 0.0, 0.0
    # each line: basis function k; what it returns is the gradient of its value, times the derivatives of the function
    v_y = -C1 * _add(sh, 1, v_r, v_g, v_b, -C1 * y, v_sh)
    v_z = C1 * _add(sh, 2, v_r, v_g, v_b, C1 * z, v_sh)
    v_x = -C1 * _add(sh, 3, v_r, v_g, v_b, -C1 * x, v_sh)
    if degree == 1:
        return v_x, v_y, v_z
    xx, yy, zz = x * x, y * y, z * z
    v = C2A * _add(sh, 4, v_r, v_g, v_b, C2A * x * y, v_sh)
    v_x, v_y = v_x + v * y, v_y + v * x
    v = -C2A * _add(sh, 5, v_r, v_g, v_b, -C2A * y * z, v_sh)
    v_y, v_z = v_y + v * z, v_z + v * y
    v = C2B * _add(sh, 6, v_r, v_g, v_b, C2B * (3 * zz - 1), v_sh)
    v_z += v * 6 * z
    v = -C2A * _add(sh, 7, v_r, v_g, v_b, -C2A * x * z, v_sh)
    v_x, v_z = v_x + v * z, v_z + v * x
    v = C2C * _add(sh, 8, v_r, v_g, v_b, C2C * (xx - yy), v_sh)
    v_x, v_y = v_x + v * 2 * x, v_y - v * 2 * y
    if degree == 2:
        return v_x, v_y, v_z
    v = -C3A * _add(sh, 9, v_r, v_g, v_b, -C3A * y * (3 * xx - yy), v_sh)
    v_x, v_y = v_x + v * 6 * x * y, v_y + v * 3 * (xx - yy)
    v = C3B * _add(sh, 10, v_r, v_g, v_b, C3B * x * y * z, v_sh)
    v_x, v_y, v_z = v_x + v * y * z, v_y + v * x * z, v_z + v * x * y
    v = -C3C * _add(sh, 11, v_r, v_g, v_b, -C3C * y * (5 * zz - 1), v_sh)
    v_y, v_z = v_y + v * (5 * zz - 1), v_z + v * 10 * y * z
    v = C3D * _add(sh, 12, v_r, v_g, v_b, C3D * z * (5 * zz - 3), v_sh)
    v_z += v * (15 * zz - 3)
    v = -C3C * _add(sh, 13, v_r, v_g, v_b, -C3C * x * (5 * zz - 1), v_sh)
    v_x, v_z = v_x + v * (5 * zz - 1), v_z + v * 10 * x * z
    v = C3E * _add(sh, 14, v_r, v_g, v_b, C3E * z * (xx - yy), v_sh)
    v_x, v_y, v_z = v_x + v * 2 * x * z, v_y - v * 2 * y * z, v_z + v * (xx - yy)
    v = -C3A * _add(sh, 15, v_r, v_g, v_b, -C3A * x * (xx - 3 * yy), v_sh)
    return v_x + v * 3 * (xx - yy), v_y - v * 6 * x * y, v_z


@inlined_kernel
def _add(sh, k, v_r, v_g, v_b, basis, v_sh):
    """Adds to the gradient of coefficient k, whose basis function has this value; returns the gradient of that value."""
    v_sh[k, 0] += basis * v_r
    v_sh[k, 1] += basis * v_g
    v_sh[k, 2] += basis * v_b
    return sh[k, 0] * v_r + sh[k, 1] * v_g + sh[k, 2] * v_b


@inlined_kernel
def _color(sh, degree, x, y, z):
    """Returns the colour before the clamp at 0."""
    r, g, b = _channel(sh, 0, degree, x, y, z), _channel(sh, 1, degree, x, y, z), _channel(sh, 2, degree, x, y, z)
    return r, g, b


@inlined_kernel
def _channel(sh, c, degree, x, y, z):
    value = 0.5 + C0 * sh[0, c]
    if degree > 0:
        value += C1 * (-y * sh[1, c] + z * sh[2, c] - x * sh[3, c])
    if degree > 1:
        value += C2A * (x * y * sh[4, c] - y * z * sh[5, c] - x * z * sh[7, c])
        value += C2B * (3 * z * z - 1) * sh[6, c] + C2C * (x * x - y * y) * sh[8, c]
    if degree > 2:
        value += C3A * (-y * (3 * x * x - y * y) * sh[9, c] - x * (x * x - 3 * y * y) * sh[15, c]) + C3B * x * y * z * sh[10, c]
        value += C3C * (5 * z * z - 1) * (-y * sh[11, c] - x * sh[13, c]) + C3D * z * (5 * z * z - 3) * sh[12, c]
        value += C3E * z * (x * x - y * y) * sh[14, c]
    return value
