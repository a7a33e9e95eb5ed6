"""Decoding with every setting finds what a plain restatement finds, on every engine."""

import random
import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import hat_ray as public
from hat_ray.errors import HatRayError
from hat_ray.model.beam import beam_search
from hat_ray.model.hypotheses.found import Found, Task
from hat_ray.model.hypotheses.knobs import KNOBS, Decoding, why_not
from hat_ray.model.hypotheses.loops import is_loop
from hat_ray.model.hypotheses.rules import drawn_words
from hat_ray.model.hypotheses.search import _generator, find
from hat_ray.model.hypotheses.stepwise import find_on
from hat_ray.model.protocol import Engine
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.onnx.engine import OnnxEngine
from hat_ray.runtime.packed import PackedEngine
from tests.model.plain_attention import plain_attention
from tests.model.plain_search import plain_search
from tests.runtime.models import ARCHITECTURES, VOCAB, a_model

EOS = 2
ENGINES: dict[str, Callable[[SubTransformer], Engine]] = {
    "eager": lambda model: model,
    "packed": PackedEngine,
    "onnx": lambda model: OnnxEngine.of(model, "fp32"),
}
SOURCES = [[5, 17, 60, 33, 8, EOS], [70, 4, EOS], [44, 91, 12, 6, EOS], [9, EOS]]
WANTED = {
    "n-best": ({"n_best": 4}, {}),
    "length penalty": ({}, {"length_penalty": 0.3}),
    "no run of 1 twice": ({"no_repeat_ngram_size": 1}, {"ngram": 1}),
    "no run of 2 twice": ({"no_repeat_ngram_size": 2}, {"ngram": 2}),
    "no run of 3 twice": ({"no_repeat_ngram_size": 3}, {"ngram": 3}),
    "repetition costs": ({"repetition_penalty": 1.7}, {"penalty": 1.7}),
    "repetition pays": ({"repetition_penalty": 0.05}, {"penalty": 0.05}),
    "prefix": ({"n_best": 2}, {"prefix": [50, 51]}),
    "shortest": ({"n_best": 2}, {"least": 5}),
    "together": (
        {"n_best": 3, "no_repeat_ngram_size": 2, "repetition_penalty": 1.3},
        {"ngram": 2, "penalty": 1.3, "prefix": [20], "length_penalty": 0.6, "least": 4},
    ),
}


@pytest.fixture(scope="module")
def model() -> SubTransformer:
    settings = {"output_bias": True, "share_embeddings": "none", "scale_embeddings": False, "positions": "learned"}
    model = a_model(ARCHITECTURES["every layer its own, reach 3 1 2"], seed=4, **settings)
    with torch.no_grad():
        assert model.decoder.output_bias is not None
        model.decoder.output_bias[EOS] += 2.0  # translations end at many lengths
    return model


def a_task(beam: int = 4, **plain: object) -> Task:
    """Return a batch whose sources have bounds of their own."""
    most = [9, 7, 8, 6]
    least, prefix = int(plain.get("least", 1)), list(plain.get("prefix", ()))
    return Task(SOURCES, [prefix] * 4, [least] * 4, most, beam, float(plain.get("length_penalty", 1.0)))


def logs_of(model: SubTransformer, source: list[int]) -> Callable[[list[int]], list[float]]:
    def logs(tokens: list[int]) -> list[float]:
        with torch.inference_mode():
            found = model(torch.tensor([source]), torch.tensor([[EOS, *tokens]]))[0, -1].log_softmax(-1)
        return [float(value) for value in found]

    return logs


def assert_same(ours: list[Found], theirs: list, count: int) -> None:
    assert [list(one.tokens) for one in ours] == [one.tokens for one in theirs[:count]]
    for one, other in zip(ours, theirs, strict=False):
        assert one.score == pytest.approx(other.score, abs=2e-5)
        assert one.token_scores == pytest.approx(other.token_scores, abs=2e-5)


