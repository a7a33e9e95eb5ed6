"""What a search leaves for later stages, people and other programs: each limit's winner, and each device's frontier.

`winners.json` holds the search's output; `winners/<n>.<device>.<limit>.yml` is HAT's YAML of one winner, `.json`
ours; `frontier.parquet` and `frontier.csv` hold the frontiers.

Where the same hardware is several devices, which differ in runtime, dtype or threads alone, runtimes are ranked under
each limit.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa

from hat_ray.core.codec import Loss, write
from hat_ray.latency.lookup.slugs import hardware_of, settings_of
from hat_ray.latency.quantities import LATENCY, QUANTITIES, Computed
from hat_ray.search.candidates import Candidate
from hat_ray.search.early_stopping import EarlyStoppingSummary
from hat_ray.search.engine.device_predictions import DevicePredictions, Prediction
from hat_ray.search.frontier import SearchResult, Winner
from hat_ray.search.limits import Bounds, Limit, Measured, Verdict, verdict
from hat_ray.space.architecture import Architecture
from hat_ray.space.hat_yaml import write_architecture
from hat_ray.space.json_field import ArchitectureField
from hat_ray.storage.folder import Folder

WINNERS = "winners.json"


@dataclass(frozen=True)
class LimitedQuantity:
    """What a limit bounds beside the latency: a winner's value as predicted, its interval, and as measured."""

    predicted: float
    low: float | None
    high: float | None
    measured: float | None
    """None: not measured. A computed quantity is exact, and stands here as well."""


@dataclass(frozen=True)
class LimitWinner:
    """The winner of one limit, with its predicted milliseconds, their interval, and the measured ones."""

    limit: Limit
    loss_bits: Loss
    predicted_ms: float
    low_ms: float | None
    high_ms: float | None
    measured_ms: float | None
    id: str
    architecture: ArchitectureField
    hat_yaml: str
    """The file in the search's folder that holds it as HAT's YAML."""
    quantities: dict[str, LimitedQuantity] = field(default_factory=dict)
    """What the limit bounds beside the latency, by name."""

    @property
    def settings(self) -> str:
        """The device's runtime for readers, such as "onnx int8, 1 thread"."""
        return settings_of(self.limit.device)

    @property
    def measured(self) -> dict[str, Measured]:
        """What was measured, by quantity."""
        found = {LATENCY: self.measured_ms, **{name: one.measured for name, one in self.quantities.items()}}
        return {name: Measured(value) for name, value in found.items() if value is not None}

    @property
    def verdict(self) -> Verdict:
        """Whether the measurement keeps the limit."""
        return verdict(self.limit, self.measured)


@dataclass(frozen=True)
class SearchOutput:
    """What stage `search` found; its candidates stand in its table."""

    FORMAT: ClassVar[int] = 2

    limits: tuple[Limit, ...]
    scored: int
    """Candidates, those of earlier runs included."""
    early_stopping: EarlyStoppingSummary | None
    """What early stopping saved; None where it was off."""
    refitted: tuple[str, ...]
    """Devices whose predictor was fitted again with rows that the search timed."""
    winners: tuple[LimitWinner, ...]


@dataclass(frozen=True)
class RuntimeRanking:
    """The same bounds on one piece of hardware, and what each of its runtimes has under them, the best first."""

    hardware: str
    entries: tuple[LimitWinner, ...]

    @property
    def limit(self) -> Limit:
        """The limit of the best runtime: its bounds are every entry's."""
        return self.entries[0].limit

    def to_json(self) -> dict[str, Any]:
        keys = ("id", "loss_bits", "predicted_ms", "measured_ms")
        return {
            "hardware": self.hardware,
            "bounds": self.limit.by_quantity,
            "best": self.limit.device,
            "entries": [
                {"device": entry.limit.device, **{key: getattr(entry, key) for key in keys}} for entry in self.entries
            ],
        }

    @property
    def line(self) -> str:
        """The ranking in one line."""
        best, *others = self.entries
        rest = ", ".join(f"{one.settings} {one.loss_bits:.4f}" for one in others)
        return (
            f"best runtime under {self.limit.text} on {self.hardware}: {best.settings} with "
            f"{best.id}, loss {best.loss_bits:.4f}; {rest}"
        )


