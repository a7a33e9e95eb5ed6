"""A small exported model with random weights that says different things of different sentences."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.made_once import made_once


@dataclass(frozen=True)
class Exported:
    folder: Path
    lines: tuple[str, ...]


def export_once(factory: pytest.TempPathFactory, runtime: str) -> Exported:
    """Export it, or take what another worker of pytest-xdist has exported."""
    from hat_ray.corpus.corpus import Corpus
    from hat_ray.storage.folder import Folder

    place = made_once(factory, f"exported-{runtime}", lambda place: export_here(place, runtime))
    return Exported(place / "out", tuple(Corpus.load(Folder.at(place / "corpus")).test.source_text or ()))


def export_here(place: Path, runtime: str) -> None:
    """Export it to `place`/out, and its corpus to `place`/corpus."""
    import torch  # late: tests that need no model start without it

    from hat_ray.corpus.config import CorpusConfig, ToyConfig
    from hat_ray.corpus.corpus import Corpus
    from hat_ray.corpus.prepare import prepare
    from hat_ray.evaluate.config import EvaluateConfig
    from hat_ray.model.config import ModelConfig
    from hat_ray.model.subtransformer import SubTransformer
    from hat_ray.runtime.protocol import Bounds
    from hat_ray.storage.folder import Folder
    from tests.exporting import export_model
    from tests.runtime.models import ARCHITECTURES

    config = EvaluateConfig(beam=2, sentences=8, max_length_factor=0, max_length_extra=15, max_source_length=60)
    toy = ToyConfig(train_pairs=300, valid_pairs=20, test_pairs=40)
    prepare(CorpusConfig(toy=toy, vocab_size=300), Folder.at(place / "corpus"), seed=1)
    corpus = Corpus.load(Folder.at(place / "corpus"))
    shape = ARCHITECTURES["every layer its own, reach 3 1 2" if runtime == "onnx" else "one layer each"]
    model = SubTransformer(shape, corpus.vocabularies.sizes[0], ModelConfig(), seed=3).eval()
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    anything = Bounds(0, 100, 100)  # weights are random: two runtimes may well choose different words
    export_model(model, corpus, place / "out", "fp32", config, anything, runtime=runtime)


def export_knowing(place: Path, preset: str | None = None) -> Exported:
    """Export one whose sub-words have the symbols of protection: it copies none, so that all is repaired.

    `preset`: it has the smallest architecture of a search space, and that one's way of searching.
    """
    import torch

    from hat_ray.corpus.config import CorpusConfig, ToyConfig
    from hat_ray.corpus.corpus import Corpus
    from hat_ray.corpus.prepare import prepare
    from hat_ray.evaluate.config import EvaluateConfig
    from hat_ray.model.config import ModelConfig
    from hat_ray.model.subtransformer import SubTransformer
    from hat_ray.runtime.protocol import Bounds
    from hat_ray.space.presets import PRESETS
    from hat_ray.storage.folder import Folder
    from tests.exporting import export_model
    from tests.runtime.models import ARCHITECTURES

    toy = ToyConfig(train_pairs=300, valid_pairs=20, test_pairs=40)
    config = CorpusConfig(toy=toy, vocab_size=600, byte_fallback=True, protect=0.3)
    prepare(config, Folder.at(place / "corpus"), seed=1)
    corpus = Corpus.load(Folder.at(place / "corpus"))
    search = EvaluateConfig(beam=1, sentences=8, max_length_factor=0, max_length_extra=12, max_source_length=60)
    architecture = ARCHITECTURES["one layer each"]
    if preset is not None:
        architecture, search = PRESETS[preset].smallest(), EvaluateConfig(max_length_factor=1, max_length_extra=2)
    model = SubTransformer(architecture, corpus.vocabularies.sizes[0], ModelConfig(), seed=3).eval()
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    export_model(model, corpus, place / "out", "fp32", search, Bounds(0, 100, 100))
    return Exported(place / "out", tuple(corpus.test.source_text or ()))


@pytest.fixture(scope="session")
def knowing(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_knowing(tmp_path_factory.mktemp("knowing"))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_once(tmp_path_factory, "onnx")


@pytest.fixture(scope="session")
def exported_ct2(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    pytest.importorskip("ctranslate2", reason="needs hat-ray[ctranslate2]")
    return export_once(tmp_path_factory, "ctranslate2")
