"""Stage `ranking`: how well the run's SuperTransformer ranks architectures that are trained from scratch as well.

supernet + K architectures x seeds from scratch -> how well inherited weights rank them
"""

from collections.abc import Sequence
from dataclasses import replace

from hat_ray.core.determinism import stream_seed
from hat_ray.corpus.corpus import Corpus
from hat_ray.errors import RunError
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.pipeline.stage import Context, Stage
from hat_ray.pipeline.stages.scratch import scratch_job, train_all
from hat_ray.pipeline.stages.search import predictors_of
from hat_ray.space.architecture import Architecture
from hat_ray.space.cost import cost
from hat_ray.storage.folder import Folder
from hat_ray.studies.compute import MeanSentence
from hat_ray.studies.rating import Truth, random_regrets, rank_all
from hat_ray.studies.results import RankingQuality, RankingResult, ScratchTrained
from hat_ray.studies.scoring_jobs import BleuJob, InheritedJob, Scores
from hat_ray.studies.stratify import PROXY, LatencySource, PickedArchitecture, SpeedFunction, stratify
from hat_ray.train.job import TrainJob

STREAM = "health"
"""First name of the random streams of both studies: another one would draw other architectures from the same seed."""


def check_ranking(context: Context, folder: Folder) -> RankingResult:
    """Train architectures from scratch and compare their losses with those of inherited weights."""
    source, picked = pick_architectures(context)
    jobs = scratch_jobs(context, picked)
    train_all(context, jobs, "training from scratch")
    bleu = bleu_config(context)
    tried = tried_architectures(context, picked, jobs, bleu)
    inherited = inherit(context, [one.architecture for one in tried], folder, bleu)
    return rate(context, source, tried, inherited)


def rate(
    context: Context, source: LatencySource, tried: Sequence[ScratchTrained], inherited: Sequence[Scores]
) -> RankingResult:
    """Put all figures together."""
    config, seed = context.recipe.ranking, stream_seed(context.recipe.seed, STREAM, "bootstrap")
    losses, bleus = [one.loss_bits for one in inherited], [one.bleu for one in inherited if one.bleu is not None]
    truth = Truth.of(tried, config.resamples, seed)
    bleu_ranks: tuple[RankingQuality, ...] = ()
    if bleus:
        learnt = {"inherited BLEU": [-bleu for bleu in bleus], "inherited loss": losses}
        bleu_ranks = rank_all(Truth.of(tried, config.resamples, seed, bleu=True), tried, learnt)
    return RankingResult(
        latency=source,
        tried=tuple(tried),
        inherited_loss_bits=tuple(losses),
        inherited_bleu=tuple(bleus),
        loss_ranks=rank_all(truth, tried, {"inherited loss": losses}),
        bleu_ranks=bleu_ranks,
        random_regrets=random_regrets(truth),
        bleu_sentences=config.bleu_sentences,
    )


def pick_architectures(context: Context) -> tuple[LatencySource, list[PickedArchitecture]]:
    """Draw the architectures of both studies: the same ones as long as space, seed and latency are the same."""
    config, space = context.recipe.ranking, context.recipe.space.build()
    source, latency = latency_source(context)
    seed = stream_seed(context.recipe.seed, STREAM, "architectures")
    return source, stratify(space, latency, config.architectures, config.bins, seed)


def latency_source(context: Context) -> tuple[LatencySource, SpeedFunction]:
    """Return the run's predictor of the chosen device, or the proxy where the run has none."""
    wanted = context.recipe.ranking.device
    if context.run.record("predictor") is None:
        if wanted is not None:
            raise RunError(f"ranking.device={wanted} needs the run's predictors: `hat-ray predict fit`, or unset it")
        sentence = sentence_of(context)
        return PROXY, sentence.decoder_flops
    predictors = predictors_of(context)
    slug = wanted or next(iter(predictors))
    if slug not in predictors:
        raise RunError(f"ranking.device must be one of this run's devices, {', '.join(predictors)}, got {slug}")
    return LatencySource(slug, "ms", proxy=False), predictors[slug].predict


def sentence_of(context: Context) -> MeanSentence:
    return MeanSentence.of(Corpus.load(context.folder("corpus")).summary)


def scratch_jobs(context: Context, picked: Sequence[PickedArchitecture]) -> list[TrainJob]:
    """List every training from scratch: seed by seed within each architecture."""
    return [scratch_job(context, one.architecture, n) for one in picked for n in range(context.recipe.ranking.seeds)]


def bleu_config(context: Context) -> EvaluateConfig | None:
    """Return how validation sentences are translated, if they are."""
    config, sentences = context.recipe.evaluate, context.recipe.ranking.bleu_sentences
    return config.model_copy(update={"sentences": sentences, "chrf": False}) if sentences else None


def tried_architectures(
    context: Context, picked: Sequence[PickedArchitecture], jobs: Sequence[TrainJob], bleu: EvaluateConfig | None
) -> list[ScratchTrained]:
    """Read back what training from scratch gave, and translate where BLEU is asked for."""
    seeds, length = context.recipe.ranking.seeds, sentence_of(context).length
    losses = [result.valid_loss_bits["model"] for job in jobs if (result := job.finished())]
    tried = []
    for index, one in enumerate(picked):
        counted = cost(one.architecture, length)
        own = tuple(losses[index * seeds : (index + 1) * seeds])
        tried.append(ScratchTrained(one.architecture, one.latency, one.bin, counted.params, counted.flops, own))
    if bleu is None:
        return tried
    with context.progress("translating validation sentences") as progress:
        scores = context.execution.do([BleuJob(job.folder, job.corpus, bleu) for job in jobs], progress)
    return [replace(o, scratch_bleu=tuple(scores[i * seeds : (i + 1) * seeds])) for i, o in enumerate(tried)]


def inherit(
    context: Context, architectures: Sequence[Architecture], kept: Folder, bleu: EvaluateConfig | None
) -> list[Scores]:
    """Score architectures with the weights that they inherit from the run's SuperTransformer."""
    config = context.recipe.supernet
    job = InheritedJob(
        supernet=context.folder("supernet"),
        kept=kept,
        corpus=context.folder("corpus"),
        architectures=tuple(architectures),
        max_tokens=config.valid_max_tokens,
        label_smoothing=config.label_smoothing,
        bleu=bleu,
    )
    with context.progress("scoring inherited weights") as progress:
        return context.execution.do([job], progress)[0]


RANKING = Stage.of("ranking", RankingResult, check_ranking)
