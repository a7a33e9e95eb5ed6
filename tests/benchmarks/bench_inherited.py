"""BLEU against updates of a model that starts from inherited weights, beside from scratch, with and without a teacher.

For each seed a SuperTransformer is trained; then one architecture of its space, each training with a whole
learning-rate schedule of its own: from scratch, from the weights that it inherits at three highest learning rates, and
from either with the SuperTransformer's largest architecture as word-level teacher. Figures: validation loss in bits a
token, and BLEU of the test set with beam 5, as mean, standard deviation and each seed's. The last line is the share of
updates from scratch that a start from inherited weights saves at no lower mean BLEU. Run with
    HAT_RAY_SHARED=FOLDER pytest -m benchmark -s --timeout 40000 tests/benchmarks/bench_inherited.py
`HAT_RAY_BENCH_RECIPE` (multi30k-tiny.en-de; toy needs no text), `HAT_RAY_BENCH_SEEDS` (3), `HAT_RAY_BENCH_SUPER` and
`HAT_RAY_BENCH_UPDATES` (updates of the SuperTransformer, and from scratch; the recipe's) and `HAT_RAY_BENCH_SENTENCES`
(all test sentences) set its size. `HAT_RAY_BENCH_FOLDER=FOLDER` keeps the trainings there: the same command goes on
where it was stopped.
"""

import os
import random
import statistics
from collections.abc import Iterator
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
from hat_ray.recipe import Recipe, load_recipe
from hat_ray.space.architecture import Architecture
from hat_ray.storage.folder import Folder
from hat_ray.train.config import RetrainConfig, TrainConfig
from hat_ray.train.data import ValidationLoss
from hat_ray.train.job import MODEL, SUPERNET, train_sub, train_super

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(40000)]

RECIPE = os.environ.get("HAT_RAY_BENCH_RECIPE", "multi30k-tiny.en-de")
SEEDS = int(os.environ.get("HAT_RAY_BENCH_SEEDS", "3"))


@dataclass(frozen=True)
class Way:
    """One way to train a model: what it starts from, and shares of the settings from scratch."""

    inherited: bool
    updates: float
    lr: float = 1.0
    taught: bool = False

    @property
    def name(self) -> str:
        start = "inherited" if self.inherited else "scratch"
        return f"{start}, {self.updates:g} of updates, lr x {self.lr:g}{', taught' if self.taught else ''}"


WAYS = (
    *(Way(inherited=False, updates=share) for share in (1, 0.5, 0.25)),
    Way(inherited=False, updates=1, taught=True),
    *(Way(inherited=True, updates=share, lr=lr) for share in (0.5, 0.25, 0.125) for lr in (1, 0.33, 0.1)),
    Way(inherited=True, updates=0.25, lr=0.33, taught=True),
)


@dataclass(frozen=True)
class Figures:
    """Figures of one model: validation loss in bits a token, BLEU of the test set, updates made."""

    loss_bits: float
    bleu: float
    updates: int


