"""Winners are timed within the search: what breaks its limit is learned, and the search ends with what keeps it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from search_stand_ins import bigger_is_better, macs_ms

from hat_ray.core.codec import read
from hat_ray.latency.quantities import LATENCY
from hat_ray.search.candidates import CandidateTable
from hat_ray.search.config import SearchConfig
from hat_ray.search.engine.device_predictions import DevicePredictions, Measurements, Prediction
from hat_ray.search.engine.local import run_search
from hat_ray.search.engine.measured import MeasuredSearch, Outcome, ResolveLimits
from hat_ray.search.engine.session import Phase
from hat_ray.search.limits import Limit, Predictions
from hat_ray.search.winners import WINNERS, SearchOutput, describe_winners, write_files
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import FloatArray
from hat_ray.space.hat_yaml import load_architecture
from hat_ray.space.presets import TOY
from hat_ray.storage.folder import Folder

CONFIG = SearchConfig(algorithm_options={"population": 10, "parents": 5}, evaluations=40, refine_evaluations=15)
LIMITS = (Limit.of("macs", latency_ms=60.0), Limit.of("macs", latency_ms=120.0))


def scaled_ms(factor: float, architectures: Sequence[Architecture]) -> FloatArray:
    """Think that architectures with more than one decoder layer take `factor` of what they do."""
    deep = np.array([architecture.decoder.depth > 1 for architecture in architectures])
    return np.where(deep, factor, 1.0) * macs_ms(architectures)


def latency_by(factor: float, speed: float = 1.0) -> DevicePredictions:
    def function(architectures: Sequence[Architecture]) -> FloatArray:
        return speed * scaled_ms(factor, architectures)

    return {LATENCY: Prediction(function, function, lambda some: (0.9 * function(some), 1.1 * function(some)))}


@dataclass
class Board:
    """A device that takes `macs_ms`, and predictors that get nearer to that each time they are fitted."""

    log: list[str] = field(default_factory=list)
    measured: int = 0
    fitted_at: float = 1.0
    away: bool = False
    stop_at: str = ""
    quieter_from: int = 10**6
    """From so many measurements on the device turns out to be twice as fast as it was thought to be."""

    def measure(self, architectures: Sequence[Architecture]) -> Mapping[str, Measurements]:
        self._note("measure " + " ".join(one.id for one in architectures))
        self.measured += 1
        times = {one: {LATENCY: self._factor * float(macs_ms([one])[0])} for one in architectures}
        return {} if self.away else {"macs": times}

    def refit(self, device: str, round_: int) -> DevicePredictions:
        self._note(f"refit {round_}")
        return self.load_refitted(device, round_)

    def load_refitted(self, device: str, round_: int) -> DevicePredictions:
        assert device == "macs"
        self.fitted_at = self._factor
        return latency_by(0.9 if round_ == 0 else 1.0, self._factor)

    def scale(self, device: str) -> float:
        assert device == "macs"
        return self._factor / self.fitted_at

    @property
    def _factor(self) -> float:
        return 0.5 if self.measured >= self.quieter_from else 1.0

    def _note(self, line: str) -> None:
        if self.stop_at and line.startswith(self.stop_at):
            raise KeyboardInterrupt
        self.log.append(line)


def whole_search(
    folder: Path,
    board: Board,
    score: Callable[[Architecture], float] = bigger_is_better,
    config: SearchConfig = CONFIG,
    factor: float = 0.6,
    resolve: ResolveLimits | None = None,
) -> Outcome:
    def phase(predictions: Predictions, limits: Sequence[Limit], phase: Phase) -> None:
        run_search(TOY, predictions, limits, score, config, Folder.at(folder), 0, phase=phase)

    return MeasuredSearch(
        TOY, LIMITS, config, Folder.at(folder), {"macs": latency_by(factor)}, board, phase, "weights", resolve
    ).run()


def test_a_search_with_a_wrong_predictor_ends_with_winners_that_keep_their_limits(tmp_path: Path) -> None:
    board = Board()
    outcome = whole_search(tmp_path, board)
    assert [winner.limit for winner in outcome.result.winners] == list(LIMITS)
    for winner in outcome.result.winners:
        assert winner.candidate.measured_ms["macs"] == float(macs_ms([winner.candidate.architecture])[0])
        assert winner.candidate.measured_ms["macs"] <= winner.limit.ms
    broken = [c for c in outcome.result.candidates if c.measured_ms and c.measured_ms["macs"] > LIMITS[1].ms]
    assert broken  # the first choice did break its limit
    assert "refit 0" in board.log
    rounds = [candidate.round for candidate in outcome.result.candidates]
    assert rounds.count(0) == CONFIG.evaluations
    assert rounds.count(1) == CONFIG.refine_evaluations
    assert {c.scored_by for c in outcome.result.candidates} == {"weights"}
    for candidate in outcome.result.candidates:
        assert candidate.low_ms["macs"] < candidate.latency_ms["macs"] < candidate.high_ms["macs"]


def test_nothing_is_timed_twice_and_a_good_predictor_needs_one_round(tmp_path: Path) -> None:
    board = Board()
    outcome = whole_search(tmp_path, board, factor=1.0)
    assert len(board.log) == 1
    assert len(outcome.result.candidates) == CONFIG.evaluations
    assert whole_search(tmp_path, board, factor=1.0).result == outcome.result
    assert len(board.log) == 1


class Killed:
    """Scores, and is stopped after so many."""

    def __init__(self, after: int) -> None:
        self.scored: list[Architecture] = []
        self._after = after

    def __call__(self, architecture: Architecture) -> float:
        if len(self.scored) >= self._after:
            raise KeyboardInterrupt
        self.scored.append(architecture)
        return bigger_is_better(architecture)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A search that nothing stopped."""
    return whole_search(tmp_path_factory.mktemp("whole"), Board())


