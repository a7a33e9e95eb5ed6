"""Teachers: trained models of any kind that a training, or a corpus, learns from.

A training's teacher is kept as a model folder beside it, so that every worker reads it there, whatever it was.
"""

import logging
from dataclasses import dataclass

from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.errors import CheckpointError, HatRayError, RunError
from hat_ray.foreign.open import open_foreign
from hat_ray.model.checkpoints.about import About, is_model_folder
from hat_ray.model.checkpoints.folder import read_about, write_model_folder
from hat_ray.model.checkpoints.native import load_super, weights_digest
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.pipeline.models import open_model
from hat_ray.pipeline.places import Place, place_of
from hat_ray.pipeline.trained.ctranslate2_folder import is_ctranslate2_folder
from hat_ray.pipeline.trained.identity import identity_of, why_other_words
from hat_ray.recipe import Recipe
from hat_ray.storage.copies import name_of
from hat_ray.storage.folder import Folder
from hat_ray.train.config import LARGEST
from hat_ray.train.job import SUPERNET

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Teacher:
    """A trained model that teaches."""

    model: SubTransformer
    vocabularies: Vocabularies | None
    """None: its place holds none."""
    about: About


def open_teacher(place: str, setting: str) -> Teacher:
    """Open a teacher of any kind; raise HatRayError, which names the setting, where there is none."""
    found = place_of(place)
    if found in (Place.EXPORT, Place.ARCHITECTURE) or is_ctranslate2_folder(place):
        what = "which has no weights" if found is Place.ARCHITECTURE else "which gives no probabilities of words"
        raise RunError(
            f"{setting} must name a trained model, got {place}, {found}, {what}: name its run or model folder"
        )
    try:
        if found in (Place.RUN, Place.MODEL):
            opened = open_model(place)
            return Teacher(opened.model, opened.vocabularies, opened.about)
        foreign = open_foreign(place)
    except HatRayError as error:
        raise type(error)(f"{setting}: {error}") from error
    model = foreign.model
    if isinstance(model, SuperTransformer):
        model = model.extract(model.space.largest())
    return Teacher(model.eval(), foreign.vocabularies, About(origin=f"{foreign.kind}: {name_of(place)}"))


def keep_teacher(
    place: str, setting: str, corpus: Corpus, folder: Folder, supernet: Folder | None = None
) -> Folder | None:
    """Put a teacher into a folder as a model folder; None where no teacher is named.

    `supernet` is the folder of the SuperTransformer whose `largest` architecture may be named. Raises HatRayError where
    a teacher's words are not the corpus's: then its predictions say nothing of them.
    """
    if not place:
        return None
    if place == LARGEST and supernet is not None:
        return _keep_largest(supernet, setting, corpus, folder)
    identity = identity_of(place, setting)
    if is_model_folder(folder) and identity in read_about(folder).notes:
        return folder
    teacher = open_teacher(place, setting)
    if teacher.vocabularies is None:
        log.warning("%s: %s holds no sub-words: its words are taken for the corpus's", setting, place)
    sizes = teacher.model.source_vocab_size, teacher.model.target_vocab_size
    if why := why_other_words(sizes, teacher.vocabularies, corpus.vocabularies):
        raise CheckpointError(
            f"{setting} must name a model with the corpus's sub-words, got {place}: {why}: name its sub-words in "
            "corpus.vocabulary, or let it translate the training text (corpus.distil_from)"
        )
    about = About(origin=teacher.about.origin, notes=(identity,))
    write_model_folder(folder, teacher.model, corpus.vocabularies, about)
    return folder


def _keep_largest(supernet: Folder, setting: str, corpus: Corpus, folder: Folder) -> Folder:
    """Put the largest architecture of a trained SuperTransformer into a folder as a model folder."""
    if not supernet.exists(f"{SUPERNET}.json"):
        raise RunError(f"{setting}={LARGEST} needs the trained SuperTransformer of the run: do `hat-ray train super`")
    identity = weights_digest(supernet, SUPERNET)
    if not (is_model_folder(folder) and identity in read_about(folder).notes):
        held = load_super(supernet, SUPERNET)
        about = About(origin="the largest architecture of the SuperTransformer", notes=(identity,))
        write_model_folder(folder, held.extract(held.space.largest()).eval(), corpus.vocabularies, about)
    return folder


def teacher_of_training(recipe: Recipe, section: str) -> str | None:
    """Hash the teacher of a section's trainings; None where the recipe names none."""
    place = (recipe.supernet if section == "supernet" else recipe.retrain).teacher
    if place == LARGEST:  # of the SuperTransformer, which the stage reads
        return LARGEST
    return identity_of(place, f"{section}.teacher") if place else None
