"""HAT's published latency tables, and the slow stretches that were found in them by hand."""

import csv
import random
from pathlib import Path

import numpy as np

from hat_ray.predictor.rows import TimedRows, rows_of_averages
from hat_ray.space.features import HAT_FEATURES, FloatArray

BURSTS: dict[str, tuple[tuple[int, int], ...]] = {  # first and last row
    "iwslt14deen_gpu_titanxp": ((24, 357), (428, 486)),
    "wmt14ende_cpu_raspberrypi": ((0, 125),),
    "wmt14ende_gpu_titanxp": ((0, 14), (1264, 1500)),
    "wmt19ende_gpu_titanxp": ((532, 741), (961, 1000)),
}


def hat_columns(shared: Path, name: str) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return HAT's averages, (2000, 10), and the milliseconds of encoder and decoder, (2000,) each."""
    with (shared / "hat" / "latency_dataset" / f"{name}_all.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    averages = np.array([[float(row[key]) for key in HAT_FEATURES] for row in rows])
    encoder, decoder = (
        np.array([float(row[f"latency_mean_{part}"]) for row in rows]) for part in ("encoder", "decoder")
    )
    return averages, encoder, decoder


def hat_table(shared: Path, name: str) -> TimedRows:
    averages, encoder, decoder = hat_columns(shared, name)
    return rows_of_averages(averages, encoder + decoder, encoder)


def split(count: int, seed: int) -> tuple[list[int], list[int]]:
    """Return the rows to fit to, in the order of timing, and HAT's 200 test rows."""
    order = list(range(2000))
    random.Random(seed).shuffle(order)
    return sorted(order[:count]), order[1800:]
