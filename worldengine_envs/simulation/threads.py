"""Worlds over threads: each thread steps a range of worlds, so results cannot depend on how many there are."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from worldengine_envs.errors import DataError
from worldengine_envs.hardware import cores

MIN_WORLDS_PER_THREAD = 8  # fewer are not worth waking a thread for (a world steps in about 20 us)


def num_threads() -> int:
    """Returns the number of threads: ``WORLDENGINE_THREADS`` or the processors of this machine.

    Raises:
        DataError: ``WORLDENGINE_THREADS`` is not a positive whole number.
    """
    text = os.environ.get("WORLDENGINE_THREADS")
    if text is None:
        return cores()
    if not text.strip().isdecimal() or int(text) < 1:
        raise DataError(f"{text!r} is not a number of threads", field="WORLDENGINE_THREADS", remedy="Set it to 1 or more")
    return int(text)


@lru_cache(maxsize=1)
def _pool(pid: int, size: int) -> ThreadPoolExecutor:
    """One pool a process (a forked child gets its own, since threads do not survive a fork)."""
    return ThreadPoolExecutor(size, thread_name_prefix="worlds")


def run_over_worlds(kernel, n: int, *args) -> None:
    """Calls ``kernel(start, stop, *args)`` over ranges that make up 0..n, on a shared pool of threads.

    Args:
        kernel: A function that releases the GIL (numba ``nogil``) and treats worlds start..stop-1, each one by itself.
        n: Number of worlds.
        args: Handed on as they are; arrays are written in place.

    Raises:
        Exception: Whatever the kernel raises.
    """
    threads = min(num_threads(), max(n // MIN_WORLDS_PER_THREAD, 1))
    if threads == 1:
        kernel(0, n, *args)
        return
    bounds = [n * i // threads for i in range(threads + 1)]
    pool = _pool(os.getpid(), num_threads())
    futures = [pool.submit(kernel, bounds[i], bounds[i + 1], *args) for i in range(1, threads)]
    try:
        kernel(bounds[0], bounds[1], *args)
    finally:
        for future in futures:
            future.result()
