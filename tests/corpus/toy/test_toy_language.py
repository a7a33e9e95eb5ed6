"""The built-in pair against its aims. Bounds are loose: they say when the language has changed character."""

import hashlib
import re
from collections import Counter

import pytest
import sacrebleu

from hat_ray.corpus.config import ToyConfig
from hat_ray.corpus.text.files import ParallelText
from hat_ray.corpus.toy.generate import generate
from hat_ray.corpus.toy.lexicon import lexicon

Texts = dict[str, ParallelText]


@pytest.fixture(scope="module")
def texts() -> Texts:
    return generate(ToyConfig())


def words(line: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", line)


def bleu(lines: ParallelText, other: list[str]) -> float:
    return float(sacrebleu.corpus_bleu(other, [list(lines.target)]).score)


def test_the_first_thousand_pairs_never_change(texts: Texts) -> None:
    train = texts["train"]
    pairs = zip(train.source[:1000], train.target[:1000], strict=True)
    digest = hashlib.sha256("".join(f"{source}\t{target}\n" for source, target in pairs).encode()).hexdigest()
    assert digest == "1cea59293da4f0fba429a7eb8d96abfacf090cb5752a6f38a5e0c1fdf87ef33e"


def test_sizes_are_as_asked_and_no_source_sentence_occurs_twice(texts: Texts) -> None:
    assert {split: len(text) for split, text in texts.items()} == {"train": 20_000, "valid": 1_000, "test": 1_000}
    assert len({line for text in texts.values() for line in text.source}) == 22_000


def test_test_and_validation_do_not_depend_on_the_size_of_training(texts: Texts) -> None:
    small = generate(ToyConfig(train_pairs=10))
    assert small["test"] == texts["test"]
    assert small["valid"] == texts["valid"]


def test_another_seed_speaks_the_same_language_in_other_sentences(texts: Texts) -> None:
    other = generate(ToyConfig(train_pairs=2_000, valid_pairs=1, test_pairs=1, seed=2))["train"]
    assert other.source[:50] != texts["train"].source[:50]
    known = {word for line in texts["train"].source for word in words(line)}
    tokens = [word for line in other.source for word in words(line)]
    assert sum(word in known for word in tokens) / len(tokens) > 0.98


def test_sentences_are_as_long_as_those_of_real_corpora(texts: Texts) -> None:
    lengths = sorted(len(words(line)) for line in texts["train"].source)
    assert 10 <= lengths[len(lengths) // 2] <= 14
    assert 17 <= lengths[len(lengths) * 9 // 10] <= 23
    assert lengths[0] >= 4
    assert 35 <= lengths[-1] <= 40


def test_the_lexicon_has_its_long_tail(texts: Texts) -> None:
    source, target = (
        Counter(w for line in side for w in words(line)) for side in (texts["train"].source, texts["train"].target)
    )
    assert 2_000 <= len(source) <= 3_000
    assert 4_000 <= len(target) <= 6_000
    assert 0.2 <= sum(count == 1 for count in target.values()) / len(target) <= 0.35
    unseen = [word not in target for line in texts["test"].target for word in words(line)]
    assert 0.003 <= sum(unseen) / len(unseen) <= 0.02


def test_a_tenth_of_the_stems_is_ambiguous() -> None:
    language = lexicon()
    choices = [*language.nouns.values(), *language.verbs.values(), language.adjectives]
    ambiguous = sum(len(word.senses.options) > 1 for choice in choices for word in choice.items)  # type: ignore[attr-defined]
    stems = sum(len(choice.items) for choice in [*choices, language.times, language.names])  # type: ignore[attr-defined]
    assert 0.10 <= ambiguous / stems <= 0.15


def test_copying_is_worth_nothing_and_free_variation_sets_the_ceiling(texts: Texts) -> None:
    test = texts["test"]
    assert bleu(test, list(test.source)) < 1
    other = generate(ToyConfig(train_pairs=1), variation=1)["test"]
    assert other.source == test.source
    assert 80 <= bleu(test, list(other.target)) <= 90


def test_every_line_is_a_written_sentence(texts: Texts) -> None:
    for text in texts.values():
        for line in (*text.source, *text.target):
            assert re.fullmatch(r"[A-ZÄÖÜ][A-Za-zÄÖÜäöü]*(,? [A-Za-zÄÖÜäöü]+)*\.", line), line