@pytest.mark.parametrize("name", WANTED)
def test_every_engine_finds_what_a_plain_search_finds(model: SubTransformer, name: str) -> None:
    settings, plain = WANTED[name]
    task, wanted = a_task(**plain), Decoding(**settings)
    expected = [
        plain_search(logs_of(model, source), beam=4, most=most, **plain)
        for source, most in zip(task.sources, task.most, strict=True)
    ]
    without = [[list(one.tokens) for one in each] for each in find_on(model, a_task(), Decoding(n_best=4))]
    changed = [[one.tokens for one in each] for each in expected]
    assert name == "n-best" or changed != without, "the setting changes nothing here"
    for engine in ENGINES.values():
        for ours, theirs in zip(find_on(engine(model), task, wanted), expected, strict=True):
            assert_same(ours, theirs, wanted.n_best)


def test_the_best_hypotheses_are_those_of_the_plain_beam_search(model: SubTransformer) -> None:
    source = torch.tensor([[5, 17, 60, EOS], [1, 70, 4, EOS]])
    task = Task([[5, 17, 60, EOS], [70, 4, EOS]], [[], []], [1, 1], [8, 8], 3, 0.8)
    expected = beam_search(model, source, beam=3, length_penalty=0.8, max_length=8)
    for ours, theirs in zip(find_on(model, task, Decoding(n_best=3)), expected, strict=True):
        assert [(*one.tokens, EOS) for one in ours] == [one.tokens for one in theirs]
        assert [one.score for one in ours] == pytest.approx([one.score for one in theirs], abs=1e-5)


def test_a_sentence_does_not_depend_on_its_neighbours_nor_does_a_draw(model: SubTransformer) -> None:
    for wanted in (
        Decoding(n_best=4, no_repeat_ngram_size=2),
        Decoding(n_best=4, sampling=True, seed=7, temperature=1.3),
    ):
        task = a_task()
        together = find_on(model, task, wanted)
        for row, found in enumerate(together):
            alone = Task([SOURCES[row]], [[]], [1], [task.most[row]], 4, 1.0)
            [by_itself] = find_on(model, alone, wanted)
            assert [one.tokens for one in by_itself] == [one.tokens for one in found]


def test_draws_follow_the_models_probabilities(model: SubTransformer) -> None:
    source, draws = SOURCES[1], 1_000
    task = Task([source], [[]], [1], [1], 1, 1.0)
    [found] = find_on(model, task, Decoding(sampling=True, seed=3, n_best=draws, temperature=2.0, top_k=6))
    logs = np.array(logs_of(model, source)([]))
    logs[[1, EOS]] = -np.inf  # padding, and an end that would come too early
    best = np.argsort(-logs)[:6]
    expected = np.exp(logs[best] / 2.0) / np.exp(logs[best] / 2.0).sum()
    counts = np.array([sum(one.tokens[0] == word for one in found) for word in best])
    assert counts.sum() == draws  # nothing but the best six
    assert (np.abs(counts / draws - expected) < 4 * np.sqrt(expected * (1 - expected) / draws)).all()


def test_the_same_seed_draws_the_same_and_another_seed_or_none_draws_otherwise(model: SubTransformer) -> None:
    def drawn(engine: Engine, seed: int | None) -> list[list[tuple[int, ...]]]:
        found = find_on(engine, a_task(), Decoding(sampling=True, seed=seed, n_best=3))
        return [[one.tokens for one in each] for each in found]

    assert _generator(5, [7, EOS]).random() != _generator(5, [8, EOS]).random()  # each line has draws of its own
    first = drawn(model, 5)
    assert all(drawn(engine(model), 5) == first for engine in ENGINES.values())
    assert len({str(each) for each in (first, drawn(model, 6), drawn(model, None), drawn(model, None))}) == 4


