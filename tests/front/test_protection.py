"""What must not change comes through `hat-ray translate` and an exported translate.py, whatever the model writes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hat_ray.corpus.protection.spans import SYMBOLS
from hat_ray.corpus.protection.terms import Terms
from hat_ray.errors import HatRayError
from hat_ray.export.export import open_export
from tests.command import hat_ray as command
from tests.corpus.protection.sentences import draw_sentences, unharmed
from tests.exported import Exported
from tests.front.hostile import KINDS, hostile_lines


def exported_program(folder: Path, *options: object, stdin: bytes) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, folder / "translate.py", *map(str, options)],
        input=stdin,
        capture_output=True,
        cwd=folder.parent,
        timeout=240,
        check=False,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def given(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def test_both_programs_bring_every_value_through_unharmed(knowing: Exported, tmp_path: Path):
    sentences = draw_sentences(120, 5, knowing.lines)
    stdin = given([one.text for one in sentences])
    ours = command("translate", knowing.folder, "--no-split", cwd=tmp_path, stdin=stdin)
    theirs = exported_program(knowing.folder, "--no-split", stdin=stdin)
    assert ours.returncode == theirs.returncode == 0, ours.stderr + theirs.stderr
    assert ours.stdout == theirs.stdout
    lines = ours.stdout.split("\n")[:-1]
    harmed = [(one.text, line) for one, line in zip(sentences, lines, strict=True) if not unharmed(one, line)]
    assert not harmed
    assert not any(symbol in line for line in lines for symbol in SYMBOLS)
    split = command("translate", knowing.folder, cwd=tmp_path, stdin=stdin)
    assert split.stdout == exported_program(knowing.folder, stdin=stdin).stdout
    bare = [program.stdout for program in (
        command("translate", knowing.folder, "--no-split", "--no-protect", cwd=tmp_path, stdin=stdin),
        exported_program(knowing.folder, "--no-split", "--no-protect", stdin=stdin),
    )]  # fmt: skip
    assert bare[0] == bare[1]
    for program in (ours, theirs):
        [said] = [line for line in program.stderr.splitlines() if "repaired" in line]
        assert re.search(r"\b(\d+) of \d+ sentences with protected parts .* were repaired: the model left a", said)
    assert sum(unharmed(one, line) for one, line in zip(sentences, bare[0].split("\n"), strict=False)) < 60


def test_a_glossary_fixes_its_terms_in_both_programs(knowing: Exported, tmp_path: Path):
    glossary = tmp_path / "terms.tsv"
    glossary.write_text("Hat Ray\that-ray 7\nOnly\n")
    ones = ["Hat Ray runs.", "Only we see Hat Ray and http://ex.org/a.", "Hat Ray: Only"]
    stdin = given([*ones, *(line.text for line in hostile_lines(knowing.lines, len(KINDS), seed=12))])
    ours = command("translate", knowing.folder, "--glossary", glossary, cwd=tmp_path, stdin=stdin)
    theirs = exported_program(knowing.folder, "--glossary", glossary, stdin=stdin)
    assert ours.returncode == theirs.returncode == 0, ours.stderr + theirs.stderr
    assert ours.stdout == theirs.stdout
    first, second, third, *others = ours.stdout.split("\n")
    assert len(others) == len(KINDS) + 1
    assert "hat-ray 7" in first
    for value in ("hat-ray 7", "Only", "http://ex.org/a"):
        assert value in second
    assert third == "hat-ray 7: Only"


@pytest.mark.parametrize(
    ("content", "options", "mistake"),
    [
        (b"a\tb\tc\n", [], "line 1: a glossary has lines of a term, a tab and its translation"),
        (None, [], "glossary"),
        (b"a\tb\n", ["--no-protect"], "--glossary is not for --no-protect, --prefix or hypotheses"),
        (b"a\tb\n", ["--n-best", 2, "--beam", 2], "--glossary is not for"),
    ],
)
def test_a_glossary_that_cannot_be_kept_is_refused_in_one_line(
    knowing: Exported, tmp_path: Path, content: bytes | None, options: list[object], mistake: str
):
    if content is not None:
        (tmp_path / "terms.tsv").write_bytes(content)
    arguments = ["--glossary", tmp_path / "terms.tsv", *options]
    for done in (
        command("translate", knowing.folder, *arguments, cwd=tmp_path, stdin=b"a\n"),
        exported_program(knowing.folder, *arguments, stdin=b"a\n"),
    ):
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1
        assert mistake.replace("--no-protect, ", "") in done.stderr.replace("--score, ", "").replace(
            "--no-protect, ", ""
        )


def test_a_model_without_symbols_translates_as_before(exported: Exported):
    model = open_export(exported.folder)
    lines = ["the {name}", "12 km"]
    assert model.front_end().translate(lines, lambda texts, _: texts) == lines
    with pytest.raises(HatRayError, match="a glossary needs a model that learned symbols"):
        model.front_end(terms=Terms({"a": "b"}))
