"""The finished Gaussians as a scene that environments draw: background, sky, and a node for every actor."""

from __future__ import annotations

import re

import numpy as np
import torch

from worldengine_envs.errors import DataError
from worldengine_envs.reconstruction.camera_log import CameraLog
from worldengine_envs.reconstruction.corrections import Corrections
from worldengine_envs.reconstruction.scene_graph import BACKGROUND, FIRST_ACTOR, SKY, SceneGraph, multiply, quats_of
from worldengine_envs.rendering import scene as scenes
from worldengine_envs.rendering.gaussians import Gaussians
from worldengine_envs.rendering.scene import SHORTEST_QUAT, GaussianScene, Node, validate_scene
from worldengine_envs.scenario.pack_manifest import LABEL

LEAST_OPACITY = 1.0 / 255.0  # what is thinner is never drawn
MAX_SH = 60.0  # of coefficients, and logarithms of sizes: beyond is no colour and no size, and could not be stored
FARTHEST_M = 1e5
LEAST_ACTOR = 16  # Gaussians; who has fewer was only ever seen from afar, and is drawn with a model of the library


def export_scene(graph: SceneGraph, log: CameraLog, corrections: Corrections) -> GaussianScene:
    """Returns the Gaussians of a training as a scene, in the world of the log.

    Actors look the same from all sides of the world (degree 0) and stand in the frame of their logged box; if their boxes were
    found to lie beside them, by the same way at all times, the Gaussians are moved by that way. Gaussians that are never drawn
    (alpha under 1/255) or not finite are dropped.
    An actor with fewer than ``LEAST_ACTOR`` left has no node. Exposures are left out: colours are those of the mean exposure.

    Args:
        graph: What was learned.
        log: Names scene, actors and traversals, which become appearances.
        corrections: Where actors really were.

    Raises:
        DataError: See ``check_names``.
    """
    check_names(log)
    with torch.no_grad():
        tables = {name: tensor.detach().cpu().float().numpy() for name, tensor in graph.parameters.items()}
        dc = [graph.dc_of(t).detach().cpu().float().numpy() for t in range(len(log.traversals))]
    node, rest = graph.node.cpu().numpy(), tables["rest"][:, : (graph.degree + 1) ** 2 - 1]
    usable = usable_rows(tables, dc)
    nodes = {}
    for name, number in ((scenes.BACKGROUND, BACKGROUND), (scenes.SKY, SKY)):
        rows = np.flatnonzero(usable & (node == number))
        if len(rows) or number == BACKGROUND:
            nodes[name] = _node(tables, [np.concatenate((base, rest), axis=1) for base in dc], rows, log.traversals)
    offsets = box_offsets(log, corrections)
    for a, actor in enumerate(log.actors):
        rows = np.flatnonzero(usable & (node == FIRST_ACTOR + a))
        if len(rows) >= LEAST_ACTOR:
            look = dc[log.traversals.index(actor.traversal)]  # it was seen in one traversal only
            found = _node(tables, [look], rows, ())
            nodes[actor.token] = Node(_moved(found.gaussians, offsets[a]), size=tuple(float(side) for side in actor.size))
    name = re.sub(r"[^A-Za-z0-9_-]", "_", log.name)[:128] or "scene"
    return validate_scene(GaussianScene(name, "reconstructed", nodes, tuple(log.traversals)))


def usable_rows(tables: dict[str, np.ndarray], dc: list[np.ndarray]) -> np.ndarray:
    """Returns (N,) bool: finite, thick enough to be drawn, near enough to be stored."""
    bounds = {"means": FARTHEST_M, "scales": MAX_SH, "rest": MAX_SH, "quats": np.inf, "opacities": np.inf}
    usable = np.ones(len(tables["means"]), bool)
    for table, bound in [(tables[name], bound) for name, bound in bounds.items()] + [(base, MAX_SH) for base in dc]:
        flat = table.reshape(len(table), -1)
        usable &= np.isfinite(flat).all(axis=1) & (np.abs(flat) < bound).all(axis=1)
    with np.errstate(over="ignore"):
        usable &= 1.0 / (1.0 + np.exp(-tables["opacities"])) >= LEAST_OPACITY
    return usable & (np.abs(tables["quats"]).max(axis=1, initial=0.0) > SHORTEST_QUAT)


def box_offsets(log: CameraLog, corrections: Corrections) -> np.ndarray:
    """Returns (actors, 4, 4) the mean motion from each logged box to where its actor was found, in the box's frame."""
    turned, shifted, count = np.zeros((len(log.actors), 3, 3)), np.zeros((len(log.actors), 3)), np.zeros(len(log.actors))
    for traversal, times in corrections.times.items():
        for time_us in times.tolist():
            box, centre, present = corrections.timeline.at(time_us, traversal)
            with torch.no_grad():
                rotation, found, _ = (tensor.cpu().numpy() for tensor in corrections.actor_poses(time_us, traversal))
            back = np.swapaxes(box, 1, 2) * present[:, None, None]
            turned += back @ rotation
            shifted += (back @ (found - centre)[..., None])[..., 0]
            count += present
    offsets = np.tile(np.eye(4), (len(log.actors), 1, 1))
    for a in np.flatnonzero(count):
        u, _, v = np.linalg.svd(turned[a] / count[a])  # nearest rotation to the mean
        offsets[a, :3, :3], offsets[a, :3, 3] = u @ v, shifted[a] / count[a]
    return offsets


def check_names(log: CameraLog) -> None:
    """Raises DataError where two actors have one name, or a traversal has one that no appearance may have."""
    for traversal in log.traversals:
        if not LABEL.fullmatch(traversal):
            raise DataError(f"{traversal[:80]!r} must match {LABEL.pattern}", scenario=log.name, field="traversals")
    names = [scenes.BACKGROUND, scenes.SKY, *(actor.token for actor in log.actors)]
    twice = [name for k, name in enumerate(names) if name in names[:k]]
    if twice:
        remedy = "Give each actor a token of its own"
        raise DataError("there are two of that name", scenario=log.name, field=f"actors.{twice[0]}", remedy=remedy)


def _node(tables: dict[str, np.ndarray], sh: list[np.ndarray], rows: np.ndarray, looks: tuple[str, ...]) -> Node:
    shape = (np.ascontiguousarray(tables[name][rows]) for name in ("means", "quats", "scales", "opacities"))
    colors = [np.ascontiguousarray(each[rows]) for each in sh]
    return Node(Gaussians(*shape, colors[0]), dict(zip(looks, colors, strict=True)) if len(looks) > 1 else {})


def _moved(gaussians: Gaussians, motion: np.ndarray) -> Gaussians:
    """Returns Gaussians of degree 0 after a rigid motion (4, 4)."""
    turn = quats_of(torch.from_numpy(motion[:3, :3])).float()
    quats = multiply(turn.expand(len(gaussians), 4), torch.from_numpy(gaussians.quats)).numpy()
    means = (gaussians.means @ motion[:3, :3].T + motion[:3, 3]).astype(np.float32)
    return Gaussians(means, quats, gaussians.scales, gaussians.opacities, gaussians.sh)
