"""Camera observations: cameras look from where they are mounted, and see who is in the world, where they are, and nobody else."""

import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from camera_worlds import Recorder, instances, project, seen_pack, small_scene
from factory import SIZES, Agent, moved, straight_scenario
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from parallel_worlds import city
from test_envs_vector import actions_for, same
from test_live_recordings import SOURCES, windows

from worldengine_envs.city.surfaces.light import time_of_day
from worldengine_envs.city.surfaces.models import LIGHT_ROWS, MODELS
from worldengine_envs.envs import assets
from worldengine_envs.envs.driving_env import DrivingEnv
from worldengine_envs.envs.selection import MemoryPack
from worldengine_envs.envs.vector_env import DrivingVectorEnv
from worldengine_envs.errors import DataError
from worldengine_envs.rendering.cameras import RIGS, pinhole_rig
from worldengine_envs.scenario.recipes import make_scene
from worldengine_envs.scenario.types import AgentType, LightState

CAMERA = {"observation": "camera", "renderer": "cpu"}
SMALL = {**CAMERA, "image_size": (36, 64)}
FULL = [
    Agent(22.0, 0.0, 5.0),
    Agent(16.0, 3.5, 9.0),
    Agent(12.0, -2.2, 1.0, kind=AgentType.PEDESTRIAN),
    Agent(30.0, 3.0, 4.0, kind=AgentType.BICYCLE),
    Agent(25.0, -1.6, kind=AgentType.TRAFFIC_CONE),
]
WORLDS = [
    straight_scenario(FULL, id="full"),
    straight_scenario([Agent(26.0, 0.0)], id="wall"),
    straight_scenario([Agent(30.0 + 9 * i, 3.5, 6.0) for i in range(7)], id="crowd", speed=12.0),
]


def box(scenario, a: int, step: int):
    """Centre, yaw and size of a track's box by the log."""
    k = scenario.start_step + step
    x, y, yaw = scenario.tracks.state[a, k, :3]
    return np.array([x, y, 0.5 * scenario.tracks.size[a, k, 2]]), yaw, scenario.tracks.size[a, k]


@pytest.mark.parametrize("rig", ["front", "front3", "surround8"])
def test_cameras_look_from_their_mounts(recorder, rig):
    scenario = moved(straight_scenario(FULL, id="full"), 0.7, 30.0, -12.0)
    env = DrivingEnv(seen_pack([scenario]), cameras=rig, **CAMERA)
    observation, _ = env.reset(seed=0)
    assert list(observation) == [*RIGS[rig].names, "ego", "route"]
    frames = recorder.calls[-1]
    mount = RIGS[rig].camera_to_ego
    center, yaw, _ = box(scenario, 0, 0)
    heading, left = np.array([np.cos(yaw), np.sin(yaw), 0.0]), np.array([-np.sin(yaw), np.cos(yaw), 0.0])
    axle = center * (1, 1, 0) - scenario.ego.rear_axle_to_center * heading
    for f in range(len(mount)):
        eye = axle + mount[f, 0, 3] * heading + mount[f, 1, 3] * left + mount[f, 2, 3] * np.array([0, 0, 1])
        ahead = mount[f, 0, 2] * heading + mount[f, 1, 2] * left
        right = np.cross(ahead, [0, 0, 1])
        focal = 64.0 / np.tan(np.radians(30.0))
        # 10 m along the optical axis is the middle; 1 m to the right and 2 m down from there is where a pinhole puts it
        np.testing.assert_allclose(project(frames, f, eye + 10 * ahead), (64.0, 36.0), atol=1e-9)
        seen = project(frames, f, eye + 10 * ahead + right + np.array([0, 0, -2.0]))
        np.testing.assert_allclose(seen, (64 + focal / 10, 36 + 2 * focal / 10), atol=1e-9)


def test_everybody_stands_where_the_world_has_them_and_the_own_body_is_not_drawn(recorder):
    scenario = WORLDS[0]
    env = DrivingEnv(seen_pack([scenario]), **CAMERA)
    _, info = env.reset(seed=0)
    assert info["borrowed_assets"] == len(FULL)
    for step in range(3):
        seen = instances(recorder.calls[-1])
        assert seen.keys() == {1, 2, 3, 4, 5}
        for a, what in seen.items():
            center, yaw, size = box(scenario, a, step)
            np.testing.assert_allclose(what["translation"], center, atol=1e-9)
            np.testing.assert_allclose(what["rotation"] @ [1, 0, 0], [np.cos(yaw), np.sin(yaw), 0.0], atol=1e-12)
            model = MODELS[int(recorder.parts[int(what["part"])].sh[0, 0, 0])]
            np.testing.assert_allclose(what["scale"] * model.size, size, atol=1e-9)
            assert model.type == scenario.tracks.types[a]
        env.step(np.zeros(2))


