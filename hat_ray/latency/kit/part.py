"""A part: the rows that a board timed, as lines of JSON that only ever grow. Needs the standard library alone.

    {"content": HEADER, "sha256": ...}
    {"content": ROW, "sha256": ...}

The header names the kit, the device and the workload. A row names the architecture, and what its visits gave until
then: the last row of an architecture counts.

Decisions
- Each line has the SHA-256 of its content and of the line before it: a changed, missing or moved line is noticed.
- A line is on the disk before the next visit begins (fsync). What a power cut leaves of the last line is dropped; a
  damaged line before it is refused.
- Nothing is executed or unpickled, on either side.
"""

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from hat_ray.errors import LatencyError
from hat_ray.latency.kit.plan import canonical

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

FORMAT = 1
SUFFIX = ".jsonl"
LARGEST = 1 << 30
"""Bytes; a thousand architectures take a hundredth."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class PartContent:
    """What a part holds."""

    header: Mapping[str, Any]
    rows: Mapping[str, Mapping[str, Any]]
    """The last row of each architecture, by its id."""
    seal: str
    """SHA-256 of the last line, which follows from all lines before it."""
    end: int
    """Bytes of the whole lines."""


def read_part(path: str | os.PathLike[str]) -> PartContent:
    """Read a part; a last line that was cut is passed over.

    Raises LatencyError where it is no part, or a line before the last one is damaged.
    """
    try:
        size = os.stat(path).st_size
        if size > LARGEST:
            raise LatencyError(f"{path} must have at most {LARGEST} bytes, got {size}: it is no part of a kit")
        content = Path(path).read_bytes()
    except OSError as error:
        raise LatencyError(f"{path} cannot be read ({error.strerror}): name a part that measure.py wrote") from error
    lines = content.split(b"\n")
    whole = lines[:-1]  # behind the last end of line stands nothing, or a line that was cut
    seal, end = "", 0
    header: Mapping[str, Any] | None = None
    rows: dict[str, Mapping[str, Any]] = {}
    for number, line in enumerate(whole, 1):
        found = _checked(line, seal)
        if found is None and number > 1 and number == len(whole):
            break
        if found is None:
            raise LatencyError(f"{path} is damaged in line {number}, or no part of a kit: time into a new file")
        value, seal = found
        end += len(line) + 1
        if header is None:
            header = value
        else:
            rows[str(value.get("architecture_id"))] = value
    if header is None or header.get("format") != FORMAT:
        raise LatencyError(f"{path} is no part of a timing kit that this version reads: name one that measure.py wrote")
    return PartContent(header, rows, seal, end)


def _checked(line: bytes, seal: str) -> tuple[Mapping[str, Any], str] | None:
    """Return a line's content and seal, or None where it is damaged."""
    try:
        value = json.loads(line)
        content = value["content"]
        own = _seal(content, seal)
    except (ValueError, RecursionError, LookupError, TypeError):
        return None
    return (content, own) if isinstance(content, dict) and value.get("sha256") == own else None


def _seal(content: Mapping[str, Any], before: str) -> str:
    return hashlib.sha256(f"{before}\n{canonical(content)}".encode()).hexdigest()


class PartWriter:
    """A part that is open for appending, by one process."""

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        """Begin a part, or resume one of the same header; raises LatencyError where it is another's."""
        self.path = path
        self._file = self._open()
        try:
            self.rows: dict[str, Mapping[str, Any]] = {}
            self._seal = ""
            if path.stat().st_size == 0 or b"\n" not in self._head():
                self._cut(0)
                self._write({**header, "format": FORMAT})
                _keep_name(path)
            else:
                known = read_part(path)
                _require_same(path, known.header, header)
                self.rows, self._seal = dict(known.rows), known.seal
                self._cut(known.end)
        except BaseException:
            self._file.close()
            raise

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a row; it is on the disk when this returns."""
        self._write(row)
        self.rows[str(row["architecture_id"])] = row

    def close(self) -> None:
        self._file.close()

    def _open(self) -> BinaryIO:
        try:
            file = open(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644), "r+b", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise LatencyError(f"{self.path} cannot be written ({error.strerror}): name another with --part") from error
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                file.close()
                raise LatencyError(f"{self.path} is being written by another measure.py: wait for it") from error
        return file

    def _head(self) -> bytes:
        self._file.seek(0)
        return self._file.read(1 << 20)

    def _cut(self, size: int) -> None:
        self._file.truncate(size)
        self._file.seek(size)

    def _write(self, content: Mapping[str, Any]) -> None:
        own = _seal(content, self._seal)
        line = canonical({"content": content, "sha256": own}).encode() + b"\n"
        end = self._file.tell()
        try:
            written = 0
            while written < len(line):
                written += self._file.write(line[written:])
            os.fsync(self._file.fileno())
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self._cut(end)
            raise LatencyError(
                f"{self.path} has no room for a row: free some disk and run the same command again to resume"
            ) from error
        self._seal = own


def _keep_name(path: Path) -> None:
    """Write a new file's name to the disk: without that a power cut can take it."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _require_same(path: Path, found: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    """Raise LatencyError where a part is of another kit, device or ONNX Runtime."""
    if found.get("kit") != header["kit"]:
        raise LatencyError(f"{path} is a part of another kit: name a new file with --part, or move it away")
    for name, what in (("device_slug", "on the device"), ("onnxruntime", "with onnxruntime")):
        if found.get(name) != header[name]:
            raise LatencyError(
                f"{path} was begun {what} {found.get(name)}, this is {header[name]}: one part holds one of them; "
                "name a new file with --part"
            )
