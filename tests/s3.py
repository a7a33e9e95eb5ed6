"""A real S3 server (moto's, as a process of its own), and a way to it on which things go wrong when a test says so."""

import http.client
import itertools
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.waiting import end, wait_for

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_DEFAULT_REGION": "us-east-1",
}
_STATUS = {"refuse": (403, "ExpiredToken"), "busy": (503, "SlowDown"), "fail": (500, "InternalError")}
_CLEAN_HEADERS = {"transfer-encoding", "connection", "server", "date", "content-length", "keep-alive"}


@dataclass
class Faults:
    """What goes wrong for a share of the requests: `refuse` (403), `busy` (503), `fail` (500), `cut` (half a body)."""

    kind: str
    share: float = 0.5
    methods: tuple[str, ...] = ("GET",)
    seed: int = 0
    only: str = ""
    """What must stand in the path of a request."""
    count: int = 0
    """How many requests it hit."""
    _draws: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._draws = random.Random(self.seed)

    def hits(self, method: str, path: str) -> bool:
        hit = method in self.methods and self.only in path and self._draws.random() < self.share
        self.count += hit
        return hit


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Be quiet about clients that were killed."""


class S3:
    """The way to the server: a reverse proxy in this process."""

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.faults: Faults | None = None
        self.only_key: str | None = None
        """The access key that is let in; None: every one."""
        self.requests: Counter[str] = Counter()
        self._lock, self._numbers = threading.Lock(), itertools.count()
        self._visits: tuple[int, str, bytes, list[str]] | None = None
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"s3": self}))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def query(self) -> str:
        return f"endpoint_override=127.0.0.1:{self._server.server_port}&scheme=http&region=us-east-1"

    def place(self, path: str = "x") -> str:
        """Return the URI of a folder in a new bucket."""
        bucket = f"bucket-{next(self._numbers):03d}"
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=240)
        connection.request("PUT", f"/{bucket}")
        assert connection.getresponse().status == 200
        return f"s3://{bucket}/{path}?{self.query}"

    @contextmanager
    def going_wrong(self, faults: Faults, seconds: float | None = None) -> Iterator[Faults]:
        """Let requests go wrong while the block runs, or for the first seconds of it."""
        self.faults = faults
        timer = threading.Timer(seconds or 1e6, lambda: setattr(self, "faults", None))
        timer.daemon = True
        timer.start()
        try:
            yield faults
        finally:
            timer.cancel()
            self.faults = None

    @contextmanager
    def meanwhile(self, number: int, path: str, content: bytes) -> Iterator[list[str]]:
        """Let another client write a file before request `number` of the block; yield a list that then names it."""
        written: list[str] = []
        self._visits = (self.requests.total() + number, path, content, written)
        try:
            yield written
        finally:
            self._visits = None

    def visit(self) -> None:
        """Do what another client does before the request that comes now."""
        with self._lock:
            visits = self._visits
            if visits is None or self.requests.total() - 1 != visits[0]:
                return
            self._visits = None
        _, path, content, written = visits
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=240)
        connection.request("PUT", path, content)
        assert connection.getresponse().status == 200
        written.append(path)

    def fault(self, method: str, path: str, authorization: str) -> str | None:
        """Return what is to go wrong with a request."""
        with self._lock:
            self.requests[method] += 1
            if self.only_key is not None and f"Credential={self.only_key}/" not in authorization:
                return "refuse"
            return self.faults.kind if self.faults is not None and self.faults.hits(method, path) else None

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    s3: S3

    def log_message(self, *_: Any) -> None:
        """Be quiet."""

    def handle_any(self) -> None:
        body = self._body()
        fault = self.s3.fault(self.command, self.path, self.headers.get("Authorization", ""))
        self.s3.visit()
        if fault in _STATUS:
            status, code = _STATUS[fault]
            text = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>injected</Message></Error>'.encode()
            self._answer(status, {"Content-Type": "application/xml"}, text, len(text))
            return
        upstream = http.client.HTTPConnection("127.0.0.1", self.s3.upstream, timeout=240)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("transfer-encoding", "content-length")}
        upstream.request(self.command, self.path, body, {**headers, "Content-Length": str(len(body))})
        answer = upstream.getresponse()
        content, told = answer.read(), answer.getheader("Content-Length")
        kept = {k: v for k, v in answer.getheaders() if k.lower() not in _CLEAN_HEADERS}
        length = int(told) if told and self.command == "HEAD" else len(content)
        if fault == "cut" and answer.status < 300 and len(content) > 1:
            content = content[: len(content) // 2]
            self.close_connection = True
        self._answer(answer.status, kept, content, length)
        upstream.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815  (names of the library)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _answer(self, status: int, headers: dict[str, str], content: bytes, length: int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def served(log: Path) -> Iterator[S3]:
    """Start the server and the way to it; end both."""
    with log.open("w") as out:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            s3 = S3(_port(process, log))
            try:
                yield s3
            finally:
                s3.close()
        finally:
            end(process)


def _port(process: "subprocess.Popen[bytes]", log: Path) -> int:
    def named() -> int:
        assert process.poll() is None, log.read_text()
        ports = (urlsplit(word).port for word in log.read_text().split() if word.startswith("http://127.0.0.1:"))
        return next(filter(None, ports), 0)

    return wait_for(named, log.read_text)
