"""An exported folder: what is in it, that it translates alone, and that a wrong one is refused."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from hat_ray.corpus.config import CorpusConfig, ToyConfig
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.prepare import prepare
from hat_ray.errors import ExportError
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.translate import translate
from hat_ray.export.export import open_export
from hat_ray.export.parity import agreement
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.processor import arithmetic
from hat_ray.runtime.protocol import RUNTIMES, Bounds
from hat_ray.runtime.standalone import engine_onnx as loader
from hat_ray.storage.folder import Folder
from tests.exporting import export_model
from tests.runtime.models import ARCHITECTURES

torch.set_num_threads(1)
BOUNDS = RUNTIMES.load("onnx").exporter.bounds
CONFIG = EvaluateConfig(beam=2, sentences=12, max_length_factor=0, max_length_extra=15)
LONE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "hat_ray", "onnx"):
            raise ModuleNotFoundError("No module named " + name, name=name)
sys.meta_path.insert(0, Refuse())
sys.argv = ["translate.py", *sys.argv[2:]]
exec(compile(open(path := sys.orig_argv[3]).read(), path, "exec"), {"__name__": "__main__", "__file__": path})
"""


@dataclass
class Made:
    corpus: Corpus
    model: SubTransformer
    folder: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    place = tmp_path_factory.mktemp("export")
    toy = ToyConfig(train_pairs=300, valid_pairs=20, test_pairs=20)
    prepare(CorpusConfig(toy=toy, vocab_size=300), Folder.at(place / "corpus"), seed=1)
    corpus = Corpus.load(Folder.at(place / "corpus"))
    shape = ARCHITECTURES["every layer its own, reach 3 1 2"]
    model = SubTransformer(shape, corpus.vocabularies.sizes[0], ModelConfig(), seed=3).eval()
    export_model(model, corpus, place / "out", "fp32", CONFIG, BOUNDS["fp32"])
    return Made(corpus, model, place / "out")


def alone(folder: Path, text: str, *options: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the exported loader in a process that can import neither torch nor hat-ray."""
    command = [sys.executable, "-c", LONE, str(folder / "translate.py"), *options]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=240, check=False, cwd=cwd)


def test_the_exported_loader_translates_like_the_model_where_there_is_no_torch(made: Made, tmp_path: Path) -> None:
    assert made.corpus.test.source_text is not None
    lines = [*made.corpus.test.source_text[:9], "", "\u2581\u200b", "zzz ééé 漢"]
    moved = tmp_path / "elsewhere"
    shutil.copytree(made.folder, moved)
    result = alone(moved, "\n".join(lines) + "\n", "--chunk", "4", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split("\n")[:-1] == translate(made.model, made.corpus.vocabularies, lines, CONFIG)


def test_an_exported_folder_opens_again_and_translates_the_same(made: Made) -> None:
    served = open_export(made.folder, beam=3)
    lines = list(made.corpus.test.source_text or ())[:6]
    assert (served.config.beam, served.config.max_length_extra) == (3, 15)
    wider = CONFIG.model_copy(update={"beam": 3})
    assert translate(served.engine, served.vocabularies, lines, served.config) == translate(
        made.model, made.corpus.vocabularies, lines, wider
    )


def test_the_manifest_tells_what_was_exported_and_how_close_it_is(made: Made) -> None:
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert manifest["model_id"] == made.model.architecture.id
    assert set(manifest["files"]) == {path.name for path in made.folder.iterdir()} - {"manifest.json"}
    parity = manifest["parity"]
    assert (parity["sentences"], parity["identical"], parity["token_agreement"]) == (12, 12, 1.0)
    assert 0 < parity["logit_error"] < 1e-4
    assert manifest["special_tokens"] == {"bos": 0, "pad": 1, "eos": 2, "unk": 3}
    assert {"hat-ray", "onnxruntime", "sentencepiece", "torch"} <= set(manifest["versions"])


def test_only_the_models_own_weights_are_in_the_folder_and_each_once(made: Made) -> None:
    weights = sum(tensor.numel() for tensor in made.model.weights().values())
    positions = 2 * made.model.max_positions * 48  # the tables of both sides, at most
    stored = sum(path.stat().st_size for path in made.folder.iterdir() if path.suffix in (".bin", ".onnx"))
    assert stored < 4 * (weights + positions) + 64 * 4096 + 200_000  # pages begun, and the graphs' nodes


def test_int8_is_smaller_and_close_and_replaces_an_earlier_export(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(made.folder, out)
    done = export_model(made.model, made.corpus, out, "int8", CONFIG, Bounds(0.0, 100.0))
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["dtype"], manifest["quantisation"]) == ("int8", "pairs")
    assert manifest["parity"]["arithmetic"] == done.parity.arithmetic == arithmetic("int8")
    assert 0 < done.parity.logit_error < 1
    assert done.file_bytes < sum(path.stat().st_size for path in made.folder.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        (Bounds(1.01, 100.0), "token agreement must be at least 1.01, got"),
        (Bounds(0.0, -0.5), "at most -0.5 BLEU may be lost"),
        (Bounds(0.0, 100.0, 0.0), "logits may differ by at most 0, got"),
    ],
)
def test_a_broken_bound_fails_the_export_and_leaves_nothing(
    made: Made, tmp_path: Path, bounds: Bounds, words: str
) -> None:
    with pytest.raises(ExportError, match=words):
        export_model(made.model, made.corpus, tmp_path / "out", "fp32", CONFIG, bounds)
    assert list(tmp_path.iterdir()) == []


def test_the_check_warns_once_of_lines_that_are_cut(
    made: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    short = CONFIG.model_copy(update={"max_source_length": 6})
    export_model(made.model, made.corpus, tmp_path / "out", "fp32", short, Bounds(0.0, 100.0))
    assert len([line for line in caplog.messages if "are longer than 6 tokens and were cut" in line]) == 1
    caplog.clear()
    opened = open_export(tmp_path / "out")
    for _ in range(2):  # only in the check: who translates twice is warned twice
        opened.translate(["a dog runs and another dog runs as well"])
    assert len([line for line in caplog.messages if "are longer than 6 tokens" in line]) == 2


def test_a_folder_that_holds_something_else_is_left_alone(made: Made, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ExportError, match="holds something else"):
        export_model(made.model, made.corpus, tmp_path, "fp32", CONFIG, BOUNDS["fp32"])
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("name", ["weights.bin", "encoder.onnx", "vocabulary.model", "manifest.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "lost"])
def test_a_damaged_export_is_refused(made: Made, tmp_path: Path, name: str, harm: str) -> None:
    place = tmp_path / "out"
    shutil.copytree(made.folder, place)
    content = (place / name).read_bytes()
    half = len(content) // 2
    if harm == "lost":
        (place / name).unlink()
    elif harm == "cut" or name == "manifest.json":
        (place / name).write_bytes(content[:half])
    else:
        (place / name).write_bytes(content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :])
    with pytest.raises(ExportError, match=r"is damaged|is not a whole export"):
        open_export(place)
    with pytest.raises(ValueError, match=r"is damaged|is not a whole export"):
        loader.ExportedTranslator(place)


def test_agreement_counts_tokens_in_common_and_in_order() -> None:
    assert agreement([(1, 2, 3)], [(1, 2, 3)]) == 1.0
    assert agreement([(1, 2, 3, 4)], [(1, 3, 4, 5)]) == 6 / 8
    assert agreement([(1, 2), ()], [(3, 4), ()]) == 0.0
    assert agreement([()], [()]) == 1.0
