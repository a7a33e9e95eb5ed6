"""The service on Ray Serve: an ingress that reads requests, replicas that translate.

`app` builds the application from arguments, for everything that names an application by its import path:

    serve run hat_ray.cluster.serve:app place=/shared/exported max_replicas=4
    serve deploy service.yaml        # import_path: hat_ray.cluster.serve:app, args: {place: /shared/exported}

and for KubeRay's RayService, whose `serveConfigV2` is that YAML. `serve build` takes no arguments and accepts no
builder: it gets `hat_ray.cluster.serve:application`, whose arguments stand as JSON in `HAT_RAY_SERVE_ARGS`.

The life of a request: Ray's proxy hands it to an ingress, which refuses it or passes its texts to a replica. There they
become part of a batch. When that replica is lost the ingress asks another one, or waits for a new one. Translating
twice does no harm, so the loss of replicas loses no accepted request. What a lost *ingress* was answering is lost
(status 500): no other process has it.

Decisions
- Only replicas open the model. An ingress asks one of them for the vocabulary, so that building an application needs
  neither the model nor its folder.
- An ingress checks head and body of a request although Ray's proxies do (`proxy.py`): on a cluster that another program
  started these are not ours.
"""

import asyncio
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grpc.aio import _server as grpc_server
from pydantic import ValidationError
from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.config import AutoscalingConfig
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import Response

from hat_ray.errors import HatRayError
from hat_ray.model.hypotheses.knobs import Decoding
from hat_ray.serve.config import AppConfig, ServeArgs, ServeConfig
from hat_ray.serve.guard import VARIABLE, Rules
from hat_ray.serve.model_source import ModelSource
from hat_ray.serve.proxy import CALLBACK, CALLBACK_VARIABLE
from hat_ray.serve.requests import BUSY, FAULT, RefusedError, RequestReader, TextOptions
from hat_ray.serve.service import HEALTH
from hat_ray.serve.service import Service as HttpService
from hat_ray.serve.worker import FrontEnds, Translated, Worker, WorkerStatus

log = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "::1", "localhost")
ARGS_VARIABLE = "HAT_RAY_SERVE_ARGS"
"""Environment variable with the arguments of `application`, as a JSON object."""

_HEALTH_TIMEOUT_S = 5.0
_RETRY_S = 0.2
_READY_TIMEOUT_S = 30.0
_STOP_MARGIN_S = 20.0


class Replica(Worker):
    """A worker that is an actor of Ray Serve."""

    def __init__(self, source: ModelSource, config: AppConfig) -> None:
        _keep_grpc_on_loopback()
        super().__init__(source, config)
        self._timeout_s = config.timeout_s

    def check_health(self) -> None:
        """Raise where this replica hangs: Ray then replaces it."""
        if self.busy_s > 2 * self._timeout_s:
            raise RuntimeError(f"a batch has taken {self.busy_s:.0f} s")


class Replicas:
    """The replicas as one backend: a request whose replica is lost goes to another one."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle, self.retries = handle, 0

    async def translate(self, texts: Sequence[str], decoding: Decoding, around: TextOptions) -> Translated:
        """Return the translations of each text, the best first."""
        found: Translated = await self._ask("translate", list(texts), decoding, around)
        return found

    async def reader(self) -> RequestReader:
        """Return the reader of requests."""
        reader: RequestReader = await self._ask("reader")
        return reader

    async def status(self) -> WorkerStatus:
        """Return what one replica reports; a lost one is not replaced by another."""
        try:
            status: WorkerStatus = await self._handle.status.remote()
        except (RayActorError, BackPressureError, DeploymentUnavailableError) as error:
            raise RefusedError(BUSY, "no replica answers") from error
        return status

    async def _ask(self, method: str, *arguments: Any) -> Any:
        """Return a replica's answer; asks another one when the first is lost."""
        while True:
            try:
                return await getattr(self._handle, method).remote(*arguments)
            except RayActorError as error:  # the replica was lost; the router has noticed by now
                self.retries += 1
                log.warning("a replica was lost while it translated, another one is asked: %s", _first_line(error))
                await asyncio.sleep(_RETRY_S)
            except BackPressureError as error:
                raise RefusedError(BUSY, "too many requests wait: ask again later") from error
            except DeploymentUnavailableError as error:
                raise RefusedError(BUSY, "no replica could be started: see the service's log") from error
            except RayTaskError as error:
                log.exception("a request could not be translated")
                raise RefusedError(FAULT, f"this text could not be translated: {_first_line(error.cause)}") from error


class Ingress:
    """Reads requests, refuses bad ones, and answers good ones with the help of replicas."""

    def __init__(self, replicas: DeploymentHandle[Any], rules: Rules, timeout_s: float) -> None:
        _keep_grpc_on_loopback()
        self._service = HttpService(Replicas(replicas), rules, timeout_s)

    async def __call__(self, request: Request) -> Response:
        return await self._service.answer(request)


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


