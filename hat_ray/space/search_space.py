"""A search space: the choices for each elastic dimension."""

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

from hat_ray.core.config import nearest_name
from hat_ray.errors import SpaceError
from hat_ray.space.architecture import Architecture, build, depth_of, own_choices_of
from hat_ray.space.dimension import Choice, Dimension
from hat_ray.space.dimensions import BY_NAME, CELLS, DIMENSIONS, SELF_HEADS

MAX_CHOICES = 1_000
"""Most choices of one dimension."""

_HAT_DRAWS = (
    ("encoder_embed_dims",),
    ("decoder_embed_dims",),
    ("encoder_depths",),
    ("decoder_depths",),
    ("encoder_ffn_dims", "encoder_heads"),
    ("decoder_ffn_dims", "decoder_self_heads", "decoder_cross_heads"),
    ("decoder_cross_layers",),
)
"""HAT's order of draws, which seeds depend on; dimensions of one entry are drawn in turns, layer by layer."""
_FOR_ALL_LAYERS = ("decoder_cross_layers",)
"""HAT: drawn for all super layers, also for those past the sampled depth."""


@dataclass(frozen=True, init=False)
class SearchSpace:
    """The choices for each elastic dimension (section 3.1). Their order matters for sampling and nothing else.

    `SearchSpace("mine", qkv_dim=128, encoder_depths=(3, 2), ...)` names the choices of each dimension of the table
    `DIMENSIONS`; one that has an `absent` value may be left out. `space["encoder_depths"]` returns them.

    `alike_layers` gives all layers of a side one choice in each dimension, as other programs' Transformers have; it is
    False where no two layers could differ. `name` is a label: two spaces with the same choices have the same `id`
    whatever they are called.
    """

    name: str
    qkv_dim: int
    _pairs: tuple[tuple[str, tuple[Choice, ...]], ...]
    alike_layers: bool

    def __init__(self, name: str, qkv_dim: int = 512, alike_layers: bool = False, **choices: Sequence[Choice]) -> None:
        for given in choices:
            if given not in BY_NAME:
                near = nearest_name(given, list(BY_NAME))
                hint = f"did you mean {near}?" if near else f"known are {', '.join(BY_NAME)}"
                raise SpaceError(f"space {name}: no dimension is called {given}; {hint}")
        pairs = tuple((one.name, self._checked(name, one, choices.get(one.name))) for one in DIMENSIONS)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "qkv_dim", qkv_dim)
        object.__setattr__(self, "_pairs", tuple(pair for pair in pairs if pair[1] != BY_NAME[pair[0]].unnamed))
        if type(alike_layers) is not bool:
            raise SpaceError(f"space {name}: alike_layers must be true or false, got {repr(alike_layers)[:80]}")
        object.__setattr__(self, "alike_layers", alike_layers and self._has_unlike_layers())
        self.largest(), self.smallest()  # an ill-formed choice fails here, with the rule that it breaks

    @staticmethod
    def _checked(space: str, dimension: Dimension, given: Sequence[Choice] | None) -> tuple[Choice, ...]:
        """Return a dimension's choices; raise SpaceError for those that no architecture can have."""
        name = dimension.name
        if given is None and not dimension.unnamed:
            raise SpaceError(f"space {space} lacks the dimension {name}: name its choices")
        choices = dimension.unnamed if given is None else tuple(given)
        if len(choices) > MAX_CHOICES:
            raise SpaceError(f"space {space}: {name} has at most {MAX_CHOICES} choices, got {len(choices)}")
        for choice in choices:
            if broken := dimension.why_not(choice):
                raise SpaceError(f"space {space}: {name} {broken}")
        if not choices or len(set(choices)) != len(choices):
            raise SpaceError(f"space {space}: {name} needs distinct choices, got {list(choices)}")
        return choices

    @cached_property
    def choices(self) -> Mapping[str, tuple[Choice, ...]]:
        """Each dimension's choices by name, in the order of the table; what is `absent` everywhere is left out."""
        return dict(self._pairs)

    def __getitem__(self, dimension: str) -> tuple[Choice, ...]:
        """Return a dimension's choices."""
        return self.choices[dimension]

    def numbers(self, dimension: str) -> tuple[int, ...]:
        """Return a dimension's choices as numbers; a word by its place in the dimension's `words`."""
        return tuple(map(BY_NAME[dimension].number, self.choices[dimension]))

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The dimensions that this space names, in the order of the table."""
        return tuple(BY_NAME[name] for name in self.choices)

    def replaced(
        self, *, name: str = "", qkv_dim: int = 0, alike_layers: bool | None = None, **choices: Sequence[Choice]
    ) -> "SearchSpace":
        """Return this space with other choices for some dimensions."""
        alike = self.alike_layers if alike_layers is None else alike_layers
        return SearchSpace(name or self.name, qkv_dim or self.qkv_dim, alike, **{**self.choices, **choices})

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `alike_layers` is left out where it is False."""
        choices = {name: list(choices) for name, choices in self.choices.items()}
        return {"name": self.name, **choices, "qkv_dim": self.qkv_dim, **self._alike}

    @property
    def _alike(self) -> dict[str, bool]:
        return {"alike_layers": True} if self.alike_layers else {}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "SearchSpace":
        """Read what `to_dict` wrote; raise SpaceError when a key is missing, unknown or ill-typed."""
        try:
            return cls(**value)
        except TypeError as error:
            raise SpaceError(f"not a search space: {error}") from error

    @cached_property
    def id(self) -> str:
        """A short stable hash of the choices: 8 hexadecimal digits; independent of name and order."""
        choices = {name: sorted(values) for name, values in self.choices.items()}
        content = {**choices, "qkv_dim": self.qkv_dim, **self._alike}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def max_layers(self, dimension: Dimension) -> int:
        """Return the number of values of a dimension in the largest architecture."""
        return max(self.numbers(dimension.depths)) if dimension.per_layer else 1

    def most_choices(self, dimension: Dimension) -> int:
        """Return how often the largest architecture chooses in a dimension: once where its layers are alike."""
        return 1 if self.alike_layers else self.max_layers(dimension)

    def _has_unlike_layers(self) -> bool:
        """Return whether two layers of a side may differ, were they free to."""
        return any(one.per_layer and self.max_layers(one) > 1 < len(self.choices[one.name]) for one in self.dimensions)

    def sample(self, rng: random.Random) -> Architecture:
        """Draw one architecture, each choice uniform, with HAT's order of draws.

        HAT: `sample(random.Random(n))` is what HAT trains at update n. Dimensions that HAT lacks are drawn last, so
        that its seeds keep their networks. Where layers are alike, the first one's draw counts for all.
        """
        drawn: dict[str, Sequence[Choice]] = {}
        for names, choices, count, depths in self._draws:
            layers = int(drawn[depths][0] if depths else count)
            values = [[rng.choice(some) for some in choices] for _ in range(1 if self.alike_layers else layers)]
            values *= layers if self.alike_layers else 1
            drawn.update(zip(names, zip(*values, strict=True), strict=True))
        return build(drawn, self.qkv_dim)

    @cached_property
    def _draws(self) -> list[tuple[tuple[str, ...], list[tuple[Choice, ...]], int, str | None]]:
        """What is drawn together: names, their choices, and how often, or the depths that say so."""
        by_hat = {name for names in _HAT_DRAWS for name in names}
        draws = []
        for names in (*_HAT_DRAWS, *((name,) for name in self.choices if name not in by_hat)):
            dimension = BY_NAME[names[0]]
            depths = dimension.depths if dimension.per_layer and names != _FOR_ALL_LAYERS else None
            draws.append((names, [self.choices[name] for name in names], self.max_layers(dimension), depths))
        return draws

    def largest(self) -> Architecture:
        return self.uniform(self.picked(max))

    def smallest(self) -> Architecture:
        return self.uniform(self.picked(min))

    def picked(self, pick: Callable[[Sequence[int]], int]) -> dict[str, Choice]:
        """Return the choice of each dimension whose number `pick` returns."""
        return {
            name: choices[self.numbers(name).index(pick(self.numbers(name)))] for name, choices in self.choices.items()
        }

    def uniform(self, choice: Mapping[str, Choice]) -> Architecture:
        """Return the architecture whose layers are all alike; `choice` names one value for each dimension."""
        layers = {one.name: self.max_layers(one) for one in self.dimensions}
        return build({name: (value,) * layers[name] for name, value in choice.items()}, self.qkv_dim)

    def size(self) -> int:
        """Count the different networks of the space exactly."""
        depths = [one.name for one in self.dimensions if one.name == one.depths]
        total = 0
        for layers in product(*(self.numbers(name) for name in depths)):
            of = dict(zip(depths, layers, strict=True))
            total += prod(self._count(one, of) for one in self.dimensions if one.name not in of)
        return total

    def _count(self, dimension: Dimension, depths: Mapping[str, int]) -> int:
        """Count the different values of a dimension in networks of these depths."""
        most = depths[dimension.capped_by] if dimension.capped_by else dimension.most
        count = len({min(number, most) for number in self.numbers(dimension.name)})
        cells = self.choices.get(CELLS, ())
        if dimension.name == SELF_HEADS and cells:  # a layer without self-attention has no heads to choose
            count = (count if "attention" in cells else 0) + ("ssru" in cells)
        elif dimension.name == CELLS:
            count = 1
        return count ** depths[dimension.depths] if dimension.per_layer and not self.alike_layers else count

    def covers(self, other: "SearchSpace") -> bool:
        """Return whether every network of another space is one of this space."""
        if self.alike_layers and not other.alike_layers and other._has_unlike_layers():
            return False
        return self.qkv_dim == other.qkv_dim and all(self._covers(other, one) for one in DIMENSIONS)

    def _covers(self, other: "SearchSpace", dimension: Dimension) -> bool:
        """Compare the choices of a dimension; larger choices than a cap are the same network as the cap."""
        if dimension.name == SELF_HEADS and other.choices.get(CELLS) == ("ssru",):
            return True  # no layer there has self-attention
        own, asked = (
            {dimension.number(choice) for choice in space.choices.get(dimension.name, dimension.unnamed)}
            for space in (self, other)
        )
        caps = other.numbers(dimension.capped_by) if dimension.capped_by else (max(own | asked),)
        return all({min(one, cap) for one in asked} <= {min(one, cap) for one in own} for cap in caps)

    def contains(self, architecture: Architecture) -> bool:
        return self.why_outside(architecture) is None

    def require(self, architecture: Architecture) -> None:
        """Raise SpaceError when an architecture lies outside this space, naming the dimension and the choices."""
        reason = self.why_outside(architecture)
        if reason:
            raise SpaceError(f"architecture {architecture.id} lies outside space {self.name}: {reason}")

    def why_outside(self, architecture: Architecture) -> str | None:
        """Return why an architecture lies outside this space, or None when it lies inside."""
        for name, values, choices in self._chosen(architecture):
            for value in values:
                if value not in choices:
                    return f"{name} must be one of {sorted(choices)}, got {value}"
            if self.alike_layers and len({*values}) > 1:
                return f"{name} must be the same in all layers (alike_layers), got {', '.join(map(str, values))}"
        if architecture.encoder.repeats:
            return f"skipped encoder layers may not repeat the last output, got repeats {architecture.encoder.repeats}"
        return None

    def _chosen(self, architecture: Architecture) -> Iterator[tuple[str, tuple[Choice, ...], tuple[Choice, ...]]]:
        """Return an architecture's choice in each dimension, and this space's choices there for its depths."""
        yield "qkv_dim", (architecture.qkv_dim,), (self.qkv_dim,)
        for dimension in DIMENSIONS:
            choices = self.choices.get(dimension.name, dimension.unnamed)
            if dimension.capped_by:
                most = depth_of(architecture, BY_NAME[dimension.capped_by])
                choices = tuple({min(dimension.number(choice), most) for choice in choices})
            yield dimension.name, own_choices_of(architecture, dimension), choices
