"""Gather what a run took into the report's cost ledger.

Busy seconds come from what each stage kept: a training's own seconds (over all resumptions), the scoring time of each
candidate, the timed translations of each row. Where a stage kept none, its wall time on one core stands for them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from hat_ray.latency.table.table import scan_table
from hat_ray.pipeline.context import timing_job
from hat_ray.pipeline.run_folder import StageRecord
from hat_ray.pipeline.stage import Context
from hat_ray.pipeline.stages.corpus import CORPUS
from hat_ray.pipeline.stages.evaluate import EVALUATE
from hat_ray.pipeline.stages.latency import attached_of, devices_of
from hat_ray.pipeline.stages.search import SEARCH, finals_of
from hat_ray.pipeline.stages.train import RETRAIN, SUPERNET
from hat_ray.report.ledger import Ledger, LedgerLine, TimedOn, WorkDone
from hat_ray.search.frontier import SearchResult

STAGES = ("corpus", "supernet", "latency", "predictor", "search", "retrain", "evaluate", "sweep", "ranking", "policies")
SLACK = timedelta(seconds=5)
"""Rows are dated to the second, and a stage's end is."""
_COLUMNS = (
    *("architecture_id", "repetitions", "warmups", "disturbed", "total_mean_ms", "energy_j", "energy_source"),
    *("utc_time", "device_threads", "device_accelerator", "session_id"),
)
_TIMING = ("architecture_id", "session_id", "utc_time", "total_mean_ms")
"""Columns that a row shares with the one that was written again with more quantities: one timing."""
_ASSUMED = "wall time, one core"


@dataclass(frozen=True)
class TimedRow:
    """What timing one architecture once took."""

    device: str
    stage: str
    """The stage that it was timed in."""
    architecture_id: str
    seconds: float
    cores: int
    on_gpu: bool
    energy_j: float | None
    energy_source: str


@dataclass(frozen=True)
class _Busy:
    """Busy seconds of a stage, beside its timings."""

    core_s: float
    gpu_s: float
    counted: str


def gather_ledger(context: Context, result: SearchResult) -> Ledger:
    """Count what the finished stages of a run took."""
    records = {name: record for name in STAGES if (record := context.run.record(name))}
    timed = timed_rows(context, records)
    config = context.recipe.report
    return Ledger(
        lines=tuple(_line(context, record, result, timed) for record in records.values()),
        core_watts=config.core_watts,
        gpu_watts=config.gpu_watts,
        grid_g_co2e_per_kwh=config.grid_g_co2e_per_kwh,
        timed=tuple(_timed_on(slug, [row for row in timed if row.device == slug]) for slug in devices_of(context)),
        work=_work(context, result, timed),
    )


def timed_rows(context: Context, records: Mapping[str, StageRecord]) -> list[TimedRow]:
    """Return the rows that this run timed: of a table that teams share those dated within one of its stages."""
    job = timing_job(context, context.folder("latency"))
    where, own = asdict(job.protocol.workload), not context.recipe.latency.table
    rows = []
    for slug in attached_of(context):
        table = scan_table(job.table, job.space.id, slug, list(_COLUMNS), where=where)
        timings = {tuple(value[name] for name in _TIMING): value for value in table.to_pylist()}
        for value in timings.values():
            stage = stage_at(records, value["utc_time"]) or ("latency" if own else None)
            if stage is not None and value["total_mean_ms"] is not None:
                rows.append(_timed_row(slug, stage, value))
    return rows


def stage_at(records: Mapping[str, StageRecord], utc_time: str) -> str | None:
    """Return the stage within whose time something happened; where two do, the later one began with it."""
    when, found = _time(utc_time), None
    for name in ("latency", "sweep", "search", "retrain", "evaluate"):
        if name in records:
            end = _time(records[name].finished) + SLACK
            if end - timedelta(seconds=records[name].seconds) - 2 * SLACK <= when <= end:
                found = name
    return found


def _time(text: str) -> datetime:
    when = datetime.fromisoformat(text)
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _timed_row(slug: str, stage: str, value: Mapping[str, Any]) -> TimedRow:
    times = sum(value[name] or 0 for name in ("repetitions", "warmups", "disturbed"))
    energy = value["energy_j"]
    return TimedRow(
        device=slug,
        stage=stage,
        architecture_id=value["architecture_id"] or "",
        seconds=times * value["total_mean_ms"] / 1000,
        cores=value["device_threads"],
        on_gpu=bool(value["device_accelerator"]),
        energy_j=None if energy is None else energy * times,
        energy_source=value["energy_source"] or "",
    )


def _timed_on(slug: str, rows: Sequence[TimedRow]) -> TimedOn:
    told = [row.energy_j for row in rows if row.energy_j is not None]
    sources = ", ".join(sorted({row.energy_source for row in rows if row.energy_source}))
    energy = sum(told) if rows and len(told) == len(rows) else None
    return TimedOn(slug, len(rows), sum(row.seconds for row in rows), energy, sources)


