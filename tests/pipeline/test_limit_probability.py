"""A limit that is to hold with a probability: the search is told what the latency stays below, not the prediction."""

import random

import numpy as np

from hat_ray.pipeline.stages.search import prediction
from hat_ray.predictor.config import PredictorConfig
from hat_ray.predictor.predictor import Predictor
from hat_ray.predictor.rows import rows_of
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
