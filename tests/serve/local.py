"""The service without Ray, on a real socket of this process: the same guard, the same answers, one worker."""

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.requests import Request

from hat_ray.serve.config import ServeConfig
from hat_ray.serve.guard import Guard, Rules
from hat_ray.serve.model_source import ModelSource
from hat_ray.serve.service import Service
from hat_ray.serve.worker import Worker


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


@dataclass(frozen=True)
class Local:
    port: int
    worker: Worker
    service: Service
    route: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.route}"

    def ask(
        self, body: object = None, path: str = "/", method: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """POST a body, or GET without one."""
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=240)
        try:
            verb = method or ("GET" if body is None else "POST")
            client.request(verb, self.route.rstrip("/") + path, content, dict(headers or {}))
            answer = client.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            client.close()

    def answered(self, body: object) -> dict[str, Any]:
        """POST a body that is not refused; return the answer."""
        answer = self.ask(body)
        assert answer.status == 200, answer.content
        found: dict[str, Any] = answer.json
        return found


@contextmanager
def served(place: Path, route: str = "/", **settings: Any) -> Iterator[Local]:
    """Serve an export until the block ends, below a route as Ray's proxy would."""
    config = ServeConfig(**settings)
    worker = Worker(ModelSource(str(place)), config)
    rules = Rules(config.max_body_bytes, config.receive_s, config.allowed_hosts)
    service = Service(worker, rules, config.timeout_s)
    root = "" if route == "/" else route

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope = {**scope, "root_path": root}
        response = await service.answer(Request(scope, receive))
        await response(scope, receive, send)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        options = uvicorn.Config(Guard(app, rules), lifespan="off", log_level="critical", access_log=False)
        server = uvicorn.Server(options)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
        thread.start()
        try:
            yield Local(int(listener.getsockname()[1]), worker, service, route)
        finally:
            server.should_exit = True
            thread.join(240)
            assert not thread.is_alive()
