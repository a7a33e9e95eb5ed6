"""The predictor on HAT's eight latency tables, beside HAT's network trained with its published settings.

    pytest -m benchmark -s --timeout 3600 tests/benchmarks/bench_predictor.py

Splits as HAT's: `random.seed(s)`, shuffle, 80/10/10, the last 200 rows test; mean over s = 0, 1, 2. Smaller tables are
the first rows of the same shuffle. The network trains for about 40 s a table and seed on one thread (20 minutes in
all); `-k "not beside"` leaves it out.
"""

import itertools
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hat_ray.latency.table.parts import partition_values, partitions
from hat_ray.latency.table.table import read_table, workloads_in
from hat_ray.predictor.config import PredictorConfig
from hat_ray.predictor.design import most_informative, relative_columns
from hat_ray.predictor.predictor import Predictor
from hat_ray.predictor.quality import quality
from hat_ray.predictor.rows import TimedRows, read_rows, rows_of_averages
from hat_ray.predictor.slow_periods import BoolArray
from hat_ray.space.features import FloatArray
from hat_ray.space.presets import PRESETS, SPACE0
from tests.predictor.hat_tables import BURSTS, hat_columns, split

pytestmark = pytest.mark.benchmark

SEEDS = (0, 1, 2)
SHIPPED = Path(__file__).parents[2] / "latency_data"
CONFIG = PredictorConfig()
LATENCY_UNIT_MS = {"raspberrypi": 5000.0, "xeon": 300.0, "titanxp": 200.0}  # HAT's lat-norm
FEATURE_UNIT = np.array([640, 6, 2048, 6, 640, 6, 2048, 6, 6, 2])  # HAT's feature-norm
TABLES = (
    *("iwslt14deen_gpu_titanxp", "wmt14ende_cpu_raspberrypi", "wmt14ende_cpu_xeon", "wmt14ende_gpu_titanxp"),
    *("wmt14enfr_cpu_raspberrypi", "wmt14enfr_cpu_xeon", "wmt14enfr_gpu_titanxp", "wmt19ende_gpu_titanxp"),
)


@dataclass(frozen=True)
class Table:
    """One of HAT's files."""

    name: str
    rows: TimedRows
    averages: FloatArray
    in_burst: BoolArray


@pytest.fixture(scope="module")
def tables(shared: Path) -> list[Table]:
    return [_read(shared, name) for name in TABLES]


def test_full_tables_beside_hats_network(tables: list[Table]) -> None:
    print(
        f"\n{'1,600 rows':28}{'error %':>9}{'HAT':>7}{'of it':>7}"
        f"{'in 10 %':>9}{'HAT':>6}{'tau':>7}{'HAT':>7}  burst-free"
    )
    ratios, free_ratios = [], []
    for table in tables:
        ours, hats, free = [], [], []
        for seed in SEEDS:
            train, test = split(1600, seed)
            calm = [row for row in test if not table.in_burst[row]]
            predictor = Predictor.fit(table.rows[train], CONFIG, table.name, SPACE0.id, seed)
            network = _hats_network(table, train, seed)
            for told, place in (
                (predictor.predict_rows(table.rows[test]), ours),
                (network(table.averages[test]), hats),
            ):
                found = quality(table.rows.total_ms[test], told)
                place.append((found.mape, found.within_10, found.kendall_tau))
            measured = table.rows.total_ms[calm]
            told = [predictor.predict_rows(table.rows[calm]), network(table.averages[calm])]
            if table.in_burst.any():  # and HAT's network trained on calm rows alone, as if it had been told of them
                calm_train = [row for row in train if not table.in_burst[row]]
                told.append(_hats_network(table, calm_train, seed)(table.averages[calm]))
            free.append([quality(measured, one).mape for one in told])
        (mape, within, tau), (hat_mape, hat_within, hat_tau) = np.mean(ours, axis=0), np.mean(hats, axis=0)
        calm_ours, calm_hats, *calm_told = np.mean(free, axis=0)
        ratios.append(mape / hat_mape)
        beside = ""
        if table.in_burst.any():
            free_ratios.append(calm_ours / calm_hats)
            beside = f"  {calm_ours:.2f} of {calm_hats:.2f}: {free_ratios[-1]:.2f}"
            beside += f"; of {calm_told[0]:.2f} when trained on such rows alone: {calm_ours / calm_told[0]:.2f}"
        print(
            f"{table.name:28}{mape:9.2f}{hat_mape:7.2f}{ratios[-1]:7.2f}{within:9.1f}{hat_within:6.1f}"
            f"{tau:7.3f}{hat_tau:7.3f}{beside}",
            flush=True,
        )
    print(f"mean share of HAT's error {np.mean(ratios):.3f}; burst-free {np.mean(free_ratios):.3f}")


