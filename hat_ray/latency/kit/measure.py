"""Time the architectures of a timing kit on this board. Needs numpy and onnxruntime; no hat-ray, PyTorch or Ray.

    python3 measure.py

A kit holds this file and the files of hat-ray that it needs, byte for byte: a board times as a node of a fleet does, by
the same protocol, canary and sensors. Interrupt it whenever you like, or cut the power: the same command resumes.

Exit codes: 0 all are timed; 2 a mistake in what was given, named in one line; 130 interrupted.
"""

import sys
from importlib import import_module
from pathlib import Path


def start(kit: Path) -> int:
    """Check what this Python has, and time what the kit at a place lacks; return the exit code."""
    if sys.version_info < (3, 11):  # noqa: UP036 (a board's own Python may be older)
        return _refuse("this kit needs Python 3.11 or later, got {}.{}".format(*sys.version_info[:2]))
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(kit))
    try:
        board = import_module("hat_ray.latency.kit.board")
    except ImportError as missing:
        return _refuse(f"this kit needs numpy and onnxruntime ({missing}): do the first command of its README.md")
    return int(board.main(kit))


def _refuse(why: str) -> int:
    print(f"measure.py: error: {why}", file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    sys.exit(start(Path(__file__).resolve().parent))
