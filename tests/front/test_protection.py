"""What must not change comes through `hat-ray translate` and an exported translate.py, whatever the model writes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hat_ray.corpus.config import CorpusConfig, ToyConfig
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.prepare import prepare
from hat_ray.corpus.protection.spans import SYMBOLS
from hat_ray.corpus.protection.terms import Terms
from hat_ray.errors import HatRayError
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.export.export import open_export
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.protocol import Bounds
from hat_ray.storage.folder import Folder
from tests.command import hat_ray as command
from tests.corpus.protection.sentences import draw_sentences, unharmed
from tests.exported import Exported
from tests.exporting import export_model
from tests.runtime.models import ARCHITECTURES


@pytest.fixture(scope="module")
def knowing(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """An export with random weights whose sub-words have symbols: it copies none, so that all is repaired."""
    place = tmp_path_factory.mktemp("knowing")
    toy = ToyConfig(train_pairs=300, valid_pairs=20, test_pairs=40)
    config = CorpusConfig(toy=toy, vocab_size=600, byte_fallback=True, protect=0.3)
    prepare(config, Folder.at(place / "corpus"), seed=1)
    corpus = Corpus.load(Folder.at(place / "corpus"))
    search = EvaluateConfig(beam=1, sentences=8, max_length_factor=0, max_length_extra=12, max_source_length=60)
    model = SubTransformer(ARCHITECTURES["one layer each"], corpus.vocabularies.sizes[0], ModelConfig(), seed=3).eval()
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    export_model(model, corpus, place / "out", "fp32", search, Bounds(0, 100, 100))
    return Exported(place / "out", tuple(corpus.test.source_text or ()))


def exported_program(folder: Path, *options: object, stdin: bytes) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, folder / "translate.py", *map(str, options)],
        input=stdin,
        capture_output=True,
        cwd=folder.parent,
        timeout=120,
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
    assert sum(unharmed(one, line) for one, line in zip(sentences, bare[0].split("\n"), strict=False)) < 60


def test_a_glossary_fixes_its_terms_in_both_programs(knowing: Exported, tmp_path: Path):
    glossary = tmp_path / "terms.tsv"
    glossary.write_text("Hat Ray\that-ray 7\nOnly\n")
    stdin = given(["Hat Ray runs.", "Only we see Hat Ray and http://ex.org/a.", "Hat Ray: Only"])
    ours = command("translate", knowing.folder, "--glossary", glossary, cwd=tmp_path, stdin=stdin)
    theirs = exported_program(knowing.folder, "--glossary", glossary, stdin=stdin)
    assert ours.returncode == theirs.returncode == 0, ours.stderr + theirs.stderr
    assert ours.stdout == theirs.stdout
    first, second, third, _ = ours.stdout.split("\n")
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
