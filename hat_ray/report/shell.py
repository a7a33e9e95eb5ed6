"""The frame of every page: one file that opens without a network and runs no script but its own three."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from plotly.offline import get_plotlyjs

from hat_ray.report.figure import Figure
from hat_ray.report.html import Child, Markup, document, element, json_script, script, script_hash, style


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
