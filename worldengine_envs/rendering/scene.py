"""A Gaussian scene: a graph of nodes (background, sky, one for each actor that has its own) that look different by appearance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.rendering.gaussians import MAX_SH_DEGREE, Gaussians
from worldengine_envs.rendering.witnesses import Witnesses, validate_witnesses
from worldengine_envs.scenario.pack_manifest import LABEL, SCENARIO_ID, SCENE_KINDS

BACKGROUND, SKY = "background", "sky"  # the names of the nodes that are no actor
SHORTEST_QUAT = 1e-12  # its square is still a float32
REPAIR = "Write it again with finite values; Gaussians that training lost can be dropped"


@dataclass(frozen=True, slots=True)
class Node:
    """Gaussians that move as one.

    ``looks`` holds spherical harmonics (N, (degree + 1)^2, 3) float32 by appearance. It has all appearances of its scene, or is
    empty: then the node looks the same in all of them, as ``gaussians.sh`` says. With looks, ``gaussians.sh`` is that of the
    scene's first appearance. Degrees may differ.
    """

    gaussians: Gaussians  # background and sky in the scenario's frame; actors: x forward, y left, z up, origin at the box centre
    looks: Mapping[str, np.ndarray] = field(default_factory=dict)
    size: tuple[float, float, float] | None = None  # length, width, height [m] of an actor's box; None for background and sky

    def look(self, appearance: str) -> Gaussians:
        """Returns the node's Gaussians as they look in one appearance (arrays are shared).

        Raises:
            DataError: It has no such appearance.
        """
        if not self.looks:
            return self.gaussians
        if appearance not in self.looks:
            raise DataError(f"no appearance {appearance!r}", field="appearance", remedy=f"There are {', '.join(self.looks)}")
        return replace(self.gaussians, sh=self.looks[appearance])

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        g = self.gaussians
        arrays = [g.means, g.quats, g.scales, g.opacities, g.sh, *self.looks.values()]
        return sum(array.nbytes for array in {id(array): array for array in arrays}.values())


@dataclass(frozen=True, slots=True)
class GaussianScene:
    """What a place looks like. Actors without a node of their own are drawn with an asset of a library."""

    name: str
    kind: str  # sampled from the city, dressed (the city's surfaces on a recorded map) or reconstructed from images
    nodes: Mapping[str, Node]  # BACKGROUND first, SKY where there is one, actors by their track's token
    appearances: tuple[str, ...]  # "day", "dusk", "night", or names of traversals; the first is the default
    witnesses: Witnesses | None = None  # of a reconstruction: views that it was made from, by which new ones are judged
    quality: Mapping[str, object] = field(default_factory=dict)  # of a reconstruction, as measured: plain JSON by name

    def __len__(self) -> int:
        """Number of Gaussians."""
        return sum(len(node.gaussians) for node in self.nodes.values())

    @property
    def actors(self) -> tuple[str, ...]:
        """Tokens of the tracks that have a node."""
        return tuple(name for name in self.nodes if name not in (BACKGROUND, SKY))

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(node.nbytes for node in self.nodes.values())


def validate_scene(scene: GaussianScene, file=None) -> GaussianScene:
    """Returns the scene as it is.

    Raises:
        DataError: A node, an array or a name is not what it has to be; names file and field.
    """
    if scene.kind not in SCENE_KINDS:
        raise DataError(f"{scene.kind!r} is not one of {', '.join(SCENE_KINDS)}", file=file, field="kind")
    if not SCENARIO_ID.fullmatch(scene.name):
        raise DataError(f"{scene.name[:80]!r} must match {SCENARIO_ID.pattern}", file=file, field="name")
    distinct = len(set(scene.appearances)) == len(scene.appearances) > 0
    if not distinct or not all(LABEL.fullmatch(appearance) for appearance in scene.appearances):
        raise DataError(f"must be one or more names, each once, that match {LABEL.pattern}", file=file, field="appearances")
    if BACKGROUND not in scene.nodes:
        raise DataError(
            f"has no node {BACKGROUND!r}", file=file, field="nodes", remedy="It may hold no Gaussians, but must be there"
        )
    for name, node in scene.nodes.items():
        where = f"nodes.{name[:80]}"
        if (node.size is None) != (name in (BACKGROUND, SKY)):
            raise DataError("actors have a size, background and sky have none", file=file, field=f"{where}.size")
        if node.size is not None and not (len(node.size) == 3 and all(0.0 < x < 1e3 for x in node.size)):
            raise DataError(f"{node.size!r} must be length, width, height in (0, 1000) m", file=file, field=f"{where}.size")
        validate_gaussians(node.gaussians, file, where)
        if node.looks and set(node.looks) != set(scene.appearances):
            problem = f"has looks {', '.join(node.looks)}, not {', '.join(scene.appearances)}"
            raise DataError(problem, file=file, field=where, remedy="Give a node all appearances or none")
        for appearance, sh in node.looks.items():
            _check_sh(sh, len(node.gaussians), file, f"{where}.{appearance}.sh")
    if scene.witnesses is not None:
        validate_witnesses(scene.witnesses, scene.actors, file)
    return scene


def validate_gaussians(gaussians: Gaussians, file=None, field: str = "") -> Gaussians:
    """Returns the Gaussians as they are.

    Raises:
        DataError: A wrong dtype or shape, a value that is not finite, or a quaternion of length 0.
    """
    where, n = f"{field}." if field else "", len(gaussians.means)
    for name, shape in (("means", (n, 3)), ("quats", (n, 4)), ("scales", (n, 3)), ("opacities", (n,))):
        _check_array(getattr(gaussians, name), shape, file, where + name)
    _check_sh(gaussians.sh, n, file, f"{where}sh")
    lost = int((np.abs(gaussians.quats).max(axis=1, initial=0.0) < SHORTEST_QUAT).sum())
    if lost:
        raise DataError(f"{lost} of {n} quaternions have length 0", file=file, field=f"{where}quats", remedy=REPAIR)
    return gaussians


def _check_sh(sh, n: int, file, field: str) -> None:
    shapes = [(n, (degree + 1) ** 2, 3) for degree in range(MAX_SH_DEGREE + 1)]
    shape = getattr(sh, "shape", None)
    if shape not in shapes:
        raise DataError(f"shape {shape} must be ({n}, 1, 4, 9 or 16, 3)", file=file, field=field)
    _check_array(sh, shape, file, field)


def _check_array(array, shape: tuple[int, ...], file, field: str) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.shape != shape:
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise DataError(f"{found} must be a float32 array {shape}", file=file, field=field)
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise DataError(f"{bad} of {array.size} values are not finite", file=file, field=field, remedy=REPAIR)
