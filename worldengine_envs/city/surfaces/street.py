"""Everything of a street that does not move, made from a scenario's map."""

from __future__ import annotations

import numpy as np

from worldengine_envs.city.surfaces.ground import camera_path, make_ground
from worldengine_envs.city.surfaces.parts import Parts
from worldengine_envs.city.surfaces.types import Street
from worldengine_envs.scenario.types import Scenario


def make_street_surfaces(scenario: Scenario) -> Street:
    """Returns the street of a scenario: ground with markings, buildings, trees, lamps.

    What is chosen at random depends on the map alone. Nothing stands on the drivable area, nor where a track of the scenario is.
    """
    path = camera_path(scenario)
    ground, samples = make_ground(scenario, path)
    parts = Parts()
    return Street(ground, parts.array(), np.zeros((0, 3)), path)
