import logging

import pytest
import torch

from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.corpus.vocabulary.learn import learn_vocabulary
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.translate import translate
from hat_ray.model.config import ModelConfig
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
CONFIG = EvaluateConfig(beam=3, max_length_factor=0, max_length_extra=12, batch_tokens=30)


@pytest.fixture(scope="module")
def vocabularies() -> Vocabularies:
    return Vocabularies.of_both(learn_vocabulary([line for line in LINES if line.strip()] * 3, 48, byte_fallback=False))


@pytest.fixture(scope="module")
def model(vocabularies: Vocabularies) -> SubTransformer:
    shape = Architecture(EncoderShape(16, (32, 32), (2, 2)), DecoderShape(16, (32,), (2,), (2,), (2,)), qkv_dim=16)
    return SubTransformer(shape, len(vocabularies.source), ModelConfig(), seed=3)


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
    assert "2 of 3 lines are longer than 8 tokens" in record.getMessage()


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
