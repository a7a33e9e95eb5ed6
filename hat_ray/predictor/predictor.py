"""The predictor: prior milliseconds times the exponential of what boosted trees make of the residual.

Decisions
- Rows of a slow stretch (`slow_periods`) are set aside: nothing is learned from them. They stay in the interval,
  because the table shows that such times happen.
- The trees' share is 0, 1/4, 1/2, 3/4 or 1, the one with the least held-out error; it stays 0 unless the trees help by
  `min_gain`. HAT's averages hide what trees could learn, so there the prior alone is best; it also answers outside
  the rows it has seen, where trees are constant.
- What is predicted is the mean, not the median: timings have a slow tail, which the fit, made to withstand it, leaves
  out, and a budget is spent on the average sentence. So the level is raised to the mean of held-out log ratios, from
  which single outliers are cut. On HAT's Xeon table of WMT'14 En-De (1,600 rows) that is 0.8 %: 90.7 instead of 89.8 %
  of the rows are within 10 %, at an error of 4.73 instead of 4.59 %.
- Predictions on held-out folds are kept: they are the quality, the report's figure, and the interval (conformal, with
  cross-validation's residuals: Vovk 2015; Barber et al. 2021).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xgboost as xgb
from scipy import stats

from hat_ray.core.determinism import one_blas_thread
from hat_ray.errors import PredictorError
from hat_ray.predictor.config import PredictorConfig
from hat_ray.predictor.prior import RIDGE_PENALTIES, Prior, fit_prior
from hat_ray.predictor.quality import IntArray, Quality, fold_of_rows, quality
from hat_ray.predictor.rows import TimedRows
from hat_ray.predictor.slow_periods import BoolArray, slow_periods
from hat_ray.predictor.trees import correction, fit_trees
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import COST_FEATURES, SSRU_FEATURES, FloatArray, cost_features, layer_features

_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_LEAST_GAIN = 1e-4  # relative error, below that of any timing
_LEAST_SPREAD = 0.005  # relative error below which no row weighs more than another
_SLOW_PASSES = 4  # each fits without the slow rows that the one before found
_TERMS = (*COST_FEATURES, *SSRU_FEATURES)
_PLAIN = np.array([not name.endswith(("_work", "_sum")) for name in _TERMS], dtype=np.float64)
_DEPTH = COST_FEATURES.index("decoder_depth")
_LEVEL_CUT = 3.0  # standard deviations beyond which a row's ratio counts no further
_LEVEL_DOUBT = 50  # rows that keep the level as it is: few cannot separate mean and median
_BEYOND = 0.1  # share of a cost term's range that a prediction may lie outside of it


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Each row's measured milliseconds and the prediction of a predictor fitted without it: all (N,), in order of
    timing."""

    measured_ms: FloatArray
    predicted_ms: FloatArray
    slow: BoolArray
    """Rows of slow stretches, which nothing was learned from."""
    names: tuple[str, ...]

    @property
    def quality(self) -> Quality:
        """How good the predictions are of rows that were not timed in a slow stretch."""
        return quality(self.measured_ms[~self.slow], self.predicted_ms[~self.slow])


