"""Gather what the stages left into the figures of a report."""

import hashlib
import json
import logging
import math
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from hat_ray.core.codec import read_typed
from hat_ray.corpus.corpus import Corpus
from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.device import hardware_of, settings_of
from hat_ray.latency.effects import SWEEP
from hat_ray.latency.timing.workload import Workload
from hat_ray.pipeline.context import (
    assessments_of,
    chosen_of,
    limits_of,
    predictors_of,
    search_result_of,
    timed_of,
    timing_job,
    workload_of,
)
from hat_ray.pipeline.run_folder import versions
from hat_ray.pipeline.stage import Context
from hat_ray.pipeline.stages.cost import gather_ledger
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
from hat_ray.search.frontier import SearchResult, pareto_front, scored_whole
from hat_ray.search.limits import Limit
from hat_ray.search.selection import Chosen
from hat_ray.search.winners import RuntimeRanking, runtime_rankings
from hat_ray.space.cost import cost
from hat_ray.space.search_space import SearchSpace
from hat_ray.studies.results import HEALTH, STUDY
from hat_ray.train.job import read_finished

log = logging.getLogger(__name__)

T = TypeVar("T")


class _Lines(TypedDict):
    sources: list[str]
    references: list[str]
    hypotheses: list[str]


_LINES = TypeAdapter(_Lines)

NATS = math.log(2)
"""Losses are in bits a token on disk (HAT's convention) and in nats in the report."""


