"""Which images and sweeps are learned from, and which are held out to measure by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.camera_log import CameraLog

UNKNOWN_PERIOD_US = 500_000.0  # between two images of a camera, where no camera took two


@dataclass(frozen=True, slots=True)
class Split:
    """Rows of ``CameraLog.views`` and ``CameraLog.sweeps``, increasing, all int64."""

    train: np.ndarray  # (V,)
    test: np.ndarray  # (W,)
    train_sweeps: np.ndarray  # (S,)
    test_sweeps: np.ndarray  # (U,)


def split(log: CameraLog, every: int, first: int | None = None) -> Split:
    """Holds out every so-many-th time step of each traversal with all its cameras and the sweeps nearest to it.

    Args:
        log: Images and sweeps.
        every: Time steps from one that is held out to the next; 0 holds out nothing.
        first: Index of the first that is held out; None is the middle, ``every // 2``.

    Raises:
        DataError: ``every`` or ``first`` is negative, ``first`` is not below ``every``, or nothing is left to learn from.
    """
    if every < 0:
        raise DataError(f"{every} is negative", field="test_every", remedy="0 holds out nothing")
    first = every // 2 if first is None else first
    if every and not 0 <= first < every:
        raise DataError(f"{first} is not from 0 to {every - 1}", field="test_first")
    held_views, held_sweeps = np.zeros(len(log.views), bool), np.zeros(len(log.sweeps), bool)
    for traversal in log.traversals if every else ():
        step, times = time_steps(log, traversal)
        held = np.arange(len(times)) % every == first
        rows = np.flatnonzero(step >= 0)
        held_views[rows] = held[step[rows]]
        for row, sweep in enumerate(log.sweeps):
            if sweep.traversal == traversal and len(times):
                held_sweeps[row] = held[_nearest_step(times, sweep.time_us)]
    if held_views.all():
        raise DataError("every image is held out", field="test_every", remedy="Use a larger number, or 0 to hold out nothing")
    return Split(*(np.flatnonzero(rows) for rows in (~held_views, held_views, ~held_sweeps, held_sweeps)))


def time_steps(log: CameraLog, traversal: str) -> tuple[np.ndarray, np.ndarray]:
    """Groups the images of a traversal that were taken together: cameras need not fire at exactly one time.

    A step ends where a camera comes again, or half the usual time between two images of one camera after it began.

    Returns:
        (views,) int64 the time step of each image, -1 for those of other traversals, and (steps,) float64 their mean times [us].
    """
    rows = [row for row, view in enumerate(log.views) if view.traversal == traversal]
    rows.sort(key=lambda row: (log.views[row].time_us, row))
    step = np.full(len(log.views), -1, np.int64)
    limit_us = 0.5 * _period_us(log, rows)
    current, cameras, began = -1, set(), 0
    for row in rows:
        view = log.views[row]
        if current < 0 or view.camera in cameras or view.time_us - began > limit_us:
            current, cameras, began = current + 1, set(), view.time_us
        cameras.add(view.camera)
        step[row] = current
    times = np.zeros(current + 1)
    np.add.at(times, step[rows], [float(log.views[row].time_us) for row in rows])
    return step, times / np.maximum(np.bincount(step[rows], minlength=current + 1), 1)


def _period_us(log: CameraLog, rows: list[int]) -> float:
    """Returns the median time from one image to the next of the same camera."""
    last, gaps = {}, []
    for row in rows:
        view = log.views[row]
        if view.camera in last and view.time_us > last[view.camera]:
            gaps.append(view.time_us - last[view.camera])
        last[view.camera] = view.time_us
    return float(np.median(gaps)) if gaps else UNKNOWN_PERIOD_US


def _nearest_step(times: np.ndarray, time_us: int) -> int:
    return int(np.abs(times - time_us).argmin())
