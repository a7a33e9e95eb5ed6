"""Stages `supernet` and `retrain`: train the weights that all architectures share; and the winners alone.

supernet: corpus -> SuperTransformer
retrain: search's winners and baselines -> one trained model an architecture, at equal updates, each in its own folder
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from hat_ray.corpus.corpus import Corpus
from hat_ray.evaluate.about import about_model
from hat_ray.model.checkpoints.folder import complete_model_folder
from hat_ray.pipeline.context import scorer_of, train_job
from hat_ray.pipeline.stage import Context, Stage
from hat_ray.pipeline.starting import start_of_training, started, starting_subs, starting_super
from hat_ray.pipeline.trained.rivals import select_models
from hat_ray.pipeline.trained.teachers import keep_teacher, teacher_of_training
from hat_ray.search.selection import RetrainedModel, RetrainOutput, TrainedOnce, unique_architectures
from hat_ray.space.architecture import Architecture
from hat_ray.space.cost import count_params
from hat_ray.storage.folder import Folder
from hat_ray.train.config import SCRATCH
from hat_ray.train.job import TrainJob
from hat_ray.train.state import TrainResult


def train_supernet(context: Context, folder: Folder) -> TrainResult:
    """Train the SuperTransformer."""
    job = replace(train_job(context, "supernet", None, folder), start=starting_super(context, folder))
    job = _taught(context, "supernet", folder, [job])[0]
    with context.progress("training the SuperTransformer") as progress:
        return context.execution.train_super(job, progress)


def retrain(context: Context, folder: Folder) -> RetrainOutput:
    """Train every selected architecture; the longest first, so that no worker trains alone at the end.

    Each training's folder becomes a model folder.
    """
    chosen = select_models(context, folder)
    architectures = sorted(unique_architectures(chosen.selected), key=count_params, reverse=True)
    winners = {entry.architecture for entry in chosen.selected if entry.kind == "winner"}
    planned = [
        one
        for start in context.recipe.retrain.starts
        for one in _planned(context, folder, start, architectures, winners)
    ]
    jobs = _taught(context, "retrain", folder, [one.job for one in planned])
    with context.progress("training the models") as progress:
        results = context.execution.train_subs(jobs, progress)
    _complete(context, jobs)
    done = [one.done(result) for one, result in zip(planned, results, strict=True)]
    trainings: dict[Architecture, list[TrainedOnce]] = {}
    for one, training in sorted(zip(planned, done, strict=True), key=lambda pair: pair[0].number):
        trainings.setdefault(one.architecture, []).append(training)
    inherited = inherited_losses(context, architectures)
    models = {
        architecture.id: RetrainedModel(inherited[architecture], tuple(trainings[architecture]))
        for architecture in architectures
    }
    return RetrainOutput(chosen.selected, models, chosen.missing)


@dataclass(frozen=True)
class _Planned:
    """One training: of which architecture, from which start, with which seed."""

    architecture: Architecture
    start: str
    seed: int
    job: TrainJob
    number: int
    """Place of the start among the recipe's; within it of the seed."""

    def done(self, result: TrainResult) -> TrainedOnce:
        """Return what the training gave."""
        loss = result.valid_loss_bits["model"]
        return TrainedOnce(self.start, self.seed, self.job.folder.name, loss, result.updates, result.seconds)


def _planned(
    context: Context, folder: Folder, start: str, architectures: Sequence[Architecture], winners: set[Architecture]
) -> list[_Planned]:
    """Return the trainings from one start: of all architectures from the main one, of the winners from another.

    Those of the main start and the first seed lie under the architecture's id. An architecture outside of the space
    inherits no weights: it is trained from scratch.
    """
    recipe = context.recipe
    number, space = recipe.retrain.starts.index(start), recipe.space.build()
    some = [one for one in architectures if number == 0 or one in winners]
    names = {one: f"{one.id}.{number}" if number else one.id for one in some}
    inheriting = {one: folder.child(name) for one, name in names.items() if space.contains(one)}
    begun = starting_subs(context, start, inheriting)
    planned = []
    for one in some:
        for seed in range(recipe.retrain.seeds):
            job = train_job(context, "retrain", one, folder.child(names[one] + (f"-s{seed}" if seed else "")), seed)
            from_scratch = start != SCRATCH and one not in begun
            job = started(job, begun.get(one))
            planned.append(
                _Planned(one, SCRATCH if from_scratch else start, seed, job, number * recipe.retrain.seeds + seed)
            )
    return planned


def _taught(context: Context, section: str, folder: Folder, jobs: list[TrainJob]) -> list[TrainJob]:
    """Give trainings their teacher, where they have one; it is kept in the stage's folder."""
    place = (context.recipe.supernet if section == "supernet" else context.recipe.retrain).teacher
    corpus = Corpus.load(context.folder("corpus"))
    supernet = context.folder("supernet") if section == "retrain" else None
    kept = keep_teacher(place, f"{section}.teacher", corpus, folder.child("teacher"), supernet)
    return [replace(job, teacher=kept) for job in jobs]


def _complete(context: Context, jobs: Sequence[TrainJob]) -> None:
    """Put sub-words and facts beside each trained model."""
    recipe, corpus = context.recipe, Corpus.load(context.folder("corpus"))
    for job in jobs:
        assert job.architecture is not None, "one architecture is trained"
        about = about_model(corpus.summary, recipe.evaluate, f"recipe {recipe.name}: {job.architecture.id}")
        complete_model_folder(job.folder, corpus.vocabularies, about)


def inherited_losses(context: Context, architectures: list[Architecture]) -> dict[Architecture, float]:
    """Score architectures with the weights that they inherit; bits a token, infinite outside of the space."""
    score, space = scorer_of(context), context.recipe.space.build()
    return {one: score(one) if space.contains(one) else math.inf for one in architectures}


def _outside(context: Context, section: str) -> str | None:
    """Hash what decides trainings and stands outside the run: their starts and their teacher; None: nothing does."""
    recipe = context.recipe
    found = {"init": start_of_training(recipe, section), "teacher": teacher_of_training(recipe, section)}
    return " ".join(f"{name} {digest}" for name, digest in found.items() if digest) or None


SUPERNET = Stage.of("supernet", TrainResult, train_supernet, outside=partial(_outside, section="supernet"))
RETRAIN = Stage.of("retrain", RetrainOutput, retrain, outside=partial(_outside, section="retrain"))
