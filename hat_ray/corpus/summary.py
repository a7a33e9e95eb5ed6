"""What a prepared corpus holds, in figures."""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from hat_ray.corpus.tokens import Sentences, TokenTable


class LengthSummary(BaseModel):
    """Sentence lengths of one side in tokens, EOS included."""

    model_config = ConfigDict(frozen=True)

    tokens: int
    median: int
    p90: int
    longest: int

    @classmethod
    def of(cls, sentences: Sentences) -> "LengthSummary":
        if not len(sentences):
            return cls(tokens=0, median=0, p90=0, longest=0)
        lengths: NDArray[np.int64] = sentences.lengths
        median, p90 = np.percentile(lengths, [50, 90], method="higher")
        return cls(tokens=int(lengths.sum()), median=int(median), p90=int(p90), longest=int(lengths.max()))


class SplitSummary(BaseModel):
    """One split: pairs kept and dropped, and the lengths of those kept."""

    model_config = ConfigDict(frozen=True)

    pairs: int
    dropped_empty: int = 0
    """Pairs with nothing on either side; only training drops."""
    dropped_long: int = 0
    """Pairs longer than `max_length` on either side; only training drops."""
    source: LengthSummary
    target: LengthSummary

    @classmethod
    def of(cls, table: TokenTable, *, dropped_empty: int = 0, dropped_long: int = 0) -> "SplitSummary":
        return cls(
            pairs=len(table),
            dropped_empty=dropped_empty,
            dropped_long=dropped_long,
            source=LengthSummary.of(table.source),
            target=LengthSummary.of(table.target),
        )


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
