"""A data-bin as a corpus: its tokens, its text, what it shares with training, and the mistakes in it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hat_ray.corpus.config import CorpusConfig, DataBinConfig
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.fairseq.data_bin import language_pair
from hat_ray.corpus.prepare import prepare
from hat_ray.corpus.tokens import SentenceStore
from hat_ray.errors import CorpusError
from hat_ray.storage.folder import Folder
from tests.corpus.fairseq.data_bin_files import encoded, write_cached, write_dictionary, write_mmap

ENGLISH = ["the", "red", "house", "is", "old", "."]
GERMAN = ["das", "rote", "haus", "ist", "alt", "."]
TEXT = {
    "train": (["the red house .", "the house is old .", "old", "", "the old red house ."],
              ["das rote haus .", "das haus ist alt .", "alt", "", "das alte rote haus ."]),
    "valid": (["the house ."], ["das haus ."]),
    "test": (["the red house .", "the house is green ."], ["das rote haus .", "das haus ist gruen ."]),
}  # fmt: skip


def data_bin(folder: Path, *, write: Any = write_mmap, direction: str = "en-de", parts: int = 1) -> Path:
    """Write a data-bin with two dictionaries."""
    folder.mkdir(exist_ok=True)
    for language, symbols, side in (("en", ENGLISH, 0), ("de", GERMAN, 1)):
        write_dictionary(folder / f"dict.{language}.txt", symbols)
        for split, text in TEXT.items():
            lines = text[side]
            cuts = np.array_split(np.arange(len(lines)), parts if split == "train" else 1)
            for number, rows in enumerate(cuts):
                stem = folder / f"{split}{number or ''}.{direction}.{language}"
                write(stem, encoded([lines[row] for row in rows], symbols))
    return folder


def write_raw(stem: Path, sentences: list[list[int]]) -> None:
    """Write text instead: the words of the language that the file's name ends with."""
    split, language = stem.name.split(".")[0], stem.name.rpartition(".")[2]
    stem.write_text("".join(f"{line}\n" for line in TEXT[split][language == "de"]))


def config(folder: Path, **settings: Any) -> CorpusConfig:
    own = {key: settings.pop(key) for key in list(settings) if key in DataBinConfig.model_fields}
    values = {"source": "fairseq", "fairseq": {"folder": str(folder), **own}, "leaks": "warn", **settings}
    return CorpusConfig.model_validate(values)


def corpus(folder: Path, out: Path, **settings: Any) -> Corpus:
    prepare(config(folder, **settings), Folder.at(out), 1)
    return Corpus.load(Folder.at(out))


def rows(side: SentenceStore) -> list[list[int]]:
    return [side[row].tolist() for row in range(len(side))]


@pytest.mark.parametrize(
    "how",
    [{}, {"write": write_cached}, {"write": write_raw}, {"direction": "de-en"}, {"parts": 3}],
    ids=["mmap", "cached", "raw", "other direction", "three parts"],
)
def test_tokens_of_every_form_of_data_bin_are_those_of_the_dictionaries(tmp_path: Path, how: dict[str, Any]):
    found = corpus(data_bin(tmp_path / "bin", **how), tmp_path / "out")
    kept = [row for row, line in enumerate(TEXT["train"][0]) if line]
    assert rows(found.train.source) == [encoded(TEXT["train"][0], ENGLISH)[row] for row in kept]
    assert rows(found.train.target) == [encoded(TEXT["train"][1], GERMAN)[row] for row in kept]
    assert rows(found.test.source) == encoded(TEXT["test"][0], ENGLISH)
    assert rows(found.valid.target) == encoded(TEXT["valid"][1], GERMAN)
    summary = found.summary
    assert (summary.vocabulary_size, summary.target_vocabulary_size) == (10, 10)
    assert (summary.train.pairs, summary.train.dropped_empty, summary.test_sources_in_train) == (4, 1, 1)


