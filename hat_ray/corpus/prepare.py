"""Prepare a corpus: text becomes a vocabulary, token tables and a summary in one folder, in memory that does not grow.

The text is read four times and never held: to hash it, to survey it (checks, counts, what is left out), to learn the
vocabulary from a sample, and to encode it. With `valid_every` it is read once more, first. Only validation and test are
held; they are small.

Files: `summary.json`, and one sub-folder that it names: `sentencepiece.model`, `train-00000.arrow` and so on,
`valid.parquet`, `test.parquet`. The summary is written last and at once, so that a half-made corpus is never taken for
a whole one and an earlier corpus holds until the new one is whole. A folder whose summary carries the same fingerprint
is left as it is. A killed preparation resumes after its last complete shard; a user's mistake leaves nothing.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from hat_ray.core.codec import read, write
from hat_ray.core.progress import Progress, no_progress
from hat_ray.corpus.cleaning.finding import TextFinding
from hat_ray.corpus.cleaning.rules import Reason
from hat_ray.corpus.config import CorpusConfig, DataBinConfig
from hat_ray.corpus.corpus import SUMMARY_FILE, CorpusSummary, LengthSummary, SplitSummary, TaughtSummary
from hat_ray.corpus.encode import Encode, EncodedChunk, EncodingJob, LengthRules, encode_held, encode_here
from hat_ray.corpus.fairseq.content import held_table, num_chunks, split_chunks, survey_split
from hat_ray.corpus.fairseq.data_bin import DataBin
from hat_ray.corpus.fairseq.vocabularies import data_bin_vocabularies
from hat_ray.corpus.protection.practice import practice_for
from hat_ray.corpus.shards import (
    CHUNKS_PER_SHARD,
    ShardRecord,
    finished_shards,
    length_counts,
    total_lengths,
    write_shards,
)
from hat_ray.corpus.splits import Splits, whole_text
from hat_ray.corpus.text.files import ParallelText
from hat_ray.corpus.text.fingerprint import input_fingerprint
from hat_ray.corpus.text.source import PairedFiles
from hat_ray.corpus.text.survey import Survey
from hat_ray.corpus.text.taught import Taught
from hat_ray.corpus.tokens import TokenTable
from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.corpus.vocabulary.files import INDEX
from hat_ray.corpus.vocabulary.make import make_vocabularies, require_known
from hat_ray.corpus.vocabulary.subwords import MODEL_FILE
from hat_ray.errors import CorpusError, DamagedError, HatRayError
from hat_ray.storage.folder import Folder

_DATA = "tokens-"
_DROPPED = ("dropped_long", "dropped_ratio")

log = logging.getLogger(__name__)


def prepare(
    config: CorpusConfig,
    folder: Folder,
    seed: int,
    progress: Progress = no_progress,
    encode: Encode = encode_here,
    taught: Taught | None = None,
) -> CorpusSummary:
    """Prepare the corpus in `folder` and return its summary; a folder that holds it already is only read.

    `seed` draws the lines that the vocabulary is learned from where there are more than `vocab_sample_lines`. `encode`
    decides where the text is encoded; every execution gives the same bytes. Downloads must be there (`download.py`).
    `taught` holds the targets that a teacher wrote; None: the references are the targets.
    """
    fingerprint = input_fingerprint(config, seed)
    if taught is not None:
        fingerprint = hashlib.sha256(f"{fingerprint} {taught.identity}".encode()).hexdigest()
    if (stored := read_summary(folder)) is not None and stored.fingerprint == fingerprint:
        log.info("corpus in %s is up to date", folder)
        return stored
    data = folder.child(f"{_DATA}{fingerprint[:16]}")
    try:
        summary = _prepare(config, data, seed, fingerprint, progress, encode, taught)
    except HatRayError:
        folder.delete(data.name)
        folder.delete_if_empty()
        raise
    write(folder, SUMMARY_FILE, summary)
    for name in folder.list():
        if name.startswith(_DATA) and name != data.name:
            folder.delete(name)
    return summary


def read_summary(folder: Folder) -> CorpusSummary | None:
    """Return the summary of a prepared folder, or None when it is not whole or of another version."""
    if not folder.exists(SUMMARY_FILE):
        return None
    try:
        return read(folder, SUMMARY_FILE, CorpusSummary)
    except DamagedError as error:
        log.warning("%s", error)
        return None


def _prepare(
    config: CorpusConfig,
    data: Folder,
    seed: int,
    fingerprint: str,
    progress: Progress,
    encode: Encode,
    taught: Taught | None,
) -> CorpusSummary:
    if config.source == "fairseq":
        found = _from_data_bin(config, data, progress)
    else:
        found = _from_text(config, data, seed, progress, encode, taught)
    for split, table in found.tables.items():
        data.write_table(f"{split}.parquet", table.to_arrow())
    vocabularies = found.vocabularies
    return CorpusSummary(
        source_language=config.source_language,
        target_language=config.target_language,
        vocabulary_size=len(vocabularies.source),
        target_vocabulary_size=None if vocabularies.joint else len(vocabularies.target),
        train=_summarise_training(found, config),
        valid=_summarise(found.tables["valid"]),
        test=_summarise(found.tables["test"]),
        leaks=config.leaks,
        test_sources_in_train=found.test_sources_seen,
        valid_sources_in_train=found.valid_sources_seen,
        findings=tuple(found.findings),
        fingerprint=fingerprint,
        taught=TaughtSummary.of(taught) if taught else None,
        data=data.name,
        shards=tuple(record.shard for record in found.records),
        files={
            name: _sha256(data, name)
            for name in (*vocabularies.files(), *(f"{split}.parquet" for split in found.tables))
        },
    )


@dataclass(frozen=True)
class _Content:
    """What a source of text or tokens gives, with the training table's shards already written."""

    vocabularies: Vocabularies
    records: list[ShardRecord]
    tables: dict[str, TokenTable]
    """Of validation and test."""
    dropped: Mapping[Reason, int]
    """Pairs left out before their lengths were known."""
    test_sources_seen: int
    valid_sources_seen: int
    weighted: int = 0
    """Pairs that the weights of files add, or take away where negative."""
    findings: Sequence[TextFinding] = ()
    """Stretches of the text whose sides do not belong together."""


