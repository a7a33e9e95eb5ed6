"""Named random streams, so that one more draw in one place changes nothing in another."""

import hashlib


def stream_seed(seed: int, *names: str | int) -> int:
    """Derive the seed of a named stream, such as `stream_seed(7, "retrain", architecture.id)`; 0 <= result < 2**63."""
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
