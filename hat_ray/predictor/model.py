"""The predictor: prior milliseconds times the exponential of what boosted trees make of the residual.

Decisions
- The trees' share is 0, 1/4, 1/2, 3/4 or 1, the one with the least held-out error; it stays 0 unless the trees help by
  `min_gain`. HAT's averages hide what trees could learn, so there the prior alone is best; it also answers outside
  the rows it has seen, where trees are constant.
- Predictions on held-out folds are kept: they are the quality, the report's figure, and the interval.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xgboost as xgb

from hat_ray.errors import PredictorError
from hat_ray.predictor.config import PredictorConfig
from hat_ray.predictor.features import FEATURE_SET, architecture_matrix, matrix_from_hat
from hat_ray.predictor.prior import Prior, fit_prior
from hat_ray.predictor.quality import Quality, fold_of_rows, quality
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import FloatArray

_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_LEAST_GAIN_PCT = 0.01  # below the error of any timing


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Each row's measured milliseconds and what a predictor fitted without it says, both (N,), in the rows' order."""

    measured_ms: FloatArray
    predicted_ms: FloatArray


@dataclass(frozen=True, eq=False)
class Predictor:
    """Latency of architectures of one space on one device."""

    device: str
    space_id: str
    prior: Prior
    trees: xgb.Booster | None
    trees_share: float
    quality: Quality
    held_out: HeldOut
    rows_fingerprint: str
    feature_set: str = FEATURE_SET

    @classmethod
    def fit(
        cls,
        architectures: Sequence[Architecture],
        latencies_ms: Sequence[float] | FloatArray,
        config: PredictorConfig,
        device: str,
        space_id: str,
        seed: int,
    ) -> "Predictor":
        """Fit to timed architectures; one architecture may stand in several rows."""
        return _fit(architecture_matrix(architectures), latencies_ms, config, device, space_id, seed)

    @classmethod
    def fit_matrix(
        cls,
        averages: FloatArray,
        latencies_ms: Sequence[float] | FloatArray,
        config: PredictorConfig,
        device: str,
        space_id: str,
        seed: int,
    ) -> "Predictor":
        """Fit to rows that keep no more than HAT's ten averages: (N, 10)."""
        return _fit(matrix_from_hat(averages), latencies_ms, config, device, space_id, seed)

    def predict(self, architectures: Sequence[Architecture], quantile: float | None = None) -> FloatArray:
        """Return milliseconds, (N,); with `quantile`, what the latency stays below with that probability."""
        return self._predict(architecture_matrix(architectures)) * self._margin(quantile)

    def predict_matrix(self, averages: FloatArray, quantile: float | None = None) -> FloatArray:
        """Return milliseconds, (N,), from HAT's ten averages: (N, 10)."""
        return self._predict(matrix_from_hat(averages)) * self._margin(quantile)

    def require(self, device: str | None = None, space_id: str | None = None) -> None:
        """Raise PredictorError unless this predictor is for that device and that space."""
        for name, own, asked in (("device", self.device, device), ("space", self.space_id, space_id)):
            if asked is not None and own != asked:
                raise PredictorError(
                    f"a predictor answers only for the {name} it was fitted to, {own}; asked for {asked}: "
                    f"fit one for it with `hat-ray predict fit`"
                )

    def _predict(self, matrix: FloatArray) -> FloatArray:
        predicted = self.prior.predict(matrix)
        if self.trees is not None and self.trees_share > 0 and len(matrix):
            predicted = predicted * np.exp(self.trees_share * _residual(self.trees, matrix))
        return predicted

    def _margin(self, quantile: float | None) -> float:
        """Return the factor that covers `quantile` of the held-out rows, with split conformal's rank."""
        if quantile is None:
            return 1.0
        if not 0 < quantile < 1:
            raise PredictorError(f"a quantile must lie between 0 and 1, got {quantile}")
        ratios = np.sort(self.held_out.measured_ms / self.held_out.predicted_ms)
        rank = min(int(np.ceil((len(ratios) + 1) * quantile)), len(ratios))
        return float(ratios[rank - 1])


