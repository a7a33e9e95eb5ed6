"""Join a Ray cluster, or start one on this machine that nobody else can use.

Decisions
- Ray lets workers import from the folder that the driver was started in, and from its script's. Here they import what
  is installed on their node: the current folder may have come from anywhere.
- A cluster that is started here listens on loopback only, whatever Ray's version does by default, and asks for a token
  of its own, which stands in the environment of this user's processes. It sends no usage statistics.
- Before a cluster is joined it is asked one question of the kind that Ray begins with. Ray itself asks twenty times in
  twenty seconds, prints each refusal, and then reports only that it cannot connect.
- Ray reads its environment once, when it is imported. `_set_environment` makes it read again, for which Ray has no
  public function. Nor has it one for the nodes that it drains which does not describe all nodes of the cluster: many
  workers ask every few seconds. No other module touches private parts of Ray (`tests/test_tree.py`).
"""

import logging
import os
import re
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import ray
from ray._private import ray_constants
from ray.exceptions import AuthenticationError, RayTaskError
from ray.job_config import JobConfig

import hat_ray
from hat_ray.core.usable_cpus import usable_cpus
from hat_ray.errors import HatRayError, StorageError, in_one_line

_QUESTION = "/ray.rpc.NodeInfoGcsService/GetClusterId"
_REFUSALS = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
TIMEOUT_S = 10.0
SLOW_START = "timed out during startup"
"""What Ray reports of processes that take longer to start than it waits."""

log = logging.getLogger(__name__)


def ask_head(address: str, token: str | None, timeout_s: float = TIMEOUT_S) -> grpc.StatusCode:
    """Ask the Ray head at host:port one question, with a token or without; return the status of its answer."""
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(_QUESTION)(b"", timeout=timeout_s, metadata=metadata)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
    return grpc.StatusCode.OK


def refused(code: grpc.StatusCode) -> bool:
    """Report whether a status means that the head wants a token, or another one."""
    return code in _REFUSALS


def require_ray(address: str, timeout_s: float = TIMEOUT_S) -> None:
    """Raise HatRayError, with the true cause, unless a Ray head answers at host:port and lets this process in."""
    code = ask_head(address, _token(), timeout_s)
    if code != grpc.StatusCode.OK:
        raise HatRayError(_why(code, address, timeout_s))


def _why(code: grpc.StatusCode, address: str, timeout_s: float) -> str:
    """Return why a question was not answered, with the remedy."""
    if refused(code):
        return (
            f"the Ray cluster at {address} lets in who has its token, and {_token_shown()}: set RAY_AUTH_MODE=token "
            "and RAY_AUTH_TOKEN to the cluster's own"
        )
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return (
            f"something listens at {address}, but answered no question of Ray's within {timeout_s:g} s: is the head "
            "overloaded, or is this another service's port?"
        )
    return (
        f"something listens at {address}, but it is no Ray head ({code.name.lower().replace('_', ' ')}): name the "
        "head's own port, which is 6379 unless `ray start` had another"
    )


def _token() -> str | None:
    """Return the token that this process shows, from where Ray takes it."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return None
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token.strip()
    with suppress(OSError, UnicodeDecodeError):
        return _token_file().expanduser().read_text(encoding="utf-8").strip()
    return None


def _token_file() -> Path:
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token")


def _token_shown() -> str:
    """Return which token was shown, in words."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return "none was shown (RAY_AUTH_MODE is not token)"
    return f"refused the one in {'RAY_AUTH_TOKEN' if os.environ.get('RAY_AUTH_TOKEN') else _token_file()}"


_LISTENER_TIMEOUT_S = 10.0
_ON_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # its "0" makes 127.0.0.1 a node's address on every system
_before: dict[str, str | None] = {}
"""Environment variables as they were before a cluster was started here."""

_LONGEST_REASON = 300
_ROOT = Path(hat_ray.__file__).resolve().parents[1]
_CURRENT_CLUSTER = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
"""Where `ray start` notes the address that `auto` stands for."""


class _InstalledCodeOnly(JobConfig):
    """A job whose workers import from none of the driver's folders but the one that holds hat-ray itself."""

    def _get_proto_job_config(self) -> Any:
        self._py_driver_sys_path = [place for place in self._py_driver_sys_path if Path(place).resolve() == _ROOT]
        return super()._get_proto_job_config()  # type: ignore[no-untyped-call]


def connected() -> bool:
    """Report whether this process is part of a cluster."""
    return bool(ray.is_initialized())


def started_here() -> bool:
    """Report whether this process is part of a cluster that it started: one machine, for one run."""
    return bool(_before)


