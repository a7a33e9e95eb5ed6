"""The rows that a predictor is fitted to: what each architecture costs and takes, in the order of timing.

What a predictor sees of an architecture, and what HAT's published tables keep of it.

Decision: HAT's ten averages, each times its number of layers, give back every cost term of `hat_ray.space.features`
exactly, because those terms are sums over layers. So one prior serves both, and rows imported from HAT can predict
whole architectures. What single layers add (`LAYER_FEATURES`) only the trees see, and only where the rows have it.

C cost terms: 15, or 17 where a row has SSRU layers; 7 terms of single layers.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hat_ray.errors import PredictorError
from hat_ray.latency.table.part_file import KeptParts
from hat_ray.latency.table.parts import Spaces
from hat_ray.latency.table.table import scan_table
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import (
    COST_FEATURES,
    HAT_FEATURES,
    LAYER_FEATURES,
    FloatArray,
    cost_columns,
    cost_features,
    cost_names,
    costs_of_averages,
    layer_features,
)
from hat_ray.storage.folder import Folder


def feature_set(width: int) -> str:
    """Return the name of the columns that a predictor of `width` cost terms can be fitted to."""
    return f"cost-{width}+layers-{len(LAYER_FEATURES)}"


FEATURE_SET = feature_set(len(COST_FEATURES))
"""Name of the columns that a predictor of rows without SSRU layers can be fitted to; it changes when they do."""

ENCODER_COLUMNS = cost_columns("encoder")
"""Cost terms of what is done once a sentence: the encoder, and the keys and values of its outputs."""

DECODER_COLUMNS = cost_columns("decoder")
"""Cost terms of the decoder's steps."""


def costs_from_hat(averages: FloatArray) -> FloatArray:
    """Turn HAT's ten averages (N, 10) in the order of `HAT_FEATURES` into cost terms (N, C)."""
    if averages.ndim != 2 or averages.shape[1] != len(HAT_FEATURES):
        raise PredictorError(f"HAT's features have {len(HAT_FEATURES)} columns, got an array of shape {averages.shape}")
    return costs_of_averages(averages.astype(np.float64))


_ORDER = (("source", "ascending"), ("source_row", "ascending"), ("utc_time", "ascending"))
_TABLE_COLUMNS = (
    *(name for name, _ in _ORDER),
    *("architecture_id", "architecture_json", *(f"hat_{name}" for name in HAT_FEATURES)),
    *("latency_corrected_ms", "relative_error", "encoder_p50_ms", "decoder_p50_ms"),
    *("encoder_mean_ms", "decoder_mean_ms"),
)


@dataclass(frozen=True, eq=False)
class TimedRows:
    """N timed architectures of one space on one device, in the order of timing."""

    costs: FloatArray
    """Cost terms, (N, C)."""
    layers: FloatArray | None
    """What single layers add, (N, 7); None where only averages are known."""
    total_ms: FloatArray
    """Drift-corrected milliseconds of encoder and decoder together, (N,)."""
    encoder_ms: FloatArray | None
    """The encoder's part of `total_ms`, (N,); None where it was not timed apart."""
    errors: FloatArray
    """Relative standard error of each timing, (N,); 0: not known."""
    names: tuple[str, ...]
    """What each row is called: the architecture's id, or the line of an imported file."""

    def __len__(self) -> int:
        return len(self.total_ms)

    def __getitem__(self, kept: Any) -> "TimedRows":
        """Return some rows: by a mask (N,) or by indices, in that order."""
        places = np.arange(len(self))[kept]
        return TimedRows(
            self.costs[places],
            None if self.layers is None else self.layers[places],
            self.total_ms[places],
            None if self.encoder_ms is None else self.encoder_ms[places],
            self.errors[places],
            tuple(self.names[place] for place in places),
        )

    @property
    def matrix(self) -> FloatArray:
        """All columns that are known, (N, C) or (N, C + 7)."""
        return self.costs if self.layers is None else np.column_stack([self.costs, self.layers])

    @property
    def names_of_columns(self) -> tuple[str, ...]:
        """The names of `matrix`'s columns."""
        return (*cost_names(self.costs.shape[1]), *(() if self.layers is None else LAYER_FEATURES))

    @property
    def fingerprint(self) -> str:
        """A hash of all that a fit depends on."""
        parts = [self.matrix, self.total_ms, self.errors]
        parts += [] if self.encoder_ms is None else [self.encoder_ms]
        return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()[:16]

    def check(self, device: str) -> None:
        """Raise PredictorError for a time that is none."""
        bad = np.flatnonzero(~(np.isfinite(self.total_ms) & (self.total_ms > 0)))
        if len(bad):
            raise PredictorError(
                f"latencies must be milliseconds above zero, got {self.total_ms[bad[0]]} in row {bad[0]} of {device}"
            )