def sized(config: TrainConfig, name: str) -> TrainConfig:
    """Return settings with the updates that the environment names, and the same share of them as warm-up."""
    updates = int(os.environ.get(f"HAT_RAY_BENCH_{name}", str(config.updates)))
    warmup = config.warmup_updates * updates // config.updates
    return config.model_copy(
        update={
            "updates": updates,
            "warmup_updates": warmup,
            "workers": 1,
            "tensorboard": False,
            "validate_every": updates,
            "checkpoint_every": max(1, updates // 4),
        }
    )


def figures_of(folder: Folder, corpus: Corpus, loss_bits: float, updates: int) -> Figures:
    sentences = os.environ.get("HAT_RAY_BENCH_SENTENCES")
    config = EvaluateConfig(beam=5, sentences=int(sentences) if sentences else None, floor_pairs=0)
    return Figures(loss_bits, evaluate(load_sub(folder, MODEL).eval(), corpus, config).score.bleu, updates)


def trained(
    way: Way, one: Architecture, recipe: Recipe, corpus: Corpus, supernet: Folder, seed: int, folder: Folder
) -> Figures:
    """Train a model in one way and score it, or return what an earlier call found."""
    if folder.exists("figures.json"):
        return read(folder, "figures.json", Figures)
    config = sized(recipe.retrain, "UPDATES")
    updates = max(1, round(config.updates * way.updates))
    changes = {
        "updates": updates,
        "warmup_updates": max(1, round(config.warmup_updates * way.updates)),
        "lr": config.lr * way.lr,
        "validate_every": updates,
    }
    held = load_super(supernet, SUPERNET)
    start, teacher = (folder.child(name) if wanted else None for name, wanted in zip(
        ("start", "teacher"), (way.inherited, way.taught), strict=True
    ))  # fmt: skip
    if start is not None:
        save_model(start, MODEL, held.extract(one))
    if teacher is not None:
        save_model(teacher, MODEL, held.extract(held.space.largest()))
    result = train_sub(
        one,
        recipe.space.build(),
        corpus,
        recipe.model,
        RetrainConfig(**{**config.model_dump(), **changes}),
        folder,
        seed,
        start=start,
        teacher=teacher,
    )
    figures = figures_of(folder, corpus, result.valid_loss_bits["model"], updates)
    folder.delete("checkpoints")
    write(folder, "figures.json", figures)
    return figures


def untrained(one: Architecture, corpus: Corpus, supernet: Folder, folder: Folder) -> Figures:
    """Score the weights that a model inherits, as they are."""
    if not folder.exists("figures.json"):
        model = load_super(supernet, SUPERNET).extract(one)
        save_model(folder, MODEL, model)
        sums = ValidationLoss(corpus.valid, 4096).sums(model, lambda batch: model.output(batch.source, batch.target_in))
        write(folder, "figures.json", figures_of(folder, corpus, sums.loss_bits, 0))
    return read(folder, "figures.json", Figures)


def of_seed(recipe: Recipe, corpus: Corpus, seed: int, place: Folder) -> Iterator[tuple[str, Figures]]:
    space = recipe.space.build()
    one, supernet = space.sample(random.Random(1)), place.child("supernet")
    settings = (space, corpus, recipe.model)
    train_super(*settings, sized(recipe.supernet, "SUPER"), supernet, seed)
    yield "inherited, not trained", untrained(one, corpus, supernet, place.child("untrained"))
    for number, way in enumerate(WAYS):
        yield way.name, trained(way, one, recipe, corpus, supernet, seed, place.child(f"way-{number}"))


def spread(values: list[float]) -> str:
    sd = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.fmean(values):7.3f} {sd:6.3f}"


def test_updates_that_inherited_weights_save(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    place = Folder.at(os.environ.get("HAT_RAY_BENCH_FOLDER", tmp_path))
    text = [] if RECIPE == "toy" else [f"corpus.files.folder={_shared(request) / 'corpora' / 'multi30k-en-de'}"]
    recipe = load_recipe(RECIPE, text)
    assert isinstance(recipe.corpus, CorpusConfig)
    prepare(recipe.corpus, place.child("corpus"), 1)
    corpus = Corpus.load(place.child("corpus"))
    print(f"\n{recipe.space.build().sample(random.Random(1))}")
    found: dict[str, list[Figures]] = {}
    for seed in range(1, SEEDS + 1):
        for name, figures in of_seed(recipe, corpus, seed, place.child(str(seed))):
            found.setdefault(name, []).append(figures)
            print(f"seed {seed}  {name:46} loss {figures.loss_bits:6.3f}  BLEU {figures.bleu:5.2f}", flush=True)
    print(f"{'way':46} {'updates':>7} {'loss':>7} {'sd':>6} {'BLEU':>7} {'sd':>6}")
    for name, some in found.items():
        losses, scores = [one.loss_bits for one in some], [one.bleu for one in some]
        print(f"{name:46} {some[0].updates:7} {spread(losses)} {spread(scores)}")
    print(saved({name: some for name, some in found.items() if "taught" not in name}))


def saved(found: dict[str, list[Figures]]) -> str:
    """Return the share of updates that the shortest training of no lower mean BLEU saves."""
    bleu = {name: statistics.fmean(one.bleu for one in some) for name, some in found.items()}
    whole = WAYS[0].name
    enough = [found[name][0].updates for name in found if "inherited" in name and bleu[name] >= bleu[whole]]
    if not enough:
        return "no start from inherited weights reaches the BLEU from scratch"
    share = 1 - min(enough) / found[whole][0].updates
    return f"inherited weights reach the BLEU from scratch with {min(enough)} updates: {share:.0%} are saved"


def _shared(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue("shared")
    return folder
