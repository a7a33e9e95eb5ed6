"""The page of a certificate: what it states, for people, in the style of a report."""

from collections.abc import Sequence
from dataclasses import dataclass

from hat_ray.certificate.certificate import (
    WHAT_A_SEAL_PROVES,
    Certificate,
    seal_of,
)
from hat_ray.certificate.words import cautions, comparison, shown
from hat_ray.core.text import UNKNOWN, duration, fixed
from hat_ray.report.chart import Figure, axis, layout
from hat_ray.report.render import render
from hat_ray.report.tables import Cell, Facts, Table

NAVIGATION = (
    ("results", "Figures"),
    ("latency", "Latency"),
    ("quality", "Quality"),
    ("rules", "Rules"),
    ("device", "Device"),
    ("files", "Files"),
    ("seal", "Seal"),
)


@dataclass(frozen=True)
class CertificateView:
    """What the page of a certificate shows."""

    heading: str
    line: str
    results: Table
    cautions: tuple[str, ...]
    histogram: Figure
    quality: Facts
    comparison: str
    rules: Facts
    command: str
    device: Facts
    files: Table
    seal: str
    proves: str = WHAT_A_SEAL_PROVES
    first: str = "#results"
    navigation: Sequence[tuple[str, str]] = NAVIGATION

    @property
    def figures(self) -> list[Figure]:
        return [self.histogram]


def page(certificate: Certificate) -> str:
    """Return the HTML of a certificate's page."""
    return render("certificate.html.j2", view(certificate))


def view(made: Certificate) -> CertificateView:
    """Return the content of a certificate's page."""
    export, device = made.export, made.device
    direction = export.direction or export.model_id
    return CertificateView(
        heading=f"Certificate: {direction}, {export.runtime} {export.dtype}",
        line=f"Model {export.model_id} on {device.title} · {made.created[:10]}",
        results=Table("Figures", ("Figure", "Value"), _figure_rows(made)),
        cautions=tuple(cautions(made)),
        histogram=_histogram(made),
        quality=_quality(made),
        comparison=comparison(made.original),
        rules=_rules(made),
        command=made.command,
        device=_device(made),
        files=Table(
            "Files",
            ("File", "SHA-256", "Bytes"),
            [[one.name, Cell(one.sha256, style="code"), f"{one.bytes:,}"] for one in export.files],
            text_columns=2,
        ),
        seal=seal_of(made),
    )


def _figure_rows(made: Certificate) -> list[list[str | Cell]]:
    rows: list[list[str | Cell]] = [[name, shown(value, unit)] for name, (unit, value) in made.figures.items()]
    return [*rows, ["Sentences of the stream", f"{made.latency.queries:,} in {duration(made.latency.seconds)}"]]


def _histogram(made: Certificate) -> Figure:
    latency = made.latency
    bins = list(zip(latency.edges_ms, latency.edges_ms[1:], latency.counts, strict=False))
    trace: dict[str, object] = {
        "type": "bar",
        "x": [(low + high) / 2 for low, high, _ in bins],
        "width": [high - low for low, high, _ in bins],
        "y": list(latency.counts),
        "hovertext": [f"{shown(low, '')} to {shown(high, 'ms')}: {many:,}" for low, high, many in bins],
        "hoverinfo": "text",
        "marker": {"color": "@series-1"},
    }
    quantiles = (("median", latency.p50_ms), ("p90", latency.p90_ms), ("p99", latency.p99_ms))
    return Figure(
        "latency-histogram",
        "Times of single sentences",
        f"{latency.queries:,} sentences, one after the other. "
        + ", ".join(f"{name} {shown(value, 'ms')}" for name, value in quantiles)
        + f"; the slowest took {shown(latency.edges_ms[-1], 'ms')}.",
        [trace],
        layout(axis("milliseconds, from text to text"), axis("sentences"), showlegend=False),
        ("From ms", "To ms", "Sentences"),
        bins,
    )


def _quality(made: Certificate) -> Facts:
    text, quality = made.text, made.quality
    facts: dict[str, str | Cell] = {
        "Sentences": f"{text.sentences:,}",
        "Source, SHA-256": Cell(text.source_sha256, style="code"),
        "Reference, SHA-256": Cell(text.reference_sha256, style="code") if text.reference_sha256 else "none was given",
        "Translations, SHA-256": Cell(made.translations_sha256, style="code"),
    }
    if quality is None:
        return facts
    facts["BLEU"] = f"{fixed(quality.bleu, 2)} ({quality.bleu_signature})"
    facts["chrF"] = f"{fixed(quality.chrf, 2)} ({quality.chrf_signature})"
    return facts


def _rules(made: Certificate) -> Facts:
    rules = made.rules
    length = f"at least {rules.queries:,} queries and {rules.seconds:g} s after {rules.warmup} that do not count"
    kind = "as long as MLPerf's single stream" if rules.are_mlperf else "shorter than MLPerf's single stream"
    energy = made.energy
    return {
        "Single stream": f"{length}: {kind}, and no result of MLPerf. One sentence at a time, from text to text.",
        "Throughput": "The whole text at once, from text to text, without loading.",
        "Memory": f"The resident peak of translate.py, which loads, translates {rules.memory_lines} lines and ends.",
        "Download": "The bytes of all files of the export.",
        "Energy": (
            energy.source
            if energy.joules is None
            else f"Counted by {energy.source}: of whole processor packages, what they draw idle included."
        ),
        "Threads": str(rules.threads),
        "Lines": "split into sentences, as translate.py does" if rules.split else "taken whole",
        "Decoding": ", ".join(f"{name} {value:g}" for name, value in made.export.search.items()),
    }


def _device(made: Certificate) -> Facts:
    device = made.device
    memory = UNKNOWN if device.memory_bytes is None else f"{device.memory_bytes / 2**30:.1f} GiB"
    load = made.latency.other_load_cpus
    return {
        "Processor": device.model,
        "Id": Cell(device.slug, style="code"),
        "Cores": str(device.logical_cores),
        "Clock": UNKNOWN if device.clock_mhz is None else f"{device.clock_mhz:,.0f} MHz",
        "Memory": memory,
        "Instructions": " ".join(device.isa) or UNKNOWN,
        "System": device.os,
        "Others' load": UNKNOWN if load is None else f"{fixed(load, 1)} CPUs while the stream ran",
        "Versions": ", ".join(f"{name} {version}" for name, version in made.versions.items()),
    }
