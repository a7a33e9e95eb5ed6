"""Which rows of a latency table are measurements: every time finite, above zero and shorter than a day.

A row that is none is refused where it would come in, named by `validate`, and passed over by every reader.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hat_ray.space.features import HAT_FEATURES

MOST_MS = 86_400_000.0
"""A day: nothing that is worth a search takes longer to translate one batch."""

MOST_OF_A_FEATURE = 1e6
"""Widths, hidden widths, heads and layers are far below it."""

_FEATURES = tuple(f"hat_{name}" for name in HAT_FEATURES)
_QUANTILES = ("p10", "p50", "p90")
_POSITIVE = (
    *("latency_ms", "latency_corrected_ms", "encoder_mean_ms", "decoder_mean_ms", "total_mean_ms"),
    *("canary_before_ms", "canary_after_ms", "canary_quiet_ms", "drift_correction"),
)
_NOT_NEGATIVE = (
    *(f"{part}_{name}_ms" for part in ("encoder", "decoder", "total") for name in (*_QUANTILES, "std")),
    "relative_error",
)
_SAMPLES = ("encoder_samples_ms", "decoder_samples_ms", "total_samples_ms")

NUMBERS = (*_POSITIVE, *_NOT_NEGATIVE, *_FEATURES)
"""Columns of the measurements, or of the timed architecture."""

JUDGED = (
    *("latency_ms", "latency_corrected_ms", "drift_correction", "relative_error"),
    *(f"{part}_{name}_ms" for part in ("encoder", "decoder") for name in ("p50", "mean", "std")),
    *_FEATURES,
)
"""Columns that are fitted, shown or exported: readers judge a row by these."""


def rules_of(name: str, values: NDArray[np.float64]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield the rules of one column and where its values break them."""
    yield f"{name} must be finite", ~np.isfinite(values)
    if name in _FEATURES:
        yield f"{name} must be from 1 to {MOST_OF_A_FEATURE:.0f}", (values < 1) | _above(values, MOST_OF_A_FEATURE)
        return
    if name in _NOT_NEGATIVE or name in _SAMPLES:
        yield f"{name} must not be negative", values < 0
    else:
        yield f"{name} must be more than 0", values <= 0
    yield f"{name} must be at most {MOST_MS:.0f}, a day", _above(values, MOST_MS)


def why_no_measurement(name: str, value: float) -> str | None:
    """Return the rule of its column that a number breaks, or None when it may have been measured."""
    broken = (rule for rule, mask in rules_of(name, np.array([value])) if mask[0])
    return next((f"{rule}, got {value:g}" for rule in broken), None)


def broken_numbers(table: pa.Table, names: Sequence[str] = NUMBERS) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield the rules of a table's columns and the rows that break them; a null is no number and breaks none."""
    for name in names:
        if name in table.column_names:
            column = table.column(name)
            known = pc.is_valid(column).to_numpy()
            for rule, mask in rules_of(name, column.to_numpy().astype(np.float64)):
                yield rule, mask & known


def broken_samples(table: pa.Table) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield the rules of single repetitions and the rows that break them."""
    for name in _SAMPLES:
        if name in table.column_names:
            column = table.column(name).combine_chunks()
            rows = pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
            for rule, mask in rules_of(name, pc.list_flatten(column).to_numpy(zero_copy_only=False).astype(np.float64)):
                broken = np.zeros(len(table), dtype=bool)
                broken[rows[mask]] = True
                yield rule, broken


def measured(table: pa.Table) -> NDArray[np.bool_]:
    """Return for each row whether it is a measurement, judged by the columns that readers use."""
    good = np.ones(len(table), dtype=bool)
    for _, mask in broken_numbers(table, JUDGED):
        good &= ~mask
    return good


def require_measurements(table: pa.Table) -> None:
    """Raise ValueError that names the first row, from 0, that is no measurement, and the rule that it breaks."""
    for rule, mask in (*broken_numbers(table), *broken_samples(table)):
        if mask.any():
            raise ValueError(f"row {int(np.argmax(mask))} is no measurement: {rule}")


def _above(values: NDArray[np.float64], most: float) -> NDArray[np.bool_]:
    return np.isfinite(values) & (values > most)
