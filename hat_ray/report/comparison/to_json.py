"""What a comparison shows, as plain JSON values."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from hat_ray.report.comparison.runs import (
    Caution,
    ComparedRun,
    SharedDevice,
    comparable,
    merged_frontier,
    recipe_differences,
)
from hat_ray.report.data import ChosenModel, Latency
from hat_ray.report.reading import bound_figures, limit_verdict


def comparison_to_json(
    runs: Sequence[ComparedRun], devices: Sequence[SharedDevice], cautions: Sequence[Caution]
) -> dict[str, Any]:
    """Return the page's content as plain JSON values."""
    return {
        "runs": [_run_to_json(run) for run in runs],
        "devices": [_device_to_json(shared, cautions) for shared in devices],
        "recipe_differences": {
            key: dict(zip([run.run_label for run in runs], values, strict=True))
            for key, values in recipe_differences(runs)
        },
        "cautions": [{"about": caution.what, "text": caution.text} for caution in cautions],
    }


def _run_to_json(run: ComparedRun) -> dict[str, Any]:
    data, ledger = run.data, run.data.ledger
    corpus = data.corpus
    kwh = None if ledger is None else ledger.kwh(ledger.total)
    return {
        "run": run.run_label,
        "name": run.name,
        "place": run.place,
        "recipe": data.name,
        "corpus": {
            "source_language": corpus.source_language,
            "target_language": corpus.target_language,
            "train_pairs": corpus.train_pairs,
            "test_pairs": corpus.test_pairs,
            "fingerprint": corpus.fingerprint,
            "test_set": corpus.test_set,
        },
        "space": {"name": data.space.name, "id": data.space.id},
        "seed": data.provenance.seed,
        "created": data.provenance.created,
        "devices": [device.slug for device in data.devices],
        "candidates": len(data.candidates),
        "wall_s": sum(stage.seconds for stage in data.provenance.stages),
        "core_s": None if ledger is None else ledger.total.core_s,
        "gpu_s": None if ledger is None else ledger.total.gpu_s,
        "energy_kwh": kwh,
        "co2e_g": None if ledger is None or kwh is None else ledger.co2_g(kwh),
    }


def _device_to_json(shared: SharedDevice, cautions: Sequence[Caution]) -> dict[str, Any]:
    slug = shared.device.slug
    may = comparable(cautions, "loss") and comparable(cautions, "latency")
    return {
        "device": slug,
        "title": shared.device.title,
        "runs": [run.run_label for run in shared.runs],
        "winners": [_model_to_json(run, model, slug) for run in shared.runs for model in run.data.winners(slug)],
        "frontiers": {
            run.run_label: [
                {
                    "id": one.architecture.id,
                    "loss_bits": one.loss_bits,
                    "predicted_ms": one.latency_ms[slug],
                    "measured_ms": one.measured_ms.get(slug),
                }
                for one in run.data.frontier(slug)
            ]
            for run in shared.runs
        },
        "merged_frontier": merged_frontier(shared) if may and len(shared.runs) > 1 else None,
    }


def _model_to_json(run: ComparedRun, model: ChosenModel, slug: str) -> dict[str, Any]:
    latency = model.latency.get(slug, Latency())
    return {
        "run": run.run_label,
        "bounds": model.limit.by_quantity if model.limit else None,
        "predicted_ms": latency.predicted_ms,
        "measured_ms": latency.measured_ms,
        "quantities": {one.name: asdict(one) for one in bound_figures(model, slug)},
        "bleu": model.bleu,
        "bleu_spread": model.bleu_spread,
        "limit": str(limit_verdict(model, slug)),
        "inherited_loss_bits": model.inherited_loss_bits,
        "trained_loss_bits": model.trained_loss_bits,
        "params": model.params,
        "id": model.architecture.id,
    }
