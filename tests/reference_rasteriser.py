"""A plain rasteriser of 3D Gaussians to compare with: every Gaussian against every pixel, in float64, with torch's own gradients.

No tiles, no bounding boxes, no code shared with the package. The rules are those of 3D Gaussian Splatting (Kerbl et al. 2023,
EWA splatting by Zwicker et al. 2001) with gsplat's constants.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

MIN_ALPHA, MAX_ALPHA, MIN_TRANSMITTANCE, MIN_COMPENSATION = 1.0 / 255.0, 0.99, 1e-4, 0.005
FLIP = 3e-5  # a quantity so near to a threshold (relative) may fall on its other side in float32


class Reference(NamedTuple):
    """What one camera sees."""

    rgb: torch.Tensor  # (H, W, 3)
    alpha: torch.Tensor  # (H, W)
    depth: torch.Tensor  # (H, W) expected depth [m], 0 where nothing is
    node: torch.Tensor  # (H, W) index of the Gaussian at which the transmittance falls below 0.5, -1 if none
    safe: torch.Tensor  # (H, W) bool: no decision at this pixel hangs on rounding (thresholds, clamps, order of depth)


class Projected(NamedTuple):
    """Gaussians on the image of one camera, in the order of the input."""

    mean: torch.Tensor  # (N, 2) [px]
    cov: torch.Tensor  # (N, 2, 2) blurred [px^2]
    z: torch.Tensor  # (N,) [m]
    opacity: torch.Tensor  # (N,) compensated
    color: torch.Tensor  # (N, 3)
    drawn: torch.Tensor  # (N,) bool
    safe: torch.Tensor  # (N,) bool: as in Reference


def rotation_matrices(quats: torch.Tensor) -> torch.Tensor:
    """Returns (N, 3, 3) rotations of quaternions (N, 4) w, x, y, z of any length."""
    w, x, y, z = (quats / quats.norm(dim=1, keepdim=True)).unbind(1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], 1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], 1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], 1),
    ]
    return torch.stack(rows, 1)


def harmonics(directions: torch.Tensor) -> torch.Tensor:
    """Returns (N, 16) real spherical harmonics of unit directions (N, 3), with the signs and order of 3D Gaussian Splatting."""
    x, y, z = directions.unbind(1)
    pi = torch.pi
    values = [
        torch.full_like(x, 0.5 / pi**0.5),
        -((3 / (4 * pi)) ** 0.5) * y,
        (3 / (4 * pi)) ** 0.5 * z,
        -((3 / (4 * pi)) ** 0.5) * x,
        (15 / (4 * pi)) ** 0.5 * x * y,
        -((15 / (4 * pi)) ** 0.5) * y * z,
        (5 / (16 * pi)) ** 0.5 * (3 * z * z - 1),
        -((15 / (4 * pi)) ** 0.5) * x * z,
        (15 / (16 * pi)) ** 0.5 * (x * x - y * y),
        -((35 / (32 * pi)) ** 0.5) * y * (3 * x * x - y * y),
        (105 / (4 * pi)) ** 0.5 * x * y * z,
        -((21 / (32 * pi)) ** 0.5) * y * (5 * z * z - 1),
        (7 / (16 * pi)) ** 0.5 * z * (5 * z * z - 3),
        -((21 / (32 * pi)) ** 0.5) * x * (5 * z * z - 1),
        (105 / (16 * pi)) ** 0.5 * z * (x * x - y * y),
        -((35 / (32 * pi)) ** 0.5) * x * (x * x - 3 * y * y),
    ]
    return torch.stack(values, 1)


def project(means, quats, scales, opacities, sh, world_to_camera, intrinsics, width, height, settings) -> Projected:
    """Projects Gaussians (see ``render``)."""
    rotation, shift = world_to_camera[:3, :3], world_to_camera[:3, 3]
    points = means @ rotation.T + shift
    z = points[:, 2]
    ahead = (z >= settings.near) & (z <= settings.far)
    depth = torch.where(ahead, z, 1.0)  # those that are not drawn must not spoil gradients by dividing by zero
    x, y = (points[:, i] / depth for i in (0, 1))
    fx, fy, cx, cy = intrinsics
    slack_x, slack_y = 0.15 * width / fx, 0.15 * height / fy
    at_x = x.clamp(-cx / fx - slack_x, (width - cx) / fx + slack_x)
    at_y = y.clamp(-cy / fy - slack_y, (height - cy) / fy + slack_y)
    zero = torch.zeros_like(depth)
    jacobian = torch.stack([fx / depth, zero, -fx * at_x / depth, zero, fy / depth, -fy * at_y / depth], 1).reshape(-1, 2, 3)
    factor = jacobian @ rotation @ rotation_matrices(quats) * scales.exp()[:, None, :]  # cov = factor @ factor.T
    cov = factor @ factor.transpose(1, 2)
    minors = torch.linalg.cross(factor[:, 0], factor[:, 1])  # det(cov) without cancellation (Cauchy-Binet)
    det = (minors * minors).sum(1)
    blurred_det = det + settings.eps2d * (cov[:, 0, 0] + cov[:, 1, 1]) + settings.eps2d**2
    ratio = det / blurred_det
    compensation = ratio.clamp_min(MIN_COMPENSATION**2).sqrt() if settings.antialiased else torch.ones_like(ratio)
    opacity = opacities.sigmoid() * compensation
    center = -rotation.T @ shift
    directions = torch.nn.functional.normalize(means - center, dim=1)
    bases = harmonics(directions)[:, : sh.shape[1], None]
    raw = (bases * sh).sum(1) + 0.5
    drawn = ahead & (blurred_det > 0) & (opacity >= MIN_ALPHA)

    def near(value, threshold):
        return (value.detach() - threshold).abs() <= FLIP * abs(threshold)

    doubtful = near(z, settings.near) | near(opacity, MIN_ALPHA) | (raw.detach().abs() < FLIP).any(1)
    doubtful |= near(ratio, MIN_COMPENSATION**2) if settings.antialiased else False
    doubtful |= near(x, -cx / fx - slack_x) | near(x, (width - cx) / fx + slack_x)
    doubtful |= near(y, -cy / fy - slack_y) | near(y, (height - cy) / fy + slack_y)
    blurred = cov + settings.eps2d * torch.eye(2, dtype=cov.dtype)
    return Projected(torch.stack([fx * x + cx, fy * y + cy], 1), blurred, z, opacity, raw.clamp_min(0.0), drawn, ~doubtful)


def render(
    means,
    quats,
    scales,
    opacities,
    sh,
    world_to_camera,
    intrinsics,
    width,
    height,
    settings,
    cutoffs=True,
    rows=None,
    depths=None,
) -> Reference:
    """Draws Gaussians as one camera sees them.

    Args:
        means, quats, scales, opacities, sh: (N, 3), (N, 4), (N, 3) logarithms, (N,) logits, (N, K, 3): float64 tensors.
        world_to_camera: (4, 4) float64.
        intrinsics: (4,) fx, fy, cx, cy [px], float64.
        width: [px]
        height: [px]
        settings: A ``RenderSettings``.
        cutoffs: Whether faint contributions (alpha under 1/255) and those behind a nearly opaque stack are dropped.
        rows: How many rows of pixels are worked on at a time, None = all; gradients need all.
        depths: (N,) what Gaussians are sorted by in place of their exact depth. Where two are equally far, which comes first is a
            matter of rounding: with the depths of the rasteriser under test it is no longer one.
    """
    p = project(means, quats, scales, opacities, sh, world_to_camera, intrinsics, width, height, settings)
    index = torch.nonzero(p.drawn)[:, 0]
    index = index[torch.argsort((p.z.detach() if depths is None else depths)[index], stable=True)]
    p = Projected(*(value[index] for value in p))
    precision = torch.linalg.inv(p.cov) if len(index) else p.cov
    step = rows or height
    starts = range(0, height, step)
    strips = [_strip(p, precision, index, settings, r, min(r + step, height), width, cutoffs, depths is None) for r in starts]
    return Reference(*(torch.cat(parts) for parts in zip(*strips, strict=True)))


def _strip(p, precision, index, settings, first, last, width, cutoffs, by_depth) -> Reference:
    """Draws the rows first to last - 1 of sorted Gaussians."""
    v, u = torch.meshgrid(torch.arange(first, last) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    offset = p.mean[:, None, :] - torch.stack([u, v], -1).reshape(1, -1, 2).to(p.mean.dtype)  # (N, P, 2)
    dx, dy = offset.unbind(-1)
    a, b, c = (precision[:, i, j, None] for i, j in ((0, 0), (0, 1), (1, 1)))
    full = p.opacity[:, None] * torch.exp(-(0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy))
    alpha = full.clamp_max(MAX_ALPHA)
    if cutoffs:
        alpha = torch.where(alpha >= MIN_ALPHA, alpha, 0.0)
    passed = torch.cumprod(1.0 - alpha, 0)  # transmittance behind each
    if cutoffs:
        alpha = torch.where(passed > MIN_TRANSMITTANCE, alpha, 0.0)
    behind = torch.cumprod(1.0 - alpha, 0)
    ahead = torch.cat([torch.ones_like(behind[:1]), behind[:-1]])
    weight = alpha * ahead  # (N, P)
    total = weight.sum(0)
    rgb = weight.T @ p.color + (1.0 - total)[:, None] * torch.tensor(settings.background, dtype=weight.dtype)
    depth = torch.where(total > 0, (weight * p.z[:, None]).sum(0) / torch.where(total > 0, total, 1.0), 0.0)
    with torch.no_grad():
        half = (behind < 0.5) & (ahead >= 0.5)
        node = torch.where(half.any(0), index[half.int().argmax(0)], -1) if len(index) else torch.full_like(u, -1).long()
        safe = _is_safe(p, full.detach(), passed.detach(), weight.detach(), by_depth)
    shape = (last - first, width)
    return Reference(
        *(
            value.reshape(*shape, *value.shape[1:]) if value.dim() < 2 or value.shape != shape else value
            for value in (rgb, total, depth, node, safe)
        )
    )


def _is_safe(p, full, passed, weight, by_depth) -> torch.Tensor:
    """Returns (P,) bool: at which pixels no decision hangs on rounding."""

    def near(value, threshold):
        return (value - threshold).abs() <= FLIP * threshold

    doubtful = near(full, MIN_ALPHA) | near(full, MAX_ALPHA) | near(passed, MIN_TRANSMITTANCE)
    doubtful |= (weight > 0) & ~p.safe[:, None]
    if by_depth and len(p.z) > 1:  # neighbours in depth that may change places; only those that overlap matter
        close = (p.z[1:] - p.z[:-1]) <= FLIP * 0.01 * p.z[1:]
        doubtful[1:] |= close[:, None] & (weight[1:] > 0) & (weight[:-1] > 0)
    return ~doubtful.any(0)
