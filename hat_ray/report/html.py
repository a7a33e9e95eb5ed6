"""A small HTML builder that escapes by construction.

A `str` child or attribute value is always text and always escaped; only `Markup` passes as it is, and only this file
makes it. So no caller can forget to escape, and a name such as `<script>` in a recipe stays a name.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import TypeAlias

_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9-]*$")
_VOID = {"br", "col", "hr", "img", "input", "link", "meta"}
_RAW = {"script", "style"}  # elements whose content HTML does not unescape: built by the functions below alone
_SAFE_LINK = re.compile(r"^(#|data:(text/csv|application/json)[;,])")


@dataclass(frozen=True, slots=True)
class Markup:
    """HTML that is known to be safe."""

    text: str


Child: TypeAlias = "Markup | str | int | float | Iterable[Child] | None"
Attribute: TypeAlias = "str | int | float | bool | None"


def element(tag: str, *children: Child, **attributes: Attribute) -> Markup:
    """Build one element. `class_` is `class` and `stroke_width` is `stroke-width`; None and False leave one out."""
    if not _NAME.match(tag) or tag in _RAW:
        raise ValueError(f"an element must have a plain name and escaped content, got {tag!r}")
    opening = f"<{tag}{''.join(_attribute(name, value) for name, value in attributes.items())}>"
    if tag in _VOID:
        return Markup(opening)
    return Markup(f"{opening}{_content(children)}</{tag}>")


def join(*children: Child) -> Markup:
    """Put children one after another without an element around them."""
    return Markup(_content(children))


def style(css: str) -> Markup:
    """Embed our own style sheet."""
    return Markup(f"<style>{_closed(css, 'style')}</style>")


def script(source: str) -> Markup:
    """Embed our own or a library's script."""
    return Markup(f"<script>{_closed(source, 'script')}</script>")


def script_hash(source: str) -> str:
    """Return the token by which a Content-Security-Policy allows exactly this inline script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def json_script(id: str, value: object) -> Markup:
    """Embed data that a script reads by `id`; no value can end the element or be read as markup."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))  # ASCII: U+2028 is escaped
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Markup(f'<script type="application/json" id="{escape(id)}">{text}</script>')


def document(head: Child, body: Child, *, language: str) -> str:
    """Return the text of a whole page."""
    page = element("html", element("head", head), element("body", body), lang=language)
    return f"<!doctype html>\n{page.text}\n"


def _content(children: Iterable[Child]) -> str:
    return "".join(_text(child) for child in children)


def _text(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child.text
    if isinstance(child, str | int | float):
        return escape(str(child))
    return _content(child)


def _attribute(name: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    if not _NAME.match(name) or name.lower().startswith("on") or name == "style":
        raise ValueError(f"an attribute must have a plain name and be neither a handler nor a style, got {name!r}")
    if name in ("href", "src") and not _SAFE_LINK.match(str(value)):
        raise ValueError(f"a link must stay inside the page or hold data, got {str(value)[:80]!r}")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'


def _closed(source: str, tag: str) -> str:
    """Refuse text that would end its own element."""
    if f"</{tag}" in source.lower() or "<!--" in source:
        raise ValueError(f"embedded {tag} text must not contain </{tag} or <!--")
    return source