@dataclass(frozen=True, eq=False)
class Predictor:
    """Latency of architectures of one space on one device."""

    device: str
    space_id: str
    prior: Prior
    trees: xgb.Booster | None
    trees_share: float
    sees_layers: bool
    """Whether the trees see single layers' shapes; False where the rows keep averages only."""
    seen: FloatArray
    """The least and the largest value of each cost term among the rows, (2, C)."""
    held_out: HeldOut
    rows_fingerprint: str
    source_predictors: tuple[str, ...] = ()
    """Devices whose priors were part of the fit."""

    @property
    def quality(self) -> Quality:
        """The held-out error."""
        return self.held_out.quality

    @property
    def width(self) -> int:
        """C, the number of cost terms."""
        return int(self.seen.shape[1])

    @classmethod
    def fit(
        cls,
        rows: TimedRows,
        config: PredictorConfig,
        device: str,
        space_id: str,
        seed: int,
        source_predictors: Sequence["Predictor"] = (),
    ) -> "Predictor":
        """Fit to timed rows; with `source_predictors`, predictors of other devices, fewer rows are enough.

        Raises PredictorError for rows that cannot be fitted, or fewer different architectures than `config.min_rows`.
        """
        return _fit(rows, config, device, space_id, seed, source_predictors)

    def predict(self, architectures: Sequence[Architecture], quantile: float | None = None) -> FloatArray:
        """Return milliseconds, (N,); with `quantile`, what the latency stays below with that probability."""
        costs = cost_features(architectures, self.width)
        layers = layer_features(architectures) if self.sees_layers and self._uses_trees else None
        return self._predict(costs, layers) * self._factor(quantile)

    def predict_rows(self, rows: TimedRows, quantile: float | None = None) -> FloatArray:
        """Return milliseconds, (N,), of what other rows timed; raises PredictorError for rows without the needed
        columns."""
        if self.sees_layers and self._uses_trees and rows.layers is None:
            raise PredictorError(
                f"the predictor of {self.device} was fitted to whole architectures: averages are not enough for it"
            )
        return self._predict(rows.costs, rows.layers if self.sees_layers else None) * self._factor(quantile)

    def interval(self, architectures: Sequence[Architecture], coverage: float = 0.9) -> tuple[FloatArray, FloatArray]:
        """Return the milliseconds, (N,) and (N,), between which the latency lies with probability `coverage`."""
        if not 0 < coverage < 1:
            raise PredictorError(f"an interval's coverage must lie between 0 and 1, got {coverage}")
        predicted = self.predict(architectures)
        low, high = ((1 + sign * coverage) / 2 for sign in (-1, 1))
        return predicted * self._factor(low), predicted * self._factor(high)

    def extrapolation(self, architectures: Sequence[Architecture]) -> list[str | None]:
        """Return, of each architecture, how it lies outside the rows, or None: it does not."""
        costs = cost_features(architectures)
        low, high = self.seen
        if costs.shape[1] < self.width:
            costs = cost_features(architectures, self.width)
        elif costs.shape[1] > self.width:  # SSRU layers, which no row has
            low, high = (np.append(one, [one[_DEPTH], 0.0]) for one in self.seen)
        beyond = np.maximum(low - costs, costs - high) / np.maximum(high - low, 1e-12)
        found: list[str | None] = []
        plain = _PLAIN[: costs.shape[1]]  # a product means less to a reader
        excess = np.where(beyond > _BEYOND, plain, 0) + np.minimum(beyond, 1e6) / 1e7
        for i, term in enumerate(np.argmax(excess, axis=1)):
            if beyond[i, term] <= _BEYOND:
                found.append(None)
                continue
            found.append(
                f"{_TERMS[term]} {costs[i, term]:g} lies outside the timed rows' "
                f"{low[term]:g} to {high[term]:g}: the prediction is an extrapolation"
            )
        return found

    def require(self, device: str | None = None, space_id: str | None = None) -> None:
        """Raise PredictorError unless this predictor is for that device and that space."""
        for name, own, asked in (("device", self.device, device), ("space", self.space_id, space_id)):
            if asked is not None and own != asked:
                raise PredictorError(
                    f"a predictor answers only for the {name} it was fitted to, {own}; asked for {asked}: "
                    f"fit one for it with `hat-ray predict fit`"
                )

    @property
    def _uses_trees(self) -> bool:
        return self.trees is not None and self.trees_share > 0

    def _predict(self, costs: FloatArray, layers: FloatArray | None) -> FloatArray:
        predicted = self.prior.predict(costs)
        if self.trees is not None and self.trees_share > 0 and len(costs):
            matrix = costs if layers is None else np.column_stack([costs, layers])
            predicted = predicted * np.exp(self.trees_share * correction(self.trees, matrix))
        return predicted

    def _factor(self, quantile: float | None) -> float:
        """Return the factor below which a measurement's ratio to its prediction stays with probability `quantile`."""
        if quantile is None:
            return 1.0
        if not 0 < quantile < 1:
            raise PredictorError(f"a quantile must lie between 0 and 1, got {quantile}")
        return conformal_factor(self.held_out.measured_ms / self.held_out.predicted_ms, quantile)


