"""Winners against models that an engineer scales by hand, on real text: whole runs of a recipe, one for each seed.

Each run trains, times, searches, trains the winners and their rivals, and scores them. Then every model translates the
corpus's other test sets as well. Run with
    HAT_RAY_SHARED=FOLDER HAT_RAY_BENCH_FOLDER=FOLDER pytest -m benchmark -s --timeout 40000 \
        tests/benchmarks/bench_winners.py
The second folder keeps the runs: the same command goes on where it was stopped, and prints figures that it has.
`HAT_RAY_BENCH_RECIPE` (multi30k.en-de), `HAT_RAY_BENCH_CORPUS` (multi30k-en-de) and `HAT_RAY_BENCH_SEEDS` (1,2,3)
choose the runs, `HAT_RAY_BENCH_SET` overrides settings (`key=value`, with semicolons).
"""

import gzip
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hat_ray.api import load, open_model
from hat_ray.evaluate.evaluate import EvaluateOutput
from hat_ray.evaluate.scoring import score_text
from hat_ray.search.limits import Limit
from hat_ray.search.selection import HAND_SCALED, RetrainOutput, SelectedModel

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(40000)]

RECIPE = os.environ.get("HAT_RAY_BENCH_RECIPE", "multi30k.en-de")
CORPUS = os.environ.get("HAT_RAY_BENCH_CORPUS", "multi30k-en-de")
SEEDS = [int(seed) for seed in os.environ.get("HAT_RAY_BENCH_SEEDS", "1,2,3").split(",")]
SETTINGS = [one for one in os.environ.get("HAT_RAY_BENCH_SET", "").split(";") if one]
MAIN = "test"


@dataclass(frozen=True)
class Figures:
    """One trained model: why it was trained, its milliseconds on its limit's device, and BLEU by test set."""

    model: SelectedModel
    ms: float
    bleu: dict[str, float]


def other_tests(corpus: Path) -> dict[str, tuple[Path, Path]]:
    """Return the test sets beside the recipe's own, by name: English and German text."""
    names = sorted(path.name.removesuffix(".en.gz") for path in corpus.glob("test2*.en.gz"))
    return {name: (corpus / f"{name}.en.gz", corpus / f"{name}.de.gz") for name in names}


def lines_of(path: Path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode().removesuffix("\n").split("\n")


def run_of(seed: int, corpus: Path, place: Path) -> Path:
    """Run the recipe, or go on with it; what it prints is shown."""
    folder = place / f"seed{seed}"
    settings = [part for one in [f"seed={seed}", *SETTINGS] for part in ("--set", one)]
    command = ["hat-ray", "run", RECIPE, "--data", str(corpus), "--run", str(folder), *settings]
    subprocess.run([str(Path(sys.executable).parent / command[0]), *command[1:]], check=True, timeout=40000)
    return folder


def bleu_on(model: Path, name: str, texts: tuple[Path, Path], kept: Path) -> float:
    """Return a model's BLEU on a test set; it is kept in a file."""
    file = kept / f"{model.name}.{name}.json"
    if not file.exists():
        found = open_model(model).translate(lines_of(texts[0]))
        score = score_text(found, [lines_of(texts[1])])
        kept.mkdir(exist_ok=True)
        file.write_text(json.dumps({"bleu": score.bleu, "signature": score.bleu_signature}))
    return float(json.loads(file.read_text())["bleu"])


def figures_of(folder: Path, tests: dict[str, tuple[Path, Path]]) -> list[Figures]:
    run = load(folder)
    retrained, evaluated = run.output("retrain"), run.output("evaluate")
    assert isinstance(retrained, RetrainOutput)
    assert isinstance(evaluated, EvaluateOutput)
    found = []
    for one in retrained.selected:
        id = one.architecture.id
        timings = evaluated.models[id].measured
        device = one.limit.device if one.limit else next(iter(timings))
        bleu = {MAIN: evaluated.models[id].score.bleu}
        for name, texts in tests.items():
            bleu[name] = bleu_on(folder / "retrain" / id, name, texts, folder.parent / f"{folder.name}-tests")
        found.append(Figures(one, timings[device].corrected_ms or timings[device].latency_ms, bleu))
    for missing in retrained.missing:
        print(f"      no {missing.kind} for {missing.limit}: {missing.reason}")
    return found


def gains(found: list[Figures], name: str) -> Iterator[tuple[Limit, Figures, float | None, float | None, float]]:
    """Yield each winner with its gain over the best model scaled by hand, over random ones, and over the largest."""
    largest = next(one for one in found if one.model.kind == "largest")
    for winner in (one for one in found if one.model.kind == "winner"):
        rivals = [one for one in found if one.model.limit == winner.model.limit and one is not winner]
        scaled = [one.bleu[name] for one in rivals if one.model.kind in HAND_SCALED]
        random = [one.bleu[name] for one in rivals if one.model.kind == "random"]
        own = winner.bleu[name]
        assert winner.model.limit is not None
        over_scaled = own - max(scaled) if scaled else None
        over_random = own - statistics.fmean(random) if random else None
        yield winner.model.limit, winner, over_scaled, over_random, own - largest.bleu[name]


def spread(values: list[float]) -> str:
    sd = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):+.2f}{sd} ({min(values):+.2f} to {max(values):+.2f})" if values else "none"


def test_winners_against_models_scaled_by_hand(shared: Path, tmp_path: Path) -> None:
    place = Path(os.environ.get("HAT_RAY_BENCH_FOLDER", tmp_path))
    corpus = shared / "corpora" / CORPUS
    tests = other_tests(corpus)
    runs: list[list[Figures]] = []
    for seed in SEEDS:
        folder = run_of(seed, corpus, place)
        found = figures_of(folder, tests)
        runs.append(found)
        print(f"\nseed {seed:3} {'model':14} {'id':13} {'ms':>7} " + " ".join(f"{name:>12}" for name in found[0].bleu))
        for one in found:
            limit = f"{one.model.limit.ms:.2f}" if one.model.limit else ""
            scores = " ".join(f"{value:12.2f}" for value in one.bleu.values())
            print(f"{limit:>8} {one.model.kind:14} {one.model.architecture.id:13} {one.ms:7.2f} {scores}")
    print("\nover all seeds: mean ± standard deviation (range)")
    for name in runs[0][0].bleu:
        for number, _ in enumerate(gains(runs[0], name)):
            some = [list(gains(found, name))[number] for found in runs]
            largest = [next(one.ms for one in found if one.model.kind == "largest") for found in runs]
            faster = [ms / winner.ms for ms, (_, winner, *_) in zip(largest, some, strict=True)]
            print(
                f"{name:14} limit {number + 1}: BLEU {spread([winner.bleu[name] for _, winner, *_ in some])}, over the "
                f"best scaled by hand {spread([gain for _, _, gain, _, _ in some if gain is not None])}, over random "
                f"{spread([gain for _, _, _, gain, _ in some if gain is not None])}, over the largest "
                f"{spread([gain for *_, gain in some])}, times as fast {spread(faster)}"
            )
