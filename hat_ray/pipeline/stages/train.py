"""Stages `supernet` and `retrain`: train the weights that all architectures share; and the winners from scratch.

supernet: corpus -> SuperTransformer
retrain: search's winners and baselines -> one trained model an architecture, at equal updates, each in its own folder
"""

from dataclasses import replace

from hat_ray.corpus.corpus import Corpus
from hat_ray.evaluate.about import about_model
from hat_ray.model.checkpoints.folder import complete_model_folder
from hat_ray.pipeline.context import scorer_of, train_job
from hat_ray.pipeline.stage import Context, Stage
from hat_ray.pipeline.stages.search import SEARCH, predictions_of
from hat_ray.pipeline.starting import digest_of, starting_weights
from hat_ray.pipeline.trained.teachers import keep_teacher, teacher_of_training
from hat_ray.search.selection import RetrainedModel, RetrainOutput, SelectedModel, select, unique_architectures
from hat_ray.space.architecture import Architecture
from hat_ray.space.cost import count_params
from hat_ray.storage.folder import Folder
from hat_ray.train.job import TrainJob
from hat_ray.train.state import TrainResult


def train_supernet(context: Context, folder: Folder) -> TrainResult:
    """Train the SuperTransformer."""
    job = replace(train_job(context, "supernet", None, folder), start=starting_weights(context, folder))
    job = _taught(context, "supernet", folder, [job])[0]
    with context.progress("training the SuperTransformer") as progress:
        return context.execution.train_super(job, progress)


def retrain(context: Context, folder: Folder) -> RetrainOutput:
    """Train every selected architecture; the longest first, so that no worker trains alone at the end.

    Each one's folder becomes a model folder.
    """
    selected = select_models(context)
    architectures = sorted(unique_architectures(selected), key=count_params, reverse=True)
    jobs = [train_job(context, "retrain", choice, folder.child(choice.id)) for choice in architectures]
    jobs = _taught(context, "retrain", folder, jobs)
    with context.progress("training from scratch") as progress:
        results = context.execution.train_subs(jobs, progress)
    _complete(context, folder, architectures)
    inherited = inherited_losses(context, architectures)
    models = {
        architecture.id: RetrainedModel(
            inherited_loss_bits=inherited[architecture],
            scratch_loss_bits=trained.valid_loss_bits["model"],
            updates=trained.updates,
            seconds=trained.seconds,
        )
        for architecture, trained in zip(architectures, results, strict=True)
    }
    return RetrainOutput(tuple(selected), models)


def _taught(context: Context, section: str, folder: Folder, jobs: list[TrainJob]) -> list[TrainJob]:
    """Give trainings their teacher, where they have one; it is kept in the stage's folder."""
    place = (context.recipe.supernet if section == "supernet" else context.recipe.retrain).teacher
    corpus = Corpus.load(context.folder("corpus"))
    kept = keep_teacher(place, f"{section}.teacher", corpus, folder.child("teacher"))
    return [replace(job, teacher=kept) for job in jobs]


def _complete(context: Context, folder: Folder, architectures: list[Architecture]) -> None:
    """Put sub-words and facts beside each trained model."""
    recipe, corpus = context.recipe, Corpus.load(context.folder("corpus"))
    for architecture in architectures:
        about = about_model(corpus.summary, recipe.evaluate, f"recipe {recipe.name}: {architecture.id}")
        complete_model_folder(folder.child(architecture.id), corpus.vocabularies, about)


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


def _outside_supernet(context: Context) -> str | None:
    """Return what decides the SuperTransformer and stands outside the run: where it starts, and its teacher."""
    found = [digest_of(context), teacher_of_training(context, "supernet")]
    return " ".join(one or "none" for one in found) if found[1] else found[0]


SUPERNET = Stage.of("supernet", TrainResult, train_supernet, outside=_outside_supernet)
RETRAIN = Stage.of("retrain", RetrainOutput, retrain, outside=lambda context: teacher_of_training(context, "retrain"))