def app(args: ServeArgs) -> serve.Application:
    """Build the application from arguments; nothing is opened before a replica starts."""
    source = ModelSource(
        args.place,
        model_id=args.model,
        runtime=args.runtime,
        dtype=args.dtype,
        short_list=args.short_list,
        beam=args.beam,
    )
    return build_application(source, args)


if not TYPE_CHECKING:  # type checkers would take every name for an attribute of this module

    def __getattr__(name: str) -> serve.Application:
        """Build `application` where it is named: `serve build` accepts an application, and no builder."""
        if name != "application":
            raise AttributeError(f"module {__name__} has no attribute {name}")
        return app(_args_of_environment())


def _args_of_environment() -> ServeArgs:
    try:
        return ServeArgs.model_validate_json(os.environ.get(ARGS_VARIABLE, "{}"))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise HatRayError(
            f"{ARGS_VARIABLE} must hold the application's arguments as a JSON object: {key + ': ' if key else ''}"
            f'{first["msg"]}; such as {{"place": "/shared/exported"}}'
        ) from error


def build_application(source: ModelSource, config: AppConfig) -> serve.Application:
    """Return the application that serves a model."""
    ending: dict[str, Any] = {
        "graceful_shutdown_timeout_s": config.shutdown_s,
        "graceful_shutdown_wait_loop_s": 0.2,
    }
    replicas = serve.deployment(
        name="replica",
        ray_actor_options={"num_cpus": config.threads},
        max_ongoing_requests=max(4 * config.max_batch, 64),
        max_queued_requests=config.max_waiting,
        **_scaling(config),
        **ending,
    )(Replica)
    ingress = serve.deployment(
        name="ingress",
        num_replicas=config.ingress_replicas,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=config.max_waiting + (64 + 4 * config.max_batch) * config.most_replicas,
        **ending,
    )(Ingress)
    application: serve.Application = ingress.bind(replicas.bind(source, config), rules_of(config), config.timeout_s)
    return application


def _scaling(config: AppConfig) -> dict[str, Any]:
    """Return the options that fix the number of replicas, or let it follow the load."""
    if config.most_replicas == config.replicas:
        return {"num_replicas": config.replicas}
    scaling = AutoscalingConfig(
        min_replicas=config.replicas,
        max_replicas=config.most_replicas,
        target_ongoing_requests=config.target_ongoing_requests,
        upscale_delay_s=config.upscale_delay_s,
        downscale_delay_s=config.downscale_delay_s,
    )
    return {"autoscaling_config": scaling}


@dataclass(frozen=True)
class Service:
    """A service that answers."""

    url: str
    name: str
    shutdown_s: float

    def stop(self) -> None:
        """End the service; return when it has ended, or with a warning where its replicas take longer than allowed."""
        serve.delete(self.name, _blocking=False)  # which waits at most a minute otherwise, and then raises
        deadline = time.monotonic() + self.shutdown_s + _STOP_MARGIN_S
        while self.name in serve.status().applications:
            if time.monotonic() > deadline:
                log.warning("%s has not ended within %g s: Ray Serve ends it later", self.name, self.shutdown_s)
                return
            time.sleep(_RETRY_S)


def start_service(source: ModelSource, config: ServeConfig) -> Service:
    """Deploy a model on the cluster that this process is connected to; return when it answers."""
    FrontEnds(source.open(config.threads), config)  # a mistake is reported here, at once, and not by every replica
    serve.start(
        proxy_location="HeadOnly" if config.host in LOOPBACK else "EveryNode",
        http_options={"host": config.host, "port": config.port},
    )
    serve.run(build_application(source, config), name=config.name, route_prefix=config.route)
    service = Service(f"http://{_address(config.host)}:{config.port}{config.route}", config.name, config.shutdown_s)
    _require_answer(service.url, config)
    return service


def rules_of(config: AppConfig, stop_file: str | None = None) -> Rules:
    """Return the rules that requests to a service must keep."""
    return Rules(config.max_body_bytes, config.receive_s, config.allowed_hosts, stop_file)


def guard_proxies(config: AppConfig, stop_file: str) -> dict[str, str]:
    """Return the environment in which a cluster has to start so that its proxies are guarded."""
    return {VARIABLE: rules_of(config, stop_file).to_json(), CALLBACK_VARIABLE: CALLBACK}


def _require_answer(url: str, config: ServeConfig) -> None:
    """Raise HatRayError where nobody answers at the requested address: one cluster has one HTTP address."""
    health, deadline = url.rstrip("/") + HEALTH, time.monotonic() + _READY_TIMEOUT_S
    reason = ""
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(health, timeout=_HEALTH_TIMEOUT_S):
                return
        except (urllib.error.URLError, OSError) as error:
            reason = str(error)
        time.sleep(_RETRY_S)
    raise HatRayError(
        f"the service was started but {health} does not answer ({reason}): if Ray Serve already ran on this cluster "
        f"with another address than {config.host}:{config.port}, use that one, or shut it down with `serve shutdown`"
    )


def _address(host: str) -> str:
    """Return the address at which this machine reaches a service on a host."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(host, host)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
