"""Linear algebra on one thread: whoever scores or is timed beside it keeps the other cores."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from hat_ray.core.determinism import one_blas_thread
from hat_ray.latency.quantities import LATENCY
from hat_ray.predictor.config import PredictorConfig
from hat_ray.predictor.predictor import Predictor
from hat_ray.predictor.rows import rows_of
from hat_ray.search.config import SearchConfig
from hat_ray.search.engine.ask_tell import Evolution
from hat_ray.search.limits import Limit
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import FloatArray, cost_features
from hat_ray.space.presets import TOY


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def two_threads():
    with threadpool_limits(limits=2, user_api="blas"):
        assert blas_threads() == {2}
        yield


def test_one_thread_inside_and_what_it_was_before_outside():
    with one_blas_thread():
        assert blas_threads() == {1}
        with one_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == {1}
    assert blas_threads() == {2}
    with pytest.raises(ValueError, match="inside"), one_blas_thread():
        raise ValueError("inside")
    assert blas_threads() == {2}


def test_a_search_leaves_the_other_cores_to_its_workers():
    seen: list[set[int]] = []

    def latency_ms(architectures: Sequence[Architecture]) -> FloatArray:
        seen.append(blas_threads())
        return cost_features(architectures).sum(axis=1)

    middle = float(np.mean(latency_ms([TOY.smallest(), TOY.largest()])))
    assert seen == [{2}]
    search = Evolution(
        TOY, {"d": {LATENCY: latency_ms}}, [Limit.of("d", latency_ms=middle)], SearchConfig(evaluations=40), 0
    )
    del seen[:]
    while not search.finished:
        for architecture in search.ask(2):
            search.tell(architecture, 1 / cost_features([architecture])[0].sum())
    assert len(seen) > 40
    assert all(threads == {1} for threads in seen)
    assert blas_threads() == {2}


def test_a_predictor_is_fitted_on_one_thread(monkeypatch: pytest.MonkeyPatch):
    rng, seen = random.Random(0), []
    some = [TOY.sample(rng) for _ in range(40)]
    solve = np.linalg.qr
    monkeypatch.setattr("numpy.linalg.qr", lambda *args, **kw: (seen.append(blas_threads()), solve(*args, **kw))[1])
    Predictor.fit(rows_of(some, cost_features(some).sum(axis=1)), PredictorConfig(), "d", TOY.id, 0)
    assert seen
    assert all(threads == {1} for threads in seen)
