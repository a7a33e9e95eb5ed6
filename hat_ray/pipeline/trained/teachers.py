"""Teachers: trained models of any kind that a training, or a corpus, learns from.

A training's teacher is kept as a model folder beside it, so that every worker reads it there, whatever it was.
"""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.errors import CheckpointError, HatRayError, RunError
from hat_ray.foreign.open import open_foreign
from hat_ray.model.checkpoints.about import About, is_model_folder
from hat_ray.model.checkpoints.folder import read_about, write_model_folder
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.pipeline.models import open_model
from hat_ray.pipeline.places import Place, place_of
from hat_ray.pipeline.run_folder import Run
from hat_ray.pipeline.stage import Context
from hat_ray.pipeline.trained.ctranslate2_folder import is_ctranslate2_folder
from hat_ray.recipe import load_run_recipe
from hat_ray.search.selection import RetrainOutput
from hat_ray.storage.copies import digests, name_of
from hat_ray.storage.folder import Folder

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


def teacher_identity(place: str, setting: str, model_id: str | None = None) -> str:
    """Hash what a teacher's place holds: the same content is the same teacher, wherever it lies.

    `model_id` names a model of a run; None: the first winner.
    """
    digest = hashlib.sha256()
    try:
        for content in _contents(place, model_id):
            digest.update(hashlib.sha256(content).digest())
    except (OSError, HatRayError) as error:
        raise RunError(f"{setting}: {place} cannot be read ({error}): name a trained model") from error
    return digest.hexdigest()


def keep_teacher(place: str, setting: str, corpus: Corpus, folder: Folder) -> Folder | None:
    """Put a teacher into a folder as a model folder; None where no teacher is named.

    Raises HatRayError where its words are not the corpus's: then its predictions say nothing of them.
    """
    if not place:
        return None
    identity = teacher_identity(place, setting)
    if is_model_folder(folder) and identity in read_about(folder).notes:
        return folder
    teacher = open_teacher(place, setting)
    if teacher.vocabularies is None:
        log.warning("%s: %s holds no sub-words: its words are taken for the corpus's", setting, place)
    _require_vocabularies(teacher, corpus.vocabularies, place, setting)
    about = About(origin=teacher.about.origin, notes=(identity,))
    write_model_folder(folder, teacher.model, corpus.vocabularies, about)
    return folder


def teacher_of_training(context: Context, section: str) -> str | None:
    """Return what a stage's fingerprint covers of its teacher; None: it has none."""
    place = (context.recipe.supernet if section == "supernet" else context.recipe.retrain).teacher
    return teacher_identity(place, f"{section}.teacher") if place else None


def _require_vocabularies(teacher: Teacher, ours: Vocabularies, place: str, setting: str) -> None:
    sizes = teacher.model.source_vocab_size, teacher.model.target_vocab_size
    why = ""
    if sizes != ours.sizes:
        why = f"it has {sizes[0]} source and {sizes[1]} target words, the corpus {ours.sizes[0]} and {ours.sizes[1]}"
    elif (theirs := teacher.vocabularies) is not None:
        for side in ("source", "target"):
            pairs = zip(getattr(theirs, side).pieces(), getattr(ours, side).pieces(), strict=True)
            if unlike := next(((row, *pair) for row, pair in enumerate(pairs) if pair[0] != pair[1]), None):
                why = f"its {side} word {unlike[0]} is {unlike[1]!r}, the corpus's {unlike[2]!r}"
                break
    if why:
        raise CheckpointError(
            f"{setting} must name a model with the corpus's sub-words, got {place}: {why}: name its sub-words in "
            "corpus.vocabulary, or let it translate the training text (corpus.distil_from)"
        )


def _contents(place: str, model_id: str | None) -> Iterator[bytes]:
    """Yield all that decides a teacher, in a fixed order; the weights of hat-ray's models by their noted hash."""
    found = place_of(place)
    if found is Place.RUN:
        folder = Folder.at(place)
        retrained = Run(folder, load_run_recipe(folder)).output("retrain", RetrainOutput)
        if retrained is None:
            raise RunError(f"it has no retrained models yet: do `hat-ray run {place}` first")
        yield folder.child("retrain", model_id or retrained.architectures[0].id).read_bytes("model.json")
    elif found is Place.MODEL:
        yield Folder.at(place).read_bytes("model.json")
    else:
        for _, digest in digests(place):
            yield digest.encode()
