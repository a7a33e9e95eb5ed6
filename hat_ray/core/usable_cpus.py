"""The CPUs that this process may use: fewer than the machine has under `taskset`, in a container or in Ray's share.

Decisions
- A quota of 1.5 CPUs counts as one: a second thread would be stopped for half of each period, and the first would wait.
- Ray's share comes as a number from outside (`HAT_RAY_CPUS`): Ray itself stands only at the rim.
- A limit that the system does not report does not count.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SHARE = "HAT_RAY_CPUS"
"""The environment variable that names the number of CPUs that a process was given by its parent."""


def usable_cpus(root: Path = Path("/")) -> int:
    """Return the number of CPUs that this process may use, at least one; `root` stands for the file system's root."""
    limits = [_affinity(), *_quotas(root), _share()]
    return max(1, math.floor(min(limits)))


@contextmanager
def share(cpus: float) -> Iterator[None]:
    """Limit the CPUs that this process counts as its own meanwhile; 0: no limit."""
    before = os.environ.get(SHARE)
    os.environ[SHARE] = str(cpus)
    try:
        yield
    finally:
        if before is None:
            del os.environ[SHARE]
        else:
            os.environ[SHARE] = before


def _affinity() -> float:
    if hasattr(os, "sched_getaffinity"):
        return float(len(os.sched_getaffinity(0)))
    return float(os.cpu_count() or 1)


def _share() -> float:
    try:
        share = float(os.environ[SHARE])
    except (KeyError, ValueError):
        return math.inf
    return share if share > 0 else math.inf


def _quotas(root: Path) -> Iterator[float]:
    """Yield the CPUs that this process's control groups, and all that these lie in, allow."""
    groups = _groups(root)
    for kind, top, place in _mounts(root):
        group = groups.get(kind)
        if group is None:
            continue
        inside = group[len(top.rstrip("/")) :] if group.startswith(top) else ""  # a container sees its own as the top
        folder = root / place.lstrip("/")
        for name in ("", *inside.strip("/").split("/")):
            folder /= name
            yield _quota(folder)


def _groups(root: Path) -> dict[str, str]:
    """Return the place of this process among the groups of version 2 ("") and of version 1's CPU controller ("cpu")."""
    found: dict[str, str] = {}
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            found[""] = group
        elif "cpu" in controllers.split(","):
            found["cpu"] = group
    return found


def _mounts(root: Path) -> Iterator[tuple[str, str, str]]:
    """Yield ("" for version 2 or "cpu", the group that is mounted, where) of each mounted tree of groups."""
    for line in _lines(root / "proc/self/mountinfo"):
        own, _, system = line.partition(" - ")
        fields, kinds = own.split(), system.split()
        if len(fields) < 5 or len(kinds) < 3:
            continue
        if kinds[0] == "cgroup2":
            yield "", fields[3], fields[4]
        elif kinds[0] == "cgroup" and "cpu" in kinds[2].split(","):
            yield "cpu", fields[3], fields[4]


def _quota(folder: Path) -> float:
    """Return a group's own quota in CPUs: version 2 writes "200000 100000" or "max 100000", version 1 two files."""
    told = _text(folder / "cpu.max").split()
    if not told:
        told = [_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    try:
        quota, period = (float(number) for number in told)
    except ValueError:  # "max", or nothing
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf


def _lines(path: Path) -> list[str]:
    return _text(path).splitlines()


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
