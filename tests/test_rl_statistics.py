"""Bootstrap intervals against scipy, against the normal theory, and against their own promise to cover."""

import numpy as np
import pytest
from scipy import stats

from worldengine_rl.statistics import bootstrap_mean, crossed_mean, paired_difference


def test_interval_agrees_with_scipy_and_the_normal_theory():
    values = np.random.default_rng(1).random(300) ** 2
    ours = bootstrap_mean(values, resamples=20_000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2))
    assert (ours.mean, ours.n) == (values.mean(), 300)
    np.testing.assert_allclose([ours.low, ours.high], theirs.confidence_interval, atol=1e-3)
    half = 1.96 * values.std(ddof=1) / np.sqrt(300)
    np.testing.assert_allclose([ours.low, ours.high], [values.mean() - half, values.mean() + half], atol=3e-3)


def test_interval_over_groups_is_as_wide_as_the_groups_say():
    """20 recordings of 10 equal windows each hold 20 values' worth of information, not 200."""
    per_group = np.random.default_rng(0).normal(size=20)
    values, groups = np.repeat(per_group, 10), np.repeat([f"log{i:02d}" for i in range(20)], 10)
    grouped, single = bootstrap_mean(values, groups), bootstrap_mean(per_group)
    np.testing.assert_allclose([grouped.mean, grouped.low, grouped.high], [single.mean, single.low, single.high], atol=1e-12)
    naive = bootstrap_mean(values)
    assert (grouped.high - grouped.low) / (naive.high - naive.low) == pytest.approx(np.sqrt(10), rel=0.1)


def test_one_recording_has_no_interval():
    estimate = bootstrap_mean([0.2, 0.4, 0.9], ["log"] * 3)
    assert (estimate.mean, estimate.n, str(estimate)) == (0.5, 3, "0.500 [–, –]") and np.isnan([estimate.low, estimate.high]).all()


def test_coverage():
    rng = np.random.default_rng(0)
    hits = 0
    for i in range(300):
        estimate = bootstrap_mean(rng.random(100) < 0.7, resamples=500, seed=i)
        hits += estimate.low <= 0.7 <= estimate.high
    assert stats.binomtest(hits, 300, 0.94).pvalue > 1e-3  # percentile intervals cover a little less than they say


def test_paired_difference_uses_shared_scenarios_only():
    before = {"a": 0.0, "b": 1.0, "only_before": 5.0}
    after = {"a": 1.0, "b": 1.0, "only_after": 9.0}
    estimate = paired_difference(after, before)
    assert (estimate.mean, estimate.n) == (0.5, 2)


def test_what_did_not_run_never_reaches_an_average():
    with pytest.raises(ValueError, match="1 of 3"):
        bootstrap_mean([1.0, float("nan"), 0.0])
    assert bootstrap_mean([]).n == 0 and str(bootstrap_mean([])) == "–"


def test_crossed_interval_grows_with_the_spread_between_seeds():
    rng = np.random.default_rng(0)
    scenarios = rng.normal(size=400)
    alike = np.stack([scenarios] * 5)
    single, crossed = bootstrap_mean(scenarios), crossed_mean(alike)
    np.testing.assert_allclose([crossed.mean, crossed.low, crossed.high], [single.mean, single.low, single.high], atol=0.02)
    apart = crossed_mean(alike + np.array([-0.4, -0.2, 0.0, 0.2, 0.4])[:, None])
    expected = np.hypot(scenarios.std() / 20, np.std([-0.4, -0.2, 0.0, 0.2, 0.4]) / np.sqrt(5)) * 2 * 1.96
    assert apart.high - apart.low == pytest.approx(expected, rel=0.1)


def test_crossed_mean_of_what_counts():
    """Values that do not count change nothing, and a scenario that counts in no seed is none."""
    rng = np.random.default_rng(0)
    values, where = rng.normal(size=(4, 60)), rng.random((4, 60)) < 0.7
    where[:, :20] = False
    estimate, other = crossed_mean(values, where), crossed_mean(np.where(where, values, 1e6), where)
    assert estimate == other and estimate.n == where.any(0).sum() < 41
    assert estimate.mean == pytest.approx(values[where].mean()) and estimate.low < estimate.mean < estimate.high
    assert crossed_mean(values, np.ones_like(where)) == crossed_mean(values)
    assert crossed_mean(values, np.zeros_like(where)).n == 0
