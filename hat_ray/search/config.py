"""Settings of the search."""

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

from hat_ray.core.config import StageConfig
from hat_ray.core.registry import NameIn
from hat_ray.errors import SearchError
from hat_ray.search.algorithms.registry import ALGORITHMS, options_of, options_schema


class SearchConfig(StageConfig):
    """What is searched for, how much is tried, and on how many workers."""

    operational: ClassVar[frozenset[str]] = frozenset(
        {
            "workers",
            "worker_cpus",
            "worker_gpus",
            "trial_seconds",
            "candidates_per_trial",
            "encoder_cache_mb",
            "retries",
        }
    )

    limits_ms: tuple[float, ...] | dict[str, tuple[float, ...]] = ()
    """Latency limits in milliseconds, for every device (`[40, 80]`) or by device's name or id (`{pi4: [900],
    xeon: [40, 80]}`)."""

    limits_fraction: tuple[float, ...] = (0.35, 0.6)
    """Limits for every device where `limits_ms` is empty, as fractions of its range: 0 is the fastest architecture of
    the space, 1 the largest. A recipe with these fits any machine."""

    limit_probability: float | None = Field(default=None, ge=0.5, lt=1)
    """Probability with which a limit is to hold, by the predictor's interval: 0.95 searches below what the latency
    stays under in 95 of 100 cases; null: the prediction itself keeps the limit."""

    evaluations: int = Field(default=1000, ge=1, le=100_000_000)
    """Architectures scored in all; every one serves all devices and limits."""

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
    """Actors that score at the same time."""

    worker_cpus: float = Field(default=1.0, ge=0)
    """CPUs that each actor reserves; it computes with that many threads."""

    worker_gpus: float = Field(default=0.0, ge=0)
    """GPUs, or the part of one, that each actor reserves."""

    trial_seconds: float = Field(default=2.0, gt=0)
    """Work that one trial of Ray Tune is given, in seconds: a lost worker costs at most that much. Many workers make it
    larger by themselves, because each trial costs the driver 50 to 90 ms."""

    candidates_per_trial: int = Field(default=64, ge=1, le=1_000_000)
    """Architectures that one trial scores at most."""

    encoder_cache_mb: int = Field(default=256, ge=0, le=100_000_000)
    """Megabytes in which each worker keeps what the encoders that it used last make of the validation set: candidates
    that share an encoder are then scored faster, with the same loss. 0: nothing is kept."""

    early_stop: bool = False
    """Stop scoring a candidate after 1/8, 1/4 or 1/2 of the validation set when it is surely beaten on every device;
    its loss is then an estimate, and it can be no winner and no point of a frontier."""

    early_stop_margin: float = Field(default=3.0, ge=0)
    """How sure that has to be: standard errors between a candidate's estimated loss and the one that beats it."""

    retries: int = Field(default=3, ge=0)
    """How often an architecture is asked for again after the worker that scored it was lost."""

    max_seconds: float | None = Field(default=None, gt=0)
    """Seconds of search after which no more is asked for, those before a kill included; null: no bound."""

    patience_evaluations: int | None = Field(default=None, ge=1)
    """Stop when no device's hypervolume grew for so many evaluations; null: go on."""

    patience_growth: float = Field(default=0.002, ge=0, lt=1)
    """Share by which a hypervolume must grow for `patience_evaluations` to count anew."""

    warm_start: tuple[str, ...] = ()
    """Run folders, or folders of candidates, whose candidates are known from the start and count as no evaluations: of
    searches with the same SuperTransformer, validation set and space."""

    measure_rounds: int = Field(default=2, ge=0)
    """How often the search goes on after the winners were timed on their devices and one broke its limit; 0: winners
    are not timed."""

    extra_evaluations: int | None = Field(default=None, ge=0)
    """Architectures scored in each such round; null: a twentieth of `evaluations`."""

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
        by_device = self.limits_ms.values() if isinstance(self.limits_ms, dict) else [self.limits_ms]
        for value in (value for limits in by_device for value in limits):
            if not 0 < value < float("inf"):
                raise ValueError(f"search.limits_ms must be milliseconds above zero, got {value}")
        for value in self.limits_fraction:
            if not 0 <= value <= 1:
                raise ValueError(f"search.limits_fraction must lie between 0 and 1, got {value}")
        if not self.limits_ms and not self.limits_fraction:
            raise ValueError("search needs a limit: set search.limits_ms or search.limits_fraction")
        return self

    @property
    def evaluations_more(self) -> int:
        """Architectures scored in each round after the first."""
        return -(-self.evaluations // 20) if self.extra_evaluations is None else self.extra_evaluations

    def limits_of(self, device: str) -> tuple[float, ...]:
        """Return the limits in milliseconds that are set for a device; empty where only fractions are."""
        if not isinstance(self.limits_ms, dict):
            return self.limits_ms
        for key in sorted(self.limits_ms, key=len, reverse=True):
            if names_device(key, device):
                return self.limits_ms[key]
        raise SearchError(f"search.limits_ms names no limit for {device}; it has {', '.join(self.limits_ms)}")


def names_device(key: str, device: str) -> bool:
    """Tell whether a key means a device: its whole id, or the name that the recipe gave it, the id's first part."""
    return device == key or device.startswith(f"{key}-")
