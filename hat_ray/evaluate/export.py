"""Export a model as a folder that needs nothing of hat-ray, and open such a folder.

Nothing is left half-written: the folder is made beside its place, checked, and then put there whole.
"""

import logging
import shutil
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hat_ray.corpus.dataset import Corpus
from hat_ray.corpus.vocabulary import Vocabulary
from hat_ray.errors import ExportError
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.parity import Bounds, Parity, compare
from hat_ray.evaluate.score import scored_text
from hat_ray.model.protocol import Translator
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.progress import Progress, silent
from hat_ray.runtime import loader
from hat_ray.runtime.export_folder import write_files, write_manifest
from hat_ray.runtime.graph import GraphDtype
from hat_ray.runtime.onnx_model import OnnxModel

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

    model: Translator
    vocabulary: Vocabulary
    config: EvaluateConfig


def export_model(
    model: SubTransformer,
    corpus: Corpus,
    out: Path,
    dtype: GraphDtype,
    config: EvaluateConfig,
    bounds: Bounds,
    progress: Progress = silent,
) -> Exported:
    """Write `out`, after translating the test set (its first `config.sentences`) with the exported model too."""
    _require_place(out)
    sources, references = scored_text(corpus, config)
    aside = out.absolute().parent / f".{out.name}.{uuid.uuid4().hex[:8]}.tmp"
    aside.mkdir(parents=True)
    try:
        write_files(aside, model, corpus.vocabulary, dtype)
        search = {name: getattr(config, name) for name in SEARCH}
        write_manifest(aside, model, dtype, search, {})
        exported = loader.Translator(aside)
        parity = compare(model, exported, corpus.vocabulary, sources, references, config, progress)
        parity.require(bounds)
        write_manifest(aside, model, dtype, search, {"parity": asdict(parity), "bounds": asdict(bounds)})
        size = sum(path.stat().st_size for path in aside.iterdir())
        _put(aside, out.absolute())
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    log.info("exported %s: %d of %d sentences identical", model.architecture.id, parity.identical, parity.sentences)
    return Exported(str(out), model.architecture.id, dtype, size, parity)


def is_export(place: str | Path) -> bool:
    """Tell whether a local folder looks like an exported model; it may still be damaged."""
    return (Path(place) / loader.MANIFEST).is_file()


def open_export(place: str | Path, threads: int = 1, **changes: Any) -> Served:
    """Load an exported model with its manifest's search settings, some of them changed; raises ExportError."""
    try:
        manifest = loader.read_manifest(place)
        graphs = loader.open_graphs(place, manifest, threads)
        vocabulary = Vocabulary.from_bytes((Path(place) / manifest["vocabulary"]).read_bytes())
        config = EvaluateConfig(**{**manifest["search"], **changes})
        return Served(OnnxModel(graphs, manifest["max_positions"]), vocabulary, config)
    except (ValueError, KeyError, OSError) as error:
        raise ExportError(str(error)) from error


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
