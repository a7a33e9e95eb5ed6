"""The interface of an engine, which executes a trained model, to beam search and timing.

Two kinds: a `StepwiseEngine` decodes step by step under hat-ray's beam search; a `WholeEngine` has its own.

The life of a stepwise translation: `start` encodes the sources and returns a state with `beam` rows for each sentence;
`best` feeds one token a row and returns the best words to follow; between steps the state's rows are reordered, and
finished sentences dropped. `step` is `best` for those who want all logits.

N sentences, S source length, R = N * beam rows, V vocabulary.

Decisions
- A runtime finds the best words itself: it may do so without handing out, or writing, a value for each word.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

BOS, EOS, UNK = 0, 2, 3
"""fairseq's begin and end of sentence, and its unknown word; the corpus room uses the same. Callers start a decoder
with EOS."""


class TopTokens(NamedTuple):
    """The words that may follow, of all words: nothing is ruled out yet. Log-probabilities, the caller's to change."""

    values: Tensor
    """(R, C), the best first."""
    words: Tensor
    """(R, C)."""
    ending: Tensor
    """(R, 1): that of the end of sentence, whether or not it is among the best."""


def top_tokens(logits: Tensor, count: int, unknown_words: bool = True) -> TopTokens:
    """(R, V) -> the `count` best words of each row: the vocabulary is read twice and never written."""
    normaliser = logits.logsumexp(1, keepdim=True)
    values, words = logits.topk(count, dim=1)
    best = TopTokens(values - normaliser, words, logits[:, EOS : EOS + 1] - normaliser)
    return best if unknown_words else without_unknown(best)


def without_unknown(best: TopTokens) -> TopTokens:
    """Rule out the unknown word; all other words keep their probabilities, as in Marian."""
    best.values[best.words == UNK] = -torch.inf
    return best


class DecodingState(Protocol):
    """A runtime's state between two steps."""

    def reorder(self, rows: Tensor) -> None:
        """Continue row i from the state of row `rows[i]`; `rows` (R,) must stay within each sentence."""

    def keep(self, sentences: Tensor) -> None:
        """Drop all sentences but those at the given indices (their rows stay together)."""


class StepwiseEngine(Protocol):
    """A model that is ready to translate on some runtime."""

    @property
    def target_vocab_size(self) -> int: ...

    @property
    def max_positions(self) -> int:
        """Longest sentence in tokens."""

    @property
    def device(self) -> torch.device:
        """Device of sources, tokens and logits."""

    def start(self, source: Tensor, beam: int) -> DecodingState:
        """Encode (N, S) for decoding with N * beam rows."""

    def step(self, tokens: Tensor, state: Any) -> Tensor:
        """Feed one token a row, (R,) -> logits (R, V), the caller's to change until the next step."""

    def best(self, tokens: Tensor, state: Any, count: int) -> TopTokens:
        """Feed one token a row, (R,) -> the `count` best words to follow each."""


@dataclass(frozen=True)
class BeamSettings:
    """Settings of a beam search."""

    beam: int
    length_penalty: float
    max_length: int | Sequence[int]
    """Tokens of a translation at most, the end of sentence not counted: of all sources, or of each."""

    def limits(self, sources: int) -> list[int]:
        """Return the most tokens of each source's translation."""
        return [self.max_length] * sources if isinstance(self.max_length, int) else list(self.max_length)


@runtime_checkable
class WholeEngine(Protocol):
    """A model on a runtime with a beam search of its own."""

    @property
    def target_vocab_size(self) -> int: ...

    @property
    def max_positions(self) -> int:
        """Longest sentence in tokens."""

    def translate(
        self, sources: Sequence[Sequence[int]], search: BeamSettings, exact_length: int | None = None
    ) -> list[list[int]]:
        """Return the best translation of each source as tokens, without the end of sentence.

        Sources end with EOS. With `exact_length` each takes exactly that many decoder steps, whatever the
        probabilities: a timing must not depend on when a model ends.
        """


Engine = StepwiseEngine | WholeEngine


@contextmanager
def evaluating(model: Engine) -> Iterator[None]:
    """Bring a PyTorch model into evaluation mode for a while; other runtimes have no other mode."""
    if not isinstance(model, nn.Module):
        yield
        return
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
