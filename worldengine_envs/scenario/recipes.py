"""Scenarios made on demand from a family and a seed, and their scenes. The makers are named here, never in a file."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass

from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import Scenario

MAKERS = {"city": "worldengine_envs.city:make_scenario"}
"""Function (family, seed) -> Scenario by dataset."""

SCENE_MAKERS = {"city": "worldengine_envs.city.gaussians.scene:make_scene"}
"""Function (scenario, detail) -> GaussianScene by name; scenarios made by a recipe of the same name have such a scene."""

SCENE_DETAIL = (0.25, 4.0)
"""Least and most density of the Gaussians of a scene that is made: with less, the ground near a camera spreads over its picture."""

FAMILY = re.compile(r"[A-Za-z0-9_-]{1,64}")
MAX_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a scenario is made again."""

    dataset: str  # a key of MAKERS
    family: str
    seed: int


def recipe_of(scenario: Scenario) -> Recipe:
    """Returns the recipe of a generated scenario: its dataset, and family and seed of its parent.

    Raises:
        DataError: The scenario has no recipe, or nobody here can cook it.
    """
    parent = scenario.parent or {}
    family, seed = parent.get("family"), parent.get("seed")
    if not isinstance(family, str) or type(seed) is not int or scenario.origin.dataset not in MAKERS:
        raise DataError(
            f"no recipe: dataset {scenario.origin.dataset!r}, family {family!r}, seed {seed!r}",
            scenario=scenario.id,
            field="parent",
            remedy=f"Recipes need a dataset of {', '.join(MAKERS)} and a parent with family and seed; else store files",
        )
    return Recipe(scenario.origin.dataset, family, seed)


def make(recipe: Recipe) -> Scenario:
    """Returns the scenario of a recipe, on the grid of packs.

    Raises:
        DataError: Unknown dataset, or the maker refuses the family or the seed.
    """
    from worldengine_envs.scenario.quantise import quantised

    if recipe.dataset not in MAKERS:
        raise DataError(f"nobody makes {recipe.dataset[:40]!r}", field="recipe.dataset", remedy=f"Known: {', '.join(MAKERS)}")
    return quantised(_function(MAKERS[recipe.dataset])(recipe.family, recipe.seed))


def make_scene(maker: str, scenario: Scenario, detail: float = 1.0):
    """Returns the ``rendering.scene.GaussianScene`` that a maker gives a scenario.

    Args:
        maker: A key of SCENE_MAKERS.
        scenario: Its map, tracks, route and lights say what there is.
        detail: Density of Gaussians, 1 = for pictures of 320x180.

    Raises:
        DataError: Unknown maker, or a detail out of SCENE_DETAIL.
    """
    if maker not in SCENE_MAKERS:
        remedy = f"Known: {', '.join(SCENE_MAKERS)}"
        raise DataError(f"nobody makes scenes called {maker[:40]!r}", scenario=scenario.id, field="scene.maker", remedy=remedy)
    return _function(SCENE_MAKERS[maker])(scenario, detail)


def _function(name: str):
    module, function = name.split(":")
    return getattr(importlib.import_module(module), function)
