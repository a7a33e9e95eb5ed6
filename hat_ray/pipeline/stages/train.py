"""Stages `supernet` and `retrain`: train the weights that all architectures share; and the winners from scratch.

supernet: corpus -> SuperTransformer
retrain: search's winners and baselines -> one trained model an architecture, at equal updates, each in its own folder
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from hat_ray.corpus.corpus import Corpus
from hat_ray.evaluate.about import about_model
from hat_ray.model.checkpoints.folder import complete_model_folder
from hat_ray.pipeline.context import scorer_of, train_job
from hat_ray.pipeline.stage import Context, Stage
from hat_ray.pipeline.stages.search import SEARCH, predictions_of
from hat_ray.pipeline.starting import start_of_training, starting_subs, starting_super
from hat_ray.pipeline.trained.teachers import keep_teacher, teacher_of_training
from hat_ray.search.selection import (
    OtherStart,
    RetrainedModel,
    RetrainOutput,
    SelectedModel,
    select,
    unique_architectures,
)
from hat_ray.space.architecture import Architecture
from hat_ray.space.cost import count_params
from hat_ray.storage.folder import Folder
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

    Each one's folder becomes a model folder.
    """
    selected, starts = select_models(context), context.recipe.retrain.starts
    architectures = sorted(unique_architectures(selected), key=count_params, reverse=True)
    winners = {entry.architecture for entry in selected if entry.kind == "winner"}
    jobs = {start: _jobs(context, folder, start, [a for a in architectures if a in winners]) for start in starts[1:]}
    jobs[starts[0]] = _jobs(context, folder, starts[0], architectures)
    flat = _taught(context, "retrain", folder, [job for start in starts for job in jobs[start]])
    with context.progress("training the models") as progress:
        results = dict(zip((job.folder for job in flat), context.execution.train_subs(flat, progress), strict=True))
    _complete(context, flat)
    inherited = inherited_losses(context, architectures)
    models = {}
    for job, architecture in zip(jobs[starts[0]], architectures, strict=True):
        trained = results[job.folder]
        models[architecture.id] = RetrainedModel(
            inherited_loss_bits=inherited[architecture],
            scratch_loss_bits=trained.valid_loss_bits["model"],
            updates=trained.updates,
            seconds=trained.seconds,
            start=starts[0],
            others=tuple(
                OtherStart(start, other.folder.name, found.valid_loss_bits["model"], found.updates, found.seconds)
                for start in starts[1:]
                for other in jobs[start]
                if other.architecture == architecture and (found := results[other.folder])
            ),
        )
    return RetrainOutput(tuple(selected), models)


def _taught(context: Context, section: str, folder: Folder, jobs: list[TrainJob]) -> list[TrainJob]:
    """Give trainings their teacher, where they have one; it is kept in the stage's folder."""
    place = (context.recipe.supernet if section == "supernet" else context.recipe.retrain).teacher
    corpus = Corpus.load(context.folder("corpus"))
    kept = keep_teacher(place, f"{section}.teacher", corpus, folder.child("teacher"))
    return [replace(job, teacher=kept) for job in jobs]


def _jobs(context: Context, folder: Folder, start: str, architectures: Sequence[Architecture]) -> list[TrainJob]:
    """Return the trainings of architectures from one start; those of the main one lie under the architecture's id."""
    number = context.recipe.retrain.starts.index(start)
    folders = {one: folder.child(f"{one.id}.{number}" if number else one.id) for one in architectures}
    begun = starting_subs(context, start, folders)
    jobs = [(one, train_job(context, "retrain", one, folders[one])) for one in architectures]
    return [replace(job, start=begun.get(one)) for one, job in jobs]


def _complete(context: Context, jobs: Sequence[TrainJob]) -> None:
    """Put sub-words and facts beside each trained model."""
    recipe, corpus = context.recipe, Corpus.load(context.folder("corpus"))
    for job in jobs:
        assert job.architecture is not None, "one architecture is trained"
        about = about_model(corpus.summary, recipe.evaluate, f"recipe {recipe.name}: {job.architecture.id}")
        complete_model_folder(job.folder, corpus.vocabularies, about)


def select_models(context: Context) -> list[SelectedModel]:
    """Return the search's winners, and the baselines that the recipe asks for."""
    recipe = context.recipe
    return select(
        recipe.space.build(),
        {winner.limit: winner.architecture for winner in context.require(SEARCH).winners},
        predictions_of(context),
        largest=recipe.retrain.largest_baseline,
        randoms=recipe.retrain.random_baselines,
        seed=recipe.seed,
    )


def inherited_losses(context: Context, architectures: list[Architecture]) -> dict[Architecture, float]:
    """Score architectures with the weights that they inherit; bits a token."""
    score = scorer_of(context)
    return {architecture: score(architecture) for architecture in architectures}


def _outside(context: Context, section: str) -> str | None:
    """Hash what decides trainings and stands outside the run: their starts and their teacher; None: nothing does."""
    recipe = context.recipe
    found = {"init": start_of_training(recipe, section), "teacher": teacher_of_training(recipe, section)}
    return " ".join(f"{name} {digest}" for name, digest in found.items() if digest) or None


SUPERNET = Stage.of("supernet", TrainResult, train_supernet, outside=partial(_outside, section="supernet"))
RETRAIN = Stage.of("retrain", RetrainOutput, retrain, outside=partial(_outside, section="retrain"))
