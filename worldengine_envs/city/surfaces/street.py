"""Everything of a street that does not move, made from a scenario's map."""

from __future__ import annotations

from random import Random

import numpy as np

from worldengine_envs.city.surfaces import roadside
from worldengine_envs.city.surfaces.ground import camera_path, is_dense, make_ground, make_road, map_seed
from worldengine_envs.city.surfaces.lights import signal_places
from worldengine_envs.city.surfaces.types import Street
from worldengine_envs.scenario.types import Scenario

SIGHT = 5.0  # around traffic lights, where nothing stands [m]
TREES_SHARE = 0.7  # of maps with rows of trees at the kerb


def make_street_surfaces(scenario: Scenario) -> Street:
    """Returns the street of a scenario: ground with markings, houses, trees, lamps.

    What is chosen at random depends on the map alone. Nothing stands on the drivable area, nor where a track of the scenario is.
    """
    path, seed = camera_path(scenario), map_seed(scenario.vector_map)
    road = make_road(scenario, path)
    ground, samples = make_ground(scenario, road)
    site = roadside.Site(ground, scenario.tracks)
    site.keep_clear(signal_places(scenario, road), SIGHT)
    character = Random(seed)
    dense, has_trees = is_dense(seed), character.random() < TREES_SHARE
    lines = roadside.kerb_lines(samples, seed)
    draws = [Random(line.seed) for line in lines]
    for line, rng in zip(lines, draws, strict=True):  # by kind, so that houses leave room for lamps everywhere
        roadside.add_lamps(site, line, rng)
    for line, rng in zip(lines, draws, strict=True):
        if has_trees:
            roadside.add_street_trees(site, line, rng)
        roadside.add_houses(site, line, rng, dense)
    if dense:
        for line, rng in zip(lines, draws, strict=True):
            roadside.add_towers(site, line, rng)
    roadside.fill_gaps(site, samples, path, seed, dense)
    primitives = site.parts.array()
    roadside.cast_shadows(ground, primitives)
    return Street(ground, primitives, np.array(site.lamps).reshape(-1, 3), path)
