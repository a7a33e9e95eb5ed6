"""The page that compares several runs."""

from collections.abc import Sequence

from hat_ray.report.compare import Caution, ComparedRun, SharedDevice, cautions, devices_of, recipe_differences
from hat_ray.report.compare_figures import delivered, overlay
from hat_ray.report.compare_words import RUN_COLUMNS, WINNER_COLUMNS, device_sentences, run_row, winner_row
from hat_ray.report.figure import Figure
from hat_ray.report.html import Child, Markup, element, join
from hat_ray.report.numbers import UNKNOWN
from hat_ray.report.parts import csv_link, facts, figure, section, table
from hat_ray.report.shell import whole_page

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
    lead = "Measured milliseconds are medians; a limit is kept when they are at most 10 % over it."
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
