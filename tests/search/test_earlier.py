"""Candidates of earlier runs: known from the start, refused where another model scored them."""

import json
import math
from pathlib import Path

import pyarrow as pa
import pytest
from search_stand_ins import EIGHT, bigger_is_better, macs_ms
from typer.testing import CliRunner

from hat_ray.cli import app
from hat_ray.errors import FormatError, SearchError
from hat_ray.latency.quantities import LATENCY
from hat_ray.search.candidates import EARLIER, TABLE, Candidate, CandidateTable
from hat_ray.search.config import SearchConfig
from hat_ray.search.engine.device_predictions import Prediction
from hat_ray.search.engine.local import run_search
from hat_ray.search.engine.measured import adopt
from hat_ray.search.engine.session import Phase
from hat_ray.search.frontier import SearchResult
from hat_ray.search.limits import Limit
from hat_ray.search.warm_start import earlier_candidates
from hat_ray.space.architecture import Architecture
from hat_ray.space.presets import TOY
from hat_ray.storage.folder import Folder

CONFIG = SearchConfig(algorithm_options={"population": 10, "parents": 5}, evaluations=30)
LIMIT = Limit.of("macs", latency_ms=120.0)
KNOWN = {"macs": {LATENCY: Prediction(macs_ms, macs_ms, lambda some: (0.9 * macs_ms(some), 1.1 * macs_ms(some)))}}


class Counting:
    def __init__(self) -> None:
        self.scored: list[Architecture] = []

    def __call__(self, architecture: Architecture) -> float:
        self.scored.append(architecture)
        return bigger_is_better(architecture)


def search(folder: Path, score: Counting, seed: int = 0) -> SearchResult:
    phase = Phase(intervals={"macs": KNOWN["macs"][LATENCY].interval}, scored_by="this")
    return run_search(TOY, {"macs": {LATENCY: macs_ms}}, [LIMIT], score, CONFIG, Folder.at(folder), seed, phase=phase)


def test_a_warm_search_scores_as_many_new_ones_and_never_the_old(tmp_path: Path) -> None:
    first = search(tmp_path / "first", Counting())
    known = earlier_candidates([str(tmp_path / "first")], TOY, "this")
    assert [one.architecture for one in known] == [one.architecture for one in first.candidates]
    adopt(Folder.at(tmp_path / "warm"), known, KNOWN)
    score = Counting()
    warm = search(tmp_path / "warm", score, seed=1)
    assert len(score.scored) == CONFIG.evaluations
    assert not set(score.scored) & {one.architecture for one in first.candidates}
    assert len(warm.candidates) == 2 * CONFIG.evaluations
    assert [one.round for one in warm.candidates] == [EARLIER] * CONFIG.evaluations + [0] * CONFIG.evaluations
    assert warm.winners[0].candidate.loss_bits <= first.winners[0].candidate.loss_bits
    adopt(Folder.at(tmp_path / "warm"), known, KNOWN)  # a search that is resumed has them already
    idle = Counting()
    assert search(tmp_path / "warm", idle, seed=1) == warm
    assert idle.scored == []


def test_candidates_of_another_model_are_refused(tmp_path: Path) -> None:
    search(tmp_path / "first", Counting())
    place = str(tmp_path / "first")
    with pytest.raises(SearchError, match="another SuperTransformer or validation set scored its candidates"):
        earlier_candidates([place], TOY, "that")
    with pytest.raises(SearchError, match="holds no candidates"):
        earlier_candidates([str(tmp_path / "nowhere")], TOY, "this")
    assert earlier_candidates([place], EIGHT, "this") == []  # of this model, but outside the space


def test_a_table_that_names_no_supertransformer_cannot_start_a_search_warm(tmp_path: Path) -> None:
    candidate = Candidate(TOY.largest(), 3.25, {"macs": 1.5}, 0, 2, "crossover", ("x",), 0.25)
    CandidateTable(Folder.at(tmp_path)).append([candidate])
    assert CandidateTable(Folder.at(tmp_path)).read() == [candidate]
    with pytest.raises(SearchError, match="does not say which SuperTransformer"):
        earlier_candidates([str(tmp_path)], TOY, "this")


def test_a_loss_that_is_no_number_is_null_in_the_table_and_comes_back(tmp_path: Path) -> None:
    candidates = [Candidate(TOY.largest(), math.inf, {"macs": 1.5}), Candidate(TOY.smallest(), 3.0, {"macs": 1.0}, 1)]
    assert TABLE.to_table(candidates)["loss_bits"].to_pylist() == [None, 3.0]
    CandidateTable(Folder.at(tmp_path)).append(candidates)
    assert CandidateTable(Folder.at(tmp_path)).read() == candidates


def test_a_file_that_is_no_candidates_table_or_of_another_format_is_named(tmp_path: Path) -> None:
    Folder.at(tmp_path).write_table("candidates.parquet", pa.table({"architecture": [1]}))
    with pytest.raises(FormatError, match=r"candidates\.parquet names no format, this hat-ray reads format 5"):
        CandidateTable(Folder.at(tmp_path)).read()
    older = TABLE.to_table([Candidate(TOY.largest(), 3.25, {})]).replace_schema_metadata({"schema_version": "3"})
    Folder.at(tmp_path).write_table("candidates.parquet", older)
    with pytest.raises(FormatError, match=r"candidates\.parquet has format 3, this hat-ray reads format 5"):
        CandidateTable(Folder.at(tmp_path)).read()


def test_show_tells_candidates_and_frontiers_of_a_search_that_is_not_finished(tmp_path: Path) -> None:
    result = search(tmp_path, Counting())
    told = CliRunner().invoke(app, ["search", "show", str(tmp_path)])
    assert told.exit_code == 0, told.output
    assert "30 candidates" in told.stdout
    assert "frontier on macs" in told.stdout
    found = json.loads(CliRunner().invoke(app, ["search", "show", str(tmp_path), "--json"]).stdout)
    assert [one["id"] for one in found["frontiers"]["macs"]] == [c.architecture.id for c in result.frontiers["macs"]]
    assert sum(found["origins"].values()) == 30
    for one in found["frontiers"]["macs"]:
        assert one["low_ms"] < one["latency_ms"] < one["high_ms"]
        assert one["measured_ms"] is None


def test_show_refuses_what_it_cannot_show(tmp_path: Path) -> None:
    runner = CliRunner()
    nowhere = runner.invoke(app, ["search", "show", str(tmp_path / "nowhere")])
    assert str(nowhere.exception) == f"folder {tmp_path}/nowhere does not exist: name a folder that does"
    (tmp_path / "empty").mkdir()
    empty = runner.invoke(app, ["search", "show", str(tmp_path / "empty")])
    assert "holds no candidates" in str(empty.exception)
    search(tmp_path, Counting())
    other = runner.invoke(app, ["search", "show", str(tmp_path), "--device", "pi"])
    assert "has no device pi; it has macs" in str(other.exception)


def test_the_search_command_keeps_its_short_form_and_both_helps() -> None:
    runner = CliRunner()
    assert "search show runs/toy" in runner.invoke(app, ["search", "--help"]).stdout
    assert "search.warm_start" in runner.invoke(app, ["search", "run", "--help"]).stdout
    assert "no recipe is called" in str(runner.invoke(app, ["search", "nothing-like-it", "--local"]).exception)
