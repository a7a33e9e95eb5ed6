"""Stage `report`: gather what the stages found into the figures of a report, and write the page."""

import hashlib
import json
import logging
import math
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from hat_ray.core.codec import read
from hat_ray.corpus.corpus import Corpus
from hat_ray.evaluate.evaluate import EvaluateOutput, Translations
from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.device import hardware_of, settings_of
from hat_ray.latency.output import MeasuredDevice
from hat_ray.latency.timing.workload import Workload
from hat_ray.pipeline.context import timed_of, timing_job, workload_of
from hat_ray.pipeline.run_folder import versions
from hat_ray.pipeline.stage import Context, Stage
from hat_ray.pipeline.stages.cost import gather_ledger
from hat_ray.pipeline.stages.evaluate import EVALUATE
from hat_ray.pipeline.stages.latency import LATENCY, SWEEP
from hat_ray.pipeline.stages.policies import POLICIES
from hat_ray.pipeline.stages.predictor import PREDICTOR
from hat_ray.pipeline.stages.ranking import RANKING
from hat_ray.pipeline.stages.search import SEARCH, predictors_of, result_of
from hat_ray.pipeline.stages.train import RETRAIN, SUPERNET
from hat_ray.predictor.assess import Assessment
from hat_ray.predictor.predictor import Predictor
from hat_ray.recipe import to_yaml
from hat_ray.report.data import (
    Candidate,
    ChosenModel,
    CorpusFacts,
    Device,
    Latency,
    LossCurve,
    PredictionPair,
    PredictorFacts,
    Provenance,
    ReportData,
    RuntimeContest,
    RuntimeEntry,
    SearchTrack,
    SpaceFacts,
    StageTime,
    TimedArchitecture,
    Translation,
)
from hat_ray.report.render import PAGE, write_report
from hat_ray.search.frontier import SearchResult, pareto_front, scored_whole
from hat_ray.search.limits import Limit
from hat_ray.search.selection import RetrainOutput, SelectedModel
from hat_ray.search.winners import LimitWinner, RuntimeRanking, runtime_rankings
from hat_ray.space.cost import cost
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder
from hat_ray.train.job import read_finished
from hat_ray.train.state import TrainPoint

log = logging.getLogger(__name__)

OutputT = TypeVar("OutputT")


@dataclass(frozen=True)
class ReportOutput:
    """What stage `report` wrote."""

    page: str
    """The page's place."""


def report(context: Context, folder: Folder) -> ReportOutput:
    """Write the page and its figures as JSON."""
    write_report(gather(context), folder)
    return ReportOutput(folder.place_of(PAGE))


def gather(context: Context) -> ReportData:
    """Read every finished stage of a run; what is not there yet is left out."""
    recipe, space = context.recipe, context.recipe.space.build()
    latency, fitted, found = context.output(LATENCY), context.output(PREDICTOR), context.output(SEARCH)
    evaluated = context.output(EVALUATE) or EvaluateOutput({}, None)
    devices = latency.devices if latency else {}
    slugs = list(devices)
    assessments = fitted.assessments if fitted else {}
    predictors = predictors_of(context) if fitted else {}
    result = result_of(context)
    scores = [model.score for model in evaluated.models.values()]
    workload = workload_of(context)
    return ReportData(
        name=recipe.name,
        corpus=_corpus(context, evaluated),
        space=SpaceFacts(space.name, space.id, str(space.size())),
        devices=tuple(
            _device(slug, entry, largest_ms(context, predictors.get(slug))) for slug, entry in devices.items()
        ),
        chosen=_chosen(context, predictors, context.output(RETRAIN), evaluated),
        provenance=_provenance(context),
        candidates=_candidates(result, slugs),
        supernet=_supernet_curves(context),
        retraining=_retraining_curves(context),
        timed=_timed(context, space, slugs),
        predictors=tuple(_predictor(slug, predictor, assessments[slug]) for slug, predictor in predictors.items()),
        searches=_tracks(result, found.limits if found else ()),
        bleu_signature=scores[0].bleu_signature if scores else None,
        chrf_signature=scores[0].chrf_signature if scores else None,
        protocol={
            "batch": str(workload.batch),
            "beam": str(workload.beam),
            **_lengths(workload),
            **_settings(recipe.latency),
        },
        sweep=_fresh(context, SWEEP),
        ranking=_fresh(context, RANKING),
        policies=_fresh(context, POLICIES),
        runtimes=_runtimes(found.winners if found else (), slugs),
        ledger=gather_ledger(context, result),
    )


def _settings(config: LatencyConfig) -> dict[str, str]:
    """Return what devices compute with: of each kind once."""
    own = [config.of(device) for device in config.devices] or [config]
    return {
        "threads": ", ".join(dict.fromkeys(str(one.threads) for one in own)),
        "runtime": "; ".join(dict.fromkeys(f"{one.runtime}, {one.dtype}" for one in own)),
    }


