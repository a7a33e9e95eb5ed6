"""HAT's published latency tables: CSV files of ten averages, and mean and deviation (ms) of encoder and decoder.

They do not keep each layer's shape, the number of runs, or the device: the import gets them as arguments.

HAT's description of the latency tables that it published, by the names of their files.

HAT: README and section 4.1. It does not state how many threads and cores its processors used, nor each task's
vocabulary: those are 0 here, which no device of one's own has.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from hat_ray.errors import LatencyError
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.table.row import IMPORTED_AVERAGES, LatencyRow, Origin
from hat_ray.latency.timing.measurement import why_no_measurement
from hat_ray.latency.timing.record import MeasurementContext
from hat_ray.latency.timing.statistics import Spread
from hat_ray.latency.timing.workload import Workload
from hat_ray.space.features import HAT_FEATURES
from hat_ray.storage.folder import Folder
from hat_ray.storage.places import is_uri
from hat_ray.storage.plain_file import decode_text, read_text

_TASKS = {"wmt14ende": (30, 32_768), "wmt14enfr": (30, 0), "wmt19ende": (30, 0), "iwslt14deen": (23, 0)}
"""Source and target tokens of each task, and words of its vocabulary."""

_DEVICES = {
    "cpu_raspberrypi": ("Raspberry Pi 4, ARM Cortex-A72", "aarch64", ""),
    "cpu_xeon": ("Intel Xeon E5-2640", "x86_64", ""),
    "gpu_titanxp": ("unknown host", "x86_64", "NVIDIA TITAN Xp"),
}
"""Processor, machine and accelerator of each device."""


def name_of(place: str | Path) -> str:
    """Return the name of the file at a path or URI, without what a URI adds to it."""
    return Folder.of_file(str(place))[1] if is_uri(str(place)) else Path(place).name


def published(path: str | Path) -> tuple[DeviceInfo, Workload] | None:
    """Return device and workload of a published table, such as `wmt14ende_cpu_xeon_all.csv`; None for others."""
    task, _, device = name_of(path).removesuffix("_all.csv").partition("_")
    if task not in _TASKS or device not in _DEVICES:
        return None
    length, vocabulary = _TASKS[task]
    model, machine, accelerator = _DEVICES[device]
    info = DeviceInfo(
        name="hat",
        model=model,
        machine=machine,
        logical_cores=0,
        threads=0,
        clock_mhz=None,
        memory_bytes=None,
        isa=(),
        accelerator=accelerator,
        accelerator_memory_bytes=None,
        driver="",
        runtime="eager",
        dtype="fp32",
        quantisation="none",
        os="",
    )
    return info, Workload(1, 5, length, length, vocabulary)


_TIMES = ("latency_mean_encoder", "latency_mean_decoder", "latency_std_encoder", "latency_std_decoder")
_HEADER = (*HAT_FEATURES, *_TIMES)
_TOTAL = "encoder and decoder together"
_STORED_AS = {
    **{name: f"hat_{name}" for name in HAT_FEATURES},
    **{f"latency_{kind}_{part}": f"{part}_{kind}_ms" for kind in ("mean", "std") for part in ("encoder", "decoder")},
    _TOTAL: "latency_ms",
}
"""The table's column of each number of a row."""
_WHAT = "the latency table"
MOST_BYTES = 1 << 28
"""HAT's largest file has 400 kB."""
_WHOLE = {"encoder_embed_dim", "encoder_layer_num", "decoder_embed_dim", "decoder_layer_num"}


def import_hat_csv(path: str | Path, *, space_id: str, device: DeviceInfo, workload: Workload) -> list[LatencyRow]:
    """Read a CSV file of HAT's as rows "imported, averages only"; raises LatencyError naming file and line."""
    lines, name = read_hat_csv(path), name_of(path)
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    context = MeasurementContext(host="", session_id=f"import {name}", utc_time=now, library_versions=())
    return [
        _row(_numbers(path, i, cells), space_id, device, workload, context, Origin(IMPORTED_AVERAGES, name, i))
        for i, cells in enumerate(lines)
    ]


