"""Sequence-level distillation: a corpus' training sources with a trained model's translations in place of references.

The result is two text files, `train.source` and `train.target`, line by line, which a recipe names as its
`corpus.files.train_source` and `train_target`; a model that is trained on them learns the teacher's translations.

Decisions
- Sources are what the corpus kept, read back from its tokens: the files fit each other whatever preparation dropped.
- Work is done in chunks, each written whole under `parts/`. A killed run resumes with the missing chunks;
  chunks may as well be made on several machines (`translate_chunk`), and `join_chunks` puts them together in order.
- `distil.json` names the corpus, model and beam search of the parts; parts of another one are deleted.
"""

import hashlib
import json
import logging
from dataclasses import dataclass

from hat_ray.core.codec import read, write
from hat_ray.core.progress import Progress, no_progress
from hat_ray.corpus.corpus import Corpus
from hat_ray.errors import CorpusError
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.translate import translate
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.storage.folder import Folder

CHUNK_PAIRS = 2_000
"""Sentences translated at once: what a kill can cost."""
SOURCE, TARGET, RECORD = "train.source", "train.target", "distil.json"

_PARTS = "parts"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Distilled:
    """The result; its paths are for a recipe."""

    source: str
    target: str
    lines: int
    empty: int
    """Translations without a word; preparation will drop these pairs."""


def distil(
    model: SubTransformer,
    corpus: Corpus,
    folder: Folder,
    config: EvaluateConfig | None = None,
    progress: Progress = no_progress,
    *,
    chunk_pairs: int = CHUNK_PAIRS,
) -> Distilled:
    """Translate a corpus' training sources into `folder`; resumes after a kill, and reads a finished result back."""
    config = config or EvaluateConfig()
    fingerprint = _fingerprint(model, corpus, config, chunk_pairs)
    if (done := _finished(folder, fingerprint)) is not None:
        return done
    chunks = range(-(-len(corpus.train) // chunk_pairs))
    for number in chunks:
        progress(number * chunk_pairs, len(corpus.train), {})
        if not folder.exists(_part(number, TARGET)):
            translate_chunk(model, corpus, folder, number, config, chunk_pairs)
    progress(len(corpus.train), len(corpus.train), {})
    return join_chunks(folder, len(chunks), len(corpus.train), fingerprint)


def translate_chunk(
    model: SubTransformer, corpus: Corpus, folder: Folder, number: int, config: EvaluateConfig, chunk_pairs: int
) -> None:
    """Translate one chunk of the training sources; its target file is written last and shows that the chunk is
    complete."""
    rows = range(number * chunk_pairs, min((number + 1) * chunk_pairs, len(corpus.train)))
    sources = [_one_line(corpus.vocabularies.source.decode(corpus.train.source[row].tolist())) for row in rows]
    translations = [_one_line(line) for line in translate(model, corpus.vocabularies, sources, config)]
    folder.write_text(_part(number, SOURCE), _text(sources))
    folder.write_text(_part(number, TARGET), _text(translations))


def join_chunks(folder: Folder, chunks: int, lines: int, fingerprint: str) -> Distilled:
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
    result = Distilled(folder.path(SOURCE), folder.path(TARGET), lines, empty)
    write(folder, RECORD, _Record(fingerprint, result))
    folder.delete(_PARTS)
    log.info("translated %d training sentences into %s (%d came out empty)", lines, result.target, empty)
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


def _fingerprint(model: SubTransformer, corpus: Corpus, config: EvaluateConfig, chunk_pairs: int) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    settings = {"corpus": corpus.summary.fingerprint, "search": config.result_settings(), "chunk_pairs": chunk_pairs}
    digest.update(json.dumps(settings, sort_keys=True).encode())
    return digest.hexdigest()


def _part(number: int, side: str) -> str:
    return f"{_PARTS}/{number:06d}.{side}"


def _one_line(text: str) -> str:
    """A model that spells bytes can spell a line feed."""
    return " ".join(text.replace("\r", "\n").split("\n")).strip()


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
