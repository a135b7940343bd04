"""Backward pass of the projection: from the ellipse on the image to the parameters of the Gaussian and to the camera.

For each Gaussian everything is computed anew in float64. The forward pass is, with the camera's rotation R and translation t:

    c = R mean + t,  M = R Q diag(exp(scales)) (3, 3),  J = derivative of the pixel by c (2, 3), F = J M,
    cov = F F^T,  blurred = cov + eps2d I,  ratio = det(cov) / det(blurred),  opacity = sigmoid(logit) sqrt(ratio).

Derivations follow from d(A B) = dA B + A dB; with G the (symmetric) gradient of cov that of F is 2 G F.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from worldengine_envs.rendering.cpu.blending_backward import (
    FLOW,
    V_ABS_X,
    V_ABS_Y,
    V_BLUE,
    V_DEPTH,
    V_GREEN,
    V_RED,
    V_S,
    V_U,
    V_UU,
    V_UW,
    V_W,
    V_WW,
)
from worldengine_envs.rendering.cpu.harmonics_backward import color_backward
from worldengine_envs.rendering.cpu.projection import BRIGHTEST
from worldengine_envs.rendering.cpu.simd import prefetch
from worldengine_envs.rendering.cpu.stages import BLUE, FIELDS, GREEN, RED
from worldengine_envs.rendering.cpu.store import Harmonics
from worldengine_envs.simulation.kernels import inlined_kernel, kernel

MIN_RATIO = 0.005**2  # of the determinants; the compensation is constant under it
SHORTEST = 1e-12  # a quaternion is not taken for shorter: its gradient stays finite
ZERO, LIMIT = np.float32(0.0), np.float32(BRIGHTEST)
AHEAD, LINE = 12, 16  # Gaussians ahead of which memory is asked for, float32 of a cache line
CHUNK = 256  # Gaussians whose gradients of the camera are added up first: sums do not depend on the number of threads


class Parameters(NamedTuple):
    """Gaussians, or the gradients of a loss by them; float32."""

    means: np.ndarray  # (N, 3)
    quats: np.ndarray  # (N, 4)
    scales: np.ndarray  # (N, 3)
    opacities: np.ndarray  # (N,)
    sh: Harmonics


class Camera(NamedTuple):
    """A camera and how Gaussians are drawn."""

    pose: np.ndarray  # (3, 4) float64 world to camera
    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    eps2d: float
    antialiased: bool


@kernel
def projection_backward(first, last, rows, flow, records, camera, gaussians, gradients, v_pose, v_screen):
    """Adds the gradients of chunks first to last - 1 of the Gaussians.

    Args:
        first, last: Numbers of chunks of ``CHUNK`` Gaussians.
        rows: (N,) int32 row of each Gaussian in ``flow`` and ``records``, -1 if it is not drawn.
        flow: (rows, FLOW) float32 gradients that came down from the image.
        records: (rows, FIELDS) float32 splats.
        camera: A ``Camera``.
        gaussians: ``Parameters``.
        gradients: ``Parameters`` of the same shapes, added to.
        v_pose: (chunks, 3, 4) float64, written: gradient of the pose by the Gaussians of each chunk.
        v_screen: (N, 4) float32, written: gradient of the centre on the image [1/px], and of its absolute values over pixels;
            (0, 4) if not wanted.
    """
    for chunk in range(first, last):
        v_pose[chunk] = 0.0
        for g in range(chunk * CHUNK, min(chunk * CHUNK + CHUNK, len(rows))):
            if g + AHEAD < len(rows) and rows[g + AHEAD] >= 0:
                _ask_for(g + AHEAD, rows[g + AHEAD], flow, records, gaussians.sh, gradients.sh)
            if rows[g] < 0 or not _any(flow[rows[g]]):  # not drawn, or behind others
                continue
            _gaussian_backward(g, flow[rows[g]], records[rows[g]], camera, gaussians, gradients, v_pose[chunk], v_screen)


@inlined_kernel
def _ask_for(g, row, flow, records, sh, v_sh):
    """Asks the memory for what a Gaussian needs, a cache line at a time."""
    prefetch(flow, row * FLOW)
    prefetch(records, row * FIELDS)
    at = sh.rest_start + g * sh.rest_step
    for k in range(at, at + 3 * (sh.count - 1), LINE):
        prefetch(sh.rest, k)
        prefetch(v_sh.rest, k)


@inlined_kernel
def _any(values):
    for value in values:
        if value != 0.0:
            return True
    return False


@kernel
def _gaussian_backward(g, flow, record, camera, gaussians, gradients, v_pose, v_screen):
    """Adds the gradients of one Gaussian."""
    pose, mean, scales = camera.pose, gaussians.means[g], gaussians.scales[g]
    p0, p1, p2 = np.float64(mean[0]), np.float64(mean[1]), np.float64(mean[2])
    x = pose[0, 0] * p0 + pose[0, 1] * p1 + pose[0, 2] * p2 + pose[0, 3]
    y = pose[1, 0] * p0 + pose[1, 1] * p1 + pose[1, 2] * p2 + pose[1, 3]
    z = pose[2, 0] * p0 + pose[2, 1] * p1 + pose[2, 2] * p2 + pose[2, 3]
    q00, q01, q02, q10, q11, q12, q20, q21, q22 = _rotation(gaussians.quats[g])
    s0, s1, s2 = math.exp(np.float64(scales[0])), math.exp(np.float64(scales[1])), math.exp(np.float64(scales[2]))
    # M = R Q S; r.. are columns of R Q
    r00, r10, r20 = _turn(pose, q00, q10, q20)
    r01, r11, r21 = _turn(pose, q01, q11, q21)
    r02, r12, r22 = _turn(pose, q02, q12, q22)
    # J = [[jx, 0, -jx at_x], [0, jy, -jy at_y]]
    at_x, free_x = _clamped(x / z, camera.fx, camera.cx, camera.width)
    at_y, free_y = _clamped(y / z, camera.fy, camera.cy, camera.height)
    jx, jy = camera.fx / z, camera.fy / z
    f00, f01, f02 = jx * (r00 - at_x * r20) * s0, jx * (r01 - at_x * r21) * s1, jx * (r02 - at_x * r22) * s2
    f10, f11, f12 = jy * (r10 - at_y * r20) * s0, jy * (r11 - at_y * r21) * s1, jy * (r12 - at_y * r22) * s2

    g_xx, g_xy, g_yy, v_mx, v_my, v_logit = _ellipse_backward(f00, f01, f02, f10, f11, f12, flow, camera, gaussians.opacities[g])
    # v_F = 2 G F, v_J = v_F M^T, v_M = J^T v_F
    e00, e01, e02 = 2 * (g_xx * f00 + g_xy * f10), 2 * (g_xx * f01 + g_xy * f11), 2 * (g_xx * f02 + g_xy * f12)
    e10, e11, e12 = 2 * (g_xy * f00 + g_yy * f10), 2 * (g_xy * f01 + g_yy * f11), 2 * (g_xy * f02 + g_yy * f12)
    v_jx = e00 * r00 * s0 + e01 * r01 * s1 + e02 * r02 * s2
    v_jxz = e00 * r20 * s0 + e01 * r21 * s1 + e02 * r22 * s2
    v_jy = e10 * r10 * s0 + e11 * r11 * s1 + e12 * r12 * s2
    v_jyz = e10 * r20 * s0 + e11 * r21 * s1 + e12 * r22 * s2
    m00, m10, m20 = jx * e00, jy * e10, -jx * at_x * e00 - jy * at_y * e10
    m01, m11, m21 = jx * e01, jy * e11, -jx * at_x * e01 - jy * at_y * e11
    m02, m12, m22 = jx * e02, jy * e12, -jx * at_x * e02 - jy * at_y * e12
    out = gradients.scales[g]
    out[0] += (m00 * r00 + m10 * r10 + m20 * r20) * s0
    out[1] += (m01 * r01 + m11 * r11 + m21 * r21) * s1
    out[2] += (m02 * r02 + m12 * r12 + m22 * r22) * s2
    m00, m10, m20, m01, m11, m21, m02, m12, m22 = (
        m00 * s0, m10 * s0, m20 * s0, m01 * s1, m11 * s1, m21 * s1, m02 * s2, m12 * s2, m22 * s2,
    )  # fmt: skip
    _rotation_backward(
        gaussians.quats[g], gradients.quats[g], *_turn_back(pose, m00, m10, m20), *_turn_back(pose, m01, m11, m21),
        *_turn_back(pose, m02, m12, m22),
    )  # fmt: skip
    gradients.opacities[g] += v_logit

    v_x = (v_mx * camera.fx - (v_jxz * jx if free_x else 0.0)) / z
    v_y = (v_my * camera.fy - (v_jyz * jy if free_y else 0.0)) / z
    v_z = flow[V_DEPTH] - (v_x * x + v_y * y) / z - (jx * (v_jx - at_x * v_jxz) + jy * (v_jy - at_y * v_jyz)) / z
    w0, w1, w2 = _sight_backward(g, p0, p1, p2, flow, record, camera, gaussians, gradients, v_pose)
    b0, b1, b2 = _turn_back(pose, v_x, v_y, v_z)
    out = gradients.means[g]
    out[0] += b0 + w0
    out[1] += b1 + w1
    out[2] += b2 + w2
    _add_row(v_pose[0], v_x, p0, p1, p2, m00, m01, m02, q00, q01, q02, q10, q11, q12, q20, q21, q22)
    _add_row(v_pose[1], v_y, p0, p1, p2, m10, m11, m12, q00, q01, q02, q10, q11, q12, q20, q21, q22)
    _add_row(v_pose[2], v_z, p0, p1, p2, m20, m21, m22, q00, q01, q02, q10, q11, q12, q20, q21, q22)
    if len(v_screen):
        v_screen[g, 0], v_screen[g, 1], v_screen[g, 2], v_screen[g, 3] = v_mx, v_my, flow[V_ABS_X], flow[V_ABS_Y]


@inlined_kernel
def _ellipse_backward(f00, f01, f02, f10, f11, f12, flow, camera, logit):
    """Returns the gradient of cov (xx, xy = yx, yy), of the centre on the image (x, y) and of the logit of the opacity."""
    xx, xy, yy = f00 * f00 + f01 * f01 + f02 * f02, f00 * f10 + f01 * f11 + f02 * f12, f10 * f10 + f11 * f11 + f12 * f12
    i, j, k = f01 * f12 - f02 * f11, f02 * f10 - f00 * f12, f00 * f11 - f01 * f10
    det = i * i + j * j + k * k  # of F F^T, without cancellation (Cauchy-Binet)
    blurred = det + camera.eps2d * (xx + yy) + camera.eps2d * camera.eps2d
    # sigma = (u^2 + w^2) / 2 with (u, w) = [[l, -l slope], [0, m]] offset
    c_yy = yy + camera.eps2d
    length, slope, m = math.sqrt(c_yy / blurred), xy / c_yy, 1.0 / math.sqrt(c_yy)
    v_s, v_u, v_w = np.float64(flow[V_S]), np.float64(flow[V_U]), np.float64(flow[V_W])
    v_mx = length * v_u
    v_my = m * v_w - slope * v_mx
    # gradient of the inverse covariance is E/2 with E = sum v_sigma (u, w)(u, w)^T in whitened axes; of cov -A^T E A / 2
    h_uu, h_uw, h_ww = length * length * flow[V_UU], length * m * flow[V_UW], m * m * flow[V_WW]
    g_xx = -0.5 * h_uu
    g_xy = -0.5 * (h_uw - slope * h_uu)
    g_yy = -0.5 * (h_ww - 2.0 * slope * h_uw + slope * slope * h_uu)
    # d alpha / d log(opacity) = alpha = -d alpha / d sigma: -V_S is the gradient of log(opacity) and of log(compensation)
    if camera.antialiased and det > MIN_RATIO * blurred:
        v_det = -v_s * 0.5 / det  # log(compensation) = (log(det) - log(blurred)) / 2
        v_blurred = v_s * 0.5 / blurred
        g_xx += v_det * yy + v_blurred * c_yy
        g_yy += v_det * xx + v_blurred * (xx + camera.eps2d)
        g_xy -= (v_det + v_blurred) * xy
    return g_xx, g_xy, g_yy, v_mx, v_my, -v_s / (1.0 + math.exp(np.float64(logit)))


@inlined_kernel
def _sight_backward(g, p0, p1, p2, flow, record, camera, gaussians, gradients, v_pose):
    """Adds the gradients of the colour; returns that of the mean through the direction of view."""
    pose = camera.pose
    c0, c1, c2 = _turn_back(pose, pose[0, 3], pose[1, 3], pose[2, 3])  # minus the camera's centre
    d0, d1, d2 = p0 + c0, p1 + c1, p2 + c2
    distance = math.sqrt(d0 * d0 + d1 * d1 + d2 * d2)
    d0, d1, d2 = d0 / distance, d1 / distance, d2 / distance
    v_r, v_g, v_b = _free(flow[V_RED], record[RED]), _free(flow[V_GREEN], record[GREEN]), _free(flow[V_BLUE], record[BLUE])
    x, y, z = np.float32(d0), np.float32(d1), np.float32(d2)
    v0, v1, v2 = color_backward(g, gaussians.sh, v_r, v_g, v_b, x, y, z, gradients.sh)
    along = v0 * d0 + v1 * d1 + v2 * d2
    v0, v1, v2 = (v0 - along * d0) / distance, (v1 - along * d1) / distance, (v2 - along * d2) / distance
    for i in range(3):  # the direction is mean + R^T t
        t = pose[i, 3]
        v_pose[i, 0] += t * v0
        v_pose[i, 1] += t * v1
        v_pose[i, 2] += t * v2
        v_pose[i, 3] += pose[i, 0] * v0 + pose[i, 1] * v1 + pose[i, 2] * v2
    return v0, v1, v2


@inlined_kernel
def _free(v_channel, channel):
    """Returns the gradient of a channel of the colour, none where the colour is clamped: at 0, or absurdly bright."""
    return v_channel if ZERO < channel < LIMIT else ZERO


@inlined_kernel
def _add_row(row, v, p0, p1, p2, m0, m1, m2, q00, q01, q02, q10, q11, q12, q20, q21, q22):
    """Adds to a row of the gradient of the pose: v is that of the mean in the camera, m. that of R Q."""
    row[0] += v * p0 + m0 * q00 + m1 * q01 + m2 * q02
    row[1] += v * p1 + m0 * q10 + m1 * q11 + m2 * q12
    row[2] += v * p2 + m0 * q20 + m1 * q21 + m2 * q22
    row[3] += v


@inlined_kernel
def _turn(pose, a, b, c):
    """Returns R (a, b, c)."""
    x = pose[0, 0] * a + pose[0, 1] * b + pose[0, 2] * c
    y = pose[1, 0] * a + pose[1, 1] * b + pose[1, 2] * c
    return x, y, pose[2, 0] * a + pose[2, 1] * b + pose[2, 2] * c


@inlined_kernel
def _turn_back(pose, a, b, c):
    """Returns R^T (a, b, c)."""
    x = pose[0, 0] * a + pose[1, 0] * b + pose[2, 0] * c
    y = pose[0, 1] * a + pose[1, 1] * b + pose[2, 1] * c
    return x, y, pose[0, 2] * a + pose[1, 2] * b + pose[2, 2] * c


@inlined_kernel
def _clamped(ratio, focal, center, size):
    """Returns x/z held to the image and 15 % of it more on each side, and whether it was inside."""
    low, high = -(center + 0.15 * size) / focal, (size - center + 0.15 * size) / focal
    return min(max(ratio, low), high), low <= ratio <= high


@inlined_kernel
def _rotation(quat):
    """Returns the rows of the rotation matrix of a quaternion of any length."""
    w, x, y, z = np.float64(quat[0]), np.float64(quat[1]), np.float64(quat[2]), np.float64(quat[3])
    s = 2.0 / (w * w + x * x + y * y + z * z)
    return (
        1.0 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y),
        s * (x * y + w * z), 1.0 - s * (x * x + z * z), s * (y * z - w * x),
        s * (x * z - w * y), s * (y * z + w * x), 1.0 - s * (x * x + y * y),
    )  # fmt: skip


@inlined_kernel
def _rotation_backward(quat, v_quat, v00, v10, v20, v01, v11, v21, v02, v12, v22):
    """Adds the gradient of a quaternion, from that of its matrix given by columns."""
    w, x, y, z = np.float64(quat[0]), np.float64(quat[1]), np.float64(quat[2]), np.float64(quat[3])
    norm = math.sqrt(w * w + x * x + y * y + z * z)
    w, x, y, z = w / norm, x / norm, y / norm, z / norm
    norm = max(norm, SHORTEST)
    v_w = 2.0 * (x * (v21 - v12) + y * (v02 - v20) + z * (v10 - v01))
    v_x = 2.0 * (w * (v21 - v12) + y * (v01 + v10) + z * (v02 + v20) - 2.0 * x * (v11 + v22))
    v_y = 2.0 * (w * (v02 - v20) + x * (v01 + v10) + z * (v12 + v21) - 2.0 * y * (v00 + v22))
    v_z = 2.0 * (w * (v10 - v01) + x * (v02 + v20) + y * (v12 + v21) - 2.0 * z * (v00 + v11))
    along = w * v_w + x * v_x + y * v_y + z * v_z  # the length of the quaternion is of no effect
    v_quat[0] += (v_w - along * w) / norm
    v_quat[1] += (v_x - along * x) / norm
    v_quat[2] += (v_y - along * y) / norm
    v_quat[3] += (v_z - along * z) / norm
