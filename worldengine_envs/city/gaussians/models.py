"""``model_gaussians``: the library of actors as Gaussians."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from worldengine_envs.city.gaussians import faces
from worldengine_envs.city.gaussians.cloud import add_patch, gaussians_of, new_cloud
from worldengine_envs.city.gaussians.shading import looks_of
from worldengine_envs.city.gaussians.viewing import Viewing, coarseness, everywhere
from worldengine_envs.city.surfaces.models import MODELS
from worldengine_envs.city.surfaces.textures import soft_shadow
from worldengine_envs.city.surfaces.types import TIMES_OF_DAY, Model
from worldengine_envs.errors import DataError
from worldengine_envs.rendering.scene import Node
from worldengine_envs.simulation.kernels import kernel

LOGIT = 5.0
CAPACITY = 1 << 15  # Gaussians of one model
SEEN_FROM, SEEN_FROM_SMALL, SMALL = 8.0, 4.0, 2.5  # distance for which models are made, and those smaller than SMALL [m]
SHADOW_STEP = 0.5  # between the Gaussians of a shadow [m]
SHADOW_REACH = 1.35  # of a shadow's length and width over the box's
SHADOW_SPREAD = 0.55  # standard deviation of its Gaussians over the step between them
LEAST_COVER = 0.01
SHADOW_HEIGHT = 0.03  # over the ground, so that it is drawn over what lies there [m]


@cache
def model_gaussians(index: int, detail: float = 1.0) -> Node:
    """Returns the node of ``city.surfaces.models.MODELS[index]``, with looks for day, dusk and night; made once a process.

    Its frame is the model's: x forward, y left, z up, origin at the box's centre; ``size`` is the model's. Actors stretch it by
    their box over this size. Its soft shadow lies at the bottom of the box.

    Raises:
        DataError: So much detail needs too many Gaussians.
    """
    return sample_model(MODELS[index], detail)


def sample_model(model: Model, detail: float) -> Node:
    """Returns the Gaussians of a model.

    Raises:
        DataError: They are too many.
    """
    coarse = coarseness(detail)
    table = np.full((1, 1), SEEN_FROM if max(model.size) > SMALL else SEEN_FROM_SMALL, np.float32)
    viewing = Viewing(
        table, np.zeros(2), 1.0, 0.0, *everywhere(), 0.05 * coarse, 0.008 * coarse, 5e-6 * coarse * coarse, 1.6, LOGIT
    )
    cloud = new_cloud(CAPACITY)
    faces.sample_primitives(model.primitives, viewing, cloud)
    if model.shadow > 0.0:
        _add_shadow(model.size[0], model.size[1], -0.5 * model.size[2], model.shadow, cloud)
    if cloud.count[0] == len(cloud.means):
        raise DataError(f"{model.name} needs more than {CAPACITY} Gaussians", field="detail", remedy="Ask for less detail")
    looks = looks_of(cloud, None)
    return Node(gaussians_of(cloud, looks[TIMES_OF_DAY[0]]), looks, model.size)


@kernel
def _add_shadow(length, width, bottom, darkness, cloud):
    """Adds dark flat Gaussians under a box: together they cover the ground as much as its soft shadow darkens it."""
    columns, rows = max(int(SHADOW_REACH * length / SHADOW_STEP), 3), max(int(SHADOW_REACH * width / SHADOW_STEP), 3)
    dx, dy = SHADOW_REACH * length / columns, SHADOW_REACH * width / rows
    for i in range(rows):
        y = (i + 0.5 - 0.5 * rows) * dy
        for j in range(columns):
            x = (j + 0.5 - 0.5 * columns) * dx
            cover = darkness * soft_shadow(2.0 * x / length, 2.0 * y / width)
            if cover < LEAST_COVER:
                continue
            # as many as lie over each other, by the volume of a Gaussian
            opacity = 1.0 - (1.0 - cover) ** (1.0 / (2.0 * math.pi * SHADOW_SPREAD * SHADOW_SPREAD))
            logit = math.log(opacity / (1.0 - opacity))
            row = add_patch(
                cloud, x, y, bottom + SHADOW_HEIGHT, SHADOW_SPREAD * dx, 0.0, 0.0, 0.0, SHADOW_SPREAD * dy, 0.0, 0.005, logit
            )
            for c in range(3):
                cloud.albedo[row, c] = cloud.normal[row, c] = cloud.glow[row, c] = 0.0
            cloud.normal[row, 2] = 1.0
            cloud.glow[row, 3] = 0.0
            cloud.always[row] = False