@pytest.mark.parametrize(
    "stop_at", [*(pytest.param(at, marks=pytest.mark.slow) for at in (5, 39, "refit 1")), 45, "measure", "refit 0"]
)
def test_a_search_stopped_anywhere_ends_like_one_that_was_not(
    whole: Outcome, tmp_path: Path, stop_at: int | str
) -> None:
    first = Killed(stop_at if isinstance(stop_at, int) else 10**6)
    interrupted = Board(stop_at=stop_at if isinstance(stop_at, str) else "")
    try:
        whole_search(tmp_path / "killed", interrupted, first)
        assert stop_at == "refit 1"  # the second round may have had nothing to refit
    except KeyboardInterrupt:
        pass
    second = Killed(10**6)
    resumed = whole_search(tmp_path / "killed", Board(), second)
    assert not set(first.scored) & set(second.scored)
    plain = [(c.architecture, c.loss_bits, c.order, c.latency_ms, c.measured_ms) for c in resumed.result.candidates]
    assert plain == [
        (c.architecture, c.loss_bits, c.order, c.latency_ms, c.measured_ms) for c in whole.result.candidates
    ]
    assert [w.candidate.architecture for w in resumed.result.winners] == [
        w.candidate.architecture for w in whole.result.winners
    ]


def test_a_device_that_turns_out_quieter_gets_its_predictor_and_its_fractions_at_the_new_scale(tmp_path: Path) -> None:
    def resolve(known: Mapping[str, DevicePredictions]) -> Sequence[Limit]:
        largest_ms = float(known["macs"][LATENCY].bound([TOY.largest()])[0])
        return [Limit.of("macs", latency_ms=share * largest_ms) for share in (0.2, 0.4)]

    for config in (CONFIG, CONFIG.model_copy(update={"refine_rounds": 1, "refine_evaluations": 0})):
        board = Board(quieter_from=1)
        outcome = whole_search(tmp_path / str(config.refine_rounds), board, config=config, factor=1.0, resolve=resolve)
        assert "refit 0" in board.log
        largest_ms = float(macs_ms([TOY.largest()])[0])
        learned_ms = 0.9 * 0.5 * largest_ms  # as the board's first fit has it
        assert [limit.ms for limit in outcome.limits] == pytest.approx([0.2 * learned_ms, 0.4 * learned_ms])
        for winner in outcome.result.winners:
            assert winner.candidate.measured_ms["macs"] == 0.5 * macs_ms([winner.candidate.architecture])[0]
            assert winner.candidate.measured_ms["macs"] <= winner.limit.ms
            assert winner.candidate.latency_ms["macs"] <= 1.12 * winner.candidate.measured_ms["macs"]
        again = Board(measured=1, quieter_from=1, fitted_at=0.5)
        resumed = whole_search(tmp_path / str(config.refine_rounds), again, config=config, factor=1.0, resolve=resolve)
        assert resumed.result == outcome.result
        assert resumed.limits == outcome.limits
        assert again.log == []


