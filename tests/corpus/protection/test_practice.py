"""Training text teaches symbols: on both sides of a pair alike, at corresponding places, where it is asked to."""

import logging
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hat_ray.corpus.config import PROTECT, CorpusConfig, DataBinConfig
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.encode import LengthRules, encode_chunk
from hat_ray.corpus.prepare import prepare
from hat_ray.corpus.protection.masking import knows_symbols
from hat_ray.corpus.protection.practice import Practice, practised
from hat_ray.corpus.protection.spans import RULES_VERSION, SYMBOLS
from hat_ray.corpus.text.files import ParallelText
from hat_ray.corpus.text.fingerprint import input_fingerprint
from hat_ray.corpus.text.source import Chunk
from hat_ray.corpus.toy.draws import Dice
from hat_ray.errors import CorpusError
from hat_ray.recipe import load_run_recipe, parse_recipe
from hat_ray.storage.folder import Folder

WORDS = ("the", "a", "dog", "cat", "man", "sees", "runs", "and", "red", "small", "Tom", "house")
ANY = re.compile("|".join(SYMBOLS))


def a_text(pairs: int) -> ParallelText:
    dice = Dice(3, "words")
    lines = [" ".join(dice.pick(WORDS) for _ in range(4 + dice.below(8))) + "." for _ in range(pairs)]
    return ParallelText(lines, [line.replace("sees", "sieht").replace("and", "und").upper() for line in lines])


def config(place: Path, **settings: Any) -> CorpusConfig:
    text = a_text(600)
    for split, rows in (("train", slice(0, 500)), ("valid", slice(500, 550)), ("test", slice(550, 600))):
        (place / f"{split}.source").write_text("".join(f"{line}\n" for line in text.source[rows]))
        (place / f"{split}.target").write_text("".join(f"{line}\n" for line in text.target[rows]))
    files = {
        f"{split}_{side}": f"{split}.{side}" for split in ("train", "valid", "test") for side in ("source", "target")
    }
    values = {"source": "files", "files": {"folder": str(place), **files}, "vocab_size": 120, "byte_fallback": False}
    return CorpusConfig.model_validate({**values, **settings})


def prepared(made: CorpusConfig, place: Path) -> Corpus:
    prepare(made, Folder.at(place), 1)
    return Corpus.load(Folder.at(place))


def lines_of(corpus: Corpus) -> list[tuple[str, str]]:
    sides = (corpus.vocabularies.source, corpus.train.source), (corpus.vocabularies.target, corpus.train.target)
    return list(
        zip(*([known.decode(side[row].tolist()) for row in range(len(side))] for known, side in sides), strict=True)
    )


def test_a_corpus_of_files_teaches_each_symbol_on_both_sides_of_its_share_of_pairs(tmp_path: Path):
    corpus = prepared(config(tmp_path, protect=0.5), tmp_path / "out")
    pieces = corpus.vocabularies.source.pieces()
    assert [pieces.count(symbol) for symbol in SYMBOLS] == [1] * len(SYMBOLS)
    assert knows_symbols(set(pieces))
    lines = lines_of(corpus)
    taught = [pair for pair in lines if ANY.search(pair[0])]
    assert 0.4 * len(lines) < len(taught) < 0.6 * len(lines)
    seen = Counter(symbol for source, _ in taught for symbol in ANY.findall(source))
    assert set(seen) == set(SYMBOLS)
    for source, target in lines:
        assert sorted(ANY.findall(source)) == sorted(ANY.findall(target))
        assert len(set(ANY.findall(source))) == len(ANY.findall(source))
        assert "\u2047" not in source + target  # an unknown sub-word
    plain = prepared(config(tmp_path, protect=0), tmp_path / "plain")
    assert corpus.summary.train.kept_text == plain.summary.train.kept_text
    unlike = sum(one != other for one, other in zip(lines, lines_of(plain), strict=True))
    assert unlike == len(taught)
    for one in (corpus, plain):
        assert one.valid.source_text == plain.valid.source_text
        assert not any(ANY.search(line) for line in one.valid.source_text or ())
    assert not knows_symbols(set(plain.vocabularies.source.pieces()))


def test_the_same_seed_teaches_the_same_in_any_process_and_another_one_otherwise():
    text = a_text(300)
    first = Practice(0.5, 1).drawn(text, 4)
    assert first == Practice(0.5, 1).drawn(text, 4)
    assert first not in (Practice(0.5, 2).drawn(text, 4), Practice(0.5, 1).drawn(text, 5))
    assert 100 < len(first[0]) < 200
    assert Practice(0.0, 1).drawn(text, 4) == ([], ParallelText([], []))
    rows, everything = Practice(1.0, 1).drawn(text, 4)
    assert rows == list(range(300))
    assert all(ANY.search(line) for line in (*everything.source, *everything.target))


def test_a_tag_stays_the_first_word():
    text = a_text(400)
    tagged = ParallelText([f"<BT> {line}" for line in text.source], text.target)
    _, found = Practice(1.0, 1, ("<BT>",)).drawn(tagged, 0)
    assert all(line.startswith("<BT> ") for line in found.source)
    assert any(line.startswith(f"<BT> {SYMBOLS[0]}") for line in found.source)
    assert not any("<BT>" in line for line in found.target)