def test_who_is_gone_or_not_there_yet_is_not_drawn(recorder):
    agents = [Agent(30.0, 3.5, first=4), Agent(40.0, 3.5, last=2), Agent(50.0, 3.5)]
    env = DrivingEnv(seen_pack([straight_scenario(agents)]), **CAMERA)
    env.reset(seed=0)
    shown = [set(instances(recorder.calls[-1]))]
    for _ in range(6):
        env.step(np.zeros(2))
        shown.append(set(instances(recorder.calls[-1])))
    assert shown == [{2, 3}] * 3 + [{3}] + [{1, 3}] * 3


def test_lights_show_the_state_of_the_world(recorder, monkeypatch):
    scenario = straight_scenario([], light=LightState.RED)
    k = scenario.start_step
    state = scenario.lights.state.copy()
    state[:, k + 1], state[:, k + 2], state[:, k + 3 :] = LightState.YELLOW, LightState.GREEN, LightState.UNKNOWN
    scenario = replace(scenario, lights=replace(scenario.lights, state=state))
    place = np.array([[85.0, -4.0, np.pi]])
    monkeypatch.setattr("worldengine_envs.city.surfaces.lights.signal_places", lambda _: place)
    env = DrivingEnv(seen_pack([scenario]), **CAMERA)
    env.reset(seed=0)
    for step in range(4):
        frames = recorder.calls[-1]
        assert len(frames.part) == 3 and (frames.node == -1).all()  # background, sky, one light
        row = int(recorder.parts[int(frames.part[2])].sh[0, 0, 0])
        assert row == LIGHT_ROWS[int(state[0, k + step])]
        height = MODELS[row].size[2]
        np.testing.assert_allclose(frames.translation[2], [85.0, -4.0, 0.5 * height])
        np.testing.assert_allclose(frames.rotation[2] @ [1, 0, 0], [-1, 0, 0], atol=1e-12)
        env.step(np.zeros(2))
    place[:] = np.nan  # it has no head of its own
    env = DrivingEnv(seen_pack([scenario]), **CAMERA)
    env.reset(seed=0)
    assert len(recorder.calls[-1].part) == 2
    rebuilt = small_scene("reconstructed", appearances=("noon",))
    env = DrivingEnv(seen_pack([scenario], rebuilt), **CAMERA)  # its lights are in its images already
    env.reset(seed=0)
    assert len(recorder.calls[-1].part) == 2


def test_own_assets_come_first_and_borrowed_ones_are_counted(recorder):
    scene = small_scene("reconstructed", ("agent_1",), ("noon",), seed=5)
    env = DrivingEnv(seen_pack([WORLDS[0]], scene), **CAMERA)
    _, info = env.reset(seed=0)
    assert info["borrowed_assets"] == len(FULL) - 1
    seen = instances(recorder.calls[-1])
    own = recorder.parts[int(seen[2]["part"])]
    np.testing.assert_array_equal(own.means, scene.nodes["agent_1"].gaussians.means)
    np.testing.assert_allclose(seen[2]["scale"] * (4.0, 1.8, 1.5), SIZES[AgentType.VEHICLE])


def test_tracks_that_never_are(recorder):
    scenario = straight_scenario([Agent(22.0, 0.0), Agent(30.0, 0.0, first=10**5, last=-(10**5))])
    assert not scenario.tracks.size[2].any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DrivingEnv(seen_pack([scenario]), **CAMERA).reset(seed=0)
    assert instances(recorder.calls[-1]).keys() == {1}


