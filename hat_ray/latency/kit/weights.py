"""A kit's graphs, opened with random weights of the shapes that the kit names. Needs numpy and onnxruntime."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from hat_ray.errors import LatencyError
from hat_ray.latency.kit.plan import GRAPHS
from hat_ray.runtime.standalone.graphs_onnx import Graphs

PARTS = ("encoder", "decoder")
SHAPES = "weights.json"
_SPREAD = 0.05  # such numbers neither overflow nor become denormal, which would be slow


class Archive:
    """The graphs of a kit's architectures."""

    def __init__(self, kit: Path, threads: int) -> None:
        self._threads = threads
        try:
            self._zip = ZipFile(kit / GRAPHS)
        except (OSError, BadZipFile) as error:
            raise LatencyError(f"{kit / GRAPHS} cannot be read: copy the kit again") from error
        self._draw = np.random.default_rng(0)

    def open(self, architecture_id: str) -> Graphs:
        """Build an architecture's graphs with new random weights, as each visit does."""
        shapes = json.loads(self._zip.read(f"{architecture_id}/{SHAPES}"))
        weights = {part: {name: self._drawn(*shape) for name, shape in shapes[part].items()} for part in PARTS}
        encoder, decoder = (self._zip.read(f"{architecture_id}/{part}.onnx") for part in PARTS)
        return Graphs(encoder, decoder, self._threads, weights=weights)

    def close(self) -> None:
        self._zip.close()

    def _drawn(self, dtype: str, shape: list[int]) -> NDArray[Any]:
        if dtype == "float32":
            values = self._draw.random(shape, dtype=np.float32)
            values -= 0.5
            values *= 2 * _SPREAD
            return values
        return self._draw.integers(0, 256, shape, dtype=np.uint8).view(dtype)


@contextmanager
def opened(kit: Path, threads: int) -> Iterator[Archive]:
    """Open a kit's graphs for a while."""
    archive = Archive(kit, threads)
    try:
        yield archive
    finally:
        archive.close()
