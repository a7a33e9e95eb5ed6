"""The page that compares several runs.

What a comparison of runs says, in sentences and table cells; the page and `--json` rest on the same figures.
"""

from collections.abc import Sequence
from typing import Any

from hat_ray.core.text import UNKNOWN, count, duration, energy, fixed, limit, mass, milliseconds
from hat_ray.report.chart import Figure
from hat_ray.report.comparison.charts import delivered, overlay
from hat_ray.report.comparison.runs import (
    Caution,
    ComparedRun,
    SharedDevice,
    cautions,
    comparable,
    devices_of,
    frontier_of,
    merged_frontier,
    recipe_differences,
)
from hat_ray.report.data import ChosenModel
from hat_ray.report.html import Child, Markup, element, join
from hat_ray.report.parts import csv_link, facts, figure, section, table
from hat_ray.report.reading import VERDICT_MARKS, VERDICT_RULE, headline_winner, latency_ms, limit_verdict
from hat_ray.report.render import whole_page

RUN_COLUMNS = (
    *("Run", "Recipe", "Corpus", "Space", "Seed", "Devices", "Scored", "Winners", "Wall time", "Busy cores"),
    *("Energy", "CO2e", "Written"),
)
WINNER_COLUMNS = (
    *("Run", "Limit", "Predicted", "Measured", "Keeps it", "BLEU", "Inherited", "From scratch"),
    *("Parameters", "Architecture"),
)


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
    latency = model.latency.get(slug)
    found = limit_verdict(model, slug)
    return [
        run.label,
        f"≤ {limit(model.limit_ms)}",
        milliseconds(latency.predicted_ms if latency else None),
        milliseconds(latency.measured_ms if latency else None),
        f"{VERDICT_MARKS[found]} {found}".strip(),
        fixed(model.bleu, 1),
        fixed(model.inherited_loss, 3),
        fixed(model.scratch_loss, 3),
        count(model.params),
        model.architecture.id,
    ]


def device_sentences(shared: SharedDevice, cautions: Sequence[Caution]) -> list[str]:
    """Say what the runs found on one device, and who is ahead where that may be said."""
    slug = shared.device.slug
    told = [_headline(run, slug) for run in shared.runs]
    sentences = [f"{'; '.join(told)}."]
    if len(shared.runs) < 2:
        return sentences
    counts = merged_frontier(shared)
    if sum(bool(frontier_of(run, slug)) for run in shared.runs) < 2:
        return sentences
    if not (comparable(cautions, "loss") and comparable(cautions, "latency")):
        return [*sentences, "Their frontiers cannot be held against one another: see the cautions."]
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


def comparison_to_json(
    runs: Sequence[ComparedRun], devices: Sequence[SharedDevice], cautions: Sequence[Caution]
) -> dict[str, Any]:
    """Return what the page shows as plain JSON values."""
    return {
        "runs": [_run_to_json(run) for run in runs],
        "devices": [_device_to_json(shared, cautions) for shared in devices],
        "recipe_differences": {
            key: dict(zip([run.letter for run in runs], values, strict=True))
            for key, values in recipe_differences(runs)
        },
        "cautions": [{"about": caution.what, "text": caution.text} for caution in cautions],
    }


def _run_to_json(run: ComparedRun) -> dict[str, Any]:
    data, ledger = run.data, run.data.ledger
    corpus = data.corpus
    kwh = None if ledger is None else ledger.kwh(ledger.total)
    return {
        "run": run.letter,
        "name": run.name,
        "place": run.place,
        "recipe": data.name,
        "corpus": {
            "source_language": corpus.source_language,
            "target_language": corpus.target_language,
            "train_pairs": corpus.train_pairs,
            "test_pairs": corpus.test_pairs,
            "fingerprint": corpus.fingerprint,
            "test_set": corpus.test_set,
        },
        "space": {"name": data.space.name, "id": data.space.id},
        "seed": data.provenance.seed,
        "created": data.provenance.created,
        "devices": [device.slug for device in data.devices],
        "candidates": len(data.candidates),
        "wall_s": sum(stage.seconds for stage in data.provenance.stages),
        "core_s": None if ledger is None else ledger.total.core_s,
        "gpu_s": None if ledger is None else ledger.total.gpu_s,
        "energy_kwh": kwh,
        "co2e_g": None if ledger is None or kwh is None else ledger.co2_g(kwh),
    }


