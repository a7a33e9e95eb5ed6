"""Counters of the service, as Prometheus reads them."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("uvicorn", reason="needs ray[serve]")
parser = pytest.importorskip("prometheus_client.parser", reason="needs hat-ray[serve]")

from tests.exported import Exported  # noqa: E402
from tests.serve.local import Local, served  # noqa: E402
from tests.waiting import wait_for  # noqa: E402


@pytest.fixture
def local(exported: Exported) -> Iterator[Local]:
    """A service that has counted nothing yet."""
    with served(exported.folder) as one:
        yield one


def metrics(local: Local) -> dict[tuple[str, ...], float]:
    """Return all samples by name and labels, without `ingress`."""
    answer = local.ask(path="/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, *(value for key, value in sorted(sample.labels.items()) if key != "ingress")): sample.value
        for family in parser.text_string_to_metric_families(answer.content.decode())
        for sample in family.samples
    }


def test_requests_lines_and_characters_are_counted_by_route_and_status(local: Local) -> None:
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(local.ask, {"texts": ["a dog", "two dogs"]}) for _ in range(5)]
        asked += [pool.submit(local.ask, {"text": 5}) for _ in range(3)]
        both = {"source": "en", "target": "de"}
        asked += [pool.submit(local.ask, {"q": "a dog\n\nruns", **both}, "/translate") for _ in range(2)]
        for future in asked:
            future.result()
    local.ask(path="/secret-1")
    local.ask(path="/secret-2")
    local.ask(method="PROPFIND")
    found = metrics(local)
    requests = {key[1:]: value for key, value in found.items() if key[0] == "hat_ray_requests_total"}
    assert requests == {
        ("POST", "/", "200"): 5,
        ("POST", "/", "400"): 3,
        ("POST", "/translate", "200"): 2,
        ("GET", "other", "404"): 2,
        ("other", "/", "405"): 1,
    }
    assert found["hat_ray_lines_total", "/"] == 10
    assert found["hat_ray_lines_total", "/translate"] == 4
    assert found["hat_ray_characters_total", "/"] == 5 * len("a dogtwo dogs")
    assert found["hat_ray_characters_total", "/translate"] == 2 * len("a dogruns")
    assert found["hat_ray_request_seconds_count", "/"] == 9
    assert found["hat_ray_request_seconds_bucket", "60.0", "/"] == 9
    assert 0 < found["hat_ray_request_seconds_sum", "/"] < 9 * 60
    assert found[("hat_ray_retries_total",)] == 0
    assert found[("hat_ray_requests_in_progress",)] == 1, "the scrape itself"
    assert metrics(local)["hat_ray_requests_total", "GET", "/metrics", "200"] == 1


def test_no_text_and_no_path_of_a_client_is_in_them(local: Local) -> None:
    local.ask({"text": "a confidential dog"}, headers={"X-Request-ID": "confidential"})
    local.ask(path="/confidential")
    assert b"confidential" not in local.ask(path="/metrics").content


def test_openmetrics_where_it_is_asked_for(local: Local) -> None:
    answer = local.ask(path="/metrics", headers={"Accept": "application/openmetrics-text"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.content.endswith(b"# EOF\n")


def test_two_ingresses_count_apart(exported: Exported) -> None:
    with served(exported.folder) as one, served(exported.folder) as other:
        labels = set()
        for local in (one, other):
            local.ask({"text": "a dog"})
            text = local.ask(path="/metrics").content.decode()
            [value] = {line.split('ingress="')[1][:8] for line in text.splitlines() if 'ingress="' in line}
            labels.add(value)
    assert len(labels) == 2


def test_a_client_that_leaves_is_counted_and_no_longer_in_progress(exported: Exported) -> None:
    with served(exported.folder, timeout_s=4, wait_ms=60_000) as slow:
        body = b'{"text": "a dog"}'
        head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", slow.port)) as connection:
            connection.sendall(head.encode() + body)
            wait_for(lambda: metrics(slow)["hat_ray_requests_in_progress",] == 2)
        wait_for(lambda: metrics(slow)["hat_ray_requests_in_progress",] == 1)
        assert metrics(slow)["hat_ray_requests_total", "POST", "/", "504"] == 1
