"""Model *and* runtime under one limit: where the same hardware is several devices, which of them wins.

Devices are the same hardware when their ids differ in runtime, dtype or threads alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hat_ray.latency.device import hardware_of, settings_of


@dataclass(frozen=True)
class Contest:
    """One limit on one piece of hardware, and what each of its runtimes has under it, the best first."""

    hardware: str
    limit_ms: float
    entries: tuple[Mapping[str, Any], ...]
    """Winners as `files.describe_winner` says them."""

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
        """What a user is told."""
        best, *others = self.entries
        rest = ", ".join(f"{settings_of(one['device'])} {one['loss_bits']:.4f}" for one in others)
        return (
            f"best runtime under {self.limit_ms:.4g} ms on {self.hardware}: {settings_of(best['device'])} with "
            f"{best['id']}, loss {best['loss_bits']:.4f}; {rest}"
        )


def contests(winners: Sequence[Mapping[str, Any]], *, at_least: int = 2) -> list[Contest]:
    """Return, for each limit that so many runtimes of one hardware keep, who wins: by loss, then by milliseconds."""
    groups: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for winner in winners:
        groups.setdefault((hardware_of(winner["device"]), winner["limit_ms"]), []).append(winner)
    return [
        Contest(hardware, limit_ms, tuple(sorted(entries, key=_merit)))
        for (hardware, limit_ms), entries in groups.items()
        if len(entries) >= at_least
    ]


def _merit(winner: Mapping[str, Any]) -> tuple[float, float]:
    return winner["loss_bits"], winner["measured_ms"] or winner["predicted_ms"]
