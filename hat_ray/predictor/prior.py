"""The physical prior: milliseconds as a sum of non-negative costs, of the encoder and of the decoder's steps.

Decisions
- Every cost term may add time and never take it away, so the prior is monotone by construction and needs no other
  regularisation: on HAT's eight tables at 20 rows a ridge penalty beside it gains nothing and mostly loses.
- Errors count relative to the measured time, squared when small and by their absolute value when large (Huber 1964):
  rows that were timed in a slow burst then pull less.
- Encoder and decoder are fitted apart where the table splits them: each then has half the unknowns. Mean over
  HAT's eight tables at 20 rows: 4.5 % instead of 4.3 %.
- The priors of other devices (`source_priors`) may be part of the sum: a new device is then mostly a mixture of known
  ones, and its own cost terms are held back by a ridge penalty, as strong as cross-validation lets it be.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from hat_ray.errors import PredictorError
from hat_ray.predictor.rows import DECODER_COLUMNS, ENCODER_COLUMNS, TimedRows
from hat_ray.space.features import COST_FEATURES, SSRU_FEATURES, FloatArray

RIDGE_PENALTIES = (0.0, 0.01, 0.1, 1.0, 10.0, 100.0)
"""Ridge penalties on a device's own cost terms that are tried beside source priors."""

_OF_SSRU = tuple(range(len(COST_FEATURES), len(COST_FEATURES) + len(SSRU_FEATURES)))
_PARTS = {
    "encoder": ENCODER_COLUMNS,
    "decoder": (*DECODER_COLUMNS, *_OF_SSRU),
    "whole": (*range(len(COST_FEATURES)), *_OF_SSRU),
}
_REWEIGHTINGS = 8
_FEW, _MANY = 0.03, 0.1  # relative errors below which a row weighs fully: Huber's bound
_MANY_ROWS = 500  # few rows hide a slow stretch, and have to withstand it; among many it was found and set aside


@dataclass(frozen=True, eq=False)
class Costs:
    """`base_ms` plus the cost terms times `ms_per_unit`, (C,), all of them zero or above."""

    base_ms: float
    ms_per_unit: FloatArray

    def predict(self, costs: FloatArray) -> FloatArray:
        """Return milliseconds: (N,) from cost terms (N, C); those that the fit did not have add nothing."""
        width = min(costs.shape[1], len(self.ms_per_unit))
        return np.asarray(self.base_ms + costs[:, :width] @ self.ms_per_unit[:width], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Prior:
    """The costs of `encoder` and `decoder`, or of the `whole` where the rows do not split them."""

    parts: dict[str, Costs]

    def predict(self, costs: FloatArray) -> FloatArray:
        """Return milliseconds: (N,) from cost terms (N, C)."""
        return np.asarray(sum(part.predict(costs) for part in self.parts.values()), dtype=np.float64)

    def whole(self) -> "Prior":
        """Return the prior of the whole that its parts add up to."""
        parts = self.parts.values()
        costs = np.asarray(sum(part.ms_per_unit for part in parts), dtype=np.float64)
        return Prior({"whole": Costs(sum(part.base_ms for part in parts), costs)})

    def times(self, factor: float) -> "Prior":
        """Return the prior that predicts `factor` times as much."""
        return Prior(
            {name: Costs(factor * part.base_ms, factor * part.ms_per_unit) for name, part in self.parts.items()}
        )


def fit_prior(
    rows: TimedRows, weights: FloatArray | None = None, source_priors: Sequence[Prior] = (), ridge_penalty: float = 0.0
) -> Prior:
    """Fit least relative errors. `weights` (N,) of the rows; `source_priors` and `ridge_penalty` as in the module's
    text.

    Source priors without the parts that the rows have are passed over; each has a whole. Raises PredictorError when no
    cost explains the rows.
    """
    if rows.encoder_ms is None:
        targets, source_priors = {"whole": rows.total_ms}, [source.whole() for source in source_priors]
    else:
        targets = {"encoder": rows.encoder_ms, "decoder": rows.total_ms - rows.encoder_ms}
    known = [source for source in source_priors if source.parts.keys() == targets.keys()]
    weights = np.ones(len(rows)) if weights is None else weights
    return Prior(
        {
            part: _fit(rows.costs, target_ms, weights, part, [source.parts[part] for source in known], ridge_penalty)
            for part, target_ms in targets.items()
        }
    )


def _fit(
    costs: FloatArray,
    target_ms: FloatArray,
    weights: FloatArray,
    part: str,
    source_priors: Sequence[Costs],
    ridge_penalty: float,
) -> Costs:
    """Fit one part by re-weighted non-negative least squares."""
    if not (target_ms > 0).all():
        raise PredictorError(f"each row needs a time above zero of the {part}, got {target_ms.min():g} ms")
    places = [place for place in _PARTS[part] if place < costs.shape[1]]
    own = np.column_stack([np.ones(len(costs)), costs[:, places]])
    others = np.column_stack([source.predict(costs) for source in source_priors] or [np.empty((len(costs), 0))])
    unit = np.median(target_ms)
    own_scale = np.maximum(own.mean(axis=0), 1e-12) / unit
    others_scale = np.maximum(others.mean(axis=0), 1e-12) / unit if source_priors else np.empty(0)
    scale = np.concatenate([others_scale, own_scale])
    relative = (
        np.column_stack([others, own]) / scale / target_ms[:, None]
    )  # a row's prediction over its time: 1 is right
    penalty = np.zeros((own.shape[1], relative.shape[1]))
    if source_priors:
        penalty[:, len(source_priors) :] = np.sqrt(ridge_penalty) * np.eye(own.shape[1])
    importance = weights.copy()
    bound = _MANY if len(costs) >= _MANY_ROWS else _FEW
    for _ in range(1 + _REWEIGHTINGS):
        root = np.sqrt(importance)
        solution = _non_negative(
            np.vstack([relative * root[:, None], penalty]), np.concatenate([root, np.zeros(len(penalty))])
        )
        importance = weights / np.maximum(np.abs(relative @ solution - 1), bound)
        importance /= importance.mean()
    if not solution.any():
        raise PredictorError("no cost term explains the latency rows: check that they are milliseconds above zero")
    solution /= scale
    base, per_unit = float(solution[len(source_priors)]), np.zeros(costs.shape[1])
    per_unit[places] = solution[len(source_priors) + 1 :]
    for share, source in zip(solution, source_priors, strict=False):
        base += share * source.base_ms
        width = min(len(per_unit), len(source.ms_per_unit))  # what no row has costs nothing here
        per_unit[:width] += share * source.ms_per_unit[:width]
    return Costs(base, per_unit)


def _non_negative(matrix: FloatArray, target: FloatArray) -> FloatArray:
    """Solve non-negative least squares on the triangle that the columns reduce to: the same answer from fewer rows."""
    triangle: FloatArray = np.asarray(np.linalg.qr(np.column_stack([matrix, target]), mode="r"))
    unknowns = matrix.shape[1]
    solution, _ = nnls(triangle[:, :unknowns], triangle[:, unknowns], maxiter=50 * unknowns)
    return np.asarray(solution, dtype=np.float64)
