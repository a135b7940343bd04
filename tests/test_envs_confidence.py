"""Environments tell how far what they show can be trusted, and end where they are told to."""

from dataclasses import replace

import numpy as np
import pytest
from camera_worlds import seen_pack, small_scene
from factory import Agent, straight_scenario
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from test_envs_vector import same

from worldengine_envs.envs.driving_env import DrivingEnv
from worldengine_envs.envs.parallel_env import DrivingParallelEnv
from worldengine_envs.envs.vector_env import DrivingVectorEnv
from worldengine_envs.errors import DataError
from worldengine_envs.rendering.cameras import find_rig, intrinsics_of, scaled_rig, world_to_camera
from worldengine_envs.rendering.confidence import Shot, witnesses_of
from worldengine_envs.rendering.frames import RenderSettings
from worldengine_envs.rendering.renderer import make_renderer

SIZE = (36, 64)
CAMERA = {"observation": "camera", "renderer": "cpu", "image_size": SIZE}
SCENARIO = straight_scenario([Agent(40.0, 3.5, 5.0)], id="seen")
LEFT, ON = np.array([0.3, 1.0], np.float32), np.zeros(2, np.float32)


def rebuilt(cameras: str = "front", steps: int | None = None):
    """A reconstruction whose witnesses stood where the log's ego is at its first ``steps`` after the start (None: all)."""
    scene, rig = small_scene("reconstructed", ("agent_0",), ("noon",)), scaled_rig(find_rig(cameras), SIZE)
    tracks, back, shots = SCENARIO.tracks, SCENARIO.ego.rear_axle_to_center, []
    for x, y, yaw in tracks.state[0, SCENARIO.start_step :, :3][:steps].astype(np.float64):
        for pose, lens in zip(
            world_to_camera(rig, x - back * np.cos(yaw), y - back * np.sin(yaw), yaw), intrinsics_of(rig), strict=True
        ):
            shots.append(Shot(pose, lens, *SIZE, {}))
    renderer = make_renderer("cpu", None, RenderSettings(near=0.3))
    return replace(scene, witnesses=witnesses_of(scene, shots, renderer))


EMPTY = straight_scenario([], id="empty")  # nobody but the ego: its witnesses have seen everything


def pack(scene=None, scenario=EMPTY):
    return seen_pack([scenario], scene or rebuilt())


def test_the_logged_drive_is_trusted_and_leaving_it_less():
    env = DrivingEnv(pack(), **CAMERA)
    _, info = env.reset(seed=0)
    assert info["confidence"] == 1.0
    told = [1.0]
    for _ in range(40):
        *_, truncated, info = env.step(ON)
        told.append(info["confidence"])
    assert truncated and min(told) > 0.98
    assert info["mean_confidence"] == pytest.approx(np.mean(told)) and info["low_confidence"] is False
    env.reset(seed=0)
    away = []
    for _ in range(40):
        _, _, terminated, truncated, info = env.step(LEFT)
        away.append(info["confidence"])
        if terminated or truncated:
            break
    assert away[-1] < 0.8 and away[-1] == min(away)
    assert info["mean_confidence"] < 1.0


def test_an_episode_ends_where_images_cannot_be_trusted():
    free = DrivingEnv(pack(), **CAMERA)
    free.reset(seed=0)
    told = [free.step(LEFT)[4]["confidence"] for _ in range(12)]
    least = 0.5 * (told[8] + told[9])
    assert told[8] > least > told[9]
    env = DrivingEnv(pack(), min_confidence=least, **CAMERA)
    env.reset(seed=0)
    for k in range(10):
        _, _, terminated, truncated, info = env.step(LEFT)
        assert info["confidence"] == told[k] and not terminated
        assert truncated == (k == 9)
    assert info["low_confidence"] is True and info["success"] is False
    assert info["scenario"] == "empty"
    with pytest.raises(Exception, match="over"):
        env.step(LEFT)
    _, info = env.reset(seed=1)
    assert info["confidence"] == 1.0
    assert env.step(ON)[3] is False


