from collections.abc import Callable
from dataclasses import replace

import pytest

from hat_ray.core.text import count, duration, limit, significant
from hat_ray.evaluate.evaluate import Score
from hat_ray.evaluate.significance import PairedComparison
from hat_ray.report.comparison.page import comparison_view
from hat_ray.report.comparison.runs import ComparedRun, devices_of
from hat_ray.report.comparison.to_json import comparison_to_json
from hat_ray.report.data import ChosenModel, Latency, ReportData
from hat_ray.report.findings import findings
from hat_ray.report.reading import VERDICT_RULE, headline_winner, limit_verdict
from hat_ray.report.render import page
from hat_ray.report.topics.closing import summary_tables
from hat_ray.report.topics.models import bounds_table, origin
from hat_ray.search.limits import Limit, Verdict
from hat_ray.search.winners import LimitedQuantity

Make = Callable[..., ReportData]


@pytest.fixture
def device(small_report: Make) -> str:
    return small_report().devices[0].slug


def scored(bleu: float) -> Score:
    return Score(bleu, "BLEU", None, None, 1.0, 1000, 5, 1.0, 30.0, 33.3, 1 << 30)


def built(model: ChosenModel, device: str, ms: float, bleu: float) -> ChosenModel:
    return replace(model, latency={device: Latency(ms, ms)}, score=scored(bleu))


def said(data: ReportData, device: str, winner: tuple[float, float], largest: tuple[float, float], drawn: float) -> str:
    """The findings on a winner for 20 ms: (ms, BLEU) of winner and largest, BLEU of a random rival as fast."""
    first = next(m for m in data.chosen if m.kind == "winner" and m.device == device)
    first = replace(built(first, device, *winner), limit=Limit.of(device, latency_ms=20.0))
    top = data.first("largest")
    assert top is not None
    rival = replace(first, kind="random", score=scored(drawn), architecture=top.architecture)
    compared = PairedComparison(first.architecture.id, top.architecture.id, (0.012,))
    chosen = (built(top, device, *largest), first, rival)
    return " ".join(findings(replace(data, chosen=chosen, comparisons=(compared,)), first, device))


def test_a_good_find_is_told_with_its_figures(small_report: Make, device: str) -> None:
    text = said(small_report(), device, (11.9, 32.1), (25.3, 32.5), 31.0)
    assert "needs 11.9 ms a sentence instead of 25.3 ms (2.1× faster than the largest architecture)" in text
    assert "loses 0.4 BLEU (32.1 against 32.5)" in text
    assert "keeps its limit of 20 ms" in text
    assert (
        "With 32.1 BLEU the search gained 1.1 over a random architecture (31.0 at 11.9 ms, p 0.012) "
        "(one training each: the spread over seeds is not known)."
    ) in text


def test_a_bad_find_is_told_as_honestly(small_report: Make, device: str) -> None:
    text = said(small_report(), device, (30.0, 8.0), (25.0, 12.0), 9.0)
    assert "1.2× slower" in text
    assert "misses its limit of 20 ms by 50 %: the predictor underestimated it" in text
    assert "With 8.0 BLEU the search lost 1.0 to a random architecture (9.0 at 30.0 ms, p 0.012)" in text
    assert "does not pass the floor of 9.6" in text


def test_a_limit_is_judged_by_the_error_of_the_measurement(small_report: Make, device: str) -> None:
    winner = next(m for m in small_report().chosen if m.kind == "winner")

    def judged(measured_ms: float | None, error: float | None) -> tuple[Verdict, str]:
        latency = {device: Latency(9.0, measured_ms, relative_error=error)}
        model = replace(winner, limit=Limit.of(device, latency_ms=10.0), latency=latency)
        return limit_verdict(model, device), " ".join(findings(small_report(chosen=(model,)), model, device))

    assert judged(10.0, 0.01)[0] is Verdict.KEPT
    found, text = judged(10.15, 0.01)
    assert found is Verdict.WITHIN_ERROR
    assert "It is 1.5 % above its limit of 10 ms, within the error of the measurement." in text
    found, text = judged(10.5, 0.01)
    assert found is Verdict.MISSED
    assert "It misses its limit of 10 ms by 5.0 %" in text
    assert judged(10.01, None)[0] is Verdict.MISSED
    assert judged(None, None)[0] is Verdict.NOT_MEASURED


