"""A SubTransformer on ONNX Runtime, as beam search and timing see every model: torch tensors in and out, none copied.

N sentences, S source length, R = N * beam rows, V vocabulary.
"""

from dataclasses import dataclass

import onnx
import torch
from torch import Tensor

from hat_ray.errors import HatRayError
from hat_ray.model.protocol import TopTokens
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.onnx.decoder import decoder_graph, output_graph
from hat_ray.runtime.onnx.encoder import encoder_graph
from hat_ray.runtime.onnx.graph import GraphDtype
from hat_ray.runtime.shortlist import ShortLists
from hat_ray.runtime.standalone import graphs_onnx as loader
from hat_ray.runtime.standalone.graphs_onnx import Graphs, State


@dataclass(frozen=True)
class OnnxEngine:
    """Two graphs that are ready to run; a `StepwiseEngine`."""

    graphs: Graphs
    max_positions: int

    @classmethod
    def of(
        cls, model: SubTransformer, dtype: GraphDtype, threads: int = 1, lists: ShortLists | None = None
    ) -> "OnnxEngine":
        """Build a model's graphs in memory."""
        parts = {
            name: graph.SerializeToString() for name, graph in build_graphs(model, dtype, lists is not None).items()
        }
        own = None if lists is None else loader.ShortLists(lists.frequent, lists.partners, model.target_vocab_size)
        graphs = Graphs(parts["encoder"], parts["decoder"], threads, parts.get("output"), own)
        return cls(graphs, model.max_positions)

    @property
    def arrays(self) -> Graphs:
        """The same on arrays, without PyTorch."""
        return self.graphs

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
        """Feed one token a row, (R,) -> logits (R, V), which the next step overwrites.

        Words on no list of the batch have minus infinity, words on another sentence's list hardly more.
        """
        self._require_room(state)
        logits = torch.from_numpy(state.state.step(tokens.numpy()))
        if state.state.listed is None:
            return logits
        whole = torch.full((len(logits), self.target_vocab_size), -torch.inf)
        whole[:, torch.from_numpy(state.state.listed)] = logits
        return whole

    def best(self, tokens: Tensor, state: "OnnxState", count: int) -> TopTokens:
        """Feed one token a row, (R,) -> the `count` best words to follow each, which the next step overwrites."""
        self._require_room(state)
        return TopTokens(*map(torch.from_numpy, state.state.best(tokens.numpy(), count)))

    def watch(self, state: "OnnxState") -> None:
        """Keep the attention of each step from now on."""
        state.state.watch()

    def attention(self, state: "OnnxState") -> Tensor:
        """Return the shares (R, S) of the source's tokens in the last layer's attention of the last step."""
        return torch.from_numpy(state.state.attention())

    def _require_room(self, state: "OnnxState") -> None:
        if state.state.position >= self.max_positions:
            raise HatRayError(f"a sentence may have at most {self.max_positions} tokens: raise model.max_positions")


@dataclass(frozen=True, slots=True)
class OnnxState:
    """The loader's state for torch indices."""

    state: State

    def reorder(self, rows: Tensor) -> None:
        self.state.reorder(rows.numpy())

    def keep(self, sentences: Tensor) -> None:
        self.state.keep(sentences.numpy())


def build_graphs(model: SubTransformer, dtype: GraphDtype, listed: bool = False) -> dict[str, onnx.ModelProto]:
    """Return a model's graphs: the encoder's, the decoder step's, and for short-lists the output projection's."""
    if model.device.type != "cpu" or next(model.parameters()).dtype != torch.float32:
        raise HatRayError("graphs are built from fp32 weights on the CPU: load the model anew")
    with torch.inference_mode():
        graphs = {"encoder": encoder_graph(model, dtype), "decoder": decoder_graph(model, dtype, listed=listed)}
        return {**graphs, "output": output_graph(model, dtype)} if listed else graphs
