"""Decoding as a request wants it, from outside: the command, an exported program and the API give the same."""

import ast
import gzip
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import hat_ray as public
from hat_ray import Decoding, HatRayError
from hat_ray.export.export import open_export
from hat_ray.export.stream import translate_stream
from hat_ray.pipeline.trained.ctranslate2_folder import open_ctranslate2_folder
from tests.command import hat_ray
from tests.exported import Exported

KNOBS = ["--n-best", "3", "--beam", "4", "--no-repeat-ngram-size", "2", "--repetition-penalty", "1.2"]
KNOBS += ["--length-penalty", "0.7", "--prefix", "a", "--min-length-factor", "0.5"]
KNOBS += ["--coverage-penalty", "0.4"]
DECODING = Decoding(
    beam=4,
    n_best=3,
    no_repeat_ngram_size=2,
    repetition_penalty=1.2,
    length_penalty=0.7,
    prefix="a",
    min_length_factor=0.5,
    coverage_penalty=0.4,
)
DRAWN = ["--sampling", "--seed", "5", "--top-k", "8", "--temperature", "1.5"]


def program(exported: Exported, options: list[str], lines: list[str]) -> subprocess.CompletedProcess[bytes]:
    """Run the exported translate.py, with no hat-ray in reach."""
    command = [sys.executable, "-I", str(exported.folder / "translate.py"), *options]
    given = "".join(f"{line}\n" for line in lines).encode()
    return subprocess.run(command, input=given, capture_output=True, timeout=240, check=False)


def same(ours: list[dict], theirs: list[dict]) -> None:
    """Compare hypotheses: text for text, and numbers but for rounding."""
    assert [one["line"] for one in ours] == [one["line"] for one in theirs]
    for own, other in zip(ours, theirs, strict=True):
        for one, two in zip(own["hypotheses"], other["hypotheses"], strict=True):
            assert {**one, "score": 0, "token_scores": 0} == {**two, "score": 0, "token_scores": 0}
            assert one["token_scores"] == pytest.approx(two["token_scores"], abs=1e-4)
            assert one["score"] == pytest.approx(two["score"], abs=1e-4)


def test_command_program_and_api_find_the_same_hypotheses(exported: Exported, tmp_path: Path) -> None:
    lines = [*exported.lines[:5], "", exported.lines[5]]
    given = "".join(f"{line}\n" for line in lines).encode()
    done = hat_ray("translate", exported.folder, *KNOBS, "--alignments", cwd=tmp_path, stdin=given)
    assert done.returncode == 0, done.stderr
    command = [json.loads(line) for line in done.stdout.splitlines()]
    alone = program(exported, [*KNOBS, "--alignments", "--chunk", "2"], lines)
    assert alone.returncode == 0, alone.stderr
    same(command, [json.loads(line) for line in alone.stdout.decode().splitlines()])

    found = public.open_model(exported.folder).hypotheses(lines, DECODING)
    assert [[one.text for one in each] for each in found] == [
        [one["text"] for one in each["hypotheses"]] for each in command
    ]
    assert [each["line"] for each in command] == list(range(1, 8))
    assert command[5]["hypotheses"] == [{"text": "", "score": 0.0, "tokens": [], "token_scores": []}]
    full = [one for row, each in enumerate(command) if row != 5 for one in each["hypotheses"]]
    assert len(full) == 18
    for one in full:
        assert one["text"].startswith("a")
        assert len(one["token_scores"]) == len(one["tokens"]) + 1
        assert [target for _, target in one["alignment"]] == list(range(len(one["tokens"])))
        pairs = Counter(zip(one["tokens"], one["tokens"][1:], strict=False))
        assert not [pair for pair, count in pairs.items() if count > 1]