def _device_to_json(shared: SharedDevice, cautions: Sequence[Caution]) -> dict[str, Any]:
    slug = shared.device.slug
    may = comparable(cautions, "loss") and comparable(cautions, "latency")
    return {
        "device": slug,
        "title": shared.device.title,
        "runs": [run.letter for run in shared.runs],
        "winners": [_model_to_json(run, model, slug) for run in shared.runs for model in run.data.winners(slug)],
        "frontiers": {
            run.letter: [
                {"id": one.architecture.id, "loss_bits": one.loss, "predicted_ms": one.predicted_ms[slug]}
                for one in frontier_of(run, slug)
            ]
            for run in shared.runs
        },
        "merged_frontier": merged_frontier(shared) if may and len(shared.runs) > 1 else None,
    }


def _model_to_json(run: ComparedRun, model: ChosenModel, slug: str) -> dict[str, Any]:
    latency = model.latency.get(slug)
    return {
        "run": run.letter,
        "limit_ms": model.limit_ms,
        "predicted_ms": latency.predicted_ms if latency else None,
        "measured_ms": latency.measured_ms if latency else None,
        "bleu": model.bleu,
        "limit": str(limit_verdict(model, slug)),
        "inherited_loss_bits": model.inherited_loss,
        "scratch_loss_bits": model.scratch_loss,
        "params": model.params,
        "id": model.architecture.id,
    }


NAVIGATION = (
    ("runs", "Runs"),
    ("overlay", "Frontiers"),
    ("winners", "Winners"),
    ("settings", "Settings"),
    ("sources", "Sources"),
)


def comparison_page(runs: Sequence[ComparedRun]) -> str:
    """Return the page's HTML."""
    warned, devices = cautions(runs), devices_of(runs)
    drawn = [_figures(runs, shared, warned, i) for i, shared in enumerate(devices) if len(shared.runs) > 1]
    shown = [
        one
        for one in (
            _runs(runs, warned),
            _overlay(devices, drawn),
            _winners(devices, warned),
            _settings(runs),
            _sources(runs),
        )
        if one
    ]
    title = f"{len(runs)} runs compared"
    return whole_page(
        f"{title} · hat-ray", "#runs", _header(runs, title, devices), shown, [one for group in drawn for one in group]
    )


def _figures(runs: Sequence[ComparedRun], shared: SharedDevice, warned: Sequence[Caution], number: int) -> list[Figure]:
    builders = ((overlay, f"overlay-{number}"), (delivered, f"delivered-{number}"))
    return [one for builder, id in builders if (one := builder(runs, shared, warned, id))]


def _header(runs: Sequence[ComparedRun], title: str, devices: Sequence[SharedDevice]) -> Markup:
    together = sum(len(one.runs) > 1 for one in devices)
    shared = f"{together} device{'s' if together != 1 else ''} that runs share" if together else "no device in common"
    links = [element("a", text, href=f"#{id}") for id, text in NAVIGATION if id != "winners" or devices]
    return element(
        "header",
        element("p", "hat-ray report", class_="eyebrow"),
        element("h1", title),
        element("p", f"{' · '.join(run.name for run in runs)} · {shared}", class_="quiet"),
        element("nav", links, aria_label="Sections"),
    )


def _runs(runs: Sequence[ComparedRun], warned: Sequence[Caution]) -> Markup:
    """What was compared, and what must not be."""
    rows: list[list[Child]] = [[*run_row(run)] for run in runs]
    figure_of = Figure("runs-table", "The runs", "", [], {}, RUN_COLUMNS, [run_row(run) for run in runs])
    return section(
        "runs",
        "The runs",
        "A letter names each run everywhere on this page.",
        _cautions(warned),
        table(RUN_COLUMNS, rows, caption="The runs", text_columns=4),
        element("p", csv_link(figure_of, "The runs as CSV")),
    )


