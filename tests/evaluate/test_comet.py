"""COMET's figures are those of the library's own command; its model comes from a local folder and has a signature."""

import hashlib
import importlib.util
import json
import math
import random
import statistics
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
from pydantic import ValidationError
from sacrebleu.significance import PairedTest

from hat_ray.errors import CorpusError, HatRayError
from hat_ray.evaluate.comet.metric import CometMetric, CometText
from hat_ray.evaluate.comet.model import CometModel
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.metrics import score_by
from hat_ray.evaluate.significance import compare_systems
from hat_ray.pipeline.preflight.check import Machine, Situation
from hat_ray.pipeline.preflight.packages import check_comet
from hat_ray.recipe import load_recipe
from tests.command import hat_ray
from tests.evaluate.comet_models import LINES, POSITIONS, a_comet_model
from tests.exported import Exported

needs_pymarian = pytest.mark.skipif(
    importlib.util.find_spec("pymarian") is None, reason="pymarian is not installed: pip install 'hat-ray[comet]'"
)
SOURCES, REFERENCES = LINES[:40], LINES[40:80]


def noisy(share: float, seed: int) -> list[str]:
    draw, words = random.Random(seed), " ".join(LINES).split()
    return [" ".join(w if draw.random() > share else draw.choice(words) for w in line.split()) for line in REFERENCES]


