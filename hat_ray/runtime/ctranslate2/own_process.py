"""Translate with a stored CTranslate2 model in a process of its own, without PyTorch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np

_FIRST_WORD = 4  # ids below are special
_COMPUTE_TYPES = {"fp32": "float32", "int8": "int8"}


def translate(folder: Path, job: Mapping[str, Any]) -> None:
    """Translate each pair of lengths of the workload to exactly its target length."""
    kind, work = _COMPUTE_TYPES[job["dtype"]], job["workload"]
    engine = ctranslate2.Translator(
        str(folder), device="cpu", compute_type=kind, intra_threads=job["threads"], inter_threads=1
    )
    words, draw = work["source_vocab_size"] or work["vocab_size"], np.random.default_rng(0)
    for _ in range(job["repetitions"]):
        for source_length, target_length in job["pairs"]:
            sources = draw.integers(_FIRST_WORD, words, (work["batch"], source_length))
            engine.translate_batch(
                [[str(token) for token in row] for row in sources],
                beam_size=work["beam"],
                max_decoding_length=target_length,
                min_decoding_length=target_length,
                max_input_length=0,
            )
