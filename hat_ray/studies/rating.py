"""Rate ways to rank architectures: inherited weights, what needs no training, and training from scratch itself.

Decisions
- The truth is the mean over the seeds of training from scratch. The ceiling is one seed against the mean of the others:
  no ranking that is learnt from one training can be expected to do better.
- Everything is turned so that less is better: BLEU and sizes are negated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hat_ray.studies.results import PolicyRanks, RankingQuality, ScratchTrained
from hat_ray.studies.statistics import (
    Estimate,
    Floats,
    interval,
    kendall_tau_b,
    mean_estimate,
    regrets,
    resample,
    spearman_rho,
    tau_samples,
)

LAYERS = "decoder layers"
CEILING = "from scratch, another seed"


@dataclass(frozen=True)
class Truth:
    """Losses of architectures after training from scratch, (K,) and (seeds, K); less is better."""

    seeds: Floats
    bins: NDArray[np.intp]
    drawn: NDArray[np.intp]
    """(R, K) bootstrap resamples."""

    @classmethod
    def of(cls, tried: Sequence[ScratchTrained], resamples: int, seed: int, *, bleu: bool = False) -> "Truth":
        bins = np.array([one.bin for one in tried], dtype=np.intp)
        values = [[-b for b in one.scratch_bleu] if bleu else one.scratch_loss_bits for one in tried]
        return cls(np.array(values, dtype=np.float64).T, bins, resample(bins, resamples, seed))

    @property
    def mean(self) -> Floats:
        return np.asarray(self.seeds.mean(axis=0), dtype=np.float64)

    def tau(self, predicted: Sequence[float] | Floats, *, within: bool) -> float | None:
        return kendall_tau_b(predicted, self.mean, self.bins if within else None)

    def samples(self, predicted: Sequence[float] | Floats, *, within: bool) -> Floats:
        return tau_samples(predicted, self.mean, self.bins if within else None, self.drawn)


def size_predictors(tried: Sequence[ScratchTrained]) -> dict[str, list[float]]:
    """Return the figures that rank architectures without any training; larger is taken for better."""
    return {
        LAYERS: [-float(one.architecture.decoder.depth) for one in tried],
        "parameters": [-float(one.params) for one in tried],
        "FLOPs": [-float(one.flops) for one in tried],
        "latency": [-one.latency for one in tried],
    }


def rank_all(
    truth: Truth, tried: Sequence[ScratchTrained], learnt: Mapping[str, Sequence[float]]
) -> tuple[RankingQuality, ...]:
    """Rate the given values, then sizes, then, with several seeds, the ceiling."""
    sizes = size_predictors(tried)
    ranks = [_rank(name, values, truth, sizes[LAYERS]) for name, values in {**learnt, **sizes}.items()]
    ceiling = _ceiling(truth, sizes[LAYERS])
    return (*ranks, ceiling) if ceiling else tuple(ranks)


def rank_policies(
    truth: Truth, tried: Sequence[ScratchTrained], losses: Mapping[str, Sequence[Sequence[float]]]
) -> tuple[PolicyRanks, ...]:
    """Rate policies by the inherited losses of each one's seeds: (seeds, K) by name."""
    first = next(iter(losses), None)
    layers = [size_predictors(tried)[LAYERS]]
    return tuple(
        PolicyRanks(
            policy=name,
            overall=_mean(truth, values, within=False),
            within=_mean(truth, values, within=True),
            gain=None if name == first or first is None else _difference(truth, values, losses[first]),
            gain_over_layers=_difference(truth, values, layers),
        )
        for name, values in losses.items()
    )


def random_regrets(truth: Truth) -> tuple[float, ...]:
    """Return for each bin what an architecture drawn at random loses against the best."""
    return tuple(regrets(np.zeros_like(truth.mean), truth.mean, truth.bins))


def _rank(name: str, values: Sequence[float], truth: Truth, layers: Sequence[float]) -> RankingQuality:
    return RankingQuality(
        name=name,
        overall=_mean(truth, [values], within=False),
        within=_mean(truth, [values], within=True),
        rho=spearman_rho(values, truth.mean),
        gain=None if name == LAYERS else _difference(truth, [values], [layers]),
        regrets=tuple(regrets(values, truth.mean, truth.bins)),
    )


def _mean(truth: Truth, values: Sequence[Sequence[float]], *, within: bool) -> Estimate:
    taus = [truth.tau(one, within=within) for one in values]
    return mean_estimate(taus, [truth.samples(one, within=within) for one in values])


def _difference(truth: Truth, values: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> Estimate:
    """Return the gain of values over others in ordering architectures within bins, on the same resamples."""
    mine, theirs = _mean(truth, values, within=True).value, _mean(truth, others, within=True).value
    if mine is None or theirs is None:
        return Estimate(None)
    samples = [np.mean([truth.samples(one, within=True) for one in group], axis=0) for group in (values, others)]
    return Estimate(mine - theirs, *interval(samples[0] - samples[1]))


def _ceiling(truth: Truth, layers: Sequence[float]) -> RankingQuality | None:
    """Rate each seed against the mean of the others; None with a single seed."""
    count = len(truth.seeds)
    if count < 2:
        return None
    folds = [Truth(np.delete(truth.seeds, s, axis=0), truth.bins, truth.drawn) for s in range(count)]
    ranks = [_rank(CEILING, list(truth.seeds[s]), fold, layers) for s, fold in enumerate(folds)]

    def estimate(within: bool) -> Estimate:
        taus = [fold.tau(truth.seeds[s], within=within) for s, fold in enumerate(folds)]
        return mean_estimate(taus, [fold.samples(truth.seeds[s], within=within) for s, fold in enumerate(folds)])

    known = [rank.rho for rank in ranks if rank.rho is not None]
    return RankingQuality(
        name=CEILING,
        overall=estimate(within=False),
        within=estimate(within=True),
        rho=float(np.mean(known)) if known else None,
        gain=None,
        regrets=tuple(np.mean([rank.regrets for rank in ranks], axis=0).tolist()),
    )
