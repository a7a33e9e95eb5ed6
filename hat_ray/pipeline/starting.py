"""Trained models that trainings of a run start from: opened, checked, and kept in the stage's folder as they begin.

What a recipe names may lie on the machine of the command only. So the stage keeps the model that a training begins
with, and workers read that.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from hat_ray.corpus.corpus import Corpus
from hat_ray.errors import CheckpointError, HatRayError
from hat_ray.foreign.open import open_foreign
from hat_ray.foreign.opened import ForeignModel
from hat_ray.model.checkpoints.native import load_super, save_model
from hat_ray.model.checkpoints.start import started_from, why_not_started
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.pipeline.preflight.check import Check, Finding, Situation
from hat_ray.pipeline.stage import Context
from hat_ray.pipeline.trained.identity import identity_of, why_other_words
from hat_ray.recipe import Recipe
from hat_ray.space.architecture import Architecture
from hat_ray.storage.folder import Folder
from hat_ray.train.config import INHERITED, SCRATCH, RetrainConfig
from hat_ray.train.job import MODEL, SUPERNET, TrainJob

START = "start"
"""Folder of the weights that a training starts from, within that of the training."""
SUPERNET_INIT, RETRAIN_INIT = "supernet.init", "retrain.init"


def starting_super(context: Context, folder: Folder) -> Folder | None:
    """Return the folder of the SuperTransformer that `supernet.init` makes; None where the recipe names none."""
    named, place = context.recipe.supernet.init, folder.child(START)
    if named is None:
        return None
    if not place.exists(f"{SUPERNET}.json"):
        save_model(place, SUPERNET, _super_of(SUPERNET_INIT, named, context), {"init": named})
    return place


def starting_subs(context: Context, start: str, folders: Mapping[Architecture, Folder]) -> dict[Architecture, Folder]:
    """Return by architecture the folder of the model that its training starts from; none for `scratch`.

    `folders` are those of the trainings.
    """
    if start == SCRATCH:
        return {}
    places = {architecture: folder.child(START) for architecture, folder in folders.items()}
    missing = [one for one, place in places.items() if not place.exists(f"{MODEL}.json")]
    if missing:
        inherited = start == INHERITED
        giver = (
            load_super(context.folder("supernet"), SUPERNET) if inherited else _super_of(RETRAIN_INIT, start, context)
        )
        for architecture in missing:
            save_model(places[architecture], MODEL, giver.extract(architecture), {"init": start})
    return places


def started(job: TrainJob, start: Folder | None) -> TrainJob:
    """Let a training start from a model, with the settings of such trainings; None leaves it as it is."""
    if start is None:
        return job
    config = job.config.from_trained if isinstance(job.config, RetrainConfig) else job.config
    return replace(job, start=start, config=config)


def _super_of(key: str, named: str, context: Context) -> SuperTransformer:
    """Return the SuperTransformer of the recipe's space with a trained model's weights."""
    recipe, corpus = context.recipe, Corpus.load(context.folder("corpus"))
    opened = _opened(key, named)
    model, sizes = opened.model, corpus.vocabularies.sizes
    own = model.source_vocab_size, model.target_vocab_size
    if why := why_other_words(own, opened.vocabularies, corpus.vocabularies):
        raise CheckpointError(
            f"{key} must name a model with the corpus's sub-words, got {named}: {why}: name its sub-words in "
            "corpus.vocabulary"
        )
    try:
        return started_from(model, recipe.space.build(), recipe.model, sizes, recipe.seed)
    except HatRayError as error:
        raise CheckpointError(f"{key} {named}: {error}") from error


def start_of_training(recipe: Recipe, section: str) -> str | None:
    """Hash the models that a section's trainings start from; None where the recipe names none."""
    return " ".join(identity_of(named, key) for key, named in _named(recipe, section)) or None


def _named(recipe: Recipe, section: str) -> list[tuple[str, str]]:
    """Return the models that a section's trainings start from, each with its setting."""
    if section == "supernet":
        return [(SUPERNET_INIT, recipe.supernet.init)] if recipe.supernet.init else []
    return [(RETRAIN_INIT, start) for start in recipe.retrain.starts if start not in (SCRATCH, INHERITED)]


def check_start(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """Models that the recipe names can be opened, and are starts of this space's SuperTransformer."""
    summary = situation.corpus()
    sizes = None
    if summary is not None:
        sizes = summary.vocabulary_size, summary.target_vocabulary_size or summary.vocabulary_size
    sections = [section for section in ("supernet", "retrain") if section in situation.stages]
    for key, place in (one for section in sections for one in _named(recipe, section)):
        try:
            model = _opened(key, place).model
            for reason in why_not_started(model, recipe.space.build(), recipe.model, sizes):
                yield "failure", f"{key} {place}: {reason}"
        except HatRayError as error:
            yield "failure", str(error)


def _opened(key: str, named: str) -> ForeignModel:
    try:
        return open_foreign(named)
    except HatRayError as error:
        raise CheckpointError(f"{key}: {error}") from error


START_CHECK = Check("weights to start from", check_start, frozenset({"supernet", "retrain"}))
