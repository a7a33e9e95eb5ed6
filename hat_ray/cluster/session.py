"""Join a Ray cluster, or start one on this machine that nobody else can use.

Decisions
- Ray lets workers import from the folder that the driver was started in, and from its script's. Here they import what
  is installed on their node: the current folder may have come from anywhere.
- What is started here listens on loopback only, whatever Ray's version does by default, and asks for a token of its own
  that only this user's processes can read: it is in their environment. It sends no usage statistics.

Who answers at a cluster's address: a Ray head that lets this process in, one that does not, or something else.

Decision: Ray itself asks twenty times in twenty seconds, prints each refusal, and then says only that it cannot
connect. One question of the kind that it begins with tells why.
"""

import logging
import os
import re
import secrets
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import ray
from ray._private import ray_constants
from ray._private.grpc_utils import init_grpc_channel
from ray._private.services import canonicalize_bootstrap_address
from ray.exceptions import AuthenticationError
from ray.job_config import JobConfig

import hat_ray
from hat_ray.core.usable_cpus import usable_cpus
from hat_ray.errors import HatRayError

_QUESTION = "/ray.rpc.NodeInfoGcsService/GetClusterId"
TIMEOUT_S = 10.0


def require_ray(channel: grpc.Channel, address: str, timeout_s: float = TIMEOUT_S) -> None:
    """Raise HatRayError, with the true cause, unless a Ray head answers on a channel and lets this process in."""
    try:
        channel.unary_unary(_QUESTION)(b"", timeout=timeout_s)
    except grpc.RpcError as error:
        raise HatRayError(_why(error.code(), address, timeout_s)) from error


def _why(code: grpc.StatusCode, address: str, timeout_s: float) -> str:
    """Say why a question was not answered, and what to do."""
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return (
            f"the Ray cluster at {address} lets in who has its token, and {_token()}: set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN to the cluster's own"
        )
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return (
            f"something listens at {address}, but answered no question of Ray's within {timeout_s:g} s: is the head "
            "overloaded, or is this another service's port?"
        )
    return (
        f"something listens at {address}, but it is no Ray head ({code.name.lower().replace('_', ' ')}): name the "
        "head's own port, which is 6379 unless `ray start` said another"
    )


def _token() -> str:
    """Name the token that was shown."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return "none was shown (RAY_AUTH_MODE is not token)"
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "refused the one in RAY_AUTH_TOKEN"
    return f"refused the one in {os.environ.get('RAY_AUTH_TOKEN_PATH') or '~/.ray/auth_token'}"


_LISTENER_TIMEOUT_S = 10.0
_ON_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # its "0" makes 127.0.0.1 a node's address on every system
_before: dict[str, str | None] = {}
"""Environment variables as they were before a cluster was started here."""

_LONGEST_REASON = 300
_ROOT = Path(hat_ray.__file__).resolve().parents[1]


class _InstalledCodeOnly(JobConfig):
    """A job whose workers get no folder of the driver's to import from, but the one that hat-ray itself lies in."""

    def _get_proto_job_config(self) -> Any:
        self._py_driver_sys_path = [place for place in self._py_driver_sys_path if Path(place).resolve() == _ROOT]
        return super()._get_proto_job_config()  # type: ignore[no-untyped-call]


def connected() -> bool:
    """Report whether this process is part of a cluster."""
    return bool(ray.is_initialized())


def join(address: str) -> None:
    """Join the cluster at an address; raises HatRayError where none answers, or it does not let this process in."""
    _settle_environment()
    _require_listener(address)
    try:
        _require_ray(address)
        ray.init(address=address, job_config=_InstalledCodeOnly(), log_to_driver=False, logging_level=logging.WARNING)
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
        ray.init(
            address="local",  # else Ray joins whatever cluster was last started on this machine, by anyone
            num_cpus=max(usable_cpus(), cpus_needed),
            include_dashboard=False,
            job_config=_InstalledCodeOnly(),
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
    except BaseException:
        leave()
        raise


def leave() -> None:
    """Leave the cluster; one that was started here ends."""
    ray.shutdown()
    _set_environment(_before.copy())
    _before.clear()


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
    """Return the user's mistake where Ray complains of a cluster of another version of Ray or Python."""
    text = " ".join(str(error).split())
    if "ersion mismatch" not in text and "was started with" not in text:
        return None
    versions = re.search(r"started with: (Ray: \S+ Python: \S+) This process .*? with: (Ray: \S+ Python: \S+)", text)
    told = f"its versions are {versions[1]}, here are {versions[2]}" if versions else text[:_LONGEST_REASON]
    return HatRayError(
        f"the Ray cluster at {address} must have this process's versions of Ray and Python, {told}: install the same "
        "ones on both sides"
    )


def _require_ray(address: str) -> None:
    """Raise HatRayError unless a Ray head answers and lets this process in; `auto` is looked up first."""
    if "://" in address:
        return  # a form whose answer is Ray's to give
    place = canonicalize_bootstrap_address(address)
    if place is None:
        return
    with init_grpc_channel(place) as channel:
        require_ray(channel, place)


def _require_listener(address: str) -> None:
    """Raise HatRayError at once when nobody listens at host:port; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "://" in address:
        return  # `auto`, or a form whose answer is Ray's to give
    try:
        socket.create_connection((host, int(port)), timeout=_LISTENER_TIMEOUT_S).close()
    except OSError as error:
        raise HatRayError(
            f"no Ray cluster answers at {address} ({error}): start one, or leave --address out"
        ) from error
