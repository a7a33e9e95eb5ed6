"""Several corpora in one: how often each is trained on, and the tag before its sentences."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from hat_ray.corpus.config import CorpusConfig, FilesConfig
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.prepare import prepare
from hat_ray.corpus.text.fingerprint import input_fingerprint
from hat_ray.corpus.text.source import PartUse
from hat_ray.errors import CorpusError
from hat_ray.storage.folder import Folder
from tests.corpus.vocabulary.foreign_files import ENGLISH, sentencepiece_model

NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
CLEAN = [f"the {word} red dogs run" for word in NUMBERS]
BACK = [f"a {word} cat sleeps" for word in NUMBERS]


def config(place: Path, back: dict[str, Any], clean: dict[str, Any] | None = None, **settings: Any) -> CorpusConfig:
    """Two training corpora: a plain file for each side, and one with tab-separated columns."""
    (place / "clean.en").write_text("".join(f"{line}\n" for line in CLEAN))
    (place / "clean.de").write_text("".join(f"{line.upper()}\n" for line in CLEAN))
    (place / "back.tsv").write_text("".join(f"{line.upper()}\t{line}\t0.9\n" for line in [*BACK, BACK[0]]))
    (place / "held").write_text("a dog\n")
    files = {
        "train_source": [{"path": "clean.en", **(clean or {})}, {"path": "back.tsv", "column": 2, **back}],
        "train_target": ["clean.de", {"path": "back.tsv", "column": 1}],
        **{f"{split}_{side}": "held" for split in ("valid", "test") for side in ("source", "target")},
    }
    values = {"source": "files", "files": {"folder": str(place), **files}, "vocab_size": 80, "byte_fallback": False}
    values["protect"] = 0
    return CorpusConfig.model_validate({**values, **settings})


def trained_on(made: CorpusConfig, out: Path) -> tuple[Corpus, Counter[tuple[str, str]]]:
    prepare(made, Folder.at(out), 1)
    corpus = Corpus.load(Folder.at(out))
    sides = (corpus.vocabularies.source, corpus.train.source), (corpus.vocabularies.target, corpus.train.target)
    lines = ([known.decode(side[row].tolist()) for row in range(len(side))] for known, side in sides)
    return corpus, Counter(zip(*lines, strict=True))


def test_weights_repeat_pairs_after_repeated_ones_are_dropped_and_tags_stand_before_their_sources(tmp_path: Path):
    made = config(tmp_path, {"weight": 3, "tag": "<BT>"}, deduplicate=True)
    corpus, pairs = trained_on(made, tmp_path / "out")
    expected = {(line, line.upper()): 1 for line in CLEAN} | {(f"<BT> {line}", line.upper()): 3 for line in BACK}
    assert pairs == expected
    train = corpus.summary.train
    assert (train.read, train.pairs, train.dropped_duplicate, train.weighted) == (21, 40, 1, 20)
    assert train.kept_text == "40 of 21 pairs kept (1 repeated, +20 by the weights of files)"
    symbol = corpus.vocabularies.source.pieces().index("<BT>")
    assert corpus.vocabularies.source.encode("<BT> a dog").count(symbol) == 1
    rows = [corpus.train.source[row].tolist() for row in range(len(corpus.train))]
    assert sum(symbol in row for row in rows) == 30


def test_a_weight_below_one_takes_a_part_and_each_preparation_the_same(tmp_path: Path):
    made = config(tmp_path, {"weight": 0.5})
    corpus, pairs = trained_on(made, tmp_path / "out")
    back = {pair: count for pair, count in pairs.items() if pair[0] in BACK}
    assert len(back) in range(4, 8)
    assert corpus.summary.train.weighted == sum(back.values()) - 11
    assert corpus.summary.train.read == 21
    assert trained_on(made, tmp_path / "again")[1] == pairs


@pytest.mark.parametrize("weight", [0.01, 0.3, 1.0, 1.5, 2.718, 20.0])
def test_the_mean_of_a_weight_is_exact_and_evenly_spread(weight: float):
    rows = np.arange(20_000)
    times = PartUse(weight).times(rows)
    assert set(times.tolist()) <= {int(weight), int(weight) + 1}
    means = times.reshape(20, -1).mean(axis=1)
    assert np.abs(means - weight).max() < 0.006


def test_plain_files_keep_their_fingerprint_and_each_use_has_its_own(tmp_path: Path):
    plain, named = config(tmp_path, {}), config(tmp_path, {"weight": 1.0, "tag": ""})
    assert input_fingerprint(plain, 1) == input_fingerprint(named, 1)
    others = [config(tmp_path, {"weight": 2}), config(tmp_path, {"tag": "<a>"}), config(tmp_path, {}, {"weight": 2})]
    assert len({input_fingerprint(one, 1) for one in (plain, *others)}) == 4
    part = plain.result_settings()["files"]["train_source"][0]
    assert not {"weight", "tag"} & part.keys()


def test_a_vocabulary_file_must_know_the_tags(tmp_path: Path):
    (tmp_path / "own.model").write_bytes(sentencepiece_model(ENGLISH, 80))
    made = config(tmp_path, {"tag": "<BT>"}, vocabulary={"source": str(tmp_path / "own.model")})
    with pytest.raises(CorpusError, match=r"'<BT>' is unknown to .*own\.model: take a tag that it has"):
        prepare(made, Folder.at(tmp_path / "out"), 1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train_target": {"path": "b", "weight": 2}}, "weight and tag are for files of train_source"),
        ({"test_source": {"path": "b", "tag": "<x>"}}, "leave them out of test_source"),
        ({"train_source": {"path": "a", "tag": "two words"}}, "a symbol is a word without spaces"),
        ({"train_source": {"path": "a", "weight": 0}}, "greater than 0"),
        ({"train_source": {"path": "a", "weight": 21}}, "less than or equal to 20"),
    ],
)
def test_uses_that_make_no_sense_are_refused(change: dict[str, Any], words: str):
    names = {f"{split}_{side}": "a" for split in ("train", "valid", "test") for side in ("source", "target")}
    with pytest.raises(ValidationError, match=words):
        FilesConfig.model_validate({**names, **change})


def test_weights_that_leave_nothing_are_refused(tmp_path: Path):
    made = config(tmp_path, {"weight": 0.0001}, {"weight": 0.0001})
    with pytest.raises(CorpusError, match=r"the weights of corpus\.files leave none of 21 training pairs"):
        prepare(made, Folder.at(tmp_path / "out"), 1)
