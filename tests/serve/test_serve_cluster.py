"""The service on a real Ray cluster: good and bad requests at once, a killed replica, a clean end."""

import ipaddress
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.canary import Canary
from tests.exported import Exported
from tests.serve.clients import curl, libre_client
from tests.serve.service import STOP_TIMEOUT_S, Answer, Running, running
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
pytest.importorskip("fastapi", reason="needs ray[serve]")

REPLICA = "ray::ServeReplica:hat-ray:replica"
"""The title of the processes that translate."""
BAD = [
    (b"", 400),
    (b"not JSON", 400),
    (b'{"text": "\xff"}', 400),
    (b'{"text": "", "n_best": 2}', 400),
    (b'{"text": 7}', 400),
    (b'{"texts": ["fine", null]}', 400),
    (b'{"text": "%s", "n_best": 2}' % (b"word " * 300), 413),
    (b'{"text": "%s"}' % (b"word " * 15_000), 413),
    (b'{"text": "%s"}' % (b"x" * (1 << 19)), 413),
]


@pytest.fixture(scope="module")
def service(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("service")
    shutil.copytree(exported.folder, folder / "foreign")
    canary = Canary(
        folder / "foreign", folder / "marks"
    )  # served from within its own folder, as a stranger would have it
    options = ["--replicas", "2", "--max-batch", "8", "--max-body-bytes", "100000", "--receive-s", "8"]
    options += ["--timeout-s", "180"]
    with running(exported.folder, folder, *options, cwd=canary.folder) as one:
        yield one
    assert one.process.returncode == 0, one.log.read_text()
    assert one.processes("ServeReplica") == []
    assert canary.caught() == {}


@pytest.fixture(scope="module")
def expected(exported: Exported) -> dict[str, str]:
    """What `hat-ray translate` says."""
    command = [sys.executable, "-m", "hat_ray.cli", "translate", str(exported.folder), "--threads", "1"]
    text = "".join(f"{line}\n" for line in exported.lines)
    result = subprocess.run(command, input=text, capture_output=True, text=True, timeout=240, check=True)
    lines = result.stdout.split("\n")[:-1]
    assert len(set(lines)) > len(lines) / 2, "the model must tell sentences apart"
    return dict(zip(exported.lines, lines, strict=True))


def test_good_and_bad_requests_at_once_and_the_good_ones_say_what_translate_says(
    service: Running, expected: dict[str, str]
) -> None:
    lines = list(expected)
    good: list[tuple[object, dict[str, object]]] = [({"text": one}, {"translation": expected[one]}) for one in lines]
    for start in range(0, len(lines), 5):
        several = lines[start : start + 5]
        good.append(({"texts": several}, {"translations": [expected[one] for one in several]}))
    with ThreadPoolExecutor(16) as pool:
        bad = [pool.submit(service.ask, body) for body, _ in BAD]
        answers = [pool.submit(service.ask, body) for body, _ in good]
        bad += [pool.submit(service.ask, body) for body, _ in BAD]
        for future, (_, status) in zip(bad, [*BAD, *BAD], strict=True):
            answer = future.result()
            assert (answer.status, answer.body["status"]) == (status, status)
            assert isinstance(answer.body["error"], str)
        for future, (_, said) in zip(answers, good, strict=True):
            answer = future.result()
            assert (answer.status, answer.body) == (200, said)
    health = service.ask(b"", "GET", "/health")
    assert (health.status, health.body["status"], health.body["export"]) == (200, "ok", "out")
    assert service.ask(b"", "PUT").status == 405
    assert service.ask({"text": "a"}, path="/elsewhere").status == 404


def test_public_clients_get_what_translate_says(service: Running, expected: dict[str, str]) -> None:
    url = f"http://127.0.0.1:{service.port}/"
    client = libre_client(url)
    for line, best in list(expected.items())[:5]:
        assert client.translate(line, "en", "de", timeout=240) == best
        assert curl(f"{url}translate", "--data-urlencode", f"q={line}", "-d", "source=auto&target=de")[
            "translatedText"
        ] == (best)
        assert curl(url, "-d", json.dumps({"text": line})) == {"translation": best}
    assert [each["code"] for each in client.languages(timeout=240)] == ["en", "de"]
    assert client.detect("12:30 !", timeout=240) == [{"confidence": 0.0, "language": "en"}]
    assert curl(f"{url}openapi.json")["openapi"] == "3.1.0"
    for path, words in (("", b"<textarea"), ("docs", b"POST /translate"), ("metrics", b'route="/translate"')):
        with urllib.request.urlopen(f"{url}{path}", timeout=240) as page:
            assert words in page.read()


def test_a_replica_killed_under_load_loses_no_accepted_request(service: Running, expected: dict[str, str]) -> None:
    lines, over = list(expected), threading.Event()
    answers: list[list[tuple[str, Answer]]] = [[] for _ in range(8)]

    def client(number: int) -> None:
        while not over.is_set():
            line = lines[(number + 8 * len(answers[number])) % len(lines)]
            answers[number].append((line, service.ask({"text": line})))

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client, number) for number in range(8)]
        try:
            wait_for(lambda: all(answers), "not every client was answered")
            for _ in range(5):  # what a stopped replica has not yet accepted, Ray itself sends elsewhere
                killed = _kill_one(service, answers)
                _until_there_are_two(service, killed)
                retries = service.ask(b"", "GET", "/health").body["retries"]
                assert isinstance(retries, int)
                if retries:
                    break
        finally:
            over.set()
        for one in clients:
            one.result()
    told = [one for each in answers for one in each]
    wrong = [(line, answer) for line, answer in told if not _is_right(answer, expected[line])]
    assert wrong == []
    assert len(told) > 50
    assert retries > 0, "no request was at any killed replica: the test shows nothing"


