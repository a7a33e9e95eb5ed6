"""Stage `report`: gather what the stages found into the figures of a report, and write the page."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from hat_ray.evaluate.evaluate import EvaluateOutput
from hat_ray.latency.lookup.slugs import hardware_of, settings_of
from hat_ray.latency.quantities import MODEL_SIZE, QUANTITIES, Computed
from hat_ray.pipeline.context import timing_job, workload_of
from hat_ray.pipeline.stage import Context, Stage
from hat_ray.pipeline.stages.cost import gather_ledger
from hat_ray.pipeline.stages.evaluate import EVALUATE
from hat_ray.pipeline.stages.latency import LATENCY, SWEEP
from hat_ray.pipeline.stages.policies import POLICIES
from hat_ray.pipeline.stages.predictor import PREDICTOR
from hat_ray.pipeline.stages.ranking import RANKING
from hat_ray.pipeline.stages.report_facts import (
    corpus_facts,
    device_facts,
    largest_ms,
    lines_of,
    predictor_facts,
    protocol_facts,
    provenance,
    retraining_curves,
    supernet_curves,
    timed_architectures,
    training_facts,
)
from hat_ray.pipeline.stages.search import SEARCH, finals_of, predictors_of, result_of, rival_quantities
from hat_ray.pipeline.stages.train import RETRAIN
from hat_ray.predictor.predictor import Predictor
from hat_ray.report.bounds import prices
from hat_ray.report.data import (
    ChosenModel,
    Latency,
    ReportData,
    RuntimeContest,
    SearchTrack,
    SpaceFacts,
    Translation,
)
from hat_ray.report.render import PAGE, write_report
from hat_ray.search.candidates import Candidate
from hat_ray.search.frontier import SearchResult, scored_whole
from hat_ray.search.limits import Limit
from hat_ray.search.selection import RetrainOutput, SelectedModel
from hat_ray.search.winners import LimitedQuantity, LimitWinner, RuntimeRanking, runtime_rankings
from hat_ray.space.architecture import Architecture
from hat_ray.space.cost import cost
from hat_ray.storage.folder import Folder

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
    """Read every finished stage of a run; missing ones are left out."""
    recipe, space = context.recipe, context.recipe.space.build()
    latency, fitted, found = context.output(LATENCY), context.output(PREDICTOR), context.output(SEARCH)
    evaluated = context.output(EVALUATE) or EvaluateOutput({}, None)
    devices = latency.devices if latency else {}
    slugs = list(devices)
    assessments = fitted.assessments if fitted else {}
    predictors = predictors_of(context) if fitted else {}
    result = result_of(context)
    retrained, finals = context.output(RETRAIN), finals_of(context)
    candidates, trained = _with_sizes(context, result), list(retrained.models.values()) if retrained else []
    scores = [model.score for model in evaluated.models.values()]
    return ReportData(
        name=recipe.name,
        corpus=corpus_facts(context, evaluated),
        space=SpaceFacts(space.name, space.id, str(space.size())),
        devices=tuple(
            device_facts(slug, entry, largest_ms(context, predictors.get(slug))) for slug, entry in devices.items()
        ),
        chosen=_chosen(context, predictors, retrained, evaluated),
        comparisons=evaluated.comparisons,
        missing=retrained.missing if retrained else (),
        provenance=provenance(context),
        candidates=candidates,
        supernet=supernet_curves(context),
        retraining=retraining_curves(context),
        trainings=training_facts(context),
        timed=timed_architectures(context, space, slugs),
        predictors=tuple(predictor_facts(slug, predictor, assessments[slug]) for slug, predictor in predictors.items()),
        searches=_tracks(result, found.limits if found else ()),
        bleu_signature=scores[0].bleu_signature if scores else None,
        chrf_signature=scores[0].chrf_signature if scores else None,
        protocol=protocol_facts(context),
        sweep=_fresh(context, SWEEP),
        ranking=_fresh(context, RANKING),
        policies=_fresh(context, POLICIES),
        runtimes=_runtimes(found.winners if found else (), slugs),
        finals=finals,
        prices=prices(candidates, found.winners if found else (), finals, trained),
        ledger=gather_ledger(context, result),
    )


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


def _runtimes(winners: Sequence[LimitWinner], slugs: list[str]) -> tuple[RuntimeContest, ...]:
    """Return which runtime wins each limit of a machine that has several, also where only one of them keeps it."""
    runtimes = {
        hardware_of(slug): [other for other in slugs if hardware_of(other) == hardware_of(slug)] for slug in slugs
    }
    several = [one for one in runtime_rankings(winners, at_least=1) if len(runtimes.get(one.hardware, [])) > 1]
    return tuple(
        _contest(one, runtimes[one.hardware])
        for one in sorted(several, key=lambda one: (one.hardware, one.limit.order))
    )


def _contest(one: RuntimeRanking, slugs: list[str]) -> RuntimeContest:
    there = {entry.limit.device for entry in one.entries}
    return RuntimeContest(one.hardware, one.entries, tuple(settings_of(s) for s in slugs if s not in there))


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
    winner = next((one for one in context.require(SEARCH).winners if one.limit == entry.limit), None)
    trained, scored = retrained.models[architecture.id], evaluated.models.get(architecture.id)
    latency = {}
    for slug, predictor in predictors.items():
        measured = scored.measured.get(slug) if scored else None
        low, high = (float(end[0]) for end in predictor.interval([architecture]))
        # predictors see no query-key-value width, so that they say nothing of another one
        seen = architecture.qkv_dim == context.recipe.space.build().qkv_dim or measured is None
        latency[slug] = Latency(
            predicted_ms=float(predictor.predict([architecture])[0]) if seen else None,
            low_ms=low if seen else None,
            high_ms=high if seen else None,
            measured_ms=measured.corrected_ms if measured else None,
            p10_ms=measured.at_rest(measured.p10_ms) if measured else None,
            p90_ms=measured.at_rest(measured.p90_ms) if measured else None,
            relative_error=measured.relative_error if measured else None,
        )
    return ChosenModel(
        kind=entry.kind,
        architecture=architecture,
        limit=entry.limit,
        matching=entry.matching,
        params=counted.params,
        flops=counted.flops,
        trained=trained,
        score=scored.score if scored else None,
        other_scores=scored.others if scored else {},
        latency=latency,
        quantities=_quantities(context, entry, winner),
        size_mb=_sizes(context, architecture),
        samples=_samples(context, architecture.id) if scored else (),
    )


def _quantities(context: Context, entry: SelectedModel, winner: LimitWinner | None) -> dict[str, LimitedQuantity]:
    """Return the quantities beside the latency that a model's limit bounds, of a winner or of its rival."""
    if entry.kind == "winner":
        return winner.quantities if winner else {}
    return {} if entry.limit is None else rival_quantities(context, entry.limit, entry.architecture)


