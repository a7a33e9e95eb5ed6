"""Figures of a prepared corpus.

A prepared corpus, read back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from pydantic import BaseModel, ConfigDict

from hat_ray.core.codec import read, read_checked, read_rows
from hat_ray.corpus.cleaning.finding import TextFinding
from hat_ray.corpus.config import Leaks
from hat_ray.corpus.shards import Shard, local_shard, map_shards
from hat_ray.corpus.text.taught import Taught
from hat_ray.corpus.tokens import TokenTable
from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.errors import CorpusError
from hat_ray.storage.folder import Folder

SUMMARY_FILE = "summary.json"


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
    dropped_leak: int = 0
    """Pairs whose source is a validation or test source; left out where `leaks` is `remove`."""
    dropped_identical: int = 0
    """Pairs of two identical sides, where `drop_identical` is on."""
    dropped_script: int = 0
    """Pairs with too few letters of their languages' scripts for `min_script_share`."""
    dropped_duplicate: int = 0
    """Pairs that occurred before; counted where `deduplicate` is on."""
    dropped_long: int = 0
    """Pairs longer than `max_length` on either side."""
    dropped_ratio: int = 0
    """Pairs whose sides are too unlike in length for `max_ratio`."""
    held_out: int = 0
    """Pairs that validation takes instead."""
    weighted: int = 0
    """Pairs that the weights of files add, or take away where negative."""
    source: LengthSummary
    target: LengthSummary

    @property
    def read(self) -> int:
        """Pairs that were read: those kept, those left out, and those that validation takes."""
        return self.pairs + self.held_out + sum(self.left_out.values()) - self.weighted

    @property
    def left_out(self) -> dict[str, int]:
        """Why pairs were left out, and how many."""
        reasons = {
            "longer than corpus.max_length": self.dropped_long,
            "too unlike in length for corpus.max_ratio": self.dropped_ratio,
            "without a side": self.dropped_empty,
            "with a source of validation or test": self.dropped_leak,
            "with identical sides": self.dropped_identical,
            "in another script": self.dropped_script,
            "repeated": self.dropped_duplicate,
        }
        return {reason: count for reason, count in reasons.items() if count}

    @property
    def kept_text(self) -> str:
        """The number of pairs kept of those read, and the reasons for the others, in one line."""
        why = [f"{count:,} {reason}" for reason, count in self.left_out.items()]
        why += [f"{self.held_out:,} held out for validation"] if self.held_out else []
        why += [f"{self.weighted:+,} by the weights of files"] if self.weighted else []
        return f"{self.pairs:,} of {self.read:,} pairs kept" + (f" ({', '.join(why)})" if why else "")


class TaughtSummary(BaseModel):
    """The translations that are a corpus's training targets, and what they took."""

    model_config = ConfigDict(frozen=True)

    origin: str
    sentences: int
    empty: int
    core_seconds: float

    @classmethod
    def of(cls, taught: Taught) -> "TaughtSummary":
        """Sum up a teacher's translations."""
        return cls(
            origin=taught.origin, sentences=taught.sentences, empty=taught.empty, core_seconds=taught.core_seconds
        )


