"""What a prepared corpus holds, in figures."""

from collections.abc import Mapping
from itertools import accumulate

from pydantic import BaseModel, ConfigDict

from hat_ray.corpus.shards import Shard


class LengthSummary(BaseModel):
    """Sentence lengths of one side in tokens, EOS included."""

    model_config = ConfigDict(frozen=True)

    tokens: int
    median: int
    p90: int
    longest: int

    @classmethod
    def of(cls, counts: Mapping[int, int]) -> "LengthSummary":
        """Sum up lengths and how many sentences have each."""
        if not counts:
            return cls(tokens=0, median=0, p90=0, longest=0)
        return cls(
            tokens=sum(length * count for length, count in counts.items()),
            median=_percentile(counts, 50),
            p90=_percentile(counts, 90),
            longest=max(counts),
        )


class SplitSummary(BaseModel):
    """One split: pairs kept and dropped, and the lengths of those kept. Only training drops."""

    model_config = ConfigDict(frozen=True)

    pairs: int
    dropped_empty: int = 0
    """Pairs that lack a side."""
    dropped_duplicate: int = 0
    """Pairs that occurred before; counted where `deduplicate` is on."""
    dropped_long: int = 0
    """Pairs longer than `max_length` on either side."""
    dropped_ratio: int = 0
    """Pairs whose sides are too unlike in length for `max_ratio`."""
    source: LengthSummary
    target: LengthSummary


class CorpusSummary(BaseModel):
    """A prepared corpus: written last, as `summary.json`, so its presence says that the folder is whole."""

    model_config = ConfigDict(frozen=True)

    source_language: str
    target_language: str
    vocabulary_size: int
    train: SplitSummary
    valid: SplitSummary
    test: SplitSummary
    test_sources_in_train: int
    """Test lines whose source sentence also occurs in training: above zero, scores are optimistic."""
    fingerprint: str
    """Hash of the settings and of every input byte: a folder whose fingerprint differs is prepared anew."""
    data: str
    """The sub-folder that holds the files."""
    shards: tuple[Shard, ...]
    """The files of the training table, in order."""
    files: dict[str, str] = {}
    """SHA-256 of every other file; empty of a corpus that an older version prepared."""


def _percentile(counts: Mapping[int, int], percent: int) -> int:
    """Return the sorted values' element at that rank, the higher one between two (numpy's `higher`)."""
    rank = -(-(sum(counts.values()) - 1) * percent // 100)
    lengths = sorted(counts)
    ends = accumulate(counts[length] for length in lengths)
    return next(length for length, end in zip(lengths, ends, strict=True) if rank < end)