def read_hat_csv(path: str | Path) -> list[list[str]]:
    """Return the cells of a CSV file of HAT's below its header; raises LatencyError when it is not one."""
    text = _text_at(str(path)) if is_uri(str(path)) else read_text(path, _WHAT, LatencyError, MOST_BYTES)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=None)))
    except csv.Error as error:
        raise LatencyError(f"{path} cannot be read as a latency table of HAT's: {error}") from error
    if not lines or tuple(lines[0]) != _HEADER:
        raise LatencyError(f"{path} is not a latency table of HAT's: its first line must be {','.join(_HEADER)}")
    return lines[1:]


def _text_at(uri: str) -> str:
    """Return the text of a file on a store; raises LatencyError for one that is not there, too large or no text."""
    folder, name = Folder.of_file(uri)
    shown, size = f"{_WHAT} {folder.shown(name)}", folder.size(name)
    if size is None:
        raise LatencyError(f"{shown} does not exist: check its address")
    content = folder.read_bytes(name) if size <= MOST_BYTES else bytes(MOST_BYTES + 1)
    return decode_text(content, shown, LatencyError, MOST_BYTES)


def export_hat_csv(rows: Iterable[LatencyRow]) -> str:
    """Write rows as HAT's CSV, imported ones in their file's order; a file that was imported comes out unchanged."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_HEADER)
    for row in sorted(rows, key=lambda row: (row.origin.source, row.origin.source_row or 0)):
        if row.encoder is None or row.decoder is None:
            raise LatencyError(
                f"HAT's CSV needs the encoder's and the decoder's time, got rows of {row.device.slug}, whose runtime "
                "does not split it: choose other devices"
            )
        times = (row.encoder.mean_ms, row.decoder.mean_ms, row.encoder.std_ms, row.decoder.std_ms)
        pairs = zip(HAT_FEATURES, row.hat_features, strict=True)
        writer.writerow([*(int(value) if name in _WHOLE else float(value) for name, value in pairs), *times])
    return out.getvalue()


def _numbers(path: str | Path, number: int, cells: Sequence[str]) -> list[float]:
    where = f"{path} line {number + 2}"
    try:
        values = [float(cell) for cell in cells]
    except ValueError as error:
        raise LatencyError(f"{where}: {error}") from error
    if len(values) != len(_HEADER):
        raise LatencyError(f"{where}: {len(_HEADER)} numbers are needed, got {len(values)}")
    named = dict(zip(_HEADER, values, strict=True))
    named[_TOTAL] = named["latency_mean_encoder"] + named["latency_mean_decoder"]
    for name, value in named.items():
        broken = why_no_measurement(_STORED_AS[name], value)
        if broken is None and name in _WHOLE and value % 1:
            broken = f"{name} must be a whole number, got {value:g}"
        if broken is not None:
            reason = broken.replace(_STORED_AS[name], name, 1)
            raise LatencyError(f"{where} is no measurement, and none of the file is taken: {reason}")
    return values


def _row(
    values: Sequence[float],
    space_id: str,
    device: DeviceInfo,
    workload: Workload,
    context: MeasurementContext,
    origin: Origin,
) -> LatencyRow:
    encoder_ms, decoder_ms, encoder_std_ms, decoder_std_ms = values[len(HAT_FEATURES) :]
    return LatencyRow(
        space_id=space_id,
        architecture=None,
        hat_features=tuple(values[: len(HAT_FEATURES)]),
        workload=workload,
        device=device,
        encoder=Spread(None, None, None, encoder_ms, encoder_std_ms),
        decoder=Spread(None, None, None, decoder_ms, decoder_std_ms),
        total=None,
        encoder_samples_ms=(),
        decoder_samples_ms=(),
        repetitions=None,
        warmups=None,
        disturbed=None,
        relative_error=None,
        canary=None,
        context=context,
        origin=origin,
    )
