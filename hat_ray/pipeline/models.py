"""Models as they are served: a run's or a model folder's, on a runtime in this process or exported as a folder."""

from dataclasses import dataclass
from pathlib import Path

from hat_ray.core.progress import Progress, no_progress
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.errors import RunError
from hat_ray.evaluate.about import about_model, evaluation_of
from hat_ray.export.export import Exported, export_model, exporter_of, short_lists_of
from hat_ray.export.loaded import LoadedModel
from hat_ray.model.checkpoints.about import About
from hat_ray.model.checkpoints.folder import read_model_folder
from hat_ray.model.checkpoints.native import load_sub
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.pipeline.places import Place, place_of, why_no_weights
from hat_ray.pipeline.run_folder import Run
from hat_ray.recipe import Recipe, load_run_recipe
from hat_ray.runtime.protocol import Bounds, RuntimeSettings, load_engine, require_runtime
from hat_ray.search.selection import RetrainOutput
from hat_ray.storage.folder import Folder
from hat_ray.train.job import MODEL


def retrained_model(recipe: Recipe, place: str, model_id: str | None) -> tuple[SubTransformer, Corpus]:
    """Load a retrained model of a run, the one named or the first winner, and the run's corpus."""
    run = Run(Folder.at(place), recipe)
    if (retrained := run.output("retrain", RetrainOutput)) is None:
        raise RunError(f"{place} has no retrained models yet: do `hat-ray run {place}` first")
    ids = [architecture.id for architecture in retrained.architectures]
    if model_id is not None and model_id not in ids:
        raise RunError(f"{place} has no model {model_id}; it has {', '.join(ids)}")
    model = load_sub(run.stage_folder("retrain").child(model_id or ids[0]), MODEL).eval()
    return model, Corpus.load(run.stage_folder("corpus"))


@dataclass(frozen=True)
class OpenedModel:
    """A model with all that using it needs, wherever it was found."""

    model: SubTransformer
    vocabularies: Vocabularies
    about: About
    corpus: Corpus | None = None
    """The text that it was trained on; None: a model folder keeps none."""


def open_model(place: str | Path, model_id: str | None = None, recipe: Recipe | None = None) -> OpenedModel:
    """Open the model of a model folder or of a run: the one named, or the first winner.

    Raises HatRayError for any other place, and names what is missing there.
    """
    named = str(place)
    found = Place.RUN if recipe is not None else place_of(named)
    if found is Place.MODEL:
        refuse_model_id(named, model_id)
        opened = read_model_folder(Folder.at(named))
        return OpenedModel(opened.model, opened.vocabularies, opened.about)
    if found is not Place.RUN:
        raise RunError(why_no_weights(named, found))
    recipe = recipe or load_run_recipe(Folder.at(named))
    model, corpus = retrained_model(recipe, named, model_id)
    about = about_model(corpus.summary, recipe.evaluate, f"recipe {recipe.name}: {model.architecture.id}")
    return OpenedModel(model, corpus.vocabularies, about, corpus)


def refuse_model_id(place: str, model_id: str | None) -> None:
    """Raise RunError where a model is named in a place that holds only one."""
    if model_id is not None:
        raise RunError(f"{place} holds one model: leave --model out, or name a run folder")


def served_model(
    place: str,
    recipe: Recipe | None = None,
    model_id: str | None = None,
    runtime: str = "eager",
    dtype: str = "fp32",
    threads: int = 1,
    short_list: int = 0,
    beam: int | None = None,
) -> LoadedModel:
    """Put the model of a run or a model folder on a runtime (0 threads: all). `beam` replaces a model folder's."""
    require_runtime(runtime, RuntimeSettings(dtype))
    opened = open_model(place, model_id, recipe)
    if short_list and opened.corpus is None:
        raise RunError(f"short-lists are made from training text, which {place} lacks: name its run, or leave them out")
    lists = None if opened.corpus is None else short_lists_of(opened.corpus, short_list)
    settings = RuntimeSettings(dtype, threads=threads, short_lists=lists)
    changes = {} if beam is None else {"beam": beam}
    config = evaluation_of(opened.about, place, **changes) if recipe is None else recipe.evaluate
    return LoadedModel(load_engine(opened.model, runtime, settings), opened.vocabularies, config)


def export_run(
    recipe: Recipe,
    place: str,
    model_id: str | None,
    out: str,
    dtype: str = "fp32",
    *,
    sentences: int | None = None,
    min_agreement: float | None = None,
    max_bleu_loss: float | None = None,
    progress: Progress = no_progress,
    runtime: str = "onnx",
    short_list: int = 0,
) -> Exported:
    """Export a retrained model of a run; bounds that are not given are those of its runtime and dtype."""
    usual = exporter_of(runtime).bounds
    require_runtime(runtime, RuntimeSettings(dtype))
    bounds = Bounds(
        usual[dtype].min_token_agreement if min_agreement is None else min_agreement,
        usual[dtype].max_bleu_loss if max_bleu_loss is None else max_bleu_loss,
        usual[dtype].max_logit_error,
    )
    model, corpus = retrained_model(recipe, place, model_id)
    config = recipe.evaluate if sentences is None else recipe.evaluate.model_copy(update={"sentences": sentences})
    return export_model(
        model, corpus, Path(out), dtype, config, bounds, progress, runtime=runtime, short_list=short_list
    )
