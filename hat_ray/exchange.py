"""Public functions that bring in models of other programs, write models for them, and translate text for training.

The names in `hat_ray.__all__` are public. The command line has the same functions: `hat-ray import`, `space around`,
`convert`, `distil`.
"""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

import yaml

from hat_ray.api import Model, Run, open_model
from hat_ray.core.progress import Progress, ProgressFactory, no_progress
from hat_ray.corpus.corpus import Corpus
from hat_ray.errors import HatRayError, RunError
from hat_ray.evaluate.distil import Distilled, Sentences, sentences_of, training_sentences
from hat_ray.evaluate.distil import distil as write_translations
from hat_ray.foreign.marian.config import config_text
from hat_ray.foreign.marian.folder import write_marian_folder
from hat_ray.model.config import ModelConfig
from hat_ray.pipeline.imports import hat_recipe, super_run
from hat_ray.pipeline.imports import model as one_model
from hat_ray.pipeline.imports.around import recipe_around
from hat_ray.pipeline.imports.hat_recipe import ImportedRecipe
from hat_ray.pipeline.models import open_model as open_weights
from hat_ray.pipeline.models import refuse_model_id
from hat_ray.pipeline.places import Place, place_of
from hat_ray.pipeline.run_folder import Run as RunFolder
from hat_ray.pipeline.stage import no_progress_bars
from hat_ray.pipeline.trained.identity import identity_of
from hat_ray.recipe import Recipe, load_run_recipe, parse_recipe
from hat_ray.search.selection import RetrainOutput
from hat_ray.search.winners import SearchOutput
from hat_ray.serve.model_source import ModelSource
from hat_ray.space.architecture import Architecture
from hat_ray.space.hat_yaml import load_architecture
from hat_ray.storage.folder import Folder
from hat_ray.storage.plain_file import read_lines


def import_super(
    file: str | Path,
    data_bin: str | Path,
    folder: str | Path | None = None,
    *,
    space: str | Path | None = None,
    languages: str | None = None,
    name: str = "",
    settings: Mapping[str, object] | None = None,
    progress: ProgressFactory = no_progress_bars,
) -> Run:
    """Make a run folder of a SuperTransformer that HAT trained and its `data-bin`; `hat_ray.run` resumes from there.

    `folder` is a path or URI (default: `runs/` and the recipe's name), `space` HAT's YAML with the choices (default:
    the checkpoint's own), `languages` source and target such as "en-de". `settings` change the recipe, as in
    `hat_ray.run`. Raises HatRayError, and leaves no folder, where the parts do not fit together.

    >>> import hat_ray
    >>> hat_ray.import_super("runs/toy/recipe.yaml", "data-bin")
    Traceback (most recent call last):
    hat_ray.errors.CheckpointError: runs/toy/recipe.yaml is not a safe checkpoint and was not loaded (...)
    """
    what = super_run.SuperImport(str(file), str(data_bin), _text(space), languages, name, _overrides(settings))
    made = super_run.import_super(what, _text(folder), progress)
    return Run(made.run.recipe, made.run.folder)


def import_model(
    place: str | Path,
    out: str | Path,
    *,
    data_bin: str | Path | None = None,
    languages: str | None = None,
    architecture: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
) -> Model:
    """Write one trained model of another program as the model folder `out`, and open it.

    `place` is a path or URI: HAT's or fairseq's `.pt`, Marian's `.npz`, a folder of Hugging Face's MarianMTModel, a
    model of hat-ray. `data_bin` is the folder of a `.pt`'s dictionaries, `architecture` the file of the architecture to
    cut out of a SuperTransformer. `settings` are those of `corpus.vocabulary` and `evaluate`. Raises HatRayError, and
    writes nothing, where the parts do not fit together.

    >>> import hat_ray
    >>> hat_ray.import_model("mine.yml", "models/mine")
    Traceback (most recent call last):
    hat_ray.errors.CheckpointError: mine.yml is no model: name a checkpoint of HAT or fairseq (.pt), ...
    """
    what = one_model.ModelImport(str(place), _text(data_bin), languages, _text(architecture), _overrides(settings))
    one_model.import_model(what, str(out))
    return open_model(out)


def import_recipe(*files: str | Path, name: str = "", gpus: int | None = None) -> ImportedRecipe:
    """Turn HAT's YAML files of one experiment into a recipe: `recipe`, `mapped`, `unmapped`, `to_yaml()`.

    `gpus` is the number of GPUs to train on, which fairseq takes from its machine. Raises HatRayError where the files
    make no recipe.

    >>> import hat_ray
    >>> hat_ray.import_recipe("mine.yml")
    Traceback (most recent call last):
    hat_ray.errors.RecipeError: HAT's files must hold a search space, ...
    """
    return hat_recipe.import_recipe([str(file) for file in files], name, gpus)


def space_around(model: str | Path, name: str = "mine") -> Recipe:
    """Return a recipe whose space lies around a trained model, from whose weights the SuperTransformer starts.

    `model` is a place as `import_model` takes it, or a model folder. The recipe needs a corpus with the model's
    sub-words.

    >>> import hat_ray
    >>> recipe = hat_ray.space_around("models/toy")
    >>> recipe.supernet.init, recipe.space.build().largest().encoder.embed_dim
    ('models/toy', 32)
    """
    sections, _ = recipe_around(str(model), name)
    return parse_recipe(yaml.safe_dump(sections, allow_unicode=True), f"the space around {model}", [])