def test_learning_curve_coverage_and_bursts(tables: list[Table]) -> None:
    counts = (20, 50, 100, 200, 500, 1600)
    print(
        f"\n{'error %, by rows':28}"
        + "".join(f"{count:>7}" for count in counts)
        + "  200/1600  90 % covers  slow: found, precision, recall"
    )
    for table in tables:
        errors, covered = [], []
        for count in counts:
            found = []
            for seed in SEEDS:
                train, test = split(count, seed)
                predictor = Predictor.fit(table.rows[train], CONFIG, table.name, SPACE0.id, seed)
                measured, rows = table.rows.total_ms[test], table.rows[test]
                found.append(quality(measured, predictor.predict_rows(rows)).mape)
                low, high = predictor.predict_rows(rows, 0.05), predictor.predict_rows(rows, 0.95)
                covered.append((count, 100 * float(((low <= measured) & (measured <= high)).mean())))
            errors.append(np.mean(found))
        slow = Predictor.fit(table.rows, CONFIG, table.name, SPACE0.id, 0).held_out.slow
        right = int((slow & table.in_burst).sum())
        told = f"{slow.sum()}"
        if table.in_burst.any():
            told += f", {right / max(1, slow.sum()):.3f}, {right / table.in_burst.sum():.3f}"
        shares = {count: np.mean([share for of, share in covered if of == count]) for count in counts}
        print(
            f"{table.name:28}"
            + "".join(f"{error:7.2f}" for error in errors)
            + f"{errors[3] / errors[5]:10.2f}{shares[1600]:7.1f}"
            + f" ({min(shares.values()):.0f}-{max(shares.values()):.0f})  {told}",
            flush=True,
        )


def test_ten_rows_with_other_devices_beside_fifty_alone(tables: list[Table]) -> None:
    """Other tables of the same space lend; of 400 rows at hand ten are chosen, at random or by what they tell.

    Beside that what no method with ten rows knows: which other table is most like this one, and the level that all
    2,000 rows say this one has to it (`like`); and the same with the level that the ten random rows say (`its level`).
    """
    print(
        f"\n{'error %':28}{'50 alone':>9}{'10 alone':>9}{'10 lent':>9}{'10 chosen':>10}{'like':>7}{'its level':>10}"
        f"{'chosen/50':>10}{'like/50':>8}{'level/50':>9}"
    )
    ratios = []
    lenders = {t.name: Predictor.fit(t.rows, CONFIG, t.name, SPACE0.id, 0) for t in tables}
    for table in tables:
        source_predictors = [lender for name, lender in lenders.items() if name != table.name]
        log_ratios = min(
            (np.log(table.rows.total_ms / source.predict_rows(table.rows)) for source in source_predictors),
            key=lambda one: float(np.abs(one - np.median(one)).mean()),
        )
        found: list[list[float]] = []
        for seed in range(24):
            order = list(range(2000))
            random.Random(seed).shuffle(order)
            pool, test = order[:400], order[1800:]
            chosen = [pool[place] for place in _chosen(table.rows[pool], source_predictors, 10)]
            tries = ((order[:50], []), (order[:10], []), (order[:10], source_predictors), (chosen, source_predictors))
            errors = [
                quality(
                    table.rows.total_ms[test],
                    Predictor.fit(table.rows[sorted(rows)], CONFIG, "new", SPACE0.id, seed, lent).predict_rows(
                        table.rows[test]
                    ),
                ).mape
                for rows, lent in tries
            ]
            for level in (np.median(log_ratios), np.median(log_ratios[order[:10]])):
                errors.append(100 * float(np.abs(np.expm1(level - log_ratios[test])).mean()))
            found.append(errors)
        errors = np.mean(found, axis=0)
        ratios.append([errors[3] / errors[0], errors[4] / errors[0], errors[5] / errors[0]])
        print(
            f"{table.name:28}"
            + "".join(f"{one:{width}.2f}" for one, width in zip(errors, (9, 9, 9, 10, 7, 10), strict=True))
            + "".join(f"{one:{width}.2f}" for one, width in zip(ratios[-1], (10, 8, 9), strict=True)),
            flush=True,
        )
    print("medians of the last three: " + ", ".join(f"{one:.3f}" for one in np.median(ratios, axis=0)))


