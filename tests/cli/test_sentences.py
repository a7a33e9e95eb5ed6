"""Lines of several sentences, and lines that are too long, through `hat-ray translate`."""

from pathlib import Path

import hat_ray as public
from hat_ray import Decoding
from hat_ray.export.export import open_export
from hat_ray.runtime.standalone import engine_onnx
from tests.command import hat_ray
from tests.exported import Exported

LONG = " ".join(["dog"] * 70)


def given(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def test_sentences_of_a_line_are_translated_one_by_one_unless_asked_not_to(exported: Exported, tmp_path: Path) -> None:
    short = sorted(exported.lines, key=len)
    ones = [f"{line.rstrip(' .').capitalize()}." for line in short[:5]]
    lines = [" ".join(ones[:2]), "", ones[2], " ".join(ones[3:])]
    model = open_export(exported.folder)
    apart, whole = model.translate(ones), model.translate(lines)
    done = hat_ray("translate", exported.folder, cwd=tmp_path, stdin=given(lines))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n")[:-1] == [" ".join(apart[:2]), "", apart[2], " ".join(apart[3:])]
    unsplit = hat_ray("translate", exported.folder, "--no-split", cwd=tmp_path, stdin=given(lines))
    assert unsplit.stdout.split("\n")[:-1] == whole
    assert done.stdout != unsplit.stdout

    opened = public.open_model(exported.folder)
    alone = engine_onnx.ExportedTranslator(exported.folder)
    for translator in (opened, alone):
        assert translator.translate(lines) == done.stdout.split("\n")[:-1]
        assert translator.translate(lines, split=False) == whole
    begun = Decoding(prefix="a")
    assert opened.translate(lines, decoding=begun) == opened.translate(lines, decoding=begun, split=False)

    reference = tmp_path / "reference.txt"
    reference.write_bytes(given(lines))
    scored = hat_ray("translate", exported.folder, "--score", reference, cwd=tmp_path, stdin=given(lines))
    assert scored.returncode == 0, scored.stderr
    assert scored.stdout == unsplit.stdout  # references belong to lines


def test_a_line_that_is_too_long_is_translated_to_its_end_in_parts(exported: Exported, tmp_path: Path) -> None:
    lines = [exported.lines[0], f"{LONG}, cat.", exported.lines[1]]
    model = open_export(exported.folder)
    [cut] = model.translate([lines[1]])
    for options in ([], ["--no-split"]):
        done = hat_ray("translate", exported.folder, *options, cwd=tmp_path, stdin=given(lines))
        assert done.returncode == 0, done.stderr
        first, parts, last = done.stdout.split("\n")[:-1]
        assert [first, last] == model.translate([lines[0], lines[2]])
        assert len(parts) > len(cut)
        [warning] = [line for line in done.stderr.splitlines() if "tokens" in line]
        assert (
            "1 of 3 lines have a sentence longer than 60 tokens, which is translated in parts (first: line 2,"
            in warning
        )


def test_lines_before_one_of_another_encoding_come_out_and_it_is_named(exported: Exported, tmp_path: Path) -> None:
    wrong = given(list(exported.lines[:3])) + "café\n".encode("latin-1") + b"more\n"
    done = hat_ray("translate", exported.folder, cwd=tmp_path, stdin=wrong)
    assert done.returncode == 2
    assert done.stdout.split("\n")[:-1] == open_export(exported.folder).translate(exported.lines[:3])
    assert done.stderr.endswith("stdin must be UTF-8, got byte 0xe9 in line 4: convert it, for instance with iconv\n")
    assert len(done.stderr.splitlines()) == 1
