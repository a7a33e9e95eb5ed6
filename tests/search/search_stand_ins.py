"""Cheap stand-ins for what a search is given: a small space, a law of latency, a law of loss."""

import hashlib
import math
from collections.abc import Sequence

import numpy as np

from hat_ray.search.early_stopping import SHARES, Bars, PartScore
from hat_ray.search.limits import LatencyFunction
from hat_ray.space.architecture import Architecture
from hat_ray.space.cost import count_macs
from hat_ray.space.features import FloatArray
from hat_ray.space.search_space import SearchSpace

EIGHT = SearchSpace(
    name="eight",
    encoder_embed_dims=(32, 16),
    encoder_depths=(1,),
    encoder_ffn_dims=(64, 32),
    encoder_heads=(2,),
    decoder_embed_dims=(32, 16),
    decoder_depths=(1,),
    decoder_ffn_dims=(64,),
    decoder_self_heads=(2,),
    decoder_cross_heads=(2,),
    decoder_cross_layers=(1,),
    qkv_dim=32,
)

ODD = SearchSpace(
    name="odd",  # small enough for brute force; encoders shallower than a reach, whose choices have a gap
    encoder_embed_dims=(32, 16),
    encoder_depths=(1, 2),
    encoder_ffn_dims=(64, 32),
    encoder_heads=(2,),
    decoder_embed_dims=(32, 16),
    decoder_depths=(2, 1),
    decoder_ffn_dims=(64, 48, 32),
    decoder_self_heads=(2,),
    decoder_cross_heads=(4, 2),
    decoder_cross_layers=(3, 1),
    qkv_dim=32,
)

CONFLICT = SearchSpace(
    name="conflict",  # 288 architectures
    encoder_embed_dims=(32, 16),
    encoder_depths=(1, 2),
    encoder_ffn_dims=(64, 32),
    encoder_heads=(2,),
    decoder_embed_dims=(32, 16),
    decoder_depths=(2, 1),
    decoder_ffn_dims=(64, 48, 32),
    decoder_self_heads=(2,),
    decoder_cross_heads=(2,),
    decoder_cross_layers=(1,),
    qkv_dim=32,
)


def macs_ms(architectures: Sequence[Architecture]) -> FloatArray:
    """A device that is bound by arithmetic."""
    return np.array([count_macs(architecture, 30) / 1e5 for architecture in architectures])


def depth_ms(architectures: Sequence[Architecture]) -> FloatArray:
    """A device that is bound by the number of decoder layers."""
    return np.array([10.0 * a.decoder.depth + a.encoder.depth + a.decoder.embed_dim / 64 for a in architectures])


def encoder_mb(architectures: Sequence[Architecture]) -> FloatArray:
    """A size that follows the encoder alone."""
    return np.array([(sum(a.encoder.ffn_dims) + a.encoder.embed_dim) / 16 for a in architectures])


def shallow_p90_ms(architectures: Sequence[Architecture]) -> FloatArray:
    """A percentile that falls with the decoder's widths: narrow networks wait, wide ones do not."""
    return np.array([2000.0 / (sum(a.decoder.ffn_dims) + 2 * a.decoder.embed_dim) for a in architectures])


class Counted:
    """A device that counts how many architectures it was asked about, and in how many calls."""

    def __init__(self, latency_ms: LatencyFunction) -> None:
        self.calls, self.architectures, self._latency_ms = 0, 0, latency_ms

    def __call__(self, architectures: Sequence[Architecture]) -> FloatArray:
        self.calls += 1
        self.architectures += len(architectures)
        return self._latency_ms(architectures)


def bigger_is_better(architecture: Architecture) -> float:
    """A loss that falls with size, with a little that only this architecture has."""
    luck = int(hashlib.sha256(architecture.id.encode()).hexdigest()[:6], 16) / 16**6
    return 6 - 0.4 * float(np.log(count_macs(architecture, 30) / 1e5)) + 0.05 * luck


PART_SPREAD = 0.01
"""Standard deviation of what a half of the validation set says, around what the whole one does."""


class InParts:
    """A loss whose parts are easier than the whole and off by chance, less so the larger they are."""

    def __init__(self, dies_after: int = 10**6) -> None:
        self.scored: list[Architecture] = []
        self._dies_after = dies_after

    def __call__(self, architecture: Architecture) -> float:
        return bigger_is_better(architecture)

    def in_parts(self, architecture: Architecture, bars: Bars) -> PartScore:
        if len(self.scored) >= self._dies_after:
            raise KeyboardInterrupt
        self.scored.append(architecture)
        losses = []
        for share, bar in zip(SHARES, bars, strict=True):
            losses.append(self.part(architecture, share))
            if losses[-1] > bar:
                return PartScore(losses[-1], share, tuple(losses))
        return PartScore(self(architecture), at_shares=tuple(losses))

    def part(self, architecture: Architecture, share: float) -> float:
        seed = int(hashlib.sha256(f"{architecture.id} {share}".encode()).hexdigest()[:12], 16)
        chance = PART_SPREAD * math.sqrt(1 / share - 1) * float(np.random.default_rng(seed).standard_normal())
        return 0.9 * self(architecture) - 0.3 + chance
