"""An export for CTranslate2 says what the model says, and what CTranslate2 cannot express is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hat_ray.corpus.config import CorpusConfig, ToyConfig
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.prepare import prepare
from hat_ray.errors import HatRayError
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.export.export import open_export
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.ctranslate2.spec import model_spec, quantise_spec, why_not_expressible
from hat_ray.runtime.difference import word_error
from hat_ray.runtime.protocol import RUNTIMES, Bounds, RuntimeSettings
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from hat_ray.storage.folder import Folder
from tests.exporting import export_model
from tests.runtime.models import ARCHITECTURES, NETWORKS

ctranslate2 = pytest.importorskip("ctranslate2")
CONFIG = EvaluateConfig(beam=2, sentences=30, max_length_factor=0, max_length_extra=15)
FREE = Architecture(
    EncoderShape(48, (80, 33, 64), (4, 4, 4)), DecoderShape(24, (40, 96), (2, 2), (2, 2), (1, 1)), qkv_dim=32
)
"""Widths, hidden widths and depths that all differ, and a query-key-value width that is neither side's."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    place = tmp_path_factory.mktemp("corpus")
    toy = ToyConfig(train_pairs=300, valid_pairs=20, test_pairs=40)
    prepare(CorpusConfig(toy=toy, vocab_size=300), Folder.at(place), seed=1)
    return Corpus.load(Folder.at(place))


def a_model(architecture: Architecture, corpus: Corpus, **settings: object) -> SubTransformer:
    """Return a model that says different things of different sentences."""
    model = SubTransformer(architecture, corpus.vocabularies.sizes[0], ModelConfig(**settings), seed=3).eval()  # type: ignore[arg-type]
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    return model


@pytest.mark.parametrize("norm_first", [False, True])
def test_it_gives_the_models_probabilities_and_nearly_its_translations(
    corpus: Corpus, tmp_path: Path, norm_first: bool
) -> None:
    model = a_model(FREE, corpus, normalize_before=norm_first)
    made = export_model(model, corpus, tmp_path / "out", "fp32", CONFIG, Bounds(0.0, 100.0), runtime="ctranslate2")
    assert made.parity.logit_error < 1e-4
    assert made.parity.identical >= 27
    served = open_export(tmp_path / "out")
    lines = [*(corpus.test.source_text or ())[:10], ""]
    translations = served.translate(lines)
    assert translations[-1] == ""
    assert len(set(translations)) > 5
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["runtime"], manifest["parity"]["sentences"]) == ("ctranslate2", 30)
    alone = subprocess.run(
        [sys.executable, "translate.py", "--chunk", "4"],
        input="".join(f"{line}\n" for line in lines),
        **{"capture_output": True, "text": True, "timeout": 60, "cwd": tmp_path / "out"},
        check=True,
    )
    assert alone.stdout.split("\n")[:-1] == translations


@pytest.mark.parametrize("network", NETWORKS)
def test_every_kind_of_network_gives_the_models_probabilities(corpus: Corpus, network: str) -> None:
    model = a_model(FREE, corpus, **NETWORKS[network])
    engine = RUNTIMES.load("ctranslate2").load(model, RuntimeSettings())
    for length in (3, 9):
        source, target = [*range(4, 4 + length), 2], [*range(30, 34 + length)]
        assert word_error(model, engine.log_probabilities, source, target) < 1e-4


def test_int8_is_close(corpus: Corpus, tmp_path: Path) -> None:
    made = export_model(
        a_model(FREE, corpus), corpus, tmp_path / "out", "int8", CONFIG, Bounds(0.0, 100.0), runtime="ctranslate2"
    )
    assert made.parity.logit_error < 1


def test_int8_means_the_same_within_older_instructions(corpus: Corpus, tmp_path: Path) -> None:
    """oneDNN, in CTranslate2, multiplies with saturation to 16 bits where there is no VNNI."""
    model = a_model(FREE, corpus)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.dim() == 2:
                parameter[:, : parameter.shape[1] // 4] = 0.4  # many large neighbours of one sign
    export_model(model, corpus, tmp_path / "out", "int8", CONFIG, Bounds(None, 100.0), runtime="ctranslate2")
    code = """
import json, sys
from pathlib import Path
from hat_ray.runtime.protocol import RUNTIMES
engine = RUNTIMES.load("ctranslate2").exporter.open(Path(sys.argv[1])).engine
print(json.dumps([engine.log_probabilities([*range(4 + row, 20 + row), 2], [*range(5, 25)]) for row in range(20)]))
"""
    told = [
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "out")],
            capture_output=True,
            text=True,
            timeout=240,
            check=True,
            env={**os.environ, **limit},
        ).stdout
        for limit in ({}, {"CT2_FORCE_CPU_ISA": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2", "DNNL_MAX_CPU_ISA": "AVX2"})
    ]
    here, older = (torch.tensor(json.loads(each)) for each in told)
    assert float((here - older).abs().mean()) < 0.01  # 1.4 with bytes that CTranslate2 chose


def test_no_product_of_its_bytes_can_saturate(corpus: Corpus) -> None:
    spec, seen = model_spec(a_model(FREE, corpus)), []

    def look(_: object, name: str, value: Any) -> None:
        if name.endswith("weight") and value.dtype == "int8":
            weight = value.numpy().astype(np.int64)
            wide = np.pad(weight, ((0, 0), (0, weight.shape[1] % 2))).reshape(len(weight), -1, 2)
            for sign in (1, -1):
                assert 255 * np.maximum(sign * wide, 0).sum(2).max() <= 2**15 - 1, name
            seen.append(name)

    pieces = corpus.vocabularies.target.pieces()
    spec.register_source_vocabulary(pieces)
    spec.register_target_vocabulary(pieces)
    spec.validate()
    quantise_spec(spec)
    ctranslate2.specs.model_spec.visit_spec(spec, look)
    assert len(seen) > 20


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("every layer its own, reach 3 1 2", r"attend to \[3, 1, 2\] encoder layers"),
        ("decoder wider than encoder", "attentions have"),
        ("HAT's repeats of a skipped layer", "attend to"),
    ],
)
def test_what_it_cannot_express_is_refused(corpus: Corpus, tmp_path: Path, name: str, words: str) -> None:
    assert why_not_expressible(FREE) is None
    model = a_model(ARCHITECTURES[name], corpus)
    with pytest.raises(HatRayError, match=f"cannot express architecture .*{words}.*take runtime onnx"):
        export_model(model, corpus, tmp_path / "out", "fp32", CONFIG, Bounds(0.0, 100.0), runtime="ctranslate2")
    assert list(tmp_path.iterdir()) == []
