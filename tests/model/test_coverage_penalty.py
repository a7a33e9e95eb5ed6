"""The coverage penalty (Wu et al., 2016, section 7) ranks hypotheses as the formula does, on every engine."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from hat_ray.errors import HatRayError
from hat_ray.model.hypotheses.found import Found, Task, coverage
from hat_ray.model.hypotheses.knobs import Decoding, why_not
from hat_ray.model.hypotheses.stepwise import find_on
from hat_ray.model.protocol import Engine
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.ctranslate2.runtime import CTRANSLATE2
from hat_ray.runtime.onnx.engine import OnnxEngine
from hat_ray.runtime.packed import PackedEngine
from hat_ray.runtime.protocol import RuntimeSettings
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from tests.model.plain_attention import plain_attention
from tests.runtime.models import ARCHITECTURES, a_model

PAD, EOS = 1, 2
ENGINES: dict[str, Callable[[SubTransformer], Engine]] = {
    "eager": lambda model: model,
    "packed": PackedEngine,
    "onnx": lambda model: OnnxEngine.of(model, "fp32"),
}
BY_CTRANSLATE2 = Architecture(
    EncoderShape(32, (64, 48), (4, 4)), DecoderShape(32, (64, 48), (4, 4), (4, 4), (1, 1)), qkv_dim=32
)
SOURCES = [[5, 6, 4, 7, 3, 6, EOS], [7, EOS], [4, 6, 5, EOS]]
BETA = 0.7


def choosy(architecture: Architecture, vocab: int) -> SubTransformer:
    """Return a model whose hypotheses attend to unlike places, and end at unlike lengths."""
    model = a_model(architecture, seed=4, vocab=vocab, output_bias=True, share_embeddings="none")
    last = model.decoder.layer(architecture.decoder.depth - 1).encoder_attn
    with torch.no_grad():
        last.query_weights()[0].mul_(6.0)
        assert model.decoder.output_bias is not None
        model.decoder.output_bias[EOS] += 1.0
    return model


def formula(attention: torch.Tensor) -> float:
    """Return the penalty's sum for shares (T, S), as the paper writes it."""
    sums = [sum(float(step[place]) for step in attention) for place in range(attention.shape[1])]
    return sum(math.log(min(total, 1.0)) for total in sums)


def all_ranked(
    model: SubTransformer, source: list[int], most: int, power: float
) -> list[tuple[float, tuple[int, ...]]]:
    """Return every translation of 1 to `most` tokens with its score, best first: no beam, no search."""
    words = [word for word in range(model.target_vocab_size) if word not in (PAD, EOS)]
    scored = []
    for length in range(1, most + 1):
        for tokens in itertools.product(words, repeat=length):
            whole = [*tokens, EOS]
            with torch.inference_mode():
                rows = model(torch.tensor([source]), torch.tensor([[EOS, *tokens]]))[0].log_softmax(-1)
            total = sum(float(rows[place, word]) for place, word in enumerate(whole))
            score = total / len(whole) ** power + BETA * formula(plain_attention(model, source, whole))
            scored.append((score, tokens))
    return sorted(scored, reverse=True)


def test_hypotheses_rank_as_among_all_translations_there_are() -> None:
    model, most, power = choosy(ARCHITECTURES["every layer its own, reach 3 1 2"], 8), 2, 0.6
    count = 6 + 6**2  # as many hypotheses as there are: the beam leaves out none
    task = Task(SOURCES, [[]] * 3, [1] * 3, [most] * 3, count, power)
    expected = [all_ranked(model, source, most, power) for source in SOURCES]
    for engine in ENGINES.values():
        found = find_on(engine(model), task, Decoding(n_best=count, coverage_penalty=BETA))
        without = find_on(engine(model), task, Decoding(n_best=count))
        for ours, before, ranked in zip(found, without, expected, strict=True):
            assert len(ours) == len({one.tokens for one in ours}) == count == len(ranked)
            scores = {tokens: score for score, tokens in ranked}
            assert [one.score for one in ours] == pytest.approx([scores[one.tokens] for one in ours], abs=2e-5)
            assert [one.score for one in ours] == pytest.approx([score for score, _ in ranked], abs=2e-5)
            assert [one.tokens for one in ours] != [one.tokens for one in before]
        assert any(ours[0].tokens != before[0].tokens for ours, before in zip(found, without, strict=True))


