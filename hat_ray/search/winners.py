"""Files that a search writes for people and other programs: each limit's winner, and each device's frontier.

`winners.json` holds all of them; `winners/<n>.<device>.<limit>ms.yml` is HAT's YAML of one, `.json` ours;
`frontier.parquet` and `frontier.csv` hold the frontiers.

Model *and* runtime under one limit: where the same hardware is several devices, which of them wins.

Devices are the same hardware when their ids differ in runtime, dtype or threads alone.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter

from hat_ray.core.summaries import ToldWinner
from hat_ray.latency.device import hardware_of, settings_of
from hat_ray.search.candidates import Candidate
from hat_ray.search.engine.device_latency import DeviceLatency
from hat_ray.search.frontier import SearchResult, Winner
from hat_ray.space.hat_yaml import write_architecture
from hat_ray.storage.folder import Folder


@dataclass(frozen=True)
class RuntimeRanking:
    """One limit on one piece of hardware, and the winner of each of its runtimes, the best first."""

    hardware: str
    limit_ms: float
    entries: tuple[Mapping[str, Any], ...]
    """Winners as `describe_winner` returns them."""

    def to_json(self) -> dict[str, Any]:
        keys = ("device", "id", "loss_bits", "predicted_ms", "measured_ms")
        return {
            "hardware": self.hardware,
            "limit_ms": self.limit_ms,
            "best": self.entries[0]["device"],
            "entries": [{key: entry[key] for key in keys} for entry in self.entries],
        }

    @property
    def line(self) -> str:
        """The line for the terminal."""
        best, *others = self.entries
        rest = ", ".join(f"{settings_of(one['device'])} {one['loss_bits']:.4f}" for one in others)
        return (
            f"best runtime under {self.limit_ms:.4g} ms on {self.hardware}: {settings_of(best['device'])} with "
            f"{best['id']}, loss {best['loss_bits']:.4f}; {rest}"
        )


def runtime_rankings(winners: Sequence[Mapping[str, Any]], *, at_least: int = 2) -> list[RuntimeRanking]:
    """Rank the runtimes of one hardware by loss, then time, under each limit that `at_least` of them keep."""
    groups: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for winner in winners:
        groups.setdefault((hardware_of(winner["device"]), winner["limit_ms"]), []).append(winner)
    return [
        RuntimeRanking(hardware, limit_ms, tuple(sorted(entries, key=_merit)))
        for (hardware, limit_ms), entries in groups.items()
        if len(entries) >= at_least
    ]


def _merit(winner: Mapping[str, Any]) -> tuple[float, float]:
    return winner["loss_bits"], winner["measured_ms"] or winner["predicted_ms"]


WINNERS = "winners.json"

WINNERS_TYPE: TypeAdapter[Any] = TypeAdapter(list[ToldWinner])

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


def describe_winner(winner: Winner, devices: Mapping[str, DeviceLatency]) -> dict[str, Any]:
    """Return a winner as JSON values: its predicted milliseconds with their interval, and the measured ones."""
    device, candidate = winner.limit.device, winner.candidate
    predicted = float(devices[device].typical_ms([candidate.architecture])[0])
    return {
        "device": device,
        "limit_ms": winner.limit.ms,
        "loss_bits": candidate.loss,
        "predicted_ms": predicted,
        "low_ms": candidate.low_ms.get(device),
        "high_ms": candidate.high_ms.get(device),
        "measured_ms": candidate.measured_ms.get(device),
        "id": candidate.architecture.id,
    }


def write_files(folder: Folder, result: SearchResult, winners: list[dict[str, Any]]) -> None:
    """Write the winners, as `describe_winner` returns them, and the frontiers."""
    folder.delete("winners")
    for number, (winner, said) in enumerate(zip(result.winners, winners, strict=True), 1):
        name = f"winners/{number}.{winner.limit.device}.{winner.limit.ms:.6g}ms"
        folder.write_text(f"{name}.yml", write_architecture(winner.candidate.architecture))
        folder.write_text(f"{name}.json", winner.candidate.architecture.to_json() + "\n")
        said["hat_yaml"] = f"{name}.yml"
    folder.write_json(WINNERS, winners)
    rows = [_row(device, one) for device, frontier in result.frontiers.items() for one in frontier]
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
        "loss_bits": candidate.loss,
        "architecture_id": candidate.architecture.id,
        "architecture": candidate.architecture.to_json(),
    }
