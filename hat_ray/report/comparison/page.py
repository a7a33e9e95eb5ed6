"""The page that compares several runs: its sentences, tables and figures."""

from collections.abc import Sequence
from dataclasses import dataclass

from hat_ray.core.text import UNKNOWN, count, duration, energy, fixed, mass, milliseconds
from hat_ray.latency.quantities import LATENCY
from hat_ray.report.chart import Figure, FigureGroup, data_only
from hat_ray.report.comparison.charts import delivered, overlay
from hat_ray.report.comparison.runs import (
    Caution,
    ComparedRun,
    SharedDevice,
    cautions,
    comparable,
    devices_of,
    merged_frontier,
    recipe_differences,
)
from hat_ray.report.data import ChosenModel, Latency
from hat_ray.report.gains import score_text
from hat_ray.report.reading import (
    VERDICT_MARKS,
    VERDICT_RULE,
    bound_figures,
    headline_winner,
    latency_ms,
    limit_verdict,
)
from hat_ray.report.render import render
from hat_ray.report.tables import Cell, Facts, Table

RUN_COLUMNS = (
    *("Run", "Recipe", "Corpus", "Space", "Seed", "Devices", "Scored", "Winners", "Wall time", "Busy cores"),
    *("Energy", "CO2e", "Written"),
)
WINNER_COLUMNS = (
    *("Run", "Limit", "Predicted", "Measured", "Keeps it", "BLEU", "Inherited", "From scratch"),
    *("Parameters", "Architecture"),
)
BOUNDS = "Bounds beside the latency"
"""The column after those, where a limit has such."""


def run_row(run: ComparedRun) -> list[str]:
    """Return a run as cells: what it was, and what it took."""
    data = run.data
    corpus = f"{data.corpus.source_language} → {data.corpus.target_language}, {data.corpus.train_pairs:,} pairs"
    winners = sum(model.kind == "winner" for model in data.chosen)
    return [
        run.label,
        data.name,
        corpus,
        data.space.name,
        str(data.provenance.seed),
        str(len(data.devices)),
        f"{len(data.candidates):,}",
        str(winners),
        *_cost(run),
        data.provenance.created[:10],
    ]


def _cost(run: ComparedRun) -> list[str]:
    ledger = run.data.ledger
    wall = sum(stage.seconds for stage in run.data.provenance.stages)
    if ledger is None:
        return [duration(wall), UNKNOWN, UNKNOWN, UNKNOWN]
    kwh = ledger.kwh(ledger.total)
    return [duration(wall), duration(ledger.total.core_s), energy(kwh), mass(ledger.co2_g(kwh))]


def winner_row(run: ComparedRun, model: ChosenModel, slug: str) -> list[str]:
    """Return a winner as cells."""
    latency = model.latency.get(slug, Latency())
    found = limit_verdict(model, slug)
    return [
        run.label,
        f"≤ {model.limit.text}" if model.limit else UNKNOWN,
        milliseconds(latency.predicted_ms),
        milliseconds(latency.measured_ms),
        f"{VERDICT_MARKS[found]} {found}".strip(),
        score_text(model),
        fixed(model.inherited_loss_bits, 3),
        fixed(model.trained_loss_bits, 3),
        count(model.params),
        model.architecture.id,
    ]


def _beside_latency(model: ChosenModel, slug: str) -> str:
    """Return the bounds of a winner's limit beside the latency, each with its verdict."""
    figures = [one for one in bound_figures(model, slug) if one.name != LATENCY]
    return ", ".join(f"{VERDICT_MARKS[one.verdict]} {one.text}".strip() for one in figures) or UNKNOWN


def device_sentences(shared: SharedDevice, cautions: Sequence[Caution]) -> list[str]:
    """Return the runs' results on one device, and which run is ahead where they compare."""
    slug = shared.device.slug
    sentences = [f"{'; '.join(_headline(run, slug) for run in shared.runs)}."]
    if len(shared.runs) < 2:
        return sentences
    counts = merged_frontier(shared)
    if sum(bool(run.data.frontier(slug)) for run in shared.runs) < 2:
        return sentences
    if not (comparable(cautions, "loss") and comparable(cautions, "latency")):
        return [*sentences, "Their frontiers do not compare: see the cautions."]
    shares = ", ".join(f"{many} by {letter}" for letter, many in counts.items())
    merged = f"The frontier of all these runs together has {sum(counts.values())} points: {shares}."
    note = "" if comparable(cautions, "space") else " Their search spaces differ."
    return [*sentences, f"{merged}{note}"]


def _headline(run: ComparedRun, slug: str) -> str:
    winner = headline_winner(run.data, slug)
    if winner is None:
        return f"{run.label} built no model for it"
    bleu = "no BLEU yet" if winner.bleu is None else f"{fixed(winner.bleu, 1)} BLEU"
    return f"{run.label}: {bleu} at {milliseconds(latency_ms(winner, slug))}"