@pytest.mark.parametrize("kind", ["control", "anchor"])
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_a_batch_sees_what_single_environments_see(recorder, kind, mode):
    settings = {"action": kind, "traffic": {"agent_0": "idm"}, "image_history": 2, **SMALL, "observation": "camera+state"}
    pack = seen_pack(WORLDS)
    batch = DrivingVectorEnv(pack, num_envs=4, autoreset_mode=mode, **settings)
    singles = SyncVectorEnv([lambda: DrivingEnv(pack, **settings)] * 4, autoreset_mode=mode)
    same(batch.reset(seed=3), singles.reset(seed=3))
    rng, ends = np.random.default_rng(1), 0
    for _ in range(60 if kind == "control" else 18):
        actions = actions_for(kind, rng, 4)
        calls = len(recorder.calls)
        mine = batch.step(actions)
        drawn = recorder.calls[calls:]
        assert 4 in [len(frames) for frames in drawn]  # all worlds in one call, but for what begins anew
        theirs = singles.step(actions)
        for a, b in zip(mine, theirs, strict=True):
            same(a, b)
        ends += int((mine[2] | mine[3]).sum())
    assert ends > 3


def test_partial_resets_leave_other_images_alone(recorder):
    settings = {"image_history": 2, "action": "trajectory", **SMALL}
    envs = DrivingVectorEnv(seen_pack(WORLDS), 3, autoreset_mode="Disabled", **settings)
    envs.reset(seed=0)
    for _ in range(2):
        before, *_ = envs.step(np.zeros((3, 8, 3)))
    calls = len(recorder.calls)
    after, infos = envs.reset(seed=[None, 7, None], options={"reset_mask": np.array([False, True, False])})
    assert sum(len(frames) for frames in recorder.calls[calls:]) == 2  # its past and its present
    np.testing.assert_array_equal(after["CAM_F0"][[0, 2]], before["CAM_F0"][[0, 2]])
    np.testing.assert_array_equal(infos["_borrowed_assets"], [False, True, False])
    alone, info = DrivingEnv(seen_pack(WORLDS), **settings).reset(seed=7)
    np.testing.assert_array_equal(after["CAM_F0"][1], alone["CAM_F0"])
    assert infos["borrowed_assets"][1] == info["borrowed_assets"]


@pytest.mark.parametrize(("action", "every"), [("control", 5), ("trajectory", 1)])
def test_history_is_half_a_second_apart_and_begins_in_the_log(recorder, action, every):
    scenario = straight_scenario(FULL, id="full", speed=8.0)
    pack = seen_pack([scenario])
    env = DrivingEnv(pack, action=action, image_history=3, **SMALL)
    now = DrivingEnv(pack, action=action, **SMALL)
    seen = [now.reset(seed=0)[0]["CAM_F0"]]
    observation, _ = env.reset(seed=0)
    assert env.observation_space["CAM_F0"].shape == (36, 64, 9) == observation["CAM_F0"].shape
    for back in (10, 5):  # what a camera sees that starts earlier in the same log
        earlier = replace(scenario, start_step=scenario.start_step - back, id="full")
        image = DrivingEnv(seen_pack([earlier]), **SMALL).reset(seed=0)[0]["CAM_F0"]
        column = 2 - back // 5
        np.testing.assert_array_equal(observation["CAM_F0"][..., 3 * column : 3 * column + 3], image)
    for k in range(1, 3 * every):
        action = np.zeros(env.action_space.shape)
        observation, image = env.step(action)[0]["CAM_F0"], now.step(action)[0]["CAM_F0"]
        seen.append(image)
        for column, back in enumerate((2 * every, every, 0)):
            if k >= back:
                np.testing.assert_array_equal(observation[..., 3 * column : 3 * column + 3], seen[k - back])


def test_appearances(recorder):
    scene = small_scene(actors=("agent_0",))
    names = [f"w{i}" for i in range(12)]
    pack = seen_pack([straight_scenario([Agent(22.0, 0.0)], id=name) for name in names], scene)

    def sky(env):
        return recorder.parts[int(recorder.calls[-1].part[1])].sh

    for appearance in ("day", "night"):
        env = DrivingEnv(pack, appearance=appearance, **CAMERA)
        env.reset(seed=0)
        np.testing.assert_array_equal(sky(env), scene.nodes["sky"].looks[appearance])
    env = DrivingEnv(pack, **CAMERA)
    for name in names:
        env.reset(options={"scenario": name})
        np.testing.assert_array_equal(sky(env), scene.nodes["sky"].looks[time_of_day(name)])
    with pytest.raises(DataError, match="appearance 'fog'"):
        DrivingEnv(pack, appearance="fog", **CAMERA).reset(seed=0)


