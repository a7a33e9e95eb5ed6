"""Sequence-level distillation: sentences with a trained model's translations in place of references.

The result is two text files, `train.source` and `train.target`, line by line, which a recipe names as its
`corpus.files.train_source` and `train_target`; a model that is trained on them learns the teacher's translations.

Decisions
- Sources of a run are what its corpus kept, read back from its tokens: the files fit each other whatever preparation
  dropped.
- Work is done in chunks, each written whole under `parts/`. A killed run resumes with the missing chunks.
- `distil.json` names the text, model and beam search of the parts; parts of another one are deleted.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hat_ray.core.codec import read, write
from hat_ray.core.progress import Progress, no_progress
from hat_ray.corpus.corpus import Corpus
from hat_ray.errors import CorpusError
from hat_ray.storage.folder import Folder

CHUNK_PAIRS = 2_000
"""Sentences translated at once: what a kill can cost."""
SOURCE, TARGET, RECORD = "train.source", "train.target", "distil.json"

_PARTS = "parts"

log = logging.getLogger(__name__)


class Translate(Protocol):
    """A teacher."""

    def __call__(self, lines: Sequence[str], /, *, first: int = 1) -> list[str]:
        """Return the translation of every line, in order; `first` is the number by which messages name the first."""


@dataclass(frozen=True)
class Distilled:
    """The result; its paths are for a recipe."""

    source: str
    target: str
    lines: int
    empty: int
    """Translations without a word; preparation will drop these pairs."""


@dataclass(frozen=True)
class Sentences:
    """Sentences to translate, read piece by piece."""

    count: int
    read: Callable[[range], list[str]]
    """Returns the sentences of some rows."""
    fingerprint: str


def training_sentences(corpus: Corpus) -> Sentences:
    """Return a corpus' training sources."""
    rows, source = corpus.train, corpus.vocabularies.source

    def read(wanted: range) -> list[str]:
        return [source.decode(rows.source[row].tolist()) for row in wanted]

    return Sentences(len(rows), read, corpus.summary.fingerprint)


def sentences_of(lines: Sequence[str]) -> Sentences:
    """Return lines of text as sentences."""
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return Sentences(len(lines), lambda wanted: list(lines[wanted.start : wanted.stop]), digest)


def distil(
    translate: Translate,
    text: Sentences,
    folder: Folder,
    identity: str,
    progress: Progress = no_progress,
    *,
    chunk_pairs: int = CHUNK_PAIRS,
) -> Distilled:
    """Translate sentences into `folder`; resumes after a kill, and reads a finished result back.

    `identity` names all that decides a translation: the model and its beam search.
    """
    fingerprint = _fingerprint(identity, text, chunk_pairs)
    if (done := _finished(folder, fingerprint)) is not None:
        return done
    chunks = range(-(-text.count // chunk_pairs))
    for number in chunks:
        progress(number * chunk_pairs, text.count, {})
        if not folder.exists(_part(number, TARGET)):
            rows = range(number * chunk_pairs, min((number + 1) * chunk_pairs, text.count))
            sources = [_one_line(line) for line in text.read(rows)]
            targets = [_one_line(line) for line in translate(sources, first=rows.start + 1)]
            _write_chunk(folder, number, sources, targets)
    progress(text.count, text.count, {})
    return _join_chunks(folder, len(chunks), text.count, fingerprint)


def _write_chunk(folder: Folder, number: int, sources: list[str], targets: list[str]) -> None:
    """Write one chunk; its target file is written last and shows that the chunk is complete."""
    folder.write_text(_part(number, SOURCE), _text(sources))
    folder.write_text(_part(number, TARGET), _text(targets))


def _join_chunks(folder: Folder, chunks: int, lines: int, fingerprint: str) -> Distilled:
    """Put all chunks together in order, note that the work is finished, and delete them."""
    counts = dict.fromkeys((SOURCE, TARGET), 0)
    empty = 0
    for side in counts:
        with folder.writing(side) as stream:
            for number in range(chunks):
                content = folder.read_bytes(_part(number, side))
                counts[side] += content.count(b"\n")
                empty += sum(not line for line in content.split(b"\n")[:-1]) if side == TARGET else 0
                stream.write(content)
    if set(counts.values()) != {lines}:
        raise CorpusError(f"{folder} must hold {lines} lines a side, it holds {counts}: delete it and translate again")
    result = Distilled(folder.place_of(SOURCE), folder.place_of(TARGET), lines, empty)
    write(folder, RECORD, _Record(fingerprint, result))
    folder.delete(_PARTS)
    log.info("translated %d sentences into %s (%d came out empty)", lines, result.target, empty)
    return result


@dataclass(frozen=True)
class _Record:
    """Content of `distil.json`."""

    fingerprint: str
    finished: Distilled | None = None


def _finished(folder: Folder, fingerprint: str) -> Distilled | None:
    """Return a finished result of the same work; make the folder ready for it otherwise."""
    remedy = "delete the folder and translate again"
    record = read(folder, RECORD, _Record, remedy) if folder.exists(RECORD) else None
    if record is not None and record.fingerprint == fingerprint:
        return record.finished
    for name in (_PARTS, SOURCE, TARGET):
        folder.delete(name)
    write(folder, RECORD, _Record(fingerprint))
    return None


def _fingerprint(identity: str, text: Sentences, chunk_pairs: int) -> str:
    what = {"text": text.fingerprint, "translations": identity, "chunk_pairs": chunk_pairs}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _part(number: int, side: str) -> str:
    return f"{_PARTS}/{number:06d}.{side}"


def _one_line(text: str) -> str:
    """A model that spells bytes can spell a line feed."""
    return " ".join(text.replace("\r", "\n").split("\n")).strip()


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
