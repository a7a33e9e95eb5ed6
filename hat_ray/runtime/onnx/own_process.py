"""Translate with stored graphs in a process of its own, without PyTorch: its memory is that of an exported model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hat_ray.runtime.standalone.graphs_onnx import Graphs

_FIRST_WORD = 4  # ids below are special


def translate(folder: Path, job: Mapping[str, Any]) -> None:
    """Translate each pair of lengths of the workload with `encoder.onnx` and `decoder.onnx`."""
    graphs = Graphs(str(folder / "encoder.onnx"), str(folder / "decoder.onnx"), job["threads"])
    work, draw = job["workload"], np.random.default_rng(0)
    rows, source_words = work["batch"] * work["beam"], work["source_vocab_size"] or work["vocab_size"]
    for _ in range(job["repetitions"]):
        for source_length, target_length in job["pairs"]:
            state = graphs.start(draw.integers(_FIRST_WORD, source_words, (work["batch"], source_length)), work["beam"])
            for _ in range(target_length):
                state.best(draw.integers(_FIRST_WORD, graphs.vocab_size, rows), 2 * work["beam"])
                state.reorder(np.arange(rows))
