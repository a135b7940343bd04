"""Many agents in one world: who drives, what each one's task is, and that each is scored, seen and hit where it really is."""

import numpy as np
import pytest

pytest.importorskip("pettingzoo", minversion="1.27")

from factory import Agent, straight_scenario
from live_oracle import Oracle, gravest
from parallel_worlds import CROWD, LEAD, NAMES, Record, rear_axle, replay, seen_from, world
from test_envs_vector import actions_for, same
from test_live_recordings import SOURCES, windows

from worldengine_envs.envs.driving_env import DrivingEnv
from worldengine_envs.envs.parallel_env import DrivingParallelEnv
from worldengine_envs.envs.parallel_step import brake_body
from worldengine_envs.scenario.start import points_in_layers
from worldengine_envs.scenario.types import AgentType, MapLayer

LANES = (MapLayer.LANE, MapLayer.LANE_CONNECTOR)
TERMS = ("nc", "dac", "ttc", "ep", "comfort")


@pytest.fixture(params=NAMES)
def scenario(request):
    return world(request.param)


def drive(env, choose, seed=0):
    """Drives one episode and returns what every step returned; ``choose`` gives the actions."""
    steps = [env.reset(seed=seed)]
    while env.agents:
        steps.append(env.step(choose(env)))
    return steps


def at_random(rng, scale=(0.6, 0.15)):
    return lambda env: {agent: rng.uniform(-1, 1, 2) * scale for agent in env.agents}


# --- who drives


def leaves_the_map(scenario, a):
    """Whether a track ends within the horizon and, at its last velocity, would be off the lanes at the horizon."""
    k, tracks = scenario.start_step, scenario.tracks
    last = np.flatnonzero(tracks.valid[a, k : k + 41])[-1]
    x, y, yaw, vx, vy = tracks.state[a, k + last]
    dt, front = 0.1 * (40 - last), 0.5 * tracks.size[a, k, 0]
    ahead = np.array([[x + dt * vx + front * np.cos(yaw), y + dt * vy + front * np.sin(yaw)]])
    return last < 40 and not points_in_layers(scenario.vector_map, LANES, ahead)[0]


def test_agents_are_the_nearest_that_move(scenario):
    k, tracks = scenario.start_step, scenario.tracks
    place, valid = tracks.state[:, k : k + 41, :2], tracks.valid[:, k : k + 41]
    expected = []
    for a in range(1, len(tracks)):
        ways = [np.hypot(*(place[a, i] - place[a, 0])) for i in range(41) if valid[a, i]]
        moves = tracks.types[a] == AgentType.VEHICLE and valid[a, 0] and max(ways) > 2.0
        if moves and not leaves_the_map(scenario, a):
            expected.append((np.hypot(*(place[a, 0] - place[0, 0])), a))
    rows = [a for _, a in sorted(expected)][:15]
    for limit in (1, 3, 16):
        assert DrivingParallelEnv(scenario, max_agents=limit).possible_agents == [tracks.tokens[a] for a in [0, *rows][:limit]]


def test_who_cannot_start_is_traffic():
    others = [
        Agent(20.0, 0.0, 8.0),
        Agent(24.0, 0.5, 8.0),  # their boxes touch
        Agent(-20.0, 6.5, 8.0),  # half off the road
        Agent(40.0, 3.5, 8.0, first=1),  # not there yet
        Agent(-15.0, 3.5, 0.4),  # 1.6 m
        Agent(60.0, 3.5, 1.2, kind=AgentType.PEDESTRIAN),
        Agent(-30.0, 0.0, 8.0),
        Agent(380.0, 3.5, 9.0, last=15),  # the road ends at 400 m
        Agent(350.0, 3.5, 9.0, last=15),  # it is gone as soon, but could go on
    ]
    assert DrivingParallelEnv(straight_scenario(others)).possible_agents == ["ego", "agent_6", "agent_8"]


def test_tasks_are_the_agents_own(scenario):
    env = DrivingParallelEnv(scenario)
    tasks, k = env.batch.tasks_of(scenario.id), scenario.start_step
    assert tasks.scenarios[0] is scenario
    for a, own, record in list(zip(tasks.rows, tasks.scenarios, tasks.records, strict=True))[1:]:
        length, width = scenario.tracks.size[a, k, :2]
        assert (own.ego.length, own.ego.width, own.ego.wheel_base) == pytest.approx((length, width, 0.6 * length))
        assert record["p_ref"] == own.reference.progress[4.0] and own.reference.source == "log"
        logged = scenario.tracks.state[a, k : k + 41, :2][scenario.tracks.valid[a, k : k + 41]]
        way = np.hypot(*np.diff(logged, axis=0).T).sum()
        assert own.reference.progress[4.0] == pytest.approx(way, rel=0.02, abs=0.1)
        line = own.route.centerline[:, :2]
        for point in logged:  # its log is its route
            assert np.hypot(*(line - point).T).min() < 0.6


