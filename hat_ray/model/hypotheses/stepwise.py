"""An engine of PyTorch's tensors, as the search of `search.py` asks it. Nothing is copied on a CPU."""

from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hat_ray.errors import HatRayError
from hat_ray.model.embedding import PAD
from hat_ray.model.hypotheses.found import Found, Task
from hat_ray.model.hypotheses.knobs import Decoding
from hat_ray.model.hypotheses.search import find, padded, rows_of
from hat_ray.model.protocol import EOS, Engine, StepwiseEngine


@runtime_checkable
class AttentiveEngine(Protocol):
    """A `StepwiseEngine` that can report what a step attended to."""

    def watch(self, state: Any) -> None:
        """Keep the attention of each step from now on."""

    def attention(self, state: Any) -> Tensor:
        """Return the shares (R, S) of the source's tokens in the last layer's attention of the last step."""


@runtime_checkable
class SearchingEngine(Protocol):
    """A `WholeEngine` whose own search knows a request's settings, or refuses them."""

    def find(self, task: Task, wanted: Decoding) -> list[list[Found]]:
        """Return the hypotheses of each source, best first; raise HatRayError for what it cannot do."""


class TorchSteps:
    """A batch on an engine; `Steps` of `search.py`."""

    def __init__(self, engine: StepwiseEngine, source: NDArray[np.int64], rows: int, attentive: bool) -> None:
        self.engine = engine
        self.state: Any = engine.start(torch.from_numpy(source).to(engine.device), rows)
        if attentive:
            self._attentive().watch(self.state)

    def best(self, tokens: NDArray[np.int64], count: int) -> tuple[Any, Any, Any]:
        """Return the best words to follow each row, at most `count` of them."""
        fed = torch.from_numpy(np.ascontiguousarray(tokens)).to(self.engine.device)
        found = self.engine.best(fed, self.state, min(count, self.engine.target_vocab_size))
        return found.values.float().cpu().numpy(), found.words.cpu().numpy(), found.ending.float().cpu().numpy()

    def reorder(self, rows: NDArray[np.int64]) -> None:
        self.state.reorder(torch.from_numpy(rows).to(self.engine.device))

    def keep(self, sentences: NDArray[np.int64]) -> None:
        self.state.keep(torch.from_numpy(sentences).to(self.engine.device))

    def attention(self) -> NDArray[np.float32]:
        """Return what the last step attended to, (R, S)."""
        return cast("NDArray[np.float32]", self._attentive().attention(self.state).float().cpu().numpy())

    def _attentive(self) -> AttentiveEngine:
        if not isinstance(self.engine, AttentiveEngine):
            raise HatRayError(
                "alignments and coverage_penalty need the attention, which this runtime keeps to itself: leave them out"
            )
        return self.engine


@torch.inference_mode()
def find_on(engine: Engine, task: Task, wanted: Decoding) -> list[list[Found]]:
    """Return the hypotheses of each source of a batch, best first, on any engine."""
    if isinstance(engine, SearchingEngine):
        return engine.find(task, wanted)
    if not hasattr(engine, "start"):
        raise HatRayError("this runtime searches by itself and knows no such settings: take runtime onnx or packed")
    stepwise = cast(StepwiseEngine, engine)
    steps = TorchSteps(stepwise, padded(task.sources, PAD), rows_of(task, wanted), wanted.needs_attention)
    return find(steps, task, wanted, PAD, EOS)
