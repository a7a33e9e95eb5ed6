"""What a damaged record of a training is refused for."""

import pytest

from hat_ray.core.codec import from_json, to_json
from hat_ray.errors import DamagedError
from hat_ray.search.engine.measured import RoundLog
from hat_ray.train.state import TrainPoint, TrainResult

POINT = TrainPoint(5, 1e-3, 9.0, {"model": 8.9}, {"model": 8.9}, 100, 1.0, 0.5)


def test_a_history_without_a_loss_of_the_model_is_refused_in_one_line():
    whole = TrainResult((POINT,), 5, 100, 1.0, {"model": 8.9}, {"model": 8.9})
    damaged = to_json(whole)
    assert from_json(TrainResult, damaged, "train.json") == whole
    damaged["history"][0]["valid_loss_bits"] = {"mpdel": 8.9}
    with pytest.raises(DamagedError, match="the validation at update 5 lacks the loss of model"):
        from_json(TrainResult, damaged, "train.json")


def test_a_round_without_a_latency_is_refused_in_one_line():
    log = {"rounds": [{"measured": {"pi4": {"{}": {"latency_ms": 4.0}}}, "refitted": [], "final": True}]}
    assert RoundLog.model_validate(log).rounds[0].measured["pi4"]["{}"] == {"latency_ms": 4.0}
    log["rounds"][0]["measured"] = {"pi4": {"{}": {"laten_y_ms": 4.0}}}
    with pytest.raises(DamagedError, match="lacks latency_ms"):
        from_json(RoundLog, log, "rounds.json")
