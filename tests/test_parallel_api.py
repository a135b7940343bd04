"""PettingZoo's own tests, its registry, names and errors."""
# ruff: noqa: E402 (without PettingZoo nothing here can be imported)

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

pettingzoo = pytest.importorskip("pettingzoo", minversion="1.27")

import gymnasium
from gymnasium.error import ResetNeeded
from pack_helpers import small_pack
from parallel_worlds import CROWD, LEAD, NAMES, world
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test
from pettingzoo.utils import parallel_to_aec
from test_envs_vector import same
from test_live_recordings import SOURCES, windows

import worldengine_envs
from worldengine_envs.envs.parallel_env import DrivingParallelEnv
from worldengine_envs.errors import DataError

NOT_APPLICABLE = (  # observations are Dicts and the ego is called "ego": PettingZoo's tests only remark on it
    "Observation is not a NumPy array",
    "Observation space for each agent probably should be",
    "We recommend agents to be named",
)


@pytest.mark.parametrize("kind", ["control", "trajectory", "anchor"])
@pytest.mark.parametrize("name", NAMES)
def test_pettingzoos_own_tests(name, kind):
    check(world(name), kind)


def check(scenario, kind):
    def make():
        return DrivingParallelEnv(scenario, action=kind, traffic="idm" if kind == "anchor" else "log")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for text in NOT_APPLICABLE:
            warnings.filterwarnings("ignore", text)
        parallel_api_test(make(), num_cycles=100)
        parallel_seed_test(make, num_cycles=100)
        api_test(parallel_to_aec(make()), num_cycles=100)


@pytest.mark.parametrize(("reader", "folder"), SOURCES)
def test_pettingzoos_own_tests_on_recordings(shared, reader, folder):
    for window in windows(shared, reader, folder, 2):
        check(window, "trajectory")


def test_a_pack_has_the_same_names_in_all_scenarios():
    worlds = [world(name) for name in NAMES]
    env = DrivingParallelEnv(worlds, max_agents=4)
    assert env.possible_agents == ["ego", "agent_1", "agent_2", "agent_3"]
    seen = set()
    for seed in range(30):
        observations, infos = env.reset(seed=seed)
        seen.add(env.scenario_id)
        assert list(observations) == list(infos) == env.agents == env.possible_agents[: len(env.agents)]
        assert list(env.tracks) == env.agents and env.tracks["ego"] == "ego" and len(set(env.tracks.values())) == len(env.agents)
    assert seen == {s.id for s in worlds}
    env.reset(options={"scenario": "lead"})
    assert list(env.tracks.values()) == ["ego", "agent_1", "agent_0"] and len(env.agents) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parallel_api_test(env, num_cycles=100)


def test_one_scenario_names_agents_by_track():
    env = DrivingParallelEnv(LEAD)
    assert env.possible_agents == ["ego", "agent_1", "agent_0"] and env.agents == []
    assert env.observation_space("ego") is env.observation_space("ego") is not env.observation_space("agent_0")
    observations, infos = env.reset(seed=0)
    assert infos == {agent: {} for agent in env.agents} and env.scenario_id == "lead" and env.tracks["agent_0"] == "agent_0"
    for agent in env.agents:
        assert env.observation_space(agent).contains(observations[agent])


def test_observations_are_not_overwritten():
    env = DrivingParallelEnv(LEAD)
    first, _ = env.reset(seed=0)
    kept = {name: array.copy() for name, array in first["ego"].items()}
    env.step({agent: env.action_space(agent).sample() for agent in env.agents})
    same(first["ego"], kept)


def test_infos_are_flat():
    env = DrivingParallelEnv(CROWD)
    env.reset(seed=0)
    while env.agents:
        *_, infos = env.step({agent: np.array([0.1, 0.4]) for agent in env.agents})
        for agent, info in infos.items():
            assert {"pdms", "nc", "dac", "ttc", "ep", "comfort"} <= info.keys()
            assert all(np.isscalar(value) or value.shape == (2,) for value in info.values())
            assert (agent in env.agents) != ("success" in info)


def test_wrong_calls_are_refused():
    env = DrivingParallelEnv(LEAD)
    with pytest.raises(ResetNeeded):
        env.step({})
    env.reset(seed=0)
    good = {agent: np.zeros(2) for agent in env.agents}
    for change, text in (
        ({"ego": None}, "without an action: \\['ego'\\]"),
        ({"nobody": np.zeros(2)}, "nobody"),
        ({"ego": np.zeros(3)}, "ego has shape"),
        ({"ego": np.array([np.nan, 0.0])}, "not finite"),
    ):
        with pytest.raises(ValueError, match=text):
            env.step(good | change)
    env.step(good)
    with pytest.raises(DataError, match="max_agents"):
        DrivingParallelEnv(LEAD, max_agents=0)
    with pytest.raises(DataError, match="not among"):
        env.reset(options={"scenario": "crowd"})
    with pytest.raises(DataError, match="no Gaussian scene"):
        DrivingParallelEnv(LEAD, observation="camera")
    anchors = DrivingParallelEnv(LEAD, action="anchor")
    anchors.reset(seed=0)
    for action in (0.0, -1, 256):
        with pytest.raises(ValueError, match=r"anchors must be|action of ego"):
            anchors.step({agent: action for agent in anchors.agents})


