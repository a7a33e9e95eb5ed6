"""`hat-ray`: one command a stage, and `run` for all of them.

Exit codes: 0 success; 2 a user's mistake, reported in one line; 1 a fault: of the storage or the machine in one line,
of ours with its traceback; 130 Ctrl-C, 143 SIGTERM, 141 a reader of stdout that has gone. With `--json` a command
prints exactly one JSON object on stdout; progress and logs go to stderr.

Each file of `commands` holds one group of commands; importing it adds them to the command line, at their first use.
"""

from hat_ray.cli import own_path  # before anything that could be imported from the current folder

# isort: split

import os
from collections.abc import Callable, Sequence
from typing import Any

from hat_ray.cli import streams
from hat_ray.cli.app import app
from hat_ray.core import console
from hat_ray.errors import storage_error, user_error
from hat_ray.storage.faults import machine_failure
from hat_ray.storage.places import redacted

__all__ = ["app", "main"]


def main(arguments: Sequence[str] | None = None, again: str = streams.AGAIN) -> None:
    """Run the command line and leave the process with its exit code; `again` says how to resume what is stopped."""
    own_path.leave_current_folder_out()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with streams.handled_signals(again):
        code = _run(None if arguments is None else list(arguments))
    if code == streams.STOPPED:
        console.say(f"hat-ray: interrupted: {again} to resume")
    streams.leave(code)


def _run(arguments: list[str] | None) -> int:
    """Run a command; return its exit code, or raise a fault of ours."""
    call: Callable[..., Any] = app
    try:
        streams.require_open()
        call(args=arguments, prog_name="hat-ray")
    except SystemExit as end:
        return streams.code_of(end)
    except KeyboardInterrupt:
        return streams.STOPPED
    except Exception as error:
        if streams.interrupted():
            return streams.STOPPED
        mistake, failure = user_error(error), storage_error(error) or machine_failure(error)
        if mistake is None and failure is None:
            raise
        console.say(f"hat-ray: error: {redacted(' '.join(str(mistake or failure).split()))}")
        return 1 if mistake is None else 2
    return 0
