"""Search spaces that follow from architectures."""

from collections.abc import Iterable

from hat_ray.space.architecture import Architecture, choices_of, depth_of
from hat_ray.space.dimension import Choice
from hat_ray.space.dimensions import BY_NAME, DIMENSIONS
from hat_ray.space.search_space import SearchSpace


def space_shown_by(architectures: Iterable[Architecture], name: str = "shown") -> SearchSpace | None:
    """Return the smallest space that the space of some architectures is known to cover.

    A space holds every combination of its choices, so one architecture with a choice proves the choice. A choice above
    a cap is seen as the cap: a value that equals the depth which caps it counts only in the deepest networks. None
    where there are no architectures, or their query-key-value widths differ.
    """
    shown = list(architectures)
    if len({one.qkv_dim for one in shown}) != 1:
        return None
    choices: dict[str, set[Choice]] = {}
    for dimension in DIMENSIONS:
        cap = BY_NAME[dimension.capped_by] if dimension.capped_by else None
        deepest = max(depth_of(one, cap) for one in shown) if cap else 0
        choices[dimension.name] = {
            choice
            for one in shown
            for choice in choices_of(one, dimension)
            if cap is None or dimension.number(choice) < depth_of(one, cap) or depth_of(one, cap) == deepest
        }
    sizes = {name: sorted(found, key=BY_NAME[name].number, reverse=True) for name, found in choices.items()}
    return SearchSpace(name, shown[0].qkv_dim, **sizes)
