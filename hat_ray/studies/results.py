"""Results of the two studies, as plain frozen values; losses in bits a token, as everywhere on disk."""

from dataclasses import dataclass
from statistics import fmean, stdev

from hat_ray.space.json_field import ArchitectureField
from hat_ray.studies.statistics import Estimate
from hat_ray.studies.stratify import LatencySource


@dataclass(frozen=True)
class ScratchTrained:
    """An architecture that was trained from scratch."""

    architecture: ArchitectureField
    latency: float
    """In the unit of the latency's source."""
    bin: int
    """Latency bin, from 0, the fastest."""
    params: int
    flops: int
    """For one sentence of the corpus's mean length, output projection left out."""
    scratch_loss_bits: tuple[float, ...]
    """Validation loss after each training from scratch, by seed."""
    scratch_bleu: tuple[float, ...] = ()
    """BLEU on validation sentences, by seed; empty when not asked for."""

    @property
    def scratch_mean_bits(self) -> float:
        return fmean(self.scratch_loss_bits)


@dataclass(frozen=True)
class RankingQuality:
    """Agreement of one way to rank architectures with training from scratch."""

    name: str
    overall: Estimate
    """Kendall's tau-b over all pairs."""
    within: Estimate
    """Kendall's tau-b over the pairs that share a latency bin, pooled."""
    rho: float | None
    """Spearman's correlation, overall."""
    gain: Estimate | None
    """`within` less that of the number of decoder layers, on the same resamples; None for those layers themselves."""
    regrets: tuple[float, ...] = ()
    """In each bin: what the architecture that it picks loses against the bin's best, in the unit that is ranked."""


@dataclass(frozen=True)
class RankingResult:
    """One SuperTransformer against trainings from scratch."""

    latency: LatencySource
    tried: tuple[ScratchTrained, ...]
    inherited_loss_bits: tuple[float, ...]
    inherited_bleu: tuple[float, ...]
    """Empty when not asked for."""
    loss_ranks: tuple[RankingQuality, ...]
    """The inherited loss first, then what needs no training, then a training from scratch: the ceiling."""
    bleu_ranks: tuple[RankingQuality, ...] = ()
    """The same against BLEU."""
    random_regrets: tuple[float, ...] = ()
    """In each bin: what an architecture drawn at random loses against the bin's best, bits."""
    bleu_sentences: int = 0


@dataclass(frozen=True)
class ScoredSupernet:
    """One SuperTransformer of the policy study."""

    policy: str
    seed: int
    """From 0."""
    updates: int
    tokens: int
    """Target tokens trained on; an update that trains several architectures counts its tokens once."""
    seconds: float
    """Of training, validation included, on one CPU beside others."""
    train_flops: float
    largest_loss_bits: float
    smallest_loss_bits: float
    inherited_loss_bits: tuple[float, ...]
    """Of the tried architectures, in their order."""
    overall: float | None
    """Kendall's tau-b."""
    within: float | None
    """Kendall's tau-b within latency bins."""

    @property
    def mean_loss_bits(self) -> float:
        return fmean(self.inherited_loss_bits)


@dataclass(frozen=True)
class PolicyRanks:
    """One policy over all its seeds; intervals are over architectures, spreads over seeds."""

    policy: str
    overall: Estimate
    within: Estimate
    gain: Estimate | None
    """`within` less that of the first policy, on the same resamples; None for the first."""
    gain_over_layers: Estimate
    """`within` less that of the number of decoder layers."""


@dataclass(frozen=True)
class PolicyStudy:
    """Training policies at equal compute, scored against one set of trainings from scratch."""

    latency: LatencySource
    tried: tuple[ScratchTrained, ...]
    supernets: tuple[ScoredSupernet, ...]
    policies: tuple[PolicyRanks, ...]
    baselines: tuple[RankingQuality, ...]
    """Rankings that need no SuperTransformer, and the ceiling."""

    def of(self, policy: str) -> list[ScoredSupernet]:
        """Return a policy's SuperTransformers by seed."""
        return [one for one in self.supernets if one.policy == policy]


def mean_spread(values: list[float | None]) -> tuple[float | None, float | None]:
    """Return the mean and the standard deviation of what is known; no deviation of a single value."""
    known = [value for value in values if value is not None]
    return (fmean(known) if known else None), (stdev(known) if len(known) > 1 else None)
