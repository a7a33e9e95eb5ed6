"""Ports for the servers of tests."""

import random
import socket

_BELOW_EPHEMERAL = range(20_000, 32_000)
"""Above the ports of Ray's workers, and below those that the system gives to whoever asks for any: a test beside this
one cannot take a port of these between its choice and its use."""


def free_port() -> int:
    """Return a port of loopback on which nothing listens."""
    for port in random.sample(_BELOW_EPHEMERAL, 100):
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("a hundred ports are all in use")
