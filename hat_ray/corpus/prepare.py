"""Prepare a corpus: text becomes a vocabulary, three token tables and a summary in one folder.

Files: `sentencepiece.model`, `train.parquet`, `valid.parquet`, `test.parquet`, `summary.json` (last). A folder whose
summary carries the same fingerprint is left as it is; otherwise its summary goes first, so that a half-made folder is
never taken for a whole one. Nothing is written before all input is found good.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence

import numpy as np

from hat_ray.config import canonical
from hat_ray.corpus.config import CorpusConfig, FilesConfig
from hat_ray.corpus.summary import CorpusSummary, SplitSummary
from hat_ray.corpus.text import ParallelText, pair_lines, read_content, split_lines
from hat_ray.corpus.tokens import Sentences, TokenTable
from hat_ray.corpus.toy.generate import GENERATOR_VERSION, generate
from hat_ray.corpus.vocabulary import Vocabulary
from hat_ray.errors import CorpusError
from hat_ray.progress import Progress, silent
from hat_ray.seeds import stream_seed
from hat_ray.storage import Folder

MODEL_FILE = "sentencepiece.model"
SUMMARY_FILE = "summary.json"
SPLITS = ("train", "valid", "test")

_LINES_PER_CHUNK = 20_000
_FORMAT_VERSION = 1

log = logging.getLogger(__name__)


def prepare(config: CorpusConfig, folder: Folder, seed: int, progress: Progress = silent) -> CorpusSummary:
    """Prepare the corpus in `folder` and return its summary; a folder that holds it already is only read.

    `seed` draws the lines that the vocabulary is learned from where there are more than `vocab_sample_lines`.
    """
    contents = _read_files(config.files) if config.source == "files" and config.files else {}
    fingerprint = _fingerprint(config, seed, contents)
    if (stored := read_summary(folder)) is not None and stored.fingerprint == fingerprint:
        log.info("corpus in %s is up to date", folder)
        return stored
    texts = _split_files(contents, config) if contents else generate(config.toy)
    train, dropped_empty = _drop_empty(texts["train"])
    vocabulary = _learn(train, config, seed)
    tables, dropped_long = _tabulate({**texts, "train": train}, vocabulary, config.max_length, progress)
    summary = CorpusSummary(
        source_language=config.source_language,
        target_language=config.target_language,
        vocabulary_size=len(vocabulary),
        train=SplitSummary.of(tables["train"], dropped_empty=dropped_empty, dropped_long=dropped_long),
        valid=SplitSummary.of(tables["valid"]),
        test=SplitSummary.of(tables["test"]),
        test_sources_in_train=len(set(train.source).intersection(texts["test"].source)),
        fingerprint=fingerprint,
    )
    _write(folder, vocabulary, tables, summary)
    return summary


def read_summary(folder: Folder) -> CorpusSummary | None:
    """Return the summary of a prepared folder, or None when it is not whole or of another version."""
    if not folder.exists(SUMMARY_FILE):
        return None
    try:
        return CorpusSummary.model_validate_json(folder.read_bytes(SUMMARY_FILE))
    except ValueError:
        return None


def input_fingerprint(config: CorpusConfig, seed: int) -> str:
    """Hash the settings and every input byte, as the summary's fingerprint does."""
    contents = _read_files(config.files) if config.source == "files" and config.files is not None else {}
    return _fingerprint(config, seed, contents)


def _read_files(files: FilesConfig) -> dict[str, bytes]:
    """Return the content of each field's file, `train_source` and so on."""
    return {field: read_content(path) for field, path in files.paths().items()}


def _fingerprint(config: CorpusConfig, seed: int, contents: Mapping[str, bytes]) -> str:
    settings = canonical(config)
    unused = "toy" if config.source == "files" else "files"
    settings.pop(unused)
    if config.source == "files":
        settings["files"] = {field: hashlib.sha256(content).hexdigest() for field, content in contents.items()}
    versions = [_FORMAT_VERSION, GENERATOR_VERSION]
    return hashlib.sha256(json.dumps([settings, seed, versions], sort_keys=True).encode()).hexdigest()


def _split_files(contents: Mapping[str, bytes], config: CorpusConfig) -> dict[str, ParallelText]:
    names = config.files.paths() if config.files else {}
    lines = {field: split_lines(content, names[field], nfc=config.nfc) for field, content in contents.items()}
    return {split: _pair(split, lines, names) for split in SPLITS}


def _pair(split: str, lines: Mapping[str, list[str]], names: Mapping[str, str]) -> ParallelText:
    source, target = f"{split}_source", f"{split}_target"
    return pair_lines(lines[source], lines[target], names[source], names[target])


def _drop_empty(text: ParallelText) -> tuple[ParallelText, int]:
    """Drop the pairs that lack a side; return what is left and how many went."""
    kept = [pair for pair in zip(text.source, text.target, strict=True) if pair[0] and pair[1]]
    if not kept:
        raise CorpusError("every training pair lacks a side: give at least one line with text in both files")
    return ParallelText([pair[0] for pair in kept], [pair[1] for pair in kept]), len(text) - len(kept)


def _learn(text: ParallelText, config: CorpusConfig, seed: int) -> Vocabulary:
    lines: Sequence[str] = [*text.source, *text.target]
    if len(lines) > config.vocab_sample_lines:
        stream = np.random.default_rng(stream_seed(seed, "vocabulary"))
        chosen = np.sort(stream.choice(len(lines), config.vocab_sample_lines, replace=False))
        lines = [lines[index] for index in chosen]
    return Vocabulary.learn(lines, config.vocab_size, byte_fallback=config.spells_bytes)


def _tabulate(
    texts: Mapping[str, ParallelText], vocabulary: Vocabulary, max_length: int, progress: Progress
) -> tuple[dict[str, TokenTable], int]:
    """Encode all splits; drop long training pairs and say how many."""
    total = sum(len(text) for text in texts.values())
    done, tables = 0, {}
    for split in SPLITS:
        text = texts[split]
        parts: dict[str, list[Sentences]] = {"source": [], "target": []}
        for first in range(0, len(text), _LINES_PER_CHUNK):
            chunk = slice(first, first + _LINES_PER_CHUNK)
            parts["source"].append(Sentences.of(vocabulary.encode_lines(text.source[chunk])))
            parts["target"].append(Sentences.of(vocabulary.encode_lines(text.target[chunk])))
            done += len(text.source[chunk])
            progress(done, total, {})
        tables[split] = TokenTable(Sentences.joined(parts["source"]), Sentences.joined(parts["target"]))
        if split != "train":
            tables[split] = _with_text(tables[split], text)
    kept = np.flatnonzero(tables["train"].longest_sides <= max_length)
    dropped = len(tables["train"]) - len(kept)
    if not len(kept):
        raise CorpusError(f"every training pair is longer than {max_length} tokens: raise corpus.max_length")
    return {**tables, "train": tables["train"].select(kept) if dropped else tables["train"]}, dropped


def _with_text(table: TokenTable, text: ParallelText) -> TokenTable:
    return TokenTable(table.source, table.target, tuple(text.source), tuple(text.target))


def _write(folder: Folder, vocabulary: Vocabulary, tables: Mapping[str, TokenTable], summary: CorpusSummary) -> None:
    folder.delete(SUMMARY_FILE)
    folder.write_bytes(MODEL_FILE, vocabulary.to_bytes())
    for split, table in tables.items():
        folder.write_table(f"{split}.parquet", table.to_arrow())
    folder.write_json(SUMMARY_FILE, summary.model_dump(mode="json"))