def test_whole_architectures_beside_ten_averages() -> None:
    """On the tables that ship: ten-fold error of all that rows tell, of cost terms from averages, of the averages as
    they are (the same model on HAT's ten columns), and of HAT's network."""
    print(
        f"\n{'error %':12}{'rows':>6}{'timing':>8}{'whole':>8}{'terms of averages':>19}{'ten averages':>14}{'HAT':>7}"
    )
    for place in partitions(SHIPPED):
        space_id, slug = partition_values(place)
        (where, *_) = workloads_in(str(SHIPPED), space_id, slug)
        rows = read_rows(str(SHIPPED), space_id, slug, where)
        averages = _averages(space_id, slug)
        terms = replace(rows, layers=None)
        raw = replace(terms, costs=_padded(averages))
        errors = [
            np.mean([Predictor.fit(one, CONFIG, slug, space_id, seed).quality.mape for seed in SEEDS])
            for one in (rows, terms, raw)
        ]
        table = Table("own", rows, averages, np.zeros(len(rows), dtype=bool))
        hat = np.mean([_hats_error(table, seed) for seed in SEEDS])
        title = next(name for name, space in PRESETS.items() if space.id == space_id)
        threads = slug.split("-")[-3]
        print(
            f"{title:8}{threads:4}{len(rows):6}{100 * np.median(rows.errors):8.2f}{errors[0]:8.2f}{errors[1]:19.2f}"
            f"{errors[2]:14.2f}{hat:7.2f}",
            flush=True,
        )


def test_a_million_predictions(tables: list[Table]) -> None:
    rng = random.Random(0)
    architectures = [SPACE0.sample(rng) for _ in range(100_000)]
    rows = tables[0].rows
    plain = Predictor.fit(rows, CONFIG, "d", SPACE0.id, 0)
    began = time.perf_counter()
    plain.predict(architectures)
    seconds = time.perf_counter() - began
    print(f"\n100,000 predictions, features included: {seconds:.2f} s, {60e-6 * 1e5 / seconds:.1f} million a minute")


def _averages(space_id: str, slug: str) -> FloatArray:
    rows = sorted(read_table(SHIPPED, space_id, slug), key=lambda row: row.context.utc_time)
    return np.array([row.hat_features for row in rows])


def _padded(averages: FloatArray) -> FloatArray:
    """Return HAT's averages in the places of the cost terms that they stand beside, and nothing else: (N, 15)."""
    columns = np.zeros((len(averages), 15))
    columns[:, [1, 0, 2, 3]] = averages[:, :4]
    columns[:, [7, 6, 8, 9, 10, 11]] = averages[:, 4:]
    return columns


def _hats_error(table: Table, seed: int) -> float:
    order = np.random.default_rng(seed).permutation(len(table.rows)).tolist()
    test, train = order[: len(order) // 5], order[len(order) // 5 :]
    predicted = _hats_network(table, train, seed)(table.averages[test])
    return quality(table.rows.total_ms[test], predicted).mape


def _chosen(rows: TimedRows, source_predictors: list[Predictor], count: int) -> list[int]:
    columns = relative_columns(rows.costs, [source.predict_rows(rows) for source in source_predictors])
    return most_informative(columns[:0], columns, count)


def _hats_network(table: Table, train: list[int], seed: int):  # type: ignore[no-untyped-def]
    """Train HAT's network: ten averages, four hidden layers of 400, Adam 1e-5, 5,000 updates of 128 rows."""
    torch.manual_seed(seed)
    unit = LATENCY_UNIT_MS.get(table.name.rpartition("_")[2], float(table.rows.total_ms.max()))
    sizes = [10, 400, 400, 400, 400]
    hidden = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    network = nn.Sequential(*hidden, nn.Linear(400, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-5)
    inputs = torch.tensor(table.averages[train] / FEATURE_UNIT, dtype=torch.float32)
    targets = torch.tensor(table.rows.total_ms[train] / unit, dtype=torch.float32)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(5000):
        batch = torch.randperm(len(inputs), generator=draw)[:128]
        loss = nn.functional.mse_loss(network(inputs[batch])[:, 0], targets[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def predict(averages: FloatArray) -> FloatArray:
        with torch.no_grad():
            told = network(torch.tensor(averages / FEATURE_UNIT, dtype=torch.float32))[:, 0]
        return np.asarray(told.numpy(), dtype=np.float64) * unit

    return predict


def _read(shared: Path, name: str) -> Table:
    averages, encoder, decoder = hat_columns(shared, name)
    in_burst = np.zeros(len(averages), dtype=bool)
    for first, last in BURSTS.get(name, ()):
        in_burst[first : last + 1] = True
    return Table(name, rows_of_averages(averages, encoder + decoder, encoder), averages, in_burst)
