"""Settings of the search."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from hat_ray.core.config import StageConfig
from hat_ray.core.registry import NameIn
from hat_ray.errors import SearchError
from hat_ray.latency.device import names_device
from hat_ray.latency.quantities import LATENCY, QUANTITIES
from hat_ray.search.algorithms.registry import ALGORITHMS, options_of, options_schema
from hat_ray.search.selection import HandScaled

T = TypeVar("T")
JointBounds = dict[Annotated[str, NameIn(QUANTITIES)], float]
"""The most that each quantity may be; all must hold."""


def _several(bounds: Any) -> Any:
    """Return one mapping of bounds as a list of one."""
    return (bounds,) if isinstance(bounds, Mapping) else bounds


def _form(limits: Any) -> str:
    return FORMS[isinstance(limits, Mapping)]


FORMS = ("<for every device>", "<by device>")
"""Names of the two forms of limits; a mistake is reported for the form that was written."""
_FORM = Discriminator(_form)
BoundsOfDevice = Annotated[
    tuple[JointBounds, ...],
    BeforeValidator(_several, json_schema_input_type=JointBounds | tuple[JointBounds, ...]),
]


class SearchConfig(StageConfig):
    """Limits, size and workers of the search."""

    execution_only: ClassVar[frozenset[str]] = frozenset(
        {
            "workers",
            "worker_cpus",
            "worker_gpus",
            "batch_seconds",
            "max_batch",
            "encoder_cache_mb",
            "retries",
        }
    )
    later: ClassVar[frozenset[str]] = frozenset(
        {"hand_scaled", "finalists", "finalist_updates", "finalist_lr", "finalist_distillation"}
    )

    limits: Annotated[
        Annotated[tuple[JointBounds, ...], Tag(FORMS[0])] | Annotated[dict[str, BoundsOfDevice], Tag(FORMS[1])], _FORM
    ] = ()
    """Limits on several quantities, by device's name or id: `{pi4: {latency_ms: 40, p90_ms: 60, model_mb: 20}}`. All
    bounds of a limit must hold. A list gives a device several limits (`{pi4: [{latency_ms: 40}, {model_mb: 20}]}`); a
    list without devices is for every device. Quantities: latency_ms, p90_ms, p99_ms, model_mb, peak_mb, energy_j, or
    one of an installed package."""

    limits_ms: Annotated[
        Annotated[tuple[float, ...], Tag(FORMS[0])] | Annotated[dict[str, tuple[float, ...]], Tag(FORMS[1])], _FORM
    ] = ()
    """Short form of `limits` for latency alone, in milliseconds: for every device (`[40, 80]`) or by device's name or
    id (`{pi4: [900], xeon: [40, 80]}`)."""

    limits_fraction: tuple[float, ...] = (0.35, 0.6)
    """Latency limits for every device where `limits` and `limits_ms` are empty, as fractions of its range: 0 is the
    fastest architecture of the space, 1 the largest. A recipe with these fits any machine."""

    limit_confidence: float | None = Field(default=None, ge=0.5, lt=1)
    """Confidence that a limit holds: 0.95 compares the limit with the 95th percentile of the predicted latency; null
    compares the prediction itself."""

    evaluations: int = Field(default=1000, ge=1, le=100_000_000)
    """Number of architectures to score; each one serves all devices and limits."""

    algorithm: Annotated[str, NameIn(ALGORITHMS)] = "surrogate"
    """How the next architecture is found. `surrogate`: a model of the loss, fitted to all losses so far, picks from
    thousands of children. `aging`: steady-state evolution in which the oldest die. `random`: uniform draws. `hat`:
    HAT's generations, for comparison (with `evaluations: 3750`). Or an algorithm of an installed package: the name that
    it registers, or `package:Class`."""

    algorithm_options: Annotated[dict[str, Any], WithJsonSchema(options_schema())] = Field(default_factory=dict)
    """Settings of the algorithm. `surrogate`: population, parents, mutation_probability, frontier_share; `aging`:
    population, tournament, mutation_probability; `random`: population; `hat`: population, parents,
    mutation_probability."""

    workers: int = Field(default=2, ge=1, le=100_000)
    """Number of workers that score at the same time."""

    worker_cpus: float = Field(default=1.0, ge=0)
    """CPUs that each worker reserves, and the number of its threads."""

    worker_gpus: float = Field(default=0.0, ge=0)
    """GPUs, or the fraction of one, that each worker reserves; with `--local`, above 0 scores on the GPU."""

    batch_seconds: float = Field(default=2.0, gt=0)
    """Seconds of work in one batch of architectures for a worker: a lost worker costs at most that much. With many
    workers batches are larger, because each one costs the driver time."""

    max_batch: int = Field(default=64, ge=1, le=1_000_000)
    """Maximum number of architectures in a batch."""

    encoder_cache_mb: int = Field(default=256, ge=0, le=100_000_000)
    """Megabytes of encoder outputs that each worker caches: candidates that share an encoder are then scored faster,
    with the same loss. 0: no cache."""

    early_stop: bool = False
    """Stop scoring a candidate after 1/8, 1/4 or 1/2 of the validation set when it is surely beaten on every device;
    its loss is then an estimate, and it can be no winner and no point of a frontier."""

    early_stop_margin: float = Field(default=3.0, ge=0)
    """Margin of `early_stop`: standard errors between a candidate's estimated loss and the one that beats it."""

    retries: int = Field(default=3, ge=0)
    """Maximum number of retries of an architecture whose worker was lost."""

    max_seconds: float | None = Field(default=None, gt=0)
    """Maximum number of seconds of search, those before an interruption included; null: no bound."""

    patience_evaluations: int | None = Field(default=None, ge=1)
    """Stop when no device's hypervolume grew for this number of evaluations; null: never."""

    patience_growth: float = Field(default=0.002, ge=0, lt=1)
    """Share by which a hypervolume must grow to restart the count of `patience_evaluations`."""

    warm_start: tuple[str, ...] = ()
    """Run folders, or folders of candidates, whose candidates are reused and count as no evaluations. The searches must
    have the same SuperTransformer, validation set and space."""

    refine_rounds: int = Field(default=2, ge=0)
    """Maximum number of further searches after the winners were timed on their devices and one missed its limit; 0:
    winners are not timed."""

    refine_evaluations: int | None = Field(default=None, ge=0)
    """Number of architectures to score in each further search; null: a twentieth of `evaluations`."""

    hand_scaled: tuple[HandScaled, ...] = ()
    """Families of models scaled by hand (see `retrain.baselines`) that take part in the search, by their members inside
    the space. Of each family the two slowest members that are predicted to keep a limit are scored first. The slowest
    that keeps it is a finalist whatever its inherited loss, where `finalists` asks for any."""

    finalists: int = Field(default=0, ge=0, le=10_000)
    """Candidates of each limit that are trained on for a little at the end of the search: the best ones by inherited
    loss that differ in widths and depths and keep the limit when timed. The one with the lowest loss after that wins.
    Limits share finalists. 0: inherited losses decide."""

    finalist_updates: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(100, 200), min_length=1)
    """Updates of each rung that finalists are trained for, from the weights of the rung before and with the batches of
    `supernet`. After a rung the worse half of each limit's finalists is dropped."""

    finalist_lr: float | None = Field(default=None, gt=0)
    """Highest learning rate of the finalists' training; null: half of `supernet.lr`."""

    finalist_distillation: float = Field(default=0.0, ge=0, le=1)
    """Share of the finalists' loss that is taken from the predictions of the SuperTransformer's largest architecture
    instead of the reference; 0 for none."""

    @field_validator("limits", mode="before")
    @classmethod
    def _require_devices(cls, limits: Any) -> Any:
        if isinstance(limits, Mapping) and (quantity := next((n for n in limits if n in QUANTITIES.own_names), None)):
            raise ValueError(
                f"a mapping's keys are devices, and {quantity} is a quantity: write a list for every device, such as "
                "[{latency_ms: 40, model_mb: 20}]"
            )
        return limits

    @field_validator("algorithm_options")
    @classmethod
    def _check_options(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        """Check the options of hat-ray's own algorithms; a foreign one is not imported to read a recipe."""
        algorithm = info.data.get("algorithm")
        if algorithm in ALGORITHMS.own_names:
            try:
                options_of(algorithm, options)
            except SearchError as error:
                raise ValueError(str(error)) from error
        return options

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.limits and self.limits_ms:
            raise ValueError(
                "search.limits and search.limits_ms must not both be set: set search.limits_ms=[], or state all limits "
                "there"
            )
        by_device = self.limits_ms.values() if isinstance(self.limits_ms, dict) else [self.limits_ms]
        for value in (value for limits in by_device for value in limits):
            if not 0 < value < float("inf"):
                raise ValueError(f"search.limits_ms must be milliseconds above zero, got {value}")
        for bounds in self._joint:
            if not bounds:
                raise ValueError("a limit of search.limits must bound a quantity, got none: set latency_ms or another")
            for name, value in bounds.items():
                if not 0 < value < float("inf"):
                    raise ValueError(f"search.limits must be numbers above zero, got {name} {value}")
        for value in self.limits_fraction:
            if not 0 <= value <= 1:
                raise ValueError(f"search.limits_fraction must lie between 0 and 1, got {value}")
        if not self.limits and not self.limits_ms and not self.limits_fraction:
            raise ValueError("search needs a limit: set search.limits, search.limits_ms or search.limits_fraction")
        if isinstance(self.limits, dict) and not all(self.limits.values()):
            raise ValueError("search.limits must give every device a limit, got an empty list")
        return self

    @property
    def _joint(self) -> list[JointBounds]:
        if isinstance(self.limits, dict):
            return [bounds for several in self.limits.values() for bounds in several]
        return list(self.limits)

    @property
    def stated(self) -> tuple[str, tuple[Any, ...] | dict[str, tuple[Any, ...]]]:
        """The key of the recipe that states limits as numbers, and its value; empty where fractions do."""
        return ("search.limits", self.limits) if self.limits else ("search.limits_ms", self.limits_ms)

    @property
    def as_fractions(self) -> bool:
        """Whether limits depend on each device's range."""
        return not self.limits and not self.limits_ms

    @property
    def evaluations_refining(self) -> int:
        """Number of architectures to score in each search after the first."""
        return -(-self.evaluations // 20) if self.refine_evaluations is None else self.refine_evaluations

    def limits_of(self, device: str) -> tuple[JointBounds, ...]:
        """Return the bounds of each limit that is set for a device; empty where only fractions are."""
        if self.limits:
            return self.limits if isinstance(self.limits, tuple) else _of_device(self.limits, device, "search.limits")
        if isinstance(self.limits_ms, tuple):
            of_all: tuple[float, ...] = self.limits_ms
        else:
            of_all = _of_device(self.limits_ms, device, "search.limits_ms")
        return tuple({LATENCY: ms} for ms in of_all)

    @property
    def bounded(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The quantities that limits bound, by the device's name or id; "" is every device."""
        by_device = self.limits.items() if isinstance(self.limits, dict) else [("", self.limits)]
        return tuple((key, tuple(sorted({name for one in limits for name in one}))) for key, limits in by_device)


def _of_device(limits: Mapping[str, tuple[T, ...]], device: str, key: str) -> tuple[T, ...]:
    for name in sorted(limits, key=len, reverse=True):
        if names_device(name, device):
            return limits[name]
    raise SearchError(f"{key} names no limit for {device}; it has {', '.join(limits)}")
