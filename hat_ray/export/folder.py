"""The folder that an exported model is: sub-word model, architecture, loader, manifest, and what its runtime reads.

For ONNX Runtime that is two graphs and their weights; for CTranslate2 its own files.

Decisions
- Both graphs read one `weights.bin`: a matrix that both use, such as the joint embeddings, is stored, and held in
  memory, once.
- The loader is a copy of `loader.py` with `lines.py` and `manifest.py` in it: what a user runs is what the tests run.
- The manifest comes last, and names every other file with its SHA-256, and itself.
"""

import hashlib
import json
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import onnx
import onnxruntime
import sentencepiece
import torch
from onnx.external_data_helper import set_external_data

import hat_ray
from hat_ray.corpus.vocabulary import BOS, EOS, PAD, UNK, Vocabulary
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.ctranslate2 import QUANTISATION, write_ct2
from hat_ray.runtime.names import quantisation_of
from hat_ray.runtime.onnx.graph import GraphDtype
from hat_ray.runtime.onnx.runtime import build_graphs
from hat_ray.runtime.shortlist import ShortLists
from hat_ray.runtime.standalone import engine_ctranslate2 as ct2_loader
from hat_ray.runtime.standalone import engine_onnx as loader
from hat_ray.runtime.standalone import lines
from hat_ray.runtime.standalone import manifest as manifest_file
from hat_ray.runtime.standalone.manifest import MANIFEST, SEAL, seal_of
from hat_ray.space.cost import count_params

ExportRuntime = Literal["onnx", "ctranslate2"]
WEIGHTS, VOCABULARY, ARCHITECTURE, LOADER = "weights.bin", "vocabulary.model", "architecture.json", "translate.py"
SHORT_LISTS = "short_lists.npz"

_OUTSIDE_BYTES = 1024  # smaller constants stay in their graph
_PAGE = 4096


def write_files(
    place: Path,
    model: SubTransformer,
    vocabulary: Vocabulary,
    dtype: GraphDtype,
    runtime: ExportRuntime = "onnx",
    lists: ShortLists | None = None,
) -> dict[str, Any]:
    """Write everything but the manifest; return what it has to say of the runtime."""
    (place / VOCABULARY).write_bytes(vocabulary.to_bytes())
    (place / ARCHITECTURE).write_text(model.architecture.to_json() + "\n", encoding="utf-8")
    if runtime == "ctranslate2":
        pieces = vocabulary.pieces()
        write_ct2(model, pieces, place, dtype)
        _write_loader(place, ct2_loader.__file__)
        facts = {"compute_type": QUANTISATION[dtype], "end": pieces[EOS]}
        return {"kind": ct2_loader.KIND, "format": ct2_loader.FORMAT, "runtime": runtime, "dtype": dtype, **facts}
    graphs = _write_graphs(place, model, dtype, listed=lists is not None)
    _write_loader(place, loader.__file__)
    listed = {}
    if lists is not None:
        lists.save(place / SHORT_LISTS)
        listed = {"short_lists": SHORT_LISTS}
    of_onnx = {"quantisation": quantisation_of(dtype), "graphs": graphs, **listed}
    return {"kind": loader.KIND, "format": loader.FORMAT, "runtime": runtime, "dtype": dtype, **of_onnx}


def _write_loader(place: Path, source: str) -> None:
    """Write the loader, with the texts of the files of its own that it imports in the places of their imports."""
    text = Path(source).read_text(encoding="utf-8")
    for module in (lines, manifest_file):
        own = Path(str(module.__file__)).read_text(encoding="utf-8")
        found = re.findall(rf"^from {re.escape(module.__name__)} import (?:\([^)]*\)|.*)$", text, re.MULTILINE)
        [statement] = found
        text = text.replace(statement, own)
    (place / LOADER).write_text(text, encoding="utf-8")


def _write_graphs(place: Path, model: SubTransformer, dtype: GraphDtype, *, listed: bool) -> dict[str, str]:
    """Write graphs and weights; return the graphs' files."""
    kept: dict[str, int] = {}
    graphs = build_graphs(model, dtype, listed)
    with (place / WEIGHTS).open("wb") as weights:
        for name, graph in graphs.items():
            _put_outside(graph, weights, kept)
            (place / f"{name}.onnx").write_bytes(graph.SerializeToString())
    return {name: f"{name}.onnx" for name in graphs}


def write_manifest(
    place: Path,
    model: SubTransformer,
    of_runtime: Mapping[str, Any],
    search: Mapping[str, float],
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """Write and return the manifest of the files that are there; `search` are the beam search's defaults."""
    files = sorted(path.name for path in place.iterdir() if path.name != MANIFEST)
    manifest = {
        **of_runtime,
        "model_id": model.architecture.id,
        "architecture": model.architecture.to_dict(),
        "params": count_params(model.architecture),
        "vocabulary": VOCABULARY,
        "vocab_size": model.target_vocab_size,
        "special_tokens": {"bos": BOS, "pad": PAD, "eos": EOS, "unk": UNK},
        "max_positions": model.max_positions,
        "search": dict(search),
        "versions": _versions(),
        **more,
        "files": {name: _sha256(place / name) for name in files},
    }
    manifest = dict(json.loads(json.dumps(manifest, allow_nan=False)))
    manifest[SEAL] = seal_of(manifest)
    text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False)
    (place / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return manifest


def require_weights_inside(place: Path, manifest: Mapping[str, Any]) -> None:
    """Raise ValueError where a graph wants weights of anything but a file of the manifest.

    ONNX Runtime refuses that as well, from some version on, and is all that an exported loader has.
    """
    for name in manifest["graphs"].values():
        try:
            graph = onnx.load(place / name, load_external_data=False)
            tensors = list(graph.graph.initializer)
        except Exception as error:  # protobuf's have no type in common
            why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise ValueError(f"{place / name} is no graph ({why}): export the model again") from error
        for tensor in tensors:
            wanted = {entry.key: entry.value for entry in tensor.external_data}
            if wanted and wanted.get("location") not in manifest["files"]:
                raise ValueError(f"{place / name} wants weights of {wanted.get('location')!r:.200}, outside the export")


def _put_outside(graph: onnx.ModelProto, weights: BinaryIO, kept: dict[str, int]) -> None:
    """Move a graph's large constants to the file of weights; `kept` tells where those are that it has already."""
    for tensor in graph.graph.initializer:  # named by their content
        if len(tensor.raw_data) < _OUTSIDE_BYTES:
            continue
        if tensor.name not in kept:
            weights.write(bytes(-weights.tell() % _PAGE))  # so that a runtime can map it
            kept[tensor.name] = weights.tell()
            weights.write(tensor.raw_data)
        set_external_data(tensor, WEIGHTS, offset=kept[tensor.name], length=len(tensor.raw_data))
        tensor.ClearField("raw_data")


def _versions() -> dict[str, str]:
    modules = {"onnx": onnx, "onnxruntime": onnxruntime, "sentencepiece": sentencepiece, "numpy": np, "torch": torch}
    versions = {name: str(module.__version__) for name, module in modules.items()}
    return {"hat-ray": hat_ray.__version__, "python": platform.python_version(), **versions}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