NAVIGATION = (
    ("runs", "Runs"),
    ("overlay", "Frontiers"),
    ("winners", "Winners"),
    ("settings", "Settings"),
    ("sources", "Sources"),
)


@dataclass(frozen=True)
class LinkedTable:
    """A table and its data behind a link."""

    table: Table
    csv: Figure


@dataclass(frozen=True)
class Winners:
    """The winners of all runs on one device; no table where there are none."""

    device: str
    sentences: str
    shown: LinkedTable | None


@dataclass(frozen=True)
class ComparisonView:
    """What the page of a comparison shows."""

    heading: str
    line: str
    cautions: tuple[str, ...]
    runs: LinkedTable
    overlay: tuple[FigureGroup, ...]
    """The devices that several runs have."""
    alone: tuple[str, ...]
    """The devices of one run only, with its letter."""
    winners: tuple[Winners, ...]
    settings: LinkedTable | None
    """The settings in which the recipes differ."""
    sources: tuple[tuple[str, Facts], ...]
    first: str = "#runs"
    limit_rule: str = VERDICT_RULE

    @property
    def navigation(self) -> list[tuple[str, str]]:
        return [(id, text) for id, text in NAVIGATION if id != "winners" or self.winners]

    @property
    def figures(self) -> list[Figure]:
        return [figure for group in self.overlay for figure in group.figures]


def comparison_page(runs: Sequence[ComparedRun]) -> str:
    """Return the page's HTML."""
    return render("comparison.html.j2", comparison_view(runs))


def comparison_view(runs: Sequence[ComparedRun]) -> ComparisonView:
    """Return the content of a comparison's page."""
    warned, devices = cautions(runs), devices_of(runs)
    shared = [one for one in devices if len(one.runs) > 1]
    many = f"{len(shared)} device{'s' if len(shared) != 1 else ''} that runs share" if shared else "no device in common"
    return ComparisonView(
        heading=f"{len(runs)} runs compared",
        line=f"{' · '.join(run.name for run in runs)} · {many}",
        cautions=tuple(one.text for one in warned),
        runs=_linked(
            "runs-table", "The runs", Table("The runs", RUN_COLUMNS, [run_row(run) for run in runs], text_columns=4)
        ),
        overlay=tuple(_figures(runs, one, warned, i) for i, one in enumerate(shared)),
        alone=tuple(f"{one.device.title} ({one.runs[0].run_label})" for one in devices if len(one.runs) == 1),
        winners=tuple(_winners(one, warned, i) for i, one in enumerate(devices)),
        settings=_settings(runs),
        sources=tuple((run.label, _source(run)) for run in runs),
    )


def _linked(id: str, title: str, table: Table) -> LinkedTable:
    rows = [[cell.text for cell in row] for row in table.cells]
    return LinkedTable(table, data_only(id, title, table.columns, rows))


def _figures(runs: Sequence[ComparedRun], shared: SharedDevice, warned: Sequence[Caution], number: int) -> FigureGroup:
    drawn = (overlay(runs, shared, warned, f"overlay-{number}"), delivered(runs, shared, warned, f"delivered-{number}"))
    title = f"{shared.device.title}: {', '.join(run.run_label for run in shared.runs)}"
    return FigureGroup(title, tuple(one for one in drawn if one is not None))


def _winners(shared: SharedDevice, warned: Sequence[Caution], number: int) -> Winners:
    device = shared.device
    winners = [(run, model) for run in shared.runs for model in run.data.winners(device.slug)]
    rows = [winner_row(run, model, device.slug) for run, model in winners]
    columns: tuple[str, ...] = WINNER_COLUMNS
    if any(model.quantities for _, model in winners):
        columns = (*WINNER_COLUMNS, BOUNDS)
        rows = [[*row, _beside_latency(model, device.slug)] for row, (_, model) in zip(rows, winners, strict=True)]
    table = Table(f"Winners on {device.title}", columns, rows)
    shown = _linked(f"winners-{number}", "Winners", table) if rows else None
    return Winners(device.title, " ".join(device_sentences(shared, warned)), shown)


def _settings(runs: Sequence[ComparedRun]) -> LinkedTable | None:
    differences = recipe_differences(runs)
    if not differences:
        return None
    columns = ("Setting", *(run.label for run in runs))
    rows = [[Cell(key, style="code"), *(Cell(one, style="setting") for one in values)] for key, values in differences]
    return _linked("settings-table", "Settings", Table("Settings that differ", columns, rows, len(columns)))


def _source(run: ComparedRun) -> Facts:
    """Return where a run is and what made it."""
    source, space, signature = run.data.provenance, run.data.space, run.data.bleu_signature
    return {
        "Folder": Cell(run.place, style="code"),
        "Report written": source.created,
        "Commit": Cell(source.commit, style="code") if source.commit else UNKNOWN,
        "Search space": f"{space.name} ({space.id}): {space.size} architectures",
        "BLEU": Cell(signature, style="code") if signature else UNKNOWN,
        "Versions": ", ".join(f"{name} {version}" for name, version in source.versions.items()) or UNKNOWN,
    }
