"""Read the golden folder with today's code and return its figures under names of their own.

The one file here that calls the product: a change of names or of the folder's format changes what stands here, and
leaves `values.json` as it is. Losses are in bits a token.
"""

import json
import random
import shutil
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from hat_ray.cli import app
from hat_ray.core.config import canonical
from hat_ray.corpus.corpus import Corpus
from hat_ray.evaluate.translate import translate
from hat_ray.export.export import open_export
from hat_ray.latency.table.parts import partition_values, partitions
from hat_ray.latency.table.table import read_table
from hat_ray.pipeline.execution import LocalExecution
from hat_ray.pipeline.models import retrained_model
from hat_ray.pipeline.run_folder import Run
from hat_ray.pipeline.stage import Context
from hat_ray.pipeline.stages.report import gather
from hat_ray.pipeline.stages.search import SEARCH, predictors_of, result_of
from hat_ray.recipe import load_run_recipe
from hat_ray.report.data import ReportData
from hat_ray.report.render import page
from hat_ray.storage.folder import Folder
from hat_ray.train.job import read_finished
from tests.golden.same import leaves

HERE = Path(__file__).parent


def copied(place: Path) -> Path:
    """Copy the golden folder into `place`, and return that."""
    for name in ("run", "export"):
        shutil.copytree(HERE / name, place / name)
    shutil.copy(HERE / "architecture.yml", place)
    return place


def figures(place: Path) -> dict[str, Any]:
    """Return every figure of the run folder `place`/run, of its table and of the export `place`/export."""
    context = opened(place / "run")
    data = gather(context)
    return {
        "search": _search(context),
        "report": _report(data),
        "training": _trainings(context, data),
        "table": {where: _rows(context, where) for where in _tables(context)},
        "translations": {"model": _translations(place / "run"), "export": _of_export(place / "export")},
        "predicted": _predictions(context),
    }


def opened(run: Path) -> Context:
    """Open the run folder."""
    return Context(Run(Folder.at(run), load_run_recipe(Folder.at(run))), LocalExecution())


def _search(context: Context) -> dict[str, Any]:
    result = result_of(context)
    return {
        "limits": [[limit.device, limit.ms] for limit in context.require(SEARCH).limits],
        "candidates": [
            {
                "id": one.architecture.id,
                "loss_bits": one.loss_bits,
                "predicted_ms": dict(one.latency_ms),
                "low_ms": dict(one.low_ms),
                "high_ms": dict(one.high_ms),
                "measured_ms": dict(one.measured_ms),
                "order": one.order,
                "origin": one.origin,
                "parents": list(one.parents),
            }
            for one in result.candidates
        ],
        "frontiers": {device: [one.architecture.id for one in found] for device, found in result.frontiers.items()},
        "winners": [[won.limit.device, won.limit.ms, won.candidate.architecture.id] for won in result.winners],
    }


def _report(data: ReportData) -> dict[str, Any]:
    corpus, ledger = data.corpus, data.ledger
    return {
        "corpus": [corpus.train_pairs, corpus.valid_pairs, corpus.test_pairs, corpus.vocabulary_size],
        "floors_bleu": [corpus.copy_bleu, corpus.nearest_bleu],
        "corpus_fingerprint": corpus.fingerprint,
        "test_set": corpus.test_set,
        "space": [data.space.id, data.space.size],
        "devices": {one.slug: {"title": one.title, "largest_ms": one.largest_ms} for one in data.devices},
        "chosen": [
            {
                "kind": one.kind,
                "id": one.architecture.id,
                "device": one.device,
                "limit_ms": one.limit.ms if one.limit else None,
                "params": one.params,
                "flops": one.flops,
                "inherited_loss_bits": one.inherited_loss_bits,
                "trained_loss_bits": one.trained_loss_bits,
                "bleu": one.bleu,
                "chrf": one.chrf,
                "predicted_ms": {slug: latency.predicted_ms for slug, latency in one.latency.items()},
                "measured_ms": {slug: latency.measured_ms for slug, latency in one.latency.items()},
                "p10_ms": {slug: latency.p10_ms for slug, latency in one.latency.items()},
                "p90_ms": {slug: latency.p90_ms for slug, latency in one.latency.items()},
                "samples": [[text.source, text.reference, text.hypothesis] for text in one.samples],
            }
            for one in data.chosen
        ],
        "predictors": {
            one.device: {
                "rows": one.quality.rows,
                "mape_pct": one.quality.mape,
                "within_10_pct": one.quality.within_10,
                "kendall_tau": one.quality.kendall_tau,
                "held_out": [[pair.architecture_id, pair.predicted_ms, pair.measured_ms] for pair in one.pairs],
            }
            for one in data.predictors
        },
        "timed": [[one.device, one.architecture.id, one.params, one.flops, one.measured_ms] for one in data.timed],
        "best_by_evaluation_bits": {
            f"{one.limit.device} {one.limit.ms:g}": [[n, None if loss is None else loss] for n, loss in one.points]
            for one in data.searches
        },
        "signatures": [data.bleu_signature, data.chrf_signature],
        "contests": [
            [one.hardware, one.limit.ms, [[entry.settings, entry.id] for entry in one.entries]] for one in data.runtimes
        ],
        "ledger": sorted(value for value in leaves(asdict(ledger)) if isinstance(value, float)) if ledger else None,
    }