def test_chances_choose_by_the_shares() -> None:
    values = np.log(np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [0.1, 0.6, 0.3], [0.0, 0.5, 0.5]]) + 1e-300)
    values[3, 0] = -np.inf
    assert drawn_words(values, np.array([0.0, 0.5, 0.99, 0.0]), 1.0, 0).tolist() == [0, 1, 2, 1]
    assert drawn_words(values, np.array([0.99, 0.99, 0.99, 0.99]), 1.0, 1).tolist()[:3] == [0, 0, 1]
    assert drawn_words(values, np.array([0.4, 0.4, 0.4, 0.4]), 0.05, 0).tolist()[:3] == [0, 0, 1]


class _Chain:
    """An engine of another package: the next word depends on the last alone, and a step attends to its place."""

    def __init__(self, logs: np.ndarray, source_length: int) -> None:
        self.logs, self.length = logs, source_length
        self.fed = np.zeros(0, np.int64)

    def best(self, tokens: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self.fed = tokens
        rows = self.logs[tokens]
        order = np.argsort(-rows, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(rows, order, 1), order, rows[:, EOS : EOS + 1]

    def reorder(self, rows: np.ndarray) -> None: ...

    def keep(self, sentences: np.ndarray) -> None: ...

    def attention(self) -> np.ndarray:
        return np.eye(self.length, dtype=np.float32)[self.fed % self.length]


def test_a_word_that_repetition_makes_cheap_is_found_wherever_it_ranks() -> None:
    logs = torch.randn(40, 40, generator=torch.Generator().manual_seed(2)).log_softmax(1).numpy()
    task = Task([[5, EOS]], [[]], [1], [9], 2, 1.0)
    expected = plain_search(lambda tokens: logs[[EOS, *tokens][-1]].tolist(), beam=2, most=9, penalty=0.3)
    [ours] = find(_Chain(logs, 2), task, Decoding(repetition_penalty=0.3), 1, EOS)
    assert_same(ours, expected, 1)
    assert len(ours[0].tokens) > len(set(ours[0].tokens))


def test_each_hypothesis_keeps_what_its_own_words_attended_to() -> None:
    logs = np.random.default_rng(3).normal(size=(9, 9)).astype(np.float32)
    source = [5, 6, 7, EOS]
    task = Task([source], [[]], [2], [6], 4, 1.0)
    for wanted in (Decoding(n_best=4, alignments=True), Decoding(n_best=4, alignments=True, sampling=True, seed=1)):
        [found] = find(_Chain(logs, 4), task, wanted, 1, EOS)
        assert len({one.tokens for one in found}) == 4
        for one in found:
            before = (EOS, *one.tokens[:-1])
            assert one.alignment == tuple((word % 4, place) for place, word in enumerate(before))


def test_a_row_that_no_word_may_follow_ends(model: SubTransformer) -> None:
    task = Task([SOURCES[0]], [[]], [500], [600], 1, 1.0)  # longer than the vocabulary, each word once
    [[found]] = find_on(model, task, Decoding(no_repeat_ngram_size=1))
    assert len(found.tokens) == len(set(found.tokens)) == VOCAB - 2


def test_alignments_follow_the_last_layers_attention_on_every_engine(model: SubTransformer) -> None:
    model = deepcopy(model)
    attention = model.decoder.layer(model.architecture.decoder.depth - 1).encoder_attn
    with torch.no_grad():
        attention.query_weights()[0].mul_(6.0)  # so that hypotheses of one source attend to unlike places
    for engine in ENGINES.values():
        pairs: list[tuple[int, int]] = []
        for source, found in zip(
            SOURCES, find_on(engine(model), a_task(), Decoding(n_best=3, alignments=True)), strict=True
        ):
            for one in found:
                shares = plain_attention(model, source, list(one.tokens))
                gap = shares.topk(2, dim=1).values.diff(dim=1).abs().min()
                assert gap > 1e-5, "which is most is a matter of rounding here"
                assert one.alignment == tuple((int(place), row) for row, place in enumerate(shares.argmax(1)))
                pairs += one.alignment
        assert len({source for source, _ in pairs}) > 2  # not always the same place
    with pytest.raises(HatRayError, match="keeps to itself"):
        find_on(_Plain(model), a_task(), Decoding(alignments=True))


@pytest.mark.parametrize(
    ("tokens", "source", "looped"),
    [
        ([7, 8, 9, 8, 9, 8, 9, 8, 9], [4, 5], True),
        ([7, 8, 9, 8, 9, 8, 9, 8, 9, 6], [4, 5], True),  # a full stop behind it
        ([7, 8, 9, 8, 9, 8, 9, 8, 9], [5] * 12, False),  # the source repeats itself as well
        ([5, 5, 5, 5], [4], False),  # "no, no, no, no"
        (list(range(40)), [4], False),
        ([*range(10), *range(10)], [4], False),  # twice is no loop
        ([*range(10), *range(10), *range(10)], [4], True),
        ([], [], False),
    ],
)
def test_loops_are_the_same_tokens_again_and_again(tokens: list[int], source: list[int], looped: bool) -> None:
    assert is_loop(tokens, source) is looped


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"n_best": 0}, "n_best must be from 1 to 1000, got 0"),
        ({"n_best": 6}, "n_best can be at most the beam, which is 5, got 6"),
        ({"n_best": 2.0}, "n_best must be a whole number"),
        ({"repetition_penalty": float("nan")}, "repetition_penalty must be a number"),
        ({"repetition_penalty": 0}, "repetition_penalty must be from 0.01"),
        ({"sampling": 1}, "sampling must be true or false"),
        ({"temperature": 0.5}, "temperature is a setting of sampling"),
        ({"seed": 3}, "seed is a setting of sampling"),
        ({"sampling": True, "beam": 4}, "sampling has no beam"),
        ({"beam": True}, "beam must be a whole number"),
        ({"prefix": ("a", "b")}, "one for each of 3 lines, got 2"),
        ({"prefix": 7}, "prefix must be text"),
        ({"prefix": "x" * 200_000}, "prefix must be text of at most"),
        ({"min_length_factor": "2"}, "min_length_factor must be a number"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(settings: dict[str, object], rule: str) -> None:
    assert rule in (why_not(Decoding(**settings), 5, 3) or "nothing")


def test_the_reference_names_every_setting() -> None:
    text = (Path(public.__file__).parent / "recipes" / "REFERENCE.md").read_text(encoding="utf-8")
    section = text.partition("\n## Decoding\n")[2].partition("\n## ")[0]
    table = "".join(line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `"))
    assert sorted(re.findall(r"`(\w+)`", table)) == sorted(each.name for each in fields(Decoding))


def test_settings_at_their_bounds_are_taken() -> None:
    for bound in ("least", "most"):
        for name, knob in KNOBS.items():
            value = getattr(knob, bound)
            kind = type(getattr(Decoding(), name))
            value = bool(value) if kind is bool else value
            beam = None if name in ("temperature", "top_k", "seed") or value is True else 1_000
            wanted = replace(Decoding(beam=beam, sampling=beam is None), **{name: value})
            if not (name == "sampling" and beam):
                assert why_not(wanted, 1_000) is None or (name == "retry_loops" and beam is None)
    assert Decoding().is_plain
    assert not Decoding(alignments=True).is_plain
    with pytest.raises(HatRayError, match="knows no such settings"):
        find_on(_Whole(), a_task(), Decoding(n_best=2))


class _Whole:
    """An engine of another package that searches by itself."""

    target_vocab_size, max_positions = VOCAB, 64

    def translate(self, sources: list[list[int]], search: object, exact_length: int | None = None) -> list[list[int]]:
        random.seed(0)
        return [[4] for _ in sources]


class _Plain:
    """A stepwise engine of another package, which keeps its attention to itself."""

    def __init__(self, model: SubTransformer) -> None:
        self.target_vocab_size, self.device = model.target_vocab_size, model.device
        self.start, self.best = model.start, model.best
