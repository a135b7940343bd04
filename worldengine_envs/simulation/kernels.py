"""How hot loops are compiled: two decorators in place of ``numba.njit``.

Arrays are borrowed, not counted. Numba counts references to every array that a function takes out of a tuple or slices, and with
tuples of a dozen arrays these atomic operations cost many times the arithmetic. A kernel therefore never allocates and never
returns an array; numba refuses to compile one that does. Division follows IEEE 754 without a check for zero. No fast-math:
results are the same bits everywhere.
"""

from __future__ import annotations

from collections.abc import Callable

from numba import njit

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}


def kernel(function: Callable) -> Callable:
    """Compiles a function that works on caller's arrays: no allocation, no array returned."""
    return njit(**_OPTIONS)(function)


def inlined_kernel(function: Callable) -> Callable:
    """As ``kernel``, for small functions: always made part of the caller, since handing on tuples of many arrays is dear."""
    return njit(**_OPTIONS, forceinline=True)(function)