def test_a_seed_draws_the_same_in_the_command_and_the_program(exported: Exported, tmp_path: Path) -> None:
    lines = list(exported.lines[:6])
    given = "".join(f"{line}\n" for line in lines).encode()
    done = hat_ray("translate", exported.folder, *DRAWN, cwd=tmp_path, stdin=given)
    assert done.returncode == 0, done.stderr
    alone = program(exported, [*DRAWN, "--chunk", "1"], lines)
    assert done.stdout.splitlines() == alone.stdout.decode().splitlines()
    assert done.stdout.splitlines() != public.open_model(exported.folder).translate(lines)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (["--n-best", "3", "--beam", "2"], "n_best can be at most the beam, which is 2, got 3"),
        (["--n-best", "9"], "n_best can be at most the beam, which is 2, got 9"),  # that of the export
        (["--temperature", "2"], "temperature is a setting of sampling"),
        (["--sampling", "--beam", "2"], "sampling has no beam"),
        (["--sampling", "--top-k=-1"], "top"),
        (["--repetition-penalty", "nan"], "repetition"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_one_line(
    exported: Exported, tmp_path: Path, options: list[str], rule: str
) -> None:
    done = hat_ray("translate", exported.folder, *options, cwd=tmp_path, stdin=b"A dog.\n")
    alone = program(exported, options, ["A dog."])
    for code, out, told in (
        (done.returncode, done.stdout, done.stderr),
        (alone.returncode, alone.stdout.decode(), alone.stderr.decode()),
    ):
        assert (code, out) == (2, ""), told
        assert rule in told
        assert "Traceback" not in told
        assert len([line for line in told.splitlines() if "error" in line.lower()]) == 1


def test_a_loop_is_translated_again(exported: Exported) -> None:
    model = public.open_model(exported.folder)
    plain = model.translate(list(exported.lines))
    again = model.translate(list(exported.lines), decoding=Decoding(retry_loops=True))
    changed = [(before, after) for before, after in zip(plain, again, strict=True) if before != after]
    assert changed  # weights are random: many of its translations are loops
    assert len(changed) < len(plain)
    alone = program(exported, ["--retry-loops"], list(exported.lines))
    assert alone.stdout.decode().splitlines() == again


def test_coverage_chooses_another_translation(exported: Exported) -> None:
    model, lines = public.open_model(exported.folder), list(exported.lines)
    plain, covering = Decoding(beam=6), Decoding(beam=6, coverage_penalty=20.0)
    found = model.translate(lines, decoding=covering)
    assert found != model.translate(lines, decoding=plain)
    best = model.hypotheses(lines, Decoding(beam=6, n_best=6, coverage_penalty=20.0))
    assert found == [each[0].text for each in best]
    alone = program(exported, ["--beam", "6", "--coverage-penalty", "20"], lines)
    assert alone.stdout.decode().splitlines() == found


LONG = " ".join(["dog"] * 70)


def test_a_line_that_is_cut_is_named_by_its_number_in_the_whole_stream(
    exported: Exported, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [*exported.lines[:4], LONG, *exported.lines[4:6]]
    given = "".join(f"{line}\n" for line in lines).encode()
    tokens = len(open_export(exported.folder).vocabularies.source.encode(LONG))
    named = f"1 of 1 lines are longer than 60 tokens and were cut (first: line 5 of {tokens} tokens); split them"
    alone = program(exported, ["--n-best", "2", "--chunk", "1"], lines)
    assert (alone.returncode, alone.stderr.decode().count("\n")) == (0, 1), alone.stderr
    assert alone.stderr.decode().startswith(named)
    done = hat_ray("translate", exported.folder, "--n-best", "2", cwd=tmp_path, stdin=given)
    [warning] = [line for line in done.stderr.splitlines() if "tokens" in line]
    assert named.replace("of 1 lines", "of 7 lines") in warning
    later = translate_stream(open_export(exported.folder), iter([lines[:4], [LONG]]), decoding=Decoding(prefix="a"))
    assert len(list(later)) == 5
    assert [line for line in caplog.messages if line.startswith(named)]


def test_the_program_has_no_name_twice(exported: Exported) -> None:
    """Modules that stand one behind the other in one file must not take each other's names."""
    tree = ast.parse((exported.folder / "translate.py").read_text(encoding="utf-8"))
    names = Counter(one.name for one in tree.body if isinstance(one, ast.FunctionDef | ast.ClassDef))
    for one in tree.body:
        targets = one.targets if isinstance(one, ast.Assign) else [one.target] if isinstance(one, ast.AnnAssign) else []
        names.update(each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name))
    assert len(names) > 80
    assert [name for name, count in names.items() if count > 1] == []


def test_ctranslate2_takes_its_own_options_and_refuses_a_seed(exported_ct2: Exported) -> None:
    model = public.open_model(exported_ct2.folder)
    lines = list(exported_ct2.lines[:6])
    assert [found[0].text for found in model.hypotheses(lines, Decoding())] == model.translate(lines)
    for found in model.hypotheses(lines, DECODING):
        assert len(found) == 3
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
        for one in found:
            assert one.text.startswith("a")
            assert len(one.token_scores) == len(one.tokens) + 1
            pairs = Counter(zip(one.tokens, one.tokens[1:], strict=False))
            assert not [pair for pair, count in pairs.items() if count > 1]
    aligned = model.hypotheses(lines[:1], Decoding(alignments=True))[0][0]
    assert [target for _, target in aligned.alignment] == list(range(len(aligned.tokens)))
    drawn = [model.translate(lines, decoding=Decoding(sampling=True, temperature=2.0)) for _ in range(2)]
    assert drawn[0] != drawn[1]
    with pytest.raises(HatRayError, match="leave seed out"):
        model.translate(lines, decoding=Decoding(sampling=True, seed=1))
    alone = program(exported_ct2, KNOBS, lines)
    assert [[one["text"] for one in json.loads(line)["hypotheses"]] for line in alone.stdout.splitlines()] == [
        [one.text for one in found] for found in model.hypotheses(lines, DECODING)
    ]


def test_a_plain_ctranslate2_folder_names_what_it_cuts(
    exported_ct2: Exported, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in exported_ct2.folder.iterdir():
        if path.name not in ("manifest.json", "translate.py"):
            shutil.copy(path, tmp_path)
    translate = open_ctranslate2_folder(str(tmp_path), 2)
    words = ["dog"] * 300
    short, *cut = translate(["a dog", " ".join(words), " ".join(words[:-20])], first=1_001)
    tokens = len(open_export(exported_ct2.folder).vocabularies.source.encode(" ".join(words)))
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        f"2 of 3 lines are longer than 256 tokens and were cut (first: line 1002 of {tokens} tokens)"
    ]
    assert cut[0] == cut[1] != short


def test_a_score_takes_several_packed_references_and_counts_lines_first(exported: Exported, tmp_path: Path) -> None:
    lines = list(exported.lines[:6])
    given = "".join(f"{line}\n" for line in lines).encode()
    made = public.open_model(exported.folder).translate(lines)
    (tmp_path / "first.gz").write_bytes(gzip.compress("".join(f"{line}\r\n" for line in made).encode()))
    (tmp_path / "second").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    command = ["translate", exported.folder, "--json", "--metric", "ter", "--score", "second"]
    done = hat_ray(*command, "--score", "first.gz", cwd=tmp_path, stdin=given)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["text"]["bleu"], figures["copy_floor"]["bleu"]) == (pytest.approx(100), pytest.approx(100))
    assert "nrefs:2" in figures["text"]["bleu_signature"]
    assert figures["text"]["others"][0]["metric"] == "TER"
    assert figures["text"]["others"][0]["score"] == 0

    (tmp_path / "second").write_text("one line\n", encoding="utf-8")
    done = hat_ray("translate", exported.folder, "--score", "second", cwd=tmp_path, stdin=given)
    assert (done.returncode, done.stdout) == (2, "")  # nothing was translated
    assert "got 6 in stdin, 1 in reference 1" in done.stderr
    done = hat_ray("translate", exported.folder, "--metric", "ter", cwd=tmp_path, stdin=given)
    assert "--metric adds to the figures of --score" in done.stderr
