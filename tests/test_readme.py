"""The documents name commands, options, settings, files and sections that exist."""

import ast
import itertools
import pkgutil
import re
import shlex
from pathlib import Path

import pytest
import typer

from hat_ray.cli import app
from hat_ray.recipe import load_recipe
from tests.parsing import parse
from tests.test_tree import ORDER

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    "README.md",
    "CHANGELOG.md",
    ".github/CONTRIBUTING.md",
    "hat_ray/recipes/FROM_MARIAN.md",
    "hat_ray/recipes/FROM_OPUS_MT.md",
    "hat_ray/recipes/REFERENCE.md",
    "hat_ray/recipes/TUTORIAL.md",
    "hat_ray/recipes/FROM_HAT.md",
    "jobs/README.md",
    "latency_data/README.md",
    "tests/benchmarks/README.md",
)
SHELL = re.compile(r"^```(?:bash|console|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^(?: {4}.*\n)+", re.MULTILINE)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
DOTTED = re.compile(r"`(hat_ray(?:\.\w+){2,})`")
FILE = re.compile(r"`((?:[\w.]+/[\w./]+|bench_\w+)\.(?:py|yaml|yml|json))`")
HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
LOOSE = re.compile(
    r"\b(?:tells?|told|says?|said|what is finished|goes on|so many|as many as|and also)\b", re.IGNORECASE
)
INCOMPLETE = ("MissingParameter", "NoArgsIsHelpError")


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def joined(block: str) -> str:
    """Return a block with continued lines as one."""
    return block.replace("\\\n", " ")


def shell_lines(document: str) -> list[str]:
    """Return the commands of a document's shell blocks and indented blocks."""
    text = text_of(document)
    blocks = [*SHELL.findall(text), *INDENTED.findall(FENCE.sub("", text))]
    lines = [line.strip().removeprefix(".venv/bin/") for block in blocks for line in joined(block).splitlines()]
    return [line for line in lines if line and not line.startswith(("#", "<"))]


def arguments(line: str) -> tuple[list[str], Path | None, Path | None]:
    """Return a command's arguments, and the files of its stdin and stdout."""
    words, files = shlex.split(line), {}
    for mark in ("<", ">"):
        if mark in words:
            place = words.index(mark)
            files[mark] = Path(words[place + 1])
            del words[place : place + 2]
    return words, files.get("<"), files.get(">")


def spans(document: str) -> list[str]:
    """Return the commands of hat-ray in a document's running text."""
    found = [" ".join(span.split()) for span in SPAN.findall(FENCE.sub("", text_of(document)))]
    return [span for span in found if span.startswith("hat-ray ")]


