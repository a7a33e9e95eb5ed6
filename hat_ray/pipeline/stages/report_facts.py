"""What a report says of a run's text, devices, predictors and trainings, and where it comes from."""

import hashlib
import json
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from hat_ray.core.codec import read
from hat_ray.corpus.cleaning.finding import finding_lines
from hat_ray.corpus.corpus import Corpus
from hat_ray.evaluate.evaluate import EvaluateOutput, Translations
from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.output import MeasuredDevice
from hat_ray.latency.timing.workload import Workload
from hat_ray.pipeline.context import timed_of, timing_job, workload_of
from hat_ray.pipeline.run_folder import versions
from hat_ray.pipeline.stage import Context
from hat_ray.pipeline.stages.train import RETRAIN, SUPERNET
from hat_ray.predictor.assess import Assessment
from hat_ray.predictor.predictor import Predictor
from hat_ray.recipe import to_yaml
from hat_ray.report.data import (
    CorpusFacts,
    Device,
    LossCurve,
    PredictionPair,
    PredictorFacts,
    Provenance,
    StageTime,
    TimedArchitecture,
    TrainingFacts,
)
from hat_ray.space.cost import cost
from hat_ray.space.search_space import SearchSpace
from hat_ray.train.config import TrainConfig
from hat_ray.train.job import read_finished
from hat_ray.train.state import TrainPoint, TrainResult
from hat_ray.train.validation.best import best_check, best_point


def protocol_facts(context: Context) -> dict[str, str]:
    """Return how latency is measured."""
    workload = workload_of(context)
    lengths, settings = _lengths(workload), _settings(context.recipe.latency)
    return {"batch": str(workload.batch), "beam": str(workload.beam), **lengths, **settings}


def corpus_facts(context: Context, evaluated: EvaluateOutput) -> CorpusFacts:
    """Return the facts of the corpus, with the scores that need no model."""
    summary = Corpus.load(context.folder("corpus")).summary
    floors = evaluated.floors
    return CorpusFacts(
        source_language=summary.source_language,
        target_language=summary.target_language,
        train_pairs=summary.train.pairs,
        valid_pairs=summary.valid.pairs,
        test_pairs=summary.test.pairs,
        vocabulary_size=summary.vocabulary_size,
        target_vocabulary_size=summary.target_vocabulary_size,
        copy_bleu=floors.copy_bleu if floors else None,
        nearest_bleu=floors.nearest_bleu if floors else None,
        fingerprint=summary.fingerprint,
        test_set=_test_set(context, evaluated),
        train_text=summary.train.kept_text,
        test_sources_in_train=summary.test_sources_left,
        valid_sources_in_train=summary.valid_sources_left,
        text_findings=tuple(finding_lines(summary.findings)),
    )


def _test_set(context: Context, evaluated: EvaluateOutput) -> str | None:
    """Hash the sentences that the models were scored on."""
    for model_id in evaluated.models:
        lines = lines_of(context, model_id)
        text = json.dumps([lines.sources, lines.references])
        return hashlib.sha256(text.encode()).hexdigest()[:16]
    return None


def lines_of(context: Context, model_id: str) -> Translations:
    """Return the test set and its translation by a model."""
    return read(context.folder("evaluate"), f"{model_id}.json", Translations)


def _settings(config: LatencyConfig) -> dict[str, str]:
    """Return the threads, runtimes and dtypes of the devices, each once."""
    own = [config.of(device) for device in config.timed]
    return (
        {}
        if config.times_nothing
        else {
            "threads": ", ".join(dict.fromkeys(str(one.threads) for one in own)),
            "runtime": "; ".join(dict.fromkeys(f"{one.runtime}, {one.dtype}" for one in own)),
        }
    )


def _lengths(workload: Workload) -> dict[str, str]:
    if workload.length_mix is None:
        return {"source tokens": str(workload.source_length), "target tokens": str(workload.target_length)}
    return {"source x target tokens, drawn from the corpus": workload.length_mix.replace(",", ", ")}


