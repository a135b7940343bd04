"""Pictures from above and videos: what stands where in a world stands there in the picture, and nothing else does."""

import numpy as np
import pytest
from factory import SIZES, Agent, straight_scenario
from gymnasium.error import ResetNeeded
from PIL import Image

from worldengine_envs.cli.view import episode_frames, main
from worldengine_envs.envs.baselines import baseline
from worldengine_envs.envs.driving_env import DrivingEnv
from worldengine_envs.envs.vector_env import DrivingVectorEnv
from worldengine_envs.errors import DataError
from worldengine_envs.rendering import birdseye
from worldengine_envs.rendering.video import write_video
from worldengine_envs.scenario.types import AgentType, LightState

METRES_A_PIXEL = birdseye.VIEW_M / birdseye.SIZE_PX


def pixel(picture: np.ndarray, ahead: float, left: float) -> tuple[int, ...]:
    """The colour at a place relative to the ego's rear axle: it looks up and lies AHEAD_M below the middle."""
    middle = birdseye.SIZE_PX / 2
    row, column = middle - (ahead - birdseye.AHEAD_M) / METRES_A_PIXEL, middle - left / METRES_A_PIXEL
    return tuple(int(c) for c in picture[int(row), int(column)])


def count(picture: np.ndarray, color) -> int:
    return int((picture == np.array(color)).all(-1).sum())


def drive(env, scenario_seed: int = 0, steps: int = 0):
    env.reset(seed=scenario_seed)
    for _ in range(steps):
        env.step(np.zeros(env.action_space.shape, env.action_space.dtype))
    return env.render()


@pytest.mark.parametrize("kind", [AgentType.VEHICLE, AgentType.PEDESTRIAN, AgentType.BICYCLE, AgentType.BARRIER])
def test_agents_are_drawn_where_they_are_and_only_there(kind):
    agent = Agent(x=20.0, y=3.5, kind=kind)
    with_agent = drive(DrivingEnv(straight_scenario([agent]), render_mode="rgb_array"))
    without = drive(DrivingEnv(straight_scenario([]), render_mode="rgb_array"))
    scenario = straight_scenario([agent])
    axle = scenario.tracks.state[0, scenario.start_step, 0] - scenario.ego.rear_axle_to_center
    color = birdseye.AGENTS[kind]
    assert count(without, color) == 0
    rows, columns = np.nonzero((with_agent == np.array(color)).all(-1))
    area = len(rows) * METRES_A_PIXEL**2
    length, width, _ = SIZES[kind]
    edge = METRES_A_PIXEL / birdseye.FINE  # filled polygons cover the pixels of their edges
    assert 0.15 * length * width < area <= (length + edge) * (width + edge) + 0.01  # a rim may take some of it
    ahead = birdseye.AHEAD_M + (birdseye.SIZE_PX / 2 - rows.mean() - 0.5) * METRES_A_PIXEL
    left = (birdseye.SIZE_PX / 2 - columns.mean() - 0.5) * METRES_A_PIXEL
    assert (ahead, left) == pytest.approx((20.0 - axle, 3.5), abs=0.35)


def test_the_ego_is_green_until_it_fails():
    blocked = DrivingEnv(straight_scenario([Agent(x=25.0, y=0.0)]), action="trajectory", render_mode="rgb_array")
    assert pixel(drive(blocked), 1.0, 0.0) == birdseye.EGO
    over = False
    while not over:
        _, _, over, _, info = blocked.step(np.zeros((8, 3), np.float32))
    assert info["infraction"] == "collision"
    picture = blocked.render()
    assert count(picture, birdseye.EGO) == 0 and count(picture, birdseye.FAILED) > 300


def test_the_plan_is_drawn_once_there_is_one():
    env = DrivingEnv(straight_scenario([]), action="trajectory", render_mode="rgb_array")
    assert count(drive(env), birdseye.PLAN) == 0
    assert count(drive(env, steps=1), birdseye.PLAN) > 8 * 20  # eight dots of 6 px
    control = DrivingEnv(straight_scenario([]), action="control", render_mode="rgb_array")
    assert count(drive(control, steps=1), birdseye.PLAN) == 0


