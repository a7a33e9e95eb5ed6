"""A service as its own process with its own Ray cluster, and clients that speak HTTP to it."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from tests.ports import free_port
from tests.processes import processes_of
from tests.waiting import wait_for

START_TIMEOUT_S, STOP_TIMEOUT_S = 300.0, 240.0


@dataclass(frozen=True)
class Answer:
    status: int
    body: dict[str, object]
    seconds: float


@dataclass(frozen=True)
class Running:
    port: int
    mark: str
    process: subprocess.Popen[bytes]
    log: Path

    def ask(self, body: bytes | object, method: str = "POST", path: str = "/", timeout_s: float = 240.0) -> Answer:
        """Send one request on a connection of its own."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        began = time.monotonic()
        try:
            client.request(method, path, body if isinstance(body, bytes) else json.dumps(body).encode())
            answer = client.getresponse()
            return Answer(answer.status, json.loads(answer.read()), time.monotonic() - began)
        finally:
            client.close()

    def listening(self) -> set[tuple[str, int]]:
        """Return the addresses at which the processes of this service accept connections."""
        inodes = set()
        for process in self.processes(""):
            for link in Path(f"/proc/{process}/fd").iterdir():
                with suppress(OSError):
                    inodes.add(link.readlink().name)
        found = set()
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                    address, port = fields[1].split(":")
                    words = [bytes.fromhex(address[start : start + 8])[::-1] for start in range(0, len(address), 8)]
                    at = ip_address(b"".join(words))
                    found.add((str(getattr(at, "ipv4_mapped", None) or at), int(port, 16)))
        return found

    def processes(self, title: str) -> list[int]:
        """Return the processes of this service's cluster whose title holds some words."""
        return processes_of(self.mark, title)


@contextmanager
def running(place: Path, folder: Path, *options: str, cwd: Path | None = None) -> Iterator[Running]:
    """Serve a model until the block ends; the process must then end by itself."""
    port = free_port()
    mark, log = uuid.uuid4().hex, folder / "serve.log"
    environment = {**os.environ, "SERVICE_MARK": mark, "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    command = [
        sys.executable,
        str(Path(__file__).parents[2] / "jobs/serve.py"),
        str(place),
        "--port",
        str(port),
        *options,
    ]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            stdout=stream,
            stderr=stream,
            env=environment,
            cwd=cwd or folder,
            start_new_session=True,
        )
    service = Running(port, mark, process, log)
    try:
        _wait(service)
        yield service
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def _wait(service: Running) -> None:
    def log() -> str:
        return service.log.read_text(errors="replace")

    def serves() -> bool:
        assert service.process.poll() is None, log()
        return "translates with" in log()

    wait_for(serves, log, START_TIMEOUT_S, every_s=0.2)
