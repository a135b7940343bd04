"""Means over scenarios with bootstrap intervals, and paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval; n is the number of scenarios.

    All are NaN where n = 0, and low and high also where all scenarios are of one recording: one tells nothing about the spread.
    """

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        if self.n == 0:
            return "–"
        return f"{self.mean:.3f} " + ("[–, –]" if math.isnan(self.low) else f"[{self.low:.3f}, {self.high:.3f}]")


def bootstrap_mean(
    values: Sequence[float], groups: Sequence[str] | None = None, *, resamples: int = 4000, level: float = 0.95, seed: int = 0
) -> Estimate:
    """Returns the mean of ``values`` with its percentile bootstrap interval (Efron 1979).

    Args:
        values: (n,) one number a scenario, none of them NaN.
        groups: (n,) what is drawn as a whole, e.g. the recording that a window was cut from: windows of one recording are alike,
            and drawing them one by one would make the interval too narrow. Default: every value is its own group.
        resamples: number of bootstrap samples.
        level: probability that the interval covers.
        seed: of the resampling, so that a table repeats.

    Raises:
        ValueError: a value is NaN or infinite: a scenario that did not run must not reach an average.
    """
    values = np.asarray(values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{int((~np.isfinite(values)).sum())} of {len(values)} values are not finite")
    if len(values) == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    group = np.arange(len(values)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    sums, counts = np.bincount(group, weights=values), np.bincount(group).astype(np.float64)
    if len(sums) == 1:
        return Estimate(float(values.mean()), math.nan, math.nan, len(values))
    drawn = np.random.default_rng(seed).integers(len(sums), size=(resamples, len(sums)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(values.mean()), float(low), float(high), len(values))


def paired_difference(
    after: dict[str, float], before: dict[str, float], groups: dict[str, str] | None = None, **options
) -> Estimate:
    """Returns the mean of after - before over the scenarios (keys) that both have, with its bootstrap interval."""
    shared = sorted(after.keys() & before.keys())
    return bootstrap_mean(
        [after[key] - before[key] for key in shared], None if groups is None else [groups[key] for key in shared], **options
    )


def crossed_mean(
    values: np.ndarray, where: np.ndarray | None = None, *, resamples: int = 4000, level: float = 0.95, seed: int = 0
) -> Estimate:
    """Returns the mean of (seeds, scenarios) values with an interval that covers new seeds as well as new scenarios.

    Both are drawn with replacement, each by itself (the pigeonhole bootstrap of Owen 2007 for crossed designs); ``n`` is the number
    of scenarios. ``where`` (seeds, scenarios) bool says which values count (default: all); the mean is over those, and ``n`` counts
    scenarios with at least one.
    """
    values = np.asarray(values, dtype=np.float64)
    counts = np.ones(values.shape) if where is None else np.asarray(where, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{int((~np.isfinite(values)).sum())} of {values.size} values are not finite")
    if not counts.any():
        return Estimate(math.nan, math.nan, math.nan, 0)
    random, sums = np.random.default_rng(seed), values * counts
    means = []
    for _ in range(resamples):
        drawn = np.ix_(*(random.integers(size, size=size) for size in values.shape))
        if counts[drawn].any():
            means.append(sums[drawn].sum() / counts[drawn].sum())
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(sums.sum() / counts.sum()), float(low), float(high), int(counts.any(0).sum()))
