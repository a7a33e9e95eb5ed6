"""Settings of a vocabulary that is learned from the text."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from hat_ray.corpus.config import CorpusConfig, ToyConfig
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.prepare import prepare
from hat_ray.corpus.text.fingerprint import input_fingerprint
from hat_ray.corpus.toy.generate import generate
from hat_ray.corpus.vocabulary import UNK
from hat_ray.corpus.vocabulary.config import VocabularyConfig
from hat_ray.corpus.vocabulary.learn import learn_vocabulary
from hat_ray.errors import CorpusError
from hat_ray.storage.folder import Folder
from tests.corpus.vocabulary.foreign_files import ENGLISH, GERMAN, sentencepiece_model

TOY = ToyConfig(train_pairs=300, valid_pairs=10, test_pairs=10)


def test_a_character_that_coverage_leaves_out_is_unknown() -> None:
    lines = [*["a dog sees a cat"] * 60, "a 漢 cat"]
    how = VocabularyConfig(character_coverage=0.995)
    assert UNK not in learn_vocabulary(lines, 20, byte_fallback=False).encode("漢")
    assert UNK in learn_vocabulary(lines, 20, byte_fallback=False, how=how).encode("漢")


def test_lines_beyond_the_longest_are_left_out() -> None:
    lines = ["dogs see cats"] * 9 + ["zebra " * 40] * 9
    usual = learn_vocabulary(lines, 22, byte_fallback=False)
    short = learn_vocabulary(lines, 20, byte_fallback=False, how=VocabularyConfig(max_sentence_bytes=60))
    assert "z" in {piece.strip("\u2581") for piece in usual.pieces()}
    assert "z" not in "".join(short.pieces())


def test_lines_that_are_too_long_are_counted_in_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    how = VocabularyConfig(max_sentence_bytes=24)
    lines = ["a dog sees a cat", "ä" * 12, "ä" * 13, "a dog " * 9]
    learn_vocabulary(lines[:2] * 20, 20, byte_fallback=False, how=how)
    assert not caplog.messages
    learned = learn_vocabulary([*lines * 3, *lines[:2] * 20], 20, byte_fallback=False, how=how)
    left_out = (
        "the vocabulary is learned without 6 of 52 lines, which are longer than corpus.vocabulary.max_sentence_bytes 24"
    )
    assert caplog.messages == [f"{left_out}: raise it, or cut them"]
    assert learned.files() == learn_vocabulary([*lines[:2] * 23], 20, byte_fallback=False, how=how).files()
    with pytest.raises(CorpusError, match=r"all 2 are longer: raise corpus\.vocabulary\.max_sentence_bytes"):
        learn_vocabulary(lines[2:], 20, byte_fallback=False, how=how)


@pytest.mark.parametrize("byte_fallback", [True, False])
def test_the_mark_of_a_blank_round_trips_as_text(byte_fallback: bool) -> None:
    lines = ["a dog \u2581 cat", "dog\u2581cat", "\u2581\u2581 a dog\u2581"]
    own = learn_vocabulary(lines * 20, 275 if byte_fallback else 18, byte_fallback=byte_fallback)
    for line in (*lines, "cat \u2581a"):
        assert own.decode(own.encode(line)) == line
    assert own.encode("dog\u2581cat") != own.encode("dog cat")
    unseen = learn_vocabulary(["a dog sees cat"] * 9, 275 if byte_fallback else 18, byte_fallback=byte_fallback)
    assert unseen.decode(unseen.encode("a\u2581dog")) == ("a\u2581dog" if byte_fallback else "a dog")


def test_a_symbol_is_one_entry_wherever_it_stands() -> None:
    how = VocabularyConfig(symbols=("<2de>", "@x@"))
    own = learn_vocabulary(ENGLISH, 90, byte_fallback=False, how=how)
    ids = [own.pieces().index(symbol) for symbol in how.symbols]
    assert own.encode("<2de> a dog").count(ids[0]) == 1
    assert own.encode("a@x@dog").count(ids[1]) == 1
    assert own.decode(own.encode("<2de> a dog")) == "<2de> a dog"
    assert len(own) == 90


def test_settings_at_their_default_change_no_byte() -> None:
    usual = learn_vocabulary(ENGLISH, 60, byte_fallback=False)
    assert learn_vocabulary(ENGLISH, 60, byte_fallback=False, how=VocabularyConfig()).files() == usual.files()
    assert input_fingerprint(CorpusConfig(toy=TOY), 1) == input_fingerprint(
        CorpusConfig(toy=TOY, vocabulary=VocabularyConfig()), 1
    )
    changed = CorpusConfig(toy=TOY, vocabulary=VocabularyConfig(shared=False))
    assert input_fingerprint(changed, 1) != input_fingerprint(CorpusConfig(toy=TOY), 1)


def test_each_side_learns_from_its_own_lines(tmp_path: Path) -> None:
    config = CorpusConfig(toy=TOY, vocab_size=300, vocabulary=VocabularyConfig(shared=False))
    prepare(config, Folder.at(tmp_path), seed=1)
    both, train = Corpus.load(Folder.at(tmp_path)).vocabularies, generate(TOY)["train"]
    for vocabulary, lines in ((both.source, train.source), (both.target, train.target)):
        assert vocabulary.files() == learn_vocabulary(lines, 300, byte_fallback=False).files()


def test_the_content_of_a_vocabulary_file_decides_and_not_its_place(tmp_path: Path) -> None:
    def fingerprint(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        named = VocabularyConfig(source=str(tmp_path / name))
        return input_fingerprint(CorpusConfig(toy=TOY, vocabulary=named), 1)

    first, other = sentencepiece_model(ENGLISH, 80), sentencepiece_model(GERMAN, 80)
    assert fingerprint("a.spm", first) == fingerprint("b.spm", first)
    assert fingerprint("a.spm", other) != fingerprint("b.spm", first)


def test_a_vocabulary_of_another_script_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    greek = [line.translate({ord("a") + one: ord("α") + one for one in range(24)}) for line in GERMAN]
    (tmp_path / "greek.spm").write_bytes(sentencepiece_model(greek, 80))
    named = VocabularyConfig(source=str(tmp_path / "greek.spm"))
    with pytest.raises(CorpusError, match=r"\d+% of the source's sub-words are unknown to .*greek.spm") as caught:
        prepare(CorpusConfig(toy=TOY, vocabulary=named), Folder.at(tmp_path / "out"), seed=1)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"symbols": ["a b"]}, "a symbol is a word without spaces"),
        ({"symbols": ["a", "a"]}, "a symbol stands once"),
        ({"source": "v.spm", "character_coverage": 0.99}, "character_coverage is for a vocabulary that is learned"),
        ({"source": "v.txt", "pieces": "a", "bpe_codes": "b"}, "pieces and bpe_codes both cut words"),
        ({"bpe_codes": "codes"}, "vocabulary.bpe_codes needs a vocabulary file"),
        ({"character_coverage": 0.5}, "greater than or equal to 0.9"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        CorpusConfig(toy=TOY, vocabulary=VocabularyConfig(**settings))