def _fit(
    matrix: FloatArray,
    latencies_ms: Sequence[float] | FloatArray,
    config: PredictorConfig,
    device: str,
    space_id: str,
    seed: int,
) -> Predictor:
    measured = np.asarray(latencies_ms, dtype=np.float64)
    distinct = _check_rows(matrix, measured, config, device)
    with_trees = distinct >= config.min_rows_for_trees
    fold = fold_of_rows(matrix, min(config.folds, distinct), seed)
    prior_ms, residual = np.empty_like(measured), np.zeros_like(measured)
    for k in range(int(fold.max()) + 1):
        rest, part = fold != k, fold == k
        prior = fit_prior(matrix[rest], measured[rest])
        prior_ms[part] = prior.predict(matrix[part])
        if with_trees:
            trees = _fit_trees(matrix[rest], measured[rest], prior, config, seed)
            residual[part] = _residual(trees, matrix[part])
    share = _best_share(measured, prior_ms, residual, config.min_gain)
    predicted = prior_ms * np.exp(share * residual)
    prior = fit_prior(matrix, measured)
    return Predictor(
        device=device,
        space_id=space_id,
        prior=prior,
        trees=_fit_trees(matrix, measured, prior, config, seed) if with_trees else None,
        trees_share=share,
        quality=quality(measured, predicted),
        held_out=HeldOut(measured, predicted),
        rows_fingerprint=_fingerprint(matrix, measured),
    )


def _check_rows(matrix: FloatArray, measured: FloatArray, config: PredictorConfig, device: str) -> int:
    """Return the number of different architectures among the rows; raise PredictorError when none can be fitted."""
    if len(matrix) != len(measured):
        raise PredictorError(f"each architecture needs one latency, got {len(matrix)} and {len(measured)}")
    bad = np.flatnonzero(~(np.isfinite(measured) & (measured > 0)))
    if len(bad):
        raise PredictorError(
            f"latencies must be milliseconds above zero, got {measured[bad[0]]} in row {bad[0]} of {device}"
        )
    distinct = len(np.unique(matrix, axis=0)) if len(matrix) else 0
    if distinct < config.min_rows:
        raise PredictorError(
            f"a predictor needs at least {config.min_rows} different architectures (predictor.min_rows), "
            f"got {distinct} on {device}: time more with `hat-ray latency measure`"
        )
    return distinct


def _fit_trees(
    matrix: FloatArray, measured: FloatArray, prior: Prior, config: PredictorConfig, seed: int
) -> xgb.Booster:
    settings: dict[str, Any] = {
        "objective": "reg:absoluteerror",  # as for the prior: bursts pull less
        "base_score": 0.0,  # no residual unless the rows show one
        "max_depth": config.depth,
        "learning_rate": config.learning_rate,
        "min_child_weight": 8,
        "reg_lambda": 5.0,
        "subsample": 0.8,
        "colsample_bytree": 0.8,
        "seed": seed % 2**31,
        "nthread": 1,  # the same result everywhere; the data are small
        "verbosity": 0,
    }
    rows = xgb.QuantileDMatrix(matrix, np.log(measured / prior.predict(matrix)), nthread=1)
    return xgb.train(settings, rows, num_boost_round=config.rounds)


def _residual(trees: xgb.Booster, matrix: FloatArray) -> FloatArray:
    return np.asarray(trees.inplace_predict(matrix), dtype=np.float64)


def _best_share(measured: FloatArray, prior_ms: FloatArray, residual: FloatArray, min_gain: float) -> float:
    """Choose the trees' share with the least held-out error, or 0 where they gain less than `min_gain`."""
    errors = {share: quality(measured, prior_ms * np.exp(share * residual)).mape for share in _SHARES}
    best = min(errors, key=lambda share: errors[share])
    gain = errors[0.0] - errors[best]
    return best if gain > max(min_gain * errors[0.0], _LEAST_GAIN_PCT) else 0.0


def _fingerprint(matrix: FloatArray, measured: FloatArray) -> str:
    return hashlib.sha256(matrix.tobytes() + measured.tobytes()).hexdigest()[:16]
