"""The service's answers on a real socket, without Ray: options, ids, paths, faults."""

import logging
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("uvicorn", reason="needs ray[serve]")

from hat_ray.export.export import open_export
from hat_ray.export.loaded import LoadedModel
from hat_ray.model.hypotheses.knobs import Decoding
from tests.exported import Exported
from tests.serve.local import Local, served

BEAM, MAX_BEAM = 2, 6


@pytest.fixture(scope="module")
def local(exported: Exported) -> Iterator[Local]:
    with served(exported.folder, max_beam=MAX_BEAM, max_texts=30) as one:
        yield one


@pytest.fixture(scope="module")
def model(exported: Exported) -> LoadedModel:
    """The same export, opened here: what it finds is what the service must answer."""
    return open_export(exported.folder)


@pytest.mark.parametrize(
    ("options", "decoding"),
    [
        ({}, Decoding()),
        ({"beam": 4}, Decoding(beam=4)),
        ({"n_best": 2}, Decoding(n_best=2)),
        (
            {"n_best": 3, "beam": MAX_BEAM, "no_repeat_ngram_size": 2},
            Decoding(n_best=3, beam=6, no_repeat_ngram_size=2),
        ),
        (
            {"max_length_factor": 0.5, "min_length_factor": 0.25},
            Decoding(max_length_factor=0.5, min_length_factor=0.25),
        ),
        ({"length_penalty": 0, "repetition_penalty": 1.5}, Decoding(length_penalty=0, repetition_penalty=1.5)),
        (
            {"sampling": True, "n_best": 3, "seed": 5, "temperature": 2.5, "top_k": 50},
            Decoding(sampling=True, n_best=3, seed=5, temperature=2.5, top_k=50),
        ),
        ({"sampling": True, "seed": 6}, Decoding(sampling=True, seed=6)),
        ({"beam": 4, "n_best": 3, "coverage_penalty": 20}, Decoding(beam=4, n_best=3, coverage_penalty=20)),
    ],
)
def test_options_do_what_they_do_everywhere(
    local: Local, model: LoadedModel, exported: Exported, options: dict[str, float], decoding: Decoding
) -> None:
    lines = list(exported.lines[:6])
    answer = local.ask({"texts": lines, **options})
    assert answer.status == 200
    expected = [[one.text for one in each] for each in model.hypotheses(lines, decoding)]
    assert answer.json["translations"] == [each[0] for each in expected]
    if decoding.n_best > 1:
        assert answer.json["alternatives"] == [each[1:] for each in expected]
        one = local.ask({"text": lines[0], **options}).json
        assert one == {"translation": expected[0][0], "alternatives": expected[0][1:]}
    else:
        assert set(answer.json) == {"translations"}


def test_requests_with_unlike_options_in_one_batch_get_each_their_own(
    local: Local, model: LoadedModel, exported: Exported
) -> None:
    lines = list(exported.lines[:24])
    wanted = [{}, {"beam": 1}, {"n_best": 2}, {"max_length_factor": 0.3}]
    alone = [
        {decoding: [[h.text for h in each] for each in model.hypotheses(lines, decoding)]}
        for decoding in (Decoding(), Decoding(beam=1), Decoding(n_best=2), Decoding(max_length_factor=0.3))
    ]
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(local.ask, {"text": line, **wanted[row % 4]}) for row, line in enumerate(lines)]
        for row, future in enumerate(asked):
            [found] = alone[row % 4].values()
            assert future.result().json["translation"] == found[row][0]


def test_bounds_are_the_services_and_stand_in_the_refusal(local: Local) -> None:
    refused = local.ask({"text": "a dog", "beam": MAX_BEAM + 1})
    assert (refused.status, refused.json["error"]) == (400, f"beam must be from 1 to {MAX_BEAM}, got {MAX_BEAM + 1}")
    refused = local.ask({"text": "a dog", "n_best": BEAM + 1})
    assert refused.json["error"] == f"n_best can be at most the beam, which is {BEAM}, got {BEAM + 1}: raise beam"


