"""Updates of a SuperTransformer on Multi30k that a start from a trained model saves.

A Transformer of 6+6 layers is trained alone first, as someone who switches has one. Then SuperTransformers of the space
around it are trained: from scratch, and from that model with a third and a sixth of the updates, each with a whole
learning-rate schedule of its own. Losses are in bits a token on the validation set: of the largest architecture, of the
smallest, and the mean of 12 random ones, the same for all. The curve stands below, at each validation. Run with
    HAT_RAY_SHARED=FOLDER pytest -m benchmark -s --timeout 14400 tests/benchmarks/bench_start.py
`HAT_RAY_BENCH_UPDATES` (1200) and `HAT_RAY_BENCH_SEEDS` (3) make it smaller. `HAT_RAY_BENCH_FOLDER=FOLDER` keeps the
trainings there: the same command goes on where it was stopped.
"""

import os
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from hat_ray.corpus.batches import collate, make_unshuffled_batches
from hat_ray.corpus.config import CorpusConfig
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.prepare import prepare
from hat_ray.model.checkpoints.native import load_sub, load_super, save_model
from hat_ray.model.checkpoints.start import started_from
from hat_ray.model.config import ModelConfig
from hat_ray.recipe import load_recipe
from hat_ray.search.scorer import CandidateScorer
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from hat_ray.space.derived import space_around
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder
from hat_ray.train.config import TrainConfig
from hat_ray.train.job import MODEL, SUPERNET, train_sub, train_super
from hat_ray.train.state import TrainResult

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(14400)]

UPDATES, SEEDS = (
    int(os.environ.get(f"HAT_RAY_BENCH_{name}", value)) for name, value in (("UPDATES", 1200), ("SEEDS", 3))
)
OWNED = Architecture(
    EncoderShape(128, (256,) * 6, (4,) * 6), DecoderShape(128, (256,) * 6, (4,) * 6, (4,) * 6, (1,) * 6), 128
)
"""The model that someone has."""
CONFIG = ModelConfig(normalize_before=True, dropout=0.0, sharing="importance")
SHARES = (3, 6)


@dataclass(frozen=True)
class Trained:
    """One SuperTransformer: losses in bits a token."""

    name: str
    result: TrainResult
    mean_of_random: float

    @property
    def figures(self) -> tuple[float, float, float]:
        losses = self.result.valid_loss_bits
        return losses["largest"], losses["smallest"], self.mean_of_random


def corpus_in(folder: Folder, shared: Path) -> Corpus:
    config = load_recipe("multi30k-tiny.en-de", [f"corpus.files.folder={shared / 'corpora' / 'multi30k-en-de'}"]).corpus
    assert isinstance(config, CorpusConfig)
    prepare(config, folder, 1)
    return Corpus.load(folder)


def training(updates: int) -> TrainConfig:
    return TrainConfig(
        updates=updates,
        max_tokens=512,
        lr=3e-3,
        warmup_updates=max(1, updates // 10),
        clip_norm=1.0,
        validate_every=max(1, UPDATES // 12),
        checkpoint_every=max(1, UPDATES // 12),
        tensorboard=False,
    )


def mean_loss(folder: Folder, corpus: Corpus, some: Sequence[Architecture]) -> float:
    table = corpus.valid
    batches = [collate(table, rows) for rows in make_unshuffled_batches(table, 4096)]
    score = CandidateScorer(load_super(folder, SUPERNET), batches, 0.1, cache_bytes=1 << 28, in_parts=False)
    return statistics.fmean(score(one) for one in some)


def of_seed(seed: int, corpus: Corpus, space: SearchSpace, place: Path) -> tuple[TrainResult, list[Trained]]:
    some = [space.sample(random.Random(number)) for number in range(12)]
    own = Folder.at(place / "own")
    owned = train_sub(OWNED, space, corpus, CONFIG, training(UPDATES), own, seed)
    start = Folder.at(place / "start")
    model = started_from(load_sub(own, MODEL), space, CONFIG, corpus.vocabularies.sizes, seed)
    save_model(start, SUPERNET, model)
    found = []
    for name, updates, begun in [("from scratch", UPDATES, None), *(("started", UPDATES // n, start) for n in SHARES)]:
        folder = Folder.at(place / f"{name}{updates}")
        result = train_super(space, corpus, CONFIG, training(updates), folder, seed, start=begun)
        found.append(Trained(f"{name}, {updates} updates", result, mean_loss(folder, corpus, some)))
    return owned, found


def test_updates_that_a_trained_model_saves(shared: Path, tmp_path: Path) -> None:
    place = Path(os.environ.get("HAT_RAY_BENCH_FOLDER", tmp_path))
    corpus, space = corpus_in(Folder.at(place / "corpus"), shared), space_around(OWNED)
    print(f"\nspace of {space.size():.3g} architectures around {OWNED}")
    print(f"{'seed':4} {'training':28} {'largest':>8} {'smallest':>8} {'random':>8}  as good as from scratch")
    for seed in range(1, SEEDS + 1):
        owned, found = of_seed(seed, corpus, space, place / str(seed))
        print(f"{seed:4} {'the model, alone':28} {owned.valid_loss_bits['model']:8.3f}")
        scratch = found[0].figures
        for one in found:
            better = sum(mine <= its for mine, its in zip(one.figures, scratch, strict=True))
            print(f"{seed:4} {one.name:28} " + " ".join(f"{f:8.3f}" for f in one.figures) + f"  {better} of 3")
        for one in found:
            points = " ".join(
                f"{p.update}:{p.valid_loss_bits['largest']:.2f}/{p.valid_loss_bits['smallest']:.2f}"
                for p in one.result.history
            )
            print(f"     {one.name}: {points}")
