"""A search space: the choices for each elastic dimension, and the moves of a search inside it."""

import hashlib
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from math import prod
from typing import Any

from hat_ray.errors import SpaceError
from hat_ray.space.architecture import MAX_DEPTH, MAX_SIZE, Architecture, DecoderShape, EncoderShape

MAX_CHOICES = 1_000
"""Most choices of one dimension."""


@dataclass(frozen=True)
class SearchSpace:
    """The choices for each elastic dimension (section 3.1). Their order matters for sampling and nothing else.

    `name` is a label: two spaces with the same choices have the same `id` whatever they are called.
    """

    name: str
    encoder_embed_dims: tuple[int, ...]
    encoder_depths: tuple[int, ...]
    encoder_ffn_dims: tuple[int, ...]
    encoder_heads: tuple[int, ...]
    decoder_embed_dims: tuple[int, ...]
    decoder_depths: tuple[int, ...]
    decoder_ffn_dims: tuple[int, ...]
    decoder_self_heads: tuple[int, ...]
    decoder_cross_heads: tuple[int, ...]
    decoder_cross_layers: tuple[int, ...]
    qkv_dim: int = 512

    def __post_init__(self) -> None:
        for name, choices in self.dimensions().items():
            self._check_choices(name, choices)
            if not choices or len(set(choices)) != len(choices):
                raise SpaceError(f"space {self.name}: {name} needs distinct choices, got {list(choices)}")
        self.largest(), self.smallest()  # an ill-formed choice fails here, with the rule that it breaks

    def _check_choices(self, name: str, choices: tuple[int, ...]) -> None:
        """Raise SpaceError for choices that no architecture can have, before one is built from them."""
        if len(choices) > MAX_CHOICES:
            raise SpaceError(f"space {self.name}: {name} has at most {MAX_CHOICES} choices, got {len(choices)}")
        most = MAX_DEPTH if name.endswith("_depths") else MAX_SIZE
        wrong = [choice for choice in choices if type(choice) is not int or not 1 <= choice <= most]
        if wrong:
            raise SpaceError(
                f"space {self.name}: {name} must be whole numbers from 1 to {most}, got {repr(wrong[0])[:80]}"
            )

    def dimensions(self) -> dict[str, tuple[int, ...]]:
        """Return each elastic dimension's choices by name."""
        return {key: value for key, value in asdict(self).items() if key not in ("name", "qkv_dim")}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "SearchSpace":
        """Read what `to_dict` wrote; raises SpaceError when a key is missing, unknown or ill-typed."""
        try:
            values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in value.items()}
            return cls(**values)
        except TypeError as error:
            raise SpaceError(f"not a search space: {error}") from error

    @cached_property
    def id(self) -> str:
        """A short stable hash of the choices: 8 hexadecimal digits; independent of name and order."""
        choices = {name: sorted(values) for name, values in self.dimensions().items()}
        text = json.dumps({**choices, "qkv_dim": self.qkv_dim}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def max_encoder_depth(self) -> int:
        return max(self.encoder_depths)

    @property
    def max_decoder_depth(self) -> int:
        return max(self.decoder_depths)

    def sample(self, rng: random.Random) -> Architecture:
        """Draw one architecture, each choice uniform, with HAT's order of draws.

        HAT: `sample(random.Random(n))` is what HAT trains at update n. It draws the reach of all super decoder layers,
        also of those past the sampled depth.
        """
        encoder_dim, decoder_dim = rng.choice(self.encoder_embed_dims), rng.choice(self.decoder_embed_dims)
        encoder_depth, decoder_depth = rng.choice(self.encoder_depths), rng.choice(self.decoder_depths)
        encoder = [(rng.choice(self.encoder_ffn_dims), rng.choice(self.encoder_heads)) for _ in range(encoder_depth)]
        decoder = [
            (
                rng.choice(self.decoder_ffn_dims),
                rng.choice(self.decoder_self_heads),
                rng.choice(self.decoder_cross_heads),
            )
            for _ in range(decoder_depth)
        ]
        reach = [rng.choice(self.decoder_cross_layers) for _ in range(self.max_decoder_depth)][:decoder_depth]
        return Architecture(
            EncoderShape(encoder_dim, tuple(f for f, _ in encoder), tuple(h for _, h in encoder)),
            DecoderShape(
                decoder_dim,
                tuple(layer[0] for layer in decoder),
                tuple(layer[1] for layer in decoder),
                tuple(layer[2] for layer in decoder),
                tuple(reach),
            ),
            self.qkv_dim,
        )

    def largest(self) -> Architecture:
        return self.uniform({name: max(choices) for name, choices in self.dimensions().items()})

    def smallest(self) -> Architecture:
        return self.uniform({name: min(choices) for name, choices in self.dimensions().items()})

    def uniform(self, choice: Mapping[str, int]) -> Architecture:
        """Return the architecture whose layers are all alike; `choice` names one value for each dimension."""
        layers, depth = choice["encoder_depths"], choice["decoder_depths"]
        return Architecture(
            EncoderShape(
                choice["encoder_embed_dims"],
                (choice["encoder_ffn_dims"],) * layers,
                (choice["encoder_heads"],) * layers,
            ),
            DecoderShape(
                choice["decoder_embed_dims"],
                (choice["decoder_ffn_dims"],) * depth,
                (choice["decoder_self_heads"],) * depth,
                (choice["decoder_cross_heads"],) * depth,
                (choice["decoder_cross_layers"],) * depth,
            ),
            self.qkv_dim,
        )

    def size(self) -> int:
        """Count the different networks of the space exactly."""
        encoder_layer = len(self.encoder_ffn_dims) * len(self.encoder_heads)
        decoder_layer = prod(map(len, (self.decoder_ffn_dims, self.decoder_self_heads, self.decoder_cross_heads)))
        total = 0
        for encoder_depth in self.encoder_depths:
            reaches = len({min(reach, encoder_depth) for reach in self.decoder_cross_layers})
            decoders = sum((decoder_layer * reaches) ** depth for depth in self.decoder_depths)
            total += encoder_layer**encoder_depth * decoders
        return total * len(self.encoder_embed_dims) * len(self.decoder_embed_dims)

    def contains(self, architecture: Architecture) -> bool:
        return self.why_outside(architecture) is None

    def require(self, architecture: Architecture) -> None:
        """Raise SpaceError when an architecture lies outside this space, naming the dimension and the choices."""
        reason = self.why_outside(architecture)
        if reason:
            raise SpaceError(f"architecture {architecture.id} lies outside space {self.name}: {reason}")

    def why_outside(self, architecture: Architecture) -> str | None:
        """Return why an architecture lies outside this space, or None when it lies inside."""
        e, d = architecture.encoder, architecture.decoder
        reaches = tuple(sorted({min(reach, e.depth) for reach in self.decoder_cross_layers}))
        checks: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = (
            ("qkv_dim", (architecture.qkv_dim,), (self.qkv_dim,)),
            ("encoder_embed_dims", (e.embed_dim,), self.encoder_embed_dims),
            ("encoder_depths", (e.depth,), self.encoder_depths),
            ("encoder_ffn_dims", e.ffn_dims, self.encoder_ffn_dims),
            ("encoder_heads", e.heads, self.encoder_heads),
            ("decoder_embed_dims", (d.embed_dim,), self.decoder_embed_dims),
            ("decoder_depths", (d.depth,), self.decoder_depths),
            ("decoder_ffn_dims", d.ffn_dims, self.decoder_ffn_dims),
            ("decoder_self_heads", d.self_heads, self.decoder_self_heads),
            ("decoder_cross_heads", d.cross_heads, self.decoder_cross_heads),
            ("decoder_cross_layers", d.cross_layers, reaches),
        )
        for name, values, choices in checks:
            for value in values:
                if value not in choices:
                    return f"{name} must be one of {sorted(choices)}, got {value}"
        if e.repeats:
            return "skipped encoder layers may not repeat the last output, got repeats " + str(e.repeats)
        return None

    def mutate(self, architecture: Architecture, rng: random.Random, probability: float) -> Architecture:
        """Draw each choice anew with `probability`; layers that a greater depth adds are drawn uniformly."""

        def keep(value: int, choices: tuple[int, ...]) -> int:
            return rng.choice(choices) if rng.random() < probability else value

        return self._combine([architecture], rng, keep)

    def cross_over(self, first: Architecture, second: Architecture, rng: random.Random) -> Architecture:
        """Take each choice from either parent with equal chance; a layer that only one has comes from that one."""
        return self._combine([first, second], rng, lambda value, _: value)

    def _combine(
        self, parents: list[Architecture], rng: random.Random, change: Callable[[int, tuple[int, ...]], int]
    ) -> Architecture:
        """Build a child gene by gene: from a random parent that has the gene, then through `change`."""

        def gene(values: list[int], choices: tuple[int, ...]) -> int:
            if not values:
                return rng.choice(choices)
            value = rng.choice(values)
            if (
                value not in choices
            ):  # a reach that was cut to a shallow encoder's depth: back to the choice it came from
                value = min((choice for choice in choices if choice > value), default=max(choices))
            return change(value, choices)

        def layers(lists: list[tuple[int, ...]], choices: tuple[int, ...], depth: int) -> tuple[int, ...]:
            return tuple(gene([values[i] for values in lists if i < len(values)], choices) for i in range(depth))

        encoders, decoders = [p.encoder for p in parents], [p.decoder for p in parents]
        encoder_dim = gene([e.embed_dim for e in encoders], self.encoder_embed_dims)
        decoder_dim = gene([d.embed_dim for d in decoders], self.decoder_embed_dims)
        encoder_depth = gene([e.depth for e in encoders], self.encoder_depths)
        decoder_depth = gene([d.depth for d in decoders], self.decoder_depths)
        return Architecture(
            EncoderShape(
                encoder_dim,
                layers([e.ffn_dims for e in encoders], self.encoder_ffn_dims, encoder_depth),
                layers([e.heads for e in encoders], self.encoder_heads, encoder_depth),
            ),
            DecoderShape(
                decoder_dim,
                layers([d.ffn_dims for d in decoders], self.decoder_ffn_dims, decoder_depth),
                layers([d.self_heads for d in decoders], self.decoder_self_heads, decoder_depth),
                layers([d.cross_heads for d in decoders], self.decoder_cross_heads, decoder_depth),
                layers([d.cross_layers for d in decoders], self.decoder_cross_layers, decoder_depth),
            ),
            self.qkv_dim,
        )
