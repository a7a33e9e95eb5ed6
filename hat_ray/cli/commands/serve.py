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
from pydantic import ValidationError

from hat_ray.cli.app import app
from hat_ray.cli.commands.models import BeamOpt, DtypeOpt, ModelOpt, RuntimeOpt, ShortListOpt, model_choice
from hat_ray.cli.glossary import glossary_terms
from hat_ray.cli.options import AddressOpt
from hat_ray.core import console
from hat_ray.errors import HatRayError, RunError
from hat_ray.serve.config import ServeConfig

if TYPE_CHECKING:
    from hat_ray.serve.model_source import ModelSource

_DEFAULT = ServeConfig()


def _flag(field: str, name: str | None = None, **bounds: Any) -> Any:
    """Return the option of a setting, with the setting's own words."""
    words = " ".join(str(ServeConfig.model_fields[field].description).split())
    return typer.Option(name or f"--{field.replace('_', '-')}", help=words, **bounds)


@app.command(
    epilog="""Examples:

hat-ray serve runs/toy --runtime onnx --dtype int8

hat-ray serve exported --replicas 2 --max-replicas 8 --threads 4 --max-batch 64

ray job submit --address http://127.0.0.1:8265 -- python jobs/serve.py /shared/exported --replicas 4

curl -d '{"text": "A dog runs."}' http://127.0.0.1:8000/

curl -d q="A dog runs." -d source=en -d target=de http://127.0.0.1:8000/translate

serve run hat_ray.cluster.serve:app place=/shared/exported max_replicas=4

Requests are JSON by POST: {"text": "..."} is answered by {"translation": "..."}, {"texts": ["...", "..."]} by
{"translations": [...]}. A request may hold options: beam, n_best (then "alternatives" are answered as well),
length_penalty, max_length_factor, min_length_factor, no_repeat_ngram_size, repetition_penalty, coverage_penalty,
retry_loops, sampling, temperature, top_k and seed. --max-beam and --max-length-factor bound them.

A text may have several lines, empty ones too, which keep their places. Each is split into sentences, which are
translated one by one, unless the request has "split": false or the service --no-split. A sentence that is longer
than the model reads is translated in parts. With n_best a text is one line, and is translated whole.

URLs, numbers, placeholders and mark-up come through unchanged where the model learned to, unless the request has
"protect": false or the service --no-protect. --glossary fixes terms for all requests; "glossary": {"dog": "Hund"} for
one, before the service's, up to --max-terms of them.

LibreTranslate's clients work with the same address: /translate (q, source, target, alternatives), /languages, /detect
and /frontend/settings. /detect needs hat-ray[languages]; without it, and for source=auto, the answer is the language
that the model reads, of confidence 0. Of format=html tags come through, where the model learned symbols for them.

A browser at the service's address gets a page to type into. /docs describes all paths, /openapi.json for programs,
/metrics counts requests, lines and seconds for Prometheus. GET /health reports whether a replica answers.

A refused request is answered by {"error": "one line", "status": N}: 400 no JSON, no text or an option out of bounds;
403 another host name or another page's origin; 408 sent too slowly; 415 neither JSON nor a form; 413 more tokens, texts
or bytes than allowed; 404 and 405 another path or method; 503 too many requests wait, no replica answers, or the
service is ending; 504 not in time; 500 a fault.

Each answer has an X-Request-ID: the client's, where it is plain and has at most 128 characters, or a new one. Ray
Serve's logs name each request by it, and the reason of a refusal; texts are not logged.

Waiting texts of all clients are translated together. The requests of a lost replica go to another one. More replicas
serve more clients at once; more threads make each batch faster, less than in proportion. With --max-replicas the number
of replicas follows the load.

The service listens on loopback and asks for no password: put a proxy with passwords in front of it before you set
another --host, and pass the proxy's name as --allowed-host. Ray's own ports are on loopback and ask for a token of this
command. On a running cluster (--address) they stay as that cluster has them.

Ctrl-C and SIGTERM refuse new requests, finish waiting ones, and end within --graceful-shutdown-timeout-s and some ten
seconds.

Ray Serve's own commands and KubeRay's RayService take the same settings as arguments of hat_ray.cluster.serve:app.
Needs ray[serve]: pip install 'hat-ray[serve]'."""
)
def serve(
    place: Annotated[
        str, typer.Argument(metavar="FOLDER", help="A run folder with retrained models, a model folder, or an export.")
    ],
    model: ModelOpt = None,
    beam: BeamOpt = None,
    runtime: RuntimeOpt = None,
    dtype: DtypeOpt = None,
    short_list: ShortListOpt = None,
    replicas: Annotated[int, _flag("replicas", min=1)] = _DEFAULT.replicas,
    threads: Annotated[int, _flag("threads", min=1)] = _DEFAULT.threads,
    max_replicas: Annotated[int | None, _flag("max_replicas", min=1)] = None,
    target_ongoing_requests: Annotated[float, _flag("target_ongoing_requests")] = _DEFAULT.target_ongoing_requests,
    upscale_delay_s: Annotated[float, _flag("upscale_delay_s", min=0)] = _DEFAULT.upscale_delay_s,
    downscale_delay_s: Annotated[float, _flag("downscale_delay_s", min=0)] = _DEFAULT.downscale_delay_s,
    ingress_replicas: Annotated[int, _flag("ingress_replicas", min=1)] = _DEFAULT.ingress_replicas,
    max_batch: Annotated[int, _flag("max_batch", min=1)] = _DEFAULT.max_batch,
    wait_ms: Annotated[float, _flag("wait_ms", min=0)] = _DEFAULT.wait_ms,
    split: Annotated[bool, _flag("split", name="--split/--no-split")] = _DEFAULT.split,
    protect: Annotated[bool, _flag("protect", name="--protect/--no-protect")] = _DEFAULT.protect,
    glossary: Annotated[Path | None, _flag("glossary", metavar="FILE")] = None,
    max_terms: Annotated[int, _flag("max_terms", min=0)] = _DEFAULT.max_terms,
    max_texts: Annotated[int, _flag("max_texts", min=1)] = _DEFAULT.max_texts,
    max_body_bytes: Annotated[int, _flag("max_body_bytes", min=1)] = _DEFAULT.max_body_bytes,
    max_beam: Annotated[int, _flag("max_beam", min=1)] = _DEFAULT.max_beam,
    max_length_factor: Annotated[float, _flag("max_length_factor")] = _DEFAULT.max_length_factor,
    receive_s: Annotated[float, _flag("receive_s", min=0.1)] = _DEFAULT.receive_s,
    allowed_host: Annotated[list[str] | None, _flag("allowed_hosts", name="--allowed-host")] = None,
    max_waiting: Annotated[int, _flag("max_waiting", min=1)] = _DEFAULT.max_waiting,
    timeout_s: Annotated[float, _flag("timeout_s", min=0.1)] = _DEFAULT.timeout_s,
    graceful_shutdown_timeout_s: Annotated[float | None, _flag("graceful_shutdown_timeout_s", min=0)] = None,
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
    settings = {name: value for name, value in locals().items() if name in ServeConfig.model_fields}
    if detach and not (address or os.environ.get("RAY_ADDRESS")):
        raise RunError("--detach needs a cluster that stays when this command ends: name it with --address")
    if not route.startswith("/") or (route != "/" and route.endswith("/")):
        raise RunError(f"--route must begin with / and not end with it, got {route!r}")
    source = model_choice(
        place if "://" in place else str(Path(place).absolute()), model, beam, runtime, dtype, short_list
    )
    if glossary is not None:
        glossary_terms(glossary, unfit=False)  # a mistake is reported before anything starts
        settings["glossary"] = str(glossary.absolute())
    _serve(source, _config({**settings, "allowed_hosts": tuple(allowed_host or ())}), address, detach)


def _config(settings: dict[str, Any]) -> ServeConfig:
    """Return the service's settings; raises RunError for those that do not go together."""
    try:
        return ServeConfig.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        flag = "".join(f"--{str(part).replace('_', '-')}: " for part in first["loc"][:1])
        raise RunError(f"{flag}{first['msg'].removeprefix('Value error, ')}") from error


def _serve(source: "ModelSource", config: ServeConfig, address: str | None, detach: bool) -> None:
    if not (address or os.environ.get("RAY_ADDRESS")):
        _require_free(config)
    try:
        from hat_ray.cluster.execution import RayExecution
        from hat_ray.cluster.serve import guard_proxies, start_service
    except ModuleNotFoundError as error:
        raise HatRayError(
            f"serving needs Ray Serve, and {error.name} is not installed: pip install 'hat-ray[serve]'"
        ) from error
    execution = RayExecution(address, cpus_needed=config.most_replicas * config.threads)
    ending = Path(tempfile.mkdtemp(prefix="hat-ray-serve-"))
    os.environ.update(guard_proxies(config, str(ending / "ends")))  # of a cluster that starts now
    try:
        execution.connect()
        service = start_service(source, config)
        console.say(
            f"{service.url} translates with {source.place}: replicas {_replicas(config)}, threads {config.threads}"
        )
        console.say(open_to(config, address or os.environ.get("RAY_ADDRESS")))
        if not detach:
            _wait_for_the_end()
            (ending / "ends").touch()
            service.stop()
    finally:
        execution.close()
        shutil.rmtree(ending, ignore_errors=True)


def _replicas(config: ServeConfig) -> str:
    most = config.most_replicas
    return str(most) if most == config.replicas else f"{config.replicas} to {most}"


def open_to(config: ServeConfig, address: str | None) -> str:
    """Return one line about who may use the service and Ray's own ports."""
    on_loopback = config.host in ("127.0.0.1", "::1", "localhost")
    who = "every program of this machine" if on_loopback else f"every client that reaches {config.host}"
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