def test_memory_grows_with_scenes_and_not_with_worlds(recorder):
    pack = seen_pack(WORLDS)
    first = DrivingVectorEnv(pack, 2, autoreset_mode="Disabled", appearance="day", **SMALL)
    first.reset(seed=0, options={"scenario": "wall"})
    parts = len(recorder.parts)
    many = DrivingVectorEnv(pack, 12, autoreset_mode="Disabled", appearance="day", **SMALL)
    many.reset(seed=0, options={"scenario": "wall"})
    assert first.batch.cameras.assets is many.batch.cameras.assets and len(recorder.parts) == parts


def test_models_are_as_fine_as_was_asked_for_whoever_asked_first(recorder):
    """A stored scene is the same at any detail; the models of the library that play in it are not."""
    pack, parts = seen_pack([WORLDS[1]], small_scene("reconstructed", (), ("noon", "rain"), seed=9)), []
    for detail, appearance in ((1.0, "noon"), (2.0, "noon"), (1.0, "rain"), (1.0, "noon")):
        env = DrivingEnv(pack, scene_detail=detail, appearance=appearance, **SMALL)
        env.reset(seed=0)
        parts.append(int(instances(recorder.calls[-1])[1]["part"]))
    assert parts[0] != parts[1] and parts[0] == parts[2] == parts[3]


def test_scenery_that_nobody_needs_makes_room(recorder):
    scenes = [small_scene(seed=i) for i in range(4)]
    scenarios = [replace(straight_scenario([], id=f"s{i}"), gaussian_scene=scene.name) for i, scene in enumerate(scenes)]
    pack = MemoryPack(scenarios, {scene.name: scene for scene in scenes})
    envs = DrivingVectorEnv(pack, 2, autoreset_mode="Disabled", appearance="day", **SMALL)
    shelf = envs.batch.cameras.assets
    shelf.max_bytes = 1
    for pair in ("s0", "s1"), ("s2", "s1"), ("s3", "s0"):
        envs.reset(options={"scenarios": list(pair)})
        models = sum(len(part.means) == 12 for part in recorder.parts.values())  # of the ego, in several colours
        assert len(recorder.parts) - models <= 2 * 3  # background and sky of those on stage and of the one that was just left
        for w, name in enumerate(pair):
            part = recorder.parts[int(envs.batch.cameras.stage.scenery[w, 0])]
            np.testing.assert_array_equal(part.means, scenes[int(name[1])].nodes["background"].gaussians.means)
    del envs
    assert all(scenery.users == 0 for scenery in shelf._scenery.values())


def test_the_rig_of_the_log_with_its_lens(recorder):
    rig = pinhole_rig({"CAM_A": (1.0, 0.2, 1.5, 10.0), "CAM_B": (0.0, 0.0, 1.6, 180.0)}, 70.0, (900, 1600))
    bent = replace(rig, distortion=np.tile([-0.2, 0.05, 0.0, 0.0, 0.0], (2, 1)))
    scenarios = [replace(WORLDS[0], camera_rig=bent), replace(WORLDS[1], camera_rig=rig)]
    envs = DrivingVectorEnv(seen_pack(scenarios), 2, cameras="log", **SMALL)
    observations, _ = envs.reset(options={"scenarios": ["full", "wall"]})
    assert list(observations) == ["CAM_A", "CAM_B", "ego", "route"] and observations["CAM_A"].shape == (2, 36, 64, 3)
    assert {(frames.height, frames.width) for frames in recorder.calls[-2:]} > {(36, 64)}  # the bent one is drawn larger
    one = DrivingVectorEnv(seen_pack(scenarios), 1, cameras=["CAM_B"], **SMALL)
    np.testing.assert_array_equal(one.reset(options={"scenario": "full"})[0]["CAM_B"], observations["CAM_B"][:1])
    with pytest.raises(DataError, match="no cameras"):
        DrivingVectorEnv(seen_pack(WORLDS), 1, cameras="log", **SMALL)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"cameras": "back"}, "back"),
        ({"cameras": ["CAM_F0", "CAM_F0"]}, "twice"),
        ({"image_size": (0, 10)}, "image_size"),
        ({"image_size": 72}, "image_size"),
        ({"image_size": (10**6, 10**6)}, "image_size"),
        ({"renderer": "magic"}, "renderer"),
        ({"image_history": 0}, "image_history"),
        ({"image_history": 2, "decision_period_s": 0.3}, "image_history"),
        ({"scene_detail": 0.0}, "scene_detail"),
        ({"observation": "state", "image_size": (72, 128)}, "image_size"),
        ({"observation": "state", "image_history": 2}, "image_history"),
    ],
)
def test_arguments_are_checked(settings, text):
    with pytest.raises(DataError, match=text):
        DrivingEnv(seen_pack(WORLDS), **{"observation": "camera", **settings})


