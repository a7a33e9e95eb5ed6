"""How long an epoch's batches of a large corpus take to make: `make bench`, or this file with `-m benchmark -s`."""

import time

import numpy as np
import pytest

from hat_ray.corpus.batches import make_batches
from hat_ray.corpus.tokens import Sentences, TokenTable

pytestmark = pytest.mark.benchmark
PAIRS = 5_000_000


def test_batches_of_five_million_pairs() -> None:
    sides = np.random.default_rng(0).integers(2, 80, PAIRS)
    offsets = np.concatenate([[0], np.cumsum(sides)])
    side = Sentences(np.zeros(offsets[-1], np.int32), offsets)
    start = time.perf_counter()
    batches = make_batches(TokenTable(side, side), 4096, 1, 0, 8, 0)
    seconds = time.perf_counter() - start
    assert sum(map(len, batches)) == pytest.approx(PAIRS / 8, rel=0.02)
    print(f"{len(batches)} batches a rank of {PAIRS:,} pairs in {seconds:.1f} s")