def conformal_factor(ratios: FloatArray, quantile: float) -> float:
    """Return the bound that a new ratio stays below with probability `quantile`, given exchangeable ones, (N,).

    The rank is split conformal's; where the rows are too few for it to exist, a Student t of the log ratios takes over.
    """
    count = len(ratios)
    upper = quantile >= 0.5
    rank = int(np.ceil((count + 1) * quantile)) if upper else int(np.floor((count + 1) * quantile))
    if 1 <= rank <= count:
        return float(np.sort(ratios)[rank - 1])
    logs = np.log(ratios)
    reach = stats.t.ppf(quantile, count - 1) * np.std(logs, ddof=1) * np.sqrt(1 + 1 / count)
    edge = np.max(logs) if upper else np.min(logs)
    return float(np.exp(max(edge, logs.mean() + reach) if upper else min(edge, logs.mean() + reach)))


@one_blas_thread()
def _fit(
    rows: TimedRows,
    config: PredictorConfig,
    device: str,
    space_id: str,
    seed: int,
    source_predictors: Sequence[Predictor],
) -> Predictor:
    distinct = _check(rows, config, device)
    slow = _slow(rows, config.set_slow_aside)
    learned = rows[~slow]
    with_trees = len(np.unique(learned.costs, axis=0)) >= config.min_rows_for_trees
    fold = fold_of_rows(rows.costs, min(config.folds, distinct), seed)
    priors = tuple(source.prior for source in source_predictors)
    ridge_penalty = _choose_ridge_penalty(rows, slow, fold, priors)
    prior_ms, residual = np.empty(len(rows)), np.zeros(len(rows))
    for k in range(int(fold.max()) + 1):
        part, rest = rows[fold == k], rows[(fold != k) & ~slow]
        prior = _fit_prior(rest, priors, ridge_penalty)
        prior_ms[fold == k] = prior.predict(part.costs)
        if with_trees:
            residual[fold == k] = correction(_fit_trees(rest, prior, config, seed), part.matrix)
    share = _best_share(rows.total_ms[~slow], prior_ms[~slow], residual[~slow], config.min_gain)
    held_out_ms = prior_ms * np.exp(share * residual)
    level = _level((rows.total_ms / held_out_ms)[~slow])
    prior = _fit_prior(learned, priors, ridge_penalty)
    return Predictor(
        device=device,
        space_id=space_id,
        prior=prior.times(level),
        trees=_fit_trees(learned, prior, config, seed) if with_trees and share > 0 else None,
        trees_share=share,
        sees_layers=rows.layers is not None,
        seen=np.stack([rows.costs.min(axis=0), rows.costs.max(axis=0)]),
        held_out=HeldOut(rows.total_ms, level * held_out_ms, slow, rows.names),
        rows_fingerprint=rows.fingerprint,
        source_predictors=tuple(source.device for source in source_predictors),
    )


def _level(ratios: FloatArray) -> float:
    """Return the factor that makes predictions the mean, from ratios of measured to held-out ones, (N,)."""
    logs = np.log(ratios)
    middle = np.median(logs)
    reach = _LEVEL_CUT * 1.4826 * np.median(np.abs(logs - middle))
    mean = np.clip(logs, middle - reach, middle + reach).mean()
    return float(np.exp(mean * len(logs) / (len(logs) + _LEVEL_DOUBT)))