def written(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_comet_model(tmp_path_factory.mktemp("comet") / "tiny --model [da]")


def own_figures(folder: Path, kind: str, texts: list[list[str]], place: Path) -> list[float]:
    """Return each sentence's score by the command of the library."""
    model, words = place / "model.npz", place / "vocab.spm"  # its options must not hold spaces
    for path in (model, words):
        path.unlink(missing_ok=True)
        path.symlink_to(folder / path.name)
    code = "import sys; from pymarian.eval import main; main()"
    command = [sys.executable, "-c", code, "-m", str(model), "-v", str(words), "-l", kind]
    for flag, lines in zip("str", texts, strict=True):
        command += [f"-{flag}", str(written(place / flag, lines))]
    command += ["-w", "8", "-c", "1", "-ws", "200", "--mini-batch", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return [float(line) for line in done.stdout.splitlines()]


def plain_scores(folder: Path, *texts: list[str]) -> list[float]:
    """Return the scores by Hugging Face's encoder."""
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'hat-ray[dev]'")
    from tests.evaluate import plain_comet

    return plain_comet.plain_scores(folder, *texts)


@needs_pymarian
@pytest.mark.parametrize("kind", ["comet", "comet-qe"])
def test_scores_are_those_of_the_librarys_own_command_and_of_another_encoder(tmp_path: Path, kind: str) -> None:
    folder = a_comet_model(tmp_path / kind, kind)
    hypotheses = noisy(0.3, 1)
    hypotheses[3] = ""
    hypotheses[5] = "日本 is not in the vocabulary \u2581"
    found = CometModel.open(folder).scores(SOURCES, hypotheses, REFERENCES)
    assert found.kind == kind
    expected = own_figures(folder, kind, [SOURCES, hypotheses, REFERENCES], tmp_path)
    assert len(set(expected)) == len(expected) == 40
    assert list(found.scores) == pytest.approx(expected, abs=2e-6)
    assert list(found.scores) == pytest.approx(plain_scores(folder, SOURCES, hypotheses, REFERENCES), abs=2e-4)


@needs_pymarian
def test_a_figure_is_the_mean_times_100_and_its_signature_names_the_model(folder: Path) -> None:
    model = CometModel.open(folder)
    sentences = model.scores(SOURCES, noisy(0.2, 1), REFERENCES).scores
    [found] = score_by(("comet",), noisy(0.2, 1), [REFERENCES], "13a", CometText(model, SOURCES))
    assert found.metric == "COMET"
    assert found.score == pytest.approx(100 * statistics.mean(sentences))
    content = (folder / "model.npz").read_bytes() + (folder / "vocab.spm").read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:12]
    library = f"pymarian-{metadata.version('pymarian')}"
    assert found.signature == f"nrefs:1|model:tiny_--model__da_|type:comet|sha256:{digest}|scale:100|version:{library}"


@needs_pymarian
def test_another_model_gives_another_score_and_signature(folder: Path, tmp_path: Path) -> None:
    other = a_comet_model(tmp_path / "other", seed=1)
    one, two = (
        score_by(("comet",), REFERENCES, [REFERENCES], "13a", CometText(CometModel.open(each), SOURCES))[0]
        for each in (folder, other)
    )
    assert one.score != pytest.approx(two.score, abs=0.1)
    assert one.signature != two.signature


@needs_pymarian
def test_a_sentence_depends_on_itself_alone_whatever_it_holds(folder: Path) -> None:
    strange = ["a\tb\nc\rd", "x" * 3_000, " ".join(LINES[:POSITIONS]), "", "\u2028 \x0b \u00a0"]
    texts = [
        [*SOURCES[:20], *strange],
        [*strange, *SOURCES[:20]],
        [" ".join(LINES[: number // 2]) for number in range(25)],  # of many lengths, multiples of four among them
    ]
    texts[0][-1] = texts[1][-1] = texts[2][-1] = ""  # pymarian loses such a last row
    found = CometModel.open(folder).scores(*texts).scores
    expected = plain_scores(folder, *([" ".join(text.split()) for text in side] for side in texts))
    assert list(found) == pytest.approx(expected, abs=2e-4)
    assert all(map(math.isfinite, found))


@needs_pymarian
def test_many_sentences_are_scored_by_several_processes_in_order(folder: Path) -> None:
    texts = LINES[:250], LINES[100:350], LINES[150:400]
    found = CometModel.open(folder).scores(*texts).scores  # of two or three processes, where there are as many cores
    assert list(found) == pytest.approx(plain_scores(folder, *texts), abs=2e-4)


@needs_pymarian
def test_two_systems_are_compared_as_sacrebleus_own_test_does(folder: Path) -> None:
    text = CometText(CometModel.open(folder), SOURCES)
    mine, other = noisy(0.1, 1), noisy(0.5, 2)
    _, theirs = PairedTest(
        [("mine", mine), ("other", other)], {"COMET": CometMetric(text)}, [REFERENCES], test_type="bs", n_samples=1000
    )()
    bleu, found = compare_systems(mine, other, [REFERENCES], metrics=("bleu", "comet"), comet=text)
    baseline, second = theirs["COMET"]
    assert (bleu.metric, found.metric) == ("BLEU", "COMET")
    assert (found.first, found.second, found.p) == (baseline.score, second.score, second.p_value)
    assert found.first == pytest.approx(100 * statistics.mean(text.model.scores(SOURCES, mine, REFERENCES).scores))
    assert found.interval[0] < found.first < found.interval[1]
    [equal] = compare_systems(mine, mine, [REFERENCES], metrics=("comet",), comet=text)
    assert equal.p == 1.0


@needs_pymarian
@pytest.mark.slow
def test_the_commands_report_it(folder: Path, exported: Exported, tmp_path: Path) -> None:
    sources, reference = written(tmp_path / "s", SOURCES), written(tmp_path / "r", REFERENCES)
    a, b = written(tmp_path / "a", noisy(0.1, 1)), written(tmp_path / "b", noisy(0.3, 2))
    options = ["--metric", "comet", "--comet-model", folder]
    done = hat_ray("evaluate", "compare", a, b, "--reference", reference, "--source", sources, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = CometText(CometModel.open(folder), SOURCES)
    [expected] = score_by(("comet",), noisy(0.1, 1), [REFERENCES], "13a", text)
    assert done.stdout.startswith(f"COMET: A {expected.score:.2f}, B ")
    assert expected.signature.partition("|version")[0].replace("nrefs:1|", "") in done.stdout

    lines = list(exported.lines[:6])
    written(tmp_path / "few", lines)
    given = "".join(f"{line}\n" for line in lines).encode()
    scored = hat_ray("translate", exported.folder, "--score", "few", *options, "--json", cwd=tmp_path, stdin=given)
    assert scored.returncode == 0, scored.stderr
    figures = json.loads(scored.stdout)
    [copied] = score_by(("comet",), lines, [lines], "13a", CometText(text.model, lines))
    assert figures["copy_floor"]["others"][0]["score"] == pytest.approx(copied.score, abs=1e-3)
    one = hat_ray(
        "evaluate", exported.folder, "--source", "few", "--reference", "few", *options, "--json", cwd=tmp_path
    )
    assert one.returncode == 0, one.stderr
    assert json.loads(one.stdout)["text"]["others"] == figures["text"]["others"]


@needs_pymarian
@pytest.mark.parametrize(
    ("name", "content"), [("model.npz", b"PK\x03\x04 cut"), ("vocab.spm", b"nothing"), ("model.npz", None)]
)
def test_damage_is_named_in_one_line(tmp_path: Path, name: str, content: bytes | None) -> None:
    place = a_comet_model(tmp_path / "model")
    content = (place / name).read_bytes()[:4_000] if content is None else content
    (place / name).write_bytes(content)
    with pytest.raises(CorpusError, match=r"cannot be run \(.+\): copy it and its vocabulary again$") as caught:
        CometModel.open(place).scores(["a"], ["a"], ["a"])
    assert "\n" not in str(caught.value)


@needs_pymarian
def test_a_folder_that_holds_no_model_of_marians_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "model.ckpt").write_bytes(b"\x80\x02")
    with pytest.raises(CorpusError, match=r"got 0 of weights and no vocabulary: take a model in Marian's form"):
        CometModel.open(tmp_path)
    with pytest.raises(CorpusError, match="must be a local folder, got s3://bucket/comet"):
        CometModel.open("s3://bucket/comet")
    place = a_comet_model(tmp_path / "two")
    (place / "again.npz").write_bytes(b"")
    with pytest.raises(CorpusError, match="got 2 of weights and a vocabulary"):
        CometModel.open(place)
    other = a_comet_model(tmp_path / "unified", "comet-unified")
    with pytest.raises(CorpusError, match="the model's type is comet-unified, not one of comet, comet-qe"):
        CometModel.open(other).scores(["a"], ["a"], ["a"])


def test_the_files_may_stand_where_the_hub_puts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "marian.model.bin").touch()
    (tmp_path / "sentencepiece.bpe.model").touch()
    found = CometModel.open(tmp_path)
    assert (found.weights.name, found.vocabulary.name) == ("marian.model.bin", "sentencepiece.bpe.model")


def test_without_the_library_one_line_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(HatRayError, match=r"pip install 'hat-ray\[comet\]', or leave comet out"):
        CometModel.open(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["--metric", "comet"], "--metric comet and --comet-model go together"),
        (["--comet-model", "."], "--metric comet and --comet-model go together"),
        (["--metric", "comet", "--comet-model", ".", "--reference", "r"], "compares with one reference, got 2"),
        (["--source", "r"], "--metric comet reads the sentences translated"),
    ],
)
def test_options_that_belong_together_are_asked_for(tmp_path: Path, arguments: list[str], rule: str) -> None:
    written(tmp_path / "r", REFERENCES)
    source = [] if "--source" in arguments or "comet" not in arguments else ["--source", "r"]
    done = hat_ray("evaluate", "compare", "r", "r", "--reference", "r", *source, *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert rule in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_settings_go_together() -> None:
    with pytest.raises(ValidationError, match="comet of more_metrics and comet_model go together"):
        EvaluateConfig(more_metrics=("comet",))
    with pytest.raises(ValidationError, match="go together"):
        EvaluateConfig(comet_model="folder")
    assert EvaluateConfig(more_metrics=("comet",), comet_model="folder").comet_model == "folder"


def test_a_missing_library_or_model_is_found_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe("toy", ["evaluate.more_metrics=[comet]", f"evaluate.comet_model={tmp_path}"])
    board = Situation(("evaluate",), machines=(Machine("board", 2, packages=frozenset()),), cluster=True)
    [(verdict, text)] = check_comet(recipe, board)
    assert (verdict, text) == (
        "failure",
        "evaluate.more_metrics comet needs the library pymarian, board has not: pip install 'hat-ray[comet]', or leave "
        "comet out",
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    here = replace(board, machines=(Machine("here", 2, packages=frozenset({"pymarian"})),), cluster=False)
    [(verdict, text)] = check_comet(recipe, here)
    assert verdict == "failure"
    assert text.startswith(f"evaluate.comet_model: COMET's folder {tmp_path} must hold one file of weights")
    (tmp_path / "model.bin").touch()
    (tmp_path / "vocab.spm").touch()
    assert list(check_comet(recipe, here)) == list(check_comet(load_recipe("toy"), board)) == []
