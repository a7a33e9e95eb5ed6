"""Error of the predictor on HAT's eight tables, beside HAT's network.

Run: `pytest -m benchmark -s tests/benchmarks/bench_predictor.py`.
HAT's figures are of its own network with its published settings on the same splits (seeds 0, 1, 2; last 200 rows).
"""

import csv
import random
from pathlib import Path

import numpy as np
import pytest

from hat_ray.predictor.config import PredictorConfig
from hat_ray.predictor.model import Predictor
from hat_ray.predictor.quality import quality
from hat_ray.space.features import HAT_FEATURES

HAT_MLP_MAPE = {
    "iwslt14deen_gpu_titanxp": 6.92,
    "wmt14ende_cpu_raspberrypi": 4.67,
    "wmt14ende_cpu_xeon": 4.88,
    "wmt14ende_gpu_titanxp": 5.73,
    "wmt14enfr_cpu_raspberrypi": 0.95,
    "wmt14enfr_cpu_xeon": 4.26,
    "wmt14enfr_gpu_titanxp": 2.20,
    "wmt19ende_gpu_titanxp": 5.56,
}
ROWS = (20, 50, 200, 1600)


@pytest.mark.benchmark
def test_print_the_error_on_every_table(shared: Path) -> None:
    print(f"\n{'table':28}{'HAT 1600':>10}" + "".join(f"{rows:>9}" for rows in ROWS) + "  of HAT  within 10 %    tau")
    ratios = []
    for table, hat_mape in HAT_MLP_MAPE.items():
        with (shared / "hat" / "latency_dataset" / f"{table}_all.csv").open() as lines:
            rows = list(csv.DictReader(lines))
        averages = np.array([[float(row[key]) for key in HAT_FEATURES] for row in rows])
        measured = np.array([float(r["latency_mean_encoder"]) + float(r["latency_mean_decoder"]) for r in rows])
        line = f"{table:28}{hat_mape:10.2f}"
        for count in ROWS:
            found = []
            for seed in (0, 1, 2):
                order = list(range(2000))
                random.Random(seed).shuffle(order)
                train, test = order[:count], order[1800:]
                fitted = Predictor.fit_matrix(averages[train], measured[train], PredictorConfig(), table, "hat", seed)
                found.append(quality(measured[test], fitted.predict_matrix(averages[test])))
            mape = float(np.mean([each.mape for each in found]))
            line += f"{mape:9.2f}"
        ratios.append(mape / hat_mape)
        within, tau = np.mean([each.within_10 for each in found]), np.mean([each.kendall_tau for each in found])
        print(f"{line}{ratios[-1]:8.2f}{within:13.1f}{tau:7.3f}")
    print(f"mean share of HAT's error at 1,600 rows: {np.mean(ratios):.3f}")
