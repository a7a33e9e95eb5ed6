"""Encoding on a Ray cluster, with Ray Data: chunks stream from the text's files through tasks that encode them.

Decisions
- Files are read where the driver runs, which has just surveyed them; other nodes need not see them. One task a pair of
  files, without a CPU of its own: reading waits for encoding almost always.
- A row is a whole chunk: Ray Data cuts and joins blocks as it likes, and no row is ever cut.
- Order is kept, and the driver writes the shards from the stream. So the bytes are those of one process. What passes
  through the driver is tokens, a hundred times faster to write than to make.
- Ray Data holds back reading while tasks and the object store are busy: memory does not grow with the corpus. A lost
  worker's task is run again by Ray.
"""

import inspect
import logging
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask
from ray.exceptions import RayError, UserCodeException

from hat_ray.cluster.placement import ANYWHERE, Place
from hat_ray.corpus.encode import EncodedChunk, EncodingJob, LengthRules, encode_chunk
from hat_ray.corpus.protection.practice import Practice
from hat_ray.corpus.text.files import ParallelText
from hat_ray.corpus.text.source import CHUNK_PAIRS, Chunk, TrainingText
from hat_ray.corpus.tokens import Sentences
from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.errors import HatRayError

_BLOCK_BYTES = 1 << 20
"""Ray Data closes a block at about this size: one chunk's text, so that chunks are encoded side by side."""
_NAMED = "label_selector" in inspect.signature(ray.data.read_datasource).parameters
"""Whether this Ray takes a read's remote parameters by their names; it warns of the others then."""
_READERS = 2
"""Pairs of files read at the same time: order is kept, so more would only wait with what they read."""
_PAIR_BYTES = 300
"""A guess at one pair's text, for Ray Data's planning alone."""


Files = tuple[tuple[str, bytes], ...]
"""Names and contents."""


def encode_on_cluster(job: EncodingJob, first_chunk: int, place: Place = ANYWHERE) -> Iterator[EncodedChunk]:
    """Encode a job's chunks from a number on, in order, on the cluster that this process is connected to."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it logs every execution
    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.target_max_block_size = _BLOCK_BYTES
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    with ray.data.DataContext.current(context):
        source = _Chunks(job.text, first_chunk)
        encoded = ray.data.read_datasource(
            source,
            override_num_blocks=source.num_tasks,
            concurrency=min(_READERS, source.num_tasks),
            num_cpus=0,
            **({"label_selector": here} if _NAMED else {"ray_remote_args": {"label_selector": here}}),
        ).map_batches(
            _encode,
            batch_size=1,
            batch_format="pyarrow",
            fn_kwargs={
                "files": tuple(job.vocabularies.files().items()),
                "rules": job.rules,
                "practice": job.practice,
            },
            num_cpus=1,  # unlike the reading tasks: so Ray Data does not make one task of both
            **place.options,
        )
        try:
            for block in encoded.iter_batches(batch_size=None, batch_format="pyarrow"):
                for row in range(block.num_rows):
                    yield _from_row(block.slice(row, 1))
        except (RayError, UserCodeException) as error:
            raise _mistake(error) or error from None


def _mistake(error: BaseException) -> HatRayError | None:
    """Return the user's mistake that a task's failure came from, as text that changed and can no longer be read."""
    seen: BaseException | None = error
    for _ in range(10):
        if isinstance(seen, HatRayError) and not isinstance(seen, RayError):
            return type(seen)(str(seen).splitlines()[0])  # Ray adds lines of its own
        if seen is None:
            return None
        seen = getattr(seen, "cause", None) or seen.__cause__
    return None


class _Chunks(Datasource):
    """The text's chunks, one a row, one task a part."""

    def __init__(self, text: TrainingText, first_chunk: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._text = ray.put(text)
        self._first = first_chunk
        self._starts = text.starts
        self._parts = [part for part in range(text.source.num_parts) if text.starts[part + 1].chunk > first_chunk]

    @property
    def num_tasks(self) -> int:
        return max(len(self._parts), 1)

    def estimate_inmemory_data_size(self) -> int | None:
        return (self._starts[-1].chunk - self._first) * CHUNK_PAIRS * _PAIR_BYTES

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        return [ReadTask(self._reader(part), self._metadata(part)) for part in self._parts]

    def _metadata(self, part: int) -> BlockMetadata:
        chunks = self._starts[part + 1].chunk - max(self._starts[part].chunk, self._first)
        return BlockMetadata(
            num_rows=chunks, size_bytes=chunks * CHUNK_PAIRS * _PAIR_BYTES, input_files=None, exec_stats=None
        )

    def _reader(self, part: int) -> Callable[[], Iterable[pa.Table]]:
        text, first = self._text, self._first

        def read() -> Iterator[pa.Table]:
            training_text: TrainingText = ray.get(text)
            for chunk in training_text.chunks(part, first):
                yield _to_row(chunk)

        return read


def _to_row(chunk: Chunk) -> pa.Table:
    """Return a chunk as one row; a line holds no line feed, so they join the lines."""
    return pa.table(
        {
            "number": [chunk.number],
            "first_row": [chunk.first_row],
            "pairs": [len(chunk.text)],
            "source": pa.array(["\n".join(chunk.text.source)], type=pa.large_string()),
            "target": pa.array(["\n".join(chunk.text.target)], type=pa.large_string()),
        }
    )


def _encode(row: pa.Table, files: Files, rules: LengthRules, practice: Practice | None) -> pa.Table:
    """Encode one chunk."""
    values = {name: row.column(name)[0].as_py() for name in row.column_names}
    lines = (values[side].split("\n") if values["pairs"] else [] for side in ("source", "target"))
    chunk = Chunk(values["number"], values["first_row"], ParallelText(*lines))
    encoded = encode_chunk(chunk, _vocabularies(files), rules, practice)
    columns = {"number": [encoded.number], "dropped": [[encoded.dropped_long, encoded.dropped_ratio]]}
    for side, sentences in (("source", encoded.source), ("target", encoded.target)):
        columns[f"{side}_values"] = _one_list(sentences.values)
        columns[f"{side}_lengths"] = _one_list(sentences.lengths)
    return pa.table(columns)


@lru_cache(maxsize=1)
def _vocabularies(files: Files) -> Vocabularies:
    """Make vocabularies ready once a worker process."""
    return Vocabularies.of_files(dict(files))


def _one_list(values: "np.ndarray[Any, np.dtype[np.int32]]") -> pa.Array:
    return pa.LargeListArray.from_arrays(pa.array([0, len(values)], type=pa.int64()), pa.array(values, type=pa.int32()))


def _from_row(row: pa.Table) -> EncodedChunk:
    def array(name: str) -> Any:
        # a copy: the block must not be held in the object store until the shard is written
        return row.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False).copy()

    dropped_long, dropped_ratio = row.column("dropped")[0].as_py()
    return EncodedChunk(
        row.column("number")[0].as_py(),
        Sentences.of_lengths(array("source_values"), array("source_lengths")),
        Sentences.of_lengths(array("target_values"), array("target_lengths")),
        dropped_long,
        dropped_ratio,
    )
