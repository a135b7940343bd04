"""NAVSIM's step from annotations at 2 Hz to tracks at 10 Hz (rule 9 of the PDM Score)."""

from __future__ import annotations

import numpy as np


def interpolate_annotations(tracks: np.ndarray, valid: np.ndarray, per_second: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Interpolates tracks to 10 Hz.

    Linear between a track's first and last annotated frame: gaps are bridged, and outside the track is absent. The size is that
    of the first frame. A track annotated in a single frame stands there all the time.

    Args:
        tracks: (frames, N, 7) x, y [m], yaw [rad], length, width [m], vx, vy [m/s].
        valid: (frames, N) bool.
        per_second: Frames a second, 2 or 5.

    Returns:
        (steps, N, 7) tracks every 0.1 s, 0 where absent, and (steps, N) bool.
    """
    frames = len(tracks)
    steps = (frames - 1) * (10 // per_second) + 1
    times, knots = np.arange(steps, dtype=float) * 0.1, np.arange(frames, dtype=float) / per_second
    out, there = np.zeros((steps, tracks.shape[1], 7)), np.zeros((steps, tracks.shape[1]), bool)
    for n in range(tracks.shape[1]):
        rows = np.flatnonzero(valid[:, n])
        if len(rows) == 0:
            continue
        states = tracks[rows, n].astype(np.float64)
        if len(rows) == 1:
            out[:, n], there[:, n] = states[0], True
            continue
        states[:, 2] = np.unwrap(states[:, 2])
        there[:, n] = inside = (times >= knots[rows[0]]) & (times <= knots[rows[-1]])
        for column in (0, 1, 2, 5, 6):
            out[inside, n, column] = np.interp(times[inside], knots[rows], states[:, column])
        out[inside, n, 2] = np.arctan2(np.sin(out[inside, n, 2]), np.cos(out[inside, n, 2]))
        out[inside, n, 3:5] = states[0, 3:5]
    return out, there