def gather(context: Context) -> ReportData:
    """Read every finished stage of a run; what is not there yet is left out."""
    recipe, space = context.recipe, context.recipe.space.build()
    summaries = {name: _summary(context, name) for name in ("latency", "retrain", "evaluate")}
    devices = summaries["latency"].get("devices", {})
    slugs = list(devices)
    predictors = predictors_of(context) if _summary(context, "predictor") else {}
    assessments = assessments_of(context) if predictors else {}
    result = search_result_of(context) if _summary(context, "search") else SearchResult((), (), {})
    scores = [entry["score"] for entry in summaries["evaluate"].get("models", {}).values()]
    workload = workload_of(context)
    return ReportData(
        name=recipe.name,
        corpus=_corpus(context, summaries["evaluate"]),
        space=SpaceFacts(space.name, space.id, str(space.size())),
        devices=tuple(
            _device(slug, entry, largest_ms(context, predictors.get(slug))) for slug, entry in devices.items()
        ),
        chosen=_chosen(context, predictors, summaries),
        provenance=_provenance(context),
        candidates=_candidates(result, slugs),
        supernet=_supernet_curves(context),
        retraining=_retraining_curves(context),
        timed=_timed(context, space, slugs),
        predictors=tuple(_predictor(slug, predictor, assessments[slug]) for slug, predictor in predictors.items()),
        searches=_tracks(result, limits_of(context)),
        bleu_signature=scores[0]["bleu_signature"] if scores else None,
        chrf_signature=scores[0]["chrf_signature"] if scores else None,
        protocol={
            "batch": str(workload.batch),
            "beam": str(workload.beam),
            **_lengths(workload),
            **_settings(recipe.latency),
        },
        sweep=_fresh(context, "sweep", SWEEP),
        health=_fresh(context, "health", HEALTH),
        policies=_fresh(context, "policies", STUDY),
        runtimes=_runtimes(_summary(context, "search").get("winners", []), slugs),
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


def _summary(context: Context, stage: str) -> dict[str, Any]:
    record = context.run.record(stage)
    return record.summary if record else {}


def _fresh(context: Context, study: str, kind: TypeAdapter[T]) -> T | None:
    """Return a study's result when the run has one, of the corpus and the SuperTransformer that it has now."""
    record = context.run.record(study)
    if record is None:
        return None
    for name in ("corpus", "supernet"):
        now = context.run.record(name)
        if name in record.inputs and (now is None or record.inputs[name] != now.id):
            command = "latency sweep" if study == "sweep" else f"train {study}"
            log.warning("%s is of another %s and is not shown: do `hat-ray %s` again", study, name, command)
            return None
    return read_typed(context.folder(study), f"{study}.json", kind)


def _corpus(context: Context, evaluated: dict[str, Any]) -> CorpusFacts:
    summary = Corpus.load(context.folder("corpus")).summary
    floors = evaluated.get("floors") or {}
    return CorpusFacts(
        source_language=summary.source_language,
        target_language=summary.target_language,
        train_pairs=summary.train.pairs,
        valid_pairs=summary.valid.pairs,
        test_pairs=summary.test.pairs,
        vocabulary_size=summary.vocabulary_size,
        copy_bleu=floors.get("copy_bleu"),
        nearest_bleu=floors.get("nearest_bleu"),
        fingerprint=summary.fingerprint,
        test_set=_test_set(context, evaluated),
        train_told=summary.train.told(),
        test_sources_in_train=summary.test_sources_in_train,
    )


def _test_set(context: Context, evaluated: dict[str, Any]) -> str | None:
    """Hash the sentences that the models were scored on."""
    for model_id in evaluated.get("models", {}):
        lines = _lines_of(context, model_id)
        text = json.dumps([lines["sources"], lines["references"]])
        return hashlib.sha256(text.encode()).hexdigest()[:16]
    return None


def _lines_of(context: Context, model_id: str) -> _Lines:
    """Return the test set and its translation by a model."""
    return read_typed(context.folder("evaluate"), f"{model_id}.json", _LINES)


def largest_ms(context: Context, predictor: Predictor | None) -> float | None:
    """Predict the largest architecture as the search predicts its candidates, so that they compare."""
    if predictor is None:
        return None
    largest = context.recipe.space.build().largest()
    return float(predictor.predict([largest], quantile=context.recipe.search.limit_confidence)[0])


def _runtimes(winners: list[dict[str, Any]], slugs: list[str]) -> tuple[RuntimeContest, ...]:
    """Tell which runtime wins each limit of a machine that has several, also where only one of them keeps it."""
    runtimes = {
        hardware_of(slug): [other for other in slugs if hardware_of(other) == hardware_of(slug)] for slug in slugs
    }
    several = [one for one in runtime_rankings(winners, at_least=1) if len(runtimes.get(one.hardware, [])) > 1]
    return tuple(
        _contest(one, runtimes[one.hardware]) for one in sorted(several, key=lambda one: (one.hardware, one.limit_ms))
    )


def _contest(one: RuntimeRanking, slugs: list[str]) -> RuntimeContest:
    there = {entry["device"] for entry in one.entries}
    entries = tuple(
        RuntimeEntry(
            entry["device"],
            settings_of(entry["device"]),
            entry["id"],
            entry["loss_bits"] * NATS,
            entry["predicted_ms"],
            entry["measured_ms"],
        )
        for entry in one.entries
    )
    return RuntimeContest(one.hardware, one.limit_ms, entries, tuple(settings_of(s) for s in slugs if s not in there))


def _device(slug: str, entry: dict[str, Any], largest_ms: float | None) -> Device:
    info = entry["device"]
    memory = info["memory_bytes"]
    facts = {
        "timed architectures": str(entry["rows"]),
        "machine": info["machine"],
        "cores": str(info["logical_cores"]),
        "memory": f"{memory / 2**30:.1f} GiB" if memory else "",
        "instruction sets": ", ".join(info["isa"]),
        "driver": info["driver"],
        "runtime": f"{info['runtime']}, {info['dtype']}",
        "system": info["os"],
    }
    return Device(slug, device_title(info), {k: v for k, v in facts.items() if v}, largest_ms)


def device_title(info: Mapping[str, Any]) -> str:
    """Return a device's name for readers, from its `DeviceInfo` as plain values."""
    hardware = info["accelerator"] or info["model"]
    named = f"{info['name']}: " if info["name"] else ""
    threads = f"{info['threads']} thread{'s' if info['threads'] != 1 else ''}"
    return f"{named}{hardware}, {threads}, {info['runtime']} {info['dtype']}"


def _chosen(
    context: Context, predictors: dict[str, Predictor], summaries: dict[str, dict[str, Any]]
) -> tuple[ChosenModel, ...]:
    chosen = chosen_of(context) if summaries["retrain"] else []
    return tuple(_model(context, entry, predictors, summaries) for entry in chosen)


def _at_rest(measured: Mapping[str, float | None], name: str) -> float | None:
    """Return a measured figure as the quiet device would show it: what limits and predictions are about."""
    value, typical, corrected = (measured.get(key) for key in (name, "latency_ms", "corrected_ms"))
    return value * corrected / typical if value and typical and corrected else None


def _model(
    context: Context, entry: Chosen, predictors: dict[str, Predictor], summaries: dict[str, dict[str, Any]]
) -> ChosenModel:
    architecture, counted = entry.architecture, cost(entry.architecture, workload_of(context).target_length)
    trained = summaries["retrain"]["models"][architecture.id]
    evaluated = summaries["evaluate"].get("models", {}).get(architecture.id)
    latency = {}
    for slug, predictor in predictors.items():
        measured = evaluated["measured"].get(slug, {}) if evaluated else {}
        latency[slug] = Latency(
            predicted_ms=float(predictor.predict([architecture])[0]),
            measured_ms=measured.get("corrected_ms"),
            p10_ms=_at_rest(measured, "p10_ms"),
            p90_ms=_at_rest(measured, "p90_ms"),
        )
    return ChosenModel(
        kind=entry.kind,
        architecture=architecture,
        params=counted.params,
        flops=counted.flops,
        latency=latency,
        device=entry.device,
        limit_ms=entry.limit_ms,
        inherited_loss=trained["inherited_loss_bits"] * NATS,
        scratch_loss=trained["scratch_loss_bits"] * NATS,
        bleu=evaluated["score"]["bleu"] if evaluated else None,
        chrf=evaluated["score"]["chrf"] if evaluated else None,
        samples=_samples(context, architecture.id) if evaluated else (),
    )


def _samples(context: Context, model_id: str) -> tuple[Translation, ...]:
    lines = _lines_of(context, model_id)
    count = context.recipe.report.translations
    columns = (lines["sources"][:count], lines["references"][:count], lines["hypotheses"][:count])
    return tuple(Translation(*texts) for texts in zip(*columns, strict=True))


def _candidates(result: SearchResult, slugs: list[str]) -> tuple[Candidate, ...]:
    whole = scored_whole(result.candidates)
    losses = [candidate.loss * NATS for candidate in whole]
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


def _tracks(result: SearchResult, limits: list[Limit]) -> tuple[SearchTrack, ...]:
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
                points.append((count, best * NATS if math.isfinite(best) else None))
        tracks.append(SearchTrack(limit.device, limit.ms, tuple(points)))
    return tuple(tracks)


def _supernet_curves(context: Context) -> tuple[LossCurve, ...]:
    summary = _summary(context, "supernet")
    return tuple(_curve(name, summary["history"], name) for name in summary.get("valid_loss_bits", {}))


def _retraining_curves(context: Context) -> tuple[LossCurve, ...]:
    curves = []
    for model_id in _summary(context, "retrain").get("models", {}):
        history = read_finished(context.folder("retrain").child(model_id)).result.to_dict()["history"]
        curves.append(_curve("model", history, model_id))
    return tuple(curves)


def _curve(key: str, history: list[dict[str, Any]], title: str) -> LossCurve:
    return LossCurve(title, tuple((point["update"], point["valid_loss_bits"][key] * NATS) for point in history))


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
    records += [(stage, context.run.record(stage)) for stage in ("sweep", "health", "policies")]
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