def test_nothing_is_said_that_was_not_measured(small_report: Make, device: str) -> None:
    bare = replace(small_report().chosen[-1], kind="winner", latency={}, score=None, limit=None)
    data = small_report(chosen=(bare,))
    assert findings(data, bare, device) == ["The chosen model needs – a sentence."]
    assert headline_winner(small_report(chosen=()), device) is None


def test_the_headline_is_the_best_bleu_that_keeps_its_limit(small_report: Make, device: str) -> None:
    winner = next(m for m in small_report().chosen if m.kind == "winner" and m.device == device)
    good = replace(built(winner, device, 10, 30.0), limit=Limit.of(device, latency_ms=10.0))
    late = replace(built(winner, device, 40, 35.0), limit=Limit.of(device, latency_ms=30.0))
    assert headline_winner(small_report(chosen=(late, good)), device) == good
    assert headline_winner(small_report(chosen=(late,)), device) == late


def test_numbers_read_well() -> None:
    values = (0.0, 0.1234, 1.234, 12.34, 123.4, 1234.5, None, float("nan"))
    assert [significant(v) for v in values] == ["0", "0.123", "1.23", "12.3", "123", "1,234", "–", "–"]
    assert [count(v) for v in (812, 8_120, 1_234_567, 4.5e9)] == ["812", "8.12 k", "1.23 M", "4.50 G"]
    assert [duration(s) for s in (8.2, 200, 7500)] == ["8.2 s", "3 min 20 s", "2 h 05 min"]
    assert [limit(v) for v in (40.0, 12.5, 8.95709, 1500.0, None)] == [
        *("40 ms", "12.5 ms", "8.957 ms", "1,500 ms", "–")
    ]


def test_test_sentences_within_the_training_text_and_what_was_left_out_are_told(
    small_report: Make, device: str
) -> None:
    data = small_report()
    assert "Caution" not in said(data, device, (11.9, 32.1), (25.3, 32.5), 31.0)
    corpus = replace(data.corpus, test_sources_in_train=1204, train_text="30 of 100 pairs kept (70 without a side)")
    leaky = replace(data, corpus=corpus)
    text = said(leaky, device, (11.9, 32.1), (25.3, 32.5), 31.0)
    assert "Caution: 1,204 test sources stand in the training text: scores are too high" in text
    general = origin(leaky).general
    assert general["Training text"] == "30 of 100 pairs kept (70 without a side)"
    assert str(general["Caution"]).startswith("1,204 test sources stand in the training text")


def test_places_of_the_text_that_are_not_aligned_are_cautions(small_report: Make, device: str) -> None:
    data = small_report()
    lines = ("training text, all pairs: the sides are swapped", "test text, pairs 1 to 300: both sides are identical")
    faulty = replace(data, corpus=replace(data.corpus, text_findings=lines))
    assert "do not belong together, or are not what they should be, in 2 places." in said(
        faulty, device, (11.9, 32.1), (25.3, 32.5), 31.0
    )
    general = origin(faulty).general
    assert [str(general[f"Text, caution {number}"]) for number in (1, 2)] == list(lines)


