"""A small exported model with random weights that says different things of different sentences."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from hat_ray.corpus.config import CorpusConfig, ToyConfig
from hat_ray.corpus.dataset import Corpus
from hat_ray.corpus.prepare import prepare
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.export import export_model
from hat_ray.evaluate.parity import BOUNDS
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.storage import Folder
from tests.runtime.models import ARCHITECTURES

CONFIG = EvaluateConfig(beam=2, sentences=8, max_length_factor=0, max_length_extra=15, max_source_length=60)


@dataclass(frozen=True)
class Exported:
    folder: Path
    lines: tuple[str, ...]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    place = tmp_path_factory.mktemp("served")
    toy = ToyConfig(train_pairs=300, valid_pairs=20, test_pairs=40)
    prepare(CorpusConfig(toy=toy, vocab_size=300), Folder.at(place / "corpus"), seed=1)
    corpus = Corpus.load(Folder.at(place / "corpus"))
    shape = ARCHITECTURES["every layer its own, reach 3 1 2"]
    model = SubTransformer(shape, len(corpus.vocabulary), ModelConfig(), seed=3).eval()
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    export_model(model, corpus, place / "out", "fp32", CONFIG, BOUNDS["fp32"])
    return Exported(place / "out", tuple(corpus.test.source_text or ()))
