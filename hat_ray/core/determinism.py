"""Linear algebra on one thread.

Decision: what a search and a predictor solve is small (at most some thousand rows), and its process shares the
machine with workers that score or with a device that is timed. OpenBLAS's threads wait for each other by spinning: on
two busy cores a plan of the search took 20 to 30 times the processor time that it takes on one thread. One thread also
adds up in the same order on every machine, however many cores it has: a seed gives the same search there.

Named random streams, so that one more draw in one place changes nothing in another.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np  # noqa: F401  both bring their own library, which must be there to be found
import scipy.linalg  # noqa: F401
from threadpoolctl import ThreadpoolController


def stream_seed(seed: int, *names: str | int) -> int:
    """Derive the seed of a named stream, such as `stream_seed(7, "retrain", architecture.id)`; 0 <= result < 2**63."""
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep NumPy and SciPy to one thread, in the whole process, meanwhile; also a decorator."""
    with _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
