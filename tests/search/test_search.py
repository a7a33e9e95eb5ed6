"""The search in one process: its result, its table, and that a killed search goes on."""

import math
from pathlib import Path

import pytest
from search_stand_ins import bigger_is_better, depth_ms, macs_ms

from hat_ray.errors import SearchError
from hat_ray.latency.quantities import LATENCY
from hat_ray.search.candidates import Candidate, CandidateTable
from hat_ray.search.config import SearchConfig
from hat_ray.search.engine.local import run_search
from hat_ray.search.frontier import SearchResult, hypervolume, scored_whole
from hat_ray.search.limits import Limit
from hat_ray.space.architecture import Architecture
from hat_ray.space.presets import TOY
from hat_ray.storage.folder import Folder

CONFIG = SearchConfig(algorithm_options={"population": 10, "parents": 5}, evaluations=40)
LIMITS = (Limit.of("macs", latency_ms=60.0), Limit.of("macs", latency_ms=120.0), Limit.of("depth", latency_ms=25.0))
DEVICES = {"macs": {LATENCY: macs_ms}, "depth": {LATENCY: depth_ms}}


class Counting:
    """A scorer that counts, and dies after so many."""

    def __init__(self, dies_after: int = 10**6) -> None:
        self.scored: list[Architecture] = []
        self._dies_after = dies_after

    def __call__(self, architecture: Architecture) -> float:
        if len(self.scored) >= self._dies_after:
            raise KeyboardInterrupt
        self.scored.append(architecture)
        return bigger_is_better(architecture)


def search(folder: Path, score: Counting, config: SearchConfig = CONFIG, seed: int = 0) -> SearchResult:
    return run_search(TOY, DEVICES, LIMITS, score, config, Folder.at(folder), seed)


def test_winners_keep_their_limits_and_stand_on_the_frontier(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    result = run_search(
        TOY, DEVICES, LIMITS, Counting(), CONFIG, Folder.at(tmp_path), 0, lambda n, m, _: seen.append((n, m))
    )
    assert len(result.candidates) == CONFIG.evaluations
    assert seen == [(n + 1, CONFIG.evaluations) for n in range(CONFIG.evaluations)]
    assert [winner.limit for winner in result.winners] == list(LIMITS)
    for winner in result.winners:
        assert winner.candidate.latency_ms[winner.limit.device] <= winner.limit.ms
        within = [c for c in result.candidates if c.latency_ms[winner.limit.device] <= winner.limit.ms]
        assert winner.candidate.loss_bits == min(c.loss_bits for c in within)
        assert winner.candidate in result.frontiers[winner.limit.device]
    whole = scored_whole(result.candidates)
    assert hypervolume([c.loss_bits for c in whole], [c.takes_ms("macs") for c in whole], (7.0, 500.0)) > 0
    by_id = {c.architecture.id: c for c in result.candidates}
    children = [c for c in result.candidates if c.parents]
    assert children
    assert all(by_id[parent].order < child.order for child in children for parent in child.parents)


def test_progress_of_hats_evolution_counts_what_it_spends_on_networks_that_it_knows(tmp_path: Path) -> None:
    config = SearchConfig(algorithm="hat", algorithm_options={"population": 10, "parents": 5}, evaluations=60)
    said: list[tuple[int, int]] = []
    result = run_search(
        TOY,
        {"macs": {LATENCY: macs_ms}},
        LIMITS[:1],
        Counting(),
        config,
        Folder.at(tmp_path),
        0,
        lambda n, m, _: said.append((n, m)),
    )
    assert len(result.candidates) < 60  # parents are evaluated again
    assert said[-1] == (60, 60)
    done = [count for count, _ in said]
    assert done == sorted(set(done))
    assert len(said) <= len(result.candidates) + 1


def test_a_killed_search_goes_on_and_ends_like_one_that_was_not(tmp_path: Path) -> None:
    whole = search(tmp_path / "whole", Counting())
    killed, again = Counting(dies_after=17), Counting()
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "killed", killed)
    resumed = search(tmp_path / "killed", again)
    assert not set(killed.scored) & set(again.scored)
    assert len(killed.scored) + len(again.scored) == CONFIG.evaluations
    assert [(c.architecture, c.loss_bits, c.order) for c in resumed.candidates] == [
        (c.architecture, c.loss_bits, c.order) for c in whole.candidates
    ]
    assert [w.candidate.architecture for w in resumed.winners] == [w.candidate.architecture for w in whole.winners]


def test_a_finished_search_scores_nothing_again(tmp_path: Path) -> None:
    first = search(tmp_path, Counting())
    idle = Counting()
    assert search(tmp_path, idle) == first
    assert idle.scored == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["candidates.parquet", "search.json"]


def test_a_folder_with_another_search_is_refused(tmp_path: Path) -> None:
    search(tmp_path, Counting())
    with pytest.raises(SearchError, match="another space, predictor, limits, settings or seed"):
        search(tmp_path, Counting(), seed=1)
    search(tmp_path, Counting(), CONFIG.model_copy(update={"workers": 7}))  # not another search


def test_a_table_gives_back_what_was_appended(tmp_path: Path) -> None:
    table = CandidateTable(Folder.at(tmp_path))
    largest = Candidate(TOY.largest(), 3.25, {"a": 1.5, "b": 2.5}, 1, 2, "crossover", ("x", "y"), 0.25)
    smallest = Candidate(TOY.smallest(), math.inf, {"a": 0.5, "b": 0.25})
    assert table.read() == []
    table.append([largest])
    table.append([])
    table.append([smallest, largest])
    assert table.read() == [smallest, largest]
    table.compact()
    assert table.read() == [smallest, largest]
    assert [path.name for path in tmp_path.iterdir()] == ["candidates.parquet"]
