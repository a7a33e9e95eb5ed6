"""A run's models as they are served: on a runtime in this process, or exported as a folder."""

from pathlib import Path

from hat_ray.core.progress import Progress, no_progress
from hat_ray.corpus.corpus import Corpus
from hat_ray.errors import RunError
from hat_ray.export.export import Exported, export_model, exporter_of, short_lists_of
from hat_ray.export.loaded import LoadedModel
from hat_ray.model.checkpoints.native import load_sub
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.pipeline.run_folder import Run
from hat_ray.recipe import Recipe
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


def served_model(
    recipe: Recipe,
    place: str,
    model_id: str | None,
    runtime: str = "eager",
    dtype: str = "fp32",
    threads: int = 1,
    short_list: int = 0,
) -> LoadedModel:
    """Load a retrained model of a run, the one named or the first winner, and put it on a runtime (0 threads: all)."""
    require_runtime(runtime, RuntimeSettings(dtype))
    model, corpus = retrained_model(recipe, place, model_id)
    settings = RuntimeSettings(dtype, threads=threads, short_lists=short_lists_of(corpus, short_list))
    return LoadedModel(load_engine(model, runtime, settings), corpus.vocabularies, recipe.evaluate)


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
