"""``make_scenario``: a family's name and a seed in, a quantised Scenario out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from worldengine_envs.city import background
from worldengine_envs.city.driving import FRONT
from worldengine_envs.city.exact import Draw
from worldengine_envs.city.families import FAMILIES, RARE
from worldengine_envs.city.mirror import mirrored
from worldengine_envs.city.scene import EGO_SIZE, START, Scene, Unfit
from worldengine_envs.errors import DataError
from worldengine_envs.scenario.types import AgentType, Lights, Origin, Route, Scenario, Tracks

ATTEMPTS = 60
LEFT_HAND = 0.3  # share of seeds with traffic on the left
TYPE_TAGS = {"pedestrian": AgentType.PEDESTRIAN, "cyclist": AgentType.BICYCLE}  # of those with a part in the story
MOST_AGENTS = 64  # ego included
LEAST_AGENTS, SPARE = 33, 6  # where the street has room for them
POSITION, ANGLE = 3, 4  # decimals kept: 1 mm, 1e-4 rad
LICENCE = "Apache-2.0"


def make_scenario(family: str, seed: int) -> Scenario:
    """Returns the scenario of this family and seed; the same on every machine, to the last bit.

    Its parent tells family, seed, difficulty and how many attempts it took; tags tell the kind of street and ``left_hand``.

    Raises:
        DataError: No such family, a seed below 0, or no attempt fits (does not happen for the families that ship).
    """
    if family not in FAMILIES:
        raise DataError(f"no family {family!r}", field="recipe.family", remedy=f"Families: {', '.join(sorted(FAMILIES))}")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise DataError(f"seed {seed!r} is not a whole number from 0 on", field="recipe.seed")
    difficulty = round(Draw("difficulty", family, seed).uniform(0.0, 1.0), 3)
    for attempt in range(ATTEMPTS):
        try:
            scene = FAMILIES[family](Draw(family, seed, attempt), difficulty)
        except Unfit:
            continue
        _fill(scene)
        scene.trim(MOST_AGENTS)
        scenario = assemble(scene, family, seed, difficulty)
        scenario.parent["attempts"] = attempt + 1
        if Draw("side", family, seed).chance(LEFT_HAND):
            return replace(mirrored(scenario), tags=(*scenario.tags, "left_hand"))
        return scenario
    raise DataError(f"no fitting scene in {ATTEMPTS} attempts", scenario=f"{family}_{seed:03d}", remedy="Take another seed")


def _fill(scene: Scene) -> None:
    """Adds people until there are enough agents; some may be in each other's way, so up to three times."""
    for _ in range(3):
        if len(scene.vehicles) + len(scene.walkers) < LEAST_AGENTS:
            background.fill(scene, LEAST_AGENTS + SPARE)
            scene.prune()


def assemble(scene: Scene, family: str, seed: int, difficulty: float) -> Scenario:
    """Returns the Scenario of a finished scene, local to the ego's position at step 0."""
    state, _, size = (a.copy() for a in scene.boxes())
    origin = np.round(state[0, 0, :2], POSITION)
    state[:, :, :2] -= origin
    state[:, :, 2] -= 6.283185307179586 * np.rint(state[:, :, 2] / 6.283185307179586)
    for k in range(5):
        state[:, :, k] = np.round(state[:, :, k], ANGLE if k == 2 else POSITION)
    size = np.round(size, POSITION)
    valid = np.ones(state.shape[:2], dtype=bool)
    for i, car in enumerate(scene.vehicles):  # who reaches the end of the map is gone
        valid[i] = car.s + FRONT * car.size[0] <= scene.paths[car.path].line.length
    state[~valid] = 0.0
    sizes = np.where(valid[:, :, None], size[:, None, :], 0.0)
    types = [actor.type for actor in (*scene.vehicles, *scene.walkers)]
    names = [o.name for o in (*scene.vehicles, *scene.walkers)]
    tokens = ("ego", *(f"{name}_{i}" for i, name in enumerate(names[1:], 1)))
    tracks = Tracks(
        tokens=tokens,
        types=np.array(types, dtype=np.int8),
        state=state,
        size=sizes,
        valid=valid,
    )
    vector_map = scene.street.network.vector_map(origin)
    group = np.array(scene.street.network.group, dtype=np.int32)
    signals = np.array((*scene.street.network.signals, False))  # the last for lanes without a group
    lanes = np.flatnonzero(signals[group]).astype(np.int32)
    rarity = "rare" if family in RARE else "common"
    actors = [actor for actor in (*scene.vehicles[1:], *scene.walkers) if actor.has_part]
    kinds = [name for name, kind in TYPE_TAGS.items() if any(actor.type == kind for actor in actors)]
    solution = (scene.solution,) if scene.solution else ()
    level = ("easy", "medium", "hard")[min(int(3 * difficulty), 2)]
    name = f"{family}_{seed:03d}"
    return Scenario(
        id=name,
        origin=Origin("city", f"{scene.street.kind}", name, LICENCE, (float(origin[0]), float(origin[1]))),
        tracks=tracks,
        start_step=START,
        vector_map=vector_map,
        lights=Lights(lanes, scene.lights[group[lanes]]),
        route=route(scene, origin, vector_map),
        split=f"{rarity}_{'test' if seed % 2 else 'train'}",
        tags=tuple(dict.fromkeys((family, rarity, scene.street.kind, level, *kinds, *solution))),
        parent={"family": family, "seed": seed, "difficulty": difficulty},
    )


def route(scene: Scene, origin: np.ndarray, vector_map) -> Route:
    """Returns the lanes of the ego's path with those beside them, the path at 1 m, and where the log ends as goal."""
    ego = scene.vehicles[0]
    path = scene.paths[ego.path]
    blocks = np.unique(vector_map.lane_roadblock[list(path.lanes)])
    lanes = np.flatnonzero(np.isin(vector_map.lane_roadblock, blocks)).astype(np.int32)
    start = max(0.0, float(np.floor(ego.s[0])) - 10.0)
    s = np.arange(start, min(path.line.length, float(ego.s[-1]) + 150.0), 1.0)
    x, y, yaw, _ = path.line.at(s)
    yaw = yaw - 6.283185307179586 * np.rint(yaw / 6.283185307179586)
    line = np.stack((np.round(x - origin[0], POSITION), np.round(y - origin[1], POSITION), np.round(yaw, ANGLE)), axis=1)
    goal = path.line.at(float(ego.s[-1]) + EGO_SIZE[0])
    return Route(lanes, line, np.round(np.array((float(goal[0]), float(goal[1]))) - origin, POSITION))