def _kill_one(service: Running, answers: list[list[tuple[str, Answer]]]) -> int:
    """Kill one of two replicas while requests wait there, and wait until these are answered; return its process."""
    deadline = time.monotonic() + 400
    while True:
        newest = max(service.processes(REPLICA), key=_started)
        os.kill(newest, signal.SIGSTOP)  # so that requests wait there
        try:
            if held := _held(answers):
                os.kill(newest, signal.SIGKILL)
                wait_for(lambda: all(len(answers[n]) > count for n, count in held.items()), "a request was lost")
                return newest
        finally:
            with suppress(ProcessLookupError):
                os.kill(newest, signal.SIGCONT)
        assert time.monotonic() < deadline, "no request was sent to the stopped replica"
        time.sleep(1)  # a replica that still opens its model gets no requests


def _started(process: int) -> int:
    """Return when a process started; numbers of processes begin anew after the largest one."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])


def _held(answers: list[list[tuple[str, Answer]]]) -> dict[int, int]:
    """Return the clients whose requests are held up, with how many answers each of them has.

    A request is held up when the others get fifty answers meanwhile, or when nobody gets any for ten seconds. None is
    where every client is answered three times.
    """
    for _ in range(3):
        looked, counts = time.monotonic(), [len(each) for each in answers]
        while True:
            time.sleep(0.05)
            more = [len(each) - count for each, count in zip(answers, counts, strict=True)]
            held = {number: count for number, count in enumerate(counts) if not more[number]}
            if not held:
                break
            if sum(more) > 50 or (sum(more) == 0 and time.monotonic() - looked > 10) or time.monotonic() - looked > 30:
                return held
    return {}


def _is_right(answer: Answer, text: str) -> bool:
    return answer.status == 200 and answer.body == {"translation": text}


def _until_there_are_two(service: Running, killed: int) -> None:
    def replaced() -> bool:
        found = service.processes(REPLICA)
        return len(found) >= 2 and killed not in found

    wait_for(replaced, "the killed replica was not replaced")


def test_a_port_that_another_service_has_is_told(service: Running, exported: Exported, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hat_ray.cli", "serve", str(exported.folder), "--port", str(service.port)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environment)
    assert result.returncode == 2
    assert f"port {service.port} is taken" in result.stderr


def test_every_port_is_on_loopback_and_ray_asks_for_a_token(service: Running) -> None:
    assert service.ask(b"", "GET", "/health").status == 200  # replicas have opened what they open
    open_at = service.listening()
    assert service.port in {port for _, port in open_at}
    assert len(open_at) > 5, "the cluster's own ports must be among them"
    assert all(ipaddress.ip_address(address).is_loopback for address, _ in open_at), sorted(open_at)
    for program in ("gcs_server", "raylet/raylet"):  # the others overwrite their environment with their title
        for process in service.processes(program):
            assert b"RAY_AUTH_MODE=token" in Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    assert service.processes("gcs_server")


def raw(service: Running, head: str, body: bytes = b"") -> int:
    """Send a request as it is written; return the status of its answer."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=240) as connection:
        connection.sendall(f"POST / HTTP/1.1\r\n{head}\r\n\r\n".encode() + body)
        return int(connection.recv(65536).split()[1])


