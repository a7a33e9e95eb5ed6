"""One elastic dimension: something about an architecture that a search may choose."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from hat_ray.errors import SpaceError

Choice = int | str
"""One value of a dimension: a whole number from 1 on, or a word."""

MAX_SIZE = 1 << 17
"""Largest width; twice what the largest language models have."""
MAX_DEPTH = 128
"""Most layers of an encoder or a decoder."""


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One row of the table `DIMENSIONS`.

    A dimension of whole numbers lets a search compare sizes; one of words (`words`) distinguishes kinds.
    """

    name: str
    """Key of recipes, run JSON and figures: `decoder_ffn_dims`."""
    title: str
    """Name for readers: `decoder FFN width`."""
    description: str
    """One sentence for the recipe's schema."""
    side: Literal["encoder", "decoder", "model"]
    """The part of the network that has it; `model`: the whole network, once."""
    field: str | None = None
    """HAT's dimensions: attribute of `EncoderShape` or `DecoderShape`. None: `Architecture.extra` holds the choice."""
    per_layer: bool = False
    """Whether each layer of the side has its own value."""
    words: tuple[str, ...] = ()
    """All values of a dimension of words, cheapest first; empty for whole numbers."""
    absent: Choice | None = None
    """The value of architectures, spaces and recipes that do not name the dimension. None: they must name it."""
    most: int = MAX_SIZE
    """Largest whole number."""
    capped_by: str | None = None
    """Name of the depths (`encoder_depths`) that a value never exceeds: larger choices make the same network."""
    hat_key: str | None = None
    """HAT's key in its YAML files, such as `decoder-ffn-embed-dim`; None: HAT has no such dimension."""
    hat_codes: Mapping[int, int] = dataclasses.field(default_factory=dict, hash=False)
    """HAT's code of each value, where HAT writes another number."""

    def __post_init__(self) -> None:
        if self.per_layer and self.side == "model":
            raise SpaceError(
                f"dimension {self.name}: per_layer needs a side with layers, encoder or decoder; got model"
            )
        if self.field is None and self.absent is None:
            raise SpaceError(f"dimension {self.name} needs `absent`, the value of what does not name it; got None")
        broken = None if self.absent is None else self.why_not(self.absent)
        if broken:
            raise SpaceError(f"dimension {self.name}: `absent` {broken}")

    @property
    def depths(self) -> str:
        """The name of the dimension that says how many layers its side has."""
        return f"{self.side}_depths"

    @property
    def unnamed(self) -> tuple[Choice, ...]:
        """The choices of a space that does not name this dimension; empty where it must."""
        return () if self.absent is None else (self.absent,)

    @property
    def yaml_key(self) -> str:
        """The key in YAML files like HAT's; what HAT lacks has its own name, which HAT's code passes over."""
        return self.hat_key or self.name.replace("_", "-")

    def number(self, choice: Choice) -> int:
        """Return a choice as a number from 1 on, larger for what is larger or costs more."""
        return self.words.index(choice) + 1 if isinstance(choice, str) else choice

    def why_not(self, choice: object) -> str | None:
        """Return the rule that a choice breaks and its value, or None when it is one."""
        if self.words:
            return None if choice in self.words else f"must be one of {list(self.words)}, got {repr(choice)[:80]}"
        if type(choice) is int and 1 <= choice <= self.most:
            return None
        return f"must be whole numbers from 1 to {self.most}, got {repr(choice)[:80]}"
