"""The two pages of the service: one to type into, and its OpenAPI description to read.

They load nothing from anywhere: their own style and script stand inside, allowed by their hashes. What they show is
text, never markup.
"""

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

from hat_ray.serve import libretranslate
from hat_ray.serve.requests import RequestReader

_MOST_ALTERNATIVES = 5


def translation_page(reader: RequestReader) -> HTMLResponse:
    """Return the page to type into."""
    pair = None
    if reader.languages is not None:
        pair = [libretranslate.named(code) for code in reader.languages]
    most = min(reader.options.max_beam - 1, _MOST_ALTERNATIVES)
    return _page("page.html.j2", pair=pair, most_alternatives=most)


def description_page(document: Mapping[str, Any]) -> HTMLResponse:
    """Return the OpenAPI description as a page."""
    return _page("docs.html.j2", document=document)


def _page(template: str, **values: Any) -> HTMLResponse:
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    text = _templates().get_template(template).render(style=Markup(style), script=Markup(script), **values)
    return HTMLResponse(text, headers=headers)


def _hash(source: str) -> str:
    """Return the token by which a Content-Security-Policy allows exactly this style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


@cache
def _asset(name: str) -> str:
    return files("hat_ray.serve").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("hat_ray.serve", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