def runtime_rankings(winners: Sequence[LimitWinner], *, at_least: int = 2) -> list[RuntimeRanking]:
    """Rank, for the same bounds that `at_least` runtimes of one hardware keep, their winners: by loss, then by time."""
    groups: dict[tuple[str, Bounds], list[LimitWinner]] = {}
    for winner in winners:
        groups.setdefault((hardware_of(winner.limit.device), winner.limit.bounds), []).append(winner)
    return [
        RuntimeRanking(hardware, tuple(sorted(entries, key=_merit)))
        for (hardware, _), entries in groups.items()
        if len(entries) >= at_least
    ]


def _merit(winner: LimitWinner) -> tuple[float, float]:
    return winner.loss_bits, winner.measured_ms or winner.predicted_ms


def describe_winners(result: SearchResult, devices: Mapping[str, DevicePredictions]) -> tuple[LimitWinner, ...]:
    """Return the winners of a search, numbered from 1 as their files are."""
    return tuple(
        _describe(number, winner, devices[winner.limit.device]) for number, winner in enumerate(result.winners, 1)
    )


def _describe(number: int, winner: Winner, predictions: DevicePredictions) -> LimitWinner:
    limit, candidate = winner.limit, winner.candidate
    return LimitWinner(
        limit=limit,
        loss_bits=candidate.loss_bits,
        predicted_ms=float(predictions[LATENCY].typical([candidate.architecture])[0]),
        low_ms=candidate.low_ms.get(limit.device),
        high_ms=candidate.high_ms.get(limit.device),
        measured_ms=candidate.measured_ms.get(limit.device),
        id=candidate.architecture.id,
        architecture=candidate.architecture,
        hat_yaml=f"winners/{number}.{limit.device}.{limit.key}.yml",
        quantities={
            name: limited_quantity(
                name,
                candidate.architecture,
                predictions[name],
                candidate.measured_quantities.get(limit.device, {}).get(name),
            )
            for name, _ in limit.group.bounds
        },
    )


def limited_quantity(
    name: str, architecture: Architecture, prediction: Prediction, measured: float | None
) -> LimitedQuantity:
    """Return a quantity of an architecture as predicted, with its interval, and as measured."""
    predicted = float(prediction.typical([architecture])[0])
    low, high = (float(end[0]) for end in prediction.interval([architecture]))
    if isinstance(QUANTITIES.load(name), Computed):
        return LimitedQuantity(predicted, None, None, predicted)
    return LimitedQuantity(predicted, low, high, measured)


_FRONTIER = pa.schema(
    [
        ("device", pa.string()),
        ("latency_ms", pa.float64()),
        ("low_ms", pa.float64()),
        ("high_ms", pa.float64()),
        ("measured_ms", pa.float64()),
        ("loss_bits", pa.float64()),
        ("architecture_id", pa.string()),
        ("architecture", pa.string()),
    ]
)


def write_files(folder: Folder, output: SearchOutput, frontiers: Mapping[str, Sequence[Candidate]]) -> None:
    """Write the search's output, its winners one by one, and each device's frontier."""
    folder.delete("winners")
    for winner in output.winners:
        folder.write_text(winner.hat_yaml, write_architecture(winner.architecture))
        folder.write_text(f"{winner.hat_yaml.removesuffix('.yml')}.json", winner.architecture.to_json() + "\n")
    write(folder, WINNERS, output)
    rows = [_row(device, one) for device, frontier in frontiers.items() for one in frontier]
    folder.write_table("frontier.parquet", pa.Table.from_pylist(rows, schema=_FRONTIER))
    text = io.StringIO()
    writer = csv.DictWriter(text, _FRONTIER.names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    folder.write_text("frontier.csv", text.getvalue())


def _row(device: str, candidate: Candidate) -> dict[str, Any]:
    return {
        "device": device,
        "latency_ms": candidate.latency_ms[device],
        "low_ms": candidate.low_ms.get(device),
        "high_ms": candidate.high_ms.get(device),
        "measured_ms": candidate.measured_ms.get(device),
        "loss_bits": candidate.loss_bits,
        "architecture_id": candidate.architecture.id,
        "architecture": candidate.architecture.to_json(),
    }
