"""Spread of one architecture's trainings over seeds, on the built-in language, by settings of `retrain`.

Each way of training changes some settings of recipe `toy`; seeds differ in initial weights, order of batches and
dropout, never in the text. Some ways start from, or are taught by, the SuperTransformer of recipe `toy`, which is
trained once by one worker. Figures of each training: validation loss in bits a token, and BLEU of the test set with
beam 5. The loss at each validation follows: it shows when the seeds part.
A line gives the mean, the standard deviation and the range over seeds. Run with
    pytest -m benchmark -s --timeout 14400 tests/benchmarks/bench_seeds.py
`HAT_RAY_BENCH_SEEDS` (5), `HAT_RAY_BENCH_UPDATES` (the recipe's), `HAT_RAY_BENCH_MODELS` (largest,winner) and
`HAT_RAY_BENCH_WAYS` (all; with semicolons) choose what is trained. `HAT_RAY_BENCH_FOLDER=FOLDER` keeps the trainings
there: the same command goes on where it was stopped, and several with other models can share it.
"""

import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from hat_ray.core.codec import read, write
from hat_ray.corpus.config import CorpusConfig
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.prepare import prepare
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.evaluate import evaluate
from hat_ray.model.checkpoints.native import load_sub, load_super, save_model
from hat_ray.recipe import load_recipe
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from hat_ray.space.presets import TOY
from hat_ray.storage.folder import Folder
from hat_ray.train.config import INHERITED, LARGEST
from hat_ray.train.job import MODEL, SUPERNET, train_sub, train_super

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(14400)]

MODELS = {
    "largest": TOY.largest(),
    "winner": Architecture(
        EncoderShape(128, (256,) * 3, (4,) * 3), DecoderShape(128, (256,), (4,), (4,), (1,)), qkv_dim=128
    ),
    "narrow": Architecture(
        EncoderShape(64, (128,) * 2, (4,) * 2), DecoderShape(64, (128,) * 2, (4,) * 2, (4,) * 2, (1,) * 2), qkv_dim=128
    ),
}
WAYS = {
    "recipe": "",
    "clip": "clip_norm=1.0",
    "lr 2e-3": "lr=2.0e-3",
    "lr 1.5e-3": "lr=1.5e-3",
    "clip, lr 2e-3": "clip_norm=1.0 lr=2.0e-3",
    "warm-up 300": "warmup_updates=300",
    "batch 1024": "max_tokens=1024",
    "batch 1024, half": "max_tokens=1024 updates=450 warmup_updates=55",
    "batch 256, lr 2e-3": "max_tokens=256 updates=1800 warmup_updates=220 lr=2.0e-3",
    "lr 4e-3": "lr=4.0e-3",
    "twice the updates": "updates=1800 warmup_updates=220",
    "mean of the last 3": "average_last=3 checkpoint_every=30",
    "taught by the largest": "teacher=largest",
    "inherited, 150": "init=inherited updates=150 warmup_updates=15 lr=1.0e-3",
    "inherited, 300": "init=inherited updates=300 warmup_updates=30 lr=1.0e-3",
}


@dataclass(frozen=True)
class Figures:
    """Figures of one training."""

    loss_bits: float
    bleu: float
    seconds: float
    largest_norm: float
    losses: tuple[tuple[int, float], ...]
    """Validation loss by update."""


def one_training(name: str, way: str, settings: str, seed: int, place: Folder) -> Figures:
    """Train once and score, or return what an earlier call found."""
    folder = place.child(name, way.replace(" ", "_"), str(seed))
    if folder.exists("figures.json"):
        return read(folder, "figures.json", Figures)
    updates = [f"updates={os.environ['HAT_RAY_BENCH_UPDATES']}"] if "HAT_RAY_BENCH_UPDATES" in os.environ else []
    recipe = load_recipe("toy", [f"retrain.{one}" for one in [*settings.split(), *updates, "tensorboard=false"]])
    corpus = Corpus.load(place.child("corpus"))
    starts = recipe.retrain.starts[0] == INHERITED
    start = inherited(place, corpus, MODELS[name], folder.child("start")) if starts else None
    taught = recipe.retrain.teacher == LARGEST
    teacher = inherited(place, corpus, TOY.largest(), folder.child("teacher")) if taught else None
    began = time.process_time()
    result = train_sub(
        MODELS[name], TOY, corpus, recipe.model, recipe.retrain, folder, seed, start=start, teacher=teacher
    )
    seconds = time.process_time() - began
    score = evaluate(load_sub(folder, MODEL).eval(), corpus, EvaluateConfig(beam=5)).score
    norm = max(point.grad_norm for point in result.history)
    points = tuple((point.update, point.valid_loss_bits["model"]) for point in result.history)
    figures = Figures(result.valid_loss_bits["model"], score.bleu, seconds, norm, points)
    folder.delete("checkpoints")
    write(folder, "figures.json", figures)
    return figures


def inherited(place: Folder, corpus: Corpus, one: Architecture, folder: Folder) -> Folder:
    """Return the folder of a model with the weights that it has in the SuperTransformer, which is trained first."""
    recipe = load_recipe("toy", ["supernet.workers=1", "supernet.tensorboard=false"])
    train_super(TOY, corpus, recipe.model, recipe.supernet, place.child("supernet"), 1)
    save_model(folder, MODEL, load_super(place.child("supernet"), SUPERNET).extract(one))
    return folder


def test_spread_over_seeds(tmp_path: Path) -> None:
    place = Folder.at(os.environ.get("HAT_RAY_BENCH_FOLDER", tmp_path))
    config = load_recipe("toy").corpus
    assert isinstance(config, CorpusConfig)
    prepare(config, place.child("corpus"), 1)
    seeds = range(1, int(os.environ.get("HAT_RAY_BENCH_SEEDS", "5")) + 1)
    models = os.environ.get("HAT_RAY_BENCH_MODELS", "largest,winner").split(",")
    ways = [way for way in os.environ.get("HAT_RAY_BENCH_WAYS", ";".join(WAYS)).split(";") if way in WAYS]
    print(f"\n{'model':8} {'way':22} {'loss':>6} {'sd':>6} {'range':>6} {'BLEU':>6} {'sd':>5} {'range':>6}   each")
    for way in ways:
        for name in models:
            found = [one_training(name, way, WAYS[way], seed, place) for seed in seeds]
            losses, scores = [one.loss_bits for one in found], [one.bleu for one in found]
            sd = statistics.stdev if len(found) > 1 else (lambda _: float("nan"))
            print(
                f"{name:8} {way:22} {statistics.fmean(losses):6.3f} {sd(losses):6.3f} {max(losses) - min(losses):6.3f} "
                f"{statistics.fmean(scores):6.2f} {sd(scores):5.2f} {max(scores) - min(scores):6.2f}   "
                + " ".join(f"{one.bleu:.1f}/{one.loss_bits:.3f}" for one in found)
                + f"  {statistics.fmean(one.seconds for one in found):.0f} s each",
                flush=True,
            )
            for (update, _), *_ in zip(*(one.losses for one in found), strict=True):
                at = [dict(one.losses)[update] for one in found]
                print(f"{'':8} after {update:5}: " + " ".join(f"{loss:.3f}" for loss in at))
