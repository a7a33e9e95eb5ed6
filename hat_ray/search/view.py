"""The content of `hat-ray search show`: a search that is finished or under way, or a bare folder of candidates."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from hat_ray.core.codec import read, to_json
from hat_ray.errors import SearchError
from hat_ray.latency.device import names_device
from hat_ray.search.candidates import Candidate, CandidateTable
from hat_ray.search.early_stopping import EarlyStoppingSummary, early_stopping_summary
from hat_ray.search.engine.finalists import FILE as FINALISTS
from hat_ray.search.engine.finalists import Finals
from hat_ray.search.frontier import frontier
from hat_ray.search.limits import Limit
from hat_ray.search.warm_start import table_at
from hat_ray.search.winners import WINNERS, LimitWinner, SearchOutput, runtime_rankings


@dataclass(frozen=True)
class SearchView:
    """The candidates of a search, and its winners where it is finished."""

    place: str
    candidates: tuple[Candidate, ...]
    winners: tuple[LimitWinner, ...]
    limits: tuple[Limit, ...] = ()
    """Those of a finished search."""
    device: str | None = None
    """The device to show, by slug or name; None: all."""
    finals: Finals | None = None
    """The finalists that were trained on; None: there were none, or they are not trained yet."""

    @property
    def devices(self) -> list[str]:
        """The devices to show."""
        return [device for device in self._all_devices if self.device is None or names_device(self.device, device)]

    @property
    def _all_devices(self) -> list[str]:
        return sorted({device for one in self.candidates for device in one.latency_ms})

    def only(self, device: str | None) -> "SearchView":
        """Return the view of one device; raise SearchError for one that the search is not for."""
        if device is not None and not any(names_device(device, one) for one in self._all_devices):
            raise SearchError(f"{self.place} has no device {device}; it has {', '.join(self._all_devices)}")
        winners = self.winners if device is None else [w for w in self.winners if names_device(device, w.limit.device)]
        return replace(self, device=device, winners=tuple(winners))

    @property
    def counts(self) -> dict[str, float]:
        """Numbers of candidates, of those from earlier runs and without a loss, and of workers; seconds of scoring."""
        return {
            "candidates": len(self.candidates),
            "from_earlier_runs": sum(one.round < 0 for one in self.candidates),
            "without_loss": sum(not math.isfinite(one.loss_bits) for one in self.candidates),
            "workers": len({one.worker for one in self.candidates if one.worker}),
            "scoring_seconds": round(sum(one.seconds for one in self.candidates if one.round >= 0), 3),
        }

    @property
    def origins(self) -> dict[str, int]:
        return dict(Counter(one.origin for one in self.candidates).most_common())

    @property
    def early_stop(self) -> EarlyStoppingSummary | None:
        """The saving and the error of early stopping; None where it was off."""
        return early_stopping_summary(self.candidates, self.limits)

    def frontier(self, device: str) -> Sequence[Candidate]:
        return frontier([one for one in self.candidates if device in one.latency_ms], device)


def view(place: str) -> SearchView:
    """Read a search from its run folder or its own; raises SearchError where there is none."""
    table: CandidateTable = table_at(place)
    output = read(table.folder, WINNERS, SearchOutput) if table.folder.exists(WINNERS) else None
    if output is None:
        return SearchView(place, tuple(table.read()), ())
    finals = read(table.folder, FINALISTS, Finals) if table.folder.exists(FINALISTS) else None
    return SearchView(place, tuple(table.read()), output.winners, output.limits, finals=finals)


def view_to_json(search: SearchView) -> dict[str, Any]:
    """Return a view as JSON values."""
    return {
        "place": search.place,
        **search.counts,
        "origins": search.origins,
        "stopped_early": None if search.early_stop is None else asdict(search.early_stop),
        "winners": [to_json(winner) for winner in search.winners],
        "finalists": None if search.finals is None else to_json(search.finals),
        "best_runtimes": [ranking.to_json() for ranking in runtime_rankings(search.winners)],
        "frontiers": {
            device: [candidate_to_json(one, device) for one in search.frontier(device)] for device in search.devices
        },
    }


def candidate_to_json(one: Candidate, device: str) -> dict[str, Any]:
    """Return a candidate as one device sees it."""
    return {
        "id": one.architecture.id,
        "loss_bits": one.loss_bits,
        "latency_ms": one.latency_ms[device],
        "low_ms": one.low_ms.get(device),
        "high_ms": one.high_ms.get(device),
        "measured_ms": one.measured_ms.get(device),
        "quantities": one.quantities.get(device, {}),
        "measured_quantities": one.measured_quantities.get(device, {}),
        "architecture": one.architecture.to_dict(),
    }


def finalist_lines(finals: Finals, device: str | None = None) -> list[str]:
    """Return the finalists of each limit as lines, the best first: losses, and places before and after."""
    lines = []
    for limit in finals.limits:
        if device is not None and not names_device(device, limit.device):
            continue
        after = " and ".join(map(str, finals.updates))
        lines.append(f"finalists under {limit}: inherited loss, loss after {after} more updates, place")
        for place in finals.places(limit):
            one = place.finalist
            losses = " ".join(f"{loss:8.4f}" for loss in one.rung_losses_bits)
            lines.append(
                f"  {one.architecture.id} {one.inherited_loss_bits:8.4f} {losses}  {place.before} -> {place.after}"
            )
    return lines
