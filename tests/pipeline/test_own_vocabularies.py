"""Whole runs with vocabularies of one's own: two of unlike kinds, from corpus to export."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hat_ray.api import Run, run_recipe
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.toy.generate import generate
from hat_ray.export.export import open_export
from hat_ray.recipe import load_recipe
from hat_ray.report.render import read_report
from hat_ray.storage.folder import Folder
from tests.command import hat_ray
from tests.corpus.vocabulary.foreign_files import bpe_codes, sentencepiece_model, write_dictionary

apply_bpe = pytest.importorskip("subword_nmt.apply_bpe")
pytest.importorskip("sacremoses")

TINY = Path(__file__).parent / "tiny.yaml"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    place = tmp_path_factory.mktemp("own")
    texts = generate(load_recipe(str(TINY)).corpus.toy)
    for split, text in texts.items():
        for side in ("source", "target"):
            (place / f"{split}.{side}").write_text("".join(f"{line}\n" for line in getattr(text, side)))
    (place / "source.spm").write_bytes(sentencepiece_model(list(texts["train"].source), 230))
    (place / "codes").write_text(bpe_codes(list(texts["train"].target), 150))
    bpe = apply_bpe.BPE((place / "codes").open())
    write_dictionary(place / "dict.txt", [bpe.process_line(line) for line in texts["train"].target])
    names = ", ".join(f"{split}_{side}: {split}.{side}" for split in texts for side in ("source", "target"))
    own = f"source: {place}/source.spm, target: {place}/dict.txt, target_bpe_codes: {place}/codes"
    files = f"corpus.files={{folder: {place}, {names}}}"
    return ["corpus.source=files", files, f"corpus.vocabulary={{{own}}}", "model.share_embeddings=decoder"]


def checked(settings: list[str]) -> "subprocess.CompletedProcess[str]":
    sets = [word for one in settings for word in ("--set", one)]
    return hat_ray("recipe", "check", TINY, *sets, cwd=TINY.parent)


def test_the_check_names_embeddings_that_cannot_be_shared(settings: list[str]) -> None:
    both = [*settings, "model.share_embeddings=all"]
    done = checked(both)
    assert done.returncode == 2
    assert "model.share_embeddings=all needs one joint vocabulary" in done.stdout + done.stderr
    done = checked(settings)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_check_names_a_vocabulary_that_cannot_be_opened(settings: list[str], tmp_path: Path) -> None:
    (tmp_path / "broken.spm").write_bytes(b"broken")
    broken = [*settings[:2], f"corpus.vocabulary={{source: {tmp_path}/broken.spm}}"]
    done = checked(broken)
    assert done.returncode == 2
    assert "it is no SentencePiece model" in done.stdout + done.stderr


@pytest.mark.slow
def test_a_whole_run_has_a_vocabulary_for_each_side(settings: list[str], tmp_path: Path) -> None:
    recipe, place = load_recipe(str(TINY), settings), tmp_path / "run"
    run_recipe(recipe, str(place), local=True)
    corpus = Corpus.load(Folder.at(place / "corpus"))
    sizes = corpus.vocabularies.sizes
    assert not corpus.vocabularies.joint
    assert sizes[0] != sizes[1]
    assert f"vocabulary {sizes[0]:,} and {sizes[1]:,}" in (place / "report" / "report.html").read_text()
    assert read_report(Folder.at(place / "report")).chosen
    lines = [*corpus.test.source_text[:6], ""]
    model = Run(recipe, Folder.at(place)).model()
    expected = model.translate(lines)
    out = tmp_path / "out"
    done = hat_ray("export", place, "--out", out, "--sentences", "10", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert open_export(out).translate(lines) == expected
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["source_vocab_size"], manifest["vocab_size"]) == sizes
    done = subprocess.run(
        [sys.executable, str(out / "translate.py")],
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stdout.split("\n")[:-1] == expected, done.stderr
