"""Read the manifest of an exported folder, and check it and every file that it names before anything is opened.

The exporter puts this file's text into the loader, which has to work alone: nothing but Python's own library here.

Decisions
- What is read has bounds: sizes, numbers of files, and every number that memory or time depends on.
- Names are plain names of plain files in the folder itself: no path, no link, no pipe, no device.
- A SHA-256 of each file, and of the manifest itself, tells damage. It tells no forgery: whoever changes a file can
  change its hash as well. An export is not signed; take it from where you would take a program.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MANIFEST, SEAL = "manifest.json", "sealed_sha256"

_MOST_MANIFEST_BYTES = 1 << 20
_MOST_FILES = 64
_MOST_BYTES = 16 << 30
_NAME, _SHA256 = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"), re.compile(r"[0-9a-f]{64}")
_NUMBERS: Mapping[str, tuple[type, float, float]] = {
    "vocab_size": (int, 1, 10_000_000),
    "max_positions": (int, 2, 1_000_000),
    "special_tokens.pad": (int, 0, 10_000_000),
    "special_tokens.eos": (int, 0, 10_000_000),
    "search.beam": (int, 1, 1_000),
    "search.length_penalty": (float, 0, 100),
    "search.max_length_factor": (float, 0, 1_000),
    "search.max_length_extra": (int, 1, 1_000_000),
    "search.max_source_length": (int, 2, 1_000_000),
    "search.batch_tokens": (int, 1, 10_000_000),
}


def read_manifest(folder: str | Path, kind: str, version: int) -> dict[str, Any]:
    """Return the manifest of an export of a kind and format; raises ValueError, in one line, where a thing is wrong."""
    place = Path(folder)
    try:
        manifest = json.loads(_plain_bytes(place / MANIFEST, _MOST_MANIFEST_BYTES), parse_constant=_no_number)
        if not isinstance(manifest, dict):
            raise ValueError(f"{MANIFEST} must hold an object")
        if manifest.get("kind") != kind or manifest.get("format") != version:
            raise ValueError(f"{MANIFEST} is not of an export that this loader reads (format {version})")
        if manifest.pop(SEAL, None) != seal_of(manifest):
            raise ValueError(f"{MANIFEST} is damaged: its content is not what its SHA-256 says")
        for name, (number, least, most) in _NUMBERS.items():
            _require_number(name, _at(manifest, name), number, least, most)
        if max(manifest["special_tokens"][name] for name in ("pad", "eos")) >= manifest["vocab_size"]:
            raise ValueError("special_tokens must lie within vocab_size")
        _require_files(place, manifest)
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, RecursionError) as error:
        why = " ".join(str(error).split())[:500]
        raise ValueError(f"{place} is not a whole export of hat-ray ({why}): export the model again") from error
    return manifest


def kind_of(folder: str | Path) -> object:
    """Return what kind of export a folder says that it is; None where it does not say."""
    try:
        manifest = json.loads(_plain_bytes(Path(folder) / MANIFEST, _MOST_MANIFEST_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return manifest.get("kind") if isinstance(manifest, dict) else None


def seal_of(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest without its seal."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _require_files(place: Path, manifest: Mapping[str, Any]) -> None:
    """Raise ValueError unless all that the manifest names is there, in bounds, and as it was."""
    files = manifest.get("files")
    if not isinstance(files, dict) or not 0 < len(files) <= _MOST_FILES:
        raise ValueError(f"files must name 1 to {_MOST_FILES} files with their SHA-256")
    for name in _named(manifest):
        if name not in files:
            raise ValueError(f"{name!r} must be one of files")
    left = _MOST_BYTES
    for name, expected in files.items():
        if not _NAME.fullmatch(name) or name == MANIFEST or not _SHA256.fullmatch(str(expected)):
            raise ValueError(f"files must have plain names and a SHA-256, got {name!r:.140}")
        found, size = _digest(place / name, left)
        left -= size
        if found != expected:
            raise ValueError(f"{name} is damaged: its SHA-256 differs")


def _named(manifest: Mapping[str, Any]) -> list[str]:
    """Return the files that other entries of the manifest name."""
    graphs = manifest.get("graphs", {})
    if not isinstance(graphs, dict) or not all(isinstance(name, str) for name in graphs.values()):
        raise ValueError("graphs must name files")
    lists = [manifest["short_lists"]] if "short_lists" in manifest else []
    names = [manifest.get("vocabulary"), *graphs.values(), *lists]
    if not all(isinstance(name, str) for name in names):
        raise ValueError("vocabulary, graphs and short_lists must name files")
    return [str(name) for name in names]


def _digest(path: Path, most: int) -> tuple[str, int]:
    """Return a plain file's SHA-256 and its size."""
    with os.fdopen(_open_plain(path, most), "rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
        return found, stream.tell()


def _plain_bytes(path: Path, most: int) -> bytes:
    with os.fdopen(_open_plain(path, most), "rb") as stream:
        return stream.read(most)


def _open_plain(path: Path, most: int) -> int:
    """Open a file that is neither a link nor anything that could wait, or never end; its descriptor."""
    about = path.lstat()
    if not stat.S_ISREG(about.st_mode) or about.st_size > most:
        raise ValueError(f"{path.name} must be a plain file of at most {most} bytes")
    return os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _at(manifest: Mapping[str, Any], name: str) -> object:
    """Return what stands at a dotted name; None where nothing does."""
    value: object = manifest
    for key in name.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _require_number(name: str, value: object, number: type, least: float, most: float) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (whole or (number is float and isinstance(value, float))) or not least <= value <= most:  # type: ignore[operator]
        kind = "a whole number" if number is int else "a number"
        raise ValueError(f"{name} must be {kind} from {least:g} to {most:g}, got {value!r:.60}")


def _no_number(text: str) -> float:
    raise ValueError(f"{MANIFEST} must hold finite numbers, got {text}")
