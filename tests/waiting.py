"""Wait for what processes and clusters do: it comes when the machine gets to it.

The deadline is for what never comes. It is long, so that no test decides by the time that a busy machine takes.
"""

import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE_S = 240.0


def wait_for(
    happened: Callable[[], T],
    otherwise: str | Callable[[], str] = "nothing happened",
    seconds: float = PATIENCE_S,
    every_s: float = 0.05,
) -> T:
    """Return what a function returns once that counts as true; fail with `otherwise` where it never does."""
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, otherwise if isinstance(otherwise, str) else otherwise()
        time.sleep(every_s)
    return found


def end(process: "subprocess.Popen[bytes] | subprocess.Popen[str]") -> None:
    """Ask a process that the test started to end, and end one that does not."""
    process.terminate()
    try:
        process.wait(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=PATIENCE_S)
