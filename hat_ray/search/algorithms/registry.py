"""The search algorithms by name, and the settings of each.

Nothing heavy is imported here: a recipe's `search.algorithm` and its options are checked before any work begins.

Decisions
- An algorithm is hat-ray's own, of an installed package (entry point of the group `hat_ray.algorithms`), or spelled
  `package:Class` in the recipe. `core/registry.py` restricts the packages that a recipe may name.
- Each algorithm owns its settings: `search.algorithm_options` holds them, and an unknown one is refused by name.
"""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from hat_ray.core.config import StageConfig, nearest_name
from hat_ray.core.registry import Member, Registry
from hat_ray.errors import PluginError, SearchError

_MOST = 10_000_000


class AlgorithmOptions(StageConfig):
    """Settings that every algorithm has; an algorithm's own class adds more."""

    population: int = Field(default=50, ge=2, le=_MOST)
    """Architectures drawn at random before anything is learned. The worst of their losses is the reference of the
    hypervolume."""


class SurrogateOptions(AlgorithmOptions):
    """Settings of `surrogate`."""

    population: int = Field(default=40, ge=2, le=_MOST)
    """Architectures drawn at random before the first model is fitted."""

    parents: int = Field(default=15, ge=2, le=_MOST)
    """For each limit, the best architectures that have children; at most `population`."""

    mutation_probability: float = Field(default=0.07, gt=0, le=1)
    """Chance that a mutation of a plain child draws a choice anew."""

    frontier_share: float | None = Field(default=None, ge=0, le=1)
    """Share of the proposals that widen the frontiers of all devices, up to their highest limits, so that other limits
    can be read from them later. The others serve the limits, by turns, as long as the model sees a way to serve the
    limit better. null: half for one device, and more for several, which share them: 1 - 0.5 / sqrt(devices)."""


class AgingOptions(AlgorithmOptions):
    """Settings of `aging`."""

    population: int = Field(default=50, ge=2, le=_MOST)
    """Architectures kept alive: the latest ones. The first ones are drawn at random."""

    tournament: int = Field(default=15, ge=2, le=_MOST)
    """Living architectures of which the best has a child; at most `population`."""

    mutation_probability: float = Field(default=0.07, gt=0, le=1)
    """Chance that a mutation draws a choice anew."""


class HatOptions(AlgorithmOptions):
    """Settings of `hat`; the defaults are HAT's."""

    population: int = Field(default=125, ge=2, le=_MOST)
    """Genes in a generation."""

    parents: int = Field(default=25, ge=2, le=_MOST)
    """The best of a generation, which have children and stand in the next one; fewer than `population`."""

    mutation_probability: float = Field(default=0.3, gt=0, le=1)
    """Chance that a mutation draws a gene anew."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.parents >= self.population:
            raise ValueError(f"parents must be below population, got {self.parents} and {self.population}")
        return self


def _options_of(algorithm: type[Any]) -> type[AlgorithmOptions]:
    options = algorithm.Options
    if not (isinstance(options, type) and issubclass(options, AlgorithmOptions)):
        raise PluginError(f"search.algorithm {algorithm.__name__} must have an Options that extends AlgorithmOptions")
    return options


_PACKAGE = "hat_ray.search.algorithms"

ALGORITHMS: Registry[type[Any], type[AlgorithmOptions]] = Registry(
    "search.algorithm",
    "hat_ray.algorithms",
    {
        "surrogate": Member(f"{_PACKAGE}.surrogate.algorithm:SurrogateSearch", SurrogateOptions),
        "aging": Member(f"{_PACKAGE}.plain:AgingEvolution", AgingOptions),
        "random": Member(f"{_PACKAGE}.plain:RandomSearch", AlgorithmOptions),
        "hat": Member(f"{_PACKAGE}.hat:HatEvolution", HatOptions),
    },
    _options_of,
    ("State", "Options", "ask", "tell", "predictions_changed", "exhausted", "repeats", "state", "restore"),
)
"""What `search.algorithm` may name: classes with the methods of `base.SearchAlgorithm`."""


def register_algorithm(name: str, algorithm: type[Any]) -> None:
    """Register a search algorithm for this process alone; a package registers one for all by an entry point."""
    ALGORITHMS.add(name, algorithm)


def options_of(algorithm: str, options: Mapping[str, object]) -> AlgorithmOptions:
    """Return an algorithm's checked options; raise SearchError with one line for the first mistake.

    The options of a foreign algorithm are known from its class, which this imports.
    """
    kind = ALGORITHMS.facts(algorithm)
    try:
        return kind.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise SearchError(_explain(algorithm, kind, first["type"], list(first["loc"]), first["msg"])) from error


def options_schema() -> dict[str, Any]:
    """Return the JSON schema of `search.algorithm_options`: those of any of hat-ray's own algorithms, or others."""
    own = [ALGORITHMS.facts(name).model_json_schema() | {"title": name} for name in ALGORITHMS.own_names]
    return {"type": "object", "anyOf": [*own, {"type": "object", "title": "of another package"}]}


def _explain(algorithm: str, kind: type[AlgorithmOptions], rule: str, place: list[int | str], message: str) -> str:
    key = ".".join(map(str, place))
    if rule == "extra_forbidden":
        near = nearest_name(key, list(kind.model_fields))
        hint = f"did you mean {near}?" if near else f"known are {', '.join(kind.model_fields)}"
        return f"{algorithm} has no search.algorithm_options.{key}; {hint}"
    reason = message.removeprefix("Value error, ")
    return f"search.algorithm_options{'.' if key else ''}{key} of {algorithm}: {reason[:1].lower()}{reason[1:]}"
