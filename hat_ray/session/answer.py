"""Who answers at a cluster's address: a Ray head that lets this process in, one that does not, or something else.

Decision: Ray itself asks twenty times in twenty seconds, prints each refusal, and then says only that it cannot
connect. One question of the kind that it begins with tells why.
"""

import os

import grpc

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
