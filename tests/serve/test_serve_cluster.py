"""The service on a real Ray cluster: good and bad requests at once, a killed replica, a clean end."""

import ipaddress
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cli.canary import Canary
from tests.exported import Exported
from tests.serve.service import Answer, Running, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
pytest.importorskip("fastapi", reason="needs ray[serve]")

BAD = [
    (b"", 400),
    (b"not JSON", 400),
    (b'{"text": "\xff"}', 400),
    (b'{"text": ""}', 400),
    (b'{"text": 7}', 400),
    (b'{"texts": ["fine", null]}', 400),
    (b'{"text": "%s"}' % (b"word " * 300), 413),
    (b'{"text": "%s"}' % (b"x" * (1 << 19)), 413),
]


@pytest.fixture(scope="module")
def service(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("service")
    shutil.copytree(exported.folder, folder / "foreign")
    canary = Canary(
        folder / "foreign", folder / "marks"
    )  # served from within its own folder, as a stranger would have it
    options = ["--replicas", "2", "--max-batch", "8", "--max-body-bytes", "100000"]
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
    result = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=True)
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
    assert service.ask(b"", "GET").status == 405
    assert service.ask({"text": "a"}, path="/elsewhere").status == 404


def test_a_replica_killed_under_load_loses_no_accepted_request(service: Running, expected: dict[str, str]) -> None:
    lines, over, answers = list(expected), threading.Event(), []

    def client(number: int) -> None:
        count = number
        while not over.is_set():
            line = lines[count % len(lines)]
            answers.append((line, service.ask({"text": line})))
            count += 8

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client, number) for number in range(8)]
        time.sleep(2)
        before = service.processes("ray::ServeReplica:hat-ray:replica")
        assert len(before) == 2
        os.kill(before[0], signal.SIGSTOP)  # so that requests wait there
        time.sleep(1)
        os.kill(before[0], signal.SIGKILL)
        time.sleep(4)
        over.set()
        for one in clients:
            one.result()
    wrong = [(line, answer) for line, answer in answers if not _is_right(answer, expected[line])]
    assert wrong == []
    assert len(answers) > 50
    asked_again = service.ask(b"", "GET", "/health").body["asked_again"]
    assert isinstance(asked_again, int)
    assert asked_again > 0, "no request was at the killed replica: the test tells nothing"
    _until_there_are_two(service, before[0])


def _is_right(answer: Answer, text: str) -> bool:
    return answer.status == 200 and answer.body == {"translation": text}


def _until_there_are_two(service: Running, killed: int) -> None:
    deadline = time.monotonic() + 60
    while len(found := service.processes("ray::ServeReplica:hat-ray:replica")) < 2 or killed in found:
        assert time.monotonic() < deadline, "the killed replica was not replaced"
        time.sleep(0.5)


def test_a_port_that_another_service_has_is_told(service: Running, exported: Exported, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hat_ray.cli", "serve", str(exported.folder), "--port", str(service.port)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
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
