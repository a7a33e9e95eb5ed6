"""The part of a search space that a runtime can express, and the recipe's section that asks for it."""

from collections.abc import Mapping
from typing import Annotated, Any

from hat_ray.core.registry import NameIn
from hat_ray.errors import SpaceError
from hat_ray.runtime.protocol import RUNTIMES
from hat_ray.space.config import SpaceConfig
from hat_ray.space.dimensions import BY_NAME
from hat_ray.space.search_space import SearchSpace

Choices = Mapping[str, tuple[Any, ...]]


def restrictions(choices: Choices, runtime: str) -> dict[str, tuple[Any, ...]]:
    """Return the dimensions that a runtime cannot express whole, each with the choices that remain.

    Of a dimension that needs one value in all layers the largest remains. Raises SpaceError where none does.
    """
    expresses, changes = RUNTIMES.facts(runtime).expresses, dict[str, tuple[Any, ...]]()
    choices = {**{name: BY_NAME[name].unnamed for name in expresses.only}, **choices}
    for name, able in expresses.only.items():
        changes[name] = tuple(choice for choice in choices[name] if choice in able)
        _require(changes[name], runtime, (name,), choices, f"one of {list(able)}")
    for names in expresses.alike:
        common = set(choices[names[0]]).intersection(*(choices[name] for name in names[1:]))
        _require(common, runtime, names, choices, "a choice in common")
        changes |= {name: (max(common),) for name in names}
    return {name: left for name, left in changes.items() if set(left) != set(choices[name])}


def _require(left: object, runtime: str, names: tuple[str, ...], choices: Choices, needed: str) -> None:
    if not left:
        given = " and ".join(f"space.{name} {list(choices[name])}" for name in names)
        raise SpaceError(f"space.runtime {runtime} needs {needed} in {given}: change them, or take another runtime")


class RuntimeSpaceConfig(SpaceConfig):
    """A search space by name or file; each dimension that is set here replaces that one of the preset."""

    runtime: Annotated[str, NameIn(RUNTIMES)] | None = None
    """Restrict the space to architectures that this runtime can express; null: any. "ctranslate2" keeps one number of
    heads in the encoder and one in the decoder (the largest, unless you name another), cross attention to the last
    encoder layer, and self-attention in every decoder layer."""

    def build(self) -> SearchSpace:
        """Return the search space; raise SpaceError when a name, file or choice is wrong."""
        space = super().build()
        if self.runtime is None:
            return space
        changes: dict[str, Any] = restrictions(space.choices, self.runtime)
        return space.replaced(name=f"{space.name}-{self.runtime}", **changes) if changes else space