def _line(context: Context, record: StageRecord, result: SearchResult, timed: Sequence[TimedRow]) -> LedgerLine:
    rows = [row for row in timed if row.stage == record.stage]
    metered = [row for row in rows if row.energy_j is not None]
    busy = _BUSY.get(record.stage, _assumed)(context, record, result)
    timings = f"{len(rows)} timings" if rows else ""
    return LedgerLine(
        stage=record.stage,
        wall_s=record.seconds,
        core_s=busy.core_s + _core_s(rows),
        gpu_s=busy.gpu_s + _gpu_s(rows),
        counted=" and ".join(part for part in (busy.counted, timings) if part) or "nothing kept",
        measured_j=sum(row.energy_j or 0.0 for row in metered),
        measured_core_s=_core_s(metered),
        measured_gpu_s=_gpu_s(metered),
    )


def _core_s(rows: Sequence[TimedRow]) -> float:
    return sum(row.seconds * row.cores for row in rows)


def _gpu_s(rows: Sequence[TimedRow]) -> float:
    return sum(row.seconds for row in rows if row.on_gpu)


def _assumed(_context: Context, record: StageRecord, _result: SearchResult) -> _Busy:
    return _Busy(record.seconds, 0.0, _ASSUMED)


def _only_timings(_context: Context, _record: StageRecord, _result: SearchResult) -> _Busy:
    return _Busy(0.0, 0.0, "")


def _corpus(context: Context, record: StageRecord, result: SearchResult) -> _Busy:
    """Count a teacher's translations over all attempts, and the stage's wall time beyond them."""
    if (taught := context.require(CORPUS).taught) is None:
        return _assumed(context, record, result)
    rest = max(0.0, record.seconds - taught.core_seconds)
    counted = f"translation of {taught.sentences:,} training sentences by a teacher and {_ASSUMED}"
    return _Busy(taught.core_seconds + rest, 0.0, counted)


def _supernet(context: Context, _record: StageRecord, _result: SearchResult) -> _Busy:
    config, seconds = context.recipe.supernet, context.require(SUPERNET).seconds
    workers = f"{config.workers} worker{'s' if config.workers != 1 else ''}"
    gpu_s = seconds * config.workers if config.use_gpu else 0.0
    return _Busy(seconds * config.workers * config.threads, gpu_s, f"training by {workers}, {_threads(config.threads)}")


def _retrain(context: Context, _record: StageRecord, _result: SearchResult) -> _Busy:
    config, models = context.recipe.retrain, context.require(RETRAIN).models.values()
    trainings = [one for model in models for one in model.trainings]
    workers = config.workers if len(trainings) < config.workers else 1  # few models have all workers each
    seconds = workers * sum(one.seconds for one in trainings)
    times = "" if len(trainings) == len(models) else f" in {len(trainings)} trainings"
    counted = f"training of {len(models)} models{times}, {_threads(config.threads)}"
    return _Busy(seconds * config.threads, seconds if config.use_gpu else 0.0, counted)


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count != 1 else ''} each"


def _search(context: Context, _record: StageRecord, result: SearchResult) -> _Busy:
    config = context.recipe.search
    scored = [one for one in result.candidates if one.round >= 0]
    seconds = sum(one.seconds for one in scored)
    busy = _Busy(seconds * config.worker_cpus, seconds * config.worker_gpus, f"scoring of {len(scored):,} candidates")
    if (finals := finals_of(context)) is None:
        return busy
    training, tuned = context.recipe.supernet, finals.seconds
    return _Busy(
        busy.core_s + tuned * training.threads,
        busy.gpu_s + (tuned if training.use_gpu else 0.0),
        f"{busy.counted} and training of {len(finals.finalists)} finalists, {_threads(training.threads)}",
    )


def _evaluate(context: Context, _record: StageRecord, _result: SearchResult) -> _Busy:
    models = context.require(EVALUATE).models.values()
    scores = [score.seconds for model in models for score in (model.score, *model.others.values())]
    gpu_s = sum(scores) if context.recipe.evaluate.use_gpu else 0.0
    return _Busy(sum(scores), gpu_s, f"translations of {len(scores)} models, one core")


_BUSY: Mapping[str, Callable[[Context, StageRecord, SearchResult], _Busy]] = {
    "corpus": _corpus,
    "supernet": _supernet,
    "latency": _only_timings,
    "sweep": _only_timings,
    "search": _search,
    "retrain": _retrain,
    "evaluate": _evaluate,
}


def _work(context: Context, result: SearchResult, timed: Sequence[TimedRow]) -> WorkDone:
    supernet, search, retrain = context.output(SUPERNET), context.output(SEARCH), context.output(RETRAIN)
    slugs = devices_of(context)
    architectures = {(row.device, row.architecture_id) for row in timed if row.stage == "latency"}
    return WorkDone(
        supernet_updates=supernet.updates if supernet else None,
        supernet_tokens=supernet.tokens if supernet else None,
        timed_a_device=len(architectures) / len(slugs) if slugs else None,
        searches=len(search.limits) if search else None,
        candidates=sum(one.round >= 0 for one in result.candidates) if search else None,
        models=len(retrain.models) if retrain else None,
        model_updates=context.recipe.retrain.updates if retrain else None,
    )
