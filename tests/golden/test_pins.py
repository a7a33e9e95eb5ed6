"""What seeds decide stays: feature names, ids, what a search asks first, what a training samples and learns."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.golden import pins
from tests.golden.same import differences

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


def test_a_training_samples_and_learns_the_same(tmp_path: Path):
    assert not differences(PINS["training"], pins.training(tmp_path))
