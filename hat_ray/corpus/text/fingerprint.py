"""The hash of all that decides a prepared corpus: settings, seed, versions, and every byte of the text."""

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path

from hat_ray.corpus.config import CorpusConfig, FilesConfig
from hat_ray.corpus.fairseq.data_bin import DataBin
from hat_ray.corpus.text.download import text_files, vocabulary_folder
from hat_ray.corpus.text.files import read_blocks
from hat_ray.corpus.toy.generate import GENERATOR_VERSION
from hat_ray.corpus.vocabulary.config import FILE_SETTINGS
from hat_ray.errors import CorpusError
from hat_ray.storage.plain_file import expanded, open_plain

_FORMAT_VERSION = 2
"""Rises with every change of the written files, sizes of chunks and shards included."""
_SIDES = ("train_source", "train_target", "valid_source", "valid_target", "test_source", "test_target")


def input_fingerprint(config: CorpusConfig, seed: int) -> str:
    """Hash the settings and every input byte, as the summary's fingerprint does; files are streamed."""
    settings = config.result_settings()
    for other in {"toy", "files", "fairseq"} - {config.source}:
        settings.pop(other, None)
    if config.source == "files":
        settings["files"] = _hash_files(text_files(config))
    elif config.source == "fairseq":
        settings["fairseq"] = _hash_data_bin(config)
    if any(getattr(config.vocabulary, name) for name in FILE_SETTINGS):
        settings["vocabulary"] |= _hash_vocabulary(config)
    versions = [_FORMAT_VERSION, GENERATOR_VERSION]
    return hashlib.sha256(json.dumps([settings, seed, versions], sort_keys=True).encode()).hexdigest()


def _hash_files(files: FilesConfig) -> dict[str, object]:
    """Return the files' identity: their content and how it is read, not their place."""
    found: dict[str, object] = {"valid_every": files.valid_every}
    for side in _SIDES:
        found[side] = [[_hash_file(part.path), part.resolved_form, part.column] for part in files.parts(side)]
    uses = [[part.weight, part.tag] for part in files.parts("train_source")]
    return found if all(use == [1.0, ""] for use in uses) else {**found, "uses": uses}


def _hash_data_bin(config: CorpusConfig) -> dict[str, object]:
    """Return the identity of a data-bin: the content of its dictionaries and of the splits that are used."""
    assert config.fairseq is not None
    names = config.fairseq
    opened = DataBin.open(names.folder, config.source_language, config.target_language)
    found: dict[str, object] = {"dictionaries": [_hash_bytes(path) for path in opened.dictionary_paths]}
    for split in ("train", "valid", "test"):
        files = opened.files(getattr(names, f"{split}_subset"))
        found[split] = [[path.name, _hash_bytes(path)] for path in files]
    for side in _SIDES[2:]:
        found[side] = [[_hash_file(part.path), part.resolved_form, part.column] for part in names.parts(side)]
    return found


def _hash_bytes(path: Path) -> str:
    status = path.stat()
    return _hash_binary(str(path), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _hash_binary(path: str, _size: int, _modified: int) -> str:
    """Hash a file's bytes as they are, once a process as long as its size and time stay the same."""
    with open_plain(path, "data-bin file", CorpusError) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_vocabulary(config: CorpusConfig) -> dict[str, object]:
    """Return the content of the files that a vocabulary is opened from, by setting."""
    folder = Path(vocabulary_folder(config))
    named = {name: getattr(config.vocabulary, name) for name in FILE_SETTINGS}
    return {name: _hash_file(str(folder / place)) if place else "" for name, place in named.items()}


def _hash_file(path: str) -> str:
    place = expanded(path)
    if not os.path.isfile(place):
        return _hash(path, 0, 0)  # which names the mistake
    status = place.stat()
    return _hash(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _hash(path: str, _size: int, _modified: int) -> str:
    """Hash a file's unpacked content, once a process as long as its size and time stay the same."""
    digest = hashlib.sha256()
    for block in read_blocks(path):
        digest.update(block)
    return digest.hexdigest()
