"""Docstrings, comments, messages and pages use the standard verbs: report, return, resume, refuse."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(
    [
        *(path for folder in ("hat_ray", "jobs") for path in (ROOT / folder).rglob("*.py")),
        *(ROOT / "hat_ray" / "recipes").glob("*.md"),
        *(ROOT / name for name in ("README.md", "CHANGELOG.md", ".github/CONTRIBUTING.md", "jobs/README.md")),
    ]
)

BANNED = {
    "tell: report, return or log": r"\b(?:tell|tells|told|telling)\b",
    "go on: continue or resume": r"\b(?:go|goes|going|went) on\b",
    "so many: name the number": r"\b(?:so many|so much)\b",
    "how far: name the distance": r"\bhow far\b",
    "bear: allow": r"\b(?:bear|bears|borne)\b",
    "let stand: keep": r"\blets? (?:\w+ )?stand\b",
    "trailing too: also, before the verb": r"\btoo[.;:]|, too,",
    "somebody: name the process": r"\b(?:somebody|whoever)\b",
}
ALLOWED = (
    "ask and tell",  # the field's name of a search algorithm's two calls, `tell` among them
    "`tell`",
    "ask, score, tell",
)


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield a file's lines of prose: of Python its docstrings, messages and comments, of a page all of it."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(text.split("\n"), 1)
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield from ((node.lineno, line) for line in node.value.split("\n"))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def faults(lines: Iterator[tuple[int, str]]) -> list[str]:
    found = []
    for number, line in lines:
        rest = re.sub("|".join(map(re.escape, ALLOWED)), "", line)
        broken = [rule for rule, pattern in BANNED.items() if re.search(pattern, rest, re.IGNORECASE)]
        found += [f"{number}: {rule}: {rest.strip()}" for rule in broken]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_prose_uses_the_standard_words(path: Path) -> None:
    assert not faults(prose(path))


@pytest.mark.parametrize(
    "line",
    [
        "Tell whether it runs.",
        "the run goes on",
        "so many rows",
        "How far it is",
        "is borne",
        "let it stand",
        "it, too.",
    ],
)
def test_each_rule_finds_its_words(line: str) -> None:
    assert len(faults(iter([(1, line)]))) == 1


def test_words_of_the_field_are_allowed() -> None:
    assert not faults(iter([(1, "Calls `tell` for each loss: ask and tell. Too many rows, too long.")]))
