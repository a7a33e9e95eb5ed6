"""A `hat-ray` command as a Ray job: its words come first, then `--recipe` and `--run`.

ray job submit --address http://127.0.0.1:8265 --working-dir . -- \\
    python jobs/stage.py latency measure --recipe toy --run /shared/runs/toy
"""

import shlex
import sys
from collections.abc import Sequence
from itertools import takewhile
from pathlib import PurePosixPath

from hat_ray.cli import main
from hat_ray.storage.places import redacted


def submit(command: Sequence[str], arguments: Sequence[str], usage: str) -> None:
    """Run a command with `--recipe NAME --run PLACE [other options]` on the cluster that runs the job."""
    if not command or "--recipe" not in arguments[:-1] or "--run" not in arguments[:-1]:
        sys.exit(f"usage: {usage} --recipe NAME --run ABSOLUTE_PATH_OR_URI [--set key=value ...]")
    place = arguments[arguments.index("--run") + 1]
    if "://" not in place and not PurePosixPath(place).is_absolute():
        sys.exit(f"--run must be an absolute path or a URI that all nodes reach, got {place!r}: a job's folder is lost")
    index = arguments.index("--recipe")
    again = f"submit `{redacted(shlex.join(['python', *sys.argv]))}` again"
    main([*command, arguments[index + 1], *arguments[:index], *arguments[index + 2 :]], again)


if __name__ == "__main__":
    words = list(takewhile(lambda word: not word.startswith("-"), sys.argv[1:]))
    submit(words, sys.argv[1 + len(words) :], f"{sys.argv[0]} COMMAND")
