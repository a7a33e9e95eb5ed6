"""Work on one model or architecture, wherever it is: its shape, its time on this machine, its training from scratch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hat_ray.core.determinism import stream_seed
from hat_ray.core.progress import Progress, no_progress
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.vocabulary.make import expected_vocabularies
from hat_ray.errors import LatencyError, RunError
from hat_ray.evaluate.about import about_model
from hat_ray.export.export import open_export
from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.detection import device_of
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.table.row import LatencyRow
from hat_ray.latency.timing.job import TimingJob
from hat_ray.latency.timing.session import TimingSession
from hat_ray.latency.timing.workload import Workload
from hat_ray.model.checkpoints.folder import complete_model_folder, read_architecture
from hat_ray.model.config import ModelConfig
from hat_ray.model.protocol import Engine
from hat_ray.pipeline.models import open_model, refuse_model_id, run_and_model
from hat_ray.pipeline.places import Place, place_of, why_no_weights
from hat_ray.pipeline.trained.teachers import keep_teacher
from hat_ray.recipe import Recipe
from hat_ray.runtime.protocol import RuntimeSettings, load_engine
from hat_ray.space.architecture import Architecture, choices_of
from hat_ray.space.dimensions import DIMENSIONS
from hat_ray.space.hat_yaml import load_architecture
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder
from hat_ray.storage.temporary import temporary_folder
from hat_ray.train.job import train_sub
from hat_ray.train.state import TrainResult


def architecture_of(place: str, model_id: str | None = None, qkv_dim: int = 512) -> Architecture:
    """Return the architecture of a file, a model folder, an export, or a run: the one named, or the first winner's."""
    found = place_of(place)
    if found is Place.RUN:
        return run_and_model(place, model_id)[1]
    refuse_model_id(place, model_id)
    if found is Place.MODEL:
        return read_architecture(Folder.at(place))
    if found is Place.EXPORT:
        return open_export(place).architecture
    if found is Place.FOREIGN or Path(place).is_dir():
        raise RunError(why_no_weights(place, found))
    return load_architecture(place, qkv_dim)


@dataclass(frozen=True)
class TimedModel:
    """One model's time on this machine, at rest and as it was measured."""

    architecture: str
    device: str
    title: str
    workload: Workload
    latency_ms: float
    corrected_ms: float
    """The median as the quiet machine would show it."""
    encoder_ms: float | None
    """None where the runtime does not split its time; likewise `decoder_ms`."""
    decoder_ms: float | None
    p10_ms: float | None
    p90_ms: float | None
    relative_error: float | None
    repetitions: int | None


def time_place(place: str, recipe: Recipe) -> TimedModel:
    """Time one model on this machine, by the recipe's `latency`; keep no row.

    A model folder and an export are timed with their own weights, an export on its own runtime; an architecture with
    random weights, by the recipe's `model` and `corpus.vocab_size`.
    """
    config = recipe.latency
    if config.table or config.devices:
        raise LatencyError(
            "one model is timed on this machine, and kept in no table: leave latency.table and latency.devices out"
        )
    found = place_of(place)
    if found is Place.EXPORT:
        return _time_export(place, config, recipe.model)
    if found is Place.MODEL:
        opened = open_model(place)
        model = opened.model

        def on(device: DeviceInfo) -> Engine:
            settings = RuntimeSettings(device.dtype, device.torch_device, device.threads)
            return load_engine(model, device.runtime, settings)

        return _timed(model.architecture, model.config, opened.vocabularies.sizes, config, on)
    if found is not Place.ARCHITECTURE:
        raise RunError(why_no_weights(place, found))
    shape = load_architecture(place, recipe.space.build().qkv_dim)
    return _timed(shape, recipe.model, expected_vocabularies(recipe.corpus), config, None)


def _time_export(place: str, config: LatencyConfig, model: ModelConfig) -> TimedModel:
    if config.model_fields_set & {"runtime", "dtype"}:
        raise LatencyError(f"{place} is an export, which brings its own runtime: leave latency.runtime and dtype out")
    export = open_export(place, config.threads)
    own = {"runtime": export.runtime, "dtype": export.dtype, "accelerator": "cpu"}
    config = LatencyConfig.model_validate({**config.model_dump(), **own})
    entries = export.vocabularies.sizes
    return _timed(export.architecture, model, entries, config, lambda device: export.engine)


def _timed(
    architecture: Architecture,
    model: ModelConfig,
    entries: tuple[int, int],
    config: LatencyConfig,
    engine: Callable[[DeviceInfo], Engine] | None,
) -> TimedModel:
    with temporary_folder("timing") as nowhere:
        table, (source, target) = Folder.at(nowhere).child("table"), entries
        job = TimingJob(_space_of(architecture), model, target, config, table, source_vocab_size=source)
        device = device_of(config, None, job.largest)
        session = TimingSession(job, device)
        built = None if engine is None else engine(device)
        row = session.time(architecture) if built is None else session.time_model(architecture, lambda: built)
        return _result(row, architecture)


def _space_of(architecture: Architecture) -> SearchSpace:
    """Return the smallest space that names all choices of an architecture: its canary is the smallest there."""
    choices = {one.name: tuple(dict.fromkeys(choices_of(architecture, one))) for one in DIMENSIONS}
    named = {one.name: choices[one.name] for one in DIMENSIONS if set(choices[one.name]) != {one.absent}}
    return SearchSpace("one", architecture.qkv_dim, False, **named)


def _result(row: LatencyRow, architecture: Architecture) -> TimedModel:
    return TimedModel(
        architecture=architecture.id,
        device=row.device.slug,
        title=row.device.title,
        workload=row.workload,
        latency_ms=row.latency_ms,
        corrected_ms=row.corrected_ms,
        encoder_ms=row.encoder.typical_ms if row.encoder else None,
        decoder_ms=row.decoder.typical_ms if row.decoder else None,
        p10_ms=row.total.p10_ms if row.total else None,
        p90_ms=row.total.p90_ms if row.total else None,
        relative_error=row.relative_error,
        repetitions=row.repetitions,
    )


def train_one(recipe: Recipe, place: str, file: Path, out: str, progress: Progress = no_progress) -> TrainResult:
    """Train one architecture of a recipe's space from scratch into the model folder `out`, in this process."""
    space, architecture = recipe.space.build(), load_architecture(file, recipe.space.build().qkv_dim)
    space.require(architecture)
    corpus = Corpus.load(Folder.at(place).child("corpus"))
    seed, folder = stream_seed(recipe.seed, "retrain"), Folder.at(out)
    supernet = Folder.at(place).child("supernet")
    teacher = keep_teacher(recipe.retrain.teacher, "retrain.teacher", corpus, folder.child("teacher"), supernet)
    settings = (recipe.model, recipe.retrain, folder, seed, progress)
    result = train_sub(architecture, space, corpus, *settings, teacher=teacher)
    about = about_model(corpus.summary, recipe.evaluate, f"recipe {recipe.name}: {architecture.id}")
    complete_model_folder(folder, corpus.vocabularies, about)
    return result