def test_an_id_that_a_client_gives_comes_back_and_others_are_made(local: Local) -> None:
    text = {"text": "a dog"}
    for plain in ("a", "d702-8991:x/y=@", "Z" * 128):
        assert local.ask(text, headers={"X-Request-ID": plain}).headers.get_all("x-request-id") == [plain]
    made = {local.ask(text).headers["x-request-id"] for _ in range(3)}
    for other in ("", "two words", "Z" * 129, "caf\xe9", "<b>", "a,b", "%0d%0a"):
        answer = local.ask(text, headers={"X-Request-ID": other})
        [identity] = answer.headers.get_all("x-request-id")
        assert answer.status == 200
        assert identity != other
        made.add(identity)
    assert len(made) == 10
    assert all(len(identity) == 32 and int(identity, 16) for identity in made)


def test_two_ids_in_one_request_become_one(local: Local) -> None:
    with socket.create_connection(("127.0.0.1", local.port), timeout=240) as connection:
        head = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        connection.sendall(f"{head}X-Request-ID: one\r\nX-Request-Id: two\r\n\r\n".encode())
        with connection.makefile("rb") as stream:
            answer = stream.read().lower()
    assert answer.count(b"x-request-id: ") == 1
    assert b"x-request-id: two" in answer


@pytest.mark.parametrize(
    ("body", "path", "method", "host", "status"),
    [
        ({"text": 5}, "/", "POST", "localhost", 400),
        (None, "/nothing", "GET", "localhost", 404),
        ({"text": "a dog"}, "/health", "PUT", "localhost", 405),
        ({"text": "a dog"}, "/", "POST", "evil.example", 403),
    ],
)
def test_what_is_refused_carries_its_id_and_is_logged_with_it_without_its_text(
    local: Local, body: object, path: str, method: str, host: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "ray.serve.hat_ray"):
        answer = local.ask(body, path, method, {"X-Request-ID": "mine-1", "Host": host})
    assert (answer.status, answer.headers["x-request-id"]) == (status, "mine-1")
    assert answer.json["status"] == status
    [line] = caplog.messages
    assert line.startswith(f"request mine-1: {method} '{path}' {status}: ")
    assert "a dog" not in line


def test_paths_and_methods(local: Local) -> None:
    wrong = local.ask({"text": "a"}, "/health")
    assert (wrong.status, wrong.headers["Allow"]) == (405, "GET, HEAD")
    assert "got DELETE" in local.ask(method="DELETE").json["error"]
    assert "POST" in local.ask(method="DELETE").headers["Allow"]
    missing = local.ask({"text": "a"}, "/translations%1b[2J")
    assert missing.status == 404
    assert "GET /health" in missing.json["error"]
    assert missing.json["error"].isprintable()
    head = local.ask(path="/health", method="HEAD")
    assert (head.status, head.content) == (200, b"")


def test_health_names_the_model_and_its_languages(local: Local) -> None:
    health = local.ask(path="/health").json
    assert (health["status"], health["export"], health["retries"]) == ("ok", "out", 0)
    assert (health["source_language"], health["target_language"]) == ("en", "de")
    assert local.ask(path="/health/").status == 200


def test_a_name_that_is_no_text_is_a_mistake_and_no_fault(local: Local) -> None:
    answer = local.ask(b'{"\\ud800\\u001b": 1}')
    assert answer.status == 400
    assert answer.json["error"].isprintable()


def test_a_fault_is_one_line_of_json_with_its_id_in_the_log(
    exported: Exported, caplog: pytest.LogCaptureFixture
) -> None:
    with served(exported.folder) as broken:
        broken.worker._batcher._thread.shutdown()  # as when the system gives no thread
        answer = broken.ask({"text": "a dog"}, headers={"X-Request-ID": "broken-1"})
        assert (answer.status, answer.headers["x-request-id"]) == (500, "broken-1")
        assert answer.json["error"].startswith("this request failed: cannot schedule new futures")
        assert "request broken-1 failed" in caplog.messages
        assert broken.ask(path="/health").status == 200


def test_an_answer_that_takes_too_long_is_given_up(exported: Exported) -> None:
    with served(exported.folder, timeout_s=0.001, wait_ms=500) as slow:
        answer = slow.ask({"text": "a dog"})
    assert (answer.status, answer.json["error"]) == (504, "not answered within 0.001 s: ask again")


def test_a_service_below_a_route(exported: Exported) -> None:
    with served(exported.folder, route="/mt") as below:
        assert below.ask({"text": "a dog"}, "").status == 200
        assert below.ask({"text": "a dog"}, "/").status == 200
        assert below.ask(path="/health").status == 200
        assert below.ask(path="/mt/health").status == 404
