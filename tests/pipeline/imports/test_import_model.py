"""A trained model of another program as a model folder: the same translations, and what does not fit is refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from hat_ray.errors import HatRayError
from hat_ray.evaluate.translate import translate
from hat_ray.model.checkpoints.fairseq import load_hat_checkpoint
from hat_ray.pipeline.imports.model import ModelImport, import_model
from hat_ray.pipeline.models import open_model
from hat_ray.space.hat_yaml import write_architecture
from tests.command import hat_ray
from tests.corpus.fairseq.data_bin_files import write_dictionary, write_mmap
from tests.foreign import marian_files
from tests.model import hat_files

SYMBOLS = ["new", "er@@", "low@@", *(f"w{number}" for number in range(hat_files.VOCAB - 7))]
CODES = "#version: 0.2\nl o\nlo w</w>\nn e\nne w</w>\n"
SUB = {
    "encoder_embed_dim_subtransformer": 8,
    "decoder_embed_dim_subtransformer": 16,
    "encoder_layer_num_subtransformer": 2,
    "decoder_layer_num_subtransformer": 1,
    "encoder_ffn_embed_dim_all_subtransformer": [16, 24],
    "decoder_ffn_embed_dim_all_subtransformer": [24],
    "encoder_self_attention_heads_all_subtransformer": [2, 1],
    "decoder_self_attention_heads_all_subtransformer": [2],
    "decoder_ende_attention_heads_all_subtransformer": [1],
    "decoder_arbitrary_ende_attn_all_subtransformer": [1],
}


@pytest.fixture
def sub(tmp_path: Path) -> Path:
    """A SubTransformer as HAT keeps it: the SuperTransformer's shapes, and the architecture in the arguments."""
    torch.save(hat_files.content(**SUB, source_lang="en", target_lang="de"), tmp_path / "sub.pt")
    return tmp_path / "sub.pt"


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    torch.save(hat_files.content(), tmp_path / "super.pt")
    return tmp_path / "super.pt"


