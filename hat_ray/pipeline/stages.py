"""The stages, in order: what each reads, does and leaves behind.

corpus -> supernet -> latency -> predictor -> search -> retrain -> evaluate -> report
"""

from dataclasses import asdict
from typing import Any

from hat_ray.config import canonical
from hat_ray.corpus.dataset import Corpus
from hat_ray.corpus.prepare import prepare
from hat_ray.errors import LatencyError
from hat_ray.evaluate.score import Evaluation, corpus_floors
from hat_ray.latency.measure import TimingJob, choose_architectures, new_session_id
from hat_ray.latency.row import LatencyRow
from hat_ray.latency.table import read_table
from hat_ray.model.checkpoint import load_super
from hat_ray.pipeline.chosen import Chosen, choose, distinct
from hat_ray.pipeline.execution import SubJob, TrainPlan
from hat_ray.pipeline.report_data import gather
from hat_ray.pipeline.stage import Context, Stage
from hat_ray.predictor.model import Predictor
from hat_ray.predictor.store import load_predictor, save_predictor
from hat_ray.report.write import PAGE, write_report
from hat_ray.search.limits import LatencyFunction, resolve_limits
from hat_ray.search.score import CandidateScorer, scoring_batches
from hat_ray.search.search import SearchPlan, SearchResult
from hat_ray.seeds import stream_seed
from hat_ray.space.architecture import Architecture
from hat_ray.storage import Folder
from hat_ray.train.train import SUPERNET


def prepare_corpus(context: Context, folder: Folder) -> dict[str, Any]:
    """Text to sub-words and token tables."""
    with context.progress("preparing the corpus") as progress:
        summary = prepare(context.recipe.corpus, folder, context.recipe.seed, progress)
    return canonical(summary)


def train_supernet(context: Context, folder: Folder) -> dict[str, Any]:
    """Train the weights that all architectures share."""
    plan = _train_plan(context, "supernet")
    with context.progress("training the SuperTransformer") as progress:
        result = context.execution.train_super(plan, folder, progress)
    return result.to_dict()


def measure_latency(context: Context, folder: Folder) -> dict[str, Any]:
    """Time sampled architectures on every device, into the latency table."""
    recipe, job = context.recipe, timing_job(context, folder)
    architectures = choose_architectures(job.space, recipe.latency.samples, stream_seed(recipe.seed, "latency"))
    with context.progress("timing architectures") as progress:
        devices = context.execution.time(job, architectures, progress)
    found = {}
    for device in devices:
        rows = rows_of(job, device.slug)
        found[device.slug] = {"rows": len(rows), "device": asdict(device)}
    return {"table": job.table_root.uri, "devices": found}


def fit_predictors(context: Context, folder: Folder) -> dict[str, Any]:
    """Fit one predictor a device to the table's drift-corrected medians."""
    recipe, job = context.recipe, timing_job(context, context.folder("latency"))
    summary = {}
    for slug in devices_of(context):
        rows = rows_of(job, slug)
        architectures = [row.architecture for row in rows if row.architecture is not None]
        predictor = Predictor.fit(
            architectures,
            [row.corrected_ms for row in rows if row.architecture is not None],
            recipe.predictor,
            slug,
            job.space.id,
            stream_seed(recipe.seed, "predictor", slug),
        )
        save_predictor(predictor, folder)
        summary[slug] = asdict(predictor.quality)
    return {"quality": summary}


def search(context: Context, folder: Folder) -> dict[str, Any]:
    """Evolve architectures under every device's limits."""
    recipe, space = context.recipe, context.recipe.space.build()
    predictors = predictors_of(context)
    limits = resolve_limits(space, latency_functions(predictors), recipe.search)
    plan = SearchPlan(space, predictors, limits, recipe.search, stream_seed(recipe.seed, "search"), folder)
    with context.progress("searching") as progress:
        result = context.execution.search(plan, context.folder("supernet"), context.folder("corpus"), progress)
    return {
        "limits": [asdict(limit) for limit in limits],
        "scored": len(result.candidates),
        "winners": [
            {"device": limit.device, "limit_ms": limit.ms, "id": winner.architecture.id, "loss": winner.loss}
            for limit, winner in result.winners.items()
        ],
    }


