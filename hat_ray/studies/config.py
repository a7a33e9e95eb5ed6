"""Settings of the two studies of a SuperTransformer: its ranking, and the comparison of training policies."""

from pydantic import Field, field_validator, model_validator

from hat_ray.core.config import StageConfig
from hat_ray.studies.policy_names import PolicySpec, parse_policy


class RankingConfig(StageConfig):
    """Which architectures are trained from scratch, to see how well inherited weights rank them."""

    architectures: int = Field(default=12, ge=4, le=1_000_000)
    """Architectures to train from scratch, shared out evenly over the latency bins."""
    bins: int = Field(default=3, ge=1, le=1_000_000)
    """Latency bins, each holding the same share of the space; ranks are compared inside each bin as well."""
    seeds: int = Field(default=2, ge=1, le=100_000)
    """Trainings from scratch of each architecture; from 2 on they show how well one training ranks like another."""
    device: str | None = None
    """Slug of the device whose predicted latency makes the bins; null for the run's first. A run without predictors
    uses a proxy: the FLOPs of the decoder."""
    bleu_sentences: int = Field(default=0, ge=0)
    """First sentences of the validation set that are translated for BLEU, with inherited and with own weights; 0 leaves
    BLEU out."""
    resamples: int = Field(default=2_000, ge=100, le=10_000_000)
    """Bootstrap resamples of the architectures behind each interval of 95 %."""

    @model_validator(mode="after")
    def _check_bins(self) -> "RankingConfig":
        if self.architectures < 2 * self.bins:
            raise ValueError(
                f"architectures must be at least twice bins, so that each bin has a pair, got {self.architectures} "
                f"for {self.bins} bins"
            )
        return self


class PoliciesConfig(StageConfig):
    """Which ways to train a SuperTransformer are compared, at equal compute and on the same architectures."""

    compare: tuple[str, ...] = (
        "front/uniform",
        "front/sandwich",
        "front/sandwich+distill",
        "middle/uniform",
        "importance/uniform",
    )
    """Each as sharing/policy or sharing/policy+distill; the first is what the others are compared with. Sharing: front,
    middle, importance. Policy: uniform, sandwich, stratified."""
    seeds: int = Field(default=3, ge=1, le=100_000)
    """SuperTransformers that are trained with each policy."""

    @field_validator("compare")
    @classmethod
    def _check_policies(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names:
            raise ValueError("at least one policy is needed, such as front/uniform")
        if len(set(names)) < len(names):
            raise ValueError("each policy may stand once")
        for name in names:
            parse_policy(name)
        return names

    def specs(self) -> list[PolicySpec]:
        """Return the policies in order."""
        return [parse_policy(name) for name in self.compare]