def test_without_text_a_split_is_decoded_and_with_text_it_keeps_its_words(tmp_path: Path):
    folder = data_bin(tmp_path / "bin")
    decoded = corpus(folder, tmp_path / "one").test
    assert decoded.source_text == ("the red house .", "the house is <unk> .")
    for side, name in enumerate(("source", "target")):
        (tmp_path / f"test_{name}").write_text("".join(f"{line}\n" for line in TEXT["test"][side]))
    texts = {f"test_{side}": str(tmp_path / f"test_{side}") for side in ("source", "target")}
    named = corpus(folder, tmp_path / "two", **texts).test
    assert named.target_text == tuple(TEXT["test"][1])
    assert rows(named.target) == encoded(TEXT["test"][1], GERMAN)
    for language in ("en", "de"):
        for kind in ("bin", "idx"):
            (folder / f"test.en-de.{language}.{kind}").unlink()
    with pytest.raises(CorpusError, match=r"must hold the split corpus\.fairseq\.test_subset 'test'"):
        corpus(folder, tmp_path / "three")
    lacking = corpus(folder, tmp_path / "four", **texts).test
    assert rows(lacking.source) == encoded(TEXT["test"][0], ENGLISH)


def test_equal_dictionaries_are_one_vocabulary(tmp_path: Path):
    folder = data_bin(tmp_path / "bin")
    write_dictionary(folder / "dict.de.txt", ENGLISH)
    found = corpus(folder, tmp_path / "out")
    assert found.vocabularies.joint
    assert found.summary.target_vocabulary_size is None


def test_leaks_are_removed_by_default_and_counted(tmp_path: Path):
    folder = data_bin(tmp_path / "bin", parts=2)
    write_mmap(folder / "valid.en-de.en", encoded(["old"], ENGLISH))
    found = corpus(folder, tmp_path / "out", leaks="remove")
    left = ["the house is old .", "the old red house ."]
    assert rows(found.train.source) == encoded(left, ENGLISH)
    train = found.summary.train
    assert (train.pairs, train.read, train.dropped_leak, train.dropped_empty) == (2, 5, 2, 1)
    assert (found.summary.test_sources_in_train, found.summary.valid_sources_in_train) == (1, 1)
    assert found.summary.leak() is None
    assert CorpusConfig().leaks == "remove"
    warned = corpus(folder, tmp_path / "out", leaks="warn").summary
    assert str(warned.leak()).startswith("1 test and 1 validation sources stand in the training text")
    write_mmap(folder / "test.en-de.en", encoded(left, ENGLISH))
    write_mmap(folder / "valid.en-de.en", encoded(["the red house .", "old"], ENGLISH))
    write_mmap(folder / "valid.en-de.de", encoded(["das rote haus .", "alt"], GERMAN))
    with pytest.raises(
        CorpusError, match=r"4 of 5 training pairs have a source of theirs .* set corpus\.leaks to warn"
    ):
        corpus(folder, tmp_path / "none", leaks="remove")


def test_length_rules_apply_as_to_text(tmp_path: Path):
    found = corpus(data_bin(tmp_path / "bin"), tmp_path / "out", max_length=5)
    assert found.summary.train.pairs == 2
    assert found.summary.train.dropped_long == 2