def _lengths(workload: Workload) -> dict[str, str]:
    if workload.length_mix is None:
        return {"source tokens": str(workload.source_length), "target tokens": str(workload.target_length)}
    return {"source x target tokens, drawn from the corpus": workload.length_mix.replace(",", ", ")}


def _fresh(context: Context, study: Stage[OutputT]) -> OutputT | None:
    """Return a study's result when the run has one, of the corpus and the SuperTransformer that it has now."""
    record = context.run.record(study.name)
    if record is None:
        return None
    for name in ("corpus", "supernet"):
        now = context.run.record(name)
        if name in record.inputs and (now is None or record.inputs[name] != now.id):
            command = "latency sweep" if study is SWEEP else f"train {study.name}"
            log.warning("%s is of another %s and is not shown: do `hat-ray %s` again", study.name, name, command)
            return None
    return context.output(study)


def _corpus(context: Context, evaluated: EvaluateOutput) -> CorpusFacts:
    summary = Corpus.load(context.folder("corpus")).summary
    floors = evaluated.floors
    return CorpusFacts(
        source_language=summary.source_language,
        target_language=summary.target_language,
        train_pairs=summary.train.pairs,
        valid_pairs=summary.valid.pairs,
        test_pairs=summary.test.pairs,
        vocabulary_size=summary.vocabulary_size,
        copy_bleu=floors.copy_bleu if floors else None,
        nearest_bleu=floors.nearest_bleu if floors else None,
        fingerprint=summary.fingerprint,
        test_set=_test_set(context, evaluated),
        train_told=summary.train.told(),
        test_sources_in_train=summary.test_sources_in_train,
    )


def _test_set(context: Context, evaluated: EvaluateOutput) -> str | None:
    """Hash the sentences that the models were scored on."""
    for model_id in evaluated.models:
        lines = _lines_of(context, model_id)
        text = json.dumps([lines.sources, lines.references])
        return hashlib.sha256(text.encode()).hexdigest()[:16]
    return None


def _lines_of(context: Context, model_id: str) -> Translations:
    """Return the test set and its translation by a model."""
    return read(context.folder("evaluate"), f"{model_id}.json", Translations)


def largest_ms(context: Context, predictor: Predictor | None) -> float | None:
    """Predict the largest architecture as the search predicts its candidates, so that they compare."""
    if predictor is None:
        return None
    largest = context.recipe.space.build().largest()
    return float(predictor.predict([largest], quantile=context.recipe.search.limit_confidence)[0])


def _runtimes(winners: Sequence[LimitWinner], slugs: list[str]) -> tuple[RuntimeContest, ...]:
    """Tell which runtime wins each limit of a machine that has several, also where only one of them keeps it."""
    runtimes = {
        hardware_of(slug): [other for other in slugs if hardware_of(other) == hardware_of(slug)] for slug in slugs
    }
    several = [one for one in runtime_rankings(winners, at_least=1) if len(runtimes.get(one.hardware, [])) > 1]
    return tuple(
        _contest(one, runtimes[one.hardware]) for one in sorted(several, key=lambda one: (one.hardware, one.limit_ms))
    )


def _contest(one: RuntimeRanking, slugs: list[str]) -> RuntimeContest:
    there = {entry.device for entry in one.entries}
    entries = tuple(
        RuntimeEntry(
            entry.device,
            settings_of(entry.device),
            entry.id,
            entry.loss_bits,
            entry.predicted_ms,
            entry.measured_ms,
        )
        for entry in one.entries
    )
    return RuntimeContest(one.hardware, one.limit_ms, entries, tuple(settings_of(s) for s in slugs if s not in there))


def _device(slug: str, entry: MeasuredDevice, largest_ms: float | None) -> Device:
    info, memory = entry.device, entry.device.memory_bytes
    facts = {
        "timed architectures": str(entry.rows),
        "machine": info.machine,
        "cores": str(info.logical_cores),
        "memory": f"{memory / 2**30:.1f} GiB" if memory else "",
        "instruction sets": ", ".join(info.isa),
        "driver": info.driver,
        "runtime": f"{info.runtime}, {info.dtype}",
        "system": info.os,
    }
    return Device(slug, info.title, {k: v for k, v in facts.items() if v}, largest_ms)


def _chosen(
    context: Context, predictors: dict[str, Predictor], retrained: RetrainOutput | None, evaluated: EvaluateOutput
) -> tuple[ChosenModel, ...]:
    if retrained is None:
        return ()
    return tuple(_model(context, entry, predictors, retrained, evaluated) for entry in retrained.selected)


