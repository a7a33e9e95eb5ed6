"""Processes of a test's own, each forked from a server with everything imported that has computed nothing.

A process that is forked from the test's own would wait for ever for threads that did not come along: GNU OpenMP's, once
PyTorch has computed with more than one, and those that hold a lock.
"""

import multiprocessing
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import cloudpickle

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["pytest", "torch", "tests.processes", "tests.command", "hat_ray.api"])


def process_of(function: Callable[..., Any], *arguments: Any) -> BaseProcess:
    """Return a process, not yet started, that calls a function in this folder and environment.

    The function may be local to a test, the arguments may be pipes; what the test changed of modules stays behind.
    """
    return SERVER.Process(target=_call, args=(cloudpickle.dumps(function), dict(os.environ), *arguments))


def processes_of(mark: str, title: str = "") -> list[int]:
    """Return the processes whose environment holds a mark, which children inherit, and whose command holds a title."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # a process may end while we look
            if title.encode() in (entry / "cmdline").read_bytes() and mark.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


def _call(function: bytes, environment: Mapping[str, str], *arguments: Any) -> None:
    become(environment)
    cloudpickle.loads(function)(*arguments)


def become(environment: Mapping[str, str]) -> None:
    """Take an environment in place of the server's."""
    os.environ.clear()
    os.environ.update(environment)
