"""Boosted trees on what the prior leaves over: the log ratio of measured to predicted time.

Decision: the trees are monotone in every size (width, depth, hidden width), so that with the prior, which is monotone
too, no larger architecture is ever predicted to be faster. Heads are free: more of them are narrower ones. So are
counts of layers of one kind: more of them are fewer of another.
"""

from collections.abc import Sequence

import numpy as np
import xgboost as xgb

from hat_ray.predictor.config import PredictorConfig
from hat_ray.space.features import COST_FEATURES, LAYER_FEATURES, WORD_FEATURES, FloatArray

_FREE = (*(name for name in (*COST_FEATURES, *LAYER_FEATURES) if "heads" in name), *WORD_FEATURES)


def fit_trees(
    matrix: FloatArray,
    names: Sequence[str],
    log_ratios: FloatArray,
    weights: FloatArray,
    config: PredictorConfig,
    seed: int,
) -> xgb.Booster:
    """Fit trees to named columns (N, F) and log ratios (N,)."""
    settings = {
        "objective": "reg:absoluteerror",  # as for the prior: slow periods pull less
        "base_score": 0.0,  # no residual unless the rows show one
        "max_depth": config.depth,
        "learning_rate": config.learning_rate,
        "min_child_weight": 8,
        "reg_lambda": 5.0,
        "subsample": 0.8,
        "colsample_bytree": 0.8,
        "monotone_constraints": tuple(0 if name in _FREE else 1 for name in names),
        "seed": seed % 2**31,
        "nthread": 1,  # the same result everywhere; the data are small
        "verbosity": 0,
    }
    rows = xgb.QuantileDMatrix(matrix, log_ratios, weight=weights, nthread=1)
    return xgb.train(settings, rows, num_boost_round=config.rounds)


def correction(trees: xgb.Booster, matrix: FloatArray) -> FloatArray:
    """Return the log ratios, (N,), that trees predict from columns (N, F)."""
    return np.asarray(trees.inplace_predict(matrix), dtype=np.float64)