def _trainings(context: Context, data: ReportData) -> dict[str, Any]:
    ids = sorted({one.architecture.id for one in data.chosen})
    curves = {f"supernet {curve.name}": curve for curve in data.supernet}
    curves |= {f"scratch {curve.name}": curve for curve in data.retraining}
    results = {one: read_finished(context.folder("retrain").child(one)).result for one in ids}
    return {
        "curves_bits": {name: [[at, loss] for at, loss in curve.points] for name, curve in curves.items()},
        "tokens": {one: result.tokens for one, result in results.items()},
    }


def _tables(context: Context) -> list[str]:
    return partitions(context.folder("latency").child("table"), None, None)


def _rows(context: Context, where: str) -> list[dict[str, Any]]:
    space, device = partition_values(where)
    found = [
        {
            "id": row.architecture.id,
            "latency_ms": row.latency_ms,
            "corrected_ms": row.corrected_ms,
            "encoder_ms": row.encoder.typical_ms,
            "p90_ms": row.total.p90_ms,
            "relative_error": row.relative_error,
            "repetitions": row.repetitions,
            "disturbed": row.disturbed,
            "samples": len(row.decoder_samples_ms),
            "samples_sum_ms": sum(row.encoder_samples_ms) + sum(row.decoder_samples_ms),
            "drift_correction": row.canary.drift_correction,
            "utc_time": row.context.utc_time,
        }
        for row in read_table(context.folder("latency").child("table"), space, device)
    ]
    return sorted(found, key=lambda row: (row["utc_time"], row["id"]))


def _sources(run: Path) -> list[str]:
    return list(Corpus.load(Folder.at(run).child("corpus")).test.source_text or ())


def _translations(run: Path) -> list[str]:
    recipe = load_run_recipe(Folder.at(run))
    model, corpus = retrained_model(recipe, str(run), None)
    return translate(model, corpus.vocabularies, _sources(run), recipe.evaluate)


def _of_export(export: Path) -> list[str]:
    return open_export(export).translate(_sources(export.parent / "run"))


def _predictions(context: Context) -> dict[str, Any]:
    space, rng = context.recipe.space.build(), random.Random(3)
    drawn = [space.largest(), space.smallest(), *(space.sample(rng) for _ in range(8))]
    found = {}
    for slug, predictor in predictors_of(context).items():
        low, high = predictor.interval(drawn, 0.9)
        columns = zip(drawn, predictor.predict(drawn), low, high, strict=True)
        found[slug] = [[one.id, *map(float, values)] for one, *values in columns]
    return found


def sections(place: Path) -> dict[str, str]:
    """Return the text of each section of the report's page, without what names this checkout and its libraries.

    Settings that are younger than the folder stand in its recipe on the page only where they are set.
    """
    context = opened(place / "run")
    data, older = gather(context), canonical(context.recipe)
    recipe = yaml.safe_dump(older, sort_keys=False, default_flow_style=None, allow_unicode=True)
    fixed = replace(data.provenance, created="2026-11-29T00:00:00+00:00", commit=None, versions={}, recipe_yaml=recipe)
    reader = _Sections()
    reader.feed(page(replace(data, provenance=fixed)))
    return {name: " ".join(" ".join(texts).split()) for name, texts in reader.found.items()}


class _Sections(HTMLParser):
    """The text of each element `section`."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[str]] = {}
        self._now = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self._now = dict(attrs).get("id") or "section"

    def handle_endtag(self, tag: str) -> None:
        if tag == "section":
            self._now = ""

    def handle_data(self, data: str) -> None:
        if self._now and data.strip():
            self.found.setdefault(self._now, []).append(data.strip())


COMMANDS = (
    "search show RUN",
    "predict score RUN",
    "predict latency RUN ARCHITECTURE",
    "latency show RUN/latency/table",
    "latency validate RUN/latency/table",
    "cost ARCHITECTURE --length 30",
    "recipe show RUN/recipe.yaml",
)
_ELSEWHERE = frozenset({"place", "folder", "table", "run", "root"})


def printed(place: Path, command: str) -> list[Any]:
    """Return the values, whatever their keys, of the JSON object that a command prints."""
    words = [word.replace("RUN", str(place / "run")) for word in command.split()]
    words = [str(place / "architecture.yml") if word == "ARCHITECTURE" else word for word in words]
    done = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return list(leaves(json.loads(done.stdout), _ELSEWHERE))
