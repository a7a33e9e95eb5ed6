"""Rules that a request must keep before it is read: host name, origin, size, speed.

`Guard` stands in Ray's HTTP proxies where they are ours, so that a body that is too large is never in memory. An
ingress checks the same rules again, for clusters whose proxies another program has started.

Decisions
- A name that a browser was made to resolve to this machine (DNS rebinding) shows in `Host`: it must be an address,
  localhost, or a name that was allowed. An address cannot be made to mean another machine.
- A page of another origin can make a browser send text/plain or a form without asking: `Origin` must be our own.
- A body is counted while it arrives, within `receive_s`; a connection that sends no head is closed in that time.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from hat_ray.serve.requests import BAD, BUSY, FORBIDDEN, TOO_LARGE, TOO_SLOW, RefusedError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

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


async def drain(receive: Receive) -> None:
    """Read and drop the rest of a slightly too large request: its client reads the answer only then."""
    forgotten = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            while forgotten < _DRAIN_BYTES and (message := await receive()).get("more_body", False):
                forgotten += len(message.get("body", b""))


class Guard:
    """An ASGI application that passes whole requests on to another one if they keep the rules."""

    def __init__(self, app: App, rules: Rules) -> None:
        self.app, self.rules = app, rules

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # the service speaks HTTP only
        try:
            self.rules.check_head(
                {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
            )
            body = await self.rules.body(receive)
        except RefusedError as refused:
            if refused.status != TOO_SLOW:
                await drain(receive)
            await _refuse(refused, send)
            return
        whole = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return whole.pop() if whole else await receive()

        await self.app(scope, again, send)


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
