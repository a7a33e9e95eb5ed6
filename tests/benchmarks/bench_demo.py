"""The demo by seeds: does the chosen model win, how long does a demo take, and how much memory?

Each seed is one `hat-ray run toy`, as in `make demo` after the install, in a process of its own. Of each limit a line
shows the chosen model, the best one scaled by hand, the random one and the largest: BLEU as the mean of the trainings
and half their range, and milliseconds a sentence. Memory is the most that all processes of the demo held together:
proportional shares, read every two seconds, on Linux. Run on an idle machine with
    pytest -m benchmark -s --timeout 7200 tests/benchmarks/bench_demo.py
`HAT_RAY_BENCH_SEEDS` (1,2,3,4,5) chooses the seeds, `HAT_RAY_BENCH_SET` overrides settings (`key=value`, with
semicolons). `HAT_RAY_BENCH_FOLDER=FOLDER` keeps the runs; those that are finished there are shown and not done again.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from hat_ray.api import load
from hat_ray.evaluate.evaluate import EvaluateOutput
from hat_ray.search.selection import HAND_SCALED, RetrainOutput, SelectedModel

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(7200)]

SEEDS = [int(seed) for seed in os.environ.get("HAT_RAY_BENCH_SEEDS", "1,2,3,4,5").split(",")]
SETTINGS = [one for one in os.environ.get("HAT_RAY_BENCH_SET", "").split(";") if one]


def processes_of(root: int) -> Iterator[int]:
    """Yield a process and all that it started."""
    children = defaultdict(list)
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            children[int(place.read_text().rpartition(")")[2].split()[1])].append(int(place.parent.name))
        except OSError:
            continue  # it has ended
    waiting = [root]
    while waiting:
        process = waiting.pop()
        yield process
        waiting += children[process]


def bytes_held(root: int) -> int:
    """Return the memory of a process and all that it started: what several share is counted once."""
    total = 0
    for process in processes_of(root):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def demo(seed: int, folder: Path) -> tuple[float, float]:
    """Do the demo with a seed, or return the figures of one that is done: minutes, and gigabytes."""
    figures = folder.parent / f"{folder.name}.json"
    if not figures.exists():
        settings = [part for one in [f"seed={seed}", *SETTINGS] for part in ("--set", one)]
        command = [str(Path(sys.executable).parent / "hat-ray"), "run", "toy", "--run", str(folder), *settings]
        began, most = time.monotonic(), 0
        with subprocess.Popen(command) as process:
            while process.poll() is None:
                most = max(most, bytes_held(process.pid))
                time.sleep(2.0)
        assert process.returncode == 0
        figures.write_text(json.dumps({"minutes": (time.monotonic() - began) / 60, "gigabytes": most / 1e9}))
    found = json.loads(figures.read_text())
    return found["minutes"], found["gigabytes"]


def scores_of(folder: Path) -> list[tuple[SelectedModel, float, list[float]]]:
    """Return each model with its milliseconds and the BLEU of each of its trainings."""
    run = load(folder)
    retrained, evaluated = run.output("retrain"), run.output("evaluate")
    assert isinstance(retrained, RetrainOutput)
    assert isinstance(evaluated, EvaluateOutput)
    found = []
    for one in retrained.selected:
        model = evaluated.models[one.architecture.id]
        [timing] = model.measured.values()
        bleu = [model.score.bleu, *(score.bleu for score in model.others.values())]
        found.append((one, timing.corrected_ms or timing.latency_ms, bleu))
    return found


def shown(ms: float, bleu: list[float]) -> str:
    half = (max(bleu) - min(bleu)) / 2
    return f"{statistics.fmean(bleu):5.1f} ± {half:3.1f} at {ms:5.2f} ms"


def test_the_demo_by_seeds(tmp_path: Path) -> None:
    place = Path(os.environ.get("HAT_RAY_BENCH_FOLDER", tmp_path))
    over_hand, over_random = [], []
    for seed in SEEDS:
        minutes, gigabytes = demo(seed, place / f"demo{seed}")
        found = scores_of(place / f"demo{seed}")
        largest = next((ms, bleu) for one, ms, bleu in found if one.kind == "largest")
        print(f"\nseed {seed}: {minutes:.1f} minutes, {gigabytes:.2f} GB, largest {shown(*largest)}")
        for winner, ms, bleu in (entry for entry in found if entry[0].kind == "winner"):
            own = statistics.fmean(bleu)
            line = f"  chosen {shown(ms, bleu)}"
            for kinds, gains in ((HAND_SCALED, over_hand), (("random",), over_random)):
                rivals = [(m, b) for one, m, b in found if one.limit == winner.limit and one.kind in kinds]
                if rivals:
                    best = max(rivals, key=lambda rival: statistics.fmean(rival[1]))
                    gains.append(own - statistics.fmean(best[1]))
                    line += f", {'random' if gains is over_random else 'by hand'} {shown(*best)} ({gains[-1]:+.1f})"
            print(line)
    for name, gains in (("the best scaled by hand", over_hand), ("random ones", over_random)):
        if gains:
            better = sum(gain > 0 for gain in gains)
            print(f"over {name}: {statistics.fmean(gains):+.2f} BLEU, better in {better} of {len(gains)} cases")
