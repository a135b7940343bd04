"""How hot loops are compiled: decorators in place of ``numba.njit``.

Arrays are borrowed, not counted. Numba counts references to every array that a function takes out of a tuple or slices, and with
tuples of a dozen arrays these atomic operations cost many times the arithmetic. A kernel therefore never allocates and never
returns an array; numba refuses to compile one that does. Division follows IEEE 754 without a check for zero. No fast-math:
results are the same bits everywhere.

Compiled code is kept on disk. Numba alone compares only the file of the outermost function; here an edit of any module of the
project that it imports, however deep, makes it compile anew.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from numba import config, njit

_ROOT = Path(__file__).resolve().parents[2]  # folder of the packages
_IMPORT = re.compile(r"^\s*(?:from\s+(worldengine_\w[\w.]*)\s+import\s+\(?([^#\n]*)|import\s+(worldengine_\w[\w.]*))", re.MULTILINE)


def kernel(function: Callable) -> Callable:
    """Compiles a function that works on its caller's arrays: no allocation, no array returned."""
    return _compiled(function, error_model="numpy", _nrt=False)


def inlined_kernel(function: Callable) -> Callable:
    """As ``kernel``, for small functions: always made part of the caller, since handing on tuples of many arrays is dear."""
    return _compiled(function, error_model="numpy", _nrt=False, forceinline=True)


def allocating_kernel(function: Callable) -> Callable:
    """Compiles a function that may allocate and return arrays; for set-up, not for steps."""
    return _compiled(function)


def announce_compiling(kernels: Iterable[Callable], what: str) -> None:
    """Says on stderr, once a process, that kernels are about to be compiled, where their code is not on disk yet."""
    if config.DISABLE_JIT or what in _announced:
        return
    _announced.add(what)
    if not all(dispatcher._cache._cache_file._load_index() for dispatcher in kernels):
        print(f"worldengine: compiling {what} for this machine; it is kept for the next time", file=sys.stderr, flush=True)


_announced: set[str] = set()


def source_digest(module: str) -> str:
    """Returns a hash over the source of a module of the project and of all of the project's modules that it imports."""
    path = _ROOT.joinpath(*module.split("."))
    return _digest(path / "__init__.py" if path.is_dir() else path.with_suffix(".py"))


def _compiled(function: Callable, **options) -> Callable:
    dispatcher = njit(cache=True, nogil=True, **options)(function)
    if config.DISABLE_JIT:
        return dispatcher  # the function itself, to debug it in Python
    index = dispatcher._cache._cache_file
    index._source_stamp = (index._source_stamp, _digest(Path(function.__code__.co_filename)))
    return dispatcher


@cache
def _imports(path: Path) -> tuple[bytes, frozenset[Path]]:
    """Returns the hash of a source file and the files of the project's modules that it imports."""
    text = path.read_text(encoding="utf-8")
    names = set()
    for module, items, plain in _IMPORT.findall(text):
        names.add(module or plain)
        names.update(f"{module}.{item.split()[0]}" for item in items.split(",") if module and item.strip(" ()"))
    files = (_ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in names)
    return hashlib.sha256(text.encode()).digest(), frozenset(file for file in files if file.is_file())


@cache
def _digest(path: Path) -> str:
    """Returns a hash over a source file and all of the project's modules that it imports, directly or not."""
    todo, found = [path.resolve()], {}
    while todo:
        file = todo.pop()
        if file not in found:
            found[file], imported = _imports(file)
            todo.extend(imported)
    return hashlib.sha256(b"".join(found[file] for file in sorted(found))).hexdigest()
