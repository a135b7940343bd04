"""The mirror image against a city that is mirrored itself: what is seen, what is driven, and what it earns are the same."""

from dataclasses import replace

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from worldengine_envs.city.maker import make_scenario
from worldengine_envs.city.mirror import mirrored as mirrored_scenario
from worldengine_envs.envs.anchors import kinematic_fan
from worldengine_envs.envs.reference import attach_reference
from worldengine_envs.envs.sb3 import SB3VecEnv
from worldengine_envs.envs.vector_env import DrivingVectorEnv
from worldengine_rl.mirror import HalfMirrored, mirrored, mirrored_poses

FAMILIES = ("turn", "cut_in", "stop_at_light")


@pytest.fixture(scope="module")
def scenarios():
    return [attach_reference(make_scenario(family, 3)) for family in FAMILIES]


def worlds(scenarios, count, anchors):
    mode = AutoresetMode.SAME_STEP
    return SB3VecEnv(DrivingVectorEnv(scenarios, num_envs=count, autoreset_mode=mode, action="anchor", anchors=anchors))


def test_the_mirror_shows_what_the_mirrored_city_shows(scenarios):
    """Odd worlds over scenarios are to be what plain worlds over the city's own mirror images of them are."""
    anchors = kinematic_fan(32, 0)
    images = [replace(mirrored_scenario(scenario), reference=scenario.reference) for scenario in scenarios]
    names = [scenario.id for scenario in scenarios]
    expected, halves = (
        worlds(images, 3, anchors),
        HalfMirrored(worlds(scenarios, 3, anchors), worlds(scenarios, 3, mirrored_poses(anchors))),
    )
    expected.set_options({"scenarios": names})
    halves.set_options({"scenarios": [name for name in names for _ in range(2)]})
    theirs, ours = expected.reset(), halves.reset()
    random = np.random.default_rng(0)
    for _ in range(6):
        for name in theirs:
            np.testing.assert_allclose(ours[name][1::2], theirs[name], atol=2e-3, err_msg=name)
        actions = random.integers(len(anchors), size=3)
        theirs, their_rewards, their_dones, _ = expected.step(actions)
        ours, our_rewards, our_dones, infos = halves.step(np.repeat(actions, 2))
        np.testing.assert_array_equal(our_dones[1::2], their_dones)
        np.testing.assert_allclose(our_rewards[1::2], their_rewards, atol=1e-3)
        assert len(infos) == 6
        if their_dones.any():
            break


def test_even_worlds_are_plain_and_a_mirror_undoes_itself(scenarios):
    anchors = kinematic_fan(32, 0)
    plain, halves = (
        worlds(scenarios, 2, anchors),
        HalfMirrored(worlds(scenarios, 2, anchors), worlds(scenarios, 2, mirrored_poses(anchors))),
    )
    names = [scenarios[0].id, scenarios[2].id]
    plain.set_options({"scenarios": names})
    halves.set_options({"scenarios": [names[0], names[1], names[1], names[0]]})
    theirs, ours = plain.reset(), halves.reset()
    for name in theirs:
        np.testing.assert_array_equal(ours[name][::2], theirs[name])
        np.testing.assert_array_equal(mirrored({k: v[[3, 1]] for k, v in ours.items()})[name], theirs[name])
    with pytest.raises(ValueError, match="in the mirror"):
        HalfMirrored(plain, worlds(scenarios, 1, anchors))
