"""A linear model of the loss with its uncertainty: Bayesian regression on gene features, scales learned.

Decisions
- Linear in genes, pairs and counts, and not trees: fitted to 60, 125 and 200 candidates of three real searches in the
  toy space it ranks the others as well or better (rank correlation 0.97, 0.98, 0.99; XGBoost 0.94, 0.98, 0.98), costs
  milliseconds, and its posterior can be drawn from, which is how the search explores.
- Each group of features has its own prior scale, found with the noise by marginal likelihood. Where losses are noise,
  all scales shrink and everything is predicted alike: the search then does what it would do without a model.
- Losses far above the best are cut to one value: a few architectures that failed may not rule the fit.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular

from hat_ray.search.algorithms.surrogate.features import GROUPS

FloatArray = npt.NDArray[np.float64]

_START = {
    "constant": 3.0,
    "whole": 0.4,
    "count": 0.4,
    "count by whole": 0.15,
    "layer": 0.1,
    "pair": 0.04,
    "noise": 0.05,
}
_LEARNED = ("whole", "count", "count by whole", "layer", "pair", "noise")
_STEPS = (4.0, 2.0)
_BELIEF = 1.5
DECIMALS = 9
"""To which values are rounded before they are compared, since the last digits are the processor's: BLAS has kernels of
its own for each. A search proposed the same with those of four x86-64 processors; others were not tried."""
"""Standard deviation of the prior on each scale's logarithm, around `_START`."""
_CAP = 4.0
"""Losses are cut at this multiple of the distance from the best to the 90th percentile."""
_MOST_ROWS = 240
"""Rows that scales are learned from: the best half and a sample of the others."""


@dataclass(frozen=True)
class Scales:
    """Prior standard deviations of the weights by group, and of the noise, in units of the targets."""

    of: dict[str, float]

    @classmethod
    def start(cls) -> "Scales":
        return cls(dict(_START))

    def by_feature(self, groups: npt.NDArray[np.int64]) -> FloatArray:
        return np.asarray(np.array([self.of[name] for name in GROUPS])[groups])


def targets(losses: FloatArray) -> FloatArray:
    """Return losses (N,) with mean 0 and deviation 1; losses far above the best, or infinite, are cut to one value."""
    finite = losses[np.isfinite(losses)]
    if len(finite) == 0:
        return np.zeros(len(losses))
    best, high = float(finite.min()), float(np.quantile(finite, 0.9))
    cut = np.minimum(losses, best + _CAP * (high - best) if high > best else finite.max())
    return np.asarray((cut - cut.mean()) / (float(cut.std()) or 1.0))


def learn_scales(features: FloatArray, groups: npt.NDArray[np.int64], y: FloatArray) -> Scales:
    """Return the scales that make targets y (N,) likeliest, by coordinate steps from the start."""
    rows = _some_rows(y)
    features, y = features[rows], y[rows]
    parts = {}
    for place, name in enumerate(GROUPS):
        columns = features[:, groups == place]
        parts[name] = columns @ columns.T
    best = dict(_START)
    best_value = _evidence(parts, y, best)
    for step in _STEPS:
        for name in _LEARNED:
            for factor in (step, 1 / step):
                for _ in range(3):
                    tried = {**best, name: best[name] * factor}
                    value = _evidence(parts, y, tried)
                    if value <= best_value:
                        break
                    best, best_value = tried, value
    return Scales(best)


def _some_rows(y: FloatArray) -> npt.NDArray[np.int64]:
    order = np.argsort(y, kind="stable")
    if len(order) <= _MOST_ROWS:
        return order
    half = _MOST_ROWS // 2
    others = np.linspace(half, len(order) - 1, half).astype(np.int64)
    return np.concatenate([order[:half], order[others]])


def _evidence(parts: dict[str, FloatArray], y: FloatArray, of: dict[str, float]) -> float:
    kernel = sum(of[name] ** 2 * part for name, part in parts.items())
    lower = cholesky(kernel + of["noise"] ** 2 * np.eye(len(y)), lower=True, check_finite=False)
    fit = solve_triangular(lower, y, lower=True, check_finite=False)
    belief = sum(np.log(of[name] / _START[name]) ** 2 for name in _LEARNED) / (2 * _BELIEF**2)
    return round(float(-0.5 * fit @ fit - np.log(np.diag(lower)).sum() - belief), DECIMALS)


class Posterior:
    """What is known of the weights after targets y (N,) were seen at features (N, P)."""

    def __init__(self, features: FloatArray, groups: npt.NDArray[np.int64], y: FloatArray, scales: Scales) -> None:
        self._scale = scales.by_feature(groups)
        self._noise = scales.of["noise"]
        self._scaled = features * self._scale
        self._y = y
        self._wide = features.shape[1] > len(y)
        gram = self._scaled @ self._scaled.T if self._wide else self._scaled.T @ self._scaled
        self._factor = cho_factor(gram + self._noise**2 * np.eye(len(gram)), check_finite=False)

    def mean(self) -> FloatArray:
        """Return the expected weights, (P,)."""
        return self._scale * self._solve(self._y[:, None])[:, 0]

    def draws(self, count: int, rng: np.random.Generator, spread: float = 1.0) -> FloatArray:
        """Return weights drawn from the posterior, (P, count): a prior draw corrected by what it fails to explain.

        `spread` widens or narrows the draws around the mean.
        """
        prior = spread * rng.standard_normal((len(self._scale), count))
        noise = spread * self._noise * rng.standard_normal((len(self._y), count))
        return self._scale[:, None] * (prior + self._solve(self._y[:, None] - self._scaled @ prior - noise))

    def _solve(self, y: FloatArray) -> FloatArray:
        if self._wide:
            return np.asarray(self._scaled.T @ cho_solve(self._factor, y, check_finite=False))
        return np.asarray(cho_solve(self._factor, self._scaled.T @ y, check_finite=False))
