"""Cuts recordings into scenarios: a start every 2 s where history, horizon and look-ahead fit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from worldengine_envs.scenario.start import start_problem
from worldengine_envs.scenario.types import HISTORY_STEPS, LOOKAHEAD_STEPS, STEP_S, Scenario

WINDOW_SPACING_S = 2.0


@dataclass(frozen=True)
class Refusal:
    """A window that was not made, or was made and not taken."""

    id: str
    reason: str


@dataclass(frozen=True)
class Windows:
    """What a recording was cut into."""

    scenarios: tuple[Scenario, ...]
    refused: tuple[Refusal, ...]


def cut_windows(recording: Scenario, horizon_s: float = 4.0) -> Windows:
    """Returns the windows of a recording: ids ``<recording>_<start step>``, arrays and split shared with it.

    A start is taken every 2 s where 1.5 s of history, the horizon and 1.0 s of look-ahead fit. One where the ego is missing for a
    part of that time, touches something, or stands off the drivable area is refused with the reason.
    """
    taken, refused = [], []
    steps, needed = recording.tracks.steps, HISTORY_STEPS + round(horizon_s / STEP_S) + LOOKAHEAD_STEPS + 1
    if steps < needed:
        refused.append(Refusal(recording.id, f"{steps} steps are recorded, a window needs {needed}"))
    for start in _starts(steps, horizon_s):
        window = replace(recording, id=f"{recording.id}_{start:03d}", start_step=start)
        reason = _ego_gap(window, horizon_s) or start_problem(window)
        if reason:
            refused.append(Refusal(window.id, reason))
        else:
            taken.append(window)
    return Windows(tuple(taken), tuple(refused))


def _starts(steps: int, horizon_s: float) -> Iterator[int]:
    last = steps - 1 - round(horizon_s / STEP_S) - LOOKAHEAD_STEPS
    yield from range(HISTORY_STEPS, last + 1, round(WINDOW_SPACING_S / STEP_S))


def _ego_gap(window: Scenario, horizon_s: float) -> str | None:
    last = window.start_step + round(horizon_s / STEP_S) + LOOKAHEAD_STEPS
    needed = window.tracks.valid[0, window.start_step - HISTORY_STEPS : last + 1]
    missing = int((~needed).sum())
    return f"the ego is missing in {missing} of the {len(needed)} steps that are needed" if missing else None


def split_of(recording: str, splits: tuple[tuple[str, float], ...] = (("train", 0.75), ("test", 0.25))) -> str:
    """Returns the split of a recording by the hash of its name, the same on every machine.

    Args:
        recording: Its name.
        splits: Names and shares; the shares sum to 1.
    """
    at = int.from_bytes(hashlib.sha256(recording.encode()).digest()[:8], "big") / 2**64
    for name, share in splits:
        at -= share
        if at < 0:
            return name
    return splits[-1][0]
