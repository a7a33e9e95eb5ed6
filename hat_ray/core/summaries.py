"""What later stages, the report and the command line read in the summary of each stage's `stage.json`.

Nothing heavy is imported here: the command line reads records before it knows whether there is work to do.
"""

from collections.abc import Mapping
from typing import Any, NotRequired

from pydantic import TypeAdapter, with_config
from typing_extensions import TypedDict


class _Point(TypedDict):
    update: int
    valid_loss_bits: dict[str, float]


class _Supernet(TypedDict):
    history: list[_Point]
    valid_loss_bits: dict[str, float]
    updates: int
    tokens: int
    seconds: float


class _DeviceInfo(TypedDict):
    name: str
    model: str
    machine: str
    logical_cores: int
    threads: int
    memory_bytes: int | None
    isa: list[str]
    accelerator: str
    driver: str
    runtime: str
    dtype: str
    os: str


class _Onboarded(TypedDict):
    rows: int
    error: float
    met: bool


class _Device(TypedDict):
    rows: int
    device: _DeviceInfo
    onboarded: NotRequired[_Onboarded]


class _Latency(TypedDict):
    devices: dict[str, _Device]


class _Limit(TypedDict):
    device: str
    ms: float


class ToldWinner(TypedDict):
    """What `winners.json`, and the search's summary, say of one winner."""

    device: str
    limit_ms: float
    loss_bits: float
    predicted_ms: float
    low_ms: float | None
    high_ms: float | None
    measured_ms: float | None
    id: str
    hat_yaml: NotRequired[str]


@with_config({"extra": "forbid"})
class _LimitExactly(_Limit):
    """It becomes a `Limit`, whole."""


class _Search(TypedDict):
    limits: list[_LimitExactly]
    winners: list[ToldWinner]
    learned: NotRequired[list[str]]


class _Trained(TypedDict):
    inherited_loss_bits: float
    scratch_loss_bits: float
    seconds: float


class _Retrain(TypedDict):
    models: dict[str, _Trained]


class _Score(TypedDict):
    bleu: float
    bleu_signature: str
    chrf: float | None
    chrf_signature: str | None
    sentences: int
    seconds: float
    peak_memory_bytes: NotRequired[int]


class _Timing(TypedDict):
    latency_ms: float
    corrected_ms: float | None
    p10_ms: float | None
    p90_ms: float | None
    relative_error: float | None


class _Evaluated(TypedDict):
    score: _Score
    measured: dict[str, _Timing]


class _Floors(TypedDict):
    copy_bleu: float
    nearest_bleu: float


class _Evaluate(TypedDict):
    models: dict[str, _Evaluated]
    floors: NotRequired[_Floors | None]


class _Report(TypedDict):
    page: str


_SUMMARIES: Mapping[str, TypeAdapter[Any]] = {
    "supernet": TypeAdapter(_Supernet),
    "latency": TypeAdapter(_Latency),
    "search": TypeAdapter(_Search),
    "retrain": TypeAdapter(_Retrain),
    "evaluate": TypeAdapter(_Evaluate),
    "report": TypeAdapter(_Report),
}


def check_summary(stage: str, summary: dict[str, Any]) -> None:
    """Raise ValueError where a stage's summary is not what it must be."""
    if stage in _SUMMARIES:
        _SUMMARIES[stage].validate_python(summary)
