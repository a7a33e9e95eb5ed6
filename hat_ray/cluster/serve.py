"""The service on Ray Serve: fronts that read requests, replicas that translate.

The life of a request: Ray's proxy hands it to a front, which refuses it or passes its texts to a replica; there they
become part of a batch. When that replica is lost the front asks another one, or waits for a new one: translating twice
does no harm, so an accepted request is answered whatever happens to replicas. What a lost *front* was answering is lost
(status 500): nobody else knows of it.
"""

import asyncio
import logging
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from grpc.aio import _server as grpc_server
from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hat_ray.errors import HatRayError
from hat_ray.export.stream import translate_group
from hat_ray.serve.batcher import Batcher
from hat_ray.serve.config import ServeConfig
from hat_ray.serve.guard import VARIABLE, Rules
from hat_ray.serve.model_source import ModelChoice
from hat_ray.serve.proxy import CALLBACK, CALLBACK_VARIABLE
from hat_ray.serve.requests import BUSY, FAULT, NOT_ALLOWED, NOT_FOUND, TOO_LATE, RefusedError, RequestReader

log = logging.getLogger(__name__)

HEALTH = "/health"
LOOPBACK = ("127.0.0.1", "::1", "localhost")

_HEALTH_TIMEOUT_S = 5.0
_RETRY_S = 0.2
_READY_TIMEOUT_S = 30.0


class Replica:
    """Holds the model."""

    def __init__(self, choice: ModelChoice, config: ServeConfig) -> None:
        _keep_grpc_on_loopback()
        served = choice.open(config.threads)
        self._timeout_s = config.timeout_s
        self._batcher = Batcher(
            partial(translate_group, served),
            config.max_batch,
            config.wait_ms / 1e3,
            partial(torch.set_num_threads, config.threads),
        )

    async def translate(self, texts: list[str]) -> list[str]:
        """Return the translation of each text."""
        return await self._batcher.do(texts)

    async def batch_sizes(self) -> list[int]:
        """Return how many texts the last batches had."""
        return list(self._batcher.sizes)

    def check_health(self) -> None:
        """Tell Ray, by raising, that this replica hangs: it is then replaced."""
        if self._batcher.busy_s > 2 * self._timeout_s:
            raise RuntimeError(f"a batch has taken {self._batcher.busy_s:.0f} s")


class Front:
    """Reads requests, refuses bad ones, and sees to it that good ones are answered."""

    def __init__(
        self,
        replicas: DeploymentHandle[Any],
        reader: RequestReader,
        rules: Rules,
        timeout_s: float,
        about: dict[str, str],
    ) -> None:
        _keep_grpc_on_loopback()
        self._replicas, self._reader, self._timeout_s, self._about = replicas, reader, timeout_s, about
        self._rules = rules
        self._asked_again = 0

    async def __call__(self, request: Request) -> Response:
        try:
            return JSONResponse(await self._answer(request))
        except RefusedError as refused:
            headers = {NOT_ALLOWED: {"Allow": "POST"}, BUSY: {"Retry-After": "1"}}.get(refused.status)
            return JSONResponse(refused.to_dict(), refused.status, headers)

    async def _answer(self, request: Request) -> dict[str, Any]:
        self._rules.check_head(request.headers)
        path = request.url.path.removeprefix(str(request.scope.get("root_path", ""))).rstrip("/")
        if path == HEALTH:
            return await self._health()
        if path:
            raise RefusedError(NOT_FOUND, f"there is nothing at {path}: POST to the service's own path, GET {HEALTH}")
        if request.method != "POST":
            raise RefusedError(NOT_ALLOWED, f"translations are asked for by POST, got {request.method}")
        asked = self._reader.read(await self._rules.body(request.receive))
        try:
            async with asyncio.timeout(self._timeout_s):
                return asked.answer(await self._translations(list(asked.texts)))
        except TimeoutError as error:
            raise RefusedError(TOO_LATE, f"not translated within {self._timeout_s:g} s: ask again") from error

    async def _translations(self, texts: list[str]) -> list[str]:
        while True:
            try:
                return list(await self._replicas.translate.remote(texts))
            except RayActorError as error:  # the replica was lost; the router knows it by now
                self._asked_again += 1
                log.warning("a replica was lost while it translated, another one is asked: %s", _first_line(error))
                await asyncio.sleep(_RETRY_S)
            except BackPressureError as error:
                raise RefusedError(BUSY, "too many requests wait: ask again later") from error
            except DeploymentUnavailableError as error:
                raise RefusedError(BUSY, "no replica could be started: see the service's log") from error
            except RayTaskError as error:
                log.exception("a request could not be translated")
                raise RefusedError(FAULT, f"this text could not be translated: {_first_line(error.cause)}") from error

    async def _health(self) -> dict[str, Any]:
        """Say that a replica answers."""
        try:
            async with asyncio.timeout(_HEALTH_TIMEOUT_S):
                sizes = await self._replicas.batch_sizes.remote()
        except (TimeoutError, RayActorError, BackPressureError, DeploymentUnavailableError) as error:
            raise RefusedError(BUSY, f"no replica answers within {_HEALTH_TIMEOUT_S:g} s") from error
        mean = round(sum(sizes) / len(sizes), 2) if sizes else None
        return {"status": "ok", **self._about, "mean_batch": mean, "asked_again": self._asked_again}


