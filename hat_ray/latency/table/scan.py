"""Many files of a latency table at once, while others write and compact it.

The life of a scan: every partition is listed, the compacted parts' footers name the written parts that they hold, each
written part is read from one file, and the rows are put in the order of the written parts' names. When a file has gone
meanwhile, its partition is listed and read again: a scan never returns fewer rows than there were when it began.
A file that is truncated, foreign, misplaced or newer than this hat-ray is named in a warning and skipped whole; rows
that are no measurements are passed over, and their file is named. A file that cannot be read, because its storage
refuses or does not answer, is none of these: the scan ends with that error.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import TypeVar

import numpy as np
import pyarrow as pa

from hat_ray.errors import DamagedError, LatencyError
from hat_ray.latency.table.part_file import KeptParts, Lineage, PartGoneError, PartRows, read_lineage, read_part
from hat_ray.latency.table.parts import divide, is_compacted, list_parts
from hat_ray.latency.table.row import SCHEMA
from hat_ray.latency.timing.measurement import JUDGED, measured
from hat_ray.storage.faults import cause
from hat_ray.storage.folder import Folder

logger = logging.getLogger(__name__)

ATTEMPTS, FIRST_WAIT_S, LONGEST_WAIT_S = 30, 0.01, 2.0
READERS = 8
"""Files read at once: Parquet decodes on all cores anyway, more hide the way to a remote store."""

UNREADABLE = (pa.ArrowException, ValueError, TypeError, LookupError, OverflowError)
"""Exceptions of a damaged or foreign file once it is read. A storage that does not answer is none of these."""

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass
class _Partition:
    """One folder of the table while it is read."""

    name: str
    bad: set[str] = field(default_factory=set)
    parts: dict[str, PartRows] = field(default_factory=dict)
    complete: bool = False

    def skip(self, folder: Folder, part: str, error: Exception) -> None:
        self.bad.add(part)
        logger.warning("latency part %s/%s is skipped: %s", folder, part, first_line(error))


def scan(
    folder: Folder,
    partitions: Sequence[str],
    schema: pa.Schema,
    where: Mapping[str, object] | None = None,
    bad: Iterable[str] = (),
    kept: KeptParts | None = None,
) -> list[pa.Table]:
    """Read every partition's rows, in the order of the names of the parts that they were written in.

    `where` keeps the rows whose columns equal values; parts named in `bad` are left out. Parts that are in `kept` are
    not opened again.
    """
    pending = [_Partition(name, set(bad)) for name in partitions]
    found = {partition.name: partition for partition in pending}
    for attempt in range(ATTEMPTS):
        _read(folder, pending, schema, where or {}, kept)
        pending = [partition for partition in pending if not partition.complete]
        if not pending:
            tables = [in_order(found[name].parts.values()) for name in partitions]
            return [schema.empty_table() if table is None else table for table in tables]
        time.sleep(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**attempt))
    raise LatencyError(
        f"parts of {folder}/{pending[0].name} vanished {ATTEMPTS} times while they were read: "
        "stop what deletes them, or delete links that lead nowhere"
    )


def _read(
    folder: Folder,
    partitions: list[_Partition],
    schema: pa.Schema,
    where: Mapping[str, object],
    kept: KeptParts | None,
) -> None:
    """Read partitions, all their files at once; one that changed meanwhile stays incomplete."""
    by_name = {partition.name: partition for partition in partitions}
    plans = in_parallel(lambda partition: _plan(folder, partition, kept), partitions)
    files = [
        (partition, part, without)
        for partition, plan in zip(partitions, plans, strict=True)
        for part, without in (plan or {}).items()
    ]

    needed = pa.schema([*schema, *(SCHEMA.field(name) for name in JUDGED if name not in schema.names)])

    def read(file: tuple[_Partition, str, frozenset[str]]) -> PartRows | Exception:
        _, part, without = file
        try:
            if kept is not None:
                rows = kept.read(part, needed, where, without)
            else:
                rows = read_part(folder, part, needed, where, without)
            return _measurements(folder, part, rows, schema.names)
        except (PartGoneError, *UNREADABLE) as error:
            return error

    results: dict[str, dict[str, PartRows | Exception]] = defaultdict(dict)
    for (partition, part, _), result in zip(files, in_parallel(read, files), strict=True):
        results[partition.name][part] = result
    for name, plan in zip(by_name, plans, strict=True):
        if plan is not None:
            _take(folder, by_name[name], results[name])


def _measurements(folder: Folder, name: str, part: PartRows, columns: Sequence[str]) -> PartRows:
    """Keep columns of the rows that are measurements."""
    good = measured(part.table)
    table = part.table.select(columns)
    if good.all():
        return replace(part, table=table)
    logger.warning(
        "latency part %s/%s: %d of its rows are no measurements and are passed over: see `hat-ray latency validate`",
        *(folder, name, int(len(good) - good.sum())),
    )
    return replace(part, table=table.filter(pa.array(good)), marks=part.marks[good])


def _take(folder: Folder, partition: _Partition, results: Mapping[str, PartRows | Exception]) -> None:
    """Keep the rows read; a compacted part that turns out to be damaged gives way to the parts that it replaced."""
    errors = {part: result for part, result in results.items() if isinstance(result, Exception)}
    gone = [part for part, error in errors.items() if isinstance(error, PartGoneError)]
    for part, error in errors.items():
        if part not in gone:
            partition.skip(folder, part, error)
    partition.parts = {part: rows for part, rows in results.items() if isinstance(rows, PartRows)}
    partition.complete = not gone and not any(is_compacted(part) for part in errors)


def _plan(folder: Folder, partition: _Partition, kept: KeptParts | None) -> dict[str, frozenset[str]] | None:
    """Choose which files of a partition are read, and what of each; None when one has gone since it was listed."""
    held: dict[str, Iterable[str]] = {}
    listed = list_parts(folder, partition.name)
    if kept is not None:
        kept.forget_others(partition.name, listed)
    lineage = partial(read_lineage, folder) if kept is None else kept.lineage
    for part in listed:
        if part in partition.bad:
            continue
        try:
            held[part] = lineage(part) if is_compacted(part) else [part.rpartition("/")[2]]
        except PartGoneError:
            return None
        except UNREADABLE as error:
            partition.skip(folder, part, error)
    return divide(held)


def readable_lineages(folder: Folder, names: Sequence[str]) -> dict[str, Lineage]:
    """Return the parts whose footers can be read, and their content; name the others in warnings."""

    def look(name: str) -> Lineage | None:
        try:
            return read_lineage(folder, name)
        except PartGoneError:
            return None
        except UNREADABLE as error:
            logger.warning("latency part %s/%s is left alone: %s", folder, name, first_line(error))
            return None

    lineages = zip(names, in_parallel(look, names), strict=True)
    return {name: lineage for name, lineage in lineages if lineage is not None}


def in_order(parts: Iterable[PartRows]) -> pa.Table | None:
    """Put rows in the order of the names of the parts that they were written in; None when there are none."""
    parts = sorted((part for part in parts if len(part.table)), key=lambda part: part.written[0])
    if not parts:
        return None
    table = pa.concat_tables([part.table for part in parts], promote_options="default").combine_chunks()
    written = [name for part in parts for name in part.written]
    if all(one < other for one, other in pairwise(written)):
        return table
    rank = {name: i for i, name in enumerate(sorted(set(written)))}
    ranks = [np.array([rank[name] for name in part.written])[part.marks] for part in parts]
    return table.take(np.argsort(np.concatenate(ranks), kind="stable"))


def in_parallel(function: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
    """Apply a function that waits for files to each item, in threads."""
    if len(items) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(READERS, len(items))) as pool:
        try:
            return list(pool.map(function, items))
        except BaseException:  # a storage that failed: each of the others would be as patient with it
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def first_line(error: BaseException) -> str:
    """Return the mistake in one line; of a damaged file PyArrow's text, since the caller names the file."""
    if isinstance(error, DamagedError) and error.__cause__ is not None:
        return cause(error.__cause__)
    return (str(error).splitlines() or [type(error).__name__])[0]
