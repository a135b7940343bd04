"""A set of 3D Gaussians with the parameters of 3D Gaussian Splatting, as trained and as stored in PLY files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_SH_DEGREE = 3
SH_C0 = 0.28209479177387814  # value of the first spherical harmonic: colour = SH_C0 * sh[0] + 0.5


@dataclass(frozen=True, slots=True)
class Gaussians:
    """N Gaussians in one frame; all arrays are float32."""

    means: np.ndarray  # (N, 3) centres [m]
    quats: np.ndarray  # (N, 4) w, x, y, z of the axes; need not be of length one
    scales: np.ndarray  # (N, 3) natural logarithm of the standard deviations along the axes [m]
    opacities: np.ndarray  # (N,) logit of the opacity
    sh: np.ndarray  # (N, (degree + 1)^2, 3) spherical harmonics of R, G, B, degree 0 to 3

    def __len__(self) -> int:
        return len(self.means)

    @property
    def sh_degree(self) -> int:
        """Degree of the spherical harmonics, 0 to 3."""
        return round(self.sh.shape[1] ** 0.5) - 1


def sh_from_rgb(rgb: np.ndarray) -> np.ndarray:
    """Returns (N, 1, 3) float32 coefficients of degree 0 for colours (N, 3) in [0, 1] that look the same from everywhere."""
    return ((np.asarray(rgb, np.float32) - np.float32(0.5)) / np.float32(SH_C0))[:, None, :]
