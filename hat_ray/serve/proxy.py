"""A callback of Ray's HTTP proxies when they start, on clusters of ours: it puts the guard before every request."""

import asyncio
from typing import Any

from starlette.middleware import Middleware
from uvicorn.protocols.http import auto
from uvicorn.protocols.http.h11_impl import H11Protocol

from hat_ray.serve.guard import Guard, rules_of_environment

CALLBACK = "hat_ray.serve.proxy:middlewares"
CALLBACK_VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"


def middlewares() -> list[Middleware]:
    """Return the guard, and close connections that send no head in time."""
    rules = rules_of_environment()
    for protocol in {auto.AutoHTTPProtocol, H11Protocol}:
        _close_silent(protocol, rules.receive_s)
    return [Middleware(Guard, rules=rules)]


def _close_silent(protocol: Any, seconds: float) -> None:
    """Let a protocol of uvicorn, which waits without end, close connections that send no head."""
    made = protocol.connection_made

    def connection_made(self: Any, transport: asyncio.Transport) -> None:
        made(self, transport)
        self.loop.call_later(seconds, _close_unless_asked, self, transport)

    protocol.connection_made = connection_made


def _close_unless_asked(connection: Any, transport: asyncio.Transport) -> None:
    if getattr(connection, "cycle", None) is None and not transport.is_closing():
        transport.close()