def test_a_changed_file_is_prepared_anew_and_an_equal_one_is_not(tmp_path: Path):
    folder = data_bin(tmp_path / "bin")
    first = corpus(folder, tmp_path / "out").summary.fingerprint
    assert corpus(folder, tmp_path / "out").summary.fingerprint == first
    write_mmap(folder / "valid.en-de.en", encoded(["the old house ."], ENGLISH))
    assert corpus(folder, tmp_path / "out").summary.fingerprint != first


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("dict.de.txt missing", r"must hold dict\.de\.txt, it holds dict\.en\.txt"),
        ("folder missing", "does not exist: name the folder that fairseq-preprocess made"),
        ("one side missing", r"train\.en-de\.de\.idx does not exist: both sides"),
        ("unlike sides", "both sides of a split must have equally many sentences"),
        ("another dictionary", r"ids must be from 0 to 5, the dictionary's last, got 9: it was made with another"),
        ("cut", "it is cut"),
        ("text of another split", "must become the tokens of .*test, 0 of 2 lines do"),
        ("text with a line less", "must have a line for each of its sentences, got 1 lines for the 2 sentences"),
        ("nothing to train on", "holds no pair with both sides"),
    ],
)
def test_a_mistake_in_a_data_bin_is_one_line_and_leaves_nothing(tmp_path: Path, spoil: str, reason: str):
    folder, settings = data_bin(tmp_path / "bin"), {}
    if spoil == "dict.de.txt missing":
        (folder / "dict.de.txt").unlink()
    elif spoil == "folder missing":
        folder = tmp_path / "elsewhere"
    elif spoil == "one side missing":
        (folder / "train.en-de.de.idx").unlink()
    elif spoil == "unlike sides":
        write_mmap(folder / "train.en-de.de", encoded(["das haus ."], GERMAN))
    elif spoil == "another dictionary":
        write_dictionary(folder / "dict.de.txt", GERMAN[:2])
    elif spoil == "cut":
        place = folder / "valid.en-de.de.bin"
        place.write_bytes(place.read_bytes()[:-2])
    elif spoil == "nothing to train on":
        for language, symbols in (("en", ENGLISH), ("de", GERMAN)):
            write_mmap(folder / f"train.en-de.{language}", encoded(["", ""], symbols))
    else:
        lines = ["house the ."] * 2 if "another" in spoil else TEXT["test"][0][:1]
        for side in ("source", "target"):
            (tmp_path / side).write_text("".join(f"{line}\n" for line in lines))
            settings[f"test_{side}"] = str(tmp_path / side)
    with pytest.raises(CorpusError, match=reason) as refusal:
        corpus(folder, tmp_path / "out", **settings)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"deduplicate": True}, "deduplicate is for text"),
        ({"nfc": True}, "nfc is for text"),
        ({"fairseq": None}, "no data-bin is named"),
        ({"test_source": "x"}, "equally many files"),
        ({"train_subset": "../train"}, "train_subset"),
    ],
)
def test_settings_that_fit_no_data_bin_are_refused(tmp_path: Path, settings: dict[str, Any], reason: str):
    with pytest.raises(ValueError, match=reason):
        config(tmp_path, **settings)


def test_languages_follow_from_the_names_of_the_files(tmp_path: Path):
    folder = data_bin(tmp_path / "bin")
    assert language_pair(str(folder), None) == ("en", "de")
    assert language_pair(str(folder), "de-en") == ("de", "en")
    for wrong in ("ende", "-de", "en-", "../x-de"):
        with pytest.raises(CorpusError, match="written as en-de"):
            language_pair(str(folder), wrong)
    data_bin(tmp_path / "bin", direction="en-fr")
    with pytest.raises(CorpusError, match="its files name en-de, en-fr: set --languages"):
        language_pair(str(folder), None)


def test_the_data_bin_of_the_oracle_is_its_text(shared: Path, tmp_path: Path):
    place = shared / "hat" / "oracle"
    texts = {f"test_{side}": str(place / "text" / f"test.{end}") for side, end in (("source", "en"), ("target", "de"))}
    found = corpus(place / "bin_joined", tmp_path / "out", **texts)
    lines = (place / "text" / "train.en").read_text().splitlines()
    assert [found.vocabularies.source.decode(one) for one in rows(found.train.source)] == lines
    assert rows(found.train.target) == found.vocabularies.target.encode_lines(
        (place / "text" / "train.de").read_text().splitlines()
    )
    assert found.vocabularies.joint
    assert (found.summary.train.pairs, len(found.valid), len(found.test)) == (4000, 240, 200)


def test_a_shift_of_one_side_is_named_by_the_numbers_of_tokens(tmp_path: Path):
    folder = data_bin(tmp_path / "bin")
    lengths = np.random.default_rng(1).integers(1, 30, 1_000).tolist()
    source, target = ([[4] * length + [2] for length in lengths] for _ in range(2))
    write_mmap(folder / "train.en-de.en", source)
    write_mmap(folder / "train.en-de.de", [*target[:600], target[-1], *target[600:-1]])
    [found] = corpus(folder, tmp_path / "out").summary.findings
    assert found.line.startswith("training text, pairs 601 to 1,000: the target stands 1 line behind its source")
