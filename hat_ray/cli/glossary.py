"""The options of `hat-ray translate` for what must not change, and the file of fixed terms."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hat_ray.errors import RunError

if TYPE_CHECKING:
    from hat_ray.corpus.protection.terms import Terms

NoProtectOpt = Annotated[
    bool, typer.Option("--no-protect", help="Translate URLs, numbers, placeholders and mark-up as words.")
]
GlossaryOpt = Annotated[
    Path | None,
    typer.Option("--glossary", metavar="FILE", help="Fixed terms: lines of a term, a tab, its translation."),
]


def glossary_terms(path: Path | None, *, unfit: bool) -> "Terms | None":
    """Return the terms of a glossary that an option names; raise HatRayError, in one line, where it is none.

    `unfit`: other options leave no place for it.
    """
    if path is None:
        return None
    if unfit:
        raise RunError("--glossary is not for --no-protect, --score, --prefix or hypotheses: leave it or them out")
    from hat_ray.export.stream import read_glossary

    return read_glossary(path, "--glossary: file")