# --- scores


def test_every_agent_is_scored_as_the_oracle_says(scenario):
    rng = np.random.default_rng(1)
    env = DrivingParallelEnv(
        scenario, traffic="idm" if scenario.id.startswith("c") else "log", max_agents=11 if scenario is CROWD else 5
    )
    env.reset(seed=0)
    bias = {agent: rng.normal(0, 0.02) for agent in env.agents}
    record, rewards, ends = Record(env), {agent: [] for agent in env.agents}, {}
    while env.agents:
        _, reward, _, _, infos = env.step({a: np.array([rng.uniform(-0.6, 0.6), bias[a]]) for a in env.agents})
        record.note()
        for agent in reward:
            rewards[agent].append(reward[agent])
            if agent not in env.agents:
                ends[agent] = infos[agent]
    for i, agent in enumerate(env.possible_agents):
        verdict = Oracle(record.rollout(i, len(rewards[agent]))).run()
        np.testing.assert_allclose(rewards[agent], verdict.rewards, atol=1e-9)
        assert sum(rewards[agent]) == pytest.approx(ends[agent]["pdms"], abs=1e-9)
        for name in TERMS:
            assert ends[agent][name] == pytest.approx(getattr(verdict, name)[-1], abs=1e-9)
        expected = gravest(verdict.infractions, scenario.tracks.types)
        assert ends[agent].get("infraction") == (expected[0] if expected else None)
        if expected and expected[2] >= 0:
            assert ends[agent]["infraction_what"] == scenario.tracks.tokens[expected[2]]


@pytest.mark.parametrize("traffic", ["log", "idm"])
@pytest.mark.parametrize("kind", ["control", "trajectory", "anchor"])
def test_alone_it_is_the_single_environment(scenario, kind, traffic):
    many, one = (
        DrivingParallelEnv(scenario, max_agents=1, action=kind, traffic=traffic),
        DrivingEnv(scenario, action=kind, traffic=traffic),
    )
    rng = np.random.default_rng(2)
    same(many.reset(seed=0)[0]["ego"], one.reset(seed=0)[0])
    done = False
    while not done:
        action = actions_for(kind, rng, 1)[0]
        mine, theirs = many.step({many.agents[0]: action}), one.step(action)
        done = theirs[2] or theirs[3]
        for a, b in zip(mine[:4], theirs[:4], strict=True):
            same(a["ego"], b)
        same({name: value for name, value in mine[4]["ego"].items() if name != "track"}, theirs[4])
        assert bool(many.agents) != done


def log_paths(env, scenario):
    tasks = env.batch.tasks_of(scenario.id)
    rows = zip(env.possible_agents, tasks.rows, tasks.scenarios, strict=True)
    return {agent: rear_axle(scenario, a, own.ego, 80) for agent, a, own in rows}


def check_replay(scenario):
    """All agents replay their logs; each one's score is that of a single environment in which it is the ego among replayed traffic.

    Controlled agents count as reacting (constant velocity), replayed ones do not: time to collision alone may differ.
    """
    env = DrivingParallelEnv(scenario, action="trajectory", tracker="perfect")
    paths, ends = log_paths(env, scenario), {}
    for step in drive(env, lambda env: replay(env, paths))[1:]:
        ends |= {agent: info for agent, info in step[4].items() if "success" in info}
    equal, compared = 0, 0
    for i, (agent, row) in enumerate(zip(env.possible_agents, env.batch.tasks.rows, strict=True)):
        if not scenario.tracks.valid[row, : scenario.start_step + 41].all():
            continue  # no single environment has an ego that vanishes
        world = seen_from(scenario, env.batch.tasks.scenarios[i], row) if i else scenario
        single = DrivingEnv(world, action="trajectory", tracker="perfect")
        single.reset(seed=0)
        compared += 1
        path, done = paths[agent], False
        while not done:
            *_, terminated, truncated, info = single.step(replay(_One(single, agent), {agent: path})[agent])
            done = terminated or truncated
        for name in ("nc", "dac", "ep", "comfort"):
            assert ends[agent][name] == pytest.approx(info[name], abs=1e-6), (agent, name)
        if ends[agent]["ttc"] == info["ttc"]:
            assert ends[agent]["pdms"] == pytest.approx(info["pdms"], abs=1e-6)
            equal += 1
    return ends, equal / compared


