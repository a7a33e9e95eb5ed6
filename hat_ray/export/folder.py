"""The folder that an exported model is: sub-word model, architecture, loader, manifest, and its runtime's own files.

Decisions
- The loader is a copy of files of `runtime/standalone`, the front end and the runtime's engine: users run what tests
  run.
- The manifest comes last, and names every other file with its SHA-256, and itself.
"""

import hashlib
import importlib
import json
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import sentencepiece
import torch

import hat_ray
from hat_ray.corpus.vocabulary import BOS, EOS, PAD, UNK, Vocabularies
from hat_ray.corpus.vocabulary.cutting import one_line
from hat_ray.corpus.vocabulary.subwords import MODEL_FILE
from hat_ray.errors import ExportError
from hat_ray.model.checkpoints.about import About
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.protocol import Exporter, RuntimeSettings
from hat_ray.runtime.standalone import translate as front_end
from hat_ray.runtime.standalone.translate import MANIFEST, SEAL, seal_of
from hat_ray.space.cost import count_params

_CARRIED = (
    r"hat_ray\.(?:(?:corpus\.(?:vocabulary|protection)|front|model\.hypotheses)\.|"
    r"runtime\.standalone\.(?:beams|graphs_))"
)
"""Modules whose text an export carries: sub-words, protected parts, sentences, decoding by options, graphs."""
VOCABULARY, ARCHITECTURE, LOADER = "vocabulary.model", "architecture.json", "translate.py"


def write_files(
    place: Path,
    model: SubTransformer,
    vocabularies: Vocabularies,
    runtime: str,
    exporter: Exporter,
    settings: RuntimeSettings,
) -> dict[str, Any]:
    """Write everything but the manifest; return the runtime's entries of it."""
    named = _write_vocabularies(place, vocabularies)
    (place / ARCHITECTURE).write_text(model.architecture.to_json() + "\n", encoding="utf-8")
    facts = exporter.write(model, vocabularies, place, settings)
    _write_loader(place, facts.loader)
    return {**named, **facts.manifest, "runtime": runtime, "dtype": settings.dtype}


def _write_vocabularies(place: Path, vocabularies: Vocabularies) -> dict[str, Any]:
    """Write the sub-words; return their entries of the manifest."""
    if vocabularies.is_one_model:
        (place / VOCABULARY).write_bytes(vocabularies.source.files()[MODEL_FILE])
        return {"vocabulary": VOCABULARY}
    index, files = vocabularies.indexed()
    for name, content in files.items():
        (place / name).write_bytes(content)
    return {"vocabularies": index, "source_vocab_size": len(vocabularies.source)}


def _write_loader(place: Path, engine: Path) -> None:
    """Write the front end and, behind it, the engine, each with the modules that it carries, once."""
    written: set[str] = set()
    front = _with_modules(Path(str(front_end.__file__)).read_text(encoding="utf-8"), written)
    own = re.escape(front_end.__name__)
    text, found = re.subn(_import_of(own), "", engine.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if found != 1:
        raise ValueError(f"{engine} must import the front end once, by one statement, got {found}")
    (place / LOADER).write_text(f"{front}\n\n{_with_modules(text, written)}", encoding="utf-8")


def _with_modules(text: str, written: set[str]) -> str:
    """Put the modules that are carried in the place of their first import."""

    def whole(found: re.Match[str]) -> str:
        if found[1] in written:
            return ""
        written.add(found[1])
        own = Path(str(importlib.import_module(found[1]).__file__)).read_text(encoding="utf-8")
        return f"\n{_with_modules(own, written)}\n"

    return re.sub(_import_of(_CARRIED), whole, text, flags=re.MULTILINE)


def _import_of(module: str) -> str:
    """Return the pattern of an import statement, of the modules whose names begin with a pattern."""
    return rf"^from ({module}[\w.]*) import (?:\([^)]*\)|.*)\n"


def write_manifest(
    place: Path,
    model: SubTransformer,
    of_runtime: Mapping[str, Any],
    search: Mapping[str, float],
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """Write and return the manifest of the files that are there; `search` are the beam search's defaults."""
    files = sorted(path.name for path in place.iterdir() if path.name != MANIFEST)
    manifest = {
        **of_runtime,
        "model_id": model.architecture.id,
        "architecture": model.architecture.to_dict(),
        "params": count_params(model.architecture),
        "vocab_size": model.target_vocab_size,
        "special_tokens": {"bos": BOS, "pad": PAD, "eos": EOS, "unk": UNK},
        "max_positions": model.max_positions,
        "search": dict(search),
        "versions": _versions(),
        **more,
        "files": {name: _sha256(place / name) for name in files},
    }
    manifest = dict(json.loads(json.dumps(manifest, allow_nan=False)))
    manifest[SEAL] = seal_of(manifest)
    text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False)
    (place / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return manifest


def facts_of(about: About) -> dict[str, Any]:
    """Return the manifest's entries of a model's facts; its beam search stands under `search`."""
    facts = {name: value for name, value in asdict(about).items() if name not in ("search", "notes")}
    return {**facts, "direction": about.direction}


def about_of_manifest(manifest: Mapping[str, Any], place: object) -> About:
    """Return the facts of a model that a manifest keeps; raise ExportError where they are none."""
    given: dict[str, Any] = {name: manifest[name] for name in ("tokenizer", "signature", "origin") if name in manifest}
    languages: dict[str, Any] = {name: manifest.get(name) for name in ("source_language", "target_language")}
    try:
        if not all(isinstance(value, str) for value in given.values()):
            raise ValueError("tokenizer, signature and origin must be text")
        return About(search=manifest["search"], **languages, **given)
    except (TypeError, ValueError) as error:
        raise ExportError(f"{place}: {MANIFEST}: {one_line(error)}: export the model again") from error


def _versions() -> dict[str, str]:
    modules = {"onnx": onnx, "onnxruntime": onnxruntime, "sentencepiece": sentencepiece, "numpy": np, "torch": torch}
    versions = {name: str(module.__version__) for name, module in modules.items()}
    return {"hat-ray": hat_ray.__version__, "python": platform.python_version(), **versions}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
