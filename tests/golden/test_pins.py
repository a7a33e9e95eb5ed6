"""What seeds decide stays: feature names, ids, what a search asks first, what a training samples and learns."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.golden import pins
from tests.golden.same import differences

ROOT = Path(__file__).parents[2]
PINS: dict[str, Any] = json.loads(Path(__file__).with_name("pins.json").read_text(encoding="utf-8"))


def test_predictor_features_keep_their_names_order_and_values():
    assert not differences(PINS["features"], pins.features())


def test_spaces_and_architectures_keep_their_ids():
    assert not differences(PINS["spaces"], pins.spaces())


@pytest.mark.parametrize("algorithm", pins.ALGORITHMS)
@pytest.mark.parametrize("seed", pins.SEEDS)
def test_a_search_asks_for_the_same_architectures(algorithm: str, seed: int):
    recorded, now = PINS["asks"][f"{algorithm}/{seed}"].split(), pins.asks(algorithm, seed)
    assert len(recorded) == pins.ASKS
    first = next((place for place, (old, new) in enumerate(zip(recorded, now, strict=True)) if old != new), None)
    assert first is None, f"ask {first}: {recorded[first]} recorded, {now[first]} now"


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the named kernels are of x86-64")
@pytest.mark.parametrize("kernels", [pytest.param("Prescott", marks=pytest.mark.slow), "Haswell"])
def test_a_search_asks_the_same_with_the_kernels_of_other_processors(kernels: str):
    code = "from tests.golden import pins; print(*pins.asks('surrogate', 1))"
    command, environment = [sys.executable, "-c", code], {**os.environ, "OPENBLAS_CORETYPE": kernels}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout.split() == PINS["asks"]["surrogate/1"].split()


def test_a_training_samples_and_learns_the_same(tmp_path: Path):
    assert not differences(PINS["training"], pins.training(tmp_path))
