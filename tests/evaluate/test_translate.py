import logging
import re

import pytest
import torch

from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.corpus.vocabulary.learn import learn_vocabulary
from hat_ray.errors import HatRayError
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.hypotheses import hypotheses, translate_as
from hat_ray.evaluate.translate import translate
from hat_ray.model.config import ModelConfig
from hat_ray.model.hypotheses.knobs import Decoding
from hat_ray.model.hypotheses.lines import plan_batches
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape

torch.set_num_threads(1)
LINES = [
    "the red dog sees a cat",
    "",
    "a cat",
    "the old red dog and the small cat see a bird near the tall tree",
    "   ",
    "a bird sees the dog",
    "dog",
    "the tree and the bird and the cat",
]
SHAPE = Architecture(EncoderShape(16, (32, 32), (2, 2)), DecoderShape(16, (32,), (2,), (2,), (2,)), qkv_dim=16)
CONFIG = EvaluateConfig(beam=3, max_length_factor=0, max_length_extra=12, batch_tokens=30)


@pytest.fixture(scope="module")
def vocabularies() -> Vocabularies:
    return Vocabularies.of_both(learn_vocabulary([line for line in LINES if line.strip()] * 3, 48, byte_fallback=False))


@pytest.fixture(scope="module")
def model(vocabularies: Vocabularies) -> SubTransformer:
    return SubTransformer(SHAPE, len(vocabularies.source), ModelConfig(), seed=3)


def test_batches_give_each_line_what_it_gets_alone_in_the_order_given(
    model: SubTransformer, vocabularies: Vocabularies
) -> None:
    together = translate(model, vocabularies, LINES, CONFIG)
    alone = [translate(model, vocabularies, [line], CONFIG)[0] for line in LINES]
    assert together == alone
    assert len(set(together)) > 3  # else the order would not be tested


def test_empty_lines_stay_empty(model: SubTransformer, vocabularies: Vocabularies) -> None:
    translations = translate(model, vocabularies, LINES, CONFIG)
    assert [line for line, source in zip(translations, LINES, strict=True) if not source.strip()] == ["", ""]
    blank = ["", " ", "\u2581", "\u200b\ufeff", "\t\x07", "\u2581 \u00ad\u3000"]
    assert translate(model, vocabularies, blank, CONFIG) == [""] * len(blank)
    assert translate(model, vocabularies, ["\u2581dog"], CONFIG) != [""]
    assert translate(model, vocabularies, [], CONFIG) == []


def test_overlong_lines_are_cut_with_one_warning_that_counts_them(
    model: SubTransformer, vocabularies: Vocabularies, caplog: pytest.LogCaptureFixture
) -> None:
    config = CONFIG.model_copy(update={"max_source_length": 8})
    long = [" ".join(["dog"] * n) for n in (40, 3, 50)]
    with caplog.at_level(logging.WARNING):
        translations = translate(model, vocabularies, long, config)
    assert translations[0] == translations[2]  # both are the same eight tokens now
    (record,) = caplog.records
    assert record.getMessage() == (
        "2 of 3 lines are longer than 8 tokens and were cut (first: line 1 of 41 tokens); "
        "split them, or raise evaluate.max_source_length"
    )


@pytest.mark.parametrize(
    ("settings", "positions", "longest"),
    [({"max_source_length": 8}, 1024, 8), ({"max_source_length": 256}, 16, 16)],
    ids=["setting", "model"],
)
def test_hypotheses_name_what_they_cut_by_its_line_its_length_and_the_limit(
    vocabularies: Vocabularies,
    caplog: pytest.LogCaptureFixture,
    settings: dict[str, int],
    positions: int,
    longest: int,
) -> None:
    short = SubTransformer(SHAPE, len(vocabularies.source), ModelConfig(max_positions=positions), seed=3)
    config = CONFIG.model_copy(update=settings)
    lines = ["dog", "", " ".join(["dog"] * 40), "a cat", " ".join(["dog"] * 50)]
    whole, cut = ("are longer than", "and were cut")
    with caplog.at_level(logging.WARNING):
        found = hypotheses(short, vocabularies, lines, config, Decoding(n_best=2), first=513)
        assert [one.text for one in found[2]] == [one.text for one in found[4]]
        translate_as(short, vocabularies, lines, config, Decoding(no_repeat_ngram_size=3), first=7)
        translate_as(short, vocabularies, lines, config, Decoding(retry_loops=True), first=1)
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        f"2 of 4 lines {whole} {longest} tokens {cut} (first: line {number} of 41 tokens)" for number in (515, 9, 3)
    ]
    caplog.clear()
    hypotheses(short, vocabularies, lines[:2], config, Decoding(n_best=2))
    assert not caplog.records


def test_a_prefix_that_no_translation_can_hold_is_refused(vocabularies: Vocabularies) -> None:
    short = SubTransformer(SHAPE, len(vocabularies.source), ModelConfig(max_positions=16), seed=3)
    lines = ["dog", "", "a cat"]
    hypotheses(short, vocabularies, lines, CONFIG, Decoding(prefix=" ".join(["dog"] * 15)))
    rule = "the prefix of line 1 has 16 tokens, but the model's translations have at most 15: shorten it"
    for call in (hypotheses, translate_as):
        with pytest.raises(HatRayError, match=re.escape(rule)):
            call(short, vocabularies, lines, CONFIG, Decoding(prefix=" ".join(["dog"] * 16)))
    with pytest.raises(HatRayError, match="the prefix of line 13 has 20 tokens"):
        hypotheses(short, vocabularies, lines, CONFIG, Decoding(prefix=("", "", " ".join(["dog"] * 20))), first=11)


def test_the_model_keeps_its_mode_and_dropout_is_off(vocabularies: Vocabularies, model: SubTransformer) -> None:
    model.train()
    first = translate(model, vocabularies, LINES, CONFIG)
    assert model.training
    model.eval()
    assert translate(model, vocabularies, LINES, CONFIG) == first
    assert not model.training


def test_progress_counts_lines_up_to_all(model: SubTransformer, vocabularies: Vocabularies) -> None:
    seen: list[tuple[int, int]] = []
    translate(model, vocabularies, LINES, CONFIG, lambda done, total, figures: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (len(LINES), len(LINES))


def test_batches_hold_every_row_once_longest_first_within_the_budget() -> None:
    lengths = dict(enumerate([5, 9, 2, 9, 30, 1, 4, 4]))
    batches = list(plan_batches(lengths, 18))
    assert sorted(row for batch in batches for row in batch) == list(lengths)
    assert all(len(batch) == 1 or len(batch) * lengths[batch[0]] <= 18 for batch in batches)
    assert [lengths[row] for batch in batches for row in batch] == sorted(lengths.values(), reverse=True)
