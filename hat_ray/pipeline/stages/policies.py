"""Stage `policies`: which way to train a SuperTransformer makes inherited weights rank best, at equal compute.

corpus + one SuperTransformer for each policy and seed + one set of trainings from scratch -> `policies/policies.md`
"""

import logging
from collections.abc import Sequence
from itertools import product

from hat_ray.core.determinism import stream_seed
from hat_ray.pipeline.stage import Context, Stage
from hat_ray.pipeline.stages.ranking import STREAM, pick_architectures, scratch_jobs, sentence_of, tried_architectures
from hat_ray.pipeline.stages.scratch import supernet_job, train_all
from hat_ray.report.topics.ranking import study_table
from hat_ray.storage.folder import Folder
from hat_ray.studies.compute import MeanSentence, PlannedPolicy, plan_policies
from hat_ray.studies.rating import Truth, rank_all, rank_policies
from hat_ray.studies.results import PolicyStudy, ScoredSupernet, ScratchTrained
from hat_ray.studies.scoring_jobs import InheritedJob, Scores
from hat_ray.train.job import TrainJob
from hat_ray.train.state import TrainResult

log = logging.getLogger(__name__)

TABLE = "policies.md"


def compare_policies(context: Context, folder: Folder) -> PolicyStudy:
    """Train a SuperTransformer for each policy and seed, and score all on the architectures trained from scratch."""
    recipe = context.recipe
    source, picked = pick_architectures(context)
    plans = planned(context)
    planned_seeds = list(product(plans, range(recipe.policies.seeds)))
    supers = [supernet_job(context, plan.spec.slug, plan.model, plan.config, number) for plan, number in planned_seeds]
    scratch = scratch_jobs(context, picked)
    results = train_all(context, [*supers, *scratch], "training")
    tried = tried_architectures(context, picked, scratch, None)
    scores = score_all(context, supers, tried)
    truth = Truth.of(tried, recipe.ranking.resamples, stream_seed(recipe.seed, STREAM, "bootstrap"))
    scored = tuple(
        _scored(plan, number, result, one, truth, sentence_of(context))
        for (plan, number), result, one in zip(planned_seeds, results, scores, strict=False)
    )
    losses = {
        plan.spec.name: [one.inherited_loss_bits for one in scored if one.policy == plan.spec.name] for plan in plans
    }
    study = PolicyStudy(
        latency=source,
        tried=tuple(tried),
        supernets=scored,
        policies=rank_policies(truth, tried, losses),
        baselines=rank_all(truth, tried, {}),
    )
    folder.write_text(TABLE, study_table(study).markdown())
    return study


def planned(context: Context) -> list[PlannedPolicy]:
    """Return the policies with the updates that make them cost the same."""
    recipe = context.recipe
    plans = plan_policies(
        recipe.policies.specs(),
        recipe.space.build(),
        recipe.model,
        recipe.supernet,
        sentence_of(context),
        stream_seed(recipe.seed, STREAM, "compute"),
    )
    for plan in plans:
        log.info("%s: %d updates at equal compute", plan.spec.name, plan.config.updates)
    return plans


def score_all(context: Context, jobs: Sequence[TrainJob], tried: Sequence[ScratchTrained]) -> list[list[Scores]]:
    """Score the tried architectures with each SuperTransformer; existing scores are read back."""
    pieces = [
        InheritedJob(
            supernet=job.folder,
            kept=job.folder,
            corpus=job.corpus,
            architectures=tuple(one.architecture for one in tried),
            max_tokens=job.config.valid_max_tokens,
            label_smoothing=job.config.label_smoothing,
        )
        for job in jobs
    ]
    with context.progress("scoring inherited weights") as progress:
        return context.execution.do(pieces, progress)


def _scored(
    plan: PlannedPolicy,
    number: int,
    result: TrainResult,
    scores: Sequence[Scores],
    truth: Truth,
    sentence: MeanSentence,
) -> ScoredSupernet:
    losses = [one.loss_bits for one in scores]
    return ScoredSupernet(
        policy=plan.spec.name,
        seed=number,
        updates=result.updates,
        tokens=result.tokens,
        seconds=result.seconds,
        train_flops=sentence.train_flops(result.tokens, plan.flops_a_sentence),
        largest_loss_bits=result.valid_loss_bits["largest"],
        smallest_loss_bits=result.valid_loss_bits["smallest"],
        inherited_loss_bits=tuple(losses),
        overall=truth.tau(losses, within=False),
        within=truth.tau(losses, within=True),
    )


POLICIES = Stage.of("policies", PolicyStudy, compare_policies)