@pytest.fixture
def data_bin(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for language in ("en", "de"):
        write_dictionary(folder / f"dict.{language}.txt", SYMBOLS)
    return folder


def test_a_subtransformer_of_hats_becomes_a_folder_that_translates(sub: Path, data_bin: Path, tmp_path: Path):
    made = import_model(ModelImport(str(sub), str(data_bin)), str(tmp_path / "out"))
    opened = open_model(tmp_path / "out")
    checkpoint = load_hat_checkpoint(sub)
    assert checkpoint.architecture is not None
    assert opened.model.architecture == checkpoint.architecture == made.model.architecture
    assert (opened.about.direction, opened.about.origin) == ("en-de", "fairseq: sub.pt")
    lines = ["w1 w2 w3", "w7 new"]
    expected = checkpoint.model.extract(checkpoint.architecture).eval()
    assert translate(opened.model, opened.vocabularies, lines) == translate(expected, opened.vocabularies, lines)
    done = hat_ray("translate", tmp_path / "out", cwd=tmp_path, stdin=b"w1 w2 w3\n")
    assert (done.returncode, done.stdout.rstrip("\n")) == (0, translate(expected, opened.vocabularies, lines)[0])


def test_one_architecture_of_a_supertransformer_is_cut_out(whole: Path, data_bin: Path, tmp_path: Path):
    chosen = hat_files.SPACE.smallest()
    (tmp_path / "one.yml").write_text(write_architecture(chosen))
    what = ModelImport(str(whole), str(data_bin), "en-de", str(tmp_path / "one.yml"))
    assert import_model(what, str(tmp_path / "out")).model.architecture == chosen


def test_sub_words_of_the_recipe_cut_the_text(sub: Path, data_bin: Path, tmp_path: Path):
    pytest.importorskip("subword_nmt")
    (tmp_path / "code").write_text(CODES)
    overrides = (f"corpus.vocabulary.bpe_codes={tmp_path / 'code'}", "evaluate.beam=2")
    import_model(ModelImport(str(sub), str(data_bin), overrides=overrides), str(tmp_path / "out"))
    opened = open_model(tmp_path / "out")
    pieces = opened.vocabularies.source.pieces()
    assert [pieces[token] for token in opened.vocabularies.source.encode("new")] == ["new", "</s>"]
    assert opened.about.search["beam"] == 2


def test_a_model_of_marians_brings_its_vocabularies(tmp_path: Path):
    place = marian_files.write(tmp_path / "model.npz", **marian_files.VARIANTS["as OPUS-MT"])
    what = ModelImport(str(place), languages="en-de")
    with pytest.raises(HatRayError, match="lacks its vocabularies: copy them beside it"):
        import_model(what, str(tmp_path / "out"))
    numbers = "".join(f"{word}: {number}\n" for number, word in enumerate(marian_files.WORDS))
    (tmp_path / "words.yml").write_text(numbers)
    (tmp_path / "model.npz.decoder.yml").write_text("vocabs: [words.yml, words.yml]\n")
    with pytest.raises(HatRayError, match="has its vocabularies beside it"):
        import_model(ModelImport(str(place), overrides=("corpus.vocabulary.source=words.yml",)), str(tmp_path / "out"))
    made = import_model(what, str(tmp_path / "out"))
    assert made.about.origin == "marian: model.npz"
    assert open_model(tmp_path / "out").about.direction == "en-de"


def test_what_does_not_fit_is_refused_in_one_line_and_nothing_is_written(
    sub: Path, whole: Path, data_bin: Path, tmp_path: Path
):
    smaller = shutil.copytree(data_bin, tmp_path / "smaller")
    for language in ("en", "de"):
        write_dictionary(smaller / f"dict.{language}.txt", SYMBOLS[1:])
    (tmp_path / "one.yml").write_text(write_architecture(hat_files.SPACE.smallest()))
    (tmp_path / "wide.yml").write_text(write_architecture(hat_files.SPACE.replaced(encoder_ffn_dims=(99,)).smallest()))
    (tmp_path / "other").write_text("#version: 0.2\n" + "".join(f"q{n} x</w>\n" for n in range(300)))
    cases: list[tuple[dict[str, Any], str]] = [
        ({"place": sub}, "keeps no sub-words: name its data with --data-bin"),
        ({"place": sub, "data_bin": smaller}, "trained with 20 source symbols, the vocabulary has 19"),
        ({"place": sub, "data_bin": data_bin, "languages": "en-fr"}, r"must hold dict\.fr\.txt"),
        ({"place": sub, "data_bin": data_bin, "architecture": tmp_path / "one.yml"}, "holds one architecture"),
        ({"place": whole, "data_bin": data_bin, "languages": "en-de"}, "is a SuperTransformer: name one"),
        (
            {"place": whole, "data_bin": data_bin, "languages": "en-de", "architecture": tmp_path / "wide.yml"},
            r"^architecture \w+ lies outside space super: encoder_ffn_dims must be one of \[16, 24\], got 99$",
        ),
        ({"place": tmp_path / "none.pt", "data_bin": data_bin}, "does not exist"),
        (
            {"place": sub, "data_bin": data_bin, "overrides": (f"corpus.vocabulary.bpe_codes={tmp_path / 'other'}",)},
            r"cannot be used: only 0% of what the BPE codes \S+/other make stands in it: name the codes that it was "
            "made with$",
        ),
        ({"place": data_bin / "dict.en.txt", "data_bin": data_bin}, "no model"),
    ]
    for given, reason in cases:
        what = ModelImport(**{key: one if isinstance(one, tuple) else str(one) for key, one in given.items()})
        with pytest.raises(HatRayError, match=reason) as refusal:
            import_model(what, str(tmp_path / "out"))
        assert "\n" not in str(refusal.value)
        assert not (tmp_path / "out").exists()


def test_a_folder_with_files_is_left_alone(sub: Path, data_bin: Path, tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    done = hat_ray("import", "model", sub, "--data-bin", data_bin, "--out", tmp_path / "out", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_data_bin_without_splits_serves_a_model(sub: Path, data_bin: Path, tmp_path: Path):
    write_mmap(data_bin / "train.en-de.en", [])
    assert import_model(ModelImport(str(sub), str(data_bin)), str(tmp_path / "out")).sizes == (20, 20)
