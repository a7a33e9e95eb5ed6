"""How the trainings went, on the page."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from hat_ray.report.chart import Figure
from hat_ray.report.data import ReportData, TrainingFacts
from hat_ray.report.topics.training import Training, endings, thinned, training
from hat_ray.train.state import CurvePoint

Make = Callable[..., ReportData]


def curve(count: int, lr: float = 1e-3) -> tuple[CurvePoint, ...]:
    return tuple(CurvePoint(n, lr / n, 9.0 / n, 2.0 * n, 100.0 * n, 1.0 * n) for n in range(1, count + 1))


def shown(data: ReportData) -> Training:
    found = training(data)
    assert found is not None
    return found


def figure(data: ReportData, id: str) -> Figure:
    return next(one for one in shown(data).figures if one.id == id)


@pytest.mark.parametrize(("count", "step"), [(1, 1), (50, 1), (51, 2), (100, 2), (101, 3)])
def test_a_long_curve_is_thinned_and_keeps_its_last_point(count: int, step: int) -> None:
    updates = [point.update for point in thinned(curve(count))]
    assert updates == list(range(count, 0, -step))[::-1]
    assert len(updates) <= 50
    assert not thinned(())


def test_each_figure_shows_its_quantity_of_each_training(small_report: Make) -> None:
    one = TrainingFacts("one", "updates", 3, 100, 1.0, curve=curve(3), bleu={"model": ((2, 11.0), (3, 12.5))})
    two = replace(one, name="two", curve=curve(3, lr=2e-3), bleu={})
    three = replace(one, name="three", bleu={"largest": ((3, 9.0),), "smallest": ((3, 8.0),)})
    data = small_report(trainings=(one, two, three), supernet=(), retraining=())
    assert [one.id for one in shown(data).figures] == [
        "training-bleu", "learning-rate", "gradient-norm", "training-speed"
    ]  # fmt: skip
    assert figure(data, "training-bleu").rows == [
        ("one", 2, 11.0), ("one", 3, 12.5), ("three, largest", 3, 9.0), ("three, smallest", 3, 8.0)
    ]  # fmt: skip
    assert figure(data, "learning-rate").rows == [
        *(("one and 1 more", n, 1e-3 / n) for n in (1, 2, 3)), *(("two", n, 2e-3 / n) for n in (1, 2, 3))
    ]  # fmt: skip
    assert figure(data, "gradient-norm").rows[:3] == [("one", 1, 2.0), ("one", 2, 4.0), ("one", 3, 6.0)]
    assert figure(data, "training-speed").rows[-1] == ("three", 3, 300.0)


def test_the_table_names_each_end_and_what_the_final_model_is_made_of() -> None:
    plain = TrainingFacts("a", "updates", 12_000, 5_000_000, 90.0, made_of=(12_000,), best_update=9_000)
    early = replace(plain, name="b", ended="no improvement", updates=300, made_of=(100, 150), best_update=150)
    bare = TrainingFacts("c", "time", 7, 10, 1.0)
    table = endings([plain, early, bare])
    assert table is not None
    assert table.rows == [
        ["a", "12,000", "all its updates made", "9,000", "12,000", "5.00 M", "1 min 30 s"],
        ["b", "300", "validations stopped improving", "150", "mean of 100, 150", "5.00 M", "1 min 30 s"],
        ["c", "7", "time limit", "", "", "10", "1.0 s"],
    ]


def test_nothing_trained_shows_nothing(small_report: Make) -> None:
    assert training(small_report(trainings=(), supernet=(), retraining=())) is None
