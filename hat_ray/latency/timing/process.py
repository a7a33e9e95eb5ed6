"""The state of the process while it times: priority, garbage collection."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def collected() -> Iterator[None]:
    """Free unreachable objects once, and set those that are left aside: later collections do not visit them.

    A collection visits every object of PyTorch, Ray and their likes: a third of a second, before each timing.
    """
    gc.collect()
    ours = gc.get_freeze_count() == 0
    if ours:
        gc.freeze()
    try:
        yield
    finally:
        if ours:
            gc.unfreeze()


@contextmanager
def steady() -> Iterator[int | None]:
    """Give this process normal priority and no garbage collection; yield the niceness that holds."""
    collecting = gc.isenabled()
    if collecting:
        gc.collect()
        gc.disable()
    try:
        with normal_priority() as niceness:
            yield niceness
    finally:
        if collecting:
            gc.enable()


@contextmanager
def normal_priority() -> Iterator[int | None]:
    """Run at niceness 0 where this process lags behind it and may change it; yield the niceness that holds.

    Ray starts its workers at niceness +15. On Linux niceness belongs to each thread: all that exist are set, and later
    ones inherit. None where the system has no niceness.
    """
    if not hasattr(os, "setpriority"):
        yield None
        return
    before = {thread: _niceness(thread) for thread in _threads()}
    for thread, niceness in before.items():
        if niceness is not None and niceness > 0:
            _set(thread, 0)
    try:
        yield os.getpriority(os.PRIO_PROCESS, 0)
    finally:
        for thread, niceness in before.items():
            if niceness is not None and niceness > 0:
                _set(thread, niceness)


def _threads() -> list[int]:
    try:
        return [int(entry.name) for entry in Path("/proc/self/task").iterdir()]
    except OSError:
        return [0]  # not Linux: the process as a whole


def _niceness(thread: int) -> int | None:
    try:
        return os.getpriority(os.PRIO_PROCESS, thread)
    except OSError:  # ended meanwhile
        return None


def _set(thread: int, niceness: int) -> None:
    try:
        os.setpriority(os.PRIO_PROCESS, thread, niceness)
    except OSError:  # not allowed, or ended meanwhile: the row records the niceness that held
        return