def rows_of(
    architectures: Sequence[Architecture],
    total_ms: Sequence[float] | FloatArray,
    encoder_ms: Sequence[float] | FloatArray | None = None,
    errors: Sequence[float] | FloatArray | None = None,
) -> TimedRows:
    """Make rows of whole architectures; one may stand in several rows."""
    names = tuple(architecture.id for architecture in architectures)
    return _checked(cost_features(architectures), layer_features(architectures), total_ms, encoder_ms, errors, names)


def rows_of_averages(
    averages: FloatArray,
    total_ms: Sequence[float] | FloatArray,
    encoder_ms: Sequence[float] | FloatArray | None = None,
    names: Sequence[str] = (),
) -> TimedRows:
    """Make rows that keep no more than HAT's ten averages, (N, 10)."""
    names = tuple(names) or tuple(map(str, range(len(averages))))
    return _checked(costs_from_hat(averages), None, total_ms, encoder_ms, None, names)


def read_rows(
    root: Folder | str | KeptParts, space_id: Spaces, device: str, where: Mapping[str, object] | None = None
) -> TimedRows:
    """Read a device's rows from a latency table, the best measurement of each architecture; `where` as in `scan_table`.

    Where some rows keep only averages, only averages are taken of all. A space has one query-key-value width, which no
    column shows: rows of another one, of models that were scaled by hand, are left out.
    """
    table = scan_table(root, space_id, device, _TABLE_COLUMNS, where=where, best_only=True).sort_by(list(_ORDER))
    table = _of_one_width(table)
    read = {name: table[name].to_numpy() for name in table.column_names}
    total = read["latency_corrected_ms"]
    encoder_ms = _encoder_part(read)
    errors = np.nan_to_num(_real(read["relative_error"]))
    texts = read["architecture_json"]
    if all(text is not None for text in texts):
        return rows_of([Architecture.from_json(text) for text in texts], total, encoder_ms, errors)
    averages = np.column_stack([read[f"hat_{name}"] for name in HAT_FEATURES])
    names = [id or f"{source}:{line}" for id, source, line in _origins(read)]
    return rows_of_averages(averages, total, encoder_ms, names)


def _of_one_width(table: pa.Table) -> pa.Table:
    """Return the rows of the query-key-value width that most rows have; those without an architecture stay."""
    texts = table["architecture_json"].to_pylist()
    widths = [None if text is None else json.loads(text).get("qkv_dim") for text in texts]
    known = Counter(width for width in widths if width is not None)
    if len(known) < 2:
        return table
    usual = known.most_common(1)[0][0]
    return table.filter(pa.array([width in (None, usual) for width in widths]))


def _encoder_part(read: dict[str, Any]) -> FloatArray | None:
    """Return the encoder's part of each row's milliseconds; None where the device's runtime does not split them."""
    encoder, decoder = (
        np.where(np.isnan(_real(read[f"{part}_p50_ms"])), _real(read[f"{part}_mean_ms"]), _real(read[f"{part}_p50_ms"]))
        for part in ("encoder", "decoder")
    )
    if np.isnan(encoder + decoder).any():
        return None
    with np.errstate(invalid="ignore", divide="ignore"):  # a row of zeros is refused by `check`
        return np.asarray(read["latency_corrected_ms"] * encoder / (encoder + decoder), dtype=np.float64)


def _origins(read: dict[str, Any]) -> list[tuple[str | None, str | None, str]]:
    lines = [f"{line:.0f}" if line is not None and np.isfinite(line) else "" for line in read["source_row"]]
    return list(zip(read["architecture_id"], read["source"], lines, strict=True))


def _real(values: Any) -> FloatArray:
    return np.asarray(values, dtype=np.float64)


def _checked(
    costs: FloatArray,
    layers: FloatArray | None,
    total_ms: Sequence[float] | FloatArray,
    encoder_ms: Sequence[float] | FloatArray | None,
    errors: Sequence[float] | FloatArray | None,
    names: tuple[str, ...],
) -> TimedRows:
    total = _real(total_ms)
    if len(total) != len(costs):
        raise PredictorError(f"each architecture needs one latency, got {len(costs)} and {len(total)}")
    encoder = None if encoder_ms is None else _real(encoder_ms)
    return TimedRows(costs, layers, total, encoder, np.zeros(len(total)) if errors is None else _real(errors), names)
