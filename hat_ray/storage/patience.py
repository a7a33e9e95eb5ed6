"""Patience with a storage: what may pass by itself is tried again before it is an error.

Decisions
- A fault that may pass (no answer, 5xx, throttling, a broken connection, EIO of a network disk) is tried again with
  growing pauses for `HAT_RAY_STORAGE_PATIENCE_S` seconds from its first appearance.
- So is a refusal of a remote storage, on a new connection: credentials expire and are renewed meanwhile. PyArrow never
  tries a refusal (403) again by itself; 5xx and broken connections it tries thirty times, within 6 to 100 seconds.
"""

import logging
import os
import random
import time
from collections.abc import Callable
from typing import TypeVar

import pyarrow as pa

from hat_ray.errors import HatRayError
from hat_ray.storage import faults, places

Result = TypeVar("Result")
PATIENCE = "HAT_RAY_STORAGE_PATIENCE_S"
DEFAULT_PATIENCE_S = 120.0
_Patiently = Callable[[Callable[[], bytes]], bytes]
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0

log = logging.getLogger(__name__)


def patience_s() -> float:
    """Return for how long a storage that does not answer is asked again, in seconds."""
    text = os.environ.get(PATIENCE, "")
    try:
        seconds = float(text) if text else DEFAULT_PATIENCE_S
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise HatRayError(f"{PATIENCE} is a number of seconds, got {text!r}: set it to {DEFAULT_PATIENCE_S:.0f}, or 0")
    return seconds


def patiently(
    action: Callable[[], Result],
    place: str,
    remote: bool,
    patience: float | None = None,
    renew: Callable[[], None] | None = None,
) -> Result:
    """Return the result of `action`; repeat it after an error that may pass, with growing pauses, `renew` before each.

    Raises NotFoundError, a StorageError or another HatRayError for an `OSError` that stays.
    """
    pause, limit = _FIRST_PAUSE_S, None
    while True:
        try:
            return action()
        except OSError as error:
            if isinstance(error, HatRayError):
                raise
            if not faults.may_pass(error, remote):
                raise faults.error_of(error, place, remote) from error
            now = time.monotonic()
            if limit is None:
                limit = now + (patience_s() if patience is None else patience)
                log.warning("%s: %s; trying again for %.0f s", places.shown(place), faults.cause(error), limit - now)
            if now >= limit:
                raise faults.error_of(error, place, remote) from error
            time.sleep(min(pause * random.uniform(0.5, 1.0), max(limit - now, 0.0)))
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        if renew is not None:
            renew()


class PatientFile:
    """A file to be read in any order whose reads are tried again; for `pa.PythonFile`."""

    closed = False

    def __init__(self, open_file: Callable[[], pa.NativeFile], patiently: _Patiently) -> None:
        """`open_file` opens the file, patiently; `patiently` does a read."""
        self._open, self._patiently, self._at = open_file, patiently, 0
        self._file: pa.NativeFile | None = open_file()
        self._size = int(self._file.size())

    def read(self, count: int = -1) -> bytes:
        rest = max(self._size - self._at, 0)
        wanted = rest if count < 0 else min(count, rest)
        content = self._patiently(lambda: self._read(wanted))
        self._at += len(content)
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def size(self) -> int:
        return self._size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._file, self.closed = None, True

    def _read(self, count: int) -> bytes:
        if self._file is None:
            self._file = self._open()
        try:
            self._file.seek(self._at)
            return bytes(self._file.read(count))
        except OSError:
            self._file = None
            raise