class CorpusSummary(BaseModel):
    """A prepared corpus: written last, as `summary.json`, so its presence shows that the folder is complete."""

    model_config = ConfigDict(frozen=True)

    source_language: str
    target_language: str
    vocabulary_size: int
    """Entries of the source's vocabulary, which is mostly the target's as well."""
    train: SplitSummary
    valid: SplitSummary
    test: SplitSummary
    test_sources_in_train: int
    """Different test sources that training pairs have as well, before `leaks` removes them."""
    fingerprint: str
    """Hash of the settings and of every input byte: a folder whose fingerprint differs is prepared anew."""
    data: str
    """The sub-folder that holds the files."""
    shards: tuple[Shard, ...]
    """The files of the training table, in order."""

    @property
    def vocabulary_sizes(self) -> tuple[int, int]:
        """Entries of the source's and the target's vocabulary."""
        return self.vocabulary_size, self.target_vocabulary_size or self.vocabulary_size

    @property
    def test_sources_left(self) -> int:
        """Test sources that the model is trained on: above zero, scores are too high."""
        return 0 if self.leaks == "remove" else self.test_sources_in_train

    @property
    def valid_sources_left(self) -> int:
        """Validation sources that the model is trained on."""
        return 0 if self.leaks == "remove" else self.valid_sources_in_train

    def leak(self) -> str | None:
        """Return a line on validation and test sources that the model is trained on; None where there are none."""
        return leak_warning(self.test_sources_left, self.valid_sources_left)

    leaks: Leaks = "warn"
    """What was done with training pairs that have a source of validation or test."""
    valid_sources_in_train: int = 0
    """Different validation sources that training pairs have as well, before `leaks` removes them."""
    target_vocabulary_size: int | None = None
    """Entries of the target's vocabulary where it has its own; None: both sides share one."""
    taught: TaughtSummary | None = None
    """The teacher's translations that the model is trained on; None: the references."""
    findings: tuple[TextFinding, ...] = ()
    """Stretches of the text whose sides do not belong together, or are not what they should be."""
    files: dict[str, str] = {}
    """SHA-256 of every other file; empty of a corpus that an older version prepared."""


def leak_warning(test_sources: int | None, valid_sources: int = 0) -> str | None:
    """Return a line with the numbers of test and validation sources that the model is trained on; None where there are
    none, or they were not counted."""
    named = [f"{count:,} {split}" for split, count in (("test", test_sources), ("validation", valid_sources)) if count]
    if not named:
        return None
    one = (test_sources or 0) + valid_sources == 1
    stand = "source stands" if one else "sources stand"
    return f"{' and '.join(named)} {stand} in the training text: scores are too high; set corpus.leaks to remove"


def _percentile(counts: Mapping[int, int], percent: int) -> int:
    """Return the sorted values' element at that rank, the higher one between two (numpy's `higher`)."""
    rank = -(-(sum(counts.values()) - 1) * percent // 100)
    lengths = sorted(counts)
    ends = accumulate(counts[length] for length in lengths)
    return next(length for length, end in zip(lengths, ends, strict=True) if rank < end)


@dataclass(frozen=True)
class Corpus:
    """The vocabularies and the token tables of a prepared folder. Tables are opened on first use and not pickled."""

    folder: Folder
    summary: CorpusSummary

    @classmethod
    def load(cls, folder: Folder) -> "Corpus":
        """Open a prepared folder."""
        if not folder.exists(SUMMARY_FILE):
            raise CorpusError(f"{folder} holds no whole corpus: prepare it first with `hat-ray corpus`")
        return cls(folder, read(folder, SUMMARY_FILE, CorpusSummary))

    def __getstate__(self) -> dict[str, object]:
        return {"folder": self.folder, "summary": self.summary}

    @cached_property
    def vocabularies(self) -> Vocabularies:
        """The vocabularies of the source and the target."""
        noted = self.summary.files
        return Vocabularies.read(noted, lambda name: read_checked(self._data, name, noted.get(name)))

    @cached_property
    def train(self) -> TokenTable:
        """Training pairs, mapped from the shards' files; those of a remote folder are copied to this machine once."""
        shards = self.summary.shards
        return map_shards([local_shard(self._data, shard) for shard in shards], shards)

    @cached_property
    def valid(self) -> TokenTable:
        """Validation pairs, with their lines."""
        return self._table("valid")

    @cached_property
    def test(self) -> TokenTable:
        """Test pairs, with their lines: `source_text` and the references in `target_text`."""
        return self._table("test")

    @property
    def _data(self) -> Folder:
        return self.folder.child(self.summary.data)

    def _table(self, split: str) -> TokenTable:
        name = f"{split}.parquet"
        return TokenTable.from_arrow(read_rows(self._data, name, self.summary.files.get(name)))