def names(document: str) -> list[str]:
    """Return the Python names of hat-ray in a document: dotted ones, and those that its examples import."""
    text = text_of(document)
    found: list[str] = DOTTED.findall(FENCE.sub("", text))
    for node in (node for block in PYTHON.findall(text) for node in ast.walk(ast.parse(block))):
        if isinstance(node, ast.ImportFrom):
            found += [f"{node.module}:{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return found


COMMANDS = [(document, line) for document in DOCUMENTS for line in shell_lines(document)]
SPANS = [(document, span) for document in DOCUMENTS for span in dict.fromkeys(spans(document))]


def hat_ray_arguments(line: str) -> list[str] | None:
    """Return the arguments of a line's `hat-ray`, without redirections and comments; None: another program's line."""
    words = shlex.split(line, comments=True)
    ends = [place for place, word in enumerate(words) if word in ("<", ">", "|", "&&", "...")]
    return words[1 : min(ends, default=len(words))] if words[:1] == ["hat-ray"] else None


def require_settings(arguments: list[str]) -> None:
    """Refuse a `--set` whose setting or value a recipe does not have; `seed=N` stands for any number."""
    changes = [after for word, after in itertools.pairwise(arguments) if word == "--set"]
    load_recipe("toy", [change for change in changes if "." in change.partition("=")[0]])


@pytest.mark.parametrize(("document", "line"), COMMANDS, ids=[f"{d}: {line[:60]}" for d, line in COMMANDS])
def test_a_command_of_a_document_is_understood(document: str, line: str) -> None:
    arguments = hat_ray_arguments(line)
    if arguments is not None:
        parse(arguments)
        require_settings(arguments)
    elif scripts := re.findall(r"\bjobs/\S+", line):
        assert all((ROOT / script).exists() for script in scripts)
    else:
        programs = {"make", "ray", "python", "python3", "export", "kubectl", "echo", "git", ".ci/run", "pre-commit"}
        assert line.split(maxsplit=1)[0] in programs | {"pip", "pytest"}, "unknown program"


@pytest.mark.parametrize(("document", "span"), SPANS, ids=[f"{d}: {span[:60]}" for d, span in SPANS])
def test_a_command_in_running_text_is_understood(document: str, span: str) -> None:
    arguments = hat_ray_arguments(span)
    assert arguments is not None
    try:
        parse([argument for argument in arguments if argument != "--help"])  # every command has it; it ends the parsing
    except Exception as error:
        if type(error).__name__ not in INCOMPLETE:  # a command may be named without its arguments
            raise
    require_settings(arguments)


def test_a_command_that_does_not_exist_is_refused() -> None:
    for wrong in (["latency", "weigh"], ["run", "toy", "--sett", "a=b"], ["predict", "score"]):
        with pytest.raises(Exception, match=r"(?i)no such|missing") as refused:
            parse(wrong)
        assert (type(refused.value).__name__ in INCOMPLETE) == (wrong == ["predict", "score"])


def test_every_command_stands_in_readme() -> None:
    text = text_of("README.md")
    for name, command in typer.main.get_group(app).commands.items():
        names = [f"{name} {sub}" for sub in getattr(command, "commands", [])] or [name]
        for one in names:
            last = one.split()[-1]
            assert f"`{one}`" in text or (f"`{last}`" in text and name in text), f"README does not name {one}"


def test_readme_is_short() -> None:
    assert len(text_of("README.md").splitlines()) <= 150, "move reference text to hat_ray/recipes/REFERENCE.md"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_pages_use_the_standard_verbs(document: str) -> None:
    """Programs report, return, resume and refuse; a thing has a name instead of a clause."""
    found = [line for line in text_of(document).splitlines() if LOOSE.search(line)]
    assert not found


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = HEADING.findall(FENCE.sub("", path.read_text(encoding="utf-8")))
    kept = [re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings]
    return {
        slug if not before else f"{slug}-{before}"
        for place, slug in enumerate(kept)
        for before in [kept[:place].count(slug)]
    }


LINKS = [(d, link) for d in DOCUMENTS for link in dict.fromkeys(LINK.findall(FENCE.sub("", text_of(d))))]
RELATIVE = [(document, link) for document, link in LINKS if "://" not in link]


@pytest.mark.parametrize(("document", "link"), RELATIVE, ids=[f"{d}: {link}" for d, link in RELATIVE])
def test_a_relative_link_resolves(document: str, link: str) -> None:
    place, _, anchor = link.partition("#")
    target = (ROOT / document).parent / place if place else ROOT / document
    assert target.exists(), f"{document} links to {place}, which is not there"
    if anchor:
        assert anchor in anchors(target), f"{target.name} has no section {anchor}: {sorted(anchors(target))}"


FILES = [(d, name) for d in DOCUMENTS for name in dict.fromkeys(FILE.findall(FENCE.sub("", text_of(d))))]


@pytest.mark.parametrize(("document", "name"), FILES, ids=[f"{d}: {name}" for d, name in FILES])
def test_a_source_file_that_a_page_names_exists(document: str, name: str) -> None:
    near = (ROOT, ROOT / "hat_ray", ROOT / "tests" / "benchmarks", (ROOT / document).parent)
    assert any((place / name).exists() for place in near), f"{document} names {name}"


NAMES = [(d, name) for d in DOCUMENTS for name in dict.fromkeys(names(d))]


@pytest.mark.parametrize(("document", "name"), NAMES, ids=[f"{d}: {name}" for d, name in NAMES])
def test_a_python_name_of_a_page_exists(document: str, name: str) -> None:
    assert pkgutil.resolve_name(name) is not None


def test_contributing_describes_every_room() -> None:
    rows = [line.split("|")[1] for line in text_of(".github/CONTRIBUTING.md").splitlines() if line.startswith("| `")]
    described = {name.removesuffix(".py") for row in rows for name in SPAN.findall(row)}
    assert not set(ORDER) - described - {"errors"}


def test_every_page_is_checked() -> None:
    rooms = [ROOT / name for name in (".github", "hat_ray", "jobs", "latency_data", "tests")]
    pages = [*ROOT.glob("*.md"), *(page for room in rooms for page in room.rglob("*.md"))]
    assert {str(page.relative_to(ROOT)) for page in pages} == set(DOCUMENTS), "name every page in DOCUMENTS"
