"""`hat-ray`: one command a stage, and `run` for all of them.

Exit codes: 0 success; 2 a user's mistake, told in one line; 1 a fault: of the storage or the machine in one line,
of ours with its traceback. With `--json` a command prints exactly one JSON object on stdout; progress and logs go to
stderr.

Each file here holds one group of commands; importing it adds them to the command line.
"""

from hat_ray.cli import own_path  # before anything that could be imported from the current folder

# isort: split

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from hat_ray import console
from hat_ray.cli import doctor, latency, models, predict, recipes, report, search, serve, serving, stages, train
from hat_ray.cli.app import app
from hat_ray.errors import storage_error, user_error
from hat_ray.faults import machine_failure
from hat_ray.places import redacted

__all__ = [
    "app",
    "doctor",
    "latency",
    "main",
    "models",
    "predict",
    "recipes",
    "report",
    "search",
    "serve",
    "serving",
    "stages",
    "train",
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    own_path.leave_current_folder_out()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    call: Callable[..., Any] = app
    try:
        call(args=list(arguments) if arguments is not None else None, prog_name="hat-ray")
    except KeyboardInterrupt:
        console.say("hat-ray: stopped; the same command goes on from here")
        sys.exit(130)
    except Exception as error:
        mistake, failure = user_error(error), storage_error(error) or machine_failure(error)
        if mistake is None and failure is None:
            raise
        console.say(f"hat-ray: error: {redacted(' '.join(str(mistake or failure).split()))}")
        sys.exit(1 if mistake is None else 2)
