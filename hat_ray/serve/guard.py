"""Rules that a request must keep before it is read: host name, origin, size, speed.

`Guard` stands in Ray's HTTP proxies where they are ours, so that a body that is too large is never in memory. An
ingress checks the same rules again, for clusters whose proxies another program has started.

Decisions
- A name that a browser was made to resolve to this machine (DNS rebinding) shows in `Host`: it must be an address,
  localhost, or a name that was allowed. An address cannot be made to mean another machine.
- A page of another origin can make a browser send text/plain or a form without asking: `Origin` must be our own.
- A body is counted while it arrives, within `receive_s`; a connection that sends no head is closed in that time.
- A request's id goes into logs and answers. One that a client sends is replaced unless it is short and plain: Ray's
  proxy fails with others.
"""

import asyncio
import json
import logging
import os
import re
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from hat_ray.serve.requests import BAD, BUSY, FAULT, FORBIDDEN, TOO_LARGE, TOO_LATE, TOO_SLOW, RefusedError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

REQUEST_ID = "x-request-id"
"""The header of a request's id, both ways."""

log = logging.getLogger("ray.serve.hat_ray")  # Ray Serve writes what is logged by this name to its files

_PLAIN_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

VARIABLE = "HAT_RAY_SERVE_RULES"
"""Environment variable by which proxies get the rules."""

_DRAIN_BYTES, _DRAIN_S = 900_000, 1.0


@dataclass(frozen=True)
class Rules:
    """Limits of requests."""

    max_body_bytes: int
    receive_s: float
    allowed_hosts: Sequence[str] = ()
    stop_file: str | None = None
    """A file whose presence ends the service: requests are then refused."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def check_head(self, headers: Mapping[str, str]) -> None:
        """Raise RefusedError for a late request, another host name, another origin, or a Content-Length too large."""
        if self.stop_file is not None and os.path.exists(self.stop_file):
            raise RefusedError(BUSY, "the service is ending: ask another one, or ask again later")
        host = _name_of(f"//{headers.get('host', '')}")
        if not (_is_address(host) or host in ("localhost", *self.allowed_hosts) or "*" in self.allowed_hosts):
            raise RefusedError(FORBIDDEN, f"this service is not called {host!r:.100}: allow it by --allowed-host")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            raise RefusedError(FORBIDDEN, f"pages of {origin!r:.100} may not ask this service: call it from its own")
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            raise RefusedError(BAD, f"Content-Length must be a number, got {length!r:.40}")
        if len(length) > 20 or int(length) > self.max_body_bytes:
            raise RefusedError(TOO_LARGE, f"a request may have at most {self.max_body_bytes} bytes, got {length:.20}")

    async def body(self, receive: Receive) -> bytes:
        """Read a body; raises RefusedError as soon as it is too large or too slow."""
        content = bytearray()
        try:
            async with asyncio.timeout(self.receive_s):
                while (message := await receive())["type"] == "http.request":
                    content += message.get("body", b"")
                    if len(content) > self.max_body_bytes:
                        raise RefusedError(TOO_LARGE, f"a request may have at most {self.max_body_bytes} bytes")
                    if not message.get("more_body", False):
                        return bytes(content)
        except TimeoutError as error:
            raise RefusedError(TOO_SLOW, f"a request must be sent within {self.receive_s:g} s") from error
        raise RefusedError(BAD, "the connection ended before the request did")


def request_id(headers: Mapping[str, str]) -> str:
    """Return the id that a client gave its request, where it is plain, or a new one."""
    given = headers.get(REQUEST_ID, "")
    return given if _PLAIN_ID.fullmatch(given) else uuid.uuid4().hex


def log_refusal(identity: str, method: str, path: str, refused: RefusedError) -> None:
    """Log a refused request; a fault of ours is also shown to who runs the service."""
    ours = refused.status in (FAULT, TOO_LATE)
    level = logging.WARNING if ours else logging.INFO
    line = "request %s: %s %r %d: %s"
    log.log(level, line, identity, method, path[:200], refused.status, refused.message, extra={"log_to_stderr": ours})


async def drain(receive: Receive) -> None:
    """Read and drop the rest of a slightly too large request: its client reads the answer only then."""
    forgotten = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            while forgotten < _DRAIN_BYTES and (message := await receive()).get("more_body", False):
                forgotten += len(message.get("body", b""))


class Guard:
    """An ASGI application that passes whole requests on to another one if they keep the rules. Each gets an id."""

    def __init__(self, app: App, rules: Rules) -> None:
        self.app, self.rules = app, rules

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        identity = request_id(headers)

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _named(message.get("headers", ()), identity)}
            await send(message)

        try:
            self.rules.check_head(headers)
            body = await self.rules.body(receive)
        except RefusedError as refused:
            if refused.status != TOO_SLOW:
                await drain(receive)
            log_refusal(identity, scope["method"], scope["path"], refused)
            await _refuse(refused, send_named)
            return
        whole = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return whole.pop() if whole else await receive()

        await self.app({**scope, "headers": _named(scope["headers"], identity)}, again, send_named)


def _named(headers: Iterable[tuple[bytes, bytes]], identity: str) -> list[tuple[bytes, bytes]]:
    """Return headers with one id, in the place of any others."""
    name = REQUEST_ID.encode()
    return [*((key, value) for key, value in headers if key.lower() != name), (name, identity.encode())]


async def _refuse(refused: RefusedError, send: Send) -> None:
    """Answer, and close the connection without reading the rest of the request."""
    content = json.dumps(refused.to_dict()).encode()
    headers = {"content-type": "application/json", "content-length": str(len(content)), "connection": "close"}
    pairs = [(key.encode(), value.encode()) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": pairs})
    await send({"type": "http.response.body", "body": content})


def rules_of_environment() -> Rules:
    """Return the rules that `hat-ray serve` gave to the processes of its cluster."""
    return Rules(**json.loads(os.environ[VARIABLE]))


def _name_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    try:
        return bool(ip_address(host))
    except ValueError:
        return False
