"""Work on one frame over threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache


@lru_cache(maxsize=1)
def _pool(pid: int, size: int) -> ThreadPoolExecutor:
    """One pool a process (a forked child gets its own, since threads do not survive a fork)."""
    return ThreadPoolExecutor(size, thread_name_prefix="rasteriser")


def over(threads: int, work: Callable[[int], None]) -> None:
    """Calls ``work(0)`` to ``work(threads - 1)``, each on a thread of its own, and waits for all.

    Raises:
        Exception: Whatever ``work`` raises.
    """
    if threads == 1:
        work(0)
        return
    pool = _pool(os.getpid(), max(threads - 1, os.cpu_count() or 1))
    futures = [pool.submit(work, t) for t in range(1, threads)]
    try:
        work(0)
    finally:
        wait(futures)  # also where one has failed: the others still write to the caller's arrays
    for future in futures:
        future.result()