def _cautions(warned: Sequence[Caution]) -> Markup:
    if not warned:
        text = "Text, test set, search space and what was translated while timing are the same: the figures compare."
        return element("p", text, class_="finding")
    heading = element("h3", "Not everything compares")
    return element("div", heading, element("ul", [element("li", one.text) for one in warned], class_="said"))


def _overlay(devices: Sequence[SharedDevice], drawn: Sequence[Sequence[Figure]]) -> Markup:
    """Figures for every device that runs share; the others are named."""
    shared = [one for one in devices if len(one.runs) > 1]
    alone = [one for one in devices if len(one.runs) == 1]
    groups: list[Child] = [
        join(
            element("p", f"{one.device.title}: {', '.join(run.letter for run in one.runs)}", class_="device"),
            element("div", [figure(each) for each in group], class_="figures") if group else None,
        )
        for one, group in zip(shared, drawn, strict=True)
    ]
    lead = "For each device that several runs have." if shared else "No two of these runs have a device in common."
    rest = f"In one run only: {'; '.join(f'{one.device.title} ({one.runs[0].letter})' for one in alone)}."
    return section(
        "overlay", "Frontiers, overlaid", lead, groups, element("p", rest, class_="quiet") if alone else None
    )


def _winners(devices: Sequence[SharedDevice], warned: Sequence[Caution]) -> Markup | None:
    """Each run's winners, device by device."""
    blocks = []
    for i, one in enumerate(devices):
        rows = [
            winner_row(run, model, one.device.slug) for run in one.runs for model in run.data.winners(one.device.slug)
        ]
        shown: list[list[Child]] = [[*row] for row in rows]
        data = Figure(f"winners-{i}", "Winners", "", [], {}, WINNER_COLUMNS, rows)
        made = (
            join(
                table(WINNER_COLUMNS, shown, caption=f"Winners on {one.device.title}"),
                element("p", csv_link(data, "The winners as CSV")),
            )
            if rows
            else None
        )
        said = element("p", " ".join(device_sentences(one, warned)), class_="lead")
        blocks.append(join(element("h3", one.device.title), said, made))
    lead = f"Measured milliseconds are medians. {VERDICT_RULE}."
    return section("winners", "The winners", lead, blocks) if blocks else None


def _settings(runs: Sequence[ComparedRun]) -> Markup:
    """The settings in which the recipes differ, side by side."""
    differences = recipe_differences(runs)
    if not differences:
        return section("settings", "What differs in the recipes", "Nothing: all settings are the same.")
    columns = ("Setting", *(run.label for run in runs))
    rows: list[list[Child]] = [
        [element("code", key), *(element("span", value, class_="setting") for value in values)]
        for key, values in differences
    ]
    data = Figure("settings-table", "Settings", "", [], {}, columns, [[key, *values] for key, values in differences])
    return section(
        "settings",
        "What differs in the recipes",
        "Settings that are the same in all runs are left out.",
        table(columns, rows, caption="Settings that differ", text_columns=len(columns)),
        element("p", csv_link(data, "The settings as CSV")),
    )


def _sources(runs: Sequence[ComparedRun]) -> Markup:
    """Where each run is and what made it."""
    blocks = [
        join(
            element("h3", run.label),
            facts(
                {
                    "Folder": element("code", run.place),
                    "Report written": run.data.provenance.created,
                    "Commit": element("code", run.data.provenance.commit) if run.data.provenance.commit else UNKNOWN,
                    "Search space": f"{run.data.space.name} ({run.data.space.id}): {run.data.space.size} architectures",
                    "BLEU": element("code", run.data.bleu_signature) if run.data.bleu_signature else UNKNOWN,
                    "Versions": ", ".join(f"{k} {v}" for k, v in run.data.provenance.versions.items()) or UNKNOWN,
                }
            ),
        )
        for run in runs
    ]
    return section("sources", "Where the figures come from", "Each run's own report tells more.", blocks)
