"""IDM and replay on real recordings: nobody jumps, vanishes or runs into others much more than the log does."""

import numpy as np
import pytest
import shapely

from worldengine_envs.scenario.types import STEP_S
from worldengine_envs.simulation.bank import IDM, ScenarioBank
from worldengine_envs.simulation.idm import PARAMETERS
from worldengine_envs.simulation.world import make_worlds, move_ego, reset_worlds
from worldengine_envs.sources.argoverse2 import read_argoverse2
from worldengine_envs.sources.scenarionet import read_scenarionet
from worldengine_envs.sources.windows import cut_windows

STEPS = 40
RECORDINGS = {
    "nuscenes_mini/*scene-0103.pkl": read_scenarionet,
    "waymo_scenarionet/waymo20s_b36a6d0bc9e525bc.pkl": read_scenarionet,
    "argoverse2/3b3570b4*": read_argoverse2,
}


@pytest.fixture(scope="module", params=RECORDINGS)
def windows(shared, request):
    files = list((shared / "data").glob(request.param))
    if not files:
        pytest.skip(f"no recording ../shared/data/{request.param}")
    (recording,) = RECORDINGS[request.param](files[0])
    return cut_windows(recording).scenarios


def replay_ego(windows, traffic):
    """Drives the logged ego through windows: agents (steps + 1, windows, A, 8), presence (steps + 1, windows, A), last state."""
    bank = ScenarioBank(STEPS * STEP_S, traffic)
    for window in windows:
        bank.add(window)
    worlds = make_worlds(len(windows), bank.max_agents, STEPS)
    reset_worlds(0, len(windows), bank.arrays, worlds, np.arange(len(windows), dtype=np.int32))
    agents, present = [worlds.agents.copy()], [worlds.present.copy()]
    for k in range(1, STEPS + 1):
        for i, window in enumerate(windows):
            x, y, yaw = window.tracks.state[0, window.start_step + k, :3]
            back = window.ego.rear_axle_to_center
            move_ego(bank.arrays, worlds, i, x - back * np.cos(yaw), y - back * np.sin(yaw), yaw)
        agents.append(worlds.agents.copy())
        present.append(worlds.present.copy())
    return np.array(agents), np.array(present), worlds


def touching(agents, sizes, present):
    """Pairs of present agents (the ego left out) whose boxes touch, in one world at one step."""
    rows = 1 + np.flatnonzero(present[1:])
    x, y, c, s = agents[rows][:, [0, 1, 6, 7]].T
    half = 0.5 * sizes[rows]
    corners = [(u * half[:, 0], v * half[:, 1]) for u, v in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
    rings = np.stack([np.stack([x + u * c - v * s, y + u * s + v * c], axis=1) for u, v in corners], axis=1)
    boxes = shapely.polygons(rings)
    pairs = shapely.STRtree(boxes).query(boxes, predicate="intersects").T
    return {(int(rows[i]), int(rows[j])) for i, j in pairs if i < j}


def all_touching(agents, present, worlds):
    found = set()
    for k in range(0, STEPS + 1, 10):
        for i in range(agents.shape[1]):
            found |= {(i, *pair) for pair in touching(agents[k, i], worlds.agent_size[i], present[k, i])}
    return found


def test_replay_is_the_recording_and_the_ego_follows_it(windows):
    agents, present, _ = replay_ego(windows, "log")
    for i, window in enumerate(windows):
        k, n = window.start_step, len(window.tracks)
        logged, valid = window.tracks.state[:, k : k + STEPS + 1], window.tracks.valid[:, k : k + STEPS + 1]
        there = present[:, i, :n].T & valid
        there[0] = False
        np.testing.assert_array_equal(agents[:, i, :n, :5].transpose(1, 0, 2)[there], logged[there])
        assert (present[0, i, :n] >= valid[:, 0]).all()  # more in gaps that are filled
        assert (valid[1:] & ~present[:, i, 1:n].T).mean() < 0.02  # held back
        np.testing.assert_allclose(agents[:, i, 0, :2], logged[0, :, :2], atol=1e-9)


def test_idm_agents_go_their_way_smoothly(windows):
    agents, present, worlds = replay_ego(windows, "idm")
    idm = worlds.mode == IDM
    assert idm.sum() > 10 * len(windows)
    assert not (present[:-1] & ~present[1:])[:, idm].any()  # nobody vanishes
    both = present[:-1] & present[1:] & idm
    moved = np.hypot(*np.diff(agents[..., :2], axis=0).transpose(3, 0, 1, 2))
    reach = STEP_S * np.maximum(agents[:-1, ..., 5], agents[1:, ..., 5])
    assert (moved - 1.05 * reach)[both].max() < 0.02  # nobody jumps
    turn = np.abs((np.diff(agents[..., 2], axis=0) + np.pi) % (2 * np.pi) - np.pi)
    assert turn[both].max() < 0.25
    acceleration = np.diff(agents[..., 5], axis=0)[both] / STEP_S
    assert acceleration.max() < max(p.max_acceleration for p in PARAMETERS) + 1e-9
    going, logged, driven = 0, 0.0, 0.0
    for i, window in enumerate(windows):
        k, n = window.start_step, len(window.tracks)
        way = np.hypot(*(window.tracks.state[:, k + STEPS, :2] - window.tracks.state[:, k, :2]).T)
        whole = window.tracks.valid[:, k] & window.tracks.valid[:, k + STEPS] & idm[i, :n] & (way > 2.0)
        going, logged = going + whole.sum(), logged + way[whole].sum()
        driven += np.hypot(*(agents[-1, i, :n, :2] - agents[0, i, :n, :2]).T)[whole].sum()
    assert going > 20 and 0.8 < driven / logged < 1.25  # as a whole they get as far as in the log


def test_idm_agents_keep_apart(windows):
    logged, reacting = (all_touching(*replay_ego(windows, traffic)) for traffic in ("log", "idm"))
    assert len(reacting - logged) <= 3
