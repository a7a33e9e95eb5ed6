"""What a trained model outside the run is: a hash of its content, and whether its sub-words are the corpus's."""

import hashlib
from collections.abc import Iterator

from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.errors import HatRayError, RunError
from hat_ray.pipeline.models import run_and_model
from hat_ray.pipeline.places import Place, place_of
from hat_ray.storage.copies import digests
from hat_ray.storage.folder import Folder


def identity_of(place: str, setting: str, model_id: str | None = None) -> str:
    """Hash the content of a trained model's place: the same content is the same model, wherever it lies.

    `model_id` names a model of a run; None: the first winner.
    """
    digest = hashlib.sha256()
    try:
        for content in _contents(place, model_id):
            digest.update(hashlib.sha256(content).digest())
    except (OSError, HatRayError) as error:
        raise RunError(f"{setting}: {place} cannot be read ({error}): name a trained model") from error
    return digest.hexdigest()


def why_other_words(sizes: tuple[int, int], own: Vocabularies | None, corpus: Vocabularies) -> str | None:
    """Return the first difference between a model's sub-words and the corpus's; None where there is none.

    `sizes` are those of its source and target; `own` is None where its place holds no sub-words.
    """
    if sizes != corpus.sizes:
        theirs = corpus.sizes
        return f"it has {sizes[0]} source and {sizes[1]} target words, the corpus {theirs[0]} and {theirs[1]}"
    if own is None:
        return None
    for side in ("source", "target"):
        pairs = zip(getattr(own, side).pieces(), getattr(corpus, side).pieces(), strict=True)
        for row, (one, other) in enumerate(pairs):
            if one != other:
                return f"its {side} word {row} is {one!r}, the corpus's {other!r}"
    return None


def _contents(place: str, model_id: str | None) -> Iterator[bytes]:
    """Yield what decides a model, in a fixed order; the weights of hat-ray's models by their noted hash."""
    found = place_of(place)
    if found is Place.RUN:
        run, architecture = run_and_model(place, model_id)
        yield run.stage_folder("retrain").child(architecture.id).read_bytes("model.json")
    elif found is Place.MODEL:
        yield Folder.at(place).read_bytes("model.json")
    else:
        for _, digest in digests(place):
            yield digest.encode()
