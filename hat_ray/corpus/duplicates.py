"""Find pairs that occurred before, in memory that does not grow: hashes go to files by their first bits.

Two unlike pairs with equal 64-bit hashes are taken for duplicates: among 40 million pairs the chance that there is one
such case is below one in 20,000.
"""

import tempfile
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hat_ray.corpus.source import Chunk

_BUCKET_BITS = 6
_RECORD = np.dtype([("hash", "<u8"), ("row", "<i8")])


class DuplicateFinder:
    """Takes every pair once, in order, and then tells which rows repeat an earlier one; use it in a `with` block."""

    def __enter__(self) -> "DuplicateFinder":
        self._folder = tempfile.TemporaryDirectory(prefix="hat-ray-")
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def add(self, chunk: Chunk, rows: NDArray[np.int64]) -> None:
        """Take the chosen rows of a chunk, counted within it."""
        source, target = chunk.text.source, chunk.text.target
        digests = [blake2b(f"{source[row]}\n{target[row]}".encode(), digest_size=8).digest() for row in rows.tolist()]
        records = np.empty(len(rows), dtype=_RECORD)
        records["hash"], records["row"] = np.frombuffer(b"".join(digests), dtype="<u8"), rows + chunk.first_row
        buckets = records["hash"] >> np.uint64(64 - _BUCKET_BITS)
        for bucket in np.unique(buckets).tolist():
            with open(self._path(bucket), "ab") as file:
                file.write(records[buckets == bucket].tobytes())

    def repeated_rows(self) -> Iterator[NDArray[np.int64]]:
        """Yield, in several arrays, the rows whose pair occurred in an earlier row."""
        for bucket in filter(lambda number: self._path(number).exists(), range(1 << _BUCKET_BITS)):
            records = np.fromfile(self._path(bucket), dtype=_RECORD)
            records = records[np.argsort(records["hash"], kind="stable")]  # stable: the earliest row stays first
            yield records["row"][1:][records["hash"][1:] == records["hash"][:-1]]

    def _path(self, bucket: int) -> Path:
        return Path(self._folder.name) / f"{bucket:02d}"
