"""A limit that is to hold with a probability: the search is told what the latency stays below, not the prediction."""

import random

import numpy as np
import pytest

from hat_ray.errors import SearchError
from hat_ray.latency.quantities import LATENCY
from hat_ray.pipeline.stages.search import prediction
from hat_ray.predictor.config import PredictorConfig
from hat_ray.predictor.predictor import Predictor
from hat_ray.predictor.rows import rows_of
from hat_ray.search.config import SearchConfig
from hat_ray.search.engine.device_predictions import bounds_of
from hat_ray.search.limits import Limit
from hat_ray.search.reach import fastest, resolve_limits
from hat_ray.space.features import cost_features
from hat_ray.space.presets import TOY


def test_what_is_chosen_below_the_bound_keeps_the_limit_as_often_as_asked() -> None:
    rng, noise = random.Random(0), np.random.default_rng(0)
    drawn = [TOY.sample(rng) for _ in range(900)]
    measured = cost_features(drawn).sum(axis=1) * noise.lognormal(0, 0.08, len(drawn))
    predictor = Predictor.fit(rows_of(drawn[:100], measured[:100]), PredictorConfig(), "d", TOY.id, 0)
    others, taken = drawn[100:], measured[100:]
    limit = np.median(taken)
    kept = {}
    for probability in (None, 0.9):
        told = prediction(predictor, probability).bound(others)
        near = (told <= limit) & (told > 0.97 * limit)  # what a search picks: the limit is used up
        kept[probability] = (taken[near] <= limit).mean()
    assert kept[None] < 0.8
    assert kept[0.9] > 0.85


@pytest.mark.parametrize(("confidence", "words"), [(None, "is predicted to take"), (0.9, "stays below")])
def test_the_value_that_a_refusal_names_holds_with_the_confidence(confidence: float | None, words: str) -> None:
    rng, noise = random.Random(0), np.random.default_rng(0)
    drawn = [TOY.sample(rng) for _ in range(100)]
    measured = cost_features(drawn).sum(axis=1) * noise.lognormal(0, 0.08, len(drawn))
    predictor = Predictor.fit(rows_of(drawn, measured), PredictorConfig(), "d", TOY.id, 0)
    known = {"d": bounds_of({LATENCY: prediction(predictor, confidence)})}
    asked = SearchConfig(limits_ms=(1e-6,), limit_confidence=confidence)
    with pytest.raises(SearchError, match=rf"the fastest {words} [\d.]+ ms") as refusal:
        resolve_limits(TOY, known, asked)
    assert ("with search.limit_confidence 0.9" in str(refusal.value)) == (confidence is not None)
    named = float(str(refusal.value).partition(words)[2].split()[0])
    least = float(predictor.predict([fastest(TOY, known["d"][LATENCY])[0]], confidence)[0])
    assert least <= named <= 1.001 * least
    assert resolve_limits(TOY, known, asked.model_copy(update={"limits_ms": (named,)})) == (
        Limit.of("d", latency_ms=named),
    )
