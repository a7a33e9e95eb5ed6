"""The stages, in order: what each reads, does and leaves behind.

corpus -> supernet -> latency -> predictor -> search -> retrain -> evaluate -> report
Beside them, by their own commands: sweep, health, policies.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from hat_ray.core.codec import read_typed, write_sealed
from hat_ray.core.config import canonical
from hat_ray.core.determinism import stream_seed
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.text.download import fetch
from hat_ray.corpus.text.fingerprint import input_fingerprint
from hat_ray.errors import LatencyError
from hat_ray.evaluate.evaluate import Evaluation, corpus_floors
from hat_ray.latency.table.row import LatencyRow
from hat_ray.latency.table.table import read_table
from hat_ray.latency.timing.session import choose_architectures, new_session_id
from hat_ray.pipeline.context import (
    chosen_of,
    devices_of,
    latency_functions,
    predictors_of,
    scorer_of,
    search_result_of,
    timed_of,
    timing_job,
    workload_of,
)
from hat_ray.pipeline.outline import OUTLINES
from hat_ray.pipeline.stage import Context, Stage
from hat_ray.pipeline.stages.latency import Onboarded, onboard, sweep_latency
from hat_ray.pipeline.stages.policies import compare_policies
from hat_ray.pipeline.stages.ranking import check_health
from hat_ray.pipeline.stages.report import gather
from hat_ray.pipeline.stages.search import search
from hat_ray.predictor.assess import assess
from hat_ray.predictor.fit import donors_in, fit_device, rows_of_device
from hat_ray.predictor.store import save_predictor
from hat_ray.report.render import PAGE, write_report
from hat_ray.search.selection import choose, distinct
from hat_ray.space.architecture import Architecture
from hat_ray.space.cost import count_params
from hat_ray.storage.folder import Folder
from hat_ray.train.job import TrainJob

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Session:
    """What `session.json` of stage `evaluate` holds."""

    id: str


_SESSION = TypeAdapter(_Session)


def fetch_texts(context: Context) -> None:
    """Download what the recipe's text is in."""
    if not context.recipe.corpus.downloads:
        return
    with context.progress("downloading") as progress:
        fetch(context.recipe.corpus, progress)


def prepare_corpus(context: Context, folder: Folder) -> dict[str, Any]:
    """Text to sub-words and token tables."""
    with context.progress("preparing the corpus") as progress:
        summary = context.execution.prepare(context.recipe.corpus, folder, context.recipe.seed, progress)
    train = summary.train
    log.log(logging.WARNING if 2 * train.pairs < train.read else logging.INFO, "training text: %s", train.told())
    if leak := summary.leak():
        log.warning(leak)
    return canonical(summary)


def train_supernet(context: Context, folder: Folder) -> dict[str, Any]:
    """Train the weights that all architectures share."""
    job = train_job(context, "supernet", None, folder)
    with context.progress("training the SuperTransformer") as progress:
        result = context.execution.train_super(job, progress)
    return result.to_dict()


def measure_latency(context: Context, folder: Folder) -> dict[str, Any]:
    """Time architectures on every device, into the latency table: as many as asked for, or until they are enough."""
    recipe, job = context.recipe, timing_job(context, folder)
    onboarded: dict[str, Onboarded] = {}
    if recipe.latency.target_error is not None:
        devices, onboarded = onboard(context, job, recipe.latency.target_error)
    else:
        architectures = choose_architectures(job.space, recipe.latency.samples, stream_seed(recipe.seed, "latency"))
        with context.progress("timing architectures") as progress:
            devices = context.execution.time(job, architectures, progress)
    found = {}
    for device in devices:
        found[device.slug] = {"rows": len(timed_of(job, device.slug)), "device": asdict(device)}
        if device.slug in onboarded:
            found[device.slug]["onboarded"] = asdict(onboarded[device.slug])
    return {"table": job.table_root.uri, "devices": found}


def fit_predictors(context: Context, folder: Folder) -> dict[str, Any]:
    """Fit one predictor a device to the table's drift-corrected medians."""
    recipe, job = context.recipe, timing_job(context, context.folder("latency"))
    summary = {}
    donors = donors_in(job, recipe.predictor, recipe.seed)
    for slug in devices_of(context):
        lent = [donor for donor in donors if donor.device != slug]
        predictor = fit_device(job, slug, recipe.predictor, recipe.seed, lent)
        assessment = assess(predictor, rows_of_device(job, slug), recipe.predictor, lent)
        folder.write_json(f"{slug}.quality.json", assessment.to_json())
        save_predictor(predictor, folder)
        log.info("predictor of %s: %s", slug, predictor.quality)
        for reason in filter(None, predictor.unseen([job.space.smallest(), job.space.largest()])):
            log.warning("predictor of %s: the space reaches beyond the rows: %s", slug, reason)
        summary[slug] = asdict(predictor.quality)
    return {"quality": summary}


