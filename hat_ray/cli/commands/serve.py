"""Command `serve`: a model as a service on Ray Serve."""

import os
import shutil
import signal
import socket
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hat_ray.cli.app import app
from hat_ray.cli.commands.models import BeamOpt, DtypeOpt, ModelOpt, RuntimeOpt, ShortListOpt, model_choice
from hat_ray.cli.options import AddressOpt
from hat_ray.core import console
from hat_ray.errors import HatRayError, RunError
from hat_ray.serve.config import ServeConfig

if TYPE_CHECKING:
    from hat_ray.serve.model_source import ModelChoice

_DEFAULT = ServeConfig()


def _flag(field: str, name: str | None = None, **bounds: Any) -> Any:
    """Return the option of a setting, with the setting's own words."""
    words = " ".join(str(ServeConfig.model_fields[field].description).split())
    return typer.Option(name or f"--{field.replace('_', '-')}", help=words, **bounds)


@app.command(
    epilog="""Examples:

hat-ray serve runs/toy --runtime onnx --dtype int8

hat-ray serve exported --replicas 2 --threads 4 --max-batch 64

ray job submit --address http://127.0.0.1:8265 -- python jobs/serve.py /shared/exported --replicas 4

curl -d '{"text": "A dog runs."}' http://127.0.0.1:8000/

Requests are JSON by POST: {"text": "..."} is answered by {"translation": "..."}, {"texts": ["...", "..."]} by
{"translations": [...]}. What cannot be done is answered by {"error": "one line", "status": N}: 400 no JSON, no text,
an empty one or several lines; 403 another host's name or another page's origin; 408 sent too slowly; 413 more tokens,
texts or bytes than allowed; 404 and 405 another path or method; 503 too many wait, no replica answers, or the service
is ending; 504 not in time; 500 a fault. GET /health says that a replica answers.

Texts of all clients that wait together are translated together. When a replica is lost its requests go to another one.
More replicas serve more clients at once; more threads make each batch faster, less than in proportion.

It listens on loopback and knows no passwords: put a proxy that does in front of it before you name another --host, and
name the proxy's name with --allowed-host. Ray's own ports are on loopback and ask for a token of this command's, unless
it works on a cluster that runs already (--address): those are as that cluster has them.

Ctrl-C and SIGTERM refuse what comes then, finish what waits, and end within --timeout-s and some ten seconds.
Needs ray[serve]: pip install 'hat-ray[serve]'."""
)
def serve(
    place: Annotated[
        str, typer.Argument(metavar="FOLDER", help="A run folder with retrained models, or an exported model's folder.")
    ],
    model: ModelOpt = None,
    beam: BeamOpt = None,
    runtime: RuntimeOpt = None,
    dtype: DtypeOpt = None,
    short_list: ShortListOpt = None,
    replicas: Annotated[int, _flag("replicas", min=1)] = _DEFAULT.replicas,
    threads: Annotated[int, _flag("threads", min=1)] = _DEFAULT.threads,
    fronts: Annotated[int, _flag("fronts", min=1)] = _DEFAULT.fronts,
    max_batch: Annotated[int, _flag("max_batch", min=1)] = _DEFAULT.max_batch,
    wait_ms: Annotated[float, _flag("wait_ms", min=0)] = _DEFAULT.wait_ms,
    max_texts: Annotated[int, _flag("max_texts", min=1)] = _DEFAULT.max_texts,
    max_body_bytes: Annotated[int, _flag("max_body_bytes", min=1)] = _DEFAULT.max_body_bytes,
    receive_s: Annotated[float, _flag("receive_s", min=0.1)] = _DEFAULT.receive_s,
    allowed_host: Annotated[list[str] | None, _flag("allowed_hosts", name="--allowed-host")] = None,
    max_waiting: Annotated[int, _flag("max_waiting", min=1)] = _DEFAULT.max_waiting,
    timeout_s: Annotated[float, _flag("timeout_s", min=0.1)] = _DEFAULT.timeout_s,
    host: Annotated[str, _flag("host")] = _DEFAULT.host,
    port: Annotated[int, _flag("port", min=1, max=65535)] = _DEFAULT.port,
    route: Annotated[str, _flag("route")] = _DEFAULT.route,
    name: Annotated[str, _flag("name")] = _DEFAULT.name,
    address: AddressOpt = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Leave the service on the cluster and return when it answers.")
    ] = False,
) -> None:
    """Serve a model over HTTP with Ray Serve, until Ctrl-C."""
    if detach and not (address or os.environ.get("RAY_ADDRESS")):
        raise RunError("--detach needs a cluster that stays when this command ends: name it with --address")
    if not route.startswith("/") or (route != "/" and route.endswith("/")):
        raise RunError(f"--route must begin with / and not end with it, got {route!r}")
    choice = model_choice(
        place if "://" in place else str(Path(place).absolute()), model, beam, runtime, dtype, short_list
    )
    limits: dict[str, Any] = {"max_texts": max_texts, "max_body_bytes": max_body_bytes, "max_waiting": max_waiting}
    place_at = {"host": host, "port": port, "route": route, "name": name}
    work = {"replicas": replicas, "fronts": fronts, "threads": threads, "max_batch": max_batch, "wait_ms": wait_ms}
    limits |= {"receive_s": receive_s, "allowed_hosts": tuple(allowed_host or ())}
    config = ServeConfig.model_validate({**place_at, **work, **limits, "timeout_s": timeout_s})
    _serve(choice, config, address, detach)


def _serve(choice: "ModelChoice", config: ServeConfig, address: str | None, detach: bool) -> None:
    if not (address or os.environ.get("RAY_ADDRESS")):
        _require_free(config)
    try:
        from hat_ray.cluster.execution import RayExecution
        from hat_ray.cluster.serve import guard_proxies, start_service
    except ModuleNotFoundError as error:
        raise HatRayError(
            f"serving needs Ray Serve, and {error.name} is not installed: pip install 'hat-ray[serve]'"
        ) from error
    execution = RayExecution(address, cpus_needed=config.replicas * config.threads)
    ending = Path(tempfile.mkdtemp(prefix="hat-ray-serve-"))
    os.environ.update(guard_proxies(config, str(ending / "ends")))  # of a cluster that starts now
    try:
        execution.connect()
        service = start_service(choice, config)
        console.say(
            f"{service.url} translates with {choice.place}: replicas {config.replicas}, threads {config.threads}"
        )
        console.say(open_to(config, address or os.environ.get("RAY_ADDRESS")))
        if not detach:
            _wait_for_the_end()
            (ending / "ends").touch()
            service.stop()
    finally:
        execution.close()
        shutil.rmtree(ending, ignore_errors=True)


def open_to(config: ServeConfig, address: str | None) -> str:
    """Say in one line what is open to whom."""
    on_loopback = config.host in ("127.0.0.1", "::1", "localhost")
    who = "every program of this machine" if on_loopback else f"whoever reaches {config.host}"
    rays = "on loopback, for this command's token" if address is None else f"the cluster's at {address}: see doctor"
    return f"open to {who}, without a password; Ray's own ports: {rays}"


def _require_free(config: ServeConfig) -> None:
    """Raise HatRayError where the port is another program's: Ray's proxy would only say so in its log."""
    try:
        with socket.create_server((config.host, config.port)):
            pass
    except OSError as error:
        raise HatRayError(
            f"port {config.port} is taken or not to be had at {config.host} ({error.strerror}): name another --port"
        ) from error


def _wait_for_the_end() -> None:
    """Wait for Ctrl-C, or for the signal that ends a Ray job."""
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    while not over.wait(0.5):
        pass
    console.say("stopping the service")
