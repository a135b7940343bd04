"""What a reconstruction can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from worldengine_envs.errors import DataError


def _check_least(settings, where: str, least_of: dict[str, float]) -> None:
    """Raises DataError where a number is too small, or none."""
    for name, least in least_of.items():
        value = getattr(settings, name)
        if not value >= least:
            raise DataError(f"{value!r} is not {least:g} or more", field=where + name)


@dataclass(frozen=True, slots=True)
class PointSettings:
    """Where Gaussians start."""

    voxel_m: float = 0.15  # at most one point in a cube of this side
    max_points: int = 150_000
    random_points: int = 30_000  # where there is neither LiDAR nor a feature seen from two places
    farthest_m: float = 120.0  # points beyond are left to the sky

    def __post_init__(self):
        _check_least(self, "points.", {"voxel_m": 0.01, "max_points": 1, "random_points": 1, "farthest_m": 5.0})


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weights of the loss; most are those of MTGS."""

    l1: float = 0.8
    ssim: float = 0.2
    inverse_depth: float = 0.5  # |1/d - 1/d_measured| [1/m]
    flatness: float = 1.0  # mean of the shortest axis [m]
    out_of_box: float = 1.0  # actors' Gaussians beyond their box
    needles: float = 1.0  # axes longer than 10 times the second
    beside: float = 0.2  # mean absolute difference of what an image shows and what is seen of it from up to 3 m aside


@dataclass(frozen=True, slots=True)
class LearningRates:
    """Adam's, for each table of the Gaussians."""

    means: float = 8e-4  # [m]; falls exponentially to ``means_end``
    means_end: float = 8e-6
    quats: float = 1e-3
    scales: float = 1e-2  # twice that of MTGS, for a fifth of its iterations
    opacities: float = 0.05
    dc: float = 2.5e-3
    rest: float = 1.25e-4
    looks: float = 2.5e-3


@dataclass(frozen=True, slots=True)
class DensificationSettings:
    """How Gaussians are added, moved and dropped."""

    strategy: Literal["mcmc", "gradient"] = "mcmc"
    first: int = 500
    every: int = 100
    last: float = 0.8  # share of the iterations after which the number stays
    growth: float = 0.05  # share of the number by which it may grow at once
    dead_opacity: float = 0.005  # those below are moved or dropped
    opacity_weight: float = 0.01  # of the mean opacity in the loss
    scale_weight: float = 0.01  # of the mean standard deviation [m] in the loss
    drift: float = 1.0  # mcmc: step of the faint in an iteration, in their own standard deviations; falls to 0
    split_px: float = 6.0  # gradient: those that reach farther on an image are split, others copied [px]

    def __post_init__(self):
        _check_least(self, "densification.", {"first": 0, "every": 1, "last": 0.0, "growth": 0.0, "drift": 0.0})


@dataclass(frozen=True, slots=True)
class CorrectionSettings:
    """What is learned about poses and exposures."""

    cameras: bool = True
    actors: bool = True
    exposures: bool = True
    find_actors: bool = True  # where a log with LiDAR names none: those that move, and errors of the poses


@dataclass(frozen=True, slots=True)
class ReconstructionSettings:
    """How a camera log is turned into a Gaussian scene."""

    scale: float = 1.0  # of the images' sides
    test_every: int = 8  # every so-many-th time is held out to measure by; 0 = none
    test_first: int | None = None  # index of the first; None = half of test_every
    iterations: int = 4000
    max_gaussians: int = 150_000  # hard cap
    sh_degree: int = 2
    sh_every: int = 1000  # iterations from one degree to the next
    sky_gaussians: int = 6000
    seed: int = 0
    cache_mb: int = 1024  # of images and depths that are kept; others are read and measured again when their turn comes
    device: str = "cpu"
    checkpoint_every: int = 500
    preview_every: int = 500
    points: PointSettings = field(default_factory=PointSettings)
    weights: LossWeights = field(default_factory=LossWeights)
    rates: LearningRates = field(default_factory=LearningRates)
    densification: DensificationSettings = field(default_factory=DensificationSettings)
    corrections: CorrectionSettings = field(default_factory=CorrectionSettings)

    def __post_init__(self):
        least = {"iterations": 1, "max_gaussians": 1, "sh_every": 1, "checkpoint_every": 1, "cache_mb": 1, "test_every": 0}
        _check_least(self, "", least | {"preview_every": 0, "sky_gaussians": 0})
        if not 0.0 < self.scale <= 1.0:
            raise DataError(f"{self.scale!r} is not in (0, 1]", field="scale")
        if self.sh_degree not in range(4):
            raise DataError(f"{self.sh_degree!r} is none of 0, 1, 2, 3", field="sh_degree")