def join(address: str) -> None:
    """Join the cluster at an address; raises HatRayError where none answers, or it does not let this process in."""
    _settle_environment()
    place = _host_and_port(address)
    if place is not None:
        _require_listener(place)
        if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
            require_ray(place)
    try:
        with _own_sigterm():
            ray.init(
                address=address, job_config=_InstalledCodeOnly(), log_to_driver=False, logging_level=logging.WARNING
            )
    except ConnectionError as error:
        raise HatRayError(f"no Ray cluster answers at {address}: {str(error).splitlines()[0]}") from error
    except AuthenticationError as error:
        raise HatRayError(f"the token for the Ray cluster at {address}: {str(error).split('. ')[0]}") from error
    except RuntimeError as error:
        raise other_version(error, address) or error from error


def start(cpus_needed: int) -> None:
    """Start a cluster on this machine, of all its CPUs; it offers `cpus_needed` where there are fewer.

    One machine may offer more CPUs than it has: training, timing and search never run at the same time.
    """
    _settle_environment()
    _set_environment({_ON_LOOPBACK: "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})
    try:
        with _own_sigterm():
            patiently(
                lambda: ray.init(
                    address="local",  # else Ray joins whatever cluster was last started on this machine, by anyone
                    num_cpus=max(usable_cpus(), cpus_needed),
                    include_dashboard=False,
                    job_config=_InstalledCodeOnly(),
                    log_to_driver=False,
                    logging_level=logging.WARNING,
                )
            )
    except BaseException:
        leave()
        raise


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep what the command does on SIGTERM; Ray replaces it by a silent exit with code 15."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def patiently(begin: Callable[[], object], tries: int = 4) -> None:
    """Begin a cluster, and again where a busy machine was too slow for Ray, which gives its processes 30 s to start.

    Raises StorageError after as many tries.
    """
    for left in reversed(range(tries)):
        try:
            begin()
            return
        except Exception as error:
            if SLOW_START not in str(error):
                raise
            ray.shutdown()
            if not left:
                raise StorageError(
                    f"Ray did not start here within {tries} times 30 s: this machine is too busy, try again later"
                ) from error
            log.warning("Ray's processes were too slow to start, as on a busy machine: they are started again")


def get(answer: Any) -> Any:
    """Return the result of a task or actor; raises a user's mistake and a storage's fault as they were raised there."""
    try:
        return ray.get(answer)
    except RayTaskError as error:
        if isinstance(error.cause, HatRayError | StorageError | OSError):
            raise error.cause from None
        raise


def leaving_nodes() -> frozenset[str]:
    """Return the ids of the nodes that Ray drains, since they will be taken away."""
    state: Any = ray._private.state.state
    return frozenset(state.get_draining_nodes())


def leaves_here() -> bool:
    """Report whether the node that this process runs on will be taken away."""
    return ray.get_runtime_context().get_node_id() in leaving_nodes()


def dashboard_url() -> str:
    """Return host:port of the dashboard of the cluster that this process is connected to; empty without one."""
    return str(ray.init(ignore_reinit_error=True, logging_level=logging.WARNING).dashboard_url or "")


def leave() -> None:
    """Leave the cluster; one that was started here ends."""
    ray.shutdown()
    _set_environment(_before.copy())
    _before.clear()


def _host_and_port(address: str) -> str | None:
    """Return host:port of an address; None for one that only Ray resolves."""
    if address == "auto":
        with suppress(OSError, UnicodeDecodeError):
            address = _CURRENT_CLUSTER.read_text(encoding="utf-8").strip()
    host, _, port = address.rpartition(":")
    return address if host and port.isdigit() and "://" not in address else None


def _set_environment(values: Mapping[str, str | None]) -> None:
    """Set environment variables (None: unset), and let Ray, which has read them, read them again."""
    for name, value in values.items():
        _before.setdefault(name, os.environ.get(name))
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    ray_constants.ENABLE_RAY_CLUSTER = os.environ.get(_ON_LOOPBACK, "1" if sys.platform == "linux" else "0") != "0"
    raylet: Any = ray._raylet
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()


def _settle_environment() -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")


def other_version(error: RuntimeError, address: str) -> HatRayError | None:
    """Return the user's mistake where Ray refuses a cluster of another version of Ray or Python."""
    text = in_one_line(error, 1 << 12)
    if "ersion mismatch" not in text and "was started with" not in text:
        return None
    versions = re.search(r"started with: (Ray: \S+ Python: \S+) This process .*? with: (Ray: \S+ Python: \S+)", text)
    found = f"its versions are {versions[1]}, here are {versions[2]}" if versions else text[:_LONGEST_REASON]
    return HatRayError(
        f"the Ray cluster at {address} must have this process's versions of Ray and Python, {found}: install the same "
        "ones on both sides"
    )


def _require_listener(address: str) -> None:
    """Raise HatRayError at once when nobody listens at host:port; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_LISTENER_TIMEOUT_S).close()
    except OSError as error:
        raise HatRayError(
            f"no Ray cluster answers at {address} ({error}): start one, or leave --address out"
        ) from error
