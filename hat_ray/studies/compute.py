"""The cost of a training, and the number of updates of each policy at equal cost.

Decisions
- FLOPs of a pass are HAT's (`space/cost.py`) plus the output projection, which training computes for every token. A
  backward pass counts twice a forward pass. Embeddings, the loss and Adam are left out: they are the same for all
  policies but for Adam, which a sandwich update runs once for several architectures.
- The expected cost of an update is the mean over the policy's own draws.
- Everything that counts updates is scaled along: warm-up, learning-rate schedule, validation, checkpoints, and the
  update at which channels are sorted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hat_ray.corpus.corpus import CorpusSummary
from hat_ray.model.channels import require_sortable
from hat_ray.model.config import ModelConfig
from hat_ray.space.architecture import Architecture
from hat_ray.space.cost import cost, decoder_macs
from hat_ray.space.search_space import SearchSpace
from hat_ray.studies.policy_names import PolicySpec
from hat_ray.train.config import TrainConfig
from hat_ray.train.sampling import policy_for

PASSES = 3
"""A forward pass and a backward pass that costs two of them."""
DRAWS = 2_000
SCALED = {"warmup_updates": 0, "validate_every": 1, "checkpoint_every": 1, "sort_update": 1}
"""Settings that count updates, and the least that each may be."""


@dataclass(frozen=True)
class MeanSentence:
    """The corpus's mean sentence, which stands for all when passes are counted."""

    length: int
    """Target tokens, end of sentence included."""
    vocabulary_size: int
    """Entries of the target's vocabulary."""

    @classmethod
    def of(cls, summary: CorpusSummary) -> "MeanSentence":
        mean = summary.train.target.tokens / max(1, summary.train.pairs)
        return cls(max(1, round(mean)), summary.vocabulary_sizes[1])

    def decoder_flops(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Count the decoder's share of a forward pass with the output projection: a proxy of latency."""
        counts = [2 * decoder_macs(one, self.length) + self._projection(one) for one in architectures]
        return np.asarray(counts, dtype=np.float64)

    def pass_flops(self, architecture: Architecture) -> int:
        """Count one forward pass of one sentence, output projection included."""
        return cost(architecture, self.length).flops + self._projection(architecture)

    def _projection(self, architecture: Architecture) -> int:
        return 2 * self.length * architecture.decoder.embed_dim * self.vocabulary_size

    def train_flops(self, tokens: int, flops_a_sentence: float) -> float:
        """Return the cost of training on `tokens` target tokens, from the cost of a sentence."""
        return tokens / self.length * flops_a_sentence


@dataclass(frozen=True)
class PlannedPolicy:
    """A policy with the settings that give it the cost of the others."""

    spec: PolicySpec
    model: ModelConfig
    config: TrainConfig
    flops_a_sentence: float
    """Expected cost of one sentence of an update, forward and backward, over the whole training."""


def plan_policies(
    specs: Sequence[PolicySpec],
    space: SearchSpace,
    model: ModelConfig,
    config: TrainConfig,
    sentence: MeanSentence,
    seed: int,
) -> list[PlannedPolicy]:
    """Give each policy the number of updates that costs what `config.updates` uniform ones cost.

    Raises HatRayError for sharing that the space cannot have, before anything is trained.
    """
    largest = space.largest()
    if any(spec.sharing == "importance" for spec in specs):
        require_sortable(model, (largest.encoder.embed_dim, largest.decoder.embed_dim))
    budget = config.updates * _flops(space, changed(config, policy="uniform"), sentence, seed)
    return [_plan(spec, budget, space, model, config, sentence, seed) for spec in specs]


def _plan(
    spec: PolicySpec,
    budget: float,
    space: SearchSpace,
    model: ModelConfig,
    config: TrainConfig,
    sentence: MeanSentence,
    seed: int,
) -> PlannedPolicy:
    own = changed(
        config, policy=spec.sampling, distillation=spec.share(config.distillation), hat_sampling=False, max_seconds=None
    )
    flops = _flops(space, own, sentence, seed)
    if spec.sharing == "importance":
        flops += sorted_share(own) * (PASSES * sentence.pass_flops(space.largest()) - flops)
    updates = max(1, round(budget / flops))
    return PlannedPolicy(spec, model.model_copy(update={"sharing": spec.sharing}), scaled(own, updates), flops)


def sorted_share(config: TrainConfig) -> float:
    """Return the share of the updates before channels are sorted, in which only the largest is trained."""
    return min(1.0, config.sorted_at / config.updates)


def scaled(config: TrainConfig, updates: int) -> TrainConfig:
    """Return the settings for another number of updates, with everything that counts updates scaled along."""
    ratio = updates / config.updates
    known = {name: count for name in SCALED if (count := getattr(config, name)) is not None}
    counts = {name: max(SCALED[name], round(count * ratio)) for name, count in known.items()}
    return changed(config, updates=updates, **counts)


def changed(config: TrainConfig, **changes: Any) -> TrainConfig:
    """Return plain training settings with some of them replaced, validated anew."""
    kept = config.model_dump(include=set(TrainConfig.model_fields))
    return TrainConfig.model_validate({**kept, **changes})


def _flops(space: SearchSpace, config: TrainConfig, sentence: MeanSentence, seed: int) -> float:
    """Return the mean cost of one sentence of an update that samples from the whole space."""
    return mean_flops(policy_for(space, config, seed), sentence)


def mean_flops(policy: Callable[[int], Sequence[Architecture]], sentence: MeanSentence) -> float:
    """Return the mean cost of one sentence of an update, over the policy's first draws."""
    drawn = [architecture for update in range(DRAWS) for architecture in policy(update)]
    return PASSES * sum(map(sentence.pass_flops, drawn)) / DRAWS
