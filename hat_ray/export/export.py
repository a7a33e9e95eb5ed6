"""Export a model as a folder that needs nothing of hat-ray, and open such a folder.

Nothing is left half-written: the folder is made beside its place, checked, and then put there whole.
"""

import logging
import shutil
import tempfile
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hat_ray.core.progress import Progress, no_progress
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.errors import ExportError, SpaceError
from hat_ray.evaluate.about import evaluation_of
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.export.folder import about_of_manifest, facts_of, write_files, write_manifest
from hat_ray.export.loaded import LoadedExport
from hat_ray.export.parity import CheckText, Parity, compare
from hat_ray.export.place import is_export
from hat_ray.model.checkpoints.about import About
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.protocol import (
    RUNTIMES,
    Bounds,
    Exporter,
    OpenedExport,
    RuntimeSettings,
    exporting,
    require_runtime,
)
from hat_ray.runtime.shortlist import ShortLists, build_short_lists
from hat_ray.runtime.standalone.translate import MANIFEST, kind_of, open_vocabularies
from hat_ray.space.architecture import Architecture
from hat_ray.storage.copies import carry, copied_here
from hat_ray.storage.folder import Folder
from hat_ray.storage.places import is_uri

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """An export that was written and checked."""

    folder: str
    model_id: str
    dtype: str
    file_bytes: int
    parity: Parity


def exporter_of(runtime: str) -> Exporter:
    """Return the exporter of a runtime; raise ExportError where it has none."""
    exporter = RUNTIMES.load(runtime).exporter if RUNTIMES.facts(runtime).exports else None
    if exporter is None:
        raise ExportError(f"the runtime of an export must be {' or '.join(exporting())}, got {runtime!r}")
    return exporter


@dataclass(frozen=True)
class Export:
    """How a model is exported."""

    runtime: str
    dtype: str
    short_lists: ShortLists | None
    config: EvaluateConfig
    bounds: Bounds

    def write(
        self,
        model: SubTransformer,
        vocabularies: Vocabularies,
        about: About,
        out: str | Path,
        text: CheckText,
        progress: Progress = no_progress,
    ) -> Exported:
        """Write `out`, a path or URI, after translating the text of the check with the exported model."""
        target = Folder.at(out)
        if target.is_local:
            return self._write_here(
                model, vocabularies, about, Path(target.uri if is_uri(str(out)) else out), text, progress
            )
        _require_free(target)
        with tempfile.TemporaryDirectory(prefix="hat-ray-export-") as made:
            here = Path(made) / "export"
            written = self._write_here(model, vocabularies, about, here, text, progress)
            for name in (MANIFEST, *target.list()):
                target.delete(name)
            carry(str(here), target, MANIFEST)
        return replace(written, folder=str(target))

    def _write_here(
        self,
        model: SubTransformer,
        vocabularies: Vocabularies,
        about: About,
        out: Path,
        text: CheckText,
        progress: Progress,
    ) -> Exported:
        exporter = exporter_of(self.runtime)
        if self.short_lists is not None and not RUNTIMES.facts(self.runtime).short_lists:
            raise ExportError(f"short-lists are for runtime onnx, got {self.runtime}: leave --short-list out")
        settings = RuntimeSettings(self.dtype, short_lists=self.short_lists)
        on = require_runtime(self.runtime, RuntimeSettings(self.dtype), model.architecture, model.config)
        _require_place(out)
        search = self.config.search_settings()
        aside = out.absolute().parent / f".{out.name}.{uuid.uuid4().hex[:8]}.tmp"
        aside.mkdir(parents=True)
        try:
            facts = write_files(aside, model, vocabularies, self.runtime, exporter, settings)
            facts |= facts_of(about)
            write_manifest(aside, model, facts, search, {})
            parity = compare(model, exporter.open(aside), on, vocabularies, text, self.config, progress)
            parity.require(self.bounds)
            proof = {"parity": asdict(parity), "bounds": asdict(self.bounds)}
            write_manifest(aside, model, facts, search, proof)
            size = sum(path.stat().st_size for path in aside.iterdir())
            _put(aside, out.absolute())
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        log.info("exported %s: %d of %d identical", model.architecture.id, parity.identical, parity.sentences)
        return Exported(str(out), model.architecture.id, self.dtype, size, parity)


def short_lists_of(corpus: Corpus, partners: int) -> ShortLists | None:
    """Return short-lists from a corpus' training pairs, with `partners` words for each source word; None for 0."""
    if not partners:
        return None
    pairs = (corpus.train.sentence(row) for row in range(len(corpus.train)))
    return build_short_lists(pairs, corpus.vocabularies.sizes, partners)


def open_export(place: str | Path, threads: int = 1, **changes: Any) -> LoadedExport:
    """Load an exported model with its manifest's search settings, some of them changed; raise ExportError.

    One that a URI names is copied to this machine while it is loaded.
    """
    with copied_here(str(place)) as path:
        opened = _opened(path, threads)
        manifest = opened.translator.manifest
        vocabularies = Vocabularies(*open_vocabularies(path, manifest))
        about = about_of_manifest(manifest, path)
        config = evaluation_of(about, path, **changes)
        try:
            architecture = Architecture.from_dict(manifest["architecture"])
        except (LookupError, SpaceError) as error:
            raise ExportError(f"{path} names no architecture in its manifest: export the model again") from error
        runtime, dtype = str(manifest.get("runtime")), str(manifest.get("dtype"))
        return LoadedExport(
            opened.engine,
            vocabularies,
            config,
            runtime,
            dtype,
            architecture,
            source_language=about.source_language,
            target_language=about.target_language,
        )


def _opened(place: Path, threads: int) -> OpenedExport:
    try:
        return _exporter_by_kind(kind_of(place)).open(place, threads)
    except ValueError as error:
        raise ExportError(str(error)) from error


def _exporter_by_kind(kind: object) -> Exporter:
    """Return the exporter that writes a kind of export; for an unknown one onnx's, which refuses it."""
    found = (exporter_of(name) for name in exporting())
    return next((exporter for exporter in found if exporter.kind == kind), exporter_of("onnx"))


def _require_place(out: Path) -> None:
    if out.exists() and not is_export(out) and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out} holds something else than an exported model: name a new folder with --out")


def _require_free(target: Folder) -> None:
    if target.list() and not target.exists(MANIFEST):
        raise ExportError(f"{target} holds something else than an exported model: name a new folder with --out")


def _put(aside: Path, out: Path) -> None:
    """Move the folder to its place; an earlier export there is replaced."""
    if out.exists():
        old = aside.with_suffix(".old")
        out.rename(old)
        aside.rename(out)
        shutil.rmtree(old)
    else:
        aside.rename(out)
