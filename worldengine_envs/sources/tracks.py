"""From the samples of a log to tracks at 0.1 s: interpolation, velocities, missing sizes, cleaning of a jumping ego."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import STEP_S, AgentType, Tracks

DEFAULT_SIZE = {  # length, width, height [m] of kinds whose log says nothing
    AgentType.VEHICLE: (4.6, 1.9, 1.7),
    AgentType.PEDESTRIAN: (0.7, 0.7, 1.75),
    AgentType.BICYCLE: (1.8, 0.7, 1.7),
    AgentType.TRAFFIC_CONE: (0.4, 0.4, 0.8),
    AgentType.BARRIER: (0.5, 2.0, 1.0),
    AgentType.CZONE_SIGN: (0.5, 0.5, 1.2),
    AgentType.GENERIC_OBJECT: (0.5, 0.5, 1.0),
}
MAX_SPEED = 70.0  # [m/s]; a faster motion between two samples is a jump, not a motion
MAX_STEPS = 20_000  # of 0.1 s; times that jump would claim any number of steps
MAX_SAMPLES = 20_000_000  # tracks times steps of one recording
AT_REST_M = 0.3  # a vehicle or object that stays within this radius for all its life stands still: the rest is annotation noise


@dataclass
class RawTrack:
    """Valid samples of one object as the log has them, in time order. Heading and velocity may be None, sizes 0: unknown."""

    token: str
    type: AgentType
    time: np.ndarray  # (n,) s since step 0
    xy: np.ndarray  # (n, 2) m, box centre
    yaw: np.ndarray | None  # (n,) rad
    size: np.ndarray  # (n, 3) m: length, width, height; 0 = unknown
    velocity: np.ndarray | None  # (n, 2) m/s


def step_times(time: np.ndarray) -> np.ndarray:
    """Returns (steps,) times [s] of the 0.1 s grid that the samples (n,) [s] cover, from the first on.

    Raises:
        DataError: They cover more than 20,000 steps.
    """
    span = float(time[-1] - time[0])
    if span > STEP_S * MAX_STEPS:
        raise DataError(f"the ego's times span {span:g} s, the limit is {STEP_S * MAX_STEPS:g} s", field="time")
    return time[0] + STEP_S * np.arange(int(np.floor(span / STEP_S + 0.25)) + 1)


def build_tracks(raw: list[RawTrack], grid: np.ndarray, sample_s: float, derived: set[str]) -> Tracks:
    """Resamples all tracks to the grid; row 0 of the result is ``raw[0]``, tracks that never touch the grid are left out.

    Position and velocity are interpolated linearly, headings the short way round, between samples at most 1.5 of the log's own
    intervals apart; a longer gap stays a gap.

    Args:
        raw: Tracks, the ego first.
        grid: (steps,) s, the times of the steps.
        sample_s: The log's own interval [s].
        derived: Names of derived fields; added to.

    Raises:
        DataError: The ego has no sample on the grid, or there are more than 20 million samples.
    """
    if len(raw) * len(grid) > MAX_SAMPLES:
        raise DataError(f"{len(raw)} tracks of {len(grid)} steps, the limit is {MAX_SAMPLES} samples", field="tracks")
    rows, state, size, valid = [], [], [], []
    for track in raw:
        one = _resample(track, grid, max(1.5 * sample_s, 1.5 * STEP_S), derived)
        if one is None:
            if track is raw[0]:
                raise DataError("the ego has no valid step", field="tracks")
            continue
        rows.append(track)
        for column, values in zip((state, size, valid), one, strict=True):
            column.append(values)
    return Tracks(
        tuple(track.token for track in rows),
        np.array([track.type for track in rows], np.int8),
        np.stack(state),
        np.stack(size),
        np.stack(valid),
    )


def _resample(track: RawTrack, grid, max_gap, derived):
    """Returns state (steps, 5), size (steps, 3), valid (steps,) of one track, or None if it has no step."""
    keep = _first_of_each(track.time)
    if not keep.all():
        derived.add("duplicate_steps_dropped")
    time, xy = track.time[keep], track.xy[keep]
    low = np.clip(np.searchsorted(time, grid + 1e-9, side="right") - 1, 0, len(time) - 1)
    high = np.minimum(low + 1, len(time) - 1)
    span = time[high] - time[low]
    jump = np.hypot(*(xy[high] - xy[low]).T) > MAX_SPEED * np.maximum(span, STEP_S)
    between = (grid >= time[low]) & (span > 0) & (span <= max_gap) & ~jump
    nearest = np.where(np.abs(grid - time[low]) <= np.abs(grid - time[high]), low, high)
    valid = between | (np.abs(grid - time[nearest]) <= 0.5 * STEP_S)
    if not valid.any():
        return None
    low, high = np.where(between, low, nearest), np.where(between, high, nearest)
    weight = np.where(between, (grid - time[low]) / np.where(span > 0, span, 1.0), 0.0)

    def mix(values):
        return values[low] + weight[:, None] * (values[high] - values[low])

    if track.velocity is None:
        derived.add("velocity")
        velocity = derive_velocity(time, xy, max_gap, can_rest=track.type not in (AgentType.PEDESTRIAN, AgentType.BICYCLE))
    else:
        velocity = track.velocity[keep]
    state = np.zeros((len(grid), 5))
    state[:, 3:] = mix(velocity)
    state[:, :2] = mix(xy) + np.where(between, 0.0, grid - time[nearest])[:, None] * state[:, 3:]
    if track.yaw is None:
        derived.add("heading")
        state[:, 2] = heading_of_motion(state[:, 3:], valid)
    else:
        yaw = track.yaw[keep]
        state[:, 2] = wrap(yaw[low] + weight * wrap(yaw[high] - yaw[low]))
    size = fill_sizes(mix(track.size[keep]), track.size[keep], track.type, derived)
    state[~valid], size[~valid] = 0.0, 0.0
    return state, size, valid


def wrap(angle):
    """Returns angles [rad] in [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def fill_sizes(size: np.ndarray, known: np.ndarray, kind: AgentType, derived: set[str]) -> np.ndarray:
    """Returns (steps, 3) sizes [m] with zeros replaced by the track's median, else by the default of its kind."""
    for axis in range(3):
        missing = size[:, axis] < 0.05
        if missing.any():
            good = known[known[:, axis] >= 0.05, axis]
            size[missing, axis] = np.median(good) if len(good) else DEFAULT_SIZE[kind][axis]
            derived.add("size" if axis < 2 else "height")
    return size


def runs_of(valid: np.ndarray):
    """Yields slices of consecutive true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], valid.astype(np.int8), [0]])))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        yield slice(int(start), int(stop))


def derive_velocity(time: np.ndarray, xy: np.ndarray, max_gap: float, can_rest: bool = True) -> np.ndarray:
    """Returns (n, 2) velocities [m/s] of samples (n,) [s], (n, 2) [m]: central differences, averaged over up to 0.4 s.

    The averaging window is symmetric and shrinks towards the ends of a run of samples without gaps and jumps, so constant
    acceleration is exact there too. A track that may rest and stays within 0.3 m of its mean through at least 1 s gets zeros.
    """
    velocity = np.zeros_like(xy)
    if can_rest and time[-1] - time[0] >= 1.0 and np.hypot(*(xy - xy.mean(0)).T).max() < AT_REST_M:
        return velocity
    step = np.diff(time)
    joined = (step <= max_gap) & (np.hypot(*np.diff(xy, axis=0).T) <= MAX_SPEED * np.maximum(step, STEP_S))
    for links in runs_of(joined):
        run = slice(links.start, links.stop + 1)
        n = run.stop - run.start
        slope = np.gradient(xy[run], time[run], axis=0, edge_order=2 if n > 2 else 1)
        total = np.concatenate([np.zeros((1, 2)), np.cumsum(slope, axis=0)])
        index = np.arange(n)
        half = np.minimum(np.minimum(index, n - 1 - index), round(0.2 / float(np.median(np.diff(time[run])))))
        velocity[run] = (total[index + half + 1] - total[index - half]) / (2 * half + 1)[:, None]
    return velocity


def heading_of_motion(velocity: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Returns (steps,) headings [rad] along the motion; below 0.5 m/s the last (else the first) heading in motion holds."""
    moving = np.flatnonzero(valid & (np.hypot(*velocity.T) >= 0.5))
    if not len(moving):
        return np.zeros(len(valid))
    last = moving[np.clip(np.searchsorted(moving, np.arange(len(valid)), side="right") - 1, 0, len(moving) - 1)]
    return np.arctan2(velocity[last, 1], velocity[last, 0])


def forward_differences(time: np.ndarray, xy: np.ndarray, velocity: np.ndarray) -> bool:
    """Whether given velocities (n, 2) are a converter's forward differences of the positions, as nuScenes' are."""
    if len(time) < 4:
        return not velocity.any()
    difference = np.diff(xy, axis=0) / np.diff(time)[:, None]
    moving = np.abs(difference).max() > 1e-3
    same = np.median(np.abs(difference - velocity[:-1]).max(1)) < 1e-3 and not velocity[-1].any()
    return bool(moving and (same or not velocity.any()))


def clean_ego(track: RawTrack, derived: set[str]) -> RawTrack:
    """Returns the ego with jumps cut off and a jittery path smoothed; both are named in ``derived``.

    Some converters take the ego from another clock or another sensor than the objects: single steps are 2 cm to 60 cm too long or
    too short, and the path may jump where the source changes. A step more than 0.8 m off the median of its 11 neighbours ends the
    usable part (the longest one is kept). Where steps imply more than 12 m/s2, a parabola over 1.1 s replaces each position.
    """
    keep = _first_of_each(track.time)
    if not keep.all():
        derived.add("duplicate_steps_dropped")
        track = _cut(track, keep)
    step = np.diff(track.xy, axis=0)
    dt = np.diff(track.time)
    if len(step) < 11:
        return track
    padded = np.pad(step / dt[:, None] * STEP_S, ((5, 5), (0, 0)), mode="reflect")
    median = np.median(np.lib.stride_tricks.sliding_window_view(padded, 11, axis=0), axis=-1)
    good = np.hypot(*(step / dt[:, None] * STEP_S - median).T) <= 0.8
    if not good.all():
        derived.add("ego_trimmed")
        longest = max(runs_of(good), key=lambda run: run.stop - run.start, default=slice(0, 0))
        track = _cut(track, slice(longest.start, longest.stop + 1))
    if len(track.time) < 11:
        return track
    speed = np.hypot(*(np.diff(track.xy, axis=0) / np.diff(track.time)[:, None]).T)
    if np.abs(np.diff(speed) / np.diff(track.time)[1:]).max() > 12.0:
        derived.add("ego_smoothing")
        track.xy = smooth(track.time, track.xy)
        if track.yaw is not None:
            track.yaw = wrap(smooth(track.time, np.unwrap(track.yaw)[:, None])[:, 0])
        track.velocity = None
    return track


def _first_of_each(time: np.ndarray) -> np.ndarray:
    """Returns (n,) bool: the samples (n,) [s] that count; of several at one time it is the first."""
    return np.concatenate([[True], np.diff(time) > 1e-6])


def _cut(track: RawTrack, part: slice | np.ndarray) -> RawTrack:
    return RawTrack(
        track.token,
        track.type,
        track.time[part],
        track.xy[part],
        None if track.yaw is None else track.yaw[part],
        track.size[part],
        None if track.velocity is None else track.velocity[part],
    )


def smooth(time: np.ndarray, values: np.ndarray, half: int = 5) -> np.ndarray:
    """Returns (n, k) values with each replaced by a parabola fitted over 2 * half + 1 samples (fewer at the ends)."""
    out = np.empty_like(values)
    for i in range(len(time)):
        part = slice(max(i - half, 0), i + half + 1)
        basis = np.vander(time[part] - time[i], 3, increasing=True)
        out[i] = np.linalg.lstsq(basis, values[part], rcond=None)[0][0]
    return out
