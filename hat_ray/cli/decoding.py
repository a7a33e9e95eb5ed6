"""The options of `Decoding`, by its names: made from its table, and a section of their own in the help."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from hat_ray.model.hypotheses.knobs import KNOBS, Decoding

DETAILS = "details"
_MORE = {
    "prefix": (str, "", "Text that every translation begins with."),
    "alignments": (bool, False, "Align sub-words with those of the source, by attention; in the details."),
    DETAILS: (bool, False, "Print each line's hypotheses with scores, as one JSON object a line."),
}


class DecodingCommand(TyperCommand):
    """A command whose help lists the options of decoding apart."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the sections of options."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], "Decoding": []}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None and parameter.param_type_name == "option":
                sections["Decoding" if parameter.name in (*KNOBS, *_MORE) else "Options"].append(record)
        for name, records in sections.items():
            with formatter.section(name):
                formatter.write_dl(records)


def with_decoding(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of decoding, in the place of its parameters `decoding` and `details`.

    `details` is true where an option asks for more than one text a line. Its own option `beam` is the request's.
    """
    names = [*(name for name in KNOBS if name != "beam"), *_MORE]

    @functools.wraps(command)
    def called(**given: Any) -> None:
        chosen = {name: given.pop(name) for name in names}
        details = chosen.pop(DETAILS)
        decoding = replace(Decoding(beam=given.get("beam")), **chosen)
        command(**given, decoding=decoding, details=details or decoding.n_best > 1 or decoding.alignments)

    signature = inspect.signature(command)
    own = [one for name, one in signature.parameters.items() if name not in ("decoding", DETAILS)]
    called.__signature__ = signature.replace(parameters=[*own, *map(_parameter, names)])  # type: ignore[attr-defined]
    return called


def _parameter(name: str) -> inspect.Parameter:
    flag = f"--{name.replace('_', '-')}"
    if name in _MORE:
        kind, default, help_text = _MORE[name]
        option = typer.Option(flag, help=help_text, show_default=False)
    else:
        default, knob = getattr(Decoding(), name), KNOBS[name]
        kind = bool if isinstance(default, bool) else int if isinstance(default, int) or name == "seed" else float
        bounds: dict[str, Any] = {} if kind is bool else {"min": knob.least, "max": knob.most}
        option = typer.Option(flag, help=knob.help, show_default=False, **bounds)
    given: Any = kind | None if default is None else kind
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[given, option])