def test_without_a_scene_the_command_is_named():
    with pytest.raises(DataError, match=r"straight.*worldengine packs dress"):
        DrivingEnv(straight_scenario(), observation="camera")


@pytest.mark.parametrize("observation", ["camera", "camera+state"])
def test_checkers(recorder, observation):
    from stable_baselines3.common.env_checker import check_env as check

    settings = {**SMALL, "observation": observation, "action": "anchor", "cameras": "front3"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(DrivingEnv(seen_pack(WORLDS), render_mode="rgb_array", **settings), skip_render_check=True)
        warnings.filterwarnings("ignore", ".*unconventional shape")  # sets of agents are no images and no vectors
        check(DrivingEnv(seen_pack(WORLDS), **settings))


def test_adapters(recorder):
    from stable_baselines3 import PPO

    from worldengine_envs.envs.sb3 import SB3VecEnv

    envs = DrivingVectorEnv(seen_pack(WORLDS), 2, autoreset_mode="SameStep", action="anchor", **SMALL)
    adapted = SB3VecEnv(envs)
    adapted.reset()
    assert adapted.reset_infos[0].keys() == {"scenario", "borrowed_assets"}
    PPO("MultiInputPolicy", adapted, n_steps=8, batch_size=8, n_epochs=1, device="cpu", seed=0).learn(32)


def test_torchrl(recorder):
    pytest.importorskip("torchrl", reason="torchrl is not installed")
    import torch
    from torchrl.envs import check_env_specs

    from worldengine_envs.envs.torchrl import TorchRLEnv

    env = TorchRLEnv(DrivingVectorEnv(seen_pack(WORLDS), 2, autoreset_mode="Disabled", action="anchor", **SMALL))
    assert env.observation_spec["CAM_F0"].dtype == torch.uint8
    check_env_specs(env)


def test_no_torch_with_the_cpu_renderer():
    code = (
        "import sys; sys.path.insert(0, 'tests'); from camera_worlds import seen_pack; from factory import straight_scenario\n"
        "from worldengine_envs.envs.driving_env import DrivingEnv\n"
        "env = DrivingEnv(seen_pack([straight_scenario()]), observation='camera', renderer='cpu')\n"
        "print(env.reset(seed=0)[0]['CAM_F0'].std() > 0, 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True False\n"


def test_drawn_for_real_and_bit_for_bit_with_any_threads(monkeypatch):
    """A car of the city's library ahead is seen; the rest of the image does not change; threads change nothing."""
    monkeypatch.setattr(assets, "_shared", type(assets._shared)())
    images = []
    for threads in ("1", "2"):
        monkeypatch.setenv("WORLDENGINE_THREADS", threads)
        pack = seen_pack([straight_scenario([Agent(14.0, 0.0)], id="car"), straight_scenario([], id="free")])
        envs = DrivingVectorEnv(pack, 3, autoreset_mode="Disabled", appearance="day", **CAMERA)
        images.append(envs.reset(options={"scenarios": ["car", "free", "car"]})[0]["CAM_F0"])
    np.testing.assert_array_equal(images[0], images[1])
    with_car, without, again = images[0].astype(int)
    np.testing.assert_array_equal(with_car, again)
    changed = (with_car != without).any(-1)
    # the rear of the car's box is 14 - 2.3 m ahead of the ego's centre; its outline by hand, with some room for soft edges
    focal, distance = 64.0 / np.tan(np.radians(30.0)), 14.0 - 2.3 + 1.461 - 1.7
    rows, columns = np.nonzero(changed)
    assert changed.sum() > 60
    assert abs(columns - 63.5).max() < focal * 0.95 / distance + 6
    assert rows.min() > 35.5 + focal * (1.55 - 1.6) / distance - 6 and rows.max() < 35.5 + focal * 1.55 / distance + 6


def test_city_scenarios_are_seen_as_they_are():
    env = DrivingEnv([city("cut_in", 3)], scene_detail=0.3, **CAMERA)
    observation, info = env.reset(seed=0)
    assert observation["CAM_F0"].shape == (72, 128, 3) and observation["CAM_F0"].std() > 10
    assert info["borrowed_assets"] == len(env.batch.scenario_of(0).tracks) - 1


class OnDevice(Recorder):
    """Hands on torch tensors, as a renderer on a GPU does."""

    device = "meta"  # tensors there have no content, so that a copy to the host cannot go unnoticed

    def render(self, frames, outputs=("rgb",)):
        import torch

        shape = len(frames), frames.height, frames.width, 3
        return super().render(frames, outputs)._replace(rgb=torch.empty(shape, dtype=torch.uint8, device=self.device))


def test_images_stay_on_the_device_that_was_asked_for(monkeypatch, recorder):
    import torch

    made = OnDevice()
    monkeypatch.setattr("worldengine_envs.rendering.renderer.make_renderer", lambda *_: made)
    monkeypatch.setattr(assets, "_shared", type(assets._shared)())
    settings = {"observation": "camera", "action": "anchor", "device": "cuda", "image_history": 2, "image_size": (36, 64)}
    envs = DrivingVectorEnv(seen_pack(WORLDS), 3, autoreset_mode="SameStep", **settings)
    observations, _ = envs.reset(seed=0)
    for _ in range(10):
        assert isinstance(observations["CAM_F0"], torch.Tensor) and observations["CAM_F0"].device.type == "meta"
        assert observations["CAM_F0"].shape == (3, 36, 64, 6) and isinstance(observations["ego"], np.ndarray)
        observations, *_ = envs.step(np.zeros(3, int))


@pytest.mark.parametrize(("rig", "width"), [("front", 848), ("front3", 3 * 432), ("surround8", 3 * 288)])
def test_pictures_show_cameras_beside_the_birds_eye(recorder, rig, width):
    env = DrivingEnv(seen_pack(WORLDS), render_mode="rgb_array", cameras=rig, scenario="full", action="trajectory")
    observation, info = env.reset(seed=0)
    assert "CAM_F0" not in observation and "borrowed_assets" not in info  # they are for pictures only
    picture = env.render()
    assert picture.shape == (480, 480 + width, 3)
    plain = DrivingEnv(seen_pack(WORLDS), render_mode="rgb_array", scenario="full", action="trajectory")
    plain.reset(seed=0)
    np.testing.assert_array_equal(picture[:, :480], plain.render())
    assert len(recorder.calls[-1]) == len(RIGS[rig].names)
    seen = DrivingEnv(seen_pack(WORLDS), render_mode="rgb_array", cameras=rig, scenario="full", action="trajectory", **CAMERA)
    assert seen.reset(seed=0)[0]["CAM_F0"].shape == (72, 128, 3)
    np.testing.assert_array_equal(picture, seen.render())


def test_films_show_what_cameras_see_every_tenth_of_a_second(recorder):
    settings = {"render_mode": "rgb_array", "scenario": "full", **CAMERA}
    slow = DrivingEnv(seen_pack(WORLDS), action="trajectory", tracker="perfect", **settings)
    slow.reset(seed=0)
    assert len(list(slow.photographer.film(0))) == 1
    slow.step(np.zeros((8, 3)))
    calls = len(recorder.calls)
    film = list(slow.photographer.film(0))
    shown = recorder.calls[calls:]
    assert len(film) == len(shown) == 5
    for step, frames in enumerate(shown, 1):  # agents at constant speed, and the ego: going on
        for a, what in instances(frames).items():
            np.testing.assert_allclose(what["translation"], box(WORLDS[0], a, step)[0], atol=1e-6)
        x = box(WORLDS[0], 0, step)[0][0] - WORLDS[0].ego.rear_axle_to_center
        np.testing.assert_allclose(project(frames, 0, np.array([x + 30.0, 0.0, 1.55])), (424.0, 240.0), atol=1e-6)


@pytest.mark.parametrize(("reader", "folder"), SOURCES)
def test_recordings_are_seen_dressed(shared, reader, folder):
    window = windows(shared, reader, folder, 1)[0]
    dressed = replace(make_scene("city", window, 0.3), name="dressed")
    env = DrivingEnv(seen_pack([window], dressed), image_history=2, action="anchor", **CAMERA)
    observation, info = env.reset(seed=0)
    assert info["borrowed_assets"] == len(window.tracks) - 1
    for _ in range(2):
        assert observation["CAM_F0"].shape == (72, 128, 6) and observation["CAM_F0"].std() > 5
        observation, *_ = env.step(env.action_space.sample())
