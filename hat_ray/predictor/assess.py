"""How good a device's predictor is: by rows, by depth, in its interval; and which rows it fails on.

Nothing here is judged on rows that were fitted to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hat_ray.predictor.config import PredictorConfig
from hat_ray.predictor.predictor import Predictor
from hat_ray.predictor.quality import FOLDS_OF_COVERAGE, Quality, fold_of_rows, quality, too_few_to_cover
from hat_ray.predictor.quantities import COVERAGE, QuantityQuality
from hat_ray.predictor.rows import TimedRows
from hat_ray.space.features import COST_FEATURES

_DEPTH = COST_FEATURES.index("decoder_depth")
_SIZES = (10, 20, 50, 100, 200, 500, 1000, 2000)
_DRAWS = 3  # of each size of the learning curve
_OUTLIER = 4.0  # robust standard deviations
_LEAST_OUTLIER = 0.05  # relative error that is worth naming
_MOST_OUTLIERS = 10


@dataclass(frozen=True)
class CurvePoint:
    """The error after a number of rows."""

    rows: int
    mape: float
    """Mean over draws of the mean absolute error, in per cent."""
    least: float
    most: float


@dataclass(frozen=True)
class DepthError:
    """The error on architectures of one depth of the decoder."""

    depth: int
    rows: int
    mape: float
    """Mean absolute error in per cent."""
    bias: float
    """Median of predicted over measured, minus 1, in per cent."""


@dataclass(frozen=True)
class Outlier:
    """A row that the predictor fails on."""

    name: str
    measured_ms: float
    predicted_ms: float


@dataclass(frozen=True)
class Assessment:
    """What is known of a predictor's quality."""

    device: str
    space_id: str
    quality: Quality
    slow_rows: int
    """Rows of slow stretches, set aside: neither learned from nor judged on."""
    timing_error_pct: float | None
    """Median relative standard error of the timings themselves: no predictor can be better. None: not known."""
    coverage_pct: float | None
    """Share of rows within the 90 % interval of a predictor that had not seen them; None: see `coverage_unknown`."""
    trees_share: float
    source_predictors: tuple[str, ...]
    by_depth: tuple[DepthError, ...]
    curve: tuple[CurvePoint, ...]
    outliers: tuple[Outlier, ...]
    quantities: tuple[QuantityQuality, ...] = ()
    """Of the quantities beside the latency that limits bound."""
    coverage_unknown: str | None = None
    """Why `coverage_pct` is None, in one line."""


@dataclass(frozen=True)
class PredictorOutput:
    """What stage `predictor` fitted: how good each device's predictor is, by slug."""

    assessments: dict[str, Assessment]


def assess(
    predictor: Predictor, rows: TimedRows, config: PredictorConfig, source_predictors: Sequence[Predictor] = ()
) -> Assessment:
    """Judge a predictor that was fitted to `rows` with `config` and `source_predictors`."""
    held_out = predictor.held_out
    undisturbed = ~held_out.slow
    timed = rows.errors[rows.errors > 0]
    unknown = too_few_to_cover(rows.costs, fold_of_rows(rows.costs, FOLDS_OF_COVERAGE, seed=0), config.min_rows)
    return Assessment(
        device=predictor.device,
        space_id=predictor.space_id,
        quality=predictor.quality,
        slow_rows=int(held_out.slow.sum()),
        timing_error_pct=float(100 * np.median(timed)) if len(timed) else None,
        coverage_pct=_coverage(rows, config, predictor, source_predictors) if unknown is None else None,
        coverage_unknown=unknown,
        trees_share=predictor.trees_share,
        source_predictors=predictor.source_predictors,
        by_depth=_by_depth(
            rows.costs[undisturbed, _DEPTH], held_out.measured_ms[undisturbed], held_out.predicted_ms[undisturbed]
        ),
        curve=_curve(rows[undisturbed], config, predictor, source_predictors),
        outliers=_outliers(predictor),
    )


def _coverage(
    rows: TimedRows, config: PredictorConfig, predictor: Predictor, source_predictors: Sequence[Predictor]
) -> float:
    fold, within = fold_of_rows(rows.costs, FOLDS_OF_COVERAGE, seed=0), []
    for k in range(int(fold.max()) + 1):
        part = rows[fold == k]
        fitted = Predictor.fit(rows[fold != k], config, predictor.device, predictor.space_id, k, source_predictors)
        low, high = (fitted.predict_rows(part, (1 + sign * COVERAGE) / 2) for sign in (-1, 1))
        within += [*((low <= part.total_ms) & (part.total_ms <= high))]
    return float(100 * np.mean(within))


def _by_depth(depths: Any, measured_ms: Any, predicted_ms: Any) -> tuple[DepthError, ...]:
    found = []
    for depth in np.unique(depths):
        ratio = (predicted_ms / measured_ms)[depths == depth]
        error, bias = 100 * np.abs(ratio - 1).mean(), 100 * (np.median(ratio) - 1)
        found.append(DepthError(int(depth), len(ratio), float(error), float(bias)))
    return tuple(found)


def _curve(
    rows: TimedRows, config: PredictorConfig, predictor: Predictor, source_predictors: Sequence[Predictor]
) -> tuple[CurvePoint, ...]:
    points = []
    for size in _SIZES:
        if size < config.min_rows or size > 0.8 * len(rows):
            continue
        errors = []
        for draw in range(_DRAWS):
            order = np.random.default_rng(draw).permutation(len(rows))
            learned, test = rows[np.sort(order[:size])], rows[order[size:]]
            if len(np.unique(learned.costs, axis=0)) < config.min_rows:
                continue
            fitted = Predictor.fit(learned, config, predictor.device, predictor.space_id, draw, source_predictors)
            errors.append(quality(test.total_ms, fitted.predict_rows(test)).mape)
        if errors:
            points.append(CurvePoint(size, float(np.mean(errors)), min(errors), max(errors)))
    return tuple(points)


def _outliers(predictor: Predictor) -> tuple[Outlier, ...]:
    held_out = predictor.held_out
    logs = np.log(held_out.predicted_ms / held_out.measured_ms)
    centre = np.median(logs[~held_out.slow])
    spread = 1.4826 * np.median(np.abs(logs[~held_out.slow] - centre))
    far = np.abs(logs - centre)
    far[held_out.slow] = 0
    places = [place for place in np.argsort(-far) if far[place] > max(_OUTLIER * spread, _LEAST_OUTLIER)]
    return tuple(
        Outlier(held_out.names[place], float(held_out.measured_ms[place]), float(held_out.predicted_ms[place]))
        for place in places[:_MOST_OUTLIERS]
    )
