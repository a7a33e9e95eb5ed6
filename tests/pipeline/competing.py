"""Drivers that compete for one run folder, and die in the middle of it; forked, so that none waits for its imports."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path

from hat_ray.cli import main
from hat_ray.core.lease import Lease


def drive(arguments: list[str], said: Path, changes: int | None, insist: bool, environment: Mapping[str, str]) -> None:
    """Do a command; die before change number `changes` of what is leased, or, to `insist`, try until nobody is there.

    What it says goes to the file `said`; its exit code is the command's.
    """
    os.environ.update(environment)
    if changes is not None:
        die_before(changes)
    code = None
    while code is None or (insist and code == 2 and "in use by process" in said.read_text(encoding="utf-8")):
        with open(said, "w", encoding="utf-8") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        try:
            main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
    os._exit(code)


def die_before(changes: int) -> None:
    """Kill this process the moment it asks for the right to one more change than these."""
    check, left = Lease.check, [changes]

    def check_or_die(lease: Lease) -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        check(lease)

    Lease.check = check_or_die  # type: ignore[method-assign,assignment]