def _from_text(
    config: CorpusConfig, data: Folder, seed: int, progress: Progress, encode: Encode, taught: Taught | None
) -> _Content:
    splits = Splits.read(config)
    found, findings = splits.surveyed(config, taught)
    log.debug("%d training pairs, %d to encode", found.text.num_rows, found.kept)
    texts = {"valid": found.held_out, **splits.held}
    vocabularies = _vocabularies(found, config, data, seed)
    counter = _Counter(found.kept + sum(map(len, texts.values())), progress)
    tables = {split: encode_held(text, vocabularies) for split, text in texts.items()}
    require_known(tables, config)
    practice = practice_for(config.protect_share, vocabularies, seed, config.tags)
    if config.protect_share and practice is None:
        log.info("the vocabulary has no symbols for what must not change: URLs, numbers and mark-up are not protected")
    job = EncodingJob(found.text, vocabularies, LengthRules(config.max_length, config.max_ratio), practice)
    records = _write_training(partial(encode, job), job.text.num_chunks, data, counter)
    counter.report(sum(map(len, tables.values())))
    seen = found.test_sources_seen, found.valid_sources_seen
    return _Content(vocabularies, records, tables, found.dropped, *seen, found.kept - found.text.kept_rows, findings)


def _from_data_bin(config: CorpusConfig, data: Folder, progress: Progress) -> _Content:
    """Take the tokens of a data-bin; nothing is encoded but a test set that it lacks."""
    assert config.fairseq is not None
    names = config.fairseq
    opened = DataBin.open(names.folder, config.source_language, config.target_language)
    vocabularies = data_bin_vocabularies(opened, config)
    train = opened.require(names.train_subset, "corpus.fairseq.train_subset")
    tables = {
        split: held_table(
            opened,
            f"corpus.fairseq.{split}_subset",
            getattr(names, f"{split}_subset"),
            _text_of(names, split),
            vocabularies,
        )
        for split in ("valid", "test")
    }
    found = survey_split(train, tables["valid"].source, tables["test"].source, remove_leaks=config.leaks == "remove")
    vocabularies.save(data)
    counter = _Counter(found.kept, progress)
    rules = LengthRules(config.max_length, config.max_ratio)
    chunks = partial(split_chunks, train, rules, found.removed_sources)
    records = _write_training(chunks, num_chunks(train), data, counter)
    seen = found.test_sources_seen, found.valid_sources_seen
    return _Content(vocabularies, records, tables, found.dropped, *seen, findings=found.findings)


