"""How good a predictor is, judged on rows that it was not fitted to."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

from hat_ray.space.features import FloatArray

IntArray = npt.NDArray[np.int64]
FOLDS_OF_COVERAGE = 5
"""Parts of the rows, each of which is left out once to judge the interval."""


@dataclass(frozen=True)
class Quality:
    """Held-out error of a predictor."""

    mape: float
    """Mean absolute error in per cent of the measured time."""
    within_10: float
    """Per cent of the rows predicted within 10 % of their measured time."""
    kendall_tau: float
    """Agreement of the two orders, -1 to 1; 0 where one side is constant."""
    rows: int
    mape_error: float = 0.0
    """Standard error of `mape`."""

    def __str__(self) -> str:
        return (
            f"mean error {self.mape:.2f} %, {self.within_10:.0f} % of rows within 10 %, "
            f"Kendall tau {self.kendall_tau:.3f}, {self.rows} rows"
        )


def quality(measured_ms: FloatArray, predicted_ms: FloatArray) -> Quality:
    """Compare predictions with measurements, both (N,)."""
    relative = np.abs(predicted_ms - measured_ms) / measured_ms
    tau = float(kendalltau(measured_ms, predicted_ms).statistic) if len(measured_ms) > 1 else 0.0
    return Quality(
        mape=float(100 * relative.mean()),
        within_10=float(100 * (relative <= 0.1).mean()),
        kendall_tau=tau if np.isfinite(tau) else 0.0,
        rows=len(measured_ms),
        mape_error=float(100 * relative.std(ddof=1) / np.sqrt(len(relative))) if len(relative) > 1 else 0.0,
    )


def too_few_to_cover(matrix: FloatArray, fold: IntArray, min_rows: int) -> str | None:
    """Return why a predictor's interval cannot be judged on held-out rows, or None where it can.

    Each of `FOLDS_OF_COVERAGE` predictors is fitted without a fold, and needs `min_rows` different rows.
    """
    least, there = max(min_rows, 2 * FOLDS_OF_COVERAGE), len(np.unique(matrix, axis=0))
    if len(np.unique(matrix[fold != 0], axis=0)) >= least:
        return None
    needed = math.ceil(least * FOLDS_OF_COVERAGE / (FOLDS_OF_COVERAGE - 1))
    return f"{there} different architectures are too few to judge the interval, {needed} are enough: time more"


def fold_of_rows(matrix: FloatArray, folds: int, seed: int) -> IntArray:
    """Give each row its fold, (N,); equal rows share one, so that no architecture is held out from itself."""
    _, group = np.unique(matrix, axis=0, return_inverse=True)
    group = np.asarray(group).reshape(-1)
    order = np.random.default_rng(seed).permutation(int(group.max()) + 1)
    return np.asarray(order[group] % folds, dtype=np.int64)