def test_requests_to_another_name_from_another_page_or_without_end_are_refused(service: Running) -> None:
    body = b'{"text": "A dog runs."}'
    here = f"Host: 127.0.0.1:{service.port}"
    length = f"Content-Length: {len(body)}"
    assert raw(service, f"{here}\r\n{length}", body) == 200
    assert raw(service, f"Host: rebound.example\r\n{length}", body) == 403
    assert raw(service, f"{here}\r\nOrigin: http://evil.example\r\nContent-Type: text/plain\r\n{length}", body) == 403
    assert raw(service, f"{here}\r\nContent-Length: 300000000", body) == 413
    assert raw(service, f"{here}\r\nContent-Length: 100", body) == 408
    assert raw(service, f"{here}\r\nX-Request-ID: caf\u00e9\r\n{length}", body) == 200, "Ray's proxy fails with it"


def test_large_bodies_are_not_kept_and_memory_returns_after_a_burst(service: Running) -> None:
    def megabytes() -> float:
        pages = [int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in service.processes("ray::")]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def flood(_: int) -> int:
        with socket.create_connection(("127.0.0.1", service.port), timeout=240) as connection, suppress(OSError):
            connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            for sent in range(300):  # megabytes
                connection.sendall(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
                if select.select([connection], [], [], 0)[0]:
                    return sent
        return 0

    almost = {"texts": ["x" * 40] * 64}
    before = megabytes()
    with ThreadPoolExecutor(16) as pool:
        floods = list(pool.map(flood, range(32)))
        statuses = {answer.status for answer in pool.map(service.ask, [almost] * 200)}
    assert statuses <= {200, 503}
    assert max(floods) < 50
    assert megabytes() - before < 150


def test_the_signal_that_ends_it_lets_those_who_wait_be_answered(service: Running, expected: dict[str, str]) -> None:
    """The last test: the service is over then."""
    lines = list(expected)[:20]
    body = json.dumps({"texts": lines * 2}).encode()
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    waiting = [socket.create_connection(("127.0.0.1", service.port), timeout=240) for _ in range(24)]
    for connection in waiting:
        connection.sendall(head.encode() + body)
    select.select(waiting, [], [])
    service.process.send_signal(signal.SIGTERM)
    for connection in waiting:
        with connection, connection.makefile("rb") as stream:
            status, _, content = stream.read().partition(b"\r\n\r\n")
        assert status.startswith(b"HTTP/1.1 200 "), status
        assert json.loads(content) == {"translations": [expected[line] for line in lines] * 2}
    assert service.process.wait(STOP_TIMEOUT_S) == 0
    with pytest.raises(ConnectionError):
        service.ask({"text": lines[0]})
