"""Typed values as JSON of a run, written with a format number and a seal, and read back as their type.

A seal is the SHA-256 of the file's own content: any change of a file is noticed. A file that is empty, cut, changed,
without a seal or of wrong types raises DamagedError with one line; so does a file of another format. A kind's format
number is its class attribute `FORMAT`, 1 where it has none; raise it when files that were written before can no longer
be read.
"""

import hashlib
import json
import math
from typing import Annotated, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BeforeValidator, JsonValue, TypeAdapter, ValidationError

from hat_ray.errors import DamagedError, FormatError, HatRayError, in_one_line
from hat_ray.storage.folder import Folder

T = TypeVar("T")
FORMAT, SEAL = "format", "sealed_sha256"
STAGE_AGAIN = "delete this stage's folder and run the stage again"
_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}

Loss = Annotated[float, BeforeValidator(lambda value: math.inf if value is None else value)]
"""Bits per target token, label-smoothed; infinite where a model gave no number, which JSON holds as null."""


def to_json(value: object) -> Any:
    """Return a typed value as plain JSON values; a number that is not finite becomes null."""
    return json.loads(_adapter_of(type(value)).dump_json(value))


def from_json(kind: type[T], value: object, source: str, remedy: str = STAGE_AGAIN) -> T:
    """Return JSON values as a type; raises DamagedError that names the source and the field."""
    try:
        found: T = _adapter_of(kind).validate_python(value)
    except (ValueError, RecursionError, HatRayError) as error:
        raise DamagedError(f"{source} is damaged ({_why(error)}): {remedy}") from error
    return found


def encode(value: object) -> dict[str, JsonValue]:
    """Return a value that JSON holds as an object, with its format number and its seal."""
    plain = {FORMAT: _format_of(type(value)), **to_json(value)}
    return {**plain, SEAL: _seal_of(plain)}


def decode(content: bytes, kind: type[T], source: str, remedy: str = STAGE_AGAIN) -> T:
    """Decode the result of `encode`: check its seal, its format and its types."""
    if not content.strip():
        raise DamagedError(f"{source} is damaged (it is empty): {remedy}")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{source} is damaged (it is no JSON: {in_one_line(error)}): {remedy}") from error
    if not isinstance(value, dict):
        raise DamagedError(f"{source} is damaged (it must hold a JSON object, got {type(value).__name__}): {remedy}")
    seal = value.pop(SEAL, None)
    if seal is not None and seal != _seal_of(value):
        raise DamagedError(f"{source} is damaged (its content does not match its SHA-256): {remedy}")
    found, wanted = value.pop(FORMAT, None), _format_of(kind)
    if found != wanted:
        held = "names no format" if found is None else f"has format {in_one_line(found)}"
        raise FormatError(f"{source} {held}, this hat-ray reads format {wanted}: {remedy}")
    if seal is None:  # types alone do not suffice: a text can name a device that the run does not have
        raise DamagedError(f"{source} is damaged (it lacks {SEAL}, the SHA-256 of its content): {remedy}")
    return from_json(kind, value, source, remedy)


def write(folder: Folder, name: str, value: object) -> None:
    """Write a value as a JSON file, whole or not at all."""
    folder.write_json(name, encode(value))


def read(folder: Folder, name: str, kind: type[T], remedy: str = STAGE_AGAIN) -> T:
    """Read a file of `write`; raises DamagedError with the remedy, also where there is no such file."""
    return decode(read_checked(folder, name, None, remedy), kind, folder.shown(name), remedy)


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
    """Read one Parquet file whole; raises DamagedError where it is missing, or no whole Parquet file.

    PyArrow's own threads stay out of it: one that still holds bytes of Python aborts a process that ends.
    """
    content = read_checked(folder, name, sha256, remedy)
    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        return file.read(use_threads=False)
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:  # of memory, not of storage
        raise DamagedError(f"{folder.shown(name)} is damaged ({in_one_line(error)}): {remedy}") from error


def _adapter_of(kind: Any) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def _format_of(kind: Any) -> int:
    return int(getattr(kind, "FORMAT", 1))


def _seal_of(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _why(error: BaseException) -> str:
    if not isinstance(error, ValidationError):
        return in_one_line(error)
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"]))
    return in_one_line(f"{place}: {first['msg']}" if place else first["msg"])
