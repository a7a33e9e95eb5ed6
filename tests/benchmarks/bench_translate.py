"""Sentences a second of exported models on the same sentences, in turns: what `hat-ray translate` does after loading.

`HAT_RAY_EXPORTS` names exported folders, for ONNX Runtime or CTranslate2, separated by `:`; `HAT_RAY_SENTENCES` a file
of sentences. Each brings its own search settings (beam, batch tokens): export them alike. Rounds take the folders in
turns; each round gives one ratio to the first folder.

What the front end costs: the same sentences with it and without it, in short blocks in turns, on each folder. Where
none is named it is the smallest model of the tutorial's space, with random weights and a beam of 5, which knows the
symbols of protection: the faster the model, the more of the time is the front end's.
    pytest -m benchmark -s tests/benchmarks/bench_translate.py tests/benchmarks/bench_serve.py -k front_end
does it for the service as well, in a minute or two.
"""

import os
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from hat_ray.corpus.protection.masking import Protection
from hat_ray.export.export import open_export
from hat_ray.export.loaded import LoadedModel
from hat_ray.export.stream import GROUP_LINES, translate_group, translate_stream
from hat_ray.front.front_end import FrontEnd
from tests.benchmarks.paired import loss
from tests.exported import export_knowing

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]
ROUNDS = 3
PAIRS = 60
BLOCK = 64


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


def test_the_front_end_costs_little(tmp_path: Path) -> None:
    small = export_knowing(tmp_path, preset="toy")
    places, lines = [str(small.folder)], list(small.lines)
    if "HAT_RAY_EXPORTS" in os.environ:
        places = os.environ["HAT_RAY_EXPORTS"].split(":")
        lines = Path(os.environ["HAT_RAY_SENTENCES"]).read_text(encoding="utf-8").split("\n")[:-1][:BLOCK]
    print(f"\n{len(lines)} sentences a block, one thread, load {os.getloadavg()[0]:.1f}")
    for place in places:
        model = open_export(place, threads=1)
        front = model.front_end()
        protects = isinstance(front.step, Protection)

        def whole(model: LoadedModel = model, front: FrontEnd | None = None) -> None:
            assert len(list(translate_stream(model, iter([lines]), front=front))) == len(lines)

        lost = loss(whole, partial(whole, front=front), PAIRS)
        print(f"  translate, {Path(place).name}, front end with{'' if protects else 'out'} protection: {lost}")
