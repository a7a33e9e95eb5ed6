"""Run something in a process of its own whose memory and time are bounded, and learn what came of it."""

import json
import resource
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import torch

from tests.processes import SERVER, process_of
from tests.waiting import PATIENCE_S


def bounded(function: Callable[[], Any], more_bytes: int = 1 << 30, seconds: int = 60) -> Any:
    """Return what a function returns, as JSON keeps it; fail when it wants more memory or time, or raises.

    `more_bytes` is address space beyond what its process has: what would be reserved and never touched counts too.
    """
    reader, writer = SERVER.Pipe(duplex=False)
    child = process_of(lambda pipe: _run(function, pipe, more_bytes, seconds), writer)
    child.start()
    writer.close()
    try:
        # seconds of computing are bounded; how long it waits for a processor is not what is asked
        answer = reader.recv_bytes() if reader.poll(PATIENCE_S + 2 * seconds) else b""
    except EOFError:
        answer = b""
    finally:
        reader.close()
        child.kill()
        child.join()
    assert answer, f"it took more than {seconds} s, or its process died (exit code {child.exitcode})"
    result = json.loads(answer)
    assert "error" not in result, result["error"]
    return result["value"]


def _run(function: Callable[[], Any], writer: Connection, more_bytes: int, seconds: int) -> None:
    _take_what_libraries_keep()
    try:
        if sys.platform == "linux":
            with open("/proc/self/statm", encoding="ascii") as file:
                here = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (here + more_bytes, here + more_bytes))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        answer = {"value": function()}
    except BaseException:
        answer = {"error": traceback.format_exc()}
    writer.send_bytes(json.dumps(answer).encode())


def _take_what_libraries_keep() -> None:
    """Let PyArrow and PyTorch reserve their pools, which are no part of the work: PyArrow's alone is a gigabyte."""
    table = pa.table({"x": pa.array([1, 2])})
    file = pa.BufferOutputStream()
    pq.write_table(table, file)
    pads.dataset(pq.read_table(pa.BufferReader(file.getvalue()))).to_table()
    torch.ones(2, 2).sum()
