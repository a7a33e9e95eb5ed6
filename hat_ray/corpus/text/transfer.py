"""One HTTP download: streamed to a `.part` file, resumed with a Range request, tried again with growing pauses.

Decisions
- Nothing but HTTP is spoken: a redirection to another scheme is refused, and so is one that gives up encryption.
- No byte beyond the bound is written, whatever the server announces.
"""

import http.client
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from hat_ray.core.progress import Progress, no_progress
from hat_ray.errors import CorpusError, StorageError
from hat_ray.storage.places import redacted
from hat_ray.storage.plain_file import printable, read_text

_BLOCK_BYTES = 1 << 18
_LONGEST_PAUSE_S = 30.0
_MARK_BYTES = 1 << 16
_PASSING = {408, 425, 429, 500, 502, 503, 504}
"""HTTP answers that another try may mend."""

log = logging.getLogger(__name__)


class Transfer:
    """The download of one file to a `.part` file beside `place`, which the caller checks and renames."""

    def __init__(
        self,
        url: str,
        place: Path,
        timeout_s: float,
        tries: int,
        sleep: Callable[[float], None] = time.sleep,
        max_bytes: int = 1 << 40,
    ) -> None:
        self.url, self._timeout_s, self._tries, self._sleep = url, timeout_s, tries, sleep
        self._max_bytes, self._opener = max_bytes, _web()
        self._part = place.with_name(f"{place.name}.part")
        self._mark = place.with_name(f"{place.name}.part.json")

    def run(self, progress: Progress = no_progress) -> Path:
        """Fetch all bytes and return the `.part` file.

        Raises StorageError after `tries` tries without a new byte, and CorpusError for an address that no try can mend.
        """
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
                    message = self._message(f"the server answers {error.code} {error.reason}", "check its address")
                    raise CorpusError(message) from error
                reason = f"the server answers {error.code} {error.reason}"
            except _RedirectionError as error:
                raise CorpusError(self._message(str(error), "name the address that it stands for")) from error
            except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
                reason = str(getattr(error, "reason", error)) or type(error).__name__
            failures = 1 if self._size() > before else failures + 1
            if failures >= self._tries:
                raise StorageError(self._message(f"{reason}, {failures} times", "try again later"))
            pause = min(2.0 ** (failures - 1), _LONGEST_PAUSE_S)
            log.warning("%s broke off at %d bytes (%s); again in %.0f s", self.url, self._size(), reason, pause)
            self._sleep(pause)

    def discard(self) -> None:
        """Delete the partial file."""
        self._part.unlink(missing_ok=True)
        self._mark.unlink(missing_ok=True)

    def _go_on(self, progress: Progress) -> None:
        """Request the missing bytes and append them; raises ConnectionError when the answer ends too early."""
        have, version = self._size(), self._version()
        request = urllib.request.Request(self.url, headers={"User-Agent": "hat-ray", "Accept-Encoding": "identity"})
        if have and version:
            request.add_header("Range", f"bytes={have}-")
            request.add_header("If-Range", version)
        with self._opener.open(request, timeout=self._timeout_s) as answer:
            resumed = answer.status == 206 and _begins_at(answer, have)
            if answer.status == 206 and not resumed:
                raise ConnectionError("the server sent another range than was asked for")
            first = have if resumed else 0
            length = str(answer.headers.get("Content-Length", ""))
            total = first + int(length) if length.isdecimal() and len(length) < 20 else 0
            self._require_room(total)
            self._note_version(answer)
            done = self._append(answer, first, total, progress)
        if total and done != total:
            raise ConnectionError(f"the answer ended after {done} of {total} bytes")

    def _append(self, answer: Any, first: int, total: int, progress: Progress) -> int:
        """Write an answer's body from byte `first` on; return the bytes that are there then."""
        done, started = first, time.monotonic()
        with open(self._part, "ab" if first else "wb") as file:
            while block := answer.read(_BLOCK_BYTES):
                self._require_room(done + len(block))
                file.write(block)
                done += len(block)
                seconds = max(time.monotonic() - started, 1e-6)
                progress(done, max(total, done), {"MB_per_s": (done - first) / seconds / 1e6})
        return done

    def _require_room(self, size: int) -> None:
        if size > self._max_bytes:
            self.discard()
            raise CorpusError(
                f"{self.url} is larger than corpus.max_download_gb {self._max_bytes / 1e9:g} allows: raise it, or give "
                "the files yourself with --data FOLDER"
            )

    def _size(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0

    def _version(self) -> str:
        """Return the mark of the file version that the `.part` file is of; empty when it cannot be resumed."""
        try:
            version = json.loads(read_text(self._mark, "the mark of a download", CorpusError, _MARK_BYTES))["version"]
        except (CorpusError, ValueError, KeyError, TypeError, RecursionError):
            return ""
        # no header may hold anything else, and a server sends nothing else
        return version if isinstance(version, str) and version.isascii() and version.isprintable() else ""

    def _note_version(self, answer: Any) -> None:
        """Keep a strong ETag or the date: with it the server sends the rest only if the file is still the same."""
        etag = answer.headers.get("ETag", "")
        version = etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified", "")
        self._mark.write_text(json.dumps({"url": self.url, "version": version}))

    def _message(self, reason: str, remedy: str) -> str:
        return f"cannot download {self.url}: {reason}; {remedy}, or give the files yourself with --data FOLDER"


class _RedirectionError(Exception):
    """A redirection that is not followed."""


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Follows redirections within the web, and never from an encrypted place to an open one."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        scheme = newurl.partition(":")[0].lower()
        if scheme != "https" and (scheme != "http" or req.full_url.startswith("https:")):
            raise _RedirectionError(
                f"it is redirected to {printable(redacted(newurl))}, which is not "
                + ("encrypted" if scheme == "http" else "on the web")
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        """Ask about the scheme first: the handler's own refusal reads like a failure of the server."""
        if target := headers.get("location", headers.get("uri", "")):
            self.redirect_request(req, fp, code, msg, headers, urljoin(req.full_url, target))
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _web() -> urllib.request.OpenerDirector:
    """Return an opener that speaks HTTP and HTTPS and nothing else: no files, no FTP, no data URLs."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        *(urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler()),
        *(urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor(), _Redirections()),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _begins_at(answer: Any, first: int) -> bool:
    return str(answer.headers.get("Content-Range", "")).startswith(f"bytes {first}-")