def test_what_both_sides_have_becomes_a_symbol_on_both():
    pair = "Ask Tom at http://ex.org about 15 dogs.", "Frag Tom unter http://ex.org nach 15 Hunden."
    found = [practised(*pair, Dice(number)) for number in range(200)]
    for value in ("Tom", "http://ex.org", "15"):
        assert any(value not in source + target for source, target in found)
        assert all((value in source) == (value in target) for source, target in found)


@given(st.text(max_size=40), st.text(max_size=40), st.integers(0, 10_000))
def test_any_pair_keeps_its_letters_and_gets_the_same_symbols_on_both_sides(source: str, target: str, seed: int):
    one, other = practised(source, target, Dice(seed))
    if not ANY.search(source + target) and not re.search("[\ue000-\ue00f]", source + target):
        assert sorted(ANY.findall(one)) == sorted(ANY.findall(other))
        assert 1 <= len(ANY.findall(one)) <= len(SYMBOLS)


def test_identities_change_only_where_symbols_are_taught(tmp_path: Path):
    off = config(tmp_path, protect=0)
    as_before = off.result_settings()
    assert "protect" not in as_before
    assert config(tmp_path).result_settings() == {**as_before, "protect": [PROTECT, RULES_VERSION]}
    ids = {share: input_fingerprint(config(tmp_path, protect=share), 1) for share in (None, 0, 0.1, PROTECT)}
    assert ids[None] == ids[PROTECT]
    assert len(set(ids.values())) == 3
    toy = CorpusConfig()
    assert toy.protect_share == 0
    assert "protect" not in toy.result_settings()
    given = {"source": "my.model"}
    assert "protect" not in config(tmp_path, vocabulary=given).result_settings()


def test_a_run_from_before_protection_keeps_its_corpus(tmp_path: Path):
    files = "{train_source: a, train_target: b, test_source: c, test_target: d, valid_every: 9}"
    text = f"name: mine\ncorpus: {{source: files, files: {files}}}\n"
    assert parse_recipe(text, "mine").corpus.protect_share == PROTECT
    (tmp_path / "recipe.yaml").write_text(text)
    assert load_run_recipe(Folder.at(tmp_path)).corpus.protect_share == 0
    assert load_run_recipe(Folder.at(tmp_path), ["corpus.protect=0.2"]).corpus.protect_share == 0.2
    (tmp_path / "recipe.yaml").write_text(text.replace("{source: files,", "{source: files, protect: null,"))
    assert load_run_recipe(Folder.at(tmp_path)).corpus.protect_share == PROTECT


def test_a_vocabulary_file_with_symbols_teaches_them_and_one_without_is_used_as_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    files = {}
    for name, share in (("with", 0.2), ("without", 0)):
        learnt = prepared(config(tmp_path, protect=share), tmp_path / name)
        files[name] = tmp_path / f"{name}.model"
        files[name].write_bytes(learnt.vocabularies.source.files()["sentencepiece.model"])
    caplog.set_level(logging.INFO, logger="hat_ray.corpus.prepare")
    before = prepared(config(tmp_path, protect=0, vocabulary={"source": str(files["without"])}), tmp_path / "before")
    assert "not protected" not in caplog.text
    kept = prepared(config(tmp_path, vocabulary={"source": str(files["without"])}), tmp_path / "kept")
    assert caplog.text.count("not protected") == 1
    assert lines_of(kept) == lines_of(before)
    assert kept.summary.fingerprint == before.summary.fingerprint
    taught = prepared(config(tmp_path, vocabulary={"source": str(files["with"])}), tmp_path / "taught")
    assert any(ANY.search(source) for source, _ in lines_of(taught))
    with pytest.raises(CorpusError, match=r"corpus\.protect needs a vocabulary with the symbols"):
        prepared(config(tmp_path, protect=0.1, vocabulary={"source": str(files["without"])}), tmp_path / "refused")


def test_a_data_bin_teaches_no_symbols():
    values = {"source": "fairseq", "fairseq": DataBinConfig(folder="data-bin")}
    assert CorpusConfig.model_validate(values).protect_share == 0
    with pytest.raises(ValidationError, match="protect is for text"):
        CorpusConfig.model_validate({**values, "protect": 0.1})


@pytest.mark.parametrize("rules", [LengthRules(9, 0), LengthRules(80, 1.05), LengthRules(80, 0)])
def test_no_pair_comes_or_goes_because_it_teaches_symbols(tmp_path: Path, rules: LengthRules):
    known = prepared(config(tmp_path, protect=1), tmp_path / "out").vocabularies
    text = a_text(400)
    plain, taught = (encode_chunk(Chunk(0, 0, text), known, rules, practice) for practice in (None, Practice(1.0, 1)))
    counts = [(len(one.source), len(one.target), one.dropped_long, one.dropped_ratio) for one in (plain, taught)]
    assert counts[0] == counts[1]
    assert max(taught.source.lengths.max(), taught.target.lengths.max()) <= rules.max_length
    symbols = [known.source.pieces().index(symbol) for symbol in SYMBOLS]
    with_symbols = sum(bool(set(symbols) & set(taught.source[row].tolist())) for row in range(len(taught.source)))
    assert 0 < with_symbols <= len(taught.source)
    assert (with_symbols == len(taught.source)) == (rules.max_length == 80 and not rules.max_ratio)