def test_limits_in_milliseconds_stay_when_a_device_turns_out_quieter(tmp_path: Path) -> None:
    outcome = whole_search(tmp_path, Board(quieter_from=1), factor=1.0)
    assert list(outcome.limits) == list(LIMITS)
    for winner in outcome.result.winners:
        assert winner.candidate.measured_ms["macs"] <= winner.limit.ms
    assert outcome.result.winners[0].candidate.measured_ms["macs"] > 0.6 * LIMITS[0].ms  # the new room is used


def test_winners_are_not_timed_where_that_is_not_wanted(tmp_path: Path) -> None:
    board = Board()
    outcome = whole_search(tmp_path, board, config=CONFIG.model_copy(update={"refine_rounds": 0}))
    assert board.log == []
    assert len(outcome.result.winners) == 2
    assert not any(candidate.measured_ms for candidate in outcome.result.candidates)


def test_a_device_that_is_away_leaves_the_winners_as_predicted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    board = Board(away=True)
    outcome = whole_search(tmp_path, board)
    assert len(board.log) == 1
    assert "macs returned no timings" in caplog.text
    assert len(outcome.result.winners) == 2


def test_without_further_evaluations_the_next_best_that_keeps_its_limit_wins(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"refine_evaluations": 0})
    outcome = whole_search(tmp_path, Board(), config=config, factor=0.9)
    assert len(outcome.result.candidates) == config.evaluations
    for winner in outcome.result.winners:
        assert winner.candidate.measured_ms["macs"] <= winner.limit.ms
        times = macs_ms([candidate.architecture for candidate in outcome.result.candidates])
        surely = [
            c.loss_bits for c, ms in zip(outcome.result.candidates, times, strict=True) if 1.12 * ms <= winner.limit.ms
        ]
        assert winner.candidate.loss_bits <= min(surely)


def test_the_files_hold_each_winner_and_frontier(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    outcome = whole_search(tmp_path, Board())
    limits, winners = tuple(outcome.limits), describe_winners(outcome.result, outcome.devices)
    write_files(folder, SearchOutput(limits, 0, None, (), winners), outcome.result.frontiers)
    for winner, found in zip(outcome.result.winners, read(folder, WINNERS, SearchOutput).winners, strict=True):
        architecture = winner.candidate.architecture
        assert found.architecture == architecture
        assert load_architecture(tmp_path / found.hat_yaml, architecture.qkv_dim) == architecture
        assert load_architecture((tmp_path / found.hat_yaml).with_suffix(".json")) == architecture
        assert found.measured_ms <= found.limit.ms
        assert found.low_ms < found.predicted_ms < found.high_ms
    rows = folder.read_table("frontier.parquet").to_pylist()
    assert [row["architecture_id"] for row in rows] == [c.architecture.id for c in outcome.result.frontiers["macs"]]
    assert len((tmp_path / "frontier.csv").read_text().splitlines()) == len(rows) + 1
    assert CandidateTable(folder).read() == list(outcome.result.candidates)