def _model(
    context: Context,
    entry: SelectedModel,
    predictors: dict[str, Predictor],
    retrained: RetrainOutput,
    evaluated: EvaluateOutput,
) -> ChosenModel:
    architecture, counted = entry.architecture, cost(entry.architecture, workload_of(context).target_length)
    trained, scored = retrained.models[architecture.id], evaluated.models.get(architecture.id)
    latency = {}
    for slug, predictor in predictors.items():
        measured = scored.measured.get(slug) if scored else None
        latency[slug] = Latency(
            predicted_ms=float(predictor.predict([architecture])[0]),
            measured_ms=measured.corrected_ms if measured else None,
            p10_ms=measured.at_rest(measured.p10_ms) if measured else None,
            p90_ms=measured.at_rest(measured.p90_ms) if measured else None,
            relative_error=measured.relative_error if measured else None,
        )
    return ChosenModel(
        kind=entry.kind,
        architecture=architecture,
        params=counted.params,
        flops=counted.flops,
        latency=latency,
        device=entry.device,
        limit_ms=entry.limit_ms,
        inherited_loss=trained.inherited_loss_bits,
        scratch_loss=trained.scratch_loss_bits,
        bleu=scored.score.bleu if scored else None,
        chrf=scored.score.chrf if scored else None,
        samples=_samples(context, architecture.id) if scored else (),
    )


def _samples(context: Context, model_id: str) -> tuple[Translation, ...]:
    lines = _lines_of(context, model_id)
    count = context.recipe.report.translations
    columns = (lines.sources[:count], lines.references[:count], lines.hypotheses[:count])
    return tuple(Translation(*texts) for texts in zip(*columns, strict=True))


def _candidates(result: SearchResult, slugs: list[str]) -> tuple[Candidate, ...]:
    whole = scored_whole(result.candidates)
    losses = [candidate.loss for candidate in whole]
    frontier = {slug: set(pareto_front(losses, [candidate.latency_ms[slug] for candidate in whole])) for slug in slugs}
    return tuple(
        Candidate(
            architecture=candidate.architecture,
            loss=loss,
            predicted_ms=dict(candidate.latency_ms),
            frontier_on=tuple(slug for slug in slugs if index in frontier[slug]),
        )
        for index, (candidate, loss) in enumerate(zip(whole, losses, strict=True))
    )


def _tracks(result: SearchResult, limits: Sequence[Limit]) -> tuple[SearchTrack, ...]:
    """Best loss so far under each limit, at each evaluation where it fell, and at the end."""
    tracks = []
    for limit in limits:
        best, points = math.inf, []
        for count, candidate in enumerate(result.candidates, 1):
            within = candidate.latency_ms[limit.device] <= limit.ms and not candidate.estimated
            better = within and candidate.loss < best
            if better:
                best = candidate.loss
            if better or count == len(result.candidates):
                points.append((count, best if math.isfinite(best) else None))
        tracks.append(SearchTrack(limit.device, limit.ms, tuple(points)))
    return tuple(tracks)


def _supernet_curves(context: Context) -> tuple[LossCurve, ...]:
    trained = context.output(SUPERNET)
    return tuple(_curve(name, trained.history, name) for name in trained.valid_loss_bits) if trained else ()


def _retraining_curves(context: Context) -> tuple[LossCurve, ...]:
    retrained = context.output(RETRAIN)
    if retrained is None:
        return ()
    folder = context.folder("retrain")
    return tuple(_curve("model", read_finished(folder.child(id)).result.history, id) for id in retrained.models)


def _curve(key: str, history: Sequence[TrainPoint], title: str) -> LossCurve:
    return LossCurve(title, tuple((point.update, point.valid_loss_bits[key]) for point in history))


def _timed(context: Context, space: SearchSpace, slugs: list[str]) -> tuple[TimedArchitecture, ...]:
    job = timing_job(context, context.folder("latency"))
    length = job.protocol.workload.target_length
    found: list[TimedArchitecture] = []
    for slug in slugs:
        for architecture, ms in timed_of(job, slug).items():
            counted = cost(architecture, length)
            found.append(TimedArchitecture(architecture, slug, counted.params, counted.flops, ms))
    return tuple(found)


def _predictor(slug: str, predictor: Predictor, assessment: Assessment) -> PredictorFacts:
    held_out, quality = predictor.held_out, predictor.quality
    columns = zip(held_out.names, held_out.predicted_ms, held_out.measured_ms, held_out.slow, strict=True)
    pairs = tuple(PredictionPair(name, float(p), float(m), bool(slow)) for name, p, m, slow in columns)
    return PredictorFacts(slug, quality.rows, quality.mape, quality.within_10, quality.kendall_tau, pairs, assessment)


def _provenance(context: Context) -> Provenance:
    records = [(stage, context.run.record(stage)) for stage in ("corpus", "supernet", "latency", "predictor")]
    records += [(stage, context.run.record(stage)) for stage in ("search", "retrain", "evaluate")]
    records += [(stage, context.run.record(stage)) for stage in ("sweep", "ranking", "policies")]
    return Provenance(
        recipe_yaml=to_yaml(context.recipe),
        seed=context.recipe.seed,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=_commit(),
        versions=versions(),
        stages=tuple(StageTime(stage, record.seconds) for stage, record in records if record),
    )


def _commit() -> str | None:
    """Return the commit of the source tree that this code runs from, or None outside of one."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


REPORT = Stage.of("report", ReportOutput, report)
