"""Export a model as a folder that needs nothing of hat-ray, and open such a folder.

Nothing is left half-written: the folder is made beside its place, checked, and then put there whole.
"""

import logging
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hat_ray.core.progress import Progress, silent
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.vocabulary import Vocabulary
from hat_ray.errors import ExportError
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.evaluate import scored_text
from hat_ray.evaluate.translate import translate
from hat_ray.export.folder import ExportRuntime, require_weights_inside, write_files, write_manifest
from hat_ray.export.parity import Bounds, Parity, compare
from hat_ray.model.protocol import Translator
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.capability import saturates
from hat_ray.runtime.ctranslate2 import require_ctranslate2
from hat_ray.runtime.onnx.graph import GraphDtype
from hat_ray.runtime.onnx.runtime import OnnxModel
from hat_ray.runtime.shortlist import ShortLists, build_short_lists
from hat_ray.runtime.standalone import engine_ctranslate2 as ct2_loader
from hat_ray.runtime.standalone import engine_onnx as loader
from hat_ray.runtime.standalone.manifest import MANIFEST, kind_of, read_manifest

SEARCH = ("beam", "length_penalty", "max_length_factor", "max_length_extra", "max_source_length", "batch_tokens")
"""Fields of `EvaluateConfig` that the manifest keeps as the loader's defaults."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """What was made."""

    folder: str
    model_id: str
    dtype: str
    file_bytes: int
    parity: Parity


@dataclass(frozen=True)
class Served:
    """A model on its runtime, with the sub-words and the search settings that it is used with."""

    model: Translator | ct2_loader.Translator
    """CTranslate2 has a beam search of its own."""
    vocabulary: Vocabulary
    config: EvaluateConfig

    def translate(self, lines: Sequence[str], progress: Progress = silent) -> list[str]:
        """Return the best translation of every line, in order; an empty line stays empty."""
        if not isinstance(self.model, ct2_loader.Translator):
            return translate(self.model, self.vocabulary, lines, self.config, progress)
        try:
            found = self.model.translate(lines, **{name: getattr(self.config, name) for name in SEARCH})
        except ValueError as error:
            raise ExportError(str(error)) from error
        progress(len(lines), len(lines), {})
        return found


def export_model(
    model: SubTransformer,
    corpus: Corpus,
    out: Path,
    dtype: GraphDtype,
    config: EvaluateConfig,
    bounds: Bounds,
    progress: Progress = silent,
    *,
    runtime: ExportRuntime = "onnx",
    short_list: int = 0,
) -> Exported:
    """Write `out`, after translating the test set (its first `config.sentences`) with the exported model too.

    `short_list`: target words listed for each source word; 0: all words may follow.
    """
    if runtime == "ctranslate2":
        require_ctranslate2()
    if short_list and runtime != "onnx":
        raise ExportError(f"short-lists are for runtime onnx, got {runtime}: leave --short-list out")
    _require_place(out)
    sources, references = scored_text(corpus, config)
    aside = out.absolute().parent / f".{out.name}.{uuid.uuid4().hex[:8]}.tmp"
    aside.mkdir(parents=True)
    try:
        of_runtime = write_files(aside, model, corpus.vocabulary, dtype, runtime, short_lists_of(corpus, short_list))
        search = {name: getattr(config, name) for name in SEARCH}
        write_manifest(aside, model, of_runtime, search, {})
        exported = (ct2_loader if runtime == "ctranslate2" else loader).Translator(aside)
        parity = compare(model, exported, corpus.vocabulary, sources, references, config, progress)
        parity.require(bounds)
        write_manifest(aside, model, of_runtime, search, {"parity": asdict(parity), "bounds": asdict(bounds)})
        size = sum(path.stat().st_size for path in aside.iterdir())
        _put(aside, out.absolute())
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    log.info("exported %s: %d of %d sentences identical", model.architecture.id, parity.identical, parity.sentences)
    return Exported(str(out), model.architecture.id, dtype, size, parity)


def short_lists_of(corpus: Corpus, partners: int) -> ShortLists | None:
    """Return short-lists from a corpus' training pairs, with so many partners for each source word; None for 0."""
    if not partners:
        return None
    pairs = (corpus.train.sentence(row) for row in range(len(corpus.train)))
    return build_short_lists(pairs, len(corpus.vocabulary), partners)


def is_export(place: str | Path) -> bool:
    """Tell whether a local folder looks like an exported model; it may still be damaged."""
    return os.path.lexists(Path(place) / MANIFEST)


def open_export(place: str | Path, threads: int = 1, **changes: Any) -> Served:
    """Load an exported model with its manifest's search settings, some of them changed; raises ExportError."""
    try:
        if kind_of(place) == ct2_loader.KIND:
            return _open_ct2(place, threads, changes)
        manifest = read_manifest(place, loader.KIND, loader.FORMAT)
        if saturates(str(manifest.get("quantisation", "none"))):
            log.warning("%s was exported when bytes saturated on such processors: export it again", place)
        require_weights_inside(Path(place), manifest)
        graphs = loader.open_graphs(place, manifest, threads)
        loader.open_vocabulary(place, manifest)
        vocabulary = Vocabulary.from_bytes((Path(place) / manifest["vocabulary"]).read_bytes())
        config = EvaluateConfig(**{**manifest["search"], **changes})
        return Served(OnnxModel(graphs, manifest["max_positions"]), vocabulary, config)
    except ValueError as error:
        raise ExportError(str(error)) from error


def _open_ct2(place: str | Path, threads: int, changes: Mapping[str, Any]) -> Served:
    model = ct2_loader.Translator(place, threads)
    vocabulary = Vocabulary.from_bytes((Path(place) / model.manifest["vocabulary"]).read_bytes())
    return Served(model, vocabulary, EvaluateConfig(**{**model.manifest["search"], **changes}))


def _require_place(out: Path) -> None:
    if out.exists() and not is_export(out) and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out} holds something else than an exported model: name a new folder with --out")


def _put(aside: Path, out: Path) -> None:
    """Move the folder to its place; an earlier export there is replaced."""
    if out.exists():
        old = aside.with_suffix(".old")
        out.rename(old)
        aside.rename(out)
        shutil.rmtree(old)
    else:
        aside.rename(out)
