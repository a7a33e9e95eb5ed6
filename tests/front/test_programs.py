"""The command, an exported translate.py and the service give the same for the same bytes, line by line."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="needs ray[serve]")

from tests.command import hat_ray
from tests.exported import Exported
from tests.front.hostile import KINDS, Line, hostile_lines, wrongly_encoded
from tests.front.programs import command, exported_program, of_service
from tests.serve.local import Local, served


@pytest.fixture(scope="module")
def local(exported: Exported) -> Iterator[Local]:
    with served(exported.folder) as one:
        yield one


def content_of(lines: list[Line]) -> bytes:
    return "".join(f"{line.text}\n" for line in lines).encode()


def same(lines: list[Line], *outputs: list[str]) -> None:
    """Compare programs line by line, and name the kinds of lines that differ."""
    assert {len(output) for output in outputs} == {len(lines)}
    differ = {line.kind: said for line, *said in zip(lines, *outputs, strict=True) if len(set(said)) > 1}
    assert not differ


@pytest.mark.parametrize("options", [(), ("--no-split",)], ids=["split", "whole"])
def test_three_programs_give_the_same_for_every_kind_of_line(
    exported: Exported, local: Local, options: tuple[str, ...], tmp_path: Path
) -> None:
    assert len(KINDS) >= 40
    lines = hostile_lines(exported.lines, len(KINDS), seed=7)
    content = content_of(lines)
    one = hat_ray("translate", exported.folder, *options, cwd=tmp_path, stdin=content)
    other = exported_program(exported.folder, content, *options, "--chunk", "5")
    assert (one.returncode, other.returncode) == (0, 0), (one.stderr, other.stderr)
    ours, theirs = one.stdout.split("\n")[:-1], other.stdout.decode().split("\n")[:-1]
    service = of_service(local.answered, [line.text for line in lines], [1, 2, 7, 3], split=not options)
    same(lines, ours, theirs, service)
    assert [len(line.splitlines()) for line in ours] == [int(bool(line)) for line in ours]
    empty = {line.kind for line, said in zip(lines, ours, strict=True) if not said}
    assert empty == {"empty", "blanks only", "invisible only", "controls only", "sub-word blank only"}
    assert len(set(ours)) > len(lines) / 2, "most lines have a translation of their own"


def test_text_streams_of_windows_change_nothing(exported: Exported) -> None:
    lines = hostile_lines(exported.lines, len(KINDS), seed=8)
    content = content_of(lines)
    plain = exported_program(exported.folder, content)
    for program in (command, exported_program):
        windows = program(exported.folder, content.replace(b"\n", b"\r\n"), windows=True)
        assert windows.returncode == 0, windows.stderr
        same(lines, *(done.stdout.decode().split("\n")[:-1] for done in (plain, windows)))


@pytest.mark.parametrize("seed", range(2))
def test_another_encoding_ends_both_programs_at_the_same_line_in_the_same_words(
    exported: Exported, local: Local, seed: int, tmp_path: Path
) -> None:
    draw = random.Random(seed)
    before, after = (hostile_lines(exported.lines, 5, seed=seed) for _ in range(2))
    wrong = wrongly_encoded(draw)
    content = content_of(before) + wrong + b"\n" + content_of(after)
    one = hat_ray("translate", exported.folder, cwd=tmp_path, stdin=content)
    other = exported_program(exported.folder, content, "--chunk", "2")
    assert (one.returncode, one.stdout) == (other.returncode, other.stdout.decode())
    assert one.returncode == 2
    assert one.stdout.count("\n") == 5
    rules = [said.splitlines()[-1].partition("error: ")[2] for said in (one.stderr, other.stderr.decode())]
    assert rules[0] == rules[1]
    assert "stdin must be UTF-8, got byte 0x" in rules[0]
    assert "in line 6" in rules[0]
    assert local.ask(b'{"text": "' + wrong + b'"}').status == 400
