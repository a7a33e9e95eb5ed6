"""What a run prints at its end: a table a device that a newcomer understands, and lines to try the winner."""

import shlex

from rich.table import Table as TerminalTable

from hat_ray.core.text import UNKNOWN, fixed, significant
from hat_ray.report.data import ChosenModel, ReportData
from hat_ray.report.gains import ONE_SEED, best_by_hand, gains, score_text
from hat_ray.report.reading import BY_HAND, compare, latency_ms, limit_verdict
from hat_ray.report.tables import Cell, Table
from hat_ray.report.topics.models import bounds_tables
from hat_ray.search.limits import Verdict

SUMMARY_COLUMNS = ("model", "BLEU", "ms a\nsentence", "times as fast\nas the largest", "size\nMB", "architecture")


def summary_tables(data: ReportData) -> list[TerminalTable]:
    """Return one table a device for the terminal: each winner, its best rival scaled by hand, and random; the largest.

    An architecture is shown as encoder width x depth, decoder width x depth; a winner that misses its limit has an
    exclamation mark. Then one table a device of what its limits bound, where that is more than the latency.
    """
    models = [
        Table(device.title, SUMMARY_COLUMNS, _rows(data, device.slug), text_columns=1).terminal(device.heading)
        for device in data.devices
    ]
    return models + [table.terminal(title) for title, table in bounds_tables(data)]


def _rows(data: ReportData, slug: str) -> list[list[Cell]]:
    rows = []
    for winner in data.winners(slug):
        rows.append(_row(data, winner, slug, f"chosen for ≤ {winner.limit.text}" if winner.limit else "chosen"))
        rival = best_by_hand(data, winner)
        if rival is not None:
            rows.append(_row(data, rival, slug, f"  {BY_HAND[rival.kind][0].lower()}{BY_HAND[rival.kind][1:]}"))
        rows += [
            _row(data, one, slug, "  random, no faster")
            for gain in gains(data, winner)
            if gain.kind == "random"
            for one in gain.rivals
        ]
    largest = data.first("largest")
    return rows if largest is None else [*rows, _row(data, largest, slug, "largest of the space")]


def _row(data: ReportData, model: ChosenModel, slug: str, name: str) -> list[Cell]:
    largest, winner = data.first("largest"), model.kind == "winner"
    speedup = compare(model, largest, slug).speedup if largest else None
    late = "!" if winner and limit_verdict(model, slug) is Verdict.MISSED else ""
    e, d = model.architecture.encoder, model.architecture.decoder
    cells = [
        name,
        score_text(model),
        significant(latency_ms(model, slug)) + late,
        UNKNOWN if speedup is None else f"{fixed(speedup, 2)}×",
        fixed(model.size_mb.get(slug), 1),
        f"{model.architecture.id} {e.embed_dim}×{e.depth} {d.embed_dim}×{d.depth}",
    ]
    return [Cell(cell, style="strong" if winner else "plain") for cell in cells]


def closing_lines(data: ReportData, place: str) -> list[str]:
    """Return what the spread of the table is, and three lines that try the first winner on a sentence of one's own."""
    winner = next((model for model in data.chosen if model.kind == "winner"), None)
    if winner is None or winner.score is None:
        return []
    seeds = len(winner.bleus)
    spread = ONE_SEED if seeds < 2 else f"mean ± standard deviation of {seeds} trainings each"
    sentence = winner.samples[0].source if winner.samples else "..."
    return [
        f"BLEU: {spread}.",
        "Try the first chosen model on a sentence of your own:",
        f"  echo {shlex.quote(sentence)} | hat-ray translate {shlex.quote(place)}",
        f"  hat-ray export {shlex.quote(place)} --out exported",
        "  hat-ray serve exported",
    ]
