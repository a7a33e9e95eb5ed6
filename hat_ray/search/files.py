"""What a search leaves for people and other programs: each limit's winner, and each device's frontier.

`winners.json` says all of them; `winners/<n>.<device>.<limit>ms.yml` is HAT's YAML of one, `.json` ours;
`frontier.parquet` and `frontier.csv` hold the frontiers.
"""

import csv
import io
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter

from hat_ray.search.candidates import Candidate
from hat_ray.search.latency import DeviceLatency
from hat_ray.search.result import SearchResult, Winner
from hat_ray.space.hat_yaml import write_architecture
from hat_ray.storage import Folder
from hat_ray.summaries import ToldWinner

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
    """Write the winners, as `describe_winner` says them, and the frontiers."""
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
