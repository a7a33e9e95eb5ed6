"""The rules that a pair keeps to be trained on, each against plain code."""

import pytest

from hat_ray.corpus.cleaning.rules import HeldSources, PairRules, Reason
from hat_ray.corpus.cleaning.scripts import Script, scripts_of
from hat_ray.corpus.config import CorpusConfig, Deduplicate
from hat_ray.corpus.splits import pair_rules
from hat_ray.corpus.text.files import ParallelText
from hat_ray.corpus.text.source import PairedLines
from hat_ray.corpus.text.survey import survey
from hat_ray.errors import CorpusError

PAIRS = [
    *(("a", "x"), ("b", "y"), ("a", "z"), ("c", "y"), ("a", "x"), ("d", "z"), ("b", "b")),
    *(("b", "b"), ("", "x"), ("a", ""), ("e", "w")),
]


def kept(deduplicate: Deduplicate = False, **settings: bool) -> list[tuple[str, str]]:
    source = PairedLines(ParallelText([pair[0] for pair in PAIRS], [pair[1] for pair in PAIRS]), 3)
    found = survey(source, PairRules(deduplicate=deduplicate, **settings))
    return [
        pair for chunk in found.text.all_chunks() for pair in zip(chunk.text.source, chunk.text.target, strict=True)
    ]


@pytest.mark.parametrize(
    ("deduplicate", "of"),
    [(True, lambda pair: {pair}), ("source", lambda pair: {pair[0]}), ("target", lambda pair: {pair[1] + "'"}),
     ("either", lambda pair: {pair[0], pair[1] + "'"})],
)  # fmt: skip
def test_deduplication_by_either_side(deduplicate: Deduplicate, of) -> None:
    seen: set[object] = set()
    expected = []
    for pair in PAIRS:
        if all(pair) and not of(pair) & seen:
            expected.append(pair)
        if all(pair):
            seen |= of(pair)
    assert kept(deduplicate) == expected
    assert len(expected) < len(kept(False)) == 9


def test_identical_sides_are_left_out_and_a_leak_is_counted_as_a_leak() -> None:
    assert kept(drop_identical=True) == [pair for pair in PAIRS if all(pair) and pair[0] != pair[1]]
    rules = PairRules(HeldSources.of(["b"], []), drop_identical=True)
    assert rules.reasons(["b", "c", "c", ""], ["b", "c", "d", ""], 0).tolist() == [
        *(Reason.LEAK, Reason.IDENTICAL, Reason.KEPT, Reason.EMPTY)
    ]


@pytest.mark.parametrize(
    ("language", "line", "share"),
    [
        ("ru", "Привет, world 12!", 6 / 11),
        ("ja", "東京タワーへ GO", 6 / 8),
        ("ko", "안녕 abc", 2 / 5),
        ("zh-Hant", "漢字", 1.0),
        ("sr-Latn", "Zdravo свет", 6 / 10),
        ("de", "1234 -- !", 1.0),
        ("pt_BR", "não", 1.0),
        ("el", "abc", 0.0),
    ],
)
def test_the_share_of_letters_in_a_languages_script(language: str, line: str, share: float) -> None:
    assert Script(scripts_of(language)).share(line) == pytest.approx(share)


def test_pairs_of_another_script_are_left_out_and_an_unknown_script_is_refused() -> None:
    config = CorpusConfig(source_language="en", target_language="ru", min_script_share=0.5)
    rules = pair_rules(config, HeldSources(), 0)
    reasons = rules.reasons(["a dog", "собака", "a dog", "12"], ["собака", "собака", "a dog", "12"], 0)
    assert reasons.tolist() == [Reason.KEPT, Reason.SCRIPT, Reason.SCRIPT, Reason.KEPT]
    with pytest.raises(ValueError, match=r"script of target_language, and that of 'xx' is not known"):
        CorpusConfig(target_language="xx", min_script_share=0.5)
    assert CorpusConfig(target_language="xx").min_script_share == 0


def test_what_left_nothing_is_named() -> None:
    source = PairedLines(ParallelText(["a", "b", ""], ["a", "x", "y"]))
    with pytest.raises(CorpusError) as caught:
        survey(source, PairRules(HeldSources.of([], ["b"]), drop_identical=True))
    assert str(caught.value).startswith(
        "no training pair is left of 3: 1 lack a side, 1 have a source of validation or test (corpus.leaks), 1 have "
        "identical sides (corpus.drop_identical); give other text"
    )


def test_new_rules_at_their_defaults_change_no_fingerprint() -> None:
    plain = CorpusConfig().result_settings()
    assert not {"leaks", "drop_identical", "min_script_share"} & plain.keys()
    assert plain["deduplicate"] is False
    assert CorpusConfig(leaks="warn").result_settings()["leaks"] == "warn"
