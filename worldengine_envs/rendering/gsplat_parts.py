"""What the gsplat renderer keeps on the device: all parts in common arrays, and the algebra of their covariances and colours."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from worldengine_envs.errors import DataError
from worldengine_envs.rendering.gaussians import SH_C0, Gaussians

ABSENT = -1


class Parts:
    """All parts in common arrays on the device, one after the other."""

    def __init__(self, device: torch.device):
        self._first = np.zeros(0, np.int64)  # (handles,) first row of each part
        self._count = np.zeros(0, np.int64)  # (handles,) number of its rows, ABSENT where the handle is free
        self._size = 0
        self.means = torch.zeros((0, 3), device=device)  # (capacity, 3) [m]
        self.covars = torch.zeros((0, 6), device=device)  # (capacity, 6) xx, xy, xz, yy, yz, zz [m^2]
        self.opacities = torch.zeros(0, device=device)  # (capacity,) in [0, 1]
        self.reach = torch.zeros(0, device=device)  # (capacity,) largest standard deviation [m]
        self.sh = torch.zeros((0, 1, 3), device=device)  # (capacity, harmonics, 3), as many as any part has had

    def starts(self, parts: np.ndarray) -> np.ndarray:
        """Returns (n,) int64 first rows of parts (n,)."""
        return self._first[parts]

    def counts(self, parts: np.ndarray) -> np.ndarray:
        """Returns (n,) int64 numbers of Gaussians of parts (n,).

        Raises:
            DataError: One of them was never added, or has been removed.
        """
        known = (parts >= 0) & (parts < len(self._count))
        known[known] = self._count[parts[known]] != ABSENT
        if not known.all():
            raise DataError(f"{parts[~known][0]} is no part of this renderer", field="frames.part")
        return self._count[parts]

    def add(self, gaussians: Gaussians) -> int:
        """Copies Gaussians and returns their handle. One with a value that is not finite, or no rotation, is never drawn."""
        n, device = len(gaussians), self.means.device
        self._make_room(n, gaussians.sh.shape[1])
        here = slice(self._size, self._size + n)
        means, quats, scales, logits, sh = (
            torch.tensor(np.asarray(array, np.float32), device=device)
            for array in (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.sh)
        )
        covars, opacities = covariances(quats, scales.exp()), logits.sigmoid()
        finite = means.isfinite().all(1) & covars.isfinite().all(1) & opacities.isfinite() & sh.isfinite().flatten(1).all(1)
        finite &= (quats != 0).any(1)
        self.means[here] = torch.where(finite[:, None], means, 0)
        self.covars[here] = torch.where(finite[:, None], covars, 0)
        self.opacities[here] = torch.where(finite, opacities, 0)  # too faint to be drawn
        self.reach[here] = torch.where(finite, scales.amax(1).exp(), 0)
        self.sh[here] = 0
        self.sh[here, : sh.shape[1]] = torch.where(finite[:, None, None], sh, 0)
        free = np.flatnonzero(self._count == ABSENT)
        if len(free) == 0:
            free = [len(self._count)]
            self._first, self._count = np.append(self._first, 0), np.append(self._count, ABSENT)
        part = int(free[0])
        self._first[part], self._count[part] = self._size, n
        self._size += n
        return part

    def remove(self, part: int) -> None:
        """Forgets a part and closes the gap."""
        n = int(self.counts(np.array([part]))[0])
        first = int(self._first[part])
        for array in (self.means, self.covars, self.opacities, self.reach, self.sh):
            array[first : self._size - n] = array[first + n : self._size].clone()
        self._size -= n
        self._first[self._first > first] -= n
        self._count[part] = ABSENT

    def _make_room(self, n: int, harmonics: int) -> None:
        """Makes the arrays large enough for n more Gaussians with this many harmonics."""
        room, width = len(self.means), max(harmonics, self.sh.shape[1])
        if self._size + n <= room and width == self.sh.shape[1]:
            return
        if self._size + n > room:
            room = max(self._size + n, 2 * self._size)
        for name in ("means", "covars", "opacities", "reach", "sh"):
            old = getattr(self, name)
            if name == "sh":
                new = old.new_zeros((room, width, 3))
                new[: self._size, : old.shape[1]] = old[: self._size]
            else:
                new = old.new_zeros((room, *old.shape[1:]))
                new[: self._size] = old[: self._size]
            setattr(self, name, new)


def covariances(quats: Tensor, scales: Tensor) -> Tensor:
    """Returns (n, 6) covariances of Gaussians with axes (n, 4) w, x, y, z, of any length, and standard deviations (n, 3)."""
    quats = quats / quats.abs().amax(1, keepdim=True).clamp_min(torch.finfo(quats.dtype).tiny)  # squares stay numbers
    w, x, y, z = torch.nn.functional.normalize(quats, dim=1).unbind(1)
    rotation = torch.stack(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
        ],
        dim=1,
    ).reshape(-1, 3, 3)  # fmt: skip
    return _upper_square(rotation * scales[:, None, :])


def _upper_square(m: Tensor) -> Tensor:
    """Returns (n, 6) the upper triangle of m @ m.T for m (n, 3, 3)."""
    a, b, c = m.unbind(1)
    return torch.stack([(p * q).sum(1) for p, q in ((a, a), (a, b), (a, c), (b, b), (b, c), (c, c))], dim=1)


def transformed(matrix: Tensor, covars: Tensor) -> Tensor:
    """Returns (n, 6) the upper triangles of matrix @ covariance @ matrix.T."""
    full = covars[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 1, 3, 3)
    half = (matrix[:, :, :, None] * full).sum(2)
    a, b, c = half.unbind(1)
    x, y, z = matrix.unbind(1)
    return torch.stack([(p * q).sum(1) for p, q in ((a, x), (a, y), (a, z), (b, y), (b, z), (c, z))], dim=1)


def harmonics(toward: Tensor, sh: Tensor) -> Tensor:
    """Returns (n, 3) spherical harmonics (n, k, 3), k = 4, 9 or 16, in the directions (n, 3) from the camera to the Gaussians.

    The real harmonics with the signs of 3D Gaussian Splatting's reference code.
    """
    x, y, z = torch.nn.functional.normalize(toward, dim=1).unbind(1)
    xx, yy, zz = x * x, y * y, z * z
    basis = [torch.full_like(x, SH_C0), -0.4886025119 * y, 0.4886025119 * z, -0.4886025119 * x]
    if sh.shape[1] > 4:
        basis += [1.0925484306 * x * y, -1.0925484306 * y * z, 0.3153915653 * (2 * zz - xx - yy)]
        basis += [-1.0925484306 * x * z, 0.5462742153 * (xx - yy)]
    if sh.shape[1] > 9:
        basis += [-0.5900435899 * y * (3 * xx - yy), 2.8906114426 * x * y * z, -0.4570457995 * y * (4 * zz - xx - yy)]
        basis += [0.3731763326 * z * (2 * zz - 3 * xx - 3 * yy), -0.4570457995 * x * (4 * zz - xx - yy)]
        basis += [1.4453057213 * z * (xx - yy), -0.5900435899 * x * (xx - 3 * yy)]
    return (torch.stack(basis, dim=1)[:, :, None] * sh).sum(1)
