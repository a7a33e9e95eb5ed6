"""Settings of the latency stage: what one timing does, how long it may take, and which devices do it."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from hat_ray.core.config import StageConfig
from hat_ray.core.registry import NameIn
from hat_ray.latency.quantities import QUANTITIES
from hat_ray.runtime.choice import AUTO, why_none_on
from hat_ray.runtime.protocol import RUNTIMES, why_no_dtype, why_not_on

RuntimeName = Annotated[str, NameIn(RUNTIMES)] | Literal["auto"]
DtypeName = Annotated[str, Field(pattern=r"^[a-z0-9]{1,16}$")]


class DeviceSelector(StageConfig):
    """The nodes that are one device of the user's, or a device that only a table knows.

    Every node that fits all that is given takes part.

    A node that fits several entries is several devices, one for each runtime, dtype or number of threads; it times one
    after the other. Entries that differ in these alone may share a name, and with it a limit.
    """

    later: ClassVar[frozenset[str]] = frozenset({"table", "vocab_size"})

    name: str = Field(default="", pattern=r"^([a-z0-9]+(-[a-z0-9]+)*)?$")
    """Name of the device (lower-case letters, digits, dashes): the first part of its id. Name devices that the
    system cannot distinguish."""

    labels: dict[str, str] = Field(default_factory=dict)
    """Ray node labels, such as {"hw": "pi4"}; values as Ray writes them: "pi4", "!pi4", "in(pi4,pi5)", "!in(...)"."""

    resource: str = ""
    """A custom Ray resource that the node must have, such as "pi4"; empty: any node."""

    num_gpus: int = Field(default=0, ge=0, le=1)
    """1 times on GPUs of the node, an actor on each that has `threads` CPUs beside it; 0 times on its CPU."""

    runtime: RuntimeName | None = None
    """Runtime of this device; null: `latency.runtime`."""

    dtype: DtypeName | None = None
    """Numbers that this device computes in; null: `latency.dtype`, or fp32 where this entry names a runtime."""

    threads: int | None = Field(default=None, ge=1, le=4_096)
    """Threads on this device; null: `latency.threads`."""

    table: str = Field(default="", pattern=r"^([a-z0-9]+(-[a-z0-9]+)*)?$", max_length=255)
    """Id of a device that only the rows of `latency.table` describe, as `hat-ray latency show` lists it. Nothing is
    timed on it: searches use its rows, and the report states that no winner was timed again. A recipe with such devices
    alone never writes to the table."""

    vocab_size: int | None = Field(default=None, ge=0)
    """Vocabulary that a `table` device's rows were timed with, where it is not that of this recipe; 0: unknown, as in
    some of HAT's files. Null: this recipe's."""

    @model_validator(mode="after")
    def _of_a_table_or_of_a_node(self) -> Self:
        own = self.model_dump(exclude_defaults=True)
        extra = sorted(own.keys() - {"table", "vocab_size"})
        if self.table and extra:
            raise ValueError(f"a device of a table is described by its rows, got {', '.join(extra)}: leave that out")
        if self.vocab_size is not None and not self.table:
            raise ValueError("vocab_size is for devices of a table, got none: set table, or leave vocab_size out")
        return self

    @property
    def called(self) -> str:
        """The user's name for it: its name, or the id of a table's device."""
        return self.name or self.table

    @property
    def is_anywhere(self) -> bool:
        """Whether every node fits: also the machine of a process without a cluster."""
        return not (self.labels or self.resource or self.table)

    def names_the_same_nodes(self, other: "DeviceSelector") -> bool:
        """Return whether two entries select nodes by the same rule."""
        return (self.labels, self.resource, self.num_gpus) == (other.labels, other.resource, other.num_gpus)


class LatencyConfig(StageConfig):
    """Timing of architectures into the latency table. HAT: section 4.1, batch 1, beam 5, 30 tokens (IWSLT 23)."""

    execution_only: ClassVar[frozenset[str]] = frozenset(
        {
            "flush_s",
            "chunk",
            "retries",
            "start_timeout_s",
            "reconnect_timeout_s",
            "max_wait_s",
            "exclusive",
            "quantities",
        }
    )

    later: ClassVar[frozenset[str]] = frozenset({"rows_of", "max_minutes", "visits"})

    table: str = ""
    """Root of the latency table, a path or URI that teams share; empty: the run's own, `latency/table`."""

    rows_of: Literal["own", "covering"] = "own"
    """Rows that predictors learn from: "own" those of this search space; "covering" also those of spaces that contain
    it, such as HAT's tables for a part of HAT's space. A space that is not built in counts where its rows show every
    choice of this one. Quantities that imported averages lack stay unknown."""

    samples: int = Field(default=200, ge=3, le=10_000_000)
    """Architectures timed on each device; with `target_error` at most."""

    target_error: float | None = Field(default=None, gt=0, lt=1)
    """Choose the most informative architectures, and stop as soon as the predictor errs by less than this on those that
    it has not seen (0.05 is five per cent); null: time `samples` of them, drawn at random."""

    max_minutes: float | None = Field(default=60.0, gt=0, le=100_000)
    """Minutes after which the stage begins no further timing. The rows that a predictor needs (`predictor.min_rows`)
    are timed in any case. Null: the time that `samples` and `target_error` need."""

    batch: int = Field(default=1, ge=1, le=100_000)
    """Sentences translated at once."""

    beam: int = Field(default=5, ge=1, le=1_000)
    """Hypotheses kept for each sentence."""

    source_length: int = Field(default=30, ge=1, le=100_000)
    """Source tokens of each sentence."""

    target_length: int = Field(default=30, ge=1, le=100_000)
    """Decoder steps of each sentence."""

    length_mix: int = Field(default=0, ge=0, le=1000)
    """Pairs of source and target length drawn from the corpus's validation set, which one repetition translates once
    each; its time is their mean. 0: the one pair above."""

    threads: int = Field(default=1, ge=1, le=4_096)
    """Torch threads. All cores of a machine that is not alone make timings useless: leave one free."""

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    """Processor of devices that no selector names: "auto" takes a GPU where there is one that PyTorch can use, "cuda"
    times on nodes with GPUs alone."""

    runtime: RuntimeName = "auto"
    """Runtime that executes a model, and a part of its device's id. "auto": each node takes the fastest that executes
    the space's largest architecture there, which `translate` and `serve` also choose. By speed: "onnx" is ONNX Runtime
    on the CPU, "packed" PyTorch tuned for decoding on a CPU, "eager" PyTorch as it stands, the only one on a GPU. Named
    only: "ctranslate2", CTranslate2 on the CPU (with `space.runtime: ctranslate2`: it cannot express every
    architecture), and the runtimes of installed packages."""

    dtype: DtypeName = "fp32"
    """Numbers that weights and computation are in: eager and packed "fp32" or "bf16", which needs a processor or GPU to
    compute in it; onnx and ctranslate2 "fp32" or "int8" (weights in bytes)."""

    quantities: tuple[Annotated[str, NameIn(QUANTITIES)], ...] = ()
    """Quantities that are measured and predicted beside the latency even where no limit names them, such as `peak_mb`;
    those that `search.limits` names always are."""

    warmup: int = Field(default=3, ge=1, le=1_000_000)
    """Translations in one warm-up window; windows follow until they no longer get faster (at most five)."""

    relative_error: float = Field(default=0.01, gt=0, lt=1)
    """Stop when the relative standard error of the median is below this."""

    min_repetitions: int = Field(default=10, ge=5, le=1_000_000)
    """Timed translations at least."""

    max_repetitions: int = Field(default=300, ge=5, le=1_000_000)
    """Timed translations at most. HAT: 300."""

    visits: int = Field(default=3, ge=1, le=1_000)
    """Visits to each architecture: its repetitions come in short parts, spread over the session in random order. No
    disturbance of the device then falls on one architecture alone."""

    budget_s: float = Field(default=3.0, gt=0)
    """Seconds, of all its visits, after which one architecture's timing stops even when its error is still above
    `relative_error`."""

    patience_s: float = Field(default=3.0, ge=0)
    """Seconds beyond the budget, in further visits, for an architecture that met too few undisturbed moments."""

    canary_tolerance: float = Field(default=0.1, gt=0)
    """A repetition counts when the canaries beside it took at most this much longer than on the quiet device, as a
    share; 0.1 is ten per cent."""

    calibration_s: float = Field(default=3.0, ge=0)
    """Seconds for which a session watches the canary before it times anything."""

    flush_s: float = Field(default=15.0, ge=0)
    """Finished rows are written to the table at least this often: what a kill can lose, in seconds."""

    devices: tuple[DeviceSelector, ...] = ()
    """The devices; empty: one of each kind of node that the cluster has, or this machine without a cluster. Without a
    cluster (`--local`) this machine is all entries that name no labels and no resource."""

    exclusive: bool = True
    """Reserve all CPUs of a node while it times, and refuse a node where other work of Ray's holds some of them; false:
    reserve `threads` of them and time beside the other work."""

    chunk: int = Field(default=32, ge=1, le=1_000_000)
    """Architectures handed to a device at once: visits to them alternate."""

    retries: int = Field(default=2, ge=0)
    """Losses of a device in a row, without timing anything, after which its work is given up and reported."""

    reconnect_timeout_s: float = Field(default=300.0, ge=0)
    """Seconds for which a device with work left is waited for when all its nodes are gone."""

    max_wait_s: float = Field(default=1_800.0, ge=0)
    """Seconds for which a device is waited for at the beginning, whose nodes an autoscaler may still add. One that
    starts none of them for a minute is not waited for."""

    start_timeout_s: float = Field(default=120.0, gt=0)
    """Seconds within which a node's CPUs must be free, and a device's actor must then have started."""

    @field_validator("devices")
    @classmethod
    def _one_name_one_kind_of_node(cls, devices: tuple[DeviceSelector, ...]) -> tuple[DeviceSelector, ...]:
        named: dict[str, DeviceSelector] = {}
        for device in devices:
            if device.name and not named.setdefault(device.name, device).names_the_same_nodes(device):
                count = sum(other.name == device.name for other in devices)
                raise ValueError(f"each device needs its own name, got {device.name!r} {count} times")
        return devices

    @model_validator(mode="after")
    def _a_runtime_with_its_dtype(self) -> Self:
        if reason := _why_no_runtime(self.runtime, self.dtype, "cpu"):
            raise ValueError(reason)
        if self.accelerator == "cuda" and (reason := _why_no_runtime(self.runtime, self.dtype, "cuda")):
            raise ValueError(f"{reason}, or set accelerator to cpu")
        return self

    @model_validator(mode="after")
    def _devices_of_a_table_that_is_named(self) -> Self:
        slugs = [device.table for device in self.of_table]
        if slugs and not self.table:
            raise ValueError(f"devices of a table need latency.table, got none for {slugs[0]}: name the table's root")
        if twice := next((slug for slug in slugs if slugs.count(slug) > 1), None):
            raise ValueError(f"devices: each device of a table stands once, got {twice} twice: leave one out")
        return self

    @property
    def of_table(self) -> tuple[DeviceSelector, ...]:
        """The devices that only the table knows."""
        return tuple(device for device in self.devices if device.table)

    @property
    def takes_gpus(self) -> bool:
        """Whether a device that no selector names is a GPU where there is one."""
        return self.accelerator != "cpu" and _why_no_runtime(self.runtime, self.dtype, "cuda") is None

    @property
    def times_nothing(self) -> bool:
        """Whether only the table knows the devices: nothing is timed, and nothing is written."""
        return bool(self.devices) and all(device.table for device in self.devices)

    @property
    def timed(self) -> tuple[DeviceSelector | None, ...]:
        """The entries that are timed; one None where there are no entries."""
        return self.attached().devices if self.devices else (None,)

    def attached(self) -> "LatencyConfig":
        """Return these settings with the devices that are timed."""
        return self.model_copy(update={"devices": tuple(device for device in self.devices if not device.table)})

    @model_validator(mode="after")
    def _devices_that_can_be_told_apart(self) -> Self:
        seen: set[tuple[str, str]] = set()
        for device in self.devices:
            own = self.of(device)
            if reason := _why_no_runtime(own.runtime, own.dtype, "cpu"):
                raise ValueError(f"devices: {reason}")
            if device.num_gpus and (reason := _why_no_runtime(own.runtime, own.dtype, "cuda")):
                raise ValueError(f"devices: {reason}, or set num_gpus to 0")
            told = f"{own.runtime} {own.dtype} with {own.threads} threads"
            if device.name and (device.name, told) in seen:
                raise ValueError(f"each device needs its own name, got {device.name!r} twice for {told}")
            seen.add((device.name, told))
        return self

    def of(self, device: DeviceSelector | None) -> "LatencyConfig":
        """Return these settings with a device's own in their place."""
        if device is None:
            return self
        dtype = device.dtype or (self.dtype if device.runtime in (None, self.runtime) else "fp32")
        own = {"runtime": device.runtime or self.runtime, "dtype": dtype, "threads": self.threads_on(device)}
        return self.model_copy(update=own)

    def threads_on(self, device: DeviceSelector) -> int:
        """Return the threads that a device times with."""
        return device.threads or self.threads

    @model_validator(mode="after")
    def _ordered_repetitions(self) -> Self:
        if self.max_repetitions < self.min_repetitions:
            raise ValueError(
                f"max_repetitions must be at least min_repetitions {self.min_repetitions}, got {self.max_repetitions}"
            )
        return self


def _why_no_runtime(runtime: str, dtype: str, device: str) -> str | None:
    """Return why a runtime does not compute in a dtype, or not on a GPU, and the remedy; None: it may."""
    if runtime == AUTO:
        reason = why_none_on(dtype, device)
        return f"{reason}: take one of these" if reason else None
    facts = RUNTIMES.facts(runtime)
    reason = why_no_dtype(runtime, facts, dtype)
    return reason or (why_not_on(runtime, facts, device) if device == "cuda" else None)
