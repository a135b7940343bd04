"""Folders that are written whole or not at all: into a hidden folder beside the target, renamed at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from worldengine_envs.errors import DataError


@contextlib.contextmanager
def new_folder(target: Path, mark: str, what: str, overwrite: bool = False) -> Iterator[Path]:
    """Gives an empty hidden folder that takes the place of ``target`` if the body succeeds, and is removed if it does not.

    Args:
        target: Where the folder goes; its parent is made if need be.
        mark: File that tells a folder of this kind; one without it is never replaced.
        what: Word for such a folder: "pack".
        overwrite: Replace one that is there.

    Raises:
        DataError: ``target`` exists and may not be replaced.
    """
    _check_target(target, mark, what, overwrite)
    with _made_parents(target), _temporary_folder(target) as folder:
        yield folder
        _move_into_place(folder, target)


def _check_target(target: Path, mark: str, what: str, overwrite: bool) -> None:
    if not target.exists() and not target.is_symlink():
        return
    if not (target / mark).is_file():
        raise DataError(f"exists and is no {what}", file=target, remedy="Choose another folder")
    if not overwrite:
        raise DataError("exists", file=target, remedy="Choose another folder, or remove it first (in Python: overwrite=True)")


def _move_into_place(folder: Path, target: Path) -> None:
    if not target.exists():
        folder.rename(target)
        return
    old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.")) / "old"
    try:
        target.rename(old)
        folder.rename(target)
    except BaseException:
        if old.exists():
            old.rename(target)  # if not even this succeeds, the old pack stays where it is
        old.parent.rmdir()
        raise
    shutil.rmtree(old.parent)


@contextlib.contextmanager
def _made_parents(target: Path) -> Iterator[None]:
    """Makes the parents of a folder, and removes those it made if the body fails."""
    missing = [p for p in target.parents if not p.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for parent in missing:
            with contextlib.suppress(OSError):  # not empty: somebody else uses it by now
                parent.rmdir()
        raise


@contextlib.contextmanager
def _temporary_folder(target: Path) -> Iterator[Path]:
    """Gives a new hidden folder beside ``target`` with the usual permissions, and removes it if it is still there at the end."""
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        umask = os.umask(0)
        os.umask(umask)
        folder.chmod(0o777 & ~umask)
        yield folder
    finally:
        if folder.exists():
            shutil.rmtree(folder)
