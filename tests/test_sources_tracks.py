"""Resampling, velocities and cleaning of tracks, against motions with closed forms."""

import numpy as np
import pytest

from worldengine_envs.scenario.types import AgentType
from worldengine_envs.sources.tracks import RawTrack, build_tracks, clean_ego, derive_velocity, step_times, wrap

RADIUS, OMEGA = 20.0, 0.5  # m, rad/s


def circle(time, velocity=False, yaw=True, token="car", kind=AgentType.VEHICLE) -> RawTrack:
    angle = OMEGA * time + 2.0  # headings pass through pi
    xy = RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    v = RADIUS * OMEGA * np.stack([-np.sin(angle), np.cos(angle)], axis=1)
    size = np.tile([4.5, 1.9, 1.6], (len(time), 1))
    return RawTrack(token, kind, time, xy, wrap(angle + np.pi / 2) if yaw else None, size, v if velocity else None)


@pytest.mark.parametrize("dt", [0.02, 0.1, 0.13, 0.5])
def test_a_circle_is_resampled_to_a_tenth_of_a_second(dt):
    time = dt * np.arange(round(10 / dt) + 1)
    grid = step_times(time)
    derived = set()
    tracks = build_tracks([circle(time)], grid, dt, derived)
    truth = circle(grid, velocity=True)
    sagitta = RADIUS * (1 - np.cos(OMEGA * dt / 2))  # of the chord that linear interpolation follows
    assert tracks.valid.all() and np.allclose(np.diff(grid), 0.1)
    assert np.abs(tracks.state[0, :, :2] - truth.xy).max() <= sagitta + 1e-9
    assert np.abs(wrap(tracks.state[0, :, 2] - truth.yaw)).max() < 1e-9  # constant turn: linear headings are exact
    assert np.abs(tracks.state[0, :, 3:] - truth.velocity).max() < 0.1 + 2 * sagitta
    assert derived == {"velocity"}


def test_velocity_by_central_differences_is_exact_for_constant_acceleration():
    t = 0.1 * np.arange(30)
    xy = np.stack([3 * t + t**2, -t], axis=1)
    velocity = derive_velocity(t, xy, 0.15)
    assert np.allclose(velocity, np.stack([3 + 2 * t, np.full(30, -1.0)], axis=1), atol=1e-9)


def test_what_stands_still_has_no_velocity_from_noise():
    noise = np.random.default_rng(0).normal(0, 0.05, (50, 2))
    time = 0.1 * np.arange(50)
    assert not derive_velocity(time, noise, 0.15).any()
    assert derive_velocity(time, noise, 0.15, can_rest=False).any()  # a pedestrian may shuffle about


def test_given_velocities_are_kept():
    time = 0.1 * np.arange(20)
    tracks = build_tracks([circle(time, velocity=True)], time, 0.1, derived := set())
    assert np.allclose(tracks.state[0, :, 3:], circle(time, velocity=True).velocity)
    assert not derived


def test_headings_are_derived_where_missing():
    time = 0.1 * np.arange(60)
    tracks = build_tracks([circle(time, yaw=False)], time, 0.1, derived := set())
    assert np.abs(wrap(tracks.state[0, :, 2] - circle(time).yaw)).max() < 0.03
    assert "heading" in derived


def test_gaps_stay_gaps_and_samples_off_the_grid_count():
    time = 0.1 * np.arange(40)
    seen = np.r_[0:10, 20:40]
    raw = circle(time[seen] + np.where(seen > 15, 0.03, 0.0))  # the second part is sampled 30 ms late
    tracks = build_tracks([circle(time), raw], time, 0.1, set())
    assert tracks.valid[1].tolist() == [True] * 10 + [False] * 10 + [True] * 20
    assert not tracks.state[1, 10:20].any() and not tracks.size[1, 10:20].any()
    assert np.abs(tracks.state[1, 20:, :2] - circle(time).xy[20:]).max() < 0.02


def test_duplicate_steps_are_dropped_and_named():
    time = np.sort(np.r_[0.1 * np.arange(20), 0.5, 0.5])
    tracks = build_tracks([circle(time)], 0.1 * np.arange(20), 0.1, derived := set())
    assert tracks.valid.all() and np.isfinite(tracks.state).all()
    assert "duplicate_steps_dropped" in derived


def test_missing_sizes_come_from_the_track_or_its_kind():
    time = 0.1 * np.arange(10)
    some, none = circle(time), circle(time, token="walker", kind=AgentType.PEDESTRIAN)
    some.size[3:6] = 0.0
    none.size[:] = 0.0
    tracks = build_tracks([some, none], time, 0.1, derived := set())
    assert np.allclose(tracks.size[0], [4.5, 1.9, 1.6])
    assert (tracks.size[1] > 0.3).all()
    assert {"size", "height"} <= derived


def test_a_jump_between_two_samples_is_no_motion():
    time = 0.5 * np.arange(10)
    raw = circle(time)
    raw.xy[5:] += 1000.0
    tracks = build_tracks([circle(time), raw], step_times(time), 0.5, set())
    assert not tracks.valid[1, 22:24].any()
    assert np.hypot(*tracks.state[1, :, 3:].T).max() < 20.0


def test_an_ego_that_jumps_at_its_end_is_cut_there():
    time = 0.1 * np.arange(100)
    raw = circle(time)
    raw.xy[95:] -= 1.5
    clean = clean_ego(raw, derived := set())
    assert len(clean.time) == 95 and derived == {"ego_trimmed"}


def test_jitter_of_an_ego_is_smoothed_and_a_smooth_ego_is_left_alone():
    time = 0.1 * np.arange(100)
    jitter = circle(time + np.random.default_rng(1).choice([-0.02, 0.0, 0.02], 100))
    jitter.time = time
    before = np.hypot(*(jitter.xy - circle(time).xy).T).max()
    jitter_xy = jitter.xy.copy()
    clean = clean_ego(jitter, derived := set())
    assert derived == {"ego_smoothing"}
    assert np.hypot(*(clean.xy - circle(time).xy).T)[5:-5].max() < 0.75 * before
    speed = [np.hypot(*np.gradient(xy, 0.1, axis=0).T) for xy in (jitter_xy, clean.xy)]
    assert np.abs(np.diff(speed[1])).max() < 0.35 * np.abs(np.diff(speed[0])).max()
    smooth = circle(time)
    assert clean_ego(smooth, again := set()).xy is smooth.xy and not again
