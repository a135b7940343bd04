"""The library of actors: what stands for a track of some type and size."""

from __future__ import annotations

import numpy as np

from worldengine_envs.city.surfaces import furniture, people, vehicles
from worldengine_envs.city.surfaces.noise import hash_of
from worldengine_envs.city.surfaces.parts import squeezed
from worldengine_envs.city.surfaces.types import Model
from worldengine_envs.scenario.types import AgentType

CAR_SHADOW, SMALL_SHADOW = 0.6, 0.35
ADULT, SLIM, CHILD = (0.60, 0.60, 1.75), (0.55, 0.55, 1.65), (0.42, 0.45, 1.20)
RIDER = (1.80, 0.60, 1.70)


def _vehicles() -> list[Model]:
    models = []
    for name, body in vehicles.BODIES.items():
        for color, paint in vehicles.PAINTS.items():
            models.append((f"{name}_{color}", body.size, vehicles.car(body, paint)))
    for color in ("white", "blue", "silver", "red"):
        paint = vehicles.PAINTS[color]
        models.append((f"van_{color}", (6.0, 2.1, 2.6), vehicles.van((6.0, 2.1, 2.6), paint, glazed=False)))
        models.append((f"minibus_{color}", (6.6, 2.2, 2.7), vehicles.van((6.6, 2.2, 2.7), paint, glazed=True)))
        models.append((f"truck_{color}", (8.2, 2.5, 3.4), vehicles.truck((8.2, 2.5, 3.4), paint)))
        models.append((f"bus_{color}", (12.0, 2.55, 3.2), vehicles.bus((12.0, 2.55, 3.2), paint)))
    return [Model(name, AgentType.VEHICLE, size, squeezed(parts.array(), size), CAR_SHADOW) for name, size, parts in models]


def _people() -> list[Model]:
    models = []
    for seed, (color, clothes) in enumerate(people.CLOTHES.items()):
        for name, size in (("adult", ADULT), ("slim", SLIM), ("child", CHILD)):
            parts = people.walker(size, clothes, seed)
            models.append(Model(f"{name}_{color}", AgentType.PEDESTRIAN, size, squeezed(parts.array(), size), SMALL_SHADOW))
        parts = people.cyclist(RIDER, clothes, list(vehicles.PAINTS.values())[seed + 2], seed)
        models.append(Model(f"cyclist_{color}", AgentType.BICYCLE, RIDER, squeezed(parts.array(), RIDER), SMALL_SHADOW))
    return models


def _objects() -> list[Model]:
    lights = [
        (f"light_{name}", furniture.traffic_light(None if name == "off" else name)) for name in ("red", "yellow", "green", "off")
    ]
    rows = [
        ("cone", AgentType.TRAFFIC_CONE, (0.40, 0.40, 0.90), furniture.cone((0.40, 0.40, 0.90))),
        ("barrier", AgentType.BARRIER, (0.50, 1.80, 1.00), furniture.barrier((0.50, 1.80, 1.00))),
        ("barrier_long", AgentType.BARRIER, (0.50, 3.20, 1.00), furniture.barrier((0.50, 3.20, 1.00))),
        ("sign", AgentType.CZONE_SIGN, (0.40, 0.80, 1.80), furniture.sign((0.40, 0.80, 1.80))),
        ("box_grey", AgentType.GENERIC_OBJECT, (0.80, 0.80, 0.90), furniture.crate((0.80, 0.80, 0.90), (0.45, 0.46, 0.45))),
        ("box_green", AgentType.GENERIC_OBJECT, (0.70, 0.70, 1.20), furniture.crate((0.70, 0.70, 1.20), (0.22, 0.38, 0.26))),
        ("box_brown", AgentType.GENERIC_OBJECT, (1.60, 1.00, 1.00), furniture.crate((1.60, 1.00, 1.00), (0.50, 0.38, 0.26))),
        *((name, AgentType.GENERIC_OBJECT, furniture.LIGHT_SIZE, parts) for name, parts in lights),
    ]
    return [Model(name, kind, size, squeezed(parts.array(), size), SMALL_SHADOW) for name, kind, size, parts in rows]


MODELS: tuple[Model, ...] = (*_vehicles(), *_people(), *_objects())
ROW: dict[str, int] = {model.name: row for row, model in enumerate(MODELS)}  # by name
LIGHT_ROWS: tuple[int, int, int, int] = tuple(ROW[f"light_{name}"] for name in ("off", "green", "yellow", "red"))  # by LightState


def _by_type() -> dict[int, list[tuple[np.ndarray, list[int]]]]:
    """Returns by type the sizes there are, each with the models that have it."""
    sizes: dict[int, dict[tuple, list[int]]] = {}
    for row, model in enumerate(MODELS):
        if not model.name.startswith("light_"):
            sizes.setdefault(int(model.type), {}).setdefault(model.size, []).append(row)
    return {kind: [(np.log(size), rows) for size, rows in group.items()] for kind, group in sizes.items()}


_CHOICES = _by_type()


def choose(kind: AgentType, size, key: str) -> int:
    """Returns the row in MODELS of what stands for a track.

    Args:
        kind: Its type.
        size: Length, width, height [m] of its box, all > 0; the model with the nearest proportions is taken and stretched to it.
        key: Scenario id and token: which of several colours it gets is the same for a key everywhere.
    """
    wanted = np.log(np.asarray(size, float))
    rows = min(_CHOICES[int(kind)], key=lambda choice: float(np.sum((choice[0] - wanted) ** 2)))[1]
    return rows[hash_of(key) % len(rows)]
