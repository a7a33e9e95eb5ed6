"""Trained models that trainings of a run start from: opened, checked, and kept in the stage's folder as they begin.

What a recipe names may lie on the machine of the command only. So the stage keeps the model that a training begins
with, and workers read that.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from hat_ray.corpus.corpus import Corpus
from hat_ray.errors import CheckpointError, HatRayError
from hat_ray.foreign.open import open_foreign
from hat_ray.foreign.opened import ForeignModel
from hat_ray.model.checkpoints.native import load_super, save_model
from hat_ray.model.checkpoints.start import started_from, why_not_started
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.pipeline.preflight.check import Check, Finding, Situation
from hat_ray.pipeline.stage import Context
from hat_ray.recipe import Recipe
from hat_ray.space.architecture import Architecture
from hat_ray.storage.copies import digests
from hat_ray.storage.folder import Folder
from hat_ray.train.config import INHERITED, SCRATCH
from hat_ray.train.job import MODEL, SUPERNET

START = "start"
"""Folder of the weights that a training starts from, within that of the training."""
RETRAIN_INIT = "retrain.init"


def starting_super(context: Context, folder: Folder) -> Folder | None:
    """Return the folder of the SuperTransformer that `supernet.init` makes; None where the recipe names none."""
    named, place = context.recipe.supernet.init, folder.child(START)
    if named is None:
        return None
    if not place.exists(f"{SUPERNET}.json"):
        save_model(place, SUPERNET, _super_of("supernet.init", named, context), {"init": named})
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


def _super_of(key: str, named: str, context: Context) -> SuperTransformer:
    """Return the SuperTransformer of the recipe's space with a trained model's weights."""
    recipe, corpus = context.recipe, Corpus.load(context.folder("corpus"))
    opened = _opened(key, named)
    _require_its_pieces(key, named, opened, corpus)
    try:
        return started_from(opened.model, recipe.space.build(), recipe.model, corpus.vocabularies.sizes, recipe.seed)
    except HatRayError as error:
        raise CheckpointError(f"{key} {named}: {error}") from error


def digest_of_super(context: Context) -> str | None:
    """Hash the files of the model that `supernet.init` names; None where the recipe names none."""
    named = context.recipe.supernet.init
    return None if named is None else _digest("supernet.init", [named])


def digest_of_subs(context: Context) -> str | None:
    """Hash the files of the models that `retrain.init` names; None where the recipe names none."""
    named = _files_of(context.recipe)
    return _digest(RETRAIN_INIT, named) if named else None


def _files_of(recipe: Recipe) -> list[str]:
    return [start for start in recipe.retrain.starts if start not in (SCRATCH, INHERITED)]


def _digest(key: str, named: Sequence[str]) -> str:
    try:
        parts = [f"{name} {digest}" for place in named for name, digest in digests(place)]
    except HatRayError as error:
        raise CheckpointError(f"{key}: {error}") from error
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def check_start(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """Models that the recipe names can be opened, and are starts of this space's SuperTransformer."""
    summary = situation.corpus()
    sizes = None
    if summary is not None:
        sizes = summary.vocabulary_size, summary.target_vocabulary_size or summary.vocabulary_size
    named = [("supernet.init", recipe.supernet.init)] if recipe.supernet.init and "supernet" in situation.stages else []
    named += [(RETRAIN_INIT, file) for file in _files_of(recipe) if "retrain" in situation.stages]
    for key, place in named:
        try:
            model = _opened(key, str(place)).model
            for reason in why_not_started(model, recipe.space.build(), recipe.model, sizes):
                yield "failure", f"{key} {place}: {reason}"
        except HatRayError as error:
            yield "failure", str(error)


def _opened(key: str, named: str) -> ForeignModel:
    try:
        return open_foreign(named)
    except HatRayError as error:
        raise CheckpointError(f"{key}: {error}") from error


def _require_its_pieces(key: str, named: str, opened: ForeignModel, corpus: Corpus) -> None:
    """Raise CheckpointError where the model was trained on other sub-words than the corpus is made of."""
    own = opened.vocabularies
    if own is None:
        return
    theirs = corpus.vocabularies
    for side in ("source", "target"):
        if getattr(own, side).pieces() != getattr(theirs, side).pieces():
            raise CheckpointError(
                f"{key} {named} was trained on other {side} sub-words than the corpus has: name its vocabulary in "
                "corpus.vocabulary"
            )


START_CHECK = Check("weights to start from", check_start, frozenset({"supernet", "retrain"}))