@pytest.mark.parametrize(("steps", "low"), [(39, False), (20, True)])
def test_who_reaches_the_horizon_ends_by_that_whatever_is_seen(monkeypatch, steps, low):
    env = DrivingEnv(pack(), min_confidence=0.5, **CAMERA)
    env.reset(seed=0)
    assert not any(env.step(ON)[3] for _ in range(steps))
    monkeypatch.setattr(env.batch, "look", lambda _: env.batch.cameras.confidence.fill(0.0))
    *_, truncated, info = env.step(ON)
    assert truncated and info["low_confidence"] is low and info["success"] is not low


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("least", [0.0, 0.85])
def test_a_batch_says_what_single_environments_say(mode, least):
    seen, unseen = rebuilt(), small_scene("reconstructed", (), ("noon",), seed=3)
    pack = seen_pack([EMPTY, replace(SCENARIO, id="other")], seen)
    if not least:  # one of the scenes knows nothing
        pack.scenes[unseen.name] = unseen
        other = replace(SCENARIO, id="other", gaussian_scene=unseen.name)
        pack = type(pack)([replace(EMPTY, gaussian_scene=seen.name), other], {seen.name: seen, unseen.name: unseen})
    settings = {**CAMERA, "min_confidence": least, "image_history": 2}
    batch = DrivingVectorEnv(pack, num_envs=3, autoreset_mode=mode, **settings)
    singles = SyncVectorEnv([lambda: DrivingEnv(pack, **settings)] * 3, autoreset_mode=mode)
    same(batch.reset(seed=2), singles.reset(seed=2))
    rng, ends, told = np.random.default_rng(0), 0, 0
    for _ in range(30):
        actions = np.where(rng.random((3, 1)) < 0.8, LEFT, rng.uniform(-1, 1, (3, 2))).astype(np.float32)
        mine, theirs = batch.step(actions), singles.step(actions)
        for a, b in zip(mine, theirs, strict=True):
            same(a, b)
        ends += int((mine[2] | mine[3]).sum())
        told += "confidence" in mine[4]
    assert ends > 2 and told > 15


def test_all_cameras_count():
    env = DrivingEnv(pack(rebuilt("front3")), cameras="front3", **CAMERA)
    assert env.reset(seed=0)[1]["confidence"] == 1.0
    behind = DrivingEnv(pack(rebuilt("front")), cameras=("CAM_F0", "CAM_B0"), **CAMERA)
    assert 0.5 <= behind.reset(seed=0)[1]["confidence"] < 0.8  # nobody looked back


def test_actors_of_the_scene_are_judged_and_borrowed_ones_are_unknown():
    own = DrivingEnv(pack(rebuilt(), SCENARIO), **CAMERA)  # never in front of a witness
    without = DrivingEnv(pack(), **CAMERA)
    assert own.reset(seed=0)[1]["confidence"] < without.reset(seed=0)[1]["confidence"]


def test_agents_are_told_apart():
    env = DrivingParallelEnv(pack(), max_agents=2, **CAMERA, min_confidence=0.9)
    env.reset(seed=0)
    ends = {}
    while env.agents:
        _, _, terminated, truncated, infos = env.step({agent: LEFT for agent in env.agents})
        for agent, info in infos.items():
            assert 0.0 <= info["confidence"] <= 1.0
            if terminated[agent] or truncated[agent]:
                ends[agent] = info
    assert ends and all(info["low_confidence"] for info in ends.values())


def test_scenes_that_know_nothing_say_nothing():
    for scene in (small_scene(), small_scene("reconstructed")):
        env = DrivingEnv(pack(scene), **CAMERA)
        assert "confidence" not in env.reset(seed=0)[1] and "confidence" not in env.step(ON)[4]
        batch = DrivingVectorEnv(pack(scene), num_envs=2, **CAMERA)
        assert "confidence" not in batch.reset(seed=0)[1] and "confidence" not in batch.step(np.zeros((2, 2), np.float32))[4]
        with pytest.raises(DataError) as caught:
            DrivingEnv(pack(scene), min_confidence=0.5, **CAMERA).reset(seed=0)
        assert caught.value.field == "min_confidence"


@pytest.mark.parametrize("wrong", [{"min_confidence": 1.5}, {"min_confidence": 0.5, "observation": "state"}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(DataError) as caught:
        DrivingEnv(pack(), **(CAMERA | wrong))
    assert caught.value.field in ("min_confidence", "image_size")


def test_the_checker_of_gymnasium_agrees():
    check_env(DrivingEnv(pack(), min_confidence=0.5, **CAMERA), skip_render_check=True)