@pytest.mark.parametrize("name", [*ENGINES, "ctranslate2"])
def test_the_penalty_ranks_what_the_beam_finished_and_steers_no_step(name: str) -> None:
    model = choosy(BY_CTRANSLATE2, 40)
    engine = CTRANSLATE2.load(model, RuntimeSettings()) if name == "ctranslate2" else ENGINES[name](model)
    task = Task(SOURCES, [[]] * 3, [1] * 3, [9, 4, 6], 5, 0.8)
    plain = find_on(engine, task, Decoding(n_best=5))
    changed = 0
    for source, before, found in zip(
        SOURCES, plain, find_on(engine, task, Decoding(n_best=5, coverage_penalty=BETA)), strict=True
    ):
        scores = {one.tokens: one.score + BETA * formula(attended(model, source, one, name)) for one in before}
        assert {one.tokens: one.token_scores for one in found} == {one.tokens: one.token_scores for one in before}
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
        assert [one.score for one in found] == pytest.approx([scores[one.tokens] for one in found], abs=2e-5)
        changed += [one.tokens for one in found] != [one.tokens for one in before]
    assert changed
    best = find_on(engine, task, Decoding(coverage_penalty=BETA))
    assert [each[0].tokens for each in best] == [
        each[0].tokens for each in find_on(engine, task, Decoding(n_best=5, coverage_penalty=BETA))
    ]


def attended(model: SubTransformer, source: list[int], one: Found, name: str) -> torch.Tensor:
    """Return what the steps of a hypothesis attended to; CTranslate2 takes none for an end that the limit forces."""
    whole = plain_attention(model, source, [*one.tokens, EOS])
    limits = {tuple(each): limit for each, limit in zip(SOURCES, (9, 4, 6), strict=True)}
    return whole[:-1] if name == "ctranslate2" and len(one.tokens) == limits[tuple(source)] else whole


@pytest.mark.parametrize("name", [*ENGINES, "ctranslate2"])
def test_neighbours_change_neither_score_nor_rank(name: str) -> None:
    model = choosy(BY_CTRANSLATE2, 40)
    engine = CTRANSLATE2.load(model, RuntimeSettings()) if name == "ctranslate2" else ENGINES[name](model)
    wanted = Decoding(n_best=5, coverage_penalty=BETA, alignments=True)
    together = find_on(engine, Task(SOURCES, [[]] * 3, [1] * 3, [6] * 3, 5, 1.0), wanted)
    for source, found in zip(SOURCES, together, strict=True):
        [alone] = find_on(engine, Task([source], [[]], [1], [6], 5, 1.0), wanted)
        assert [(one.tokens, one.alignment) for one in alone] == [(one.tokens, one.alignment) for one in found]
        assert [one.score for one in alone] == pytest.approx([one.score for one in found], abs=2e-5)


def test_alignments_of_ctranslate2_are_of_all_heads() -> None:
    model = choosy(BY_CTRANSLATE2, 40)
    engine = CTRANSLATE2.load(model, RuntimeSettings())
    found = find_on(engine, Task(SOURCES, [[]] * 3, [1] * 3, [8] * 3, 5, 1.0), Decoding(n_best=5, alignments=True))
    for source, each in zip(SOURCES, found, strict=True):
        for one in each:
            shares = plain_attention(model, source, list(one.tokens))
            assert one.alignment == tuple((int(place), row) for row, place in enumerate(shares.argmax(1)))


def test_drawn_translations_are_ranked_so_as_well_and_the_draws_stay_the_same() -> None:
    model = choosy(BY_CTRANSLATE2, 40)
    task = Task(SOURCES, [[]] * 3, [1] * 3, [6] * 3, 5, 1.0)
    drawn = Decoding(n_best=12, sampling=True, seed=2)
    for source, before, found in zip(
        SOURCES, find_on(model, task, drawn), find_on(model, task, replace(drawn, coverage_penalty=BETA)), strict=True
    ):
        assert sorted(one.tokens for one in found) == sorted(one.tokens for one in before)
        scores = {
            one.tokens: one.score + BETA * formula(plain_attention(model, source, [*one.tokens, EOS])) for one in before
        }
        assert [one.score for one in found] == pytest.approx([scores[one.tokens] for one in found], abs=2e-5)
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_a_token_that_got_nothing_has_a_finite_cost() -> None:
    sums: Sequence[float] = np.array([0.0, 1.0, 3.0, 0.5], np.float32).tolist()
    assert coverage(sums) == pytest.approx(-126 * math.log(2) + math.log(0.5))
    assert coverage([]) == 0.0


def test_an_engine_that_shows_no_attention_is_refused_in_one_line_and_bounds_hold() -> None:
    model = choosy(BY_CTRANSLATE2, 40)
    task = Task(SOURCES, [[]] * 3, [1] * 3, [6] * 3, 5, 1.0)
    with pytest.raises(HatRayError, match=r"^alignments and coverage_penalty need the attention.*leave them out$"):
        find_on(_Silent(model), task, Decoding(coverage_penalty=BETA))
    assert why_not(Decoding(coverage_penalty=-0.1), 5) == "coverage_penalty must be from 0 to 100, got -0.1"
    assert not Decoding(coverage_penalty=0.1).is_plain


class _Silent:
    """A stepwise engine of another package, which keeps its attention to itself."""

    def __init__(self, model: SubTransformer) -> None:
        self.target_vocab_size, self.device = model.target_vocab_size, model.device
        self.start, self.best = model.start, model.best