def retrain(context: Context, folder: Folder) -> dict[str, Any]:
    """Train the winners and the baselines from scratch at equal updates."""
    recipe, plan = context.recipe, _train_plan(context, "retrain")
    result = SearchResult.load(context.folder("search"))
    chosen = choose(
        plan.space,
        {limit: winner.architecture for limit, winner in result.winners.items()},
        latency_functions(predictors_of(context)),
        largest=recipe.retrain.largest_baseline,
        randoms=recipe.retrain.random_baselines,
        seed=recipe.seed,
    )
    folder.write_json("chosen.json", [entry.to_dict() for entry in chosen])
    architectures = distinct(chosen)
    jobs = [SubJob(architecture, folder.child(architecture.id)) for architecture in architectures]
    with context.progress("training from scratch") as progress:
        results = context.execution.train_subs(plan, jobs, progress)
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
        folder.write_json(f"{architecture.id}.json", _translations(evaluation))
        models[architecture.id] = {
            "score": asdict(evaluation.score),
            "measured": {slug: _timing(rows[architecture]) for slug, rows in measured.items() if architecture in rows},
        }
    return {"models": models, "floors": None if floors is None else asdict(floors)}


def report(context: Context, folder: Folder) -> dict[str, Any]:
    """Write the page and its figures as JSON."""
    write_report(gather(context), folder)
    return {"page": folder.path(PAGE) if folder.is_local else f"{folder.uri}/{PAGE}"}


STAGES = (
    Stage("corpus", ("corpus",), (), prepare_corpus),
    Stage("supernet", ("space", "model", "supernet"), ("corpus",), train_supernet),
    Stage("latency", ("space", "model", "latency"), ("corpus",), measure_latency),
    Stage("predictor", ("predictor",), ("latency",), fit_predictors),
    Stage("search", ("search",), ("corpus", "supernet", "latency", "predictor"), search),
    Stage("retrain", ("retrain",), ("corpus", "supernet", "predictor", "search"), retrain),
    Stage("evaluate", ("evaluate",), ("corpus", "latency", "retrain"), evaluate),
    Stage(
        "report",
        ("report",),
        ("corpus", "supernet", "latency", "predictor", "search", "retrain", "evaluate"),
        report,
    ),
)


def timing_job(context: Context, folder: Folder, *, again: bool = False, session_id: str = "") -> TimingJob:
    """Return how this run times architectures, and the table that it writes to: a shared one, or its own."""
    recipe = context.recipe
    corpus = Corpus.load(context.folder("corpus"))
    return TimingJob(
        recipe.space.build(),
        recipe.model,
        len(corpus.vocabulary),
        recipe.latency,
        Folder.at(recipe.latency.table) if recipe.latency.table else folder.child("table"),
        again=again,
        session_id=session_id,
    )


def rows_of(job: TimingJob, slug: str) -> list[LatencyRow]:
    """Return the table's rows of this job's space and workload on a device."""
    workload = job.protocol.workload
    return [row for row in read_table(job.table_root, job.space.id, slug) if row.workload == workload]


def devices_of(context: Context) -> list[str]:
    """Return the devices of the latency stage, by slug."""
    record = context.run.record("latency")
    return list(record.summary["devices"]) if record else []


def predictors_of(context: Context) -> dict[str, Predictor]:
    """Return each device's fitted predictor."""
    folder, space = context.folder("predictor"), context.recipe.space.build()
    return {slug: load_predictor(folder, slug, slug, space.id) for slug in devices_of(context)}


def latency_functions(predictors: dict[str, Predictor]) -> dict[str, LatencyFunction]:
    return {slug: predictor.predict for slug, predictor in predictors.items()}


def chosen_of(context: Context) -> list[Chosen]:
    """Return the models that the retrain stage trained."""
    return [Chosen.from_dict(entry) for entry in context.folder("retrain").read_json("chosen.json")]


def inherited_losses(context: Context, architectures: list[Architecture]) -> dict[Architecture, float]:
    """Score architectures with the weights that they inherit; bits a token."""
    corpus = Corpus.load(context.folder("corpus"))
    scorer = CandidateScorer(load_super(context.folder("supernet"), SUPERNET), scoring_batches(corpus.valid))
    return {architecture: scorer.loss(architecture) for architecture in architectures}


def measure_again(
    context: Context, architectures: list[Architecture], folder: Folder
) -> dict[str, dict[Architecture, LatencyRow]]:
    """Time the chosen architectures once more on each device; a resumed stage keeps its session, and so its rows."""
    if not folder.exists("session.json"):
        folder.write_json("session.json", {"id": new_session_id()})
    session = folder.read_json("session.json")["id"]
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


def _train_plan(context: Context, section: str) -> TrainPlan:
    recipe = context.recipe
    return TrainPlan(
        recipe.space.build(),
        context.folder("corpus"),
        recipe.model,
        recipe.supernet if section == "supernet" else recipe.retrain,
        stream_seed(recipe.seed, section),
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
