"""A Gaussian scene as a folder: manifest.json, and a PLY file for each node and appearance that public viewers open.

``{"format": "worldengine-scene", "format_version": 1, "name", "kind", "appearances": [...], "nodes": {name: {"size", "files"}}}``;
``files`` maps each appearance to a file, or "" where a node looks the same in all. The PLYs of a node differ in colours only.
A reconstruction also has ``"quality"``, what was measured on views that it did not learn from, and witnesses.safetensors.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.rendering.gaussians import Gaussians
from worldengine_envs.rendering.ply import read_ply, write_ply
from worldengine_envs.rendering.scene import BACKGROUND, SKY, GaussianScene, Node, validate_scene
from worldengine_envs.rendering.witness_codec import check_quality, decode_witnesses, encode_witnesses
from worldengine_envs.rendering.witnesses import Witnesses
from worldengine_envs.scenario.new_folder import new_folder
from worldengine_envs.scenario.pack_limits import MAX_HEADER_BYTES, read_limited
from worldengine_envs.scenario.pack_read import parse_json

MANIFEST, WITNESSES = "manifest.json", "witnesses.safetensors"
FORMAT, FORMAT_VERSION = "worldengine-scene", 1
FILE_NAME = re.compile(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,160}\.ply")
DAMAGED = "The scene is damaged or was edited by hand; write it again with save_scene()"


def save_scene(scene: GaussianScene, folder: str | os.PathLike, *, overwrite: bool = False) -> Path:
    """Writes a scene into a new folder and returns it. Either the whole scene is there afterwards, or nothing new is.

    Raises:
        DataError: The scene is not valid, or the folder exists (``overwrite`` replaces a scene, never anything else).
    """
    validate_scene(scene)
    folder, nodes = Path(folder), {}
    with new_folder(folder, MANIFEST, "scene", overwrite) as place:
        for i, (name, node) in enumerate(scene.nodes.items()):
            stem = name if name in (BACKGROUND, SKY) else f"actor_{i:04d}"
            files = {look: f"{stem}.{look}.ply" if look else f"{stem}.ply" for look in node.looks or ("",)}
            for look, file in files.items():
                write_ply(place / file, node.look(look))
            nodes[name] = {"size": node.size and list(node.size), "files": files}
        content = {"format": FORMAT, "format_version": FORMAT_VERSION, "name": scene.name, "kind": scene.kind}
        content |= {"appearances": list(scene.appearances), "nodes": nodes}
        if scene.quality:
            content["quality"] = check_quality(scene.quality)
        if scene.witnesses is not None:
            content["witnesses"] = WITNESSES
            (place / WITNESSES).write_bytes(encode_witnesses(scene.witnesses))
        (place / MANIFEST).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return folder


def load_scene(folder: str | os.PathLike) -> GaussianScene:
    """Returns the scene in a folder.

    Raises:
        DataError: The manifest or a PLY is missing, damaged or hostile; names file and field.
    """
    folder = Path(folder)
    file = folder / MANIFEST
    content = parse_json(read_limited(file, MAX_HEADER_BYTES), file)
    if type(content) is not dict or (content.get("format"), content.get("format_version")) != (FORMAT, FORMAT_VERSION):
        raise DataError(f"is no {FORMAT!r} of version {FORMAT_VERSION}", file=file, field="format", remedy=DAMAGED)
    kinds = {"name": str, "kind": str, "appearances": list, "nodes": dict}
    for key, kind in kinds.items():
        if type(content.get(key)) is not kind:
            raise DataError(f"must be of type {kind.__name__}", file=file, field=key, remedy=DAMAGED)
    if not all(type(appearance) is str for appearance in content["appearances"]):
        raise DataError("must be names", file=file, field="appearances", remedy=DAMAGED)
    appearances = tuple(content["appearances"])
    used: set[str] = set()
    nodes = {name: _load_node(folder, name, row, appearances, used) for name, row in content["nodes"].items()}
    quality = content.get("quality", {})
    witnesses = _load_witnesses(folder, content["witnesses"]) if "witnesses" in content else None
    scene = GaussianScene(content["name"], content["kind"], nodes, appearances, witnesses, check_quality(quality, file))
    return validate_scene(scene, file)


def _load_witnesses(folder: Path, name) -> Witnesses:
    if name != WITNESSES:
        raise DataError(f"must be {WITNESSES!r}", file=folder / MANIFEST, field="witnesses", remedy=DAMAGED)
    path = folder / WITNESSES
    _check_inside(path, folder)
    return decode_witnesses(read_limited(path), path)


def _load_node(folder: Path, name: str, row, appearances: tuple[str, ...], used: set[str]) -> Node:
    file, where = folder / MANIFEST, f"nodes.{name[:80]}"
    files, size = (row.get("files"), row.get("size")) if type(row) is dict else (None, None)
    if type(files) is not dict or set(files) not in ({""}, set(appearances)):
        raise DataError("must name a file for each appearance, or one for all", file=file, field=f"{where}.files", remedy=DAMAGED)
    if size is not None and not (type(size) is list and all(type(x) in (int, float) for x in size)):
        raise DataError("must be three numbers or null", file=file, field=f"{where}.size", remedy=DAMAGED)
    looks = ("",) if "" in files else appearances
    found = {look: read_ply(_path(folder, files[look], where, used)) for look in looks}
    first = next(iter(found.values()))
    for look, other in found.items():
        if not _same_shape(first, other):
            problem = f"is not the same Gaussians in other colours as {next(iter(files.values()))}"
            raise DataError(problem, file=folder / files[look], remedy=DAMAGED)
    looks = {} if "" in found else {look: gaussians.sh for look, gaussians in found.items()}
    return Node(replace(first, sh=looks[appearances[0]]) if looks else first, looks, None if size is None else tuple(size))


def _path(folder: Path, name, where: str, used: set[str]) -> Path:
    """Returns the path of a file that no other look or node has ``used``: a scene takes no more memory than its files tell."""
    if type(name) is not str or not FILE_NAME.fullmatch(name):
        problem = f"{str(name)[:60]!r} must match {FILE_NAME.pattern}"
        raise DataError(problem, file=folder / MANIFEST, field=f"{where}.files", remedy=DAMAGED)
    if name in used:
        raise DataError(f"{name!r} is named twice", file=folder / MANIFEST, field=f"{where}.files", remedy=DAMAGED)
    used.add(name)
    path = folder / name
    _check_inside(path, folder)
    return path


def _check_inside(path: Path, folder: Path) -> None:
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"leads out of the scene, to {path.resolve()}", file=path, remedy="Put the file itself into the scene")


def _same_shape(a: Gaussians, b: Gaussians) -> bool:
    return all(np.array_equal(getattr(a, key), getattr(b, key)) for key in ("means", "quats", "scales", "opacities"))
