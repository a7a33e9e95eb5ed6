"""Shards: the training table as Arrow IPC files of at most `SHARD_PAIRS` pairs, written once, then memory-mapped.

Decisions
- A shard holds the pairs of `CHUNKS_PER_SHARD` consecutive chunks of the text. So its content follows from the text
  alone, independent of the encoder of the chunks, and a killed preparation resumes after its last complete shard.
- One record batch a file, uncompressed: columns are flat arrays that are used where they lie.
- A shard's record (`train-00000.json`) is written after the shard, and shows that it is complete.

A cache folder of this machine: a remote shard is fetched once, for all processes.

Decisions
- `$HAT_RAY_CACHE`, or else `~/.cache/hat-ray`.
- A shard of a remote corpus is kept under the hash of its content, checked when it is copied; a file lock lets one
  process copy while its fellows wait, and goes with the process that holds it, however that ends.
"""

import fcntl
import hashlib
import logging
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from hat_ray.corpus.encode import EncodedChunk
from hat_ray.corpus.text.source import CHUNK_PAIRS
from hat_ray.corpus.tokens import Sentences, ShardedSentences, TokenTable, arrow_sentences
from hat_ray.errors import CorpusError, HatRayError, NoRoomError
from hat_ray.storage.faults import free_space, require_no_fault
from hat_ray.storage.folder import Folder

CHUNKS_PER_SHARD = 20
SHARD_PAIRS = CHUNKS_PER_SHARD * CHUNK_PAIRS


class Shard(BaseModel):
    """One file of a training table."""

    model_config = ConfigDict(frozen=True)

    name: str
    pairs: int
    bytes: int
    sha256: str


class ShardRecord(BaseModel):
    """A shard and its counts."""

    model_config = ConfigDict(frozen=True)

    shard: Shard
    dropped_long: int
    dropped_ratio: int
    source_lengths: dict[int, int]
    """Number of source sentences by their number of tokens, EOS included."""
    target_lengths: dict[int, int]


def write_shards(folder: Folder, chunks: Iterable[EncodedChunk]) -> Iterator[ShardRecord]:
    """Write chunks, which come in order, as shards; yield each one's record when it is whole."""
    for number, group in groupby(chunks, key=lambda chunk: chunk.number // CHUNKS_PER_SHARD):
        yield _write_shard(folder, number, list(group))


def finished_shards(folder: Folder) -> list[ShardRecord]:
    """Return the records of the shards, from the first on, that an earlier preparation left whole."""
    records: list[ShardRecord] = []
    while folder.exists(_record_name(len(records))):
        try:
            record = ShardRecord.model_validate_json(folder.read_bytes(_record_name(len(records))))
        except ValidationError:
            break
        if folder.size(record.shard.name) != record.shard.bytes:
            break
        records.append(record)
    return records


def map_shards(paths: Iterable[Path], shards: Iterable[Shard]) -> TokenTable:
    """Return a table over local shard files, which are mapped and not read."""
    tables = [_map(path, shard) for path, shard in zip(paths, shards, strict=True)]

    def side(name: str) -> ShardedSentences:
        return ShardedSentences([part for table in tables for part in arrow_sentences(table.column(name))])

    return TokenTable(side("source"), side("target"))


def length_counts(lengths: NDArray[np.int32]) -> dict[int, int]:
    """Return the number of sentences by length."""
    values, counts = np.unique(lengths, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def total_lengths(histograms: Iterable[dict[int, int]]) -> Counter[int]:
    """Add up length counts."""
    total: Counter[int] = Counter()
    for histogram in histograms:
        total.update(histogram)
    return total


def _write_shard(folder: Folder, number: int, chunks: list[EncodedChunk]) -> ShardRecord:
    table = TokenTable(
        Sentences.joined([chunk.source for chunk in chunks]), Sentences.joined([chunk.target for chunk in chunks])
    )
    name, arrow = f"train-{number:05d}.arrow", table.to_arrow().combine_chunks()
    with folder.writing(name) as stream:
        sink = _Counted(stream)
        with pa.ipc.new_file(pa.PythonFile(sink, mode="w"), arrow.schema) as writer:
            writer.write_table(arrow)
    record = ShardRecord(
        shard=Shard(name=name, pairs=len(table), bytes=sink.bytes, sha256=sink.hash.hexdigest()),
        dropped_long=sum(chunk.dropped_long for chunk in chunks),
        dropped_ratio=sum(chunk.dropped_ratio for chunk in chunks),
        source_lengths=length_counts(table.source.lengths),
        target_lengths=length_counts(table.target.lengths),
    )
    folder.write_text(_record_name(number), record.model_dump_json())
    return record


def _record_name(number: int) -> str:
    return f"train-{number:05d}.json"


def _map(path: Path, shard: Shard) -> pa.Table:
    try:
        size = path.stat().st_size
        if size != shard.bytes:
            raise CorpusError(f"{path} must have {shard.bytes} bytes, it has {size}: prepare the corpus again")
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        if isinstance(error, OSError):
            require_no_fault(error, str(path))
        raise CorpusError(f"{path} is no whole token table ({error}): prepare the corpus again") from error
    if table.num_rows != shard.pairs:
        raise CorpusError(f"{path} must hold {shard.pairs} pairs, it holds {table.num_rows}: prepare the corpus again")
    return table


class _Counted:
    """A stream that counts and hashes what goes through it."""

    closed = False

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream, self.bytes, self.hash = stream, 0, hashlib.sha256()

    def write(self, content: bytes) -> int:
        self._stream.write(content)
        self.hash.update(content)
        self.bytes += len(content)
        return len(content)

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        """The stream belongs to someone else."""


_BLOCK_BYTES = 1 << 22

log = logging.getLogger(__name__)


def cache_root() -> Path:
    """Return the cache folder, which need not exist."""
    place = os.environ.get("HAT_RAY_CACHE")
    return Path(place).expanduser().absolute() if place else Path.home() / ".cache" / "hat-ray"


def local_shard(folder: Folder, shard: Shard) -> Path:
    """Return a path of this machine that holds a shard: where it lies, or a copy made once."""
    if folder.is_local:
        return Path(folder.path(shard.name))
    place = cache_root() / "shards" / f"{shard.sha256}.arrow"
    try:
        with locked(place):
            if not (place.is_file() and place.stat().st_size == shard.bytes):
                _copy(folder, shard, place)
    except OSError as error:
        if isinstance(error, HatRayError):
            raise
        raise NoRoomError(
            f"{folder}/{shard.name} cannot be copied to {place.parent} ({error.strerror or error}; "
            f"{free_space(str(place))}): make room for {shard.bytes / 1e6:.0f} MB there, or name another cache folder "
            "in HAT_RAY_CACHE"
        ) from error
    return place


@contextmanager
def locked(place: Path) -> Iterator[None]:
    """Be the only process at work on a file of the cache; others wait."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place.with_name(f".{place.name}.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _copy(folder: Folder, shard: Shard, place: Path) -> None:
    """Copy a shard and check it; it appears whole or not at all."""
    log.info("copying %s/%s (%.0f MB) to this machine", folder, shard.name, shard.bytes / 1e6)
    aside, digest = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}.tmp"), hashlib.sha256()
    try:
        with folder.reading(shard.name) as source, open(aside, "wb") as target:
            while block := source.read(_BLOCK_BYTES):
                digest.update(block)
                target.write(block)
        if digest.hexdigest() != shard.sha256:
            raise CorpusError(f"{folder}/{shard.name} is damaged (its hash is not the one noted): prepare it again")
        shutil.move(aside, place)
    finally:
        aside.unlink(missing_ok=True)
