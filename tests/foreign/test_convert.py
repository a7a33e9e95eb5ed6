"""`hat-ray convert`: what it writes opens again as the same model, and names files that Marian's decoder finds."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from hat_ray.corpus.vocabulary import Vocabularies, Vocabulary
from hat_ray.corpus.vocabulary.given import words_vocabulary
from hat_ray.corpus.vocabulary.learn import learn_vocabulary
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.translate import translate
from hat_ray.foreign.open import open_foreign
from hat_ray.model.checkpoints.about import About
from hat_ray.model.checkpoints.folder import write_model_folder
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.storage.folder import Folder
from tests.command import hat_ray
from tests.foreign.test_pymarian import MARIAN, SIZES, lines, translated

PIECES = ["</s>", "<unk>", "one", "two", "red", "tint"]


def learned(size: int = 40, seed: int = 1) -> Vocabulary:
    return learn_vocabulary([*lines(60, seed), *map(translated, lines(60, seed))], size, byte_fallback=False)


def listed() -> Vocabulary:
    return words_vocabulary(PIECES, (-1, -1, 0, 1))


def model_folder(place: Path, vocabularies: Vocabularies, **changes: Any) -> SubTransformer:
    config = ModelConfig.model_validate({**MARIAN.model_dump(), **changes})
    sizes = vocabularies.sizes
    model = SubTransformer(SIZES, sizes[0], config, target_vocab_size=sizes[1], seed=4).eval()
    with torch.no_grad():
        model.decoder.output_bias.normal_(generator=torch.Generator().manual_seed(2))
        for side, vocabulary in (("encoder", vocabularies.source), ("decoder", vocabularies.target)):
            for ours, theirs in enumerate(vocabulary.order):
                if theirs < 0 and side == "decoder":  # what a foreign vocabulary lacks never comes out
                    model.decoder.output_bias[ours] = -100
    write_model_folder(Folder.at(place), model, vocabularies, About(search={"beam": 3, "length_penalty": 0.6}))
    return model


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("one", {"vocab.spm"}),
        ("two", {"source.spm", "target.spm"}),
        ("list", {"vocab.yml"}),
    ],
)
def test_what_it_writes_is_the_same_model(tmp_path: Path, kind: str, files: set[str]) -> None:
    both = {"one": learned, "two": learned, "list": listed}[kind]()
    vocabularies = Vocabularies(both, learned(44, seed=2)) if kind == "two" else Vocabularies.of_both(both)
    sharing = {"share_embeddings": "decoder"} if kind == "two" else {}
    model = model_folder(tmp_path / "model", vocabularies, **sharing)
    done = hat_ray("convert", "model", "--out", "marian", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["notes"]) == (kind == "list")
    assert {path.name for path in (tmp_path / "marian").iterdir()} == {"model.npz", "decoder.yml", *files}
    settings = yaml.safe_load((tmp_path / "marian" / "decoder.yml").read_text())
    assert (settings["beam-size"], settings["normalize"], settings["relative-paths"]) == (3, 0.6, True)
    assert set(settings["vocabs"]) == files
    opened = open_foreign(tmp_path / "marian" / "model.npz")
    assert opened.vocabularies.source.order == vocabularies.source.order
    assert opened.vocabularies.target.order == vocabularies.target.order
    known = [row for row, theirs in enumerate(vocabularies.target.order) if theirs >= 0]
    for name, weight in model.weights().items():
        there = opened.model.weights()[name]
        of_words = "layers" not in name and len(weight) == len(vocabularies.target)
        rows = known if of_words else slice(None)  # of other rows Marian keeps nothing
        assert torch.equal(there[rows], weight[rows]), name
    text, greedy = lines(20, 3), EvaluateConfig(beam=2)
    assert translate(opened.model, opened.vocabularies, text, greedy) == translate(model, vocabularies, text, greedy)


def test_a_model_that_marian_lacks_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    model_folder(tmp_path / "model", Vocabularies.of_both(learned()), positions="fairseq")
    done = hat_ray("convert", "model", "--out", "marian", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "hat-ray: error: Marian's format cannot hold model: model.positions must be marian, got fairseq"
    )
    assert not (tmp_path / "marian").exists()
    done = hat_ray("convert", "nothing", "--out", "marian", cwd=tmp_path)
    assert done.returncode == 2
    assert "does not exist" in done.stderr.splitlines()[-1]