def convert(place: str | Path, out: str | Path, model: str | None = None) -> tuple[str, ...]:
    """Write a model as Marian's decoder reads it: `model.npz`, sub-words, `decoder.yml`; return what is worth knowing.

    `place` is a run folder (`model` is the id of one of its models, by default the first winner) or a model folder.
    Raises HatRayError, and writes nothing, where Marian's format cannot hold the model.

    >>> import hat_ray
    >>> hat_ray.convert("models/toy", "marian")
    Traceback (most recent call last):
    hat_ray.errors.CheckpointError: Marian's format cannot hold models/toy: ...
    """
    return write_for_marian(str(place), str(out), model, None)


def marian_config(place: str | Path, model: str | None = None) -> str:
    """Return the options with which Marian trains a model's shape, as the text of a YAML file.

    `place` is a run folder after its search (`model` is the id of a winner or of a trained model, by default the first
    winner), a model folder, or the file of an architecture. Raises HatRayError where Marian has no such network.

    >>> import hat_ray
    >>> hat_ray.marian_config("models/toy")
    Traceback (most recent call last):
    hat_ray.errors.CheckpointError: Marian cannot train ...
    """
    return config_for_marian(str(place), model, None)


def distil(
    place: str | Path,
    out: str | Path,
    *,
    source: str | Path | None = None,
    model: str | None = None,
    beam: int | None = None,
    runtime: str | None = None,
    dtype: str | None = None,
    threads: int = 1,
    progress: Progress = no_progress,
) -> Distilled:
    """Translate sentences into `out`, as the training text of a smaller model; resumes after a kill.

    `place` is a run folder, a model folder or an export, as `open_model` takes it. `source` is a text, a sentence a
    line; a run has its training sources by default. Returns the paths of both sides and their number of lines.

    >>> import hat_ray
    >>> hat_ray.distil("exported", "distilled")
    Traceback (most recent call last):
    hat_ray.errors.RunError: exported keeps no training text: name the sentences to translate with source
    """
    lines = None if source is None else read_lines(source, "source: text", HatRayError)
    return distil_text(
        ModelSource(str(place), None, model, runtime, dtype, None, beam), str(out), lines, threads, progress
    )


def write_for_marian(place: str, out: str, model: str | None, recipe: Recipe | None) -> tuple[str, ...]:
    """Write the model of a model folder, or of a run by its `recipe`, as Marian's decoder reads it."""
    opened = open_weights(place, model, recipe)
    return write_marian_folder(Folder.at(out), opened.model, opened.vocabularies, opened.about.search, place)


def config_for_marian(place: str, model: str | None, recipe: Recipe | None) -> str:
    """Return Marian's options for the shape of a model folder, an architecture, or a run by its `recipe`."""
    found = Place.RUN if recipe is not None else place_of(place)
    if found is Place.RUN:
        recipe = recipe or load_run_recipe(Folder.at(place))
        shape, about = _shape_of_run(RunFolder(Folder.at(place), recipe), place, model)
        return config_text(shape, recipe.model, place, about)
    refuse_model_id(place, model)
    if found is Place.ARCHITECTURE:
        return config_text(load_architecture(place), ModelConfig(), place)
    opened = open_weights(place)
    return config_text(opened.model.architecture, opened.model.config, place)


def _shape_of_run(run: RunFolder, place: str, model: str | None) -> tuple[Architecture, list[str]]:
    """Return a winner's architecture or a trained model's, the one named or the first winner's, and its limits."""
    searched, retrained = run.output("search", SearchOutput), run.output("retrain", RetrainOutput)
    winners = [one.architecture for one in searched.winners] if searched else []
    shapes = {one.id: one for one in (*winners, *(retrained.architectures if retrained else ()))}
    if not shapes:
        raise RunError(f"{place} has no winners yet: do `hat-ray run {shlex.quote(place)}` first")
    if model is not None and model not in shapes:
        raise RunError(f"{place} has no model {model}; it has {', '.join(shapes)}")
    chosen: Architecture = shapes[model or next(iter(shapes))]
    limits = [one.limit for one in searched.winners if one.architecture == chosen] if searched else []
    return chosen, [f"chosen for {limit}" for limit in limits]


def distil_text(
    model: ModelSource,
    out: str,
    lines: list[str] | None,
    threads: int = 1,
    progress: Progress = no_progress,
    option: str = "source",
) -> Distilled:
    """Translate lines, or a run's training sources, into `out`; `option` is the name of the text in messages."""
    source = model.resolved()
    loaded = source.open(threads)  # first: a run without models has no finished corpus either
    text = _training_text(source, option) if lines is None else sentences_of(lines)
    weights = identity_of(source.place, "distil", source.model_id)
    search = json.dumps(loaded.config.result_settings(), sort_keys=True)
    identity = f"{weights} {loaded.runtime} {loaded.dtype} {source.short_list} {search}"
    return write_translations(loaded.translate, text, Folder.at(out), identity, progress)


def _training_text(source: ModelSource, option: str) -> Sentences:
    if source.recipe is None:
        raise RunError(f"{source.place} keeps no training text: name the sentences to translate with {option}")
    run = RunFolder(Folder.at(source.place), source.recipe)
    return training_sentences(Corpus.load(run.stage_folder("corpus")))


def _overrides(settings: Mapping[str, object] | None) -> tuple[str, ...]:
    return tuple(f"{key}={json.dumps(value)}" for key, value in (settings or {}).items())


def _text(place: str | Path | None) -> str | None:
    return None if place is None else str(place)
