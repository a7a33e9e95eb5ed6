"""A tiny corpus and space, and HAT's reference trajectories."""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hat_ray.corpus.config import CorpusConfig, ToyConfig
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.prepare import prepare
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder

SPACE = SearchSpace(
    name="tiny",
    encoder_embed_dims=(32, 16),
    encoder_depths=(2, 1),
    encoder_ffn_dims=(32, 16),
    encoder_heads=(2, 1),
    decoder_embed_dims=(32, 16),
    decoder_depths=(2, 1),
    decoder_ffn_dims=(32, 16),
    decoder_self_heads=(2, 1),
    decoder_cross_heads=(2, 1),
    decoder_cross_layers=(1, 2),
    qkv_dim=16,
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_space() -> SearchSpace:
    return SPACE


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = Folder.at(tmp_path_factory.mktemp("corpus"))
    toy = ToyConfig(train_pairs=600, valid_pairs=60, test_pairs=20)
    prepare(CorpusConfig(toy=toy, vocab_size=300), folder, seed=1)
    return folder


@pytest.fixture(scope="session")
def corpus(corpus_folder: Folder) -> Corpus:
    return Corpus.load(corpus_folder)


@dataclass(frozen=True)
class Reference:
    """One variant of HAT's reference outputs."""

    variant: str
    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]
    folder: Path

    def tensor(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[name])


@pytest.fixture(scope="session", params=["shared", "unequal"])
def reference(request: pytest.FixtureRequest, shared: Path) -> Reference:
    folder = shared / "hat" / "oracle"
    facts = json.loads((folder / f"{request.param}.json").read_text())
    with np.load(folder / f"{request.param}.npz") as arrays:
        return Reference(request.param, facts, dict(arrays), folder)


@pytest.fixture
def rng() -> random.Random:
    return random.Random(7)
