"""Early stopping, BLEU during training, the best checkpoints, and the curves that a training keeps."""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import pytest
import safetensors.torch
import torch
from torch import Tensor

from hat_ray.corpus.corpus import Corpus
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.scoring import score_text
from hat_ray.evaluate.translate import translate
from hat_ray.model.checkpoints.native import load_sub
from hat_ray.model.config import ModelConfig
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder
from hat_ray.train.config import TrainConfig
from hat_ray.train.job import train_sub, train_super
from hat_ray.train.optimizer import learning_rate
from hat_ray.train.state import TrainPoint, TrainResult
from hat_ray.train.validation.best import gave_up
from hat_ray.train.validation.bleu import ValidationBleu
from hat_ray.train.workers import OneWorker

Found = TypeVar("Found")

MODEL = ModelConfig(dropout=0.0)
CONFIG = TrainConfig(
    updates=40, max_tokens=300, lr=5e-3, warmup_updates=5, validate_every=5, checkpoint_every=40, tensorboard=False
)
STILL = CONFIG.model_copy(update={"lr": 1e-30, "warmup_init_lr": 0.0, "min_lr": 0.0, "stop_after": 2})
"""No weight moves, so no validation is better than the first one."""


def history(losses: Sequence[float], bleu: Sequence[float] = ()) -> list[TrainPoint]:
    scores = [{"model": one} for one in bleu] or [{}] * len(losses)
    return [
        TrainPoint(10 * n, 1e-3, 1.0, {"model": loss}, {"model": loss}, 1, 1.0, 1.0, score)
        for n, (loss, score) in enumerate(zip(losses, scores, strict=True), 1)
    ]


@pytest.mark.parametrize(
    ("losses", "patience", "over"),
    [
        ([5, 4, 3, 2], 1, False),
        ([5, 4, 4], 1, True),  # as good is no better
        ([5, 4, 6], 2, False),
        ([5, 4, 6, 4.5], 2, True),
        ([5, 4, 6, 3.9], 2, False),
        ([5, 6, 7], 3, False),
        ([5, 6, 7, 8], 3, True),
        ([math.inf, math.inf], 1, True),
        ([5], 1, False),
        ([], 1, False),
        ([5, 6, 7, 8], None, False),
    ],
)
def test_patience_counts_validations_since_the_best(losses: list[float], patience: int | None, over: bool) -> None:
    config = CONFIG.model_copy(update={"stop_after": patience})
    assert gave_up(history(losses), config, "model") is over


def test_by_bleu_more_is_better_and_the_loss_says_nothing() -> None:
    config = CONFIG.model_copy(update={"stop_after": 2, "stop_on": "bleu", "valid_bleu_lines": 10})
    assert not gave_up(history([5, 6, 7, 8], [1, 2, 3, 4]), config, "model")
    assert gave_up(history([5, 4, 3, 2], [1, 2, 2, 1.5]), config, "model")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stop_on": "bleu"}, "stop_on=bleu needs valid_bleu_lines, got 0"),
        ({"final": "average_best", "keep_best": False}, "final=average_best needs keep_best"),
        ({"final": "average_best", "average_last": 5}, "got average_last 5 as well: set average_best instead"),
    ],
)
def test_settings_of_the_end_that_contradict_each_other_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**values)