class _One:
    """A single environment with what ``replay`` needs."""

    def __init__(self, env, agent):
        self.agents = self.possible_agents = [agent]
        self.batch = type("Batch", (), {"worlds": env.batch.worlds, "master": env.batch.worlds})


def test_replayed_logs_score_as_in_single_environments(scenario):
    ends, equal = check_replay(scenario)
    assert equal >= 0.8
    if scenario is LEAD:
        assert equal == 1.0 and all(info["pdms"] == pytest.approx(1.0, abs=1e-6) for info in ends.values())


@pytest.mark.parametrize(("reader", "folder"), SOURCES)
def test_replayed_recordings_score_as_in_single_environments(shared, reader, folder):
    for window in windows(shared, reader, folder, 2):
        _, equal = check_replay(window)
        assert equal >= 0.6


# --- one world for all


def test_what_one_sees_of_another_is_where_it_is(scenario):
    rng = np.random.default_rng(3)
    env = DrivingParallelEnv(scenario)
    env.reset(seed=0)
    while env.agents:
        observations, *_ = env.step(at_random(rng)(env))
        master, n = env.batch.master, len(scenario.tracks)
        for agent in env.agents:
            i = env.possible_agents.index(agent)
            me = int(env.batch.tasks.rows[i])
            x, y, yaw = env.batch.worlds.ego[i, :3]
            others = [a for a in range(n) if master.present[0, a] and a != me]
            others.sort(key=lambda a: np.hypot(*(master.agents[0, a, :2] - (x, y))))
            count = min(len(others), 32)
            assert observations[agent]["agents_mask"].sum() == count
            seen = observations[agent]["agents"][:count].astype(float)
            near = (np.abs(seen[:, :2]) < 10.0).all(1)
            c, s = np.cos(yaw), np.sin(yaw)
            place = 20.0 * np.stack([c * seen[:, 0] - s * seen[:, 1], s * seen[:, 0] + c * seen[:, 1]], axis=1) + (x, y)
            truth = master.agents[0, others[:count]]
            np.testing.assert_allclose(place[near], truth[near, :2], atol=1e-3)
            np.testing.assert_allclose(seen[:, 6:8] * 5.0, np.minimum(master.agent_size[0, others[:count]], 50.0), atol=1e-4)
            heading = np.arctan2(seen[:, 3], seen[:, 2]) + yaw
            np.testing.assert_allclose(np.cos(heading - truth[:, 2]), 1.0, atol=1e-5)


@pytest.mark.parametrize("kind", ["control", "trajectory", "anchor"])
def test_episodes_repeat_bit_for_bit(kind):
    def episode(env):
        rng = np.random.default_rng(7)
        return drive(env, lambda env: dict(zip(env.agents, actions_for(kind, rng, len(env.agents)), strict=True)), seed=11)

    pack = [world(name) for name in NAMES]
    env = DrivingParallelEnv(pack, action=kind, traffic="idm")
    first = episode(env)
    env.reset(options={"scenario": next(s.id for s in pack if s.id != env.scenario_id)})  # another one in between
    env.step({agent: env.action_space(agent).sample() for agent in env.agents})
    for again in (episode(env), episode(DrivingParallelEnv(list(pack), action=kind, traffic="idm"))):
        assert len(again) == len(first)
        for a, b in zip(first, again, strict=True):
            same(a, b)


def test_the_order_of_actions_does_not_matter():
    one, two = DrivingParallelEnv(CROWD), DrivingParallelEnv(CROWD)
    rng, other = np.random.default_rng(4), np.random.default_rng(4)
    first = drive(one, at_random(rng))
    second = drive(two, lambda env: dict(reversed(at_random(other)(env).items())))
    for a, b in zip(first, second, strict=True):
        same(a, b)


def test_idm_traffic_reacts_to_agents():
    scenario = straight_scenario([Agent(15.0, 3.5, 10.0), Agent(-17.0, 3.5, 10.0)], id="behind")
    env = DrivingParallelEnv(scenario, max_agents=2, traffic="idm")
    assert env.possible_agents == ["ego", "agent_0"]
    drive(env, lambda env: {agent: np.array([-1.0 if agent == "agent_0" else 0.0, 0.0]) for agent in env.agents})
    follower = env.batch.master.agents[0, 2]
    assert follower[5] < 8.0 and follower[0] < env.batch.master.agents[0, 1, 0] - 4.6


