"""Trained models that trainings of a run start from: opened, checked, and kept in the stage's folder as they begin.

What a recipe names may lie on the machine of the command only. So the stage keeps the SuperTransformer with the model's
weights, and workers read that.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from hat_ray.corpus.corpus import Corpus
from hat_ray.errors import CheckpointError, HatRayError
from hat_ray.foreign.open import open_foreign
from hat_ray.foreign.opened import ForeignModel
from hat_ray.model.checkpoints.native import save_model
from hat_ray.model.checkpoints.start import started_from, why_not_started
from hat_ray.pipeline.preflight.check import Check, Finding, Situation
from hat_ray.pipeline.stage import Context
from hat_ray.recipe import Recipe
from hat_ray.storage.folder import Folder
from hat_ray.train.job import SUPERNET

START = "start"
"""Folder of the weights that a stage's training starts from."""


def starting_weights(context: Context, folder: Folder) -> Folder | None:
    """Return the folder of the SuperTransformer that `supernet.init` makes; None where the recipe names none."""
    recipe, place = context.recipe, folder.child(START)
    if recipe.supernet.init is None:
        return None
    if not place.exists(f"{SUPERNET}.json"):
        corpus = Corpus.load(context.folder("corpus"))
        opened = _opened(recipe.supernet.init)
        _require_its_pieces(recipe.supernet.init, opened, corpus)
        try:
            model = started_from(
                opened.model, recipe.space.build(), recipe.model, corpus.vocabularies.sizes, recipe.seed
            )
        except HatRayError as error:
            raise CheckpointError(f"supernet.init {recipe.supernet.init}: {error}") from error
        save_model(place, SUPERNET, model, {"init": recipe.supernet.init, "kind": opened.kind})
    return place


def digest_of(context: Context) -> str | None:
    """Hash the files of the model that `supernet.init` names; None where the recipe names none."""
    named = context.recipe.supernet.init
    if named is None:
        return None
    path = Path(named).expanduser()
    files = sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else [path]
    parts = [f"{one.name} {_hash(one)}" for one in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def check_start(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """The model that `supernet.init` names can be opened, and is the start of this space's SuperTransformer."""
    named, summary = recipe.supernet.init, situation.corpus()
    if named is None:
        return
    sizes = (
        None
        if summary is None
        else (
            summary.vocabulary_size,
            summary.target_vocabulary_size or summary.vocabulary_size,
        )
    )
    try:
        for reason in why_not_started(_opened(named).model, recipe.space.build(), recipe.model, sizes):
            yield "failure", f"supernet.init {named}: {reason}"
    except HatRayError as error:
        yield "failure", str(error)


def _opened(named: str) -> ForeignModel:
    try:
        return open_foreign(named)
    except CheckpointError as error:
        raise CheckpointError(f"supernet.init: {error}") from error


def _require_its_pieces(named: str, opened: ForeignModel, corpus: Corpus) -> None:
    """Raise CheckpointError where the model was trained on other sub-words than the corpus is made of."""
    own = opened.vocabularies
    if own is None:
        return
    theirs = corpus.vocabularies
    for side in ("source", "target"):
        if getattr(own, side).pieces() != getattr(theirs, side).pieces():
            raise CheckpointError(
                f"supernet.init {named} was trained on other {side} sub-words than the corpus has: name its vocabulary "
                "in corpus.vocabulary"
            )


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise CheckpointError(f"supernet.init {path} is no file: name the trained model's file or folder") from error


START_CHECK = Check("weights to start from", check_start, frozenset({"supernet"}))