def test_a_limit_on_several_quantities_is_shown_bound_by_bound(small_report: Make, device: str) -> None:
    winner = next(m for m in small_report().chosen if m.kind == "winner" and m.device == device)
    limit = Limit.of(device, latency_ms=10.0, p90_ms=12.0, model_mb=20.0)
    quantities = {
        "p90_ms": LimitedQuantity(11.0, 10.5, 11.9, 13.2),
        "model_mb": LimitedQuantity(20.0, None, None, 20.0),
    }
    model = replace(built(winner, device, 9.0, 30.0), limit=limit, quantities=quantities)
    timed = replace(model.latency[device], low_ms=8.5, high_ms=9.75)
    model = replace(model, latency={**model.latency, device: timed})
    beside = {"p90_ms": LimitedQuantity(11.5, 11.0, 12.0, None), "model_mb": LimitedQuantity(14.0, None, None, 14.0)}
    rival = replace(built(winner, device, 10.0, 28.0), kind="random", limit=limit, quantities=beside)
    data = small_report(chosen=(model, rival))
    assert limit_verdict(model, device) is Verdict.MISSED
    text = " ".join(findings(data, model, device))
    assert "misses its limit of 10 ms, model 20 MB, p90 12 ms by 10.0 %" in text
    assert "by 10.0 % in 90th percentile of the latency: the predictor" in text
    shown = bounds_table(data, data.devices[0]).cells
    assert [[cell.text for cell in row[1:]] for row in shown] == [
        ["latency", "10 ms", "9.00", "8.50 – 9.75", "9.00", "✓ kept"],
        ["model size", "20 MB", "20.0", "", "20.0", "✓ kept"],
        ["90th percentile of the latency", "12 ms", "11.0", "10.5 – 11.9", "13.2", "✗ missed"],
        ["latency", "10 ms", "10.0", "", "10.0", "✓ kept"],
        ["model size", "20 MB", "14.0", "", "14.0", "✓ kept"],
        ["90th percentile of the latency", "12 ms", "11.5", "11.0 – 12.0", "–", "not measured"],
    ]
    assert [row[0].kind for row in shown] == ["winner"] * 3 + ["random"] * 3
    assert len(summary_tables(data)) == len(summary_tables(small_report())) + 1
    assert "every bound" in VERDICT_RULE


def test_a_comparison_shows_every_bound_of_a_winner(small_report: Make, device: str) -> None:
    winner = next(m for m in small_report().chosen if m.kind == "winner" and m.device == device)
    limit = Limit.of(device, latency_ms=10.0, p90_ms=12.0, model_mb=20.0)
    quantities = {
        "p90_ms": LimitedQuantity(11.0, 10.5, 11.9, None),
        "model_mb": LimitedQuantity(18.25, None, None, 18.25),
    }
    model = replace(built(winner, device, 9.0, 30.0), limit=limit, quantities=quantities)
    plain = small_report()
    runs = [ComparedRun("A", "joint", "/a", small_report(chosen=(model,))), ComparedRun("B", "plain", "/b", plain)]
    columns, *rows = winners_on(runs, device)
    assert columns[-1] == "Bounds beside the latency"
    assert rows[0][-1] == ("✓ model size 18.2 of 20 MB, 90th percentile of the latency 11.0 of 12 ms (predicted)")
    assert {row[-1] for row in rows[1:]} == {"–"}
    assert winners_on([runs[1], replace(runs[1], run_label="C")], device)[0][-1] == "Architecture"
    [told] = [one for one in comparison_to_json(runs, devices_of(runs), [])["devices"] if one["device"] == device]
    found = told["winners"][0]["quantities"]
    assert found["p90_ms"] == {
        **{"name": "p90_ms", "most": 12.0, "predicted": 11.0, "low": 10.5, "high": 11.9},
        **{"measured": None, "verdict": "not measured"},
    }
    assert found["model_mb"]["measured"] == 18.25


def winners_on(runs: list[ComparedRun], device: str) -> list[list[str]]:
    """Return the names and the rows of the comparison's table of winners on a device."""
    title = next(one.device.title for one in devices_of(runs) if one.device.slug == device)
    [shown] = [one.shown for one in comparison_view(runs).winners if one.device == title]
    assert shown is not None
    return [shown.table.names, *([cell.text for cell in row] for row in shown.table.cells)]


def test_the_page_is_shown_with_bounds(small_report: Make, device: str) -> None:
    winner = next(m for m in small_report().chosen if m.kind == "winner" and m.device == device)
    limit = Limit.of(device, latency_ms=10.0, model_mb=20.0)
    model = replace(winner, limit=limit, quantities={"model_mb": LimitedQuantity(20.0, None, None, 20.0)})
    data = small_report(chosen=(model,))
    assert "Limits on" in page(data)
    assert "Limits on" not in page(small_report())
