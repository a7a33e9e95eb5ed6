"""What a comparison of runs says, in sentences and table cells; the page and `--json` rest on the same figures."""

from collections.abc import Sequence
from typing import Any

from hat_ray.report.compare import (
    Caution,
    ComparedRun,
    SharedDevice,
    comparable,
    frontier_of,
    merged_frontier,
    recipe_differences,
)
from hat_ray.report.data import ChosenModel
from hat_ray.report.numbers import UNKNOWN, count, duration, energy, fixed, limit, mass, milliseconds
from hat_ray.report.words import headline_winner, keeps_limit, latency_ms

RUN_COLUMNS = (
    *("Run", "Recipe", "Corpus", "Space", "Seed", "Devices", "Scored", "Winners", "Wall time", "Busy cores"),
    *("Energy", "CO2e", "Written"),
)
WINNER_COLUMNS = (
    *("Run", "Limit", "Predicted", "Measured", "Keeps it", "BLEU", "Inherited", "From scratch"),
    *("Parameters", "Architecture"),
)


def run_row(run: ComparedRun) -> list[str]:
    """Return a run as cells: what it was, and what it took."""
    data = run.data
    corpus = f"{data.corpus.source_language} → {data.corpus.target_language}, {data.corpus.train_pairs:,} pairs"
    winners = sum(model.kind == "winner" for model in data.chosen)
    return [
        run.label,
        data.name,
        corpus,
        data.space.name,
        str(data.provenance.seed),
        str(len(data.devices)),
        f"{len(data.candidates):,}",
        str(winners),
        *_cost(run),
        data.provenance.created[:10],
    ]


def _cost(run: ComparedRun) -> list[str]:
    ledger = run.data.ledger
    wall = sum(stage.seconds for stage in run.data.provenance.stages)
    if ledger is None:
        return [duration(wall), UNKNOWN, UNKNOWN, UNKNOWN]
    kwh = ledger.kwh(ledger.total)
    return [duration(wall), duration(ledger.total.core_s), energy(kwh), mass(ledger.co2_g(kwh))]


def winner_row(run: ComparedRun, model: ChosenModel, slug: str) -> list[str]:
    """Return a winner as cells."""
    latency = model.latency.get(slug)
    kept = {True: "✓ yes", False: "✗ no", None: UNKNOWN}[keeps_limit(model, slug)]
    return [
        run.label,
        f"≤ {limit(model.limit_ms)}",
        milliseconds(latency.predicted_ms if latency else None),
        milliseconds(latency.measured_ms if latency else None),
        kept,
        fixed(model.bleu, 1),
        fixed(model.inherited_loss, 3),
        fixed(model.scratch_loss, 3),
        count(model.params),
        model.architecture.id,
    ]


def device_sentences(shared: SharedDevice, cautions: Sequence[Caution]) -> list[str]:
    """Say what the runs found on one device, and who is ahead where that may be said."""
    slug = shared.device.slug
    told = [_headline(run, slug) for run in shared.runs]
    sentences = [f"{'; '.join(told)}."]
    if len(shared.runs) < 2:
        return sentences
    counts = merged_frontier(shared)
    if sum(bool(frontier_of(run, slug)) for run in shared.runs) < 2:
        return sentences
    if not (comparable(cautions, "loss") and comparable(cautions, "latency")):
        return [*sentences, "Their frontiers cannot be held against one another: see the cautions."]
    shares = ", ".join(f"{many} by {letter}" for letter, many in counts.items())
    merged = f"The frontier of all these runs together has {sum(counts.values())} points: {shares}."
    note = "" if comparable(cautions, "space") else " Their search spaces differ."
    return [*sentences, f"{merged}{note}"]


def _headline(run: ComparedRun, slug: str) -> str:
    winner = headline_winner(run.data, slug)
    if winner is None:
        return f"{run.label} built no model for it"
    bleu = "no BLEU yet" if winner.bleu is None else f"{fixed(winner.bleu, 1)} BLEU"
    return f"{run.label}: {bleu} at {milliseconds(latency_ms(winner, slug))}"


def comparison_to_json(
    runs: Sequence[ComparedRun], devices: Sequence[SharedDevice], cautions: Sequence[Caution]
) -> dict[str, Any]:
    """Return what the page shows as plain JSON values."""
    return {
        "runs": [_run_to_json(run) for run in runs],
        "devices": [_device_to_json(shared, cautions) for shared in devices],
        "recipe_differences": {
            key: dict(zip([run.letter for run in runs], values, strict=True))
            for key, values in recipe_differences(runs)
        },
        "cautions": [{"about": caution.what, "text": caution.text} for caution in cautions],
    }


def _run_to_json(run: ComparedRun) -> dict[str, Any]:
    data, ledger = run.data, run.data.ledger
    corpus = data.corpus
    kwh = None if ledger is None else ledger.kwh(ledger.total)
    return {
        "run": run.letter,
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
        "runs": [run.letter for run in shared.runs],
        "winners": [_model_to_json(run, model, slug) for run in shared.runs for model in run.data.winners(slug)],
        "frontiers": {
            run.letter: [
                {"id": one.architecture.id, "loss": one.loss, "predicted_ms": one.predicted_ms[slug]}
                for one in frontier_of(run, slug)
            ]
            for run in shared.runs
        },
        "merged_frontier": merged_frontier(shared) if may and len(shared.runs) > 1 else None,
    }


def _model_to_json(run: ComparedRun, model: ChosenModel, slug: str) -> dict[str, Any]:
    latency = model.latency.get(slug)
    return {
        "run": run.letter,
        "limit_ms": model.limit_ms,
        "predicted_ms": latency.predicted_ms if latency else None,
        "measured_ms": latency.measured_ms if latency else None,
        "bleu": model.bleu,
        "inherited_loss": model.inherited_loss,
        "scratch_loss": model.scratch_loss,
        "params": model.params,
        "id": model.architecture.id,
    }
