"""The engine of an export for ONNX Runtime. Needs numpy and onnxruntime.

The graphs and their state between two steps are those of `graphs_onnx.py`, which an export carries as well.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

try:
    import numpy as np
    import onnxruntime  # noqa: F401 (the graphs need it: what lacks is named before they are read)
except ModuleNotFoundError as missing:
    if __name__ != "__main__":  # a program that imports this one says so itself
        raise
    library_name = str(missing.name).partition(".")[0]
    print(f"translate.py: error: this export needs {library_name}: pip install {library_name}", file=sys.stderr)  # noqa: T201
    sys.exit(2)

from hat_ray.corpus.vocabulary.cutting import one_line
from hat_ray.model.hypotheses.found import Found, Task
from hat_ray.model.hypotheses.knobs import Decoding
from hat_ray.model.hypotheses.search import find, padded, rows_of
from hat_ray.runtime.standalone.beams import beam_search
from hat_ray.runtime.standalone.graphs_onnx import Graphs, ShortLists
from hat_ray.runtime.standalone.translate import LineTranslator, translate_stdin

KIND, FORMAT = "hat-ray export", 4


def open_graphs(folder: str | Path, manifest: Mapping[str, Any], threads: int = 1) -> Graphs:
    """Load the graphs of an exported folder; raises ValueError where they cannot be, or are of another model."""
    place = Path(folder)
    try:
        paths = {part: str(place / name) for part, name in manifest["graphs"].items()}
        words = manifest["vocab_size"]
        sizes = manifest.get("source_vocab_size", words), words
        lists = ShortLists.load(place / manifest["short_lists"], *sizes) if "short_lists" in manifest else None
        graphs = Graphs(paths["encoder"], paths["decoder"], threads, paths.get("output"), lists)
        eos = manifest["special_tokens"]["eos"]
        graphs.start(np.array([[eos]]), 1).best(np.array([eos]), 1)  # a wrong graph fails here
    except Exception as error:  # ONNX Runtime's have no type in common
        raise ValueError(f"{place} holds no graphs that can be run here ({one_line(error)}): export again") from error
    if graphs.vocab_size != manifest["vocab_size"]:
        raise ValueError(f"{place} has graphs of {graphs.vocab_size} words, not {manifest['vocab_size']}: export again")
    return graphs


class ExportedTranslator(LineTranslator):
    """An exported model on ONNX Runtime."""

    kind, version = KIND, FORMAT
    engine: Graphs

    def _open(self, place: Path, threads: int) -> Graphs:
        return open_graphs(place, self.manifest, threads)

    def _decode(self, sources: list[list[int]], search: Mapping[str, Any], most: Sequence[int]) -> list[list[int]]:
        pad, eos = self.manifest["special_tokens"]["pad"], self.manifest["special_tokens"]["eos"]
        length = max(map(len, sources))
        source = np.array([[pad] * (length - len(one)) + one for one in sources], np.int64)
        return beam_search(
            self.engine,
            source,
            beam=int(search["beam"]),
            length_penalty=search["length_penalty"],
            max_length=most,
            pad=pad,
            eos=eos,
        )

    def _find(self, task: Task, wanted: Decoding) -> list[list[Found]]:
        pad, eos = self.manifest["special_tokens"]["pad"], self.manifest["special_tokens"]["eos"]
        state = self.engine.start(padded(task.sources, pad), rows_of(task, wanted))
        if wanted.needs_attention:
            state.watch()
        return find(state, task, wanted, pad, eos)


if __name__ == "__main__":
    sys.exit(translate_stdin(ExportedTranslator, Path(__file__).parent))
