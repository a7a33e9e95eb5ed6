"""What the search gained over each kind of rival: one sentence a winner, with spread and p values."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from hat_ray.evaluate.evaluate import Score
from hat_ray.evaluate.significance import PairedComparison
from hat_ray.report.data import ChosenModel, Latency, ReportData
from hat_ray.report.gains import best_by_hand, gain_sentence, gains
from hat_ray.report.render import page
from hat_ray.report.topics.closing import closing_lines, summary_tables
from hat_ray.report.topics.frontier import delivered
from hat_ray.report.topics.models import cards, results
from hat_ray.search.limits import Limit
from hat_ray.search.rivals.families import hand_scaled
from hat_ray.search.selection import Kind, Matching, MissingRival, TrainedOnce
from hat_ray.space.architecture import Architecture
from hat_ray.space.presets import TOY

Make = Callable[..., ReportData]
ONE = "one training each: the spread over seeds is not known"


def scored(bleu: float) -> Score:
    return Score(bleu, "BLEU", None, None, 1.0, 1000, 5, 1.0, 30.0, 33.3, 1 << 30)


class Figures:
    """A winner for 20 ms, its rivals, and what a report shows of them."""

    def __init__(self, data: ReportData, seeds: int = 1) -> None:
        self.data, self.device, self.seeds = data, data.devices[0].slug, seeds
        self.limit = Limit.of(self.device, latency_ms=20.0)
        self.models: list[ChosenModel] = []
        self.compared: list[PairedComparison] = []
        self.missing: tuple[MissingRival, ...] = ()

    def add(
        self, kind: Kind, architecture: Architecture, bleus: Sequence[float], ms: float = 19.0, p: float = 0.01
    ) -> ChosenModel:
        first = self.data.chosen[0]
        trained = tuple(
            TrainedOnce("scratch", seed, f"{architecture.id}-{seed}", 4.0, 10, 1.0) for seed in range(self.seeds)
        )
        model = replace(
            first,
            kind=kind,
            architecture=architecture,
            limit=None if kind == "largest" else self.limit,
            latency={self.device: Latency(ms, ms)},
            size_mb={self.device: 12.34},
            score=scored(bleus[0]),
            trained=replace(first.trained, trainings=trained),
            other_scores={one.folder: scored(bleu) for one, bleu in zip(trained[1:], bleus[1:], strict=True)},
            matching=Matching(ms, True, "it is too narrow") if kind == "scaled-width" else None,
        )
        if self.models:
            self.compared.append(PairedComparison(self.models[0].architecture.id, architecture.id, (p,)))
        self.models.append(model)
        return model

    @property
    def report(self) -> ReportData:
        return replace(self.data, chosen=tuple(self.models), comparisons=tuple(self.compared), missing=self.missing)

    @property
    def sentence(self) -> str:
        return gain_sentence(self.report, self.models[0], self.device)


WINNER = TOY.smallest()
HAND = [hand_scaled(TOY, "scaled-depth")[0], hand_scaled(TOY, "scaled-width")[0], hand_scaled(TOY, "deep-shallow")[0]]


@pytest.fixture
def one_seed(small_report: Make) -> Figures:
    made = Figures(small_report())
    made.add("winner", WINNER, [30.0])
    made.add("scaled-depth", HAND[0], [28.8], 18.0, 0.004)
    made.add("scaled-width", HAND[1], [30.4], 19.5, 0.31)
    made.add("deep-shallow", HAND[2], [31.5], 19.9, 0.02)
    return made


def test_one_sentence_names_what_was_gained_lost_and_level(one_seed: Figures) -> None:
    assert one_seed.sentence == (
        "With 30.0 BLEU the search gained 1.2 over “scaled by hand, fewer layers” (28.8 at 18.0 ms, p 0.004), "
        "was level with “scaled by hand, narrower” (30.4 at 19.5 ms, p 0.310, −0.4) and "
        "lost 1.5 to “scaled by hand, deep encoder and shallow decoder” (31.5 at 19.9 ms, p 0.020) "
        f"({ONE})."
    )
    assert best_by_hand(one_seed.report, one_seed.models[0]) == one_seed.models[3]


def test_a_significant_difference_within_the_spread_of_seeds_is_level(small_report: Make) -> None:
    made = Figures(small_report(), seeds=3)
    made.add("winner", WINNER, [30.0, 28.0, 32.0])
    made.add("scaled-depth", HAND[0], [29.0, 27.5, 30.5])
    made.add("scaled-width", HAND[1], [20.0, 21.0, 22.0])
    assert [gain.differs for gain in gains(made.report, made.models[0])] == [False, True]
    assert made.sentence == (
        "With 30.0 ± 2.0 BLEU the search was level with “scaled by hand, fewer layers” (29.0 ± 1.5 at 19.0 ms, "
        "p 0.010, +1.0) and gained 9.0 over “scaled by hand, narrower” (21.0 ± 1.0 at 19.0 ms, p 0.010) "
        "(mean ± standard deviation of 3 trainings each)."
    )


def test_several_random_rivals_are_one_figure_with_its_spread(small_report: Make) -> None:
    made = Figures(small_report())
    made.add("winner", WINNER, [30.0])
    drawn = hand_scaled(TOY, "scaled-width")[2:5]
    for architecture, bleu in zip(drawn, (27.0, 28.0, 29.0), strict=True):
        made.add("random", architecture, [bleu])
    assert made.sentence == (
        "With 30.0 BLEU the search gained 2.0 over 3 random architectures (mean 28.0 ± 1.0, from 27.0 to 29.0) "
        f"({ONE})."
    )


def test_a_difference_that_shows_as_nothing_is_level(small_report: Make) -> None:
    made = Figures(small_report())
    made.add("winner", WINNER, [30.04])
    made.add("scaled-depth", HAND[0], [30.0], p=0.001)
    assert made.sentence.startswith("With 30.0 BLEU the search was level with “scaled by hand, fewer layers”")


def test_each_winner_of_a_device_has_its_sentence(one_seed: Figures) -> None:
    second = replace(one_seed.models[0], limit=Limit.of(one_seed.device, latency_ms=40.0), score=scored(20.0))
    rival = replace(one_seed.models[1], limit=second.limit, score=scored(10.0))
    data = replace(one_seed.report, chosen=(*one_seed.models, second, rival))
    [card] = [one for one in cards(data) if one.finding]
    assert "With 30.0 BLEU the search gained 1.2 over" in card.finding
    [(who, text)] = card.others
    assert who == "Chosen for ≤ 40 ms"
    assert "With 20.0 BLEU the search gained 10.0 over “scaled by hand, fewer layers” (10.0 at 18.0 ms" in text


def test_a_family_without_a_member_is_named_with_its_reason(one_seed: Figures) -> None:
    del one_seed.models[1:]
    one_seed.missing = (MissingRival("scaled-depth", one_seed.limit, "none keeps 20 ms: the fastest takes 25.4 ms"),)
    assert one_seed.sentence == (
        "With 30.0 BLEU the search found no rival “scaled by hand, fewer layers” (none keeps 20 ms: the fastest takes "
        f"25.4 ms) ({ONE})."
    )
    shown = results(one_seed.report)
    assert shown is not None
    assert "Without a member: scaled by hand, fewer layers for ≤ 20 ms: none keeps" in str(shown.notes["By hand"])


def test_the_page_shows_spread_matching_and_seeds(small_report: Make) -> None:
    made = Figures(small_report(), seeds=2)
    made.add("winner", WINNER, [30.0, 31.0])
    made.add("scaled-width", HAND[1], [28.0, 28.0])
    made.add("largest", TOY.largest(), [32.0, 33.0])
    shown = results(made.report)
    assert shown is not None
    table = dict(shown.tables)[made.data.devices[0].heading]
    assert [row[1].lines for row in table.cells] == ["30.5 ± 0.7", "28.0 ± 0.0\noutside the space", "32.5 ± 0.7"]
    assert str(shown.notes["Seeds"]).startswith("2 trainings of each model: mean ± sample standard deviation")
    figure = delivered(made.report, made.data.devices[0], "d")
    assert figure is not None
    [winner] = [trace for trace in figure.traces if trace["name"] == "Chosen"]
    bars = winner["error_y"]
    assert isinstance(bars, dict)
    assert bars["array"] == [pytest.approx(0.5**0.5)]
    assert "30.5 ± 0.7" in page(made.report)


def test_one_training_each_has_no_bars_and_says_so(one_seed: Figures) -> None:
    figure = delivered(one_seed.report, one_seed.data.devices[0], "d")
    assert figure is not None
    assert all("error_y" not in trace for trace in figure.traces)
    shown = results(one_seed.report)
    assert shown is not None
    assert str(shown.notes["Seeds"]).startswith(ONE)


def test_the_end_of_a_run_is_a_table_that_a_newcomer_understands_and_lines_to_try_it(one_seed: Figures) -> None:
    one_seed.add("largest", TOY.largest(), [32.0], ms=38.0)
    table = summary_tables(one_seed.report)[0]
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    assert columns[:5] == [
        ["chosen for ≤ 20 ms", "  scaled by hand, deep encoder and shallow decoder", "largest of the space"],
        ["30.0", "31.5", "32.0"],
        ["19.0", "19.9", "38.0"],
        ["2.00×", "1.91×", "1.00×"],
        ["12.3", "12.3", "12.3"],
    ]
    lines = closing_lines(one_seed.report, "runs/it's mine")
    assert lines[0] == f"BLEU: {ONE}."
    assert lines[2].endswith("| hat-ray translate 'runs/it'\"'\"'s mine'")
    assert lines[3:] == ["  hat-ray export 'runs/it'\"'\"'s mine' --out exported", "  hat-ray serve exported"]
    assert closing_lines(replace(one_seed.report, chosen=()), "x") == []
