"""Compare what is computed now with what was recorded: text and integers exactly, floats within a tolerance."""

from collections.abc import Iterator
from typing import Any

import pytest

TOLERANCE = 1e-4
"""Relative: the last bits of a float depend on the processor's instructions."""


def differences(recorded: Any, now: Any, where: str = "") -> list[str]:
    """Name each place where `now` differs from `recorded`."""
    if isinstance(recorded, dict) and isinstance(now, dict):
        missing = [f"{where}/{key}: only on one side" for key in sorted(recorded.keys() ^ now.keys())]
        both = [key for key in recorded if key in now]
        return missing + [line for key in both for line in differences(recorded[key], now[key], f"{where}/{key}")]
    if isinstance(recorded, list) and isinstance(now, list | tuple):
        if len(recorded) != len(now):
            return [f"{where}: {len(recorded)} recorded, {len(now)} now"]
        pairs = enumerate(zip(recorded, now, strict=True))
        return [line for place, (old, new) in pairs for line in differences(old, new, f"{where}/{place}")]
    return [] if same(recorded, now) else [f"{where}: {recorded!r} recorded, {now!r} now"]


def same(recorded: Any, now: Any) -> bool:
    """Report whether two single values are the same."""
    if isinstance(recorded, float) and isinstance(now, float | int) and not isinstance(now, bool):
        return bool(now == pytest.approx(recorded, rel=TOLERANCE, abs=1e-9))
    return type(recorded) is type(now) and bool(recorded == now)


def missing(recorded: list[Any], now: list[Any]) -> list[Any]:
    """Return the recorded values that are not among those of now, each counted as often as it stands there."""
    left = list(now)
    gone = []
    for value in recorded:
        place = next((place for place, one in enumerate(left) if same(value, one)), None)
        if place is None:
            gone.append(value)
        else:
            del left[place]
    return gone


def leaves(value: Any, without: frozenset[str] = frozenset()) -> Iterator[Any]:
    """Return every text and number of a JSON value, whatever its keys are called; those of keys in `without` not."""
    if isinstance(value, dict):
        for key, one in value.items():
            if key not in without:
                yield from leaves(one, without)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from leaves(one, without)
    elif value is not None:
        yield value