def largest_ms(context: Context, predictor: Predictor | None) -> float | None:
    """Predict the largest architecture as the search predicts its candidates, so that they compare."""
    if predictor is None:
        return None
    largest = context.recipe.space.build().largest()
    return float(predictor.predict([largest], quantile=context.recipe.search.limit_confidence)[0])


def device_facts(slug: str, entry: MeasuredDevice, largest_ms: float | None) -> Device:
    """Return the facts of a device."""
    info, memory = entry.device, entry.device.memory_bytes
    facts = {
        "timed architectures": str(entry.rows),
        "timed again": "" if entry.attached else "nothing: only the latency table knows this device",
        "machine": info.machine,
        "cores": str(info.logical_cores or ""),
        "memory": f"{memory / 2**30:.1f} GiB" if memory else "",
        "instruction sets": ", ".join(info.isa),
        "driver": info.driver,
        "runtime": f"{info.runtime}, {info.dtype}",
        "system": info.os,
    }
    return Device(slug, info.title, {k: v for k, v in facts.items() if v}, largest_ms, entry.attached)


def supernet_curves(context: Context) -> tuple[LossCurve, ...]:
    """Return the SuperTransformer's validation losses."""
    trained = context.output(SUPERNET)
    return tuple(_curve(name, trained.history, name) for name in trained.valid_loss_bits) if trained else ()


def retraining_curves(context: Context) -> tuple[LossCurve, ...]:
    """Return the validation losses of the models of `retrain`."""
    retrained = context.output(RETRAIN)
    if retrained is None:
        return ()
    folder = context.folder("retrain")
    return tuple(_curve("model", read_finished(folder.child(id)).result.history, id) for id in retrained.models)


def _curve(key: str, history: Sequence[TrainPoint], title: str) -> LossCurve:
    return LossCurve(title, tuple((point.update, point.valid_loss_bits[key]) for point in history))


def training_facts(context: Context) -> tuple[TrainingFacts, ...]:
    """Return how the SuperTransformer and the models that were built were trained."""
    recipe, super_result, retrained = context.recipe, context.output(SUPERNET), context.output(RETRAIN)
    found = [] if super_result is None else [_facts("SuperTransformer", super_result, recipe.supernet)]
    folder = context.folder("retrain")
    for id in retrained.models if retrained else ():
        found.append(_facts(id, read_finished(folder.child(id)).result, recipe.retrain))
    return tuple(found)


def _facts(name: str, result: TrainResult, config: TrainConfig) -> TrainingFacts:
    check = best_check(config, result.valid_loss_bits)
    best = best_point(result.history, config, check) if check else None
    models = {model: None for point in result.history for model in point.valid_bleu}
    return TrainingFacts(
        name=name,
        ended=result.ended,
        updates=result.updates,
        tokens=result.tokens,
        seconds=result.seconds,
        made_of=result.made_of,
        best_update=best.update if best else None,
        curve=result.curve,
        bleu={
            model: tuple((p.update, p.valid_bleu[model]) for p in result.history if model in p.valid_bleu)
            for model in models
        },
    )


def timed_architectures(context: Context, space: SearchSpace, slugs: list[str]) -> tuple[TimedArchitecture, ...]:
    """Return every architecture that the latency table has of the devices."""
    job = timing_job(context, context.folder("latency"))
    length = job.protocol.workload.target_length
    found: list[TimedArchitecture] = []
    for slug in slugs:
        for architecture, ms in timed_of(job, slug).items():
            counted = cost(architecture, length)
            found.append(TimedArchitecture(architecture, slug, counted.params, counted.flops, ms))
    return tuple(found)


def predictor_facts(slug: str, predictor: Predictor, assessment: Assessment) -> PredictorFacts:
    """Return how well a predictor does on rows that it was not fitted to."""
    held_out = predictor.held_out
    columns = zip(held_out.names, held_out.predicted_ms, held_out.measured_ms, held_out.slow, strict=True)
    pairs = tuple(PredictionPair(name, float(p), float(m), bool(slow)) for name, p, m, slow in columns)
    return PredictorFacts(slug, predictor.quality, pairs, assessment)


def provenance(context: Context) -> Provenance:
    """Return the facts for repeating the run."""
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
