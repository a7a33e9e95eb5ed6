"""What FLOPs say about latency on a device: the figure, and the sentences that page and terminal show."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.text import Text

from hat_ray.core.text import count, fixed, milliseconds
from hat_ray.latency.flops import ALIKE, Correlation, FlopsEvidence, flops_evidence
from hat_ray.report.chart import SYMBOLS, Figure, Trace, axis, layout, points, shade
from hat_ray.report.data import Device, ReportData, TimedArchitecture
from hat_ray.report.topics.frontier import describe


def flops_against_latency(data: ReportData, device: Device, id: str) -> Figure | None:
    """Measured latency against FLOPs, one shape for each number of decoder layers."""
    rows = [row for row in data.timed if row.device == device.slug]
    if not rows:
        return None
    traces = []
    for i, depth in enumerate(sorted({row.architecture.decoder.depth for row in rows})):
        group = [row for row in rows if row.architecture.decoder.depth == depth]
        marker: Trace = {"symbol": SYMBOLS[i % len(SYMBOLS)], "size": 7, "color": shade(i)}
        hover = [f"{milliseconds(r.measured_ms)} · {count(r.flops)}FLOPs\n{describe(r.architecture)}" for r in group]
        name = f"{depth} decoder layer{'s' if depth > 1 else ''}"
        traces.append(points(name, [r.flops for r in group], [r.measured_ms for r in group], hover, marker))
    return Figure(
        id=id,
        title="FLOPs are not latency",
        caption=flops_sentence(rows),
        traces=[*traces, *_ring(rows)],
        layout=layout(axis("FLOPs a sentence", tickformat=".2~s"), axis("Measured latency, ms", rangemode="tozero")),
        columns=("architecture", "id", "FLOPs", "parameters", "measured ms"),
        rows=[(str(r.architecture), r.architecture.id, r.flops, r.params, r.measured_ms) for r in rows],
    )


def _ring(rows: Sequence[TimedArchitecture]) -> list[Trace]:
    """Ring the two architectures whose FLOPs are alike and whose latencies differ most."""
    found = evidence_of(rows)
    if found is None or found.pair is None:
        return []
    pair = [rows[found.pair.fast], rows[found.pair.slow]]
    ring: Trace = {"symbol": "circle-open", "size": 15, "color": "@winner", "line": {"width": 2}}
    x, y, more = [row.flops for row in pair], [row.measured_ms for row in pair], {"hoverinfo": "skip"}
    style: Trace = {"color": "@winner", "width": 1, "dash": "dot"}
    return [points("equal FLOPs", x, y, [], ring, mode="lines+markers", line=style, **more)]


def evidence_of(rows: Sequence[TimedArchitecture]) -> FlopsEvidence | None:
    """Compare FLOPs with latency over one device's timed architectures."""
    return flops_evidence(
        [row.flops for row in rows],
        [row.measured_ms for row in rows],
        [row.architecture.decoder.depth for row in rows],
    )


def flops_sentence(rows: Sequence[TimedArchitecture]) -> str:
    """Return how FLOPs and latency correlate, and the two architectures that contradict it most."""
    found, text = evidence_of(rows), f"{len(rows):,} architectures timed on this device."
    if found is None:
        return text
    return " ".join(part for part in (text, _correlations(found), _pair(found, rows)) if part)


def _correlations(found: FlopsEvidence) -> str:
    if found.overall.pearson is None:
        return ""
    text = f"Correlation of FLOPs and latency {_both(found.overall)}"
    within = [one for one in found.within.values() if one.pearson is not None]
    if len(found.within) < 2 or not within:
        return f"{text}."
    taus = [one.kendall_tau for one in within if one.kendall_tau is not None]
    pearsons = [one.pearson for one in within if one.pearson is not None]
    return f"{text}; among architectures of equal decoder depth {_range(pearsons)} (Kendall tau {_range(taus)})."


def _both(one: Correlation) -> str:
    return f"{_number(one.pearson)} (Kendall tau {_number(one.kendall_tau)})"


def _range(values: Sequence[float]) -> str:
    low, high = _number(min(values)), _number(max(values))
    return low if low == high else f"{low} to {high}"


def _number(value: float | None) -> str:
    return fixed(value, 2).replace("-", "−")


def _pair(found: FlopsEvidence, rows: Sequence[TimedArchitecture]) -> str:
    if found.pair is None:
        return ""
    fast, slow = rows[found.pair.fast], rows[found.pair.slow]
    return (
        f"{slow.architecture.id} ({milliseconds(slow.measured_ms)}, {count(slow.flops)}FLOPs) takes "
        f"{fixed(found.pair.ratio, 2)} times as long as {fast.architecture.id} ({milliseconds(fast.measured_ms)}, "
        f"{count(fast.flops)}FLOPs), at equal FLOPs within {100 * ALIKE:.0f} %."
    )


def flops_lines(data: ReportData) -> list[Text]:
    """Return one paragraph a device for the terminal; none where nothing was sampled and timed."""
    found = [(device, [row for row in data.timed if row.device == device.slug]) for device in data.devices]
    return [
        Text.assemble((f"FLOPs against latency: {device.title}\n", "bold"), flops_sentence(rows))
        for device, rows in found
        if rows
    ]


def flops_to_json(data: ReportData) -> dict[str, Any]:
    """Return every device's evidence as plain JSON values, with the ids of the two architectures."""
    values: dict[str, Any] = {}
    for device in data.devices:
        rows = [row for row in data.timed if row.device == device.slug]
        found = evidence_of(rows)
        if found is not None:
            values[device.slug] = {**asdict(found), "pair": _pair_to_json(found, rows)}
    return values


def _pair_to_json(found: FlopsEvidence, rows: Sequence[TimedArchitecture]) -> dict[str, Any] | None:
    if found.pair is None:
        return None
    pair = {"fast": rows[found.pair.fast], "slow": rows[found.pair.slow]}
    values = {
        name: {"id": row.architecture.id, "flops": row.flops, "ms": row.measured_ms} for name, row in pair.items()
    }
    return {**values, "ratio": found.pair.ratio}
