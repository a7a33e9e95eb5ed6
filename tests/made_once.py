"""What is expensive to make is made once for all workers of pytest-xdist; each of them has a copy of its own."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that `make` filled, here or in another worker, and that only this worker changes.

    What is made must not depend on where it lies.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        place = factory.mktemp("made") / name
        make(place)
        return place
    common, own = factory.getbasetemp().parent / "made-once", factory.mktemp("made") / name
    common.mkdir(exist_ok=True)
    with (common / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # who comes second waits here
        if not (common / name).exists():
            make(own)
            shutil.copytree(own, common / f"{name}.part", symlinks=True)
            (common / f"{name}.part").rename(common / name)
            return own
    shutil.copytree(common / name, own, symlinks=True)
    return own