def test_a_film_has_every_tenth_of_a_second_and_the_ego_where_it_was():
    agents = [Agent(x=20.0, y=3.5, speed=8.0)]
    slow = DrivingEnv(straight_scenario(agents), action="trajectory", decision_period_s=0.5, render_mode="rgb_array")
    slow.reset(seed=0)
    assert len(list(slow.photographer.film(0))) == 1
    slow.step(np.zeros((8, 3), np.float32))
    film = list(slow.photographer.film(0))
    assert len(film) == 5
    np.testing.assert_array_equal(film[-1], slow.render())
    history = slow.batch.worlds.ego_history[0]
    fresh = DrivingEnv(straight_scenario(agents), action="trajectory", decision_period_s=0.1, render_mode="rgb_array")
    fresh.reset(seed=0)
    fresh.photographer.look(0)
    for k in range(1, 5):  # agents at constant velocity: what is filled in between is exact
        fresh.step(np.zeros((8, 3), np.float32))
        look = fresh.photographer.look(0)
        np.testing.assert_allclose(look.ego[:3], history[k, :3], atol=1e-6)
        same = (film[k - 1][24:440] == fresh.render()[24:440]).all(-1).mean()
        assert same > 0.98


def test_trails_reach_two_seconds_back_and_end_with_the_agent():
    scenario = straight_scenario([Agent(x=20.0, y=3.5, speed=8.0), Agent(x=40.0, y=3.5, last=10)])
    env = DrivingEnv(scenario, action="trajectory", render_mode="rgb_array")
    env.reset(seed=0)
    start = scenario.start_step
    for decision in range(6):
        look = env.photographer.look(0)
        trail = look.trails[1]
        assert trail[-1, 0] == look.step and trail[0, 0] >= max(look.step - 20, -start)
        expected = scenario.tracks.state[1, start + trail[:, 0].astype(int), :2]
        np.testing.assert_allclose(trail[:, 1:], expected, atol=1e-9)
        assert (len(look.trails[2]) > 0) == (look.step <= 10)
        if decision < 5:
            env.step(np.zeros((8, 3), np.float32))


@pytest.mark.parametrize("state", [LightState.RED, LightState.YELLOW, LightState.GREEN])
def test_lights_show_their_colour_at_the_stop_line(state):
    scenario = straight_scenario([], light=state)  # the stop line is at x = 80 m
    env = DrivingEnv(scenario, action="trajectory", render_mode="rgb_array")
    picture = drive(env, steps=7)
    axle = env.batch.worlds.ego[0, 0]
    assert pixel(picture, 80.0 - axle, 0.0) == birdseye.LIGHTS[state]


def films(name="log"):
    driver = baseline(name)
    envs = DrivingVectorEnv(straight_scenario([]), 1, autoreset_mode="Disabled", action=driver.action, render_mode="rgb_array")
    envs.reset(seed=0)
    return episode_frames(envs, driver(envs), [])


def test_gif_has_every_frame(tmp_path):
    written = write_video(tmp_path / "a.gif", films(), 10)
    image = Image.open(tmp_path / "a.gif")
    durations = []
    for i in range(image.n_frames):
        image.seek(i)
        durations.append(image.info["duration"])
    assert image.size == (birdseye.SIZE_PX, birdseye.SIZE_PX)
    assert written == 51 and sum(durations) == pytest.approx(5100, abs=1)  # equal frames may be joined
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]


def test_mp4_has_every_frame(tmp_path):
    reader = pytest.importorskip("imageio_ffmpeg", reason="no encoder for MP4 is installed")
    assert write_video(tmp_path / "a.mp4", films("brake"), 10) == 51
    frames = reader.read_frames(str(tmp_path / "a.mp4"))
    meta = next(frames)
    assert meta["size"] == (birdseye.SIZE_PX, birdseye.SIZE_PX) and meta["fps"] == 10
    assert len(list(frames)) == 51


@pytest.mark.parametrize("make", [DrivingEnv, DrivingVectorEnv])
def test_there_is_no_picture_before_a_reset(make):
    env = make(straight_scenario([]), render_mode="rgb_array")
    with pytest.raises(ResetNeeded, match="reset"):
        env.render()


@pytest.mark.parametrize("name", ["a.gif", "a.mp4"])
def test_a_recording_that_is_stopped_leaves_nothing_behind(tmp_path, name):
    if name.endswith("mp4"):
        pytest.importorskip("imageio_ffmpeg", reason="no encoder for MP4 is installed")

    def stopped():
        yield from [np.zeros((16, 16, 3), np.uint8)] * 3
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / name, stopped(), 10)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("record", "what"), [("a.avi", "--record"), ("nowhere/a.gif", "folder")])
def test_a_file_that_cannot_be_written_is_refused_before_driving(tmp_path, record, what):
    with pytest.raises(DataError, match=what):
        main("starter", record=tmp_path / record)
    assert not list(tmp_path.iterdir())
