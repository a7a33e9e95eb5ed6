"""The cost ledger: energy and CO2 as by hand, and words that say what was measured and what was assumed."""

import csv
import io
from collections.abc import Callable
from dataclasses import replace

import pytest

from hat_ray.core.text import energy, mass
from hat_ray.report.data import ReportData
from hat_ray.report.ledger import Ledger, LedgerLine, WorkDone
from hat_ray.report.render import page
from hat_ray.report.topics.cost import cost_sentence, ledger_figure, work_rows

Make = Callable[..., ReportData]
HOUR = 3600.0


def ledger(*lines: LedgerLine) -> Ledger:
    return Ledger(lines, core_watts=10.0, gpu_watts=300.0, grid_g_co2e_per_kwh=500.0)


def test_energy_is_busy_time_times_watts_and_co2_its_share_of_the_grid() -> None:
    busy = LedgerLine("supernet", HOUR, 2 * HOUR, HOUR, "training")
    made = ledger(busy)
    assert made.kwh(busy) == pytest.approx(2 * 0.010 + 0.300)
    assert made.co2_g(made.kwh(busy)) == pytest.approx(160.0)


def test_what_a_meter_counted_takes_the_place_of_the_estimate() -> None:
    metered = LedgerLine("latency", HOUR, 2 * HOUR, HOUR, "timings", 0.5 * 3.6e6, 1.5 * HOUR, HOUR)
    made = ledger(metered)
    assert made.estimated_j(metered) == pytest.approx(0.5 * HOUR * 10)
    assert made.kwh(metered) == pytest.approx(0.5 + 0.005)


def test_the_total_is_the_sum_of_the_lines(report: ReportData) -> None:
    made = report.ledger
    assert made is not None
    assert made.total.core_s == sum(line.core_s for line in made.lines)
    assert made.kwh(made.total) == pytest.approx(sum(made.kwh(line) for line in made.lines))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (LedgerLine("a", 1, HOUR, 0, ""), "All of that energy is estimated from busy time: no meter measured it."),
        (LedgerLine("a", 1, HOUR, 0, "", 5e4, HOUR), "All of that energy was counted by the machines' meters."),
        (LedgerLine("a", 1, HOUR, 0, "", 3.6e4, HOUR / 2), "Meters counted 10 Wh of it while architectures were timed"),
    ],
)
def test_the_sentence_says_how_much_is_measured(line: LedgerLine, words: str) -> None:
    assert words in cost_sentence(ledger(line))


def test_the_sentence_tells_hours_energy_and_co2() -> None:
    text = cost_sentence(ledger(LedgerLine("a", 1800, 2 * HOUR, 0, "")))
    assert text.startswith("2.00 h of busy CPU cores, in 30 min 00 s of wall time: about 20 Wh and 10 g of CO2")
    assert "GPU" not in text
    assert "1.00 h of busy GPUs" in cost_sentence(ledger(LedgerLine("a", 1800, 0, HOUR, "")))


def test_the_csv_holds_every_line_in_plain_units(report: ReportData) -> None:
    made = report.ledger
    assert made is not None
    columns, *rows = csv.reader(io.StringIO(ledger_figure(made).csv()))
    assert columns[:4] == ["stage", "wall s", "busy core s", "busy GPU s"]
    assert [row[0] for row in rows] == [line.stage for line in made.lines]
    assert [float(row[6]) for row in rows] == pytest.approx([made.kwh(line) for line in made.lines])


def test_the_page_names_its_assumptions_their_settings_and_their_source(report: ReportData) -> None:
    text = page(report)
    for words in ("10.0 W a busy core", "report.core_watts", "473 g of CO2", "report.grid_g_co2e_per_kwh", "Ember"):
        assert words in text
    assert "measured + estimated" in text
    assert "not measured" in text


def test_beside_hat_stand_counts_of_work() -> None:
    rows = work_rows(WorkDone(2000, 2_000_000, 60.0, 2, 250, 4, 900))
    assert ["Architectures scored, for 2 limits", "250 in one search", "7,500 in 2 searches"] in rows
    assert ["Architectures timed, on each device", "60", "2,000"] in rows
    assert ["SuperTransformer, tokens", "2.00 M", "at most 21.0 G"] in rows
    assert work_rows(WorkDone()) == []


def test_a_report_without_a_ledger_tells_time_by_stage_as_before(small_report: Make) -> None:
    without = page(small_report(ledger=None))
    assert 'id="cost"' not in without
    assert "Time by stage" in without
    text = page(replace(small_report(), name="x"))
    assert 'id="cost"' in text
    assert "Time by stage" not in text


@pytest.mark.parametrize(("kwh", "text"), [(0.00021, "0.21 Wh"), (0.035, "35 Wh"), (1.2, "1.2 kWh"), (2500, "2.5 MWh")])
def test_energies_read_easily(kwh: float, text: str) -> None:
    assert energy(kwh) == text


@pytest.mark.parametrize(("grams", "text"), [(0.21, "0.21 g"), (35, "35 g"), (1200, "1.2 kg"), (2.5e6, "2.5 t")])
def test_masses_read_easily(grams: float, text: str) -> None:
    assert mass(grams) == text
