"""A SubTransformer on ONNX Runtime, as beam search and timing see every model: torch tensors in and out, none copied.

N sentences, S source length, R = N * beam rows, V vocabulary.
"""

from dataclasses import dataclass

import onnx
import torch
from torch import Tensor

from hat_ray.errors import HatRayError
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.decoder_graph import decoder_graph
from hat_ray.runtime.encoder_graph import encoder_graph
from hat_ray.runtime.graph import GraphDtype
from hat_ray.runtime.loader import Graphs, State


@dataclass(frozen=True)
class OnnxModel:
    """Two graphs that are ready to run; a `Translator`."""

    graphs: Graphs
    max_positions: int

    @classmethod
    def of(cls, model: SubTransformer, dtype: GraphDtype, threads: int = 1) -> "OnnxModel":
        """Build a model's graphs in memory."""
        encoder, decoder = build_graphs(model, dtype)
        graphs = Graphs(encoder.SerializeToString(), decoder.SerializeToString(), threads)
        return cls(graphs, model.max_positions)

    @property
    def target_vocab_size(self) -> int:
        return self.graphs.vocab_size

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def start(self, source: Tensor, beam: int) -> "OnnxState":
        """Encode (N, S) for decoding with N * beam rows."""
        if source.shape[1] > self.max_positions:
            raise HatRayError(
                f"a sentence may have at most {self.max_positions} tokens, got {source.shape[1]}: "
                "raise model.max_positions or cut the sentence"
            )
        return OnnxState(self.graphs.start(source.numpy(), beam))

    def step(self, tokens: Tensor, state: "OnnxState") -> Tensor:
        """Feed one token a row, (R,) -> logits (R, V), which the next step overwrites."""
        if state.state.position >= self.max_positions:
            raise HatRayError(f"a sentence may have at most {self.max_positions} tokens: raise model.max_positions")
        return torch.from_numpy(state.state.step(tokens.numpy()))


@dataclass(frozen=True, slots=True)
class OnnxState:
    """The loader's state for torch indices."""

    state: State

    def reorder(self, rows: Tensor) -> None:
        self.state.reorder(rows.numpy())

    def keep(self, sentences: Tensor) -> None:
        self.state.keep(sentences.numpy())


def build_graphs(model: SubTransformer, dtype: GraphDtype) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Return the encoder's and the decoder step's graph of a model."""
    if model.device.type != "cpu" or next(model.parameters()).dtype != torch.float32:
        raise HatRayError("graphs are built from fp32 weights on the CPU: load the model anew")
    with torch.inference_mode():
        return encoder_graph(model, dtype), decoder_graph(model, dtype)
