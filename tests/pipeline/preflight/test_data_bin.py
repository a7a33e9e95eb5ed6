"""A data-bin is looked at before anything begins: its dictionaries, its splits, the text beside them."""

from pathlib import Path

import pytest

from hat_ray.corpus.vocabulary.make import expected_vocabularies
from hat_ray.pipeline.preflight.text import check_data_bin, data_bin_bytes
from hat_ray.recipe import Recipe
from tests.command import hat_ray
from tests.corpus.fairseq.data_bin_files import write_mmap
from tests.corpus.fairseq.test_data_bin import config, data_bin


def test_a_whole_data_bin_is_fine_and_its_size_bounds_the_tokens(tmp_path: Path):
    folder = data_bin(tmp_path / "bin")
    assert list(check_data_bin(config(folder, vocab_size=10))) == []
    size = sum(path.stat().st_size for path in folder.glob("*-*"))
    assert data_bin_bytes(config(folder)) == 4 * size
    assert data_bin_bytes(config(tmp_path / "none")) == 0


@pytest.mark.parametrize(
    ("lacks", "words"),
    [
        ("dict.en.txt", "must hold dict.en.txt"),
        ("valid.en-de.en.idx", "both sides of a split must be there"),
        ("test", "must hold the split corpus.fairseq.test_subset 'test'"),
        ("text", "does not exist"),
    ],
)
def test_what_is_missing_is_a_failure(tmp_path: Path, lacks: str, words: str):
    folder = data_bin(tmp_path / "bin")
    for path in folder.glob(f"{lacks}*" if lacks != "text" else "nothing"):
        path.unlink()
    texts = {f"test_{side}": str(tmp_path / "gone") for side in ("source", "target")} if lacks == "text" else {}
    ((kind, reason),) = check_data_bin(config(folder, vocab_size=10, **texts))
    assert kind == "failure"
    assert words in reason


def test_the_dictionaries_are_the_vocabulary_whatever_the_size_that_is_set(tmp_path: Path):
    found = config(data_bin(tmp_path / "bin"), vocab_size=99)
    assert list(check_data_bin(found)) == []
    assert expected_vocabularies(found) == (10, 10)


def test_the_commands_data_folder_is_the_data_bin(tmp_path: Path):
    folder = data_bin(tmp_path / "bin")
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nmodel: {share_embeddings: decoder}\n"
        "corpus: {source: fairseq, vocab_size: 10, fairseq: {folder: nowhere}}\n"
    )
    refused = hat_ray("recipe", "check", "mine.yaml", cwd=tmp_path)
    assert refused.returncode == 2
    assert "data-bin nowhere does not exist" in refused.stdout + refused.stderr
    fine = hat_ray("recipe", "check", "mine.yaml", "--data", folder, cwd=tmp_path)
    assert "ok      text files" in fine.stdout
    prepared = hat_ray("corpus", "mine.yaml", "--data", folder, "--local", cwd=tmp_path)
    assert prepared.returncode == 0, prepared.stderr
    write_mmap(folder / "train.en-de.de", [[4, 2]])
    again = hat_ray("corpus", "mine.yaml", "--data", folder, "--local", cwd=tmp_path)
    assert (again.returncode, "equally many sentences" in again.stderr) == (2, True)


def test_an_imported_recipe_takes_size_and_languages_from_a_folder_that_is_there(tmp_path: Path):
    from hat_ray.pipeline.imports.hat_recipe import import_recipe
    from tests.pipeline.imports.hat_configs import SUPER

    folder = data_bin(tmp_path / "bin", direction="de-en")
    (tmp_path / "super.yml").write_text(SUPER.replace("data/binary/mine", str(folder)))
    found: Recipe = import_recipe([str(tmp_path / "super.yml")]).recipe
    assert (found.corpus.source_language, found.corpus.target_language, found.corpus.vocab_size) == ("de", "en", 10)
