"""JSON of a run, read as what it must be: a file that is empty, cut, changed or of wrong types is told in one line.

A sealed file holds the SHA-256 of its own content, so that any change of it is noticed, wherever in it.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from hat_ray.errors import HatRayError, RunError
from hat_ray.storage import Folder

T = TypeVar("T")
SEAL = "sha256"
_LONGEST_WHY = 200


class DamagedError(RunError):
    """A file of a run that is not what was written."""


def read_typed(folder: Folder, name: str, kind: TypeAdapter[T], remedy: str) -> T:
    """Read a JSON file as a type; raises DamagedError with the remedy, and FileNotFoundError where there is none."""
    return decode(folder.read_bytes(name), kind, f"{folder}/{name}", remedy)


def decode(content: bytes, kind: TypeAdapter[T], place: str, remedy: str) -> T:
    """Read JSON as a type, and check its seal where it has one."""
    try:
        value = json.loads(content)
        if isinstance(value, dict) and SEAL in value and value.pop(SEAL) != _seal_of(value):
            raise DamagedError(f"{place} is damaged (its content is not what its SHA-256 says): {remedy}")
        return kind.validate_python(value)
    except DamagedError:
        raise
    except (ValueError, RecursionError, HatRayError) as error:
        raise DamagedError(f"{place} is damaged ({_why(content, error)}): {remedy}") from error


def write_sealed(folder: Folder, name: str, value: Mapping[str, Any]) -> None:
    """Write a JSON object with its seal."""
    plain = json.loads(json.dumps(dict(value), allow_nan=False))
    folder.write_json(name, {**plain, SEAL: _seal_of(plain)})


def _seal_of(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _why(content: bytes, error: BaseException) -> str:
    if not content.strip():
        return "it is empty"
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        text = f"{place}: {first['msg']}" if place else first["msg"]
    elif isinstance(error, HatRayError):
        text = str(error)
    else:
        text = f"it is no JSON: {error}"
    return " ".join(text.split())[:_LONGEST_WHY]
