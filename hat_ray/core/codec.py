"""JSON of a run, read as what it must be: a file that is empty, cut, changed or of wrong types is told in one line.

A sealed file holds the SHA-256 of its own content, so that any change of it is noticed, wherever in it.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from hat_ray.errors import DamagedError, HatRayError
from hat_ray.storage.folder import Folder

T = TypeVar("T")
SEAL = "sealed_sha256"
STAGE_AGAIN = "delete this stage's folder and run the stage again"
_LONGEST_WHY = 200


def read_typed(folder: Folder, name: str, kind: TypeAdapter[T], remedy: str = STAGE_AGAIN) -> T:
    """Read a JSON file as a type; raises DamagedError with the remedy, also where there is none."""
    return decode(read_checked(folder, name, None, remedy), kind, folder.shown(name), remedy)


def decode(content: bytes, kind: TypeAdapter[T], place: str, remedy: str = STAGE_AGAIN) -> T:
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


def read_checked(folder: Folder, name: str, sha256: str | None, remedy: str = STAGE_AGAIN) -> bytes:
    """Read a file; raises DamagedError where it is missing, or its SHA-256 is not the one that was noted."""
    try:
        content = folder.read_bytes(name)
    except FileNotFoundError as error:
        raise DamagedError(f"{folder.shown(name)} is missing: {remedy}") from error
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise DamagedError(f"{folder.shown(name)} is damaged (its SHA-256 is not the one that was noted): {remedy}")
    return content


def read_rows(folder: Folder, name: str, sha256: str | None = None, remedy: str = STAGE_AGAIN) -> pa.Table:
    """Read one Parquet file whole; raises DamagedError where it is missing, or no whole Parquet file."""
    content = read_checked(folder, name, sha256, remedy)
    try:
        return pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True).read()
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:  # of memory, not of storage
        raise DamagedError(f"{folder.shown(name)} is damaged ({_line(error)}): {remedy}") from error


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
    return _line(text)


def _line(text: object) -> str:
    return " ".join(str(text).split())[:_LONGEST_WHY]
