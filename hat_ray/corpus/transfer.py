"""One HTTP download: streamed to a `.part` file, resumed with a Range request, tried again with growing pauses."""

import http.client
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hat_ray.errors import CorpusError
from hat_ray.progress import Progress, silent

_BLOCK_BYTES = 1 << 18
_LONGEST_PAUSE_S = 30.0
_PASSING = {408, 425, 429, 500, 502, 503, 504}
"""HTTP answers that another try may mend."""

log = logging.getLogger(__name__)


class Transfer:
    """The download of one file to a `.part` file beside `place`, which the caller checks and renames."""

    def __init__(
        self, url: str, place: Path, timeout_s: float, tries: int, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.url, self._timeout_s, self._tries, self._sleep = url, timeout_s, tries, sleep
        self._part = place.with_name(f"{place.name}.part")
        self._mark = place.with_name(f"{place.name}.part.json")

    def run(self, progress: Progress = silent) -> Path:
        """Fetch all bytes and return the `.part` file; raises CorpusError after `tries` tries without a new byte."""
        failures = 0
        while True:
            before = self._size()
            try:
                self._go_on(progress)
                self._mark.unlink(missing_ok=True)
                return self._part
            except urllib.error.HTTPError as error:
                if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{before}":
                    return self._part  # all of it came before the process was killed
                if error.code == 416:
                    self.discard()
                elif error.code not in _PASSING:
                    raise self._failure(
                        f"the server answers {error.code} {error.reason}", "check its address"
                    ) from error
                reason = f"the server answers {error.code} {error.reason}"
            except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
                reason = str(getattr(error, "reason", error)) or type(error).__name__
            failures = 1 if self._size() > before else failures + 1
            if failures >= self._tries:
                raise self._failure(f"{reason}, {failures} times")
            pause = min(2.0 ** (failures - 1), _LONGEST_PAUSE_S)
            log.warning("%s broke off at %d bytes (%s); again in %.0f s", self.url, self._size(), reason, pause)
            self._sleep(pause)

    def discard(self) -> None:
        """Delete what was fetched."""
        self._part.unlink(missing_ok=True)
        self._mark.unlink(missing_ok=True)

    def _go_on(self, progress: Progress) -> None:
        """Ask for what is missing and append it; raises ConnectionError when the answer ends too early."""
        have, version = self._size(), self._version()
        request = urllib.request.Request(self.url, headers={"User-Agent": "hat-ray", "Accept-Encoding": "identity"})
        if have and version:
            request.add_header("Range", f"bytes={have}-")
            request.add_header("If-Range", version)
        with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:
            resumed = answer.status == 206 and _begins_at(answer, have)
            if answer.status == 206 and not resumed:
                raise ConnectionError("the server sent another range than was asked for")
            first = have if resumed else 0
            length = answer.headers.get("Content-Length")
            total = first + int(length) if length is not None else 0
            self._note_version(answer)
            done = self._append(answer, first, total, progress)
        if total and done != total:
            raise ConnectionError(f"the answer ended after {done} of {total} bytes")

    def _append(self, answer: Any, first: int, total: int, progress: Progress) -> int:
        """Write an answer's body from byte `first` on; return the bytes that are there then."""
        done, started = first, time.monotonic()
        with open(self._part, "ab" if first else "wb") as file:
            while block := answer.read(_BLOCK_BYTES):
                file.write(block)
                done += len(block)
                seconds = max(time.monotonic() - started, 1e-6)
                progress(done, max(total, done), {"MB_per_s": (done - first) / seconds / 1e6})
        return done

    def _size(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0

    def _version(self) -> str:
        """Return the mark of the file version that the `.part` file is of; empty when it cannot be resumed."""
        try:
            return str(json.loads(self._mark.read_text())["version"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return ""

    def _note_version(self, answer: Any) -> None:
        """Keep a strong ETag or the date: with it the server sends the rest only if the file is still the same."""
        etag = answer.headers.get("ETag", "")
        version = etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified", "")
        self._mark.write_text(json.dumps({"url": self.url, "version": version}))

    def _failure(self, reason: str, remedy: str = "try again later") -> CorpusError:
        return CorpusError(
            f"cannot download {self.url}: {reason}; {remedy}, or give the files yourself with --data FOLDER"
        )


def _begins_at(answer: Any, first: int) -> bool:
    return str(answer.headers.get("Content-Range", "")).startswith(f"bytes {first}-")
