"""Write a report: the page of one run and the same figures as JSON.

A page is one file that opens without a network and runs no script but its own three. Templates escape all that they
are given; a typed view holds what each section shows, and a section whose view is empty is left out.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from hat_ray.core.codec import read, write
from hat_ray.report.chart import MARKS, Figure, FigureGroup
from hat_ray.report.data import ReportData
from hat_ray.report.network import short
from hat_ray.report.topics.cost import Cost, cost
from hat_ray.report.topics.devices.section import Preferences, Runtimes, preferences, runtimes
from hat_ray.report.topics.limits.fronts import found
from hat_ray.report.topics.limits.section import Decided, decided
from hat_ray.report.topics.models import (
    Card,
    Network,
    Origin,
    Results,
    Translations,
    cards,
    networks,
    origin,
    results,
    translations,
)
from hat_ray.report.topics.predictor import method
from hat_ray.report.topics.ranking import Study, policies, ranking
from hat_ray.report.topics.search import progress
from hat_ray.report.topics.sweep import Sweep, sweep
from hat_ray.report.topics.training import Training, training
from hat_ray.storage.folder import Folder

PAGE, FIGURES = "report.html", "report.json"

NAVIGATION = (
    ("results", "Models"),
    ("frontier", "Frontier"),
    ("bounds", "Bounds"),
    ("networks", "Architectures"),
    ("devices", "Devices"),
    ("method", "Latency"),
    ("sweep", "Dimensions"),
    ("search", "Search"),
    ("training", "Training"),
    ("ranking", "Ranking"),
    ("policies", "Policies"),
    ("translations", "Translations"),
    ("cost", "Cost"),
    ("provenance", "Provenance"),
)


class View(Protocol):
    """What the frame of a page shows: its heading, a line below it, and its sections."""

    @property
    def heading(self) -> str: ...
    @property
    def line(self) -> str: ...
    @property
    def first(self) -> str:
        """Return the link to where the results begin."""

    @property
    def navigation(self) -> Sequence[tuple[str, str]]:
        """Return the id and the name of each section."""

    @property
    def figures(self) -> Sequence[Figure]:
        """Return the figures that the page's script draws."""


@dataclass(frozen=True)
class RunView:
    """What the page of one run shows: a field for each section, named as its anchor."""

    heading: str
    line: str
    source_language: str
    target_language: str
    cards: tuple[Card, ...]
    results: Results | None
    frontier: tuple[FigureGroup, ...]
    bounds: Decided | None
    networks: tuple[Network, ...]
    preferences: Preferences | None
    runtimes: Runtimes | None
    method: tuple[FigureGroup, ...]
    sweep: Sweep | None
    search: tuple[FigureGroup, ...]
    training: Training | None
    ranking: Study | None
    policies: Study | None
    translations: tuple[Translations, ...]
    cost: Cost | None
    provenance: Origin
    begun: str = "from scratch"
    """What the models' training started from."""
    times: bool = True
    """Whether the run timed on any of its devices."""
    first: str = "#summary"

    @property
    def devices(self) -> bool:
        """Whether the section of devices side by side has anything to show."""
        return self.preferences is not None or self.runtimes is not None

    @property
    def navigation(self) -> list[tuple[str, str]]:
        return [(id, text) for id, text in NAVIGATION if getattr(self, id)]

    @property
    def figures(self) -> list[Figure]:
        sections = (getattr(self, section.name) for section in fields(self))
        groups = (group for section in sections for group in (section if isinstance(section, tuple) else (section,)))
        return [figure for group in groups for figure in getattr(group, "figures", ())]


def run_view(data: ReportData) -> RunView:
    """Return the content of a run's page."""
    corpus, many = data.corpus, len(data.devices)
    return RunView(
        heading=data.name,
        line=(
            f"{corpus.source_language} → {corpus.target_language} · {len(data.candidates):,} architectures scored · "
            f"{many} device{'s' if many != 1 else ''} · {data.provenance.created[:10]}"
        ),
        source_language=corpus.source_language,
        target_language=corpus.target_language,
        cards=cards(data),
        results=results(data),
        frontier=found(data),
        bounds=decided(data),
        networks=networks(data),
        preferences=preferences(data),
        runtimes=runtimes(data),
        method=method(data),
        sweep=sweep(data.sweep),
        search=progress(data),
        training=training(data),
        ranking=ranking(data.ranking),
        policies=policies(data.policies),
        translations=translations(data),
        cost=cost(data),
        provenance=origin(data),
        begun=data.begun,
        times=not data.devices or any(device.attached for device in data.devices),
    )


def page(data: ReportData) -> str:
    """Return the HTML of a run's page."""
    return render("run.html.j2", run_view(data))


def render(template: str, view: View) -> str:
    """Return the HTML of a page."""
    scripts = (_plotly(), _asset("page.js"))
    return (
        _templates()
        .get_template(template)
        .render(
            view=view,
            plots={figure.id: figure.drawn() for figure in view.figures},
            marks=MARKS,
            policy=_policy(scripts),
            style=embedded(_asset("page.css"), "style"),
            scripts=[embedded(source, "script") for source in scripts],
        )
    )


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("hat_ray.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    made.filters["short"] = short
    return made


def embedded(source: str, element: str) -> Markup:
    """Return our own style sheet or a script as HTML; refuse text that would end its element."""
    if f"</{element}" in source.lower() or "<!--" in source:
        raise ValueError(f"embedded {element} text must not contain </{element} or <!--")
    return Markup(source)


def _policy(scripts: Sequence[str]) -> str:
    """Allow our inline scripts by their hashes and nothing from anywhere else."""
    hashes = " ".join(script_hash(source) for source in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def script_hash(source: str) -> str:
    """Return the token by which a Content-Security-Policy allows exactly this inline script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


@cache
def _asset(name: str) -> str:
    return files("hat_ray.report").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    return str(get_plotlyjs()).replace("\r\n", "\n")


def write_report(data: ReportData, folder: Folder) -> None:
    """Write `report.json` and `report.html`, each whole or not at all."""
    content = page(data)
    write(folder, FIGURES, data)
    folder.write_text(PAGE, content)


def read_report(folder: Folder) -> ReportData:
    """Read the figures of a written report."""
    return read(folder, FIGURES, ReportData, "write the report again")
