"""Run something in a process of its own whose memory and time are bounded, and learn what came of it."""

import json
import os
import resource
import select
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any


def bounded(function: Callable[[], Any], more_bytes: int = 1 << 30, seconds: int = 60) -> Any:
    """Return what a function returns, as JSON keeps it; fail when it wants more memory or time, or raises.

    `more_bytes` is address space beyond what this process has: what would be reserved and never touched counts too.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _run(function, writer, more_bytes, seconds)
    os.close(writer)
    try:
        told = _read(reader, seconds)
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert told, f"it took more than {seconds} s, or its process died"
    result = json.loads(told)
    assert "error" not in result, result["error"]
    return result["value"]


def _run(function: Callable[[], Any], writer: int, more_bytes: int, seconds: int) -> None:
    try:
        if sys.platform == "linux":
            with open("/proc/self/statm", encoding="ascii") as file:
                here = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (here + more_bytes, here + more_bytes))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        told = {"value": function()}
    except BaseException:
        told = {"error": traceback.format_exc()}
    finally:
        with os.fdopen(writer, "w") as pipe:
            pipe.write(json.dumps(told) + "\n")
        os._exit(0)


def _read(reader: int, seconds: int) -> str:
    """Read until the child has said all; it may wait for a processor as long as it computes."""
    told = b""
    while select.select([reader], [], [], 30.0 + 2 * seconds)[0]:
        block = os.read(reader, 1 << 20)
        told += block
        if not block:
            break
    return told.decode()
