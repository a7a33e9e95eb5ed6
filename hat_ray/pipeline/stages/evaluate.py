"""Stage `evaluate`: measure the retrained models on their devices again, and score them on the test set.

trained models + test set -> `<architecture id>.json`, each model's translations, and the scores
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hat_ray.core.codec import read, write
from hat_ray.corpus.corpus import Corpus
from hat_ray.errors import LatencyError
from hat_ray.evaluate.evaluate import EvaluatedModel, EvaluateOutput, Evaluation, FinalTiming, corpus_floors
from hat_ray.evaluate.significance import PairedComparison, paired_bootstrap
from hat_ray.latency.table.row import LatencyRow
from hat_ray.latency.table.table import read_table
from hat_ray.latency.timing.job import new_session_id
from hat_ray.pipeline.context import timing_job
from hat_ray.pipeline.stage import Context, Stage
from hat_ray.pipeline.stages.train import RETRAIN
from hat_ray.pipeline.timing import time_attached
from hat_ray.search.selection import RetrainOutput
from hat_ray.space.architecture import Architecture
from hat_ray.storage.folder import Folder

_SESSION = "session.json"


@dataclass(frozen=True)
class _Session:
    """What `session.json` holds: a resumed stage measures in the same session."""

    id: str


def evaluate(context: Context, folder: Folder) -> EvaluateOutput:
    """Measure and score every retrained model."""
    recipe, corpus = context.recipe, Corpus.load(context.folder("corpus"))
    retrained = context.require(RETRAIN)
    architectures = retrained.architectures
    measured = measure_again(context, architectures, folder)
    names = [one.folder for model in retrained.models.values() for one in model.trainings]
    folders = [context.folder("retrain").child(name) for name in names]
    with context.progress("translating the test set") as progress:
        found = context.execution.evaluate(folders, corpus.folder, recipe.evaluate, progress)
    evaluations = dict(zip(names, found, strict=True))
    floors = corpus_floors(corpus, recipe.evaluate)
    models = {}
    for architecture in architectures:
        main, *others = [one.folder for one in retrained.models[architecture.id].trainings]
        write(folder, f"{architecture.id}.json", evaluations[main].translations)
        timings = {slug: _timing(rows[architecture]) for slug, rows in measured.items() if architecture in rows}
        beside = {name: evaluations[name].score for name in others}
        models[architecture.id] = EvaluatedModel(evaluations[main].score, timings, beside)
    return EvaluateOutput(models, floors, _comparisons(context, retrained, evaluations))


def _comparisons(
    context: Context, retrained: RetrainOutput, evaluations: Mapping[str, Evaluation]
) -> tuple[PairedComparison, ...]:
    """Compare each winner with its rivals, seed by seed, on the test set's sentences."""
    tokenizer, found = context.recipe.evaluate.tokenizer, []
    for winner, rivals in retrained.contests().items():
        mine = retrained.models[winner].repeats
        p_values: dict[str, list[float]] = {rival: [] for rival in rivals}
        for seed, training in enumerate(mine):
            text = evaluations[training.folder].translations
            theirs = {
                rival: evaluations[retrained.models[rival].repeats[seed].folder].translations.hypotheses
                for rival in rivals
            }
            tested = paired_bootstrap(text.hypotheses, theirs, text.references, tokenizer=tokenizer)
            for rival, p in tested.items():
                p_values[rival].append(p)
        found += [PairedComparison(winner, rival, tuple(values)) for rival, values in p_values.items()]
    return tuple(found)


def measure_again(
    context: Context, architectures: list[Architecture], folder: Folder
) -> dict[str, dict[Architecture, LatencyRow]]:
    """Time architectures once more on each device; a resumed stage keeps its session, and so its rows."""
    if not folder.exists(_SESSION):
        write(folder, _SESSION, _Session(new_session_id()))
    session = read(folder, _SESSION, _Session).id
    job = replace(timing_job(context, context.folder("latency"), again=True, session_id=session), beyond_space=True)
    with context.progress("measuring the models again") as progress:
        devices = time_attached(context, job, architectures, progress)
    found = {}
    for device in devices:
        rows = read_table(job.table, job.space.id, device.slug, session_id=session)
        found[device.slug] = {row.architecture: row for row in rows if row.architecture is not None}
        missing = [architecture.id for architecture in architectures if architecture not in found[device.slug]]
        if missing:
            raise LatencyError(f"{device.slug} did not measure {', '.join(missing)}: see the log, and run it again")
    return found


def _timing(row: LatencyRow) -> FinalTiming:
    total = row.total
    return FinalTiming(
        latency_ms=row.latency_ms,
        corrected_ms=row.corrected_ms,
        p10_ms=total.p10_ms if total else None,
        p90_ms=total.p90_ms if total else None,
        relative_error=row.relative_error,
    )


EVALUATE = Stage.of("evaluate", EvaluateOutput, evaluate)
