"""Sentences a second of exported models on the same sentences, in turns: what `hat-ray translate` does after loading.

`HAT_RAY_EXPORTS` names exported folders, for ONNX Runtime or CTranslate2, separated by `:`; `HAT_RAY_SENTENCES` a file
of sentences. Each brings its own search settings (beam, batch tokens): export them alike. Rounds take the folders in
turns; each round gives one ratio to the first folder.

What the front end costs: the same sentences with it and without it, in turns, on each folder, or on a small export with
random weights where none is named: the faster the model, the more of the time is the front end's.
"""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from hat_ray.export.export import open_export
from hat_ray.export.stream import GROUP_LINES, translate_group, translate_stream
from tests.exported import Exported

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]
ROUNDS = 3
PAIRS = 9
MOST_LOST = 0.03


@pytest.mark.skipif(
    "HAT_RAY_EXPORTS" not in os.environ, reason="HAT_RAY_EXPORTS and HAT_RAY_SENTENCES name what to run"
)
def test_sentences_a_second_side_by_side() -> None:
    served = {place: open_export(place, threads=1) for place in os.environ["HAT_RAY_EXPORTS"].split(":")}
    lines = Path(os.environ["HAT_RAY_SENTENCES"]).read_text(encoding="utf-8").split("\n")[:-1]
    times: dict[str, list[float]] = {place: [] for place in served}
    texts: dict[str, list[str]] = {}
    for _ in range(ROUNDS):
        for place, model in served.items():
            began = time.perf_counter()
            groups = [lines[start : start + GROUP_LINES] for start in range(0, len(lines), GROUP_LINES)]
            texts[place] = [text for group in groups for text in translate_group(model, group)]
            times[place].append(time.perf_counter() - began)
    first = np.array(next(iter(times.values())))
    base = next(iter(texts.values()))
    print(f"\n{len(lines)} sentences, one thread, {ROUNDS} rounds in turns, load {os.getloadavg()[0]:.1f}")
    for place, seconds in times.items():
        ratios = np.sort(first / np.array(seconds))
        same = sum(a == b for a, b in zip(texts[place], base, strict=True))
        config = served[place].config
        print(
            f"  {Path(place).name:28} beam {config.beam}: {len(lines) / np.median(seconds):8.1f} sentences/s, "
            f"{np.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f}) of the first; {same} translations the same"
        )


def test_the_front_end_costs_little(exported: Exported) -> None:
    if "HAT_RAY_EXPORTS" in os.environ:
        places = os.environ["HAT_RAY_EXPORTS"].split(":")
        lines = Path(os.environ["HAT_RAY_SENTENCES"]).read_text(encoding="utf-8").split("\n")[:-1]
    else:
        places, lines = [str(exported.folder)], list(exported.lines) * 25
    groups = [lines[start : start + GROUP_LINES] for start in range(0, len(lines), GROUP_LINES)]
    print(f"\n{len(lines)} sentences, one thread, {PAIRS} pairs in turns, load {os.getloadavg()[0]:.1f}")
    for place in places:
        model = open_export(place, threads=1)
        fronts = {"without": None, "with": model.front_end()}
        taken: dict[str, list[float]] = {name: [] for name in fronts}
        for pair in range(PAIRS):
            for name in sorted(fronts, reverse=bool(pair % 2)):
                began = time.process_time()
                said = list(translate_stream(model, iter(groups), front=fronts[name]))
                taken[name].append(time.process_time() - began)
                assert len(said) == len(lines)
        ratios = np.sort(np.array(taken["with"]) / np.array(taken["without"]))
        lost = float(np.median(ratios)) - 1
        print(
            f"  {Path(place).name:28} {len(lines) / np.median(taken['without']):8.1f} sentences a CPU second without; "
            f"with it {100 * lost:+.2f} % of time ({100 * ratios[0] - 100:+.1f} to {100 * ratios[-1] - 100:+.1f})"
        )
        assert lost <= MOST_LOST
