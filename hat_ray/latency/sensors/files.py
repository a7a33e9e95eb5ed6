"""Small files of /proc and /sys, read at the least cost: a timing waits for them."""

import os
import re
from pathlib import Path

_AT_MOST = 1 << 16  # bytes; what is read here is far shorter
_NUMBERS = re.compile(r"\d+")


def read_text(path: Path | str) -> str:
    """Return a small file's text, or "" where it is absent, forbidden or failing (a sensor may answer EIO)."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(file, _AT_MOST).decode(errors="replace").strip("\0 \n")
    except OSError:
        return ""
    finally:
        os.close(file)


def read_int(path: Path | str) -> int | None:
    """Return the whole number that a file holds, or None."""
    try:
        return int(read_text(path))
    except ValueError:
        return None


def numbered(folder: Path, pattern: str) -> list[Path]:
    """Return the paths of a folder that match, in the order of their numbers: cpu2 before cpu10."""
    return sorted(folder.glob(pattern), key=lambda path: [int(part) for part in _NUMBERS.findall(path.name)])
