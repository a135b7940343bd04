"""``pdms-live`` on real recordings: against the independent scorer, and with log traffic against ``pdms-v1``."""

from dataclasses import replace
from functools import lru_cache
from itertools import islice

import numpy as np
import pytest
from live_worlds import Drive
from test_live_oracle import compare
from test_live_planned import PLANNED

from worldengine_envs.scenario.types import ProgressReference, initial_ego_state
from worldengine_envs.scoring.pdms_details import detail_proposals
from worldengine_envs.scoring.scene import scene_of

SOURCES = (("scenarionet", "nuscenes_mini"), ("scenarionet", "waymo_scenarionet"), ("argoverse2", "argoverse2"))


@lru_cache
def windows(shared, reader: str, folder: str, count: int):
    """Returns a few windows of the first recordings of a folder, with the log's progress as reference."""
    pytest.importorskip("shapely")
    if reader == "argoverse2":
        pytest.importorskip("pyarrow")
    from worldengine_envs.sources.argoverse2 import argoverse2_logs, read_argoverse2
    from worldengine_envs.sources.scenarionet import read_scenarionet
    from worldengine_envs.sources.windows import cut_windows

    source = shared / "data" / folder
    logs = [log for log in argoverse2_logs(source) if list(log.glob("annotations*"))] if reader == "argoverse2" else []
    files = logs or sorted(source.glob("*.pkl"))
    read = read_scenarionet if reader == "scenarionet" else read_argoverse2
    found = []
    for file in files[:2]:
        for recording in islice(read(file), 1):
            cut = cut_windows(recording).scenarios
            found += [cut[0], cut[len(cut) // 2]] if len(cut) > 1 else cut
    assert found
    return [with_reference(window) for window in found[:count]]


def with_reference(window):
    moved = window.tracks.state[0, window.start_step + 40, :2] - window.tracks.state[0, window.start_step, :2]
    return replace(window, reference=ProgressReference("log", {4.0: float(np.hypot(*moved))}))


def log_poses(window) -> np.ndarray:
    """Returns (41, 3) rear-axle poses of the logged driver."""
    x, y, yaw = window.tracks.state[0, window.start_step : window.start_step + 41, :3].T
    ahead = window.ego.rear_axle_to_center
    return np.stack([x - ahead * np.cos(yaw), y - ahead * np.sin(yaw), yaw], axis=1)


@pytest.mark.parametrize(("reader", "folder"), SOURCES)
def test_against_the_independent_scorer(shared, reader, folder):
    rng = np.random.default_rng(2)
    for i, window in enumerate(windows(shared, reader, folder, 2)):
        drive = Drive(window, "idm" if i % 2 else "log")
        for pose in log_poses(window)[1:25]:
            drive.put(pose)
        while drive.step < drive.horizon:  # then it leaves the logged path
            drive.control(rng.uniform(-3, 3), rng.normal(0, 0.3))
        compare(drive)


@pytest.mark.parametrize(("reader", "folder"), SOURCES)
def test_the_logged_plan_scores_as_planned(shared, reader, folder):
    for window in windows(shared, reader, folder, 2):
        state, poses = initial_ego_state(window), log_poses(window)
        cos, sin = np.cos(state[2]), np.sin(state[2])
        dx, dy = (poses[1:, :2] - state[:2]).T
        plan = np.stack([dx * cos + dy * sin, dy * cos - dx * sin, poses[1:, 2] - state[2]], axis=1)
        details = detail_proposals(scene_of(window), plan[None], 0.1)
        drive = Drive(window)
        for driven in details.states[0, 1:]:
            drive.force(driven)
        planned = [getattr(details.scores, name)[0] for name in PLANNED]
        if len(details.collision_events) == 0:  # a contact is judged by the type and speed of another step
            np.testing.assert_allclose(drive.terms[-1], planned, atol=1e-9)
