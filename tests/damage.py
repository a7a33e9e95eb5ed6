"""What happens to files: they are cut, single bits change, values become of other types."""

import hashlib
import json
import random
from typing import Any

STRANGE: tuple[Any, ...] = (None, True, -1, 0, 10**30, 1e308, "", "x", "\x00", [], {}, [[]], {"a": 1}, [None] * 3)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Return other content than a file has: cut, with other bits, or, of JSON, with another type somewhere."""
    kinds = [cut, flipped]
    if content[:1] in (b"{", b"["):
        kinds += [swapped, swapped]
    return rng.choice(kinds)(content, rng)


def sealed(value: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a file with the seal that fits them, as somebody who forges a file writes it."""
    own = {key: one for key, one in value.items() if key != "sealed_sha256"}
    return {**own, "sealed_sha256": hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()}


def cut(content: bytes, rng: random.Random) -> bytes:
    """Cut at the start, the end, a line's end, a power of two, or anywhere."""
    lines = [place for place, byte in enumerate(content) if byte == ord("\n")] or [0]
    places = [0, 1, len(content) - 1, len(content) // 2, rng.choice(lines), rng.randrange(len(content))]
    return content[: rng.choice([*places, 1 << rng.randrange(max(len(content).bit_length(), 1))])]


def flipped(content: bytes, rng: random.Random) -> bytes:
    """Flip one to eight bits, or write over a stretch with zeros."""
    changed = bytearray(content)
    if rng.random() < 0.2:
        first = rng.randrange(len(content))
        changed[first : first + 64] = bytes(len(changed[first : first + 64]))
        return bytes(changed)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def swapped(content: bytes, rng: random.Random) -> bytes:
    """Put a value of another type, or nothing, in the place of one; the seal goes in half of the cases."""
    value = json.loads(content)
    if isinstance(value, dict) and rng.random() < 0.5:
        value.pop("sealed_sha256", None)
    if not value or rng.random() < 0.05:
        return json.dumps(rng.choice(STRANGE)).encode()
    holder, key = rng.choice(list(_places(value)))
    if rng.random() < 0.3:
        del holder[key]
    else:
        holder[key] = rng.choice(STRANGE)
    return json.dumps(value).encode()


def _places(value: Any) -> Any:
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])
