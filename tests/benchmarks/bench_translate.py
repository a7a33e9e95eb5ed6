"""Sentences a second of exported models on the same sentences, in turns: what `hat-ray translate` does after loading.

`HAT_RAY_EXPORTS` names exported folders, for ONNX Runtime or CTranslate2, separated by `:`; `HAT_RAY_SENTENCES` a file
of sentences. Each brings its own search settings (beam, batch tokens): export them alike. Rounds take the folders in
turns; each round gives one ratio to the first folder.
"""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from hat_ray.export.export import open_export
from hat_ray.export.stream import GROUP_LINES, translate_group

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]
ROUNDS = 3


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