def test_a_training_that_stops_improving_ends_and_takes_its_best(
    tiny_space: SearchSpace, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = Folder.at(tmp_path_factory.mktemp("still"))
    config = STILL.model_copy(update={"final": "best"})
    result = train_sub(tiny_space.smallest(), tiny_space, corpus, MODEL, config, folder, 1)
    assert (result.updates, result.ended, result.made_of) == (15, "no improvement", (5,))
    assert [point.update for point in result.history] == [5, 10, 15]
    assert folder.child("checkpoints").list() == [f"update-{n:08d}" for n in (5, 10, 15)]
    for cut in (["train.json"], ["train.json", "checkpoints/update-00000015"]):  # killed at its end, and before it
        for name in cut:
            folder.delete(name)
        again = train_sub(tiny_space.smallest(), tiny_space, corpus, MODEL, config, folder, 1)
        assert timeless(again) == timeless(result)


def test_a_training_that_improves_makes_all_its_updates(
    tiny_space: SearchSpace, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = CONFIG.model_copy(update={"stop_after": 1, "warmup_updates": 0})
    result = train_sub(
        tiny_space.smallest(), tiny_space, corpus, MODEL, config, Folder.at(tmp_path_factory.mktemp("on")), 1
    )
    losses = [point.valid_loss_bits["model"] for point in result.history]
    assert losses == sorted(losses, reverse=True)  # else this says nothing
    assert (result.updates, result.ended, result.made_of) == (40, "updates", (40,))


def test_the_final_model_is_the_mean_of_the_best_checkpoints(
    tiny_space: SearchSpace, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = Folder.at(tmp_path_factory.mktemp("mean"))
    config = CONFIG.model_copy(
        update={"final": "average_best", "average_best": 2, "keep_last": 1, "lr": 0.1, "min_lr": 0.1}
    )
    result = train_sub(tiny_space.largest(), tiny_space, corpus, MODEL, config, folder, 1)
    by_loss = sorted(result.history, key=lambda point: point.valid_loss_bits["model"])
    best = sorted(point.update for point in by_loss[:2])
    assert best != [35, 40]  # the rate is so high that the last ones are not the best ones
    assert list(result.made_of) == best
    checkpoints = folder.child("checkpoints")
    states = [
        safetensors.torch.load(checkpoints.child(f"update-{update:08d}").read_bytes("state.safetensors"))
        for update in best
    ]
    for name, weight in load_sub(folder, "model").weights().items():
        mean = torch.stack([state[f"model/{name}"] for state in states]).mean(0)
        torch.testing.assert_close(weight, mean, rtol=1e-6, atol=1e-7)


def test_validation_bleu_is_that_of_evaluation_by_greedy_search(
    tiny_space: SearchSpace, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = Folder.at(tmp_path_factory.mktemp("bleu"))
    config = CONFIG.model_copy(
        update={"valid_bleu_lines": 50, "updates": 120, "validate_every": 120, "lr": 2e-2, "max_tokens": 500}
    )
    learning = MODEL.model_copy(update={"normalize_before": True})
    result = train_sub(tiny_space.largest(), tiny_space, corpus, learning, config, folder, 1)
    model, valid = load_sub(folder, "model").eval(), corpus.valid
    assert valid.source_text is not None
    assert valid.target_text is not None
    hypotheses = translate(model, corpus.vocabularies, valid.source_text[:50], EvaluateConfig(beam=1))
    expected = score_text(hypotheses, [valid.target_text[:50]], chrf=False).bleu
    assert expected > 0
    assert result.history[-1].valid_bleu == {"model": pytest.approx(expected, abs=1e-9)}
    shares = together(2, lambda worker: ValidationBleu(corpus, 50, worker).of(model))
    assert shares == [pytest.approx(expected, abs=1e-9)] * 2


def test_a_supertransformer_has_the_bleu_of_both_its_ends(
    tiny_space: SearchSpace, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """BLEU changes nothing that is learnt, and its scores decide which checkpoint is best."""
    place = tmp_path_factory.mktemp("ends")
    config = CONFIG.model_copy(update={"updates": 10})
    plain = train_super(tiny_space, corpus, MODEL, config, Folder.at(place / "plain"), 1)
    scored = config.model_copy(update={"valid_bleu_lines": 10, "stop_on": "bleu", "final": "best"})
    result = train_super(tiny_space, corpus, MODEL, scored, Folder.at(place / "scored"), 1)
    assert [point.valid_bleu.keys() for point in result.history] == [{"largest", "smallest"}] * 2
    assert [replace(point, valid_bleu={}, seconds=0.0) for point in result.history] == [
        replace(point, seconds=0.0) for point in plain.history
    ]
    bleu = [point.valid_bleu["largest"] for point in result.history]
    assert result.made_of == (result.history[bleu.index(max(bleu))].update,)


def test_two_workers_stop_together_where_one_would(
    tiny_space: SearchSpace, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = Folder.at(tmp_path_factory.mktemp("two"))
    config = STILL.model_copy(update={"accumulate": 2, "valid_bleu_lines": 7, "stop_on": "bleu"})

    def train(worker: OneWorker) -> TrainResult:
        return train_sub(tiny_space.smallest(), tiny_space, corpus, MODEL, config, folder, 1, workers=worker)

    results = together(2, train)
    assert [(one.updates, one.ended) for one in results] == [(15, "no improvement")] * 2
    assert [point.valid_bleu for point in results[0].history] == [point.valid_bleu for point in results[1].history]


def test_curves_hold_the_means_between_their_points(
    tiny_space: SearchSpace, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("curve")
    config = CONFIG.model_copy(update={"updates": 12, "validate_every": 12})
    result = train_sub(tiny_space.smallest(), tiny_space, corpus, MODEL, config, Folder.at(place / "short"), 1)
    assert [point.update for point in result.curve] == list(range(1, 13))
    assert [point.lr for point in result.curve] == [learning_rate(config, update) for update in range(12)]
    assert result.curve[-1].grad_norm == pytest.approx(result.history[-1].grad_norm, rel=1e-6)
    seconds = [0.0, *(point.seconds for point in result.curve)]
    tokens = [
        point.tokens_per_s * (after - before)
        for point, before, after in zip(result.curve, seconds, seconds[1:], strict=False)
    ]
    assert sum(tokens) == pytest.approx(result.tokens)
    mean = sum(point.loss_bits * count for point, count in zip(result.curve, tokens, strict=True)) / result.tokens
    assert mean == pytest.approx(result.history[0].train_loss_bits, rel=1e-6)
    longer = CONFIG.model_copy(update={"updates": 250, "validate_every": 250, "checkpoint_every": 225})
    folder = Folder.at(place / "long")
    result = train_sub(tiny_space.smallest(), tiny_space, corpus, MODEL, longer, folder, 1)
    assert [point.update for point in result.curve] == list(range(2, 251, 2))
    folder.delete("train.json")
    folder.delete("checkpoints/update-00000250")  # it resumes between two points
    again = train_sub(tiny_space.smallest(), tiny_space, corpus, MODEL, longer, folder, 1)
    assert timeless(again) == timeless(result)


class Together(OneWorker):
    """One of several workers in the threads of this process; a barrier joins them."""

    def __init__(self, rank: int, world_size: int, barrier: threading.Barrier, values: dict[int, Tensor]) -> None:
        super().__init__()
        self.rank, self.world_size, self._barrier, self._values = rank, world_size, barrier, values

    def all_reduce(self, values: Tensor) -> None:
        self._values[self.rank] = values.clone()
        self._barrier.wait(240)
        total = torch.stack([self._values[rank] for rank in range(self.world_size)]).sum(0)
        self._barrier.wait(240)
        values.copy_(total)


def together(count: int, work: Callable[[OneWorker], Found]) -> list[Found]:
    barrier = threading.Barrier(count)
    values: dict[int, Tensor] = {}
    found: dict[int, Found] = {}

    def one(rank: int) -> None:
        try:
            found[rank] = work(Together(rank, count, barrier, values))
        except BaseException:
            barrier.abort()
            raise

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    return [found[rank] for rank in range(count)]


def timeless(result: TrainResult) -> TrainResult:
    return replace(
        result,
        seconds=0.0,
        history=tuple(replace(point, seconds=0.0) for point in result.history),
        curve=tuple(replace(point, seconds=0.0, tokens_per_s=0.0) for point in result.curve),
    )
