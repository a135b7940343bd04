"""Processes that judge candidates, one a core."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from multiprocessing.connection import wait

from worldengine_envs.errors import WorldEngineError

Submit = Callable[..., Future]


@contextlib.contextmanager
def judges(workers: int) -> Iterator[Submit]:
    """Gives a function that has calls carried out by worker processes (by this one if there is one worker) as futures.

    If the body is left early, by Ctrl-C for example, calls that have not begun are dropped and the others end first (seconds).

    Raises:
        WorldEngineError: A process was killed.
    """
    if workers == 1:
        yield _here
        return
    executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin)
    resource_tracker.ensure_running()  # of itself it would start within submit, and let signals through again

    def submit(function: Callable, *args) -> Future:
        with _interrupts_held():
            return executor.submit(function, *args)

    try:
        yield submit
    except BrokenProcessPool:
        raise WorldEngineError("a worker process was killed (out of memory?); run the command again to go on") from None
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Holds Ctrl-C back until the end: a process that is started meanwhile never sees it, not even before it is ready."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _here(function: Callable, *args) -> Future:
    """Calls a function now; an exception is raised at once."""
    future: Future = Future()
    future.set_result(function(*args))
    return future


def _begin() -> None:
    """Makes a new process ready: one thread, Ctrl-C is the parent's business, and it ends with the parent."""
    os.environ["WORLDENGINE_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