def _check(rows: TimedRows, config: PredictorConfig, device: str) -> int:
    """Return the number of different architectures among the rows; raise PredictorError when none can be fitted."""
    rows.check(device)
    distinct = len(np.unique(rows.costs, axis=0)) if len(rows) else 0
    if distinct < config.min_rows:
        raise PredictorError(
            f"a predictor needs at least {config.min_rows} different architectures (predictor.min_rows), "
            f"got {distinct} on {device}: time more with `hat-ray latency measure`"
        )
    return distinct


def _slow(rows: TimedRows, set_aside: bool) -> BoolArray:
    """Find the rows of slow stretches, (N,)."""
    slow = np.zeros(len(rows), dtype=bool)
    for _ in range(_SLOW_PASSES if set_aside else 0):
        found = slow_periods(np.log(rows.total_ms / fit_prior(rows[~slow]).predict(rows.costs)))
        if (found == slow).all():
            break
        slow = found
    return slow


def _fit_prior(rows: TimedRows, source_priors: Sequence[Prior], ridge_penalty: float) -> Prior:
    """Fit a prior to rows that weigh by how well they were timed."""
    if not rows.errors.any():
        return fit_prior(rows, None, source_priors, ridge_penalty)
    return fit_prior(
        rows, _weights(rows, fit_prior(rows, None, source_priors, ridge_penalty)), source_priors, ridge_penalty
    )


def _weights(rows: TimedRows, prior: Prior) -> FloatArray:
    """Return the rows' weights, (N,), from the error of their timing and that of a first fit."""
    misfit = float(np.median(np.abs(np.log(rows.total_ms / prior.predict(rows.costs)))))
    spread = max(1.4826 * misfit, _LEAST_SPREAD)
    return np.asarray(spread**2 / (spread**2 + rows.errors**2), dtype=np.float64)


def _choose_ridge_penalty(rows: TimedRows, slow: BoolArray, fold: IntArray, source_priors: Sequence[Prior]) -> float:
    """Return the ridge penalty of a device's own cost terms beside source priors: the largest that its rows allow."""
    if not source_priors:
        return 0.0
    errors = []
    for ridge_penalty in RIDGE_PENALTIES:
        predicted = np.empty(len(rows))
        for k in range(int(fold.max()) + 1):
            prior = fit_prior(rows[(fold != k) & ~slow], None, source_priors, ridge_penalty)
            predicted[fold == k] = prior.predict(rows.costs[fold == k])
        errors.append(np.abs(predicted / rows.total_ms - 1)[~slow])
    least = min(errors, key=lambda error: float(error.mean()))
    # the rule of one standard error (Breiman et al. 1984): few rows cannot show that leaning on other devices is worse
    return max(one for one, error in zip(RIDGE_PENALTIES, errors, strict=True) if not _surely_above(error, least))


def _surely_above(error: FloatArray, least: FloatArray) -> bool:
    """Return whether errors, (N,), exceed others of the same rows by more than a standard error of the difference."""
    more = error - least
    return bool(more.mean() > more.std(ddof=1) / np.sqrt(len(more)))


def _fit_trees(rows: TimedRows, prior: Prior, config: PredictorConfig, seed: int) -> xgb.Booster:
    log_ratios = np.log(rows.total_ms / prior.predict(rows.costs))
    return fit_trees(rows.matrix, rows.names_of_columns, log_ratios, _weights(rows, prior), config, seed)


def _best_share(measured: FloatArray, prior_ms: FloatArray, residual: FloatArray, min_gain: float) -> float:
    """Choose the trees' share with the least held-out error, or 0 where they gain less than `min_gain`."""
    errors = {share: float(np.abs(prior_ms * np.exp(share * residual) / measured - 1).mean()) for share in _SHARES}
    best = min(errors, key=lambda share: errors[share])
    gain = errors[0.0] - errors[best]
    return best if gain > max(min_gain * errors[0.0], _LEAST_GAIN) else 0.0
