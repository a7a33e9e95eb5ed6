"""The first pass over the training text: is it sound, how long is it, what of it is left out, and a sample of it.

Everything that a user can have wrong in the text is found here, before anything is written.

Find pairs that occurred before, in memory that does not grow: hashes go to files by their first bits.

Two unlike pairs with equal 64-bit hashes are taken for duplicates: among 40 million pairs the chance that there is one
such case is below one in 20,000.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hat_ray.core.determinism import stream_seed
from hat_ray.corpus.cleaning.rules import PairRules, Reason, Reasons
from hat_ray.corpus.cleaning.watch import TextWatch
from hat_ray.corpus.config import Deduplicate
from hat_ray.corpus.text.files import ParallelText
from hat_ray.corpus.text.source import CHUNK_PAIRS, Chunk, PairSource, Start, TrainingText, number_chunks
from hat_ray.errors import CorpusError
from hat_ray.storage.temporary import temporary_folder

_BUCKET_BITS = 6
_RECORD = np.dtype([("hash", "<u8"), ("row", "<i8")])

Repeated = Literal["pair", "source", "target"]
"""The part of a pair by which it is looked for."""


class DuplicateFinder:
    """Find the rows that repeat an earlier row: add all rows once, in order; use it in a `with` block."""

    def __init__(self, part: Repeated = "pair") -> None:
        self._part = part

    def __enter__(self) -> "DuplicateFinder":
        self._making = temporary_folder("duplicates")
        self._folder = self._making.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._making.__exit__(None, None, None)

    def add(self, chunk: Chunk, rows: NDArray[np.int64]) -> None:
        """Take the chosen rows of a chunk, counted within it."""
        digests = [blake2b(self._text(chunk.text, row).encode(), digest_size=8).digest() for row in rows.tolist()]
        records = np.empty(len(rows), dtype=_RECORD)
        records["hash"], records["row"] = np.frombuffer(b"".join(digests), dtype="<u8"), rows + chunk.first_row
        buckets = records["hash"] >> np.uint64(64 - _BUCKET_BITS)
        for bucket in np.unique(buckets).tolist():
            with open(self._path(bucket), "ab") as file:
                file.write(records[buckets == bucket].tobytes())

    def repeated_rows(self) -> Iterator[NDArray[np.int64]]:
        """Yield, in several arrays, the rows that repeat an earlier row."""
        for bucket in filter(lambda number: self._path(number).exists(), range(1 << _BUCKET_BITS)):
            records = np.fromfile(self._path(bucket), dtype=_RECORD)
            records = records[np.argsort(records["hash"], kind="stable")]  # stable: the earliest row stays first
            yield records["row"][1:][records["hash"][1:] == records["hash"][:-1]]

    def _text(self, text: ParallelText, row: int) -> str:
        if self._part == "pair":
            return f"{text.source[row]}\n{text.target[row]}"
        return text.source[row] if self._part == "source" else text.target[row]

    def _path(self, bucket: int) -> Path:
        return self._folder / f"{bucket:02d}"


@dataclass(frozen=True)
class Survey:
    """Result of the first pass."""

    text: TrainingText
    kept: int
    """Pairs to train on, by the weights of their files, before those of unfit length are dropped."""
    dropped: dict[Reason, int]
    """Pairs left out, by reason; those of validation among them."""
    held_out: ParallelText
    """Every n-th pair, for validation; empty where validation has its own files."""
    test_sources_seen: int
    """Test sources that training pairs have as well."""
    valid_sources_seen: int
    """Validation sources that training pairs have as well."""


def repeated_parts(deduplicate: Deduplicate) -> tuple[Repeated, ...]:
    """Return the parts of a pair by which it is dropped where they occurred before."""
    if isinstance(deduplicate, bool):
        return ("pair",) if deduplicate else ()
    return ("source", "target") if deduplicate == "either" else (deduplicate,)


def survey(source: PairSource, rules: PairRules, watch: TextWatch | None = None) -> Survey:
    """Read all pairs once, past a watch; raises CorpusError for text that cannot be used."""
    starts, tally = [Start(0, 0)], _SurveyCounts(rules)
    with ExitStack() as stack:
        finders = [stack.enter_context(DuplicateFinder(part)) for part in repeated_parts(rules.deduplicate)]
        for part in range(source.num_parts):
            end = starts[-1]
            for chunk in number_chunks(source, part, end):
                kept = tally.take(chunk)
                if watch is not None:
                    watch.take(part, chunk.text.source, chunk.text.target)
                for finder in finders:
                    finder.add(chunk, kept)
                end = Start(chunk.number + 1, chunk.first_row + len(chunk.text))
            starts.append(end)
        reasons = np.concatenate([np.empty(0, dtype=np.uint8), *tally.reasons])
        for rows in chain.from_iterable(finder.repeated_rows() for finder in finders):
            reasons[rows] = Reason.DUPLICATE
    counts = np.bincount(reasons, minlength=len(Reason)).tolist()
    if not counts[Reason.KEPT]:
        raise CorpusError(_nothing_left(counts))
    if rules.valid_every and not tally.held_out:
        raise CorpusError(
            f"corpus.files.valid_every {rules.valid_every} takes no pair out of {len(reasons)} for validation: lower it"
        )
    text = TrainingText(source, tuple(starts), np.packbits(reasons != Reason.KEPT))
    if not (pairs := text.pairs):
        raise CorpusError(f"the weights of corpus.files leave none of {counts[Reason.KEPT]} training pairs: raise them")
    return Survey(
        text=text,
        kept=pairs,
        dropped={reason: counts[reason] for reason in Reason if reason is not Reason.KEPT},
        held_out=ParallelText([pair[0] for pair in tally.held_out], [pair[1] for pair in tally.held_out]),
        test_sources_seen=len(tally.seen & rules.held.test),
        valid_sources_seen=len(tally.seen & rules.held.valid),
    )


def held_out_sources(source: PairSource, valid_every: int) -> list[str]:
    """Read all pairs once; return the sources of every n-th, which validation takes."""
    found, row = list[str](), 0
    for part in range(source.num_parts):
        for text in source.chunks(part):
            found += text.source[valid_every - 1 - row % valid_every :: valid_every]
            row += len(text)
    return found


_WHY = {
    Reason.EMPTY: "lack a side",
    Reason.HELD_OUT: "are for validation (corpus.files.valid_every)",
    Reason.LEAK: "have a source of validation or test (corpus.leaks)",
    Reason.IDENTICAL: "have identical sides (corpus.drop_identical)",
    Reason.SCRIPT: "are in another script (corpus.min_script_share)",
    Reason.DUPLICATE: "are repeated (corpus.deduplicate)",
}


def _nothing_left(counts: Sequence[int]) -> str:
    """Return the rule, the reasons and the remedy where no pair is left to train on."""
    if counts[Reason.EMPTY] == sum(counts):
        return "every training pair lacks a side: give at least one line with text in both files"
    why = [f"{counts[reason]} {words}" for reason, words in _WHY.items() if counts[reason]]
    return (
        f"no training pair is left of {sum(counts)}: {', '.join(why)}; give other text, or change the first of these "
        "settings"
    )


@dataclass
class _SurveyCounts:
    """Counts and kept pairs of the chunks that a survey takes."""

    rules: PairRules
    reasons: list[Reasons] = field(default_factory=list)
    held_out: list[tuple[str, str]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    """Sources of validation and test among the training pairs."""

    def take(self, chunk: Chunk) -> NDArray[np.int64]:
        """Count a chunk; return its rows that are for training, counted within it."""
        reasons = self.rules.reasons(chunk.text.source, chunk.text.target, chunk.first_row)
        self.reasons.append(reasons)
        self.held_out += _pairs_of(chunk.text, reasons == Reason.HELD_OUT)
        if held := self.rules.held.all:
            for_training = np.flatnonzero((reasons == Reason.KEPT) | (reasons == Reason.LEAK)).tolist()
            self.seen |= held.intersection(chunk.text.source[row] for row in for_training)
        return np.flatnonzero(reasons == Reason.KEPT)


def vocabulary_lines(found: Survey, most: int, seed: int) -> Iterator[str]:
    """Yield the lines that the vocabulary is learned from: source lines in order, then target lines in order.

    Where there are more than `most`, `seed` draws that many of them, each equally likely. One pass: the target lines
    wait in a temporary file.
    """
    total = 2 * found.kept
    chosen = None if total <= most else sample_positions(total, most, seed)
    with tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n") as aside:
        row = 0
        for chunk in found.text.all_chunks():
            source = _chosen_lines(chunk.text.source, row, chosen)
            aside.writelines(f"{line}\n" for line in _chosen_lines(chunk.text.target, found.kept + row, chosen))
            yield from source
            row += len(chunk.text)
        aside.seek(0)
        for line in aside:
            yield line.removesuffix("\n")


def side_lines(found: Survey, side: str, most: int, seed: int) -> Iterator[str]:
    """Yield the lines of one side, `source` or `target`, that its own vocabulary is learned from, in order.

    Where there are more than `most`, `seed` draws that many of them: the same pairs on both sides.
    """
    chosen = None if found.kept <= most else sample_positions(found.kept, most, seed)
    row = 0
    for chunk in found.text.all_chunks():
        yield from _chosen_lines(getattr(chunk.text, side), row, chosen)
        row += len(chunk.text)


def sample_positions(total: int, size: int, seed: int) -> NDArray[np.int64]:
    """Draw `size` of the numbers below `total` without repetition, each set equally likely; sorted.

    Block by block, so that memory grows with `size` and not with `total`.
    """
    stream = np.random.default_rng(stream_seed(seed, "vocabulary"))
    pieces, left = [np.empty(0, dtype=np.int64)], size
    for first in range(0, total, CHUNK_PAIRS):
        block = min(CHUNK_PAIRS, total - first)
        number = int(stream.hypergeometric(block, total - first - block, left)) if left else 0
        pieces.append(first + np.sort(stream.choice(block, number, replace=False)))
        left -= number
    return np.concatenate(pieces)


def _chosen_lines(lines: Sequence[str], first: int, chosen: NDArray[np.int64] | None) -> Sequence[str]:
    """Return those of consecutive lines, the first of which is number `first`, that were chosen."""
    if chosen is None:
        return lines
    begin, end = np.searchsorted(chosen, [first, first + len(lines)])
    return [lines[position - first] for position in chosen[begin:end].tolist()]


def _pairs_of(text: ParallelText, flags: NDArray[np.bool_]) -> list[tuple[str, str]]:
    return [(text.source[row], text.target[row]) for row in np.flatnonzero(flags).tolist()]
