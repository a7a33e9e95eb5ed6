"""Models as they are served: a run's or a model folder's, on a runtime in this process or exported as a folder."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hat_ray.core.progress import Progress, no_progress
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.errors import RunError
from hat_ray.evaluate.about import about_model, evaluation_of
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.evaluate import scored_text
from hat_ray.export.export import Export, Exported, exporter_of, short_lists_of
from hat_ray.export.loaded import LoadedModel
from hat_ray.export.parity import CheckText, drawn_text
from hat_ray.model.checkpoints.about import About
from hat_ray.model.checkpoints.folder import read_model_folder
from hat_ray.model.checkpoints.native import load_sub
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.pipeline.places import Place, place_of, why_no_weights
from hat_ray.pipeline.run_folder import Run
from hat_ray.recipe import Recipe, load_run_recipe
from hat_ray.runtime.choice import choose, require
from hat_ray.runtime.protocol import Bounds, RuntimeSettings, load_engine, require_runtime
from hat_ray.runtime.shortlist import ShortLists
from hat_ray.search.selection import RetrainOutput
from hat_ray.space.architecture import Architecture
from hat_ray.storage.folder import Folder
from hat_ray.train.job import MODEL

_DRAWN_SENTENCES = 64
"""Sentences of a check that has no text."""


def run_and_model(place: str, model_id: str | None = None, recipe: Recipe | None = None) -> tuple[Run, Architecture]:
    """Return a run and one of its retrained models: the one named, or the first winner; RunError where it has none."""
    folder = Folder.at(place)
    run = Run(folder, recipe or load_run_recipe(folder))
    if (retrained := run.output("retrain", RetrainOutput)) is None:
        raise RunError(f"{place} has no retrained models yet: do `hat-ray run {shlex.quote(place)}` first")
    by_id = {architecture.id: architecture for architecture in retrained.architectures}
    if model_id is not None and model_id not in by_id:
        raise RunError(f"{place} has no model {model_id}; it has {', '.join(by_id)}")
    return run, by_id[model_id or next(iter(by_id))]


def retrained_model(recipe: Recipe, place: str, model_id: str | None) -> tuple[SubTransformer, Corpus]:
    """Load a retrained model of a run, the one named or the first winner, and the run's corpus."""
    run, architecture = run_and_model(place, model_id, recipe)
    model = load_sub(run.stage_folder("retrain").child(architecture.id), MODEL).eval()
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
    runtime: str | None = None,
    dtype: str = "fp32",
    threads: int = 1,
    short_list: int = 0,
    beam: int | None = None,
) -> LoadedModel:
    """Put the model of a run or a model folder on a runtime (0 threads: all). `beam` replaces its own.

    Without a runtime the fastest that executes the model takes it.
    """
    require(runtime, RuntimeSettings(dtype))
    opened = open_model(place, model_id, recipe)
    lists = _short_lists(opened, place, short_list)
    settings = RuntimeSettings(dtype, threads=threads, short_lists=lists)
    config = _evaluation(opened, place, recipe, {} if beam is None else {"beam": beam})
    name = runtime or choose(settings, opened.model).runtime
    return LoadedModel(
        load_engine(opened.model, name, settings),
        opened.vocabularies,
        config,
        name,
        dtype,
        source_language=opened.about.source_language,
        target_language=opened.about.target_language,
    )


def export_place(
    place: str,
    out: str,
    dtype: str = "fp32",
    recipe: Recipe | None = None,
    model_id: str | None = None,
    *,
    text: CheckText | None = None,
    beam: int | None = None,
    sentences: int | None = None,
    min_agreement: float | None = None,
    max_bleu_loss: float | None = None,
    progress: Progress = no_progress,
    runtime: str = "onnx",
    short_list: int = 0,
) -> Exported:
    """Export the model of a run or a model folder; bounds that are not given are those of its runtime and dtype.

    `text` is what the check translates. None: the run's test set; of a model folder, which keeps none, sentences drawn
    from its vocabulary, and then nothing is judged by BLEU.
    """
    usual = exporter_of(runtime).bounds
    require_runtime(runtime, RuntimeSettings(dtype))
    bounds = Bounds(
        usual[dtype].min_token_agreement if min_agreement is None else min_agreement,
        usual[dtype].max_bleu_loss if max_bleu_loss is None else max_bleu_loss,
        usual[dtype].max_logit_error,
    )
    opened = open_model(place, model_id, recipe)
    changes = {"beam": beam, "sentences": sentences}
    config = _evaluation(opened, place, recipe, {name: value for name, value in changes.items() if value is not None})
    if text is None:
        text = _check_text(opened, config)
    elif sentences is not None:
        text = CheckText(text.sources[:sentences], text.references and text.references[:sentences])
    if text.references is None and bounds.min_token_agreement is None:
        raise RunError(
            f"{dtype} is judged by BLEU, and {place} keeps no test set: name one with --source and --reference, or "
            "bound the token agreement with --min-agreement"
        )
    how = Export(runtime, dtype, _short_lists(opened, place, short_list), config, bounds)
    return how.write(opened.model, opened.vocabularies, opened.about, out, text, progress)


def _check_text(opened: OpenedModel, config: EvaluateConfig) -> CheckText:
    if opened.corpus is not None:
        return CheckText(*scored_text(opened.corpus, config))
    return drawn_text(opened.vocabularies.source, config.sentences or _DRAWN_SENTENCES)


def _short_lists(opened: OpenedModel, place: str, partners: int) -> ShortLists | None:
    if not partners:
        return None
    if opened.corpus is None:
        raise RunError(f"short-lists are made from training text, which {place} lacks: name its run, or leave them out")
    return short_lists_of(opened.corpus, partners)


def _evaluation(opened: OpenedModel, place: str, recipe: Recipe | None, changes: dict[str, Any]) -> EvaluateConfig:
    if recipe is None:
        return evaluation_of(opened.about, place, **changes)
    return recipe.evaluate.model_copy(update=changes)
