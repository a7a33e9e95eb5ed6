"""The two studies on the page: every architecture drawn once, tables alike everywhere, sentences that follow."""

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from hat_ray.report.data import ReportData
from hat_ray.report.render import page
from hat_ray.report.topics.ranking import policy_sentence, ranking_sentence, ranks_table, study_table, study_tables
from hat_ray.report.topics.ranking_charts import inherited_against_scratch, policy_ranks
from hat_ray.studies.results import PolicyStudy, RankingResult
from hat_ray.studies.statistics import Estimate


@pytest.fixture
def ranking(report: ReportData) -> RankingResult:
    assert report.ranking is not None
    return report.ranking


@pytest.fixture
def study(report: ReportData) -> PolicyStudy:
    assert report.policies is not None
    return report.policies


def test_each_architecture_is_drawn_once_by_its_depth_in_bits(ranking: RankingResult) -> None:
    figure = inherited_against_scratch(ranking, "x")
    drawn = {(x, y) for trace in figure.traces for x, y in zip(trace["x"], trace["y"], strict=True)}  # type: ignore[call-overload]
    expected = {
        (one.scratch_mean_bits, bits) for one, bits in zip(ranking.tried, ranking.inherited_loss_bits, strict=True)
    }
    assert drawn == expected
    assert len(figure.traces) == len({one.architecture.decoder.depth for one in ranking.tried})
    assert len(figure.rows) == len(ranking.tried)


def test_terminal_and_markdown_show_the_same_cells(study: PolicyStudy, ranking: RankingResult) -> None:
    text = study_table(study).markdown()
    console = Console(width=150, record=True, file=io.StringIO())
    for table in study_tables([ranking, study]):
        console.print(table)
    shown = console.export_text()
    for row in [*study_table(study).rows, *ranks_table(ranking.loss_ranks).rows]:
        for cell in row:
            for line in cell.split("\n"):
                assert line in shown
    for row in study_table(study).rows:
        assert f"| {' | '.join(' '.join(cell.split()) for cell in row)} |" in text
    assert text.count("\n") == 2 + len(study.policies) + len(study.baselines)


def test_single_supernets_stand_beside_their_mean(study: PolicyStudy) -> None:
    figure = policy_ranks(study, "x")
    single = [row for row in figure.rows if row[1] != "mean"]
    assert [row[2] for row in single] == [net.within for net in study.supernets]


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (Estimate(0.2, 0.1, 0.3), "rank better than the layer count."),
        (Estimate(-0.2, -0.3, -0.1), "rank worse than the layer count."),
        (Estimate(0.1, -0.1, 0.3), "Too few architectures to decide"),
        (Estimate(None), "Too few architectures"),
    ],
)
def test_the_verdict_follows_from_the_interval(ranking: RankingResult, gain: Estimate, words: str) -> None:
    first, *others = ranking.loss_ranks
    assert words in ranking_sentence(replace(ranking, loss_ranks=(replace(first, gain=gain), *others)))


def test_a_policy_wins_only_with_an_interval_above_zero(study: PolicyStudy) -> None:
    first, second = study.policies
    better = replace(second, within=Estimate(0.9, 0.8, 1.0))
    sure = replace(study, policies=(first, replace(better, gain=Estimate(0.3, 0.1, 0.5))))
    assert "more than chance" in policy_sentence(sure)
    unsure = replace(study, policies=(first, replace(better, gain=Estimate(0.3, -0.1, 0.5))))
    assert "chance may have made" in policy_sentence(unsure)
    worse = replace(study, policies=(replace(first, within=Estimate(0.95)), second))
    assert "No other policy ranks better" in policy_sentence(worse)
    unknown = replace(study, policies=tuple(replace(one, within=Estimate(None)) for one in study.policies))
    assert "no order" in policy_sentence(unknown)


def test_a_report_without_studies_has_neither_section(small_report: Callable[..., ReportData]) -> None:
    text = page(small_report(ranking=None, policies=None))
    assert 'id="ranking"' not in text
    assert 'href="#policies"' not in text
