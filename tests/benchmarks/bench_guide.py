"""What guides a search on Multi30k: inherited losses, or those after a few updates of each, at equal compute.

Architectures of each of two bins of decoder FLOPs are trained from scratch: the truth. They are ranked by the losses
that they inherit from a SuperTransformer, and by their losses after each rung of training on from a SuperTransformer
that got fewer updates: both ways cost the same training FLOPs, that of the rungs included, without dropping any. The
space that the preset toy was first, and the preset of now, are trained in turn: the spread of the truth inside a bin,
beyond a line in FLOPs, says how much shapes matter. Losses are in bits a token. Run with
    HAT_RAY_SHARED=FOLDER pytest -m benchmark -s --timeout 40000 tests/benchmarks/bench_guide.py
`HAT_RAY_BENCH_UPDATES` (1200), `HAT_RAY_BENCH_SEEDS` (3) and `HAT_RAY_BENCH_ARCHITECTURES` (12) make it smaller.
`HAT_RAY_BENCH_FOLDER=FOLDER` keeps the trainings there: the same command resumes.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from hat_ray.corpus.batches import collate, make_unshuffled_batches
from hat_ray.corpus.config import CorpusConfig
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.prepare import prepare
from hat_ray.model.checkpoints.native import load_super, save_model
from hat_ray.model.config import ModelConfig
from hat_ray.recipe import load_recipe
from hat_ray.search.scorer import CandidateScorer
from hat_ray.space.presets import preset
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder
from hat_ray.studies.compute import PASSES, MeanSentence, mean_flops
from hat_ray.studies.statistics import kendall_tau_b, regrets
from hat_ray.studies.stratify import PickedArchitecture, stratify
from hat_ray.train.config import TrainConfig
from hat_ray.train.job import MODEL, SUPERNET, train_sub, train_super
from hat_ray.train.sampling import policy_for
from tests.spaces import THREE_LAYERS

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(40000)]

UPDATES, SEEDS, ARCHITECTURES = (
    int(os.environ.get(f"HAT_RAY_BENCH_{name}", value))
    for name, value in (("UPDATES", 1200), ("SEEDS", 3), ("ARCHITECTURES", 12))
)
BINS = 2
RUNGS = tuple(max(1, UPDATES // part) for part in (48, 24))
NETWORK = ModelConfig(normalize_before=True, dropout=0.0)


def corpus_in(folder: Folder, shared: Path) -> Corpus:
    config = load_recipe("multi30k-tiny.en-de", [f"corpus.files.folder={shared / 'corpora' / 'multi30k-en-de'}"]).corpus
    assert isinstance(config, CorpusConfig)
    prepare(config, folder, 1)
    return Corpus.load(folder)


def training(updates: int, lr: float = 3e-3) -> TrainConfig:
    return TrainConfig(
        **{"updates": updates, "max_tokens": 512, "lr": lr, "warmup_updates": updates // 10, "clip_norm": 1.0},
        **{"validate_every": updates, "checkpoint_every": 100, "tensorboard": False},
    )


@dataclass(frozen=True)
class Guide:
    """The trainings of one space and one seed, each in a folder of its own."""

    space: SearchSpace
    corpus: Corpus
    picked: Sequence[PickedArchitecture]
    seed: int
    place: Path

    def truth(self) -> np.ndarray:
        """Return the losses after training from scratch, (K,)."""
        return np.array([self._trained(one, "scratch", training(UPDATES // 2)) for one in self.picked])

    def inherited(self, updates: int) -> np.ndarray:
        """Return the losses inherited from a SuperTransformer of so many updates, (K,)."""
        table, model = self.corpus.valid, load_super(self._super(updates), SUPERNET)
        batches = [collate(table, rows) for rows in make_unshuffled_batches(table, 4096)]
        score = CandidateScorer(model, batches, 0.1)
        return np.array([score(one.architecture) for one in self.picked])

    def tuned(self, updates: int) -> list[np.ndarray]:
        """Return the losses after each rung from the weights that they inherit, each (K,)."""
        giver = load_super(self._super(updates), SUPERNET)
        rungs: list[list[float]] = [[] for _ in RUNGS]
        for one in self.picked:
            start = Folder.at(self.place / one.architecture.id / "start")
            save_model(start, MODEL, giver.extract(one.architecture))
            for rung, length in enumerate(RUNGS):
                rungs[rung].append(self._trained(one, f"rung{rung}", training(length, 1.5e-3), start))
                start = Folder.at(self.place / one.architecture.id / f"rung{rung}")
        return [np.array(losses) for losses in rungs]

    def _super(self, updates: int) -> Folder:
        folder = Folder.at(self.place / f"super{updates}")
        train_super(self.space, self.corpus, NETWORK, training(updates), folder, self.seed)
        return folder

    def _trained(self, one: PickedArchitecture, name: str, config: TrainConfig, start: Folder | None = None) -> float:
        folder = Folder.at(self.place / one.architecture.id / name)
        found = train_sub(one.architecture, self.space, self.corpus, NETWORK, config, folder, self.seed, start=start)
        return float(found.valid_loss_bits[MODEL])


def updates_left(guide: Guide, sentence: MeanSentence) -> int:
    """Return the updates of a SuperTransformer that leave the compute of all rungs."""
    an_update = mean_flops(policy_for(guide.space, training(UPDATES), guide.seed), sentence)
    rungs = sum(RUNGS) * PASSES * sum(sentence.pass_flops(one.architecture) for one in guide.picked)
    return max(1, round(UPDATES - rungs / an_update))


def spread_beyond_flops(truth: np.ndarray, picked: Sequence[PickedArchitecture]) -> float:
    """Return the standard deviation of losses inside bins, after one line in FLOPs and a mean for each bin."""
    bins = np.array([one.bin for one in picked])
    flops = np.array([one.latency for one in picked])
    columns = np.stack([flops / flops.mean(), *(bins == number for number in range(BINS))], axis=1).astype(float)
    rest = truth - columns @ np.linalg.lstsq(columns, truth, rcond=None)[0]
    return float(np.sqrt((rest**2).sum() / max(1, len(truth) - columns.shape[1])))


@pytest.mark.parametrize("space", [THREE_LAYERS, preset("toy")], ids=["toy as it was first", "toy"])
def test_ranking_before_and_after_finalists_at_equal_compute(space: SearchSpace, shared: Path, tmp_path: Path) -> None:
    place = Path(os.environ.get("HAT_RAY_BENCH_FOLDER", tmp_path))
    corpus = corpus_in(Folder.at(place / "corpus"), shared)
    sentence = MeanSentence.of(corpus.summary)
    picked = stratify(space, sentence.decoder_flops, ARCHITECTURES, BINS, 1)
    bins = np.array([one.bin for one in picked])
    print(f"\n{space.name}: {len(picked)} architectures, rungs of {RUNGS}")
    print(f"{'seed':4} {'guide':34} {'tau':>6} {'in bins':>8}  regret in each bin, bits")
    for seed in range(1, SEEDS + 1):
        guide = Guide(space, corpus, picked, seed, place / space.id / str(seed))
        truth, left = guide.truth(), updates_left(guide, sentence)
        ways = {f"inherited, {UPDATES} updates": guide.inherited(UPDATES), f"inherited, {left}": guide.inherited(left)}
        done = 0
        for length, losses in zip(RUNGS, guide.tuned(left), strict=True):
            done += length
            ways[f"the same and {done} updates each"] = losses
        ways["decoder layers"] = np.array([-float(one.architecture.decoder.depth) for one in picked])
        for name, losses in ways.items():
            taus = [kendall_tau_b(losses, truth, of) for of in (None, bins)]
            shown = " ".join(f"{'-' if tau is None else f'{tau:.2f}':>7}" for tau in taus)
            lost = " ".join(f"{one:.3f}" for one in regrets(losses, truth, bins))
            print(f"{seed:4} {name:34} {shown}  {lost}")
        print(f"{seed:4} spread of the truth beyond a line in FLOPs: {spread_beyond_flops(truth, picked):.3f} bits")
