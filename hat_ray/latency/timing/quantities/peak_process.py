"""A process that loads one stored model, translates, and prints how much memory that took at most, in bytes.

`python -m hat_ray.latency.timing.quantities.peak_process FOLDER`; `peak_memory.py` fills the folder. Nothing
that a user's own process would not load is imported here: no PyTorch, unless the runtime's program imports it.
"""

import importlib
import json
import os
import re
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

JOB = "job.json"
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)


def main(folder: Path) -> None:
    """Do the folder's job; print the bytes of the GPU's memory where the job used one, else of resident memory."""
    threading.Thread(target=_end_with_the_asker, args=(folder,), daemon=True).start()
    job: dict[str, Any] = json.loads((folder / JOB).read_text(encoding="utf-8"))
    module, _, name = job["program"].partition(":")
    device_bytes = getattr(importlib.import_module(module), name)(folder, job)
    sys.stdout.write(f"{resident_bytes() if device_bytes is None else device_bytes}\n")


def _end_with_the_asker(folder: Path) -> None:
    """Delete the folder and end this process once the process that asked for the figure is gone."""
    while os.read(0, 1):  # not `sys.stdin`: its lock would abort a process that ends
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def resident_bytes() -> int:
    """Return the most bytes of memory that this process held."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        status = ""
    if found := _PEAK.search(status):
        return int(found[1]) * 1024
    resource = importlib.import_module("resource")  # macOS: bytes, of this process alone
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
