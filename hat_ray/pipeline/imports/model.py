"""A trained model of another program as a model folder, which every command then takes.

Decisions
- The kind follows from the content (`hat_ray.foreign`). Sub-words stand beside models of Marian and Hugging Face; for
  those of HAT and fairseq the data-bin's dictionaries, or vocabulary files, are named.
- Nothing is written before all of it fits together.
"""

from dataclasses import dataclass

import yaml

from hat_ray.corpus.fairseq.data_bin import DataBin, language_pair
from hat_ray.corpus.fairseq.vocabularies import data_bin_vocabularies
from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.corpus.vocabulary.make import opened_vocabularies
from hat_ray.errors import CheckpointError, RunError
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.scoring import bleu_signature
from hat_ray.foreign.open import open_foreign
from hat_ray.foreign.opened import ForeignModel
from hat_ray.model.checkpoints.about import About
from hat_ray.model.checkpoints.folder import write_model_folder
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.pipeline.places import Place, place_of
from hat_ray.recipe import Recipe, parse_recipe
from hat_ray.space.hat_yaml import load_architecture
from hat_ray.storage.copies import name_of
from hat_ray.storage.folder import Folder

_BY_ID = ("fairseq", "hat-ray")
"""Programs whose models keep the ids of the files that name their symbols."""


@dataclass(frozen=True)
class ModelImport:
    """What is brought in."""

    place: str
    data_bin: str | None = None
    """Folder of fairseq-preprocess whose dictionaries the model was trained with."""
    languages: str | None = None
    """Source and target, such as en-de; None: by the checkpoint or the data-bin, or not known."""
    architecture: str | None = None
    """File of the architecture to cut out of a SuperTransformer."""
    overrides: tuple[str, ...] = ()
    """Settings of `corpus.vocabulary` and `evaluate`, as a recipe has them."""


@dataclass(frozen=True)
class ImportedModel:
    """A model folder that was made."""

    model: SubTransformer
    about: About
    sizes: tuple[int, int]
    """Entries of the vocabularies."""


def import_model(what: ModelImport, out: str) -> ImportedModel:
    """Write a model folder; raise HatRayError, and write nothing, where the parts do not fit together."""
    folder = Folder.at(out)
    if folder.exists() and folder.list():
        raise RunError(f"--out must name a new or empty folder, {out} holds files: name another, or delete it")
    if place_of(what.place) is Place.MODEL:
        raise RunError(f"{what.place} is a model folder already: use it as it is")
    opened = open_foreign(what.place)
    model = _one_architecture(opened, what)
    languages = _languages(what, opened)
    recipe = _recipe(what, languages)
    vocabularies = _vocabularies(opened, what, recipe, languages)
    _require_fit(model, vocabularies, what.place)
    origin = f"{opened.kind}: {name_of(what.place)}"
    about = _about(recipe.evaluate, languages, origin, opened.notes)
    write_model_folder(folder, model, vocabularies, about)
    return ImportedModel(model, about, vocabularies.sizes)


def _one_architecture(opened: ForeignModel, what: ModelImport) -> SubTransformer:
    """Return the one architecture that a file holds, or that was named of a SuperTransformer."""
    if isinstance(opened.model, SubTransformer):
        if what.architecture is not None:
            raise RunError(f"{what.place} holds one architecture: leave --architecture out")
        return opened.model
    assert isinstance(opened.model, SuperTransformer)
    if what.architecture is None:
        raise RunError(
            f"{what.place} is a SuperTransformer: name one of its architectures with --architecture FILE, or bring it "
            "in whole by `hat-ray import super`"
        )
    chosen = load_architecture(what.architecture, opened.model.space.qkv_dim)
    opened.model.space.require(chosen)
    return opened.model.extract(chosen).eval()


def _languages(what: ModelImport, opened: ForeignModel) -> tuple[str, str] | None:
    named = what.languages or ("-".join(opened.languages) if opened.languages else None)
    if named is None and what.data_bin is None:
        return None
    return language_pair(what.data_bin or "", named)


def _recipe(what: ModelImport, languages: tuple[str, str] | None) -> Recipe:
    """Return a recipe that holds the settings of the command, and nothing else."""
    corpus: dict[str, object] = {}
    if what.data_bin is not None:
        corpus |= {"source": "fairseq", "fairseq": {"folder": what.data_bin}}
    if languages is not None:
        corpus |= {"source_language": languages[0], "target_language": languages[1]}
    text = yaml.safe_dump({"name": "model", "corpus": corpus})
    return parse_recipe(text, "the settings of the import", list(what.overrides))


def _vocabularies(
    opened: ForeignModel, what: ModelImport, recipe: Recipe, languages: tuple[str, str] | None
) -> Vocabularies:
    """Return the sub-words that stand beside the model, or those that were named."""
    named = what.data_bin is not None or bool(recipe.corpus.vocabulary.source)
    if opened.vocabularies is not None:
        if named:
            raise RunError(f"{what.place} has its vocabularies beside it: name no other ones")
        return opened.vocabularies
    if opened.kind not in _BY_ID:
        raise CheckpointError(
            f"{what.place} lacks its vocabularies: copy them beside it, under the names that its settings give them"
        )
    if what.data_bin is not None:
        assert languages is not None
        return data_bin_vocabularies(DataBin.open(what.data_bin, *languages), recipe.corpus)
    if named:
        return opened_vocabularies(recipe.corpus)
    raise RunError(
        f"{what.place} keeps no sub-words: name its data with --data-bin FOLDER, or its vocabulary with "
        "--set corpus.vocabulary.source=FILE"
    )


def _require_fit(model: SubTransformer, vocabularies: Vocabularies, place: str) -> None:
    """Raise CheckpointError where the model has rows for another vocabulary."""
    for side, found, rows in zip(
        ("source", "target"), vocabularies.sizes, (model.source_vocab_size, model.target_vocab_size), strict=True
    ):
        if found != rows:
            raise CheckpointError(
                f"{place} was trained with {rows} {side} symbols, the vocabulary has {found}: name the one that it was "
                "trained with"
            )


def _about(config: EvaluateConfig, languages: tuple[str, str] | None, origin: str, notes: tuple[str, ...]) -> About:
    source, target = languages or (None, None)
    config = config.for_language(target)
    return About(
        source_language=source,
        target_language=target,
        tokenizer=config.tokenizer,
        signature=bleu_signature(config.tokenizer),
        search=config.search_settings(),
        origin=origin,
        notes=notes,
    )
