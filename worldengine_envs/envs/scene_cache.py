"""Scenes that were made, kept on the user's disk: reading one takes milliseconds, making it a tenth of a second or more.

What is used is always what a file holds, also the first time, so that pictures do not depend on whether a scene was there.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from worldengine_envs.errors import DataError
from worldengine_envs.rendering.scene import GaussianScene

VARIABLE = "WORLDENGINE_CACHE"  # folder of the cache; "off" = nothing is kept
MAX_BYTES = 4 * 2**30  # beyond, the files that were used longest ago go
PRUNE_EVERY = 64  # files written by this process
OURS = re.compile(r"[0-9a-f]{64}\.safetensors")  # how names of files begin that the cache may delete


def cache_folder() -> Path | None:
    """Returns the folder where scenes are kept; None where the user wants none."""
    chosen = os.environ.get(VARIABLE)
    if chosen == "off":
        return None
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "worldengine" / "scenes"


def cached_scene(key: str, maker: str, make: Callable[[], GaussianScene]) -> GaussianScene:
    """Returns the scene of a key from the cache, or makes it and puts it there.

    Args:
        key: Tells apart what is made with the same code.
        maker: Python module that makes it; other versions of its code have other scenes.
        make: Makes it.
    """
    from worldengine_envs.rendering.quantised import decode_scene, encode_scene

    folder = cache_folder()
    if folder is None:
        return decode_scene(encode_scene(make()), Path("made now"))
    name = hashlib.sha256(f"{key}\n{_code_of(maker)}".encode()).hexdigest()
    file = folder / name[:2] / f"{name}.safetensors"
    scene = _read(file)
    if scene is not None:
        return scene
    data = encode_scene(make())
    _write(file, data)
    return decode_scene(data, file)


def _read(file: Path) -> GaussianScene | None:
    """Returns the scene in a file of the cache, None if it is not there or, with a warning, if it is damaged."""
    from worldengine_envs.rendering.quantised import decode_scene

    try:
        data = file.read_bytes()
    except OSError:  # if the folder is to blame, ``_write`` says so
        return None
    try:
        scene = decode_scene(data, file)
    except DataError as error:
        warnings.warn(f"a cached scene is made anew: {error}", RuntimeWarning, stacklevel=3)
        return None
    with suppress(OSError):  # pruned by another process, or the cache is somebody else's
        os.utime(file)  # used last
    return scene


@cache
def _code_of(maker: str) -> str:
    """Returns a hash over the source of a module, and of all that it imports where it is one of the project's."""
    from worldengine_envs.simulation.kernels import source_digest

    if maker.startswith("worldengine_envs."):
        return source_digest(maker)
    return hashlib.sha256(Path(find_spec(maker).origin).read_bytes()).hexdigest()


_written = 0


def _write(file: Path, data: bytes) -> None:
    """Writes a file whole or not at all; where the disk says no, one warning and no file."""
    global _written
    part = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=f"{file.name}.", dir=file.parent, delete=False) as part:
            part.write(data)
        os.replace(part.name, file)
    except OSError as error:
        if part is not None:
            Path(part.name).unlink(missing_ok=True)
        warnings.warn(f"scenes are not kept in {file.parent.parent} ({error}); set {VARIABLE}", RuntimeWarning, stacklevel=3)
        return
    if _written % PRUNE_EVERY == 0:  # also at the first one: short runs fill a cache too
        prune(file.parent.parent, MAX_BYTES)
    _written += 1


def prune(folder: Path, max_bytes: int) -> None:
    """Deletes the files of a cache that were used longest ago until the others have at most ``max_bytes``; only its own files."""
    found = []
    for path in folder.glob("*/*"):
        if OURS.match(path.name):
            with suppress(FileNotFoundError):  # another process prunes too
                found.append((path.stat(), path))
    total = sum(stat.st_size for stat, _ in found)
    for stat, path in sorted(found, key=lambda item: item[0].st_mtime):
        if total <= max_bytes:
            return
        path.unlink(missing_ok=True)
        total -= stat.st_size
