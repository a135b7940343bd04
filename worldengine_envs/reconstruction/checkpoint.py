"""Checkpoints of a reconstruction: tensors and a few numbers in one safetensors file, replaced as a whole or not at all.

Nothing in it is ever run, and memory is taken only for what the file's size has shown to be there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from worldengine_envs.errors import DataError

FILE = "state.safetensors"
METADATA = "worldengine"  # key of safetensors metadata
FORMAT, FORMAT_VERSION = "worldengine-reconstruction", 1


def save_checkpoint(folder: str | os.PathLike, tensors: Mapping[str, Tensor], state: Mapping[str, object]) -> Path:
    """Writes a checkpoint into a folder, in place of the one that is there, and returns its file.

    Whenever the process or the machine stops, the folder holds the old checkpoint or the new one.

    Args:
        folder: Made if need be.
        tensors: By name; on any device.
        state: What JSON can say.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = {"format": FORMAT, "format_version": FORMAT_VERSION, "state": dict(state)}
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}  # no memory in common
    file, part = folder / FILE, folder / f".{FILE}.{os.getpid()}.part"
    try:
        save_file(plain, part, {METADATA: json.dumps(content)})
        _flush(part)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    _flush(folder)
    return file


def load_checkpoint(folder: str | os.PathLike) -> tuple[dict[str, Tensor], dict]:
    """Returns tensors and state of the checkpoint in a folder.

    Raises:
        DataError: There is none, or it is damaged or of another version.
    """
    file = Path(folder) / FILE
    remedy = "Begin anew in another folder"
    try:
        with safe_open(file, framework="pt") as stream:
            content = json.loads((stream.metadata() or {}).get(METADATA, "null"))
            if type(content) is not dict or (content.get("format"), content.get("format_version")) != (FORMAT, FORMAT_VERSION):
                raise DataError(f"is no {FORMAT!r} of version {FORMAT_VERSION}", file=file, field="format", remedy=remedy)
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise DataError(f"is no checkpoint ({str(error)[:80]})", file=file, remedy=remedy) from error
    if type(content.get("state")) is not dict:
        raise DataError("is no object", file=file, field="state", remedy=remedy)
    return tensors, content["state"]


def has_checkpoint(folder: str | os.PathLike) -> bool:
    """Whether there is a checkpoint in a folder."""
    return (Path(folder) / FILE).is_file()


def _flush(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