def _text_of(names: DataBinConfig, split: str) -> ParallelText | None:
    """Return the text of a data-bin's split, where the recipe names it."""
    source, target = names.parts(f"{split}_source"), names.parts(f"{split}_target")
    return whole_text(PairedFiles(source, target)) if source else None


def _sha256(data: Folder, name: str) -> str:
    return hashlib.sha256(data.read_bytes(name)).hexdigest()


def _vocabularies(found: Survey, config: CorpusConfig, data: Folder, seed: int) -> Vocabularies:
    """Make the vocabularies and write them, or read those of a killed preparation of the same text."""
    if data.exists(MODEL_FILE) or data.exists(INDEX):
        return Vocabularies.load(data)
    made = make_vocabularies(found, config, seed)
    made.save(data)
    return made


class _Counter:
    """Reports the number of encoded pairs."""

    def __init__(self, total: int, progress: Progress) -> None:
        self.done, self.total, self._progress = 0, total, progress

    def report(self, pairs: int) -> None:
        self.done += pairs
        self._progress(self.done, self.total, {})


def _write_training(
    chunks_from: Callable[[int], Iterator[EncodedChunk]], total: int, data: Folder, counter: _Counter
) -> list[ShardRecord]:
    """Write the missing shards of a table of `total` chunks; return the records of all."""
    records = finished_shards(data)
    if records:
        log.info("resuming after %d complete shards", len(records))
        counter.report(sum(record.shard.pairs + record.dropped_long + record.dropped_ratio for record in records))

    first = min(len(records) * CHUNKS_PER_SHARD, total)  # the last shard may be shorter
    return [*records, *write_shards(data, _checked(chunks_from(first), first, total, counter))]


def _checked(chunks: Iterator[EncodedChunk], first: int, end: int, counter: _Counter) -> Iterator[EncodedChunk]:
    """Pass chunks on and report them; raises CorpusError unless each of `first` to `end` comes, in order."""
    for chunk in chunks:
        if chunk.number == first:
            first += 1
            counter.report(len(chunk.source) + chunk.dropped_long + chunk.dropped_ratio)
            yield chunk
            continue
        break
    else:
        if first == end:
            return
    raise CorpusError(f"the text changed while it was prepared (chunk {first} of {end} is not there): prepare it again")


def _summarise_training(found: _Content, config: CorpusConfig) -> SplitSummary:
    records = found.records
    dropped_long, dropped_ratio = (sum(getattr(record, name) for record in records) for name in _DROPPED)
    if not (pairs := sum(record.shard.pairs for record in records)):
        if not dropped_ratio:
            raise CorpusError(f"every training pair is longer than {config.max_length} tokens: raise corpus.max_length")
        raise CorpusError(
            f"every training pair breaks max_length {config.max_length} or max_ratio {config.max_ratio:g}: raise them"
        )
    return SplitSummary(
        pairs=pairs,
        dropped_empty=found.dropped.get(Reason.EMPTY, 0),
        dropped_leak=found.dropped.get(Reason.LEAK, 0),
        dropped_identical=found.dropped.get(Reason.IDENTICAL, 0),
        dropped_script=found.dropped.get(Reason.SCRIPT, 0),
        dropped_duplicate=found.dropped.get(Reason.DUPLICATE, 0),
        dropped_long=dropped_long,
        dropped_ratio=dropped_ratio,
        weighted=found.weighted,
        held_out=found.dropped.get(Reason.HELD_OUT, 0),
        source=LengthSummary.of(total_lengths(record.source_lengths for record in records)),
        target=LengthSummary.of(total_lengths(record.target_lengths for record in records)),
    )


def _summarise(table: TokenTable) -> SplitSummary:
    source, target = (LengthSummary.of(length_counts(side.lengths)) for side in (table.source, table.target))
    return SplitSummary(pairs=len(table), source=source, target=target)
