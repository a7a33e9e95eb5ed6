"""What the job scripts share: their arguments become a `hat-ray` command on the cluster that runs the job."""

import sys
from pathlib import PurePosixPath

from hat_ray.cli import main


def submit(*command: str) -> None:
    """Run a `hat-ray` command with `--recipe NAME --run PLACE [other options]` from the job's own arguments."""
    arguments = list(sys.argv[1:])
    if "--recipe" not in arguments or "--run" not in arguments[:-1]:
        sys.exit(f"usage: {sys.argv[0]} --recipe NAME --run ABSOLUTE_PATH_OR_URI [--set key=value ...]")
    place = arguments[arguments.index("--run") + 1]
    if "://" not in place and not PurePosixPath(place).is_absolute():
        sys.exit(f"--run must be an absolute path or a URI that all nodes reach, got {place!r}: a job's folder is lost")
    index = arguments.index("--recipe")
    recipe = arguments[index + 1]
    main([*command, recipe, *arguments[:index], *arguments[index + 2 :]])