def _sizes(context: Context, architecture: Architecture) -> dict[str, float]:
    """Return the size of a stored model on each device whose runtime reports one."""
    return {slug: values[0] for slug, values in _sizes_of(context, [architecture]).items()}


def _sizes_of(context: Context, architectures: Sequence[Architecture]) -> dict[str, list[float]]:
    """Return the sizes of stored models by device, in the order given."""
    job, size = timing_job(context, context.folder("latency")), QUANTITIES.load(MODEL_SIZE)
    assert isinstance(size, Computed)
    profiles = {slug: job.profile(one.device) for slug, one in context.require(LATENCY).devices.items()}
    return {
        slug: size.compute(architectures, profile).tolist()
        for slug, profile in profiles.items()
        if size.unavailable is None or size.unavailable(profile) is None
    }


def _with_sizes(context: Context, result: SearchResult) -> tuple[Candidate, ...]:
    """Return the candidates that were scored whole; with the model size, which costs nothing, also without a bound."""
    scored = scored_whole(result.candidates)
    if not scored:
        return ()
    sizes = _sizes_of(context, [one.architecture for one in scored])
    return tuple(
        replace(one, quantities=_more(one, {slug: {MODEL_SIZE: of[place]} for slug, of in sizes.items()}))
        for place, one in enumerate(scored)
    )


def _more(one: Candidate, values: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return a candidate's quantities by device, and further values where it has a latency and no such value."""
    known = {slug: dict(of) for slug, of in one.quantities.items()}
    return known | {slug: {**of, **known.get(slug, {})} for slug, of in values.items() if slug in one.latency_ms}


def _samples(context: Context, model_id: str) -> tuple[Translation, ...]:
    lines = lines_of(context, model_id)
    count = context.recipe.report.translations
    columns = (lines.sources[:count], lines.references[:count], lines.hypotheses[:count])
    return tuple(Translation(*texts) for texts in zip(*columns, strict=True))


def _tracks(result: SearchResult, limits: Sequence[Limit]) -> tuple[SearchTrack, ...]:
    """Best loss under each limit, at each evaluation where it fell, and at the end."""
    tracks = []
    for limit in limits:
        best, points = math.inf, []
        for count, candidate in enumerate(result.candidates, 1):
            within = limit.keeps(candidate.predicted(limit.device)) and not candidate.estimated
            better = within and candidate.loss_bits < best
            if better:
                best = candidate.loss_bits
            if better or count == len(result.candidates):
                points.append((count, best if math.isfinite(best) else None))
        tracks.append(SearchTrack(limit, tuple(points)))
    return tuple(tracks)


REPORT = Stage.of("report", ReportOutput, report)