def retrain(context: Context, folder: Folder) -> dict[str, Any]:
    """Train the winners and the baselines from scratch at equal updates."""
    recipe = context.recipe
    result = search_result_of(context)
    chosen = choose(
        recipe.space.build(),
        {winner.limit: winner.candidate.architecture for winner in result.winners},
        latency_functions(predictors_of(context)),
        largest=recipe.retrain.largest_baseline,
        randoms=recipe.retrain.random_baselines,
        seed=recipe.seed,
    )
    folder.write_json("chosen.json", [entry.to_dict() for entry in chosen])
    # the longest first: then no worker trains alone at the end
    architectures = sorted(distinct(chosen), key=count_params, reverse=True)
    jobs = [train_job(context, "retrain", choice, folder.child(choice.id)) for choice in architectures]
    with context.progress("training from scratch") as progress:
        results = context.execution.train_subs(jobs, progress)
    inherited = inherited_losses(context, architectures)
    return {
        "models": {
            architecture.id: {
                "inherited_loss_bits": inherited[architecture],
                "scratch_loss_bits": trained.valid_loss_bits["model"],
                "updates": trained.updates,
                "seconds": trained.seconds,
            }
            for architecture, trained in zip(architectures, results, strict=True)
        }
    }


def evaluate(context: Context, folder: Folder) -> dict[str, Any]:
    """Measure the retrained models on their devices again, and score them on the test set."""
    recipe, corpus = context.recipe, Corpus.load(context.folder("corpus"))
    architectures = distinct(chosen_of(context))
    measured = measure_again(context, architectures, folder)
    folders = [context.folder("retrain").child(architecture.id) for architecture in architectures]
    with context.progress("translating the test set") as progress:
        evaluations = context.execution.evaluate(folders, corpus.folder, recipe.evaluate, progress)
    floors = corpus_floors(corpus, recipe.evaluate)
    models = {}
    for architecture, evaluation in zip(architectures, evaluations, strict=True):
        write_sealed(folder, f"{architecture.id}.json", _translations(evaluation))
        models[architecture.id] = {
            "score": asdict(evaluation.score),
            "measured": {slug: _timing(rows[architecture]) for slug, rows in measured.items() if architecture in rows},
        }
    return {"models": models, "floors": None if floors is None else asdict(floors)}


def report(context: Context, folder: Folder) -> dict[str, Any]:
    """Write the page and its figures as JSON."""
    write_report(gather(context), folder)
    return {"page": folder.place_of(PAGE)}


def _stage(name: str, work: Callable[[Context, Folder], dict[str, Any]], **more: Any) -> Stage:
    outline = OUTLINES[name]
    return Stage(name, outline.sections, outline.needs, work, may_need=outline.may_need, **more)


STAGES = (
    _stage(
        "corpus",
        prepare_corpus,
        outside=lambda context: input_fingerprint(context.recipe.corpus, context.recipe.seed),
        before=fetch_texts,
    ),
    _stage("supernet", train_supernet),
    _stage("latency", measure_latency, outside=lambda context: repr(workload_of(context))),
    _stage("predictor", fit_predictors),
    _stage("search", search),
    _stage("retrain", retrain),
    _stage("evaluate", evaluate),
    _stage("report", report),
)
STUDIES = (_stage("sweep", sweep_latency), _stage("health", check_health), _stage("policies", compare_policies))
"""Stages that only their own commands do; the report shows them where they are finished."""


def inherited_losses(context: Context, architectures: list[Architecture]) -> dict[Architecture, float]:
    """Score architectures with the weights that they inherit; bits a token."""
    score = scorer_of(context)
    return {architecture: score(architecture) for architecture in architectures}


def measure_again(
    context: Context, architectures: list[Architecture], folder: Folder
) -> dict[str, dict[Architecture, LatencyRow]]:
    """Time the chosen architectures once more on each device; a resumed stage keeps its session, and so its rows."""
    if not folder.exists("session.json"):
        write_sealed(folder, "session.json", {"id": new_session_id()})
    session = read_typed(folder, "session.json", _SESSION).id
    job = timing_job(context, context.folder("latency"), again=True, session_id=session)
    with context.progress("measuring the models again") as progress:
        devices = context.execution.time(job, architectures, progress)
    found = {}
    for device in devices:
        rows = read_table(job.table_root, job.space.id, device.slug, session_id=session)
        found[device.slug] = {row.architecture: row for row in rows if row.architecture is not None}
        missing = [architecture.id for architecture in architectures if architecture not in found[device.slug]]
        if missing:
            raise LatencyError(f"{device.slug} did not measure {', '.join(missing)}: see the log, and run it again")
    return found


def train_job(context: Context, section: str, architecture: Architecture | None, folder: Folder) -> TrainJob:
    """Return one training of this run; None trains the SuperTransformer."""
    recipe = context.recipe
    return TrainJob(
        architecture=architecture,
        space=recipe.space.build(),
        corpus=context.folder("corpus"),
        model_config=recipe.model,
        config=recipe.supernet if section == "supernet" else recipe.retrain,
        folder=folder,
        seed=stream_seed(recipe.seed, section),
    )


def _timing(row: LatencyRow) -> dict[str, float | None]:
    total = row.total
    return {
        "latency_ms": row.latency_ms,
        "corrected_ms": row.corrected_ms,
        "p10_ms": total.p10_ms if total else None,
        "p90_ms": total.p90_ms if total else None,
        "relative_error": row.relative_error,
    }


def _translations(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "sources": list(evaluation.sources),
        "references": list(evaluation.references),
        "hypotheses": list(evaluation.hypotheses),
    }