def test_actions_of_those_who_have_left_are_not_used():
    env = DrivingParallelEnv(LEAD)
    env.reset(seed=0)
    everyone = {agent: np.array([0.0, 1.0 if agent == "agent_0" else 0.0]) for agent in env.agents}
    while len(env.agents) == 3:
        env.step(everyone)
    assert env.agents == ["ego", "agent_1"]
    env.step(everyone)


def test_a_pickled_environment_is_made_anew():
    one = DrivingParallelEnv([LEAD, CROWD], max_agents=3, action="anchor", traffic="idm")
    two = pickle.loads(pickle.dumps(one))
    same(one.reset(seed=5), two.reset(seed=5))


def test_the_picture_shows_the_ego():
    env = DrivingParallelEnv(LEAD, render_mode="rgb_array")
    with pytest.raises(ResetNeeded):
        env.render()
    env.reset(seed=0)
    before = env.render()
    env.step({agent: np.zeros(2) for agent in env.agents})
    after = env.render()
    assert before.shape == after.shape and before.dtype == np.uint8 and (before != after).any()


@pytest.mark.filterwarnings("ignore:PettingZoo in TorchRL is tested")
def test_torchrl_takes_it():
    library = pytest.importorskip("torchrl.envs.libs.pettingzoo")
    env = library.PettingZooWrapper(DrivingParallelEnv(LEAD), use_mask=True, done_on_any=False)
    assert env.group_map == {"ego": ["ego"], "agent": ["agent_1", "agent_0"]}
    state, returns = env.reset(), 0.0
    while not state["done"]:
        after, state = env.step_and_maybe_reset(state.update(env.full_action_spec.zero()))
        returns = returns + after["next", "agent", "reward"][:, 0]
        if after["next", "done"]:
            break
    np.testing.assert_allclose(returns, 1.0, atol=1e-5)


def python(code: str, *more: str) -> str:
    result = subprocess.run([sys.executable, "-c", code, *more], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


LIST = "; print(*sorted(k for k in {} if k.startswith('WorldEngine/')), sep='\\n')"


def test_pettingzoo_gets_the_ids_in_either_order():
    known = python("import gymnasium, worldengine_envs" + LIST.format("gymnasium.registry"))
    assert "WorldEngine/starter-v0" in known.split()
    for imports in (
        "import worldengine_envs, pettingzoo",
        "import pettingzoo, worldengine_envs",
        "import worldengine_envs; from pettingzoo.utils import parallel_to_aec; import pettingzoo",
        "import worldengine_envs, importlib.util; importlib.util.find_spec('pettingzoo'); import pettingzoo",  # as TorchRL asks
        "import sys; sys.modules['pettingzoo'] = None; import worldengine_envs; del sys.modules['pettingzoo'];"
        " worldengine_envs.register_pettingzoo(); import pettingzoo; worldengine_envs.register_pettingzoo()",
    ):
        assert (
            python("import warnings; warnings.simplefilter('error'); " + imports + LIST.format("pettingzoo.parallel_registry"))
            == known
        )


def test_importing_does_not_import_pettingzoo():
    code = "import sys, worldengine_envs; print('pettingzoo' in sys.modules, 'numba' in sys.modules)"
    assert python(code).split() == ["False", "False"]


def test_an_old_pettingzoo_is_left_alone(tmp_path):
    (tmp_path / "pettingzoo.py").write_text("")
    code = "import sys; sys.path.insert(0, sys.argv[1]); import worldengine_envs, pettingzoo\n"
    python(code, str(tmp_path))
    code += "try:\n    worldengine_envs.register_pettingzoo()\nexcept ImportError as error:\n    print(error)"
    assert "1.27" in python(code, str(tmp_path))


@pytest.fixture
def registered(tmp_path, monkeypatch):
    """A pack "many" with three windows of the recordings of ``pack_helpers``, registered."""
    monkeypatch.setenv("WORLDENGINE_PACKS", str(tmp_path))
    small_pack(tmp_path / "many", name="many")
    registries = gymnasium.registry, pettingzoo.parallel_registry
    before = [dict(registry) for registry in registries]
    worldengine_envs.register_packs()
    yield
    for registry, entries in zip(registries, before, strict=True):
        registry.clear()
        registry.update(entries)


def test_made_by_id(registered):
    one = pettingzoo.make("parallel", "WorldEngine/many.a_025-v0")
    assert isinstance(one, DrivingParallelEnv) and one.scenario_ids == ("a_025",) and one.possible_agents == ["ego", "agent_0"]
    one.reset(seed=0)
    assert one.scenario_id == "a_025"
    many = pettingzoo.make("parallel", "WorldEngine/many-v0", max_agents=5, traffic="idm")
    assert len(many.scenario_ids) == 3 and many.possible_agents[4] == "agent_4"
