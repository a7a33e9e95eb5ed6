"""Values of quantities in the rows of the latency table: what a row lacks, and what the table knows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hat_ray.errors import LatencyError
from hat_ray.latency.quantities import QUANTITIES, DeviceProfile, Measured, Recorded
from hat_ray.latency.table.part_file import KeptParts
from hat_ray.latency.table.parts import Spaces
from hat_ray.latency.table.row import SCHEMA, LatencyRow, to_table
from hat_ray.latency.table.table import scan_table
from hat_ray.latency.timing.workload import Workload
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import FloatArray
from hat_ray.storage.folder import Folder

COLUMN = "quantities"
"""The column of quantities that were measured in processes of their own."""

Values = Mapping[Architecture, float]


class RowQuantities:
    """Adds to each timed row the quantities that it has to know; one architecture is measured once."""

    def __init__(self, names: Sequence[str], profile: DeviceProfile) -> None:
        """Refuse in one line a quantity that the device does not have; recorded ones are for `require_recorded`."""
        self._quantities = {name: QUANTITIES.load(name) for name in names}
        self._profile = profile
        self._measured: dict[tuple[Architecture, str], float | None] = {}
        for name, quantity in self._quantities.items():
            if isinstance(quantity, Recorded):
                require_columns(name, quantity)
            else:
                require_available(name, profile)

    def require_recorded(self) -> None:
        """Refuse in one line a quantity that a timing here would not record: rows of earlier ones may know it."""
        for name, quantity in self._quantities.items():
            if isinstance(quantity, Recorded):
                require_available(name, self._profile)

    def added(self, row: LatencyRow) -> LatencyRow:
        """Return a row with its quantities; raise LatencyError where the timing did not record one of them."""
        assert row.architecture is not None, "a timed row has an architecture"
        for name, quantity in self._quantities.items():
            if isinstance(quantity, Recorded) and np.isnan(_recorded(quantity, to_table([row]))).any():
                raise LatencyError(_unknown(name, row.device.slug, quantity.remedy))
        return self.completed(row, measured_names([*self._quantities]))

    def completed(self, row: LatencyRow, names: Iterable[str]) -> LatencyRow:
        """Return a row that was timed, with some quantities that are measured for it now."""
        assert row.architecture is not None, "a timed row has an architecture"
        found = {name: self._measure(row.architecture, name) for name in names}
        new = {name: value for name, value in found.items() if value is not None}
        return replace(row, quantities=tuple(sorted({**dict(row.quantities), **new}.items())))

    def _measure(self, architecture: Architecture, name: str) -> float | None:
        """Measure one quantity of an architecture, once in a session."""
        quantity = self._quantities[name]
        assert isinstance(quantity, Measured), "others need no measurement of their own"
        if (architecture, name) not in self._measured:
            self._measured[architecture, name] = quantity.measure(architecture, self._profile)
        return self._measured[architecture, name]


def require_available(name: str, profile: DeviceProfile) -> None:
    """Raise LatencyError, in one line, where a device has no such quantity, or the table no such columns."""
    quantity = QUANTITIES.load(name)
    if isinstance(quantity, Recorded):
        require_columns(name, quantity)
    if quantity.unavailable is not None and (reason := quantity.unavailable(profile)):
        raise LatencyError(reason)


def require_columns(name: str, quantity: Recorded) -> None:
    """Raise LatencyError, in one line, where the table has no such columns."""
    if lacking := [column for column in quantity.columns if column not in SCHEMA.names]:
        raise LatencyError(
            f"{name} reads {', '.join(lacking)}, which the latency table lacks: make it a `Measured` one"
        )


def measured_names(names: Sequence[str]) -> list[str]:
    """Return those quantities that need a measurement of their own."""
    return [name for name in names if isinstance(QUANTITIES.load(name), Measured)]


def missing_names(table: pa.Table, names: Sequence[str]) -> dict[str, list[str]]:
    """Return, by the id of each architecture of a table, those of some measured quantities that no row of it knows.

    The table has the columns `architecture_id` and, where there are names, `quantities`.
    """
    ids = table.column("architecture_id")
    known = {name: set(ids.filter(pc.is_valid(_lookup(table, name))).to_pylist()) for name in names}
    every = ids.unique().drop_null().to_pylist()
    return {one: [name for name in names if one not in known[name]] for one in every}


def known_values(
    root: Folder | str | KeptParts, space_id: Spaces, device: str, workload: Workload, names: Sequence[str]
) -> dict[str, Values]:
    """Return by quantity what the table knows of each architecture on a device, in the order of timing.

    Of several timings the best one counts, as for the latency; of several measurements the last one.
    """
    quantities = {name: QUANTITIES.load(name) for name in names}
    recorded = {name: one for name, one in quantities.items() if isinstance(one, Recorded)}
    found: dict[str, Values] = {}
    if recorded:
        columns = dict.fromkeys(column for one in recorded.values() for column in one.columns)
        table = _scan(root, space_id, device, workload, list(columns), best_only=True)
        found |= {name: _by_architecture(table, _recorded(one, table)) for name, one in recorded.items()}
    if measured := measured_names(names):
        table = _scan(root, space_id, device, workload, [COLUMN], best_only=False)
        found |= {name: _by_architecture(table, _numbers(_lookup(table, name))) for name in measured}
    return found


def require_known(name: str, device: str, values: Values) -> None:
    """Raise LatencyError, in one line, where a device's rows do not know a quantity."""
    quantity = QUANTITIES.load(name)
    if not values and isinstance(quantity, Recorded | Measured):
        raise LatencyError(_unknown(name, device, quantity.remedy))


def _unknown(name: str, device: str, remedy: str) -> str:
    return f"{name} is not known of {device}: {remedy}"


def _scan(
    root: Folder | str | KeptParts,
    space_id: Spaces,
    device: str,
    workload: Workload,
    columns: Sequence[str],
    *,
    best_only: bool,
) -> pa.Table:
    names = ["architecture_json", "utc_time", *columns]
    table = scan_table(root, space_id, device, names, where=asdict(workload), best_only=best_only)
    return table.filter(pc.is_valid(table.column(0))).sort_by("utc_time")


def _recorded(quantity: Recorded, table: pa.Table) -> FloatArray:
    return np.asarray(quantity.read(*(_numbers(table.column(name)) for name in quantity.columns)), dtype=np.float64)


def _lookup(table: pa.Table, name: str) -> pa.ChunkedArray:
    return pc.map_lookup(table.column(COLUMN), pa.scalar(name), "first")


def _numbers(column: pa.ChunkedArray) -> FloatArray:
    return np.asarray(column.to_numpy(), dtype=np.float64)


def _by_architecture(table: pa.Table, values: FloatArray) -> dict[Architecture, float]:
    texts = table.column("architecture_json").to_pylist()
    known = [(text, value) for text, value in zip(texts, values.tolist(), strict=True) if np.isfinite(value)]
    return {Architecture.from_json(text): value for text, value in known}
