"""A model folder, of a model with a vocabulary for each side, as a service of its own process."""

from pathlib import Path

import pytest
import torch

from hat_ray.api import open_model
from hat_ray.corpus.config import ToyConfig
from hat_ray.corpus.toy.generate import generate
from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.corpus.vocabulary.learn import learn_vocabulary
from hat_ray.model.checkpoints.about import About
from hat_ray.model.checkpoints.folder import write_model_folder
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.storage.folder import Folder
from tests.runtime.models import ARCHITECTURES
from tests.serve.service import running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
pytest.importorskip("fastapi", reason="needs ray[serve]")


def test_a_model_folder_with_two_vocabularies_is_served_as_it_translates(tmp_path: Path) -> None:
    texts = generate(ToyConfig(train_pairs=300, valid_pairs=10, test_pairs=10))
    sides = (list(texts["train"].source), 200), (list(texts["train"].target), 260)
    vocabularies = Vocabularies(*(learn_vocabulary(lines, size, byte_fallback=False) for lines, size in sides))
    assert vocabularies.sizes == (200, 260)
    config = ModelConfig(share_embeddings="decoder")
    shape = ARCHITECTURES["every layer its own, reach 3 1 2"]
    model = SubTransformer(shape, 200, config, target_vocab_size=260, seed=3).eval()
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():  # else all sentences are translated alike
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    about = About("aa", "bb", search={"beam": 2, "max_length_factor": 0.0, "max_length_extra": 15}, origin="a test")
    place = tmp_path / "ein Modell"
    write_model_folder(Folder.at(place), model, vocabularies, about)
    lines = list(texts["test"].source)[:8]
    expected = open_model(place).translate(lines)
    assert len(set(expected)) > 1
    with running(place, tmp_path, "--max-batch", "4") as service:
        for line, translation in zip(lines, expected, strict=True):
            answer = service.ask({"text": line})
            assert (answer.status, answer.body) == (200, {"translation": translation})
        assert service.ask({"texts": lines}).body == {"translations": expected}
        health = service.ask(b"", method="GET", path="/health")
        assert health.status == 200
        assert health.body["model"] == "ein Modell"
    assert service.process.returncode == 0, service.log.read_text()
