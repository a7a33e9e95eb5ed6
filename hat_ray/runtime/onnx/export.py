"""Models as folders for ONNX Runtime: two graphs and their weights.

Decisions
- Both graphs read one `weights.bin`: a matrix that both use, such as the joint embeddings, is stored, and held in
  memory, once.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import onnx
from onnx.external_data_helper import set_external_data

from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.errors import in_one_line
from hat_ray.model.protocol import Engine
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.difference import logit_error
from hat_ray.runtime.onnx.engine import OnnxEngine, build_graphs
from hat_ray.runtime.onnx.graph import graph_dtype
from hat_ray.runtime.onnx.layout import OUTSIDE_BYTES, PAGE
from hat_ray.runtime.processor import saturates
from hat_ray.runtime.protocol import RUNTIMES, Bounds, ExportFacts, OpenedExport, RuntimeSettings
from hat_ray.runtime.standalone import engine_onnx as loader
from hat_ray.runtime.standalone.translate import read_manifest

WEIGHTS, SHORT_LISTS = "weights.bin", "short_lists.npz"

log = logging.getLogger(__name__)


class OnnxExporter:
    """Writes and opens folders for ONNX Runtime."""

    kind = loader.KIND
    bounds: Mapping[str, Bounds] = {"fp32": Bounds(0.99, 0.1, 1e-3), "int8": Bounds(None, 0.3)}

    def write(
        self, model: SubTransformer, vocabularies: Vocabularies, folder: Path, settings: RuntimeSettings
    ) -> ExportFacts:
        """Write graphs, weights and short-lists."""
        lists, listed = settings.short_lists, {}
        graphs = write_graphs(folder, build_graphs(model, graph_dtype(settings.dtype), lists is not None))
        if lists is not None:
            lists.save(folder / SHORT_LISTS)
            listed = {"short_lists": SHORT_LISTS}
        quantisation = RUNTIMES.facts("onnx").dtypes[settings.dtype]
        facts = {"kind": self.kind, "format": loader.FORMAT, "quantisation": quantisation, "graphs": graphs, **listed}
        return ExportFacts(facts, Path(loader.__file__))

    def open(self, folder: Path, threads: int = 1) -> OpenedExport:
        """Check and open an exported folder; raise ValueError, in one line, where it is damaged."""
        manifest = read_manifest(folder, loader.KIND, loader.FORMAT)
        if saturates(str(manifest.get("quantisation", "none"))):
            log.warning("%s was exported when bytes saturated on such processors: export it again", folder)
        require_weights_inside(folder, manifest)
        translator = loader.ExportedTranslator(folder, threads, manifest)
        return OpenedExport(translator, OnnxEngine(translator.engine, manifest["max_positions"]))

    def difference(self, model: SubTransformer, engine: Engine, source: Sequence[int], target: Sequence[int]) -> float:
        """Return the largest absolute difference of two logits."""
        assert isinstance(engine, OnnxEngine)
        return logit_error(model, OnnxEngine(engine.graphs, model.max_positions), source, target)


def write_graphs(folder: Path, graphs: Mapping[str, onnx.ModelProto]) -> dict[str, str]:
    """Write graphs and their weights; return the graphs' files by part."""
    kept: dict[str, int] = {}
    with (folder / WEIGHTS).open("wb") as weights:
        for name, graph in graphs.items():
            _put_outside(graph, weights, kept)
            (folder / f"{name}.onnx").write_bytes(graph.SerializeToString())
    return {name: f"{name}.onnx" for name in graphs}


def _put_outside(graph: onnx.ModelProto, weights: BinaryIO, kept: dict[str, int]) -> None:
    """Move a graph's large constants to the file of weights; `kept` holds the places of those that it has already."""
    for tensor in graph.graph.initializer:  # named by their content
        if len(tensor.raw_data) < OUTSIDE_BYTES:
            continue
        if tensor.name not in kept:
            weights.write(bytes(-weights.tell() % PAGE))  # so that a runtime can map it
            kept[tensor.name] = weights.tell()
            weights.write(tensor.raw_data)
        set_external_data(tensor, WEIGHTS, offset=kept[tensor.name], length=len(tensor.raw_data))
        tensor.ClearField("raw_data")


def require_weights_inside(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Raise ValueError where a graph wants weights of anything but a file of the manifest.

    ONNX Runtime refuses that as well, from some version on, and is all that an exported loader has.
    """
    for name in manifest["graphs"].values():
        try:
            graph = onnx.load(folder / name, load_external_data=False)
            tensors = list(graph.graph.initializer)
        except Exception as error:  # protobuf's have no type in common
            why = in_one_line(f"{type(error).__name__}: {error}")
            raise ValueError(f"{folder / name} is no graph ({why}): export the model again") from error
        for tensor in tensors:
            wanted = {entry.key: entry.value for entry in tensor.external_data}
            if wanted and wanted.get("location") not in manifest["files"]:
                raise ValueError(
                    f"{folder / name} wants weights of {wanted.get('location')!r:.200}, outside the export"
                )