# --- failures


def test_a_failed_agent_leaves_brakes_and_can_be_hit():
    others = [
        Agent(8.0, 3.6, 10.0),  # runs into the person
        Agent(-8.0, 3.2, 10.0),  # would pass it, and runs into the first one
        Agent(25.0, 4.65, kind=AgentType.PEDESTRIAN),
    ]
    scenario = straight_scenario(others, id="pile_up", speed=5.0)
    env = DrivingParallelEnv(scenario)
    env.reset(seed=0)
    agents, bodies, ends = list(env.agents), [], {}
    while env.agents:
        _, rewards, terminated, truncated, infos = env.step({agent: np.zeros(2) for agent in env.agents})
        assert list(rewards) == list(infos) == agents
        agents = [agent for agent in agents if not (terminated[agent] or truncated[agent])]
        assert env.agents == agents
        ends |= {agent: info for agent, info in infos.items() if "success" in info}
        if "agent_0" in ends:
            bodies.append(env.batch.master.agents[0, 1].copy())
            assert env.batch.master.present[0, 1] and "agent_0" not in env.agents
    bodies = np.array(bodies)
    t = np.minimum(0.1 * np.arange(len(bodies)), 10.0 / 6.0)
    np.testing.assert_allclose(bodies[:, 5], 10.0 - 6.0 * t, atol=1e-9)
    np.testing.assert_allclose(bodies[:, 0], bodies[0, 0] + 10.0 * t - 3.0 * t**2, atol=1e-9)
    assert bodies[-1, 5] == 0.0 and (bodies[:, 1] == 3.6).all()
    for agent, what in (("agent_0", "agent_2"), ("agent_1", "agent_0")):
        assert ends[agent]["infraction"] == "collision" and ends[agent]["infraction_what"] == what and ends[agent]["pdms"] == 0.0
    assert ends["ego"]["success"]


@pytest.mark.parametrize(("speed", "steering"), [(9.0, 0.2), (-3.1, -0.4), (0.0, 0.3), (0.3, 0.0)])
def test_a_body_brakes_along_its_arc(speed, steering):
    ego = np.array([1.0, 2.0, 3.0, speed, 0.0, 1.0, 0.0, steering, 0.1, speed * np.tan(steering) / 3.0, 0.0])
    for _ in range(20):
        brake_body(ego, 3.0)
    way, curvature = speed * abs(speed) / 12.0, np.tan(steering) / 3.0
    turn = way * curvature
    radius = 1.0 / curvature if curvature else 0.0
    x, y = (radius * np.sin(turn), radius * (1 - np.cos(turn))) if curvature else (way, 0.0)
    c, s = np.cos(3.0), np.sin(3.0)
    np.testing.assert_allclose(ego[:2], [1.0 + c * x - s * y, 2.0 + s * x + c * y], atol=2e-3)
    assert np.cos(ego[2] - 3.0 - turn) == pytest.approx(1.0, abs=1e-12) and abs(ego[2]) <= np.pi
    np.testing.assert_array_equal(ego[[3, 4, 6, 8, 9, 10]], 0.0)


def test_the_ego_is_named_by_those_who_hit_it():
    scenario = straight_scenario([Agent(-14.0, 0.0, 14.0)], id="behind", speed=6.0)
    env = DrivingParallelEnv(scenario)
    *_, last = drive(env, lambda env: {agent: np.array([-1.0 if agent == "ego" else 0.3, 0.0]) for agent in env.agents})
    assert last[4]["ego"]["success"] and last[4]["ego"]["hit_without_fault"] == 1
    env.reset(seed=0)
    hit = {}
    while env.agents:
        *_, infos = env.step({agent: np.array([-1.0 if agent == "ego" else 0.3, 0.0]) for agent in env.agents})
        hit |= {agent: info for agent, info in infos.items() if "infraction" in info}
    assert hit["agent_0"]["infraction"] == "collision" and hit["agent_0"]["infraction_what"] == "ego"


def test_other_horizons():
    scenario = straight_scenario([Agent(30.0, 0.0, 10.0), Agent(-14.0, 3.5, 9.0)])
    env = DrivingParallelEnv(scenario, horizon_s=8.0)
    steps = drive(env, lambda env: {agent: np.zeros(2) for agent in env.agents})
    assert len(steps) == 81 and all(info["pdms"] == pytest.approx(1.0) for info in steps[-1][4].values())
    assert steps[-1][4]["agent_1"]["progress"] == pytest.approx(72.0)
