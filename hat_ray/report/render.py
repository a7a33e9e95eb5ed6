"""The page of one run, whole.

The frame of every page: one file that opens without a network and runs no script but its own three.

Write a report: the page and the same figures as JSON.
"""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from plotly.offline import get_plotlyjs

from hat_ray.core.codec import read, write
from hat_ray.report.chart import Figure
from hat_ray.report.data import ReportData
from hat_ray.report.html import Child, Markup, document, element, json_script, script, script_hash, style
from hat_ray.report.parts import section
from hat_ray.report.topics import cost as ledger_sections
from hat_ray.report.topics import device_charts as likes_figures
from hat_ray.report.topics import devices as likes_sections
from hat_ray.report.topics import frontier as frontier_figures
from hat_ray.report.topics import models as sections
from hat_ray.report.topics import predictor as predictor_figures
from hat_ray.report.topics import ranking as rank_sections
from hat_ray.report.topics import search as method_figures
from hat_ray.report.topics import sweep as sweep_figures
from hat_ray.report.topics import sweep as sweep_sections
from hat_ray.report.topics.device_preferences import likes
from hat_ray.storage.folder import Folder


def whole_page(title: str, first: str, header: Markup, main: Child, drawn: Sequence[Figure]) -> str:
    """Return a page's HTML; `first` links to where the results begin, `drawn` are the figures that stand in `main`."""
    head = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy()),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        style(_asset("page.css")),
    ]
    body = [
        element("a", "Skip to the results", href=first, class_="skip"),
        header,
        element("main", main),
        element("footer", element("p", "Made by hat-ray: hardware-aware Transformers, found on Ray.")),
        json_script("figures", {figure.id: figure.drawn() for figure in drawn}),
        script(_plotly()),
        script(_asset("page.js")),
    ]
    return document(head, body, language="en")


def _policy() -> str:
    """Allow our three inline scripts by their hashes and nothing from anywhere else."""
    scripts = " ".join(script_hash(source) for source in (_plotly(), _asset("page.js")))
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _asset(name: str) -> str:
    return files("hat_ray.report").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    return str(get_plotlyjs()).replace("\r\n", "\n")


PAGE, FIGURES = "report.html", "report.json"


def write_report(data: ReportData, folder: Folder) -> None:
    """Write `report.json` and `report.html`, each whole or not at all."""
    content = page(data)
    write(folder, FIGURES, data)
    folder.write_text(PAGE, content)


def read_report(folder: Folder) -> ReportData:
    """Read the figures of a written report."""
    return read(folder, FIGURES, ReportData, "write the report again")


NAVIGATION = (
    ("results", "Models"),
    ("frontier", "Frontier"),
    ("networks", "Architectures"),
    ("devices", "Devices"),
    ("method", "Latency"),
    ("sweep", "Dimensions"),
    ("search", "Search"),
    ("health", "Ranking"),
    ("policies", "Policies"),
    ("translations", "Translations"),
    ("cost", "Cost"),
    ("provenance", "Provenance"),
)


def page(data: ReportData) -> str:
    """Return the page's HTML."""
    found, method, search = _found(data), _method(data), _search(data)
    health, policies = rank_sections.health_figures(data), rank_sections.policy_figures(data)
    liked = likes(data)
    tastes = likes_figures.likes_figures(liked)
    sweep, rank = sweep_figures.sweep_figures(data.sweep), health + policies
    drawn = [figure for group in (*found, tastes, *method, sweep, *search) for figure in group] + _training(data) + rank
    beside = likes_sections.devices(data, liked, tastes)
    shown = [one for one in _sections(data, found, beside, method, sweep, search, health, policies) if one]
    return whole_page(f"{data.name} · hat-ray", "#summary", _header(data, shown), shown, drawn)


def _sections(
    data: ReportData,
    found: list[list[Figure]],
    beside: Markup | None,
    method: list[list[Figure]],
    sweep: list[Figure],
    search: list[list[Figure]],
    health: list[Figure],
    policies: list[Figure],
) -> list[Markup | None]:
    many = len(data.devices) > 1
    return [
        sections.summary(data),
        sections.results(data),
        sections.figures_of("frontier", "What is possible", "", data, found),
        sections.networks(data),
        beside,
        sections.figures_of(
            "method",
            "Where latency comes from",
            "Latency is measured, then predicted for architectures that were not timed."
            if not many
            else "Latency is measured on each device, then predicted for architectures that were not timed.",
            data,
            method,
        ),
        sweep_sections.sweep(data, sweep),
        _search_section(data, search),
        rank_sections.health(data, health),
        rank_sections.policies(data, policies),
        sections.translations(data),
        ledger_sections.cost(data),
        sections.provenance(data),
    ]


def _found(data: ReportData) -> list[list[Figure]]:
    builders = (frontier_figures.frontier, frontier_figures.delivered)
    return [
        [one for builder in builders if (one := builder(data, device, f"{builder.__name__}-{i}"))]
        for i, device in enumerate(data.devices)
    ]


def _method(data: ReportData) -> list[list[Figure]]:
    groups = []
    for i, device in enumerate(data.devices):
        facts = next((facts for facts in data.predictors if facts.device == device.slug), None)
        predicted = predictor_figures.predictor_figures(facts, i) if facts else []
        flops = method_figures.flops_against_latency(data, device, f"flops-{i}")
        groups.append([*predicted, *([flops] if flops else [])])
    return groups


def _search(data: ReportData) -> list[list[Figure]]:
    progress = [method_figures.search_progress(data, device, f"search-{i}") for i, device in enumerate(data.devices)]
    return [[one] if one else [] for one in progress]


def _training(data: ReportData) -> list[Figure]:
    supernet = method_figures.training(
        data.supernet,
        "Training the SuperTransformer",
        "Validation loss of SubTransformers that share its weights.",
        "supernet",
    )
    retraining = method_figures.training(
        data.retraining,
        "Training from scratch",
        "Validation loss of the models that were built, at equal numbers of updates.",
        "retraining",
    )
    return [one for one in (supernet, retraining) if one]


def _search_section(data: ReportData, search: list[list[Figure]]) -> Markup | None:
    lead = "One search serves every device and every limit: the loss of an architecture does not depend on the device."
    shown = [sections.titled(data, i, one) for i, group in enumerate(search) for one in group]
    shown += [sections.titled(data, None, one) for one in _training(data)]
    return section("search", "How it was found", lead, element("div", shown, class_="figures")) if shown else None


def _header(data: ReportData, shown: list[Markup]) -> Markup:
    corpus = data.corpus
    line = f"{corpus.source_language} → {corpus.target_language} · {len(data.candidates):,} architectures scored"
    devices = f"{len(data.devices)} device{'s' if len(data.devices) != 1 else ''}"
    there = {id for id, _ in NAVIGATION if any(f'<section id="{id}"' in one.text for one in shown)}
    links = [element("a", text, href=f"#{id}") for id, text in NAVIGATION if id in there]
    return element(
        "header",
        element("p", "hat-ray report", class_="eyebrow"),
        element("h1", data.name),
        element("p", f"{line} · {devices} · {data.provenance.created[:10]}", class_="quiet"),
        element("nav", links, aria_label="Sections"),
    )
