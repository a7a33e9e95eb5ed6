"""The guard before a service, on real sockets: who may ask, how much, how slowly."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

uvicorn = pytest.importorskip("uvicorn", reason="needs ray[serve]")

from hat_ray.serve.guard import VARIABLE, Guard, Rules  # noqa: E402
from hat_ray.serve.proxy import middlewares  # noqa: E402

LIMIT = 1000
JSON = b'{"text": "a dog"}'


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the number of bytes that came."""
    message = await receive()
    assert not message["more_body"]
    content = json.dumps({"bytes": len(message["body"])}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(content))]})
    await send({"type": "http.response.body", "body": content})


@pytest.fixture(scope="module")
def stop_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guard") / "ends"


@pytest.fixture(scope="module")
def port(stop_file: Path) -> Iterator[int]:
    """Serve `echo` behind what `middlewares` returns, as Ray's proxy does."""
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as listener:
        patch.setenv(VARIABLE, Rules(LIMIT, 1.0, ("mt.example",), str(stop_file)).to_json())
        [guard] = middlewares()
        assert guard.cls is Guard
        config = uvicorn.Config(Guard(echo, **guard.kwargs), lifespan="off", log_level="critical", access_log=False)
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        server.should_exit = True
        thread.join(240)
        assert not thread.is_alive()


def answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Read one answer to its end; (0, {}) where the connection was closed without one."""
    connection.settimeout(30)
    content = b""
    while b"\r\n\r\n" not in content:
        block = connection.recv(65536)
        if not block:
            return 0, {}
        content += block
    head, _, body = content.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.lower().splitlines() if line.startswith(b"content-length"))
    while len(body) < length:
        body += connection.recv(65536)
    return int(head.split()[1]), json.loads(body) if body.startswith(b"{") else {}  # uvicorn's own refusals are text


def ask(port: int, head: str, body: bytes = JSON, length: int | str | None = None) -> tuple[int, dict[str, Any]]:
    """Send a request with these lines in its head."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        size = len(body) if length is None else length
        connection.sendall(f"POST / HTTP/1.1\r\nContent-Length: {size}\r\n{head}\r\n\r\n".encode() + body)
        return answer(connection)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8000", "localhost", "LocalHost:80", "[::1]:8000", "10.1.2.3", "mt.example:443"]
)
def test_an_address_and_allowed_names_may_be_asked(port: int, host: str) -> None:
    assert ask(port, f"Host: {host}") == (200, {"bytes": len(JSON)})


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "[::1", "a b"]
)
def test_another_name_is_refused(port: int, host: str) -> None:
    status, body = ask(port, f"Host: {host}")
    assert status in (400, 403)
    if body:
        assert "not called" in body["error"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8000", 200),
        ("http://evil.example", 403),
        ("null", 403),
        ("http://127.0.0.1:8001", 403),
        ("https://evil.example:8000", 403),
    ],
)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/json"])
def test_pages_of_another_origin_are_refused(port: int, origin: str, status: int, kind: str) -> None:
    head = f"Host: 127.0.0.1:8000\r\nOrigin: {origin}\r\nContent-Type: {kind}"
    assert ask(port, head)[0] == status


def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(port: int) -> None:
    assert ask(port, "Host: localhost", b"", 300_000_000)[0] == 413
    assert ask(port, "Host: localhost", b"x" * LIMIT)[0] == 200
    status, body = ask(port, "Host: localhost", b"x" * (LIMIT + 1))
    assert (status, body["status"]) == (413, 413)


@pytest.mark.parametrize("length", ["-1", "1e3", "5, 5", "99999999999999999999999999"])
def test_a_length_that_is_none_is_refused(port: int, length: str) -> None:
    assert ask(port, "Host: localhost", b"x", length)[0] in (0, 400, 413)


def test_a_client_that_sends_a_little_too_much_hears_so_at_its_end(port: int) -> None:
    """Who writes all before he reads gets an answer, not a broken connection."""
    for _ in range(5):
        assert ask(port, "Host: localhost", b"x" * 500_000)[0] == 413


def test_what_comes_while_the_service_ends_is_refused(port: int, stop_file: Path) -> None:
    stop_file.touch()
    status, body = ask(port, "Host: localhost")
    stop_file.unlink()
    assert (status, body["error"].split(":")[0]) == (503, "the service is ending")
    assert ask(port, "Host: localhost")[0] == 200


def test_a_body_without_length_is_refused_as_soon_as_it_is_too_large(port: int) -> None:
    """A client that never stops gets its answer before it has sent a megabyte more than is allowed."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = 0
        connection.settimeout(2.0)
        while sent < LIMIT + (1 << 20):
            try:
                connection.sendall(b"8000\r\n" + bytes(0x8000) + b"\r\n")
            except OSError:
                break
            sent += 0x8000
            if sent > LIMIT:
                try:
                    assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
                except TimeoutError:
                    continue
                except ConnectionResetError:  # it was answered and closed while more was on its way
                    pass
                break
        assert sent < LIMIT + (1 << 20)


def test_who_sends_slowly_is_answered_and_hinders_nobody(port: int) -> None:
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
    for connection in slow:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    assert ask(port, "Host: localhost")[0] == 200
    for connection in slow:
        assert answer(connection)[0] == 408
        connection.close()


def test_who_sends_no_head_is_disconnected(port: int) -> None:
    for begun in (b"", b"POST / HT", b"POST / HTTP/1.1\r\nHost: localhost\r\nX: "):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(begun)
            assert answer(connection) == (0, {})


def test_a_client_that_leaves_hinders_nobody(port: int) -> None:
    for begun in (b"", b"{", JSON):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n" + begun)
    assert ask(port, "Host: localhost")[0] == 200


def test_a_connection_may_ask_again(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for _ in range(3):
            connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
            assert answer(connection) == (200, {"bytes": 2})
            time.sleep(0.01)
