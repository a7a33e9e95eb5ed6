"""Cost of a search for its coordinator as candidates add up.

`pytest -m benchmark -s tests/benchmarks/bench_search_growth.py`

Losses and latencies are computed, not scored, by one matrix product: so what is measured is the archive, the algorithm,
the frontiers, early stopping and the candidates table, in one process, without Ray. Each line holds what the candidates
since the line before it took: growing figures would show work that grows with the number of candidates.
`HAT_RAY_BENCH_CANDIDATES=10000,100000` sets where lines are printed, `HAT_RAY_BENCH_ALGORITHMS=random` what searches.
"""

import os
import random
import resource
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from hat_ray.latency.quantities import LATENCY
from hat_ray.search.config import SearchConfig
from hat_ray.search.early_stopping import SHARES, PartScore
from hat_ray.search.engine.session import Session
from hat_ray.search.reach import resolve_limits
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import FloatArray, hat_features
from hat_ray.space.presets import SPACE0
from hat_ray.storage.folder import Folder

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(40_000)]
MARKS = [int(mark) for mark in os.environ.get("HAT_RAY_BENCH_CANDIDATES", "1000,3000,10000").split(",")]
ALGORITHMS = os.environ.get("HAT_RAY_BENCH_ALGORITHMS", "random,aging,surrogate").split(",")
AT_A_TIME = 100
"""Candidates of one batch: small ones cost a file of the table each."""
_ENDS = hat_features([SPACE0.smallest(), SPACE0.largest()])
_SPAN = np.where(_ENDS[1] > _ENDS[0], _ENDS[1] - _ENDS[0], 1.0)
_COST, _GAIN = np.random.default_rng(0).uniform(0.2, 1.0, (2, _ENDS.shape[1]))


def shares_of_largest(architectures: Sequence[Architecture]) -> FloatArray:
    """Return (N, 10): 0 for the smallest, 1 for the largest value of each of HAT's features."""
    return np.asarray((hat_features(architectures) - _ENDS[0]) / _SPAN)


def milliseconds(architectures: Sequence[Architecture]) -> FloatArray:
    return np.asarray(10 + 50 * shares_of_largest(architectures) @ _COST / _COST.sum())


def losses_of(architectures: Sequence[Architecture]) -> FloatArray:
    x = shares_of_largest(architectures)
    return np.asarray(5 - 2 * x @ _GAIN / _GAIN.sum() + 0.3 * np.sin(7 * x).mean(axis=1))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_print_the_cost_of_a_candidate_as_they_add_up(algorithm: str, tmp_path: Path) -> None:
    devices = {"device": {LATENCY: milliseconds}}
    config = SearchConfig(algorithm=algorithm, evaluations=MARKS[-1], workers=8, limits_ms=(20.0, 30.0, 40.0))
    limits = resolve_limits(SPACE0, devices, config)
    session = Session(SPACE0, devices, limits, config, Folder.at(tmp_path), 1)
    session.begin()
    rng, spent, done, since = random.Random(0), Counter[str](), 0, time.perf_counter()

    def timed(what: str, began: float) -> None:
        spent[what] += round(1e9 * (time.perf_counter() - began))

    print(f"\n{algorithm}: milliseconds a candidate")
    while True:
        began = time.perf_counter()
        asked = session.evolution.ask(AT_A_TIME)
        timed("ask", began)
        if not asked:
            break
        began = time.perf_counter()
        session.save_state()
        timed("state", began)
        for architecture, loss in zip(asked, losses_of(asked).tolist(), strict=True):
            parts = tuple(loss + rng.gauss(0, 0.02) for _ in SHARES)
            began = time.perf_counter()
            session.bars(architecture)
            session.record(architecture, PartScore(loss, 1.0, parts), 0.1)
            timed("record", began)
        before, done = done, session.done
        passed = next((mark for mark in MARKS if before < mark <= done), None)
        if passed:
            each = {
                what: f"{nanoseconds / 1e6 / (passed - _before(passed)):.2f}" for what, nanoseconds in spent.items()
            }
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            now = time.perf_counter()
            print(f"  up to {passed:9,}: {each}, {now - since:8.1f} s, {memory:6.0f} MB at most", flush=True)
            spent, since = Counter(), now
    began = time.perf_counter()
    result = session.close()
    print(f"  close: {time.perf_counter() - began:.1f} s, {len(result.candidates):,} candidates", flush=True)


def _before(mark: int) -> int:
    return max((other for other in MARKS if other < mark), default=0)