def _keep_grpc_on_loopback() -> None:
    """Let this process' gRPC servers listen on loopback only.

    Each of Ray Serve's replicas opens one on all interfaces, which unpickles what it gets, for a way of calling that is
    off by default. It opens it after it has made what it serves.
    """
    if os.environ.get("RAY_SERVE_USE_GRPC_BY_DEFAULT") != "1":
        grpc_server.Server.add_insecure_port = _add_loopback_port


_add_port = grpc_server.Server.add_insecure_port


def _add_loopback_port(server: grpc_server.Server, address: str) -> int:
    host, _, port = address.rpartition(":")
    return int(_add_port(server, f"127.0.0.1:{port}" if host in ("[::]", "0.0.0.0") else address))


@dataclass(frozen=True)
class Service:
    """A service that answers."""

    url: str
    name: str

    def stop(self) -> None:
        serve.delete(self.name)


def start_service(choice: ModelChoice, config: ServeConfig) -> Service:
    """Deploy a model on the cluster that this process is connected to; return when it answers."""
    served = choice.open(config.threads)  # a mistake is told here, at once, and not by every replica
    reader = RequestReader(
        served.vocabulary,
        served.config.max_source_length,
        config.max_texts,
        config.max_body_bytes,
    )
    serve.start(
        proxy_location="HeadOnly" if config.host in LOOPBACK else "EveryNode",
        http_options={"host": config.host, "port": config.port},
    )
    ending: dict[str, Any] = {"graceful_shutdown_timeout_s": config.timeout_s, "graceful_shutdown_wait_loop_s": 0.2}
    replicas = serve.deployment(
        name="replica",
        num_replicas=config.replicas,
        ray_actor_options={"num_cpus": config.threads},
        max_ongoing_requests=max(4 * config.max_batch, 64),
        max_queued_requests=config.max_waiting,
        **ending,
    )(Replica)
    fronts = serve.deployment(
        name="front",
        num_replicas=config.fronts,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=config.max_waiting + 64 * config.replicas + 4 * config.max_batch * config.replicas,
        **ending,
    )(Front)
    serve.run(
        fronts.bind(replicas.bind(choice, config), reader, rules_of(config), config.timeout_s, choice.about()),
        name=config.name,
        route_prefix=config.route,
    )
    service = Service(f"http://{_address(config.host)}:{config.port}{config.route}", config.name)
    _require_answer(service.url, config)
    return service


def rules_of(config: ServeConfig, stop_file: str | None = None) -> Rules:
    """Return what a service lets requests be."""
    return Rules(config.max_body_bytes, config.receive_s, config.allowed_hosts, stop_file)


def guard_proxies(config: ServeConfig, stop_file: str) -> dict[str, str]:
    """Return the environment in which a cluster has to start so that its proxies are guarded."""
    return {VARIABLE: rules_of(config, stop_file).to_json(), CALLBACK_VARIABLE: CALLBACK}


def _require_answer(url: str, config: ServeConfig) -> None:
    """Raise HatRayError where nobody answers at the place that was asked for: one cluster has one HTTP address."""
    health, deadline = url.rstrip("/") + HEALTH, time.monotonic() + _READY_TIMEOUT_S
    told = ""
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(health, timeout=_HEALTH_TIMEOUT_S):
                return
        except (urllib.error.URLError, OSError) as error:
            told = str(error)
        time.sleep(_RETRY_S)
    raise HatRayError(
        f"the service was started but {health} does not answer ({told}): if Ray Serve already ran on this cluster with "
        f"another address than {config.host}:{config.port}, use that one, or shut it down with `serve shutdown`"
    )


def _address(host: str) -> str:
    """Return how this machine reaches what listens on a host."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(host, host)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
