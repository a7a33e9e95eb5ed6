"""The graphs of a model on ONNX Runtime, step by step. Needs numpy and onnxruntime.

N sentences, R = N * beam rows (a sentence's rows stand together), P cached positions, Q query-key-value width,
V vocabulary.

Decisions
- The self-attention cache is written once and never reordered or copied: the beams of a sentence attend to the keys of
  all its beams, and a mask hides those that are not a beam's own ancestors. Reordering beams is reordering that mask.
- An SSRU's state is one row a hypothesis, (R, D); reordering beams selects its rows.
- A step returns the new keys and values; the graph itself adds its own token's part to attention. So the cache
  goes in as a view of one buffer, which grows, and nothing comes out that was known before.
- Inputs and outputs are bound to their places once; a step binds again only what has grown. Where there are few rows a
  binding takes as long as a tenth of a step, so that the cache is bound with some places to come, which are hidden.
- The graph itself finds the best words: all logits, megabytes a step, are written only on request.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from hat_ray.runtime.standalone.beams import Floats, Ints

HIDDEN = -1e9
"""Added to a score that attention must not see; exp() of it is exactly 0."""

_FIRST_CAPACITY = 32
_FEW_ROWS, _AHEAD = 16, 8
"""Up to `_FEW_ROWS` rows the cache is bound in multiples of `_AHEAD` positions, else as it is."""
_ALL = 0  # in the place of a number of best words: all logits

Weights = Mapping[str, NDArray[Any]]


class ShortLists:
    """Which words may translate a sentence: the frequent ones, and partners of the words of its source."""

    def __init__(self, frequent: Ints, partners: Ints, words: int) -> None:
        """`words` are those of the target's vocabulary; `partners` has a row for each of the source's."""
        self.frequent, self.partners, self.words = frequent, partners, words

    @classmethod
    def load(cls, path: str | Path, source_words: int, words: int) -> "ShortLists":
        """Read the lists of two vocabularies of these sizes; raise ValueError where they are of others."""
        with np.load(path, allow_pickle=False) as arrays:
            lists = cls(arrays["frequent"].astype(np.int64), arrays["partners"].astype(np.int64), words)
        largest = max(int(lists.frequent.max(initial=0)), int(lists.partners.max(initial=0)))
        if len(lists.partners) != source_words or largest >= words:
            raise ValueError(
                f"its short-lists of {len(lists.partners)} source words, not {source_words}, are of other vocabularies"
            )
        return lists

    def of(self, source: Ints) -> tuple[Ints, Floats]:
        """(N, S) -> the words (L,) of all lists, ascending, and (N, 1, L): 0 on a sentence's own list, else HIDDEN."""
        own = [np.union1d(self.frequent, self.partners[np.unique(row)]) for row in source]
        words = np.unique(np.concatenate(own))
        words = words[words >= 0]
        allowed: Floats = np.full((len(own), 1, len(words)), HIDDEN, "f4")
        for row, mine in zip(allowed, own, strict=True):
            row[0, np.searchsorted(words, mine[mine >= 0])] = 0.0
        return words, allowed


class Graphs:
    """The encoder's and the decoder step's graph, ready to run on `threads` threads; 0: one for each core.

    With short-lists the decoder gets its output projection from a third graph, once a batch: the rows of their words.
    """

    def __init__(
        self,
        encoder: bytes | str,
        decoder: bytes | str,
        threads: int = 1,
        output: bytes | str | None = None,
        short_lists: ShortLists | None = None,
        weights: Mapping[str, Weights] | None = None,
    ) -> None:
        """`weights` holds those that the encoder's and the decoder's graph leave to a file, by part and name."""
        self.threads = threads
        self._weights = weights or {}  # ONNX Runtime reads them where they stand
        self.encoder = _session(encoder, threads, self._weights.get("encoder"))
        self.decoder = _session(decoder, threads, self._weights.get("decoder"))
        self.output = None if output is None else _session(output, threads)
        self.short_lists = short_lists
        inputs = {each.name: each.shape for each in self.decoder.get_inputs()}
        outputs = {each.name: each.shape for each in self.decoder.get_outputs()}
        self.num_layers = sum(name.startswith("keys_") for name in inputs)
        self.attending = [layer for layer in range(self.num_layers) if f"past_keys_{layer}" in inputs]
        self.recurrent = [layer for layer in range(self.num_layers) if f"state_{layer}" in inputs]
        self.qkv_dim = int(inputs[f"past_keys_{self.attending[0]}"][2]) if self.attending else 0
        self.state_dim = int(inputs[f"state_{self.recurrent[0]}"][1]) if self.recurrent else 0
        self.vocab_size = int(outputs["logits"][1]) if short_lists is None else short_lists.words

    def start(self, source: Ints, beam: int) -> "State":
        """Encode (N, S) and return the state in which each sentence has `beam` rows."""
        names = [each.name for each in self.encoder.get_outputs()]
        memory = self.encoder.run(None, {"source": np.ascontiguousarray(source, dtype=np.int64)})
        of_sentences, of_batch = dict(zip(names, memory, strict=True)), {}
        if self.output is not None and self.short_lists is not None:
            words, of_sentences["allowed"] = self.short_lists.of(source)
            parts = [each.name for each in self.output.get_outputs()]
            of_batch = dict(zip(parts, self.output.run(None, {"words": words}), strict=True)) | {"listed": words}
        return State(self, of_sentences, of_batch, len(source), beam)


class State:
    """All that decoding has to remember between two steps."""

    def __init__(
        self, graphs: Graphs, memory: Mapping[str, Any], of_batch: Mapping[str, Any], sentences: int, beam: int
    ) -> None:
        self.graphs, self.beam = graphs, beam
        self.position = 0
        self._source_length, self._is_watched = int(memory["memory_mask"].shape[-1]), False
        self._attended: Floats = np.empty(0, np.float32)
        self._memory, self._of_batch = memory, of_batch
        # position 0 of the cache stands for nothing and is never seen: no graph ever gets an empty input
        layers, places = 2 * len(graphs.attending), _FIRST_CAPACITY * beam if graphs.attending else 0
        self._cache: Floats = np.zeros((layers, places, sentences, graphs.qkv_dim), "f4")
        self._states: Floats = np.zeros((len(graphs.recurrent), sentences * beam, graphs.state_dim), "f4")
        self._spare: Floats = np.empty(0, np.float32)
        self._mask: Floats = np.empty((0, 0, 0), np.float32)
        self._seen: Floats = np.full((sentences * beam, _FIRST_CAPACITY, beam), HIDDEN, "f4")
        self._place()

    @property
    def listed(self) -> Ints | None:
        """The words (L,) that logits are of; None: all."""
        return self._of_batch.get("listed")

    @property
    def sentences(self) -> int:
        return int(self._cache.shape[2])

    def step(self, tokens: Ints) -> Floats:
        """Feed the next token of each row, (R,) -> logits (R, V), which the caller may change until the next step.

        With short-lists they are those of the `listed` words.
        """
        logits: Floats = self._run(tokens, _ALL)[0]
        return logits

    def best(self, tokens: Ints, count: int) -> tuple[Floats, Ints, Floats]:
        """Feed the next token of each row, (R,); return the best words to follow, until the next step.

        Logarithms of probability (R, count), best first; the words; and the end of sentence's own logarithm (R, 1).
        `count` may be more than there are: then all are returned.
        """
        there = self.graphs.vocab_size if self.listed is None else len(self.listed)
        values, words, ending = self._run(tokens, min(count, there))
        return values, words, ending

    def _run(self, tokens: Ints, count: int) -> list[Any]:
        past = self.position + 1
        if self.graphs.attending and past == self._seen.shape[1]:
            self._grow()
        binding, results, _ = self._bindings.get(count) or self._bind(count)
        self._tokens[:] = tokens.reshape(self._tokens.shape)
        self._number[0] = self.position
        if self.graphs.attending:
            self._attend(binding, past)
        else:
            self.graphs.decoder.run_with_iobinding(binding)
        if self.graphs.recurrent:
            self._states[:] = self._new_states
        self.position += 1
        return results

    def _attend(self, binding: Any, past: int) -> None:
        """Run a step with the cache, and keep its new keys and values."""
        if past > self._bound_to.get(binding, 0):
            self._bind_past(binding, past)
        np.copyto(self._mask, self._seen[:, : self._mask.shape[1]])
        self.graphs.decoder.run_with_iobinding(binding)
        self._cache[:, past * self.beam : (past + 1) * self.beam] = self._new.swapaxes(1, 2)
        self._seen[self._rows, past, self._beams] = 0.0

    def _bind_past(self, binding: Any, past: int) -> None:
        """Bind the cache and its mask with room for the next steps where there are few rows."""
        places = past
        if len(self._seen) <= _FEW_ROWS:
            places = min(-(-past // _AHEAD) * _AHEAD, self._seen.shape[1])
        if self._mask.shape[1] != places:
            self._mask = np.empty((len(self._seen), places, self.beam), np.float32)
            self._bound_to.clear()
        shape = (places * self.beam, self.sentences, self.graphs.qkv_dim)
        for name, address in self._past:
            binding.bind_input(name, "cpu", 0, np.float32, shape, address)
        seen = (self.sentences, 1, self.beam, places * self.beam)
        binding.bind_input("seen", "cpu", 0, np.float32, seen, _address(self._mask))
        self._bound_to[binding] = places

    def watch(self) -> None:
        """Keep the attention of each step from now on."""
        self._is_watched = True
        self._bindings.clear()

    def attention(self) -> Floats:
        """Return the shares (R, S) of the source's tokens in the last layer's attention of the last step."""
        rows = len(self._attended) * self.beam
        by_layer = self._attended.reshape(rows, -1, self._source_length)  # of each encoder layer that is attended to
        shares: Floats = by_layer.sum(1)
        return shares

    def reorder(self, rows: Ints) -> None:
        """Continue row i from the state of row `rows[i]`; `rows` (R,) must stay within each sentence."""
        if self.beam > 1 and self.graphs.attending:
            past = self.position + 1
            self._seen[:, :past] = self._seen[rows, :past]
        if self.beam > 1 and self.graphs.recurrent:
            self._states[:] = np.take(self._states, rows, axis=1)

    def keep(self, sentences: Ints) -> None:
        """Drop all sentences but those at the given indices (their rows stay together)."""
        rows = (sentences[:, None] * self.beam + np.arange(self.beam)).ravel()
        self._seen, self._states = self._seen[rows], np.take(self._states, rows, axis=1)  # in one piece
        layers, capacity, _, width = self._cache.shape
        filled = (self.position + 1) * self.beam
        size = layers * capacity * len(sentences) * width
        room = self._spare if len(self._spare) >= size else np.empty(size, np.float32)
        kept = room[:size].reshape(layers, capacity, len(sentences), width)
        np.take(self._cache[:, :filled], sentences, axis=2, out=kept[:, :filled], mode="clip")  # "raise" copies twice
        if len(rows) <= _FEW_ROWS:
            kept[:, filled:] = 0.0  # bound ahead: hidden, but a product of nothing with no number is no number
        self._spare, self._cache = self._cache.reshape(-1), kept  # room used again needs no new pages of the system
        self._memory = {name: np.take(value, sentences, axis=0) for name, value in self._memory.items()}
        self._place()

    def _grow(self) -> None:
        """Double the capacity."""
        self._cache = np.concatenate([self._cache, np.zeros_like(self._cache)], axis=1)
        self._seen = np.concatenate([self._seen, np.full_like(self._seen, HIDDEN)], axis=1)
        self._place()

    def _place(self) -> None:
        """Make room for everything that keeps its shape from step to step, and note where the cache stands."""
        self._tokens: Ints = np.zeros((self.sentences, self.beam), np.int64)
        self._number: Ints = np.zeros(1, np.int64)
        self._rows = np.arange(self.sentences * self.beam)
        self._beams = self._rows % self.beam
        self._new_states: Floats = np.empty_like(self._states)
        self._new: Floats = np.empty(
            (2 * len(self.graphs.attending), self.sentences, self.beam, self.graphs.qkv_dim), "f4"
        )
        self._names = [f"{kind}_{layer}" for layer in self.graphs.attending for kind in ("keys", "values")]
        self._past = [(f"past_{name}", _address(cache)) for name, cache in zip(self._names, self._cache, strict=True)]
        self._bindings: dict[int, tuple[Any, list[Any], Ints]] = {}
        self._mask = np.empty((0, 0, 0), np.float32)
        self._bound_to: dict[Any, int] = {}

    def _bind(self, count: int) -> tuple[Any, list[Any], Ints]:
        """Bind all that keeps its place, for steps that return `count` best words, or all logits."""
        rows, binding = self.sentences * self.beam, self.graphs.decoder.io_binding()
        wanted = np.array([count or 1], np.int64)
        fixed = {"tokens": self._tokens, "position": self._number, "count": wanted, **self._memory, **self._of_batch}
        fixed |= {f"state_{layer}": own for layer, own in zip(self.graphs.recurrent, self._states, strict=True)}
        for name, value in fixed.items():
            binding.bind_input(name, "cpu", 0, value.dtype.type, value.shape, _address(value))
        words = self.graphs.vocab_size if self.listed is None else len(self.listed)
        results: dict[str, Any] = {"logits": np.empty((rows, words), "f4")}
        if count != _ALL:
            results = {"values": np.empty((rows, count), "f4"), "words": np.empty((rows, count), np.int64)}
            results["ending"] = np.empty((rows, 1), "f4")
        kept: dict[str, Any] = {}
        if self._is_watched:
            last = self._memory[f"keys_{self.graphs.num_layers - 1}"]
            self._attended = np.empty((self.sentences, self.beam, last.shape[3]), np.float32)
            kept = {"attention": self._attended}
        new = {f"new_{name}": value for name, value in zip(self._names, self._new, strict=True)}
        new |= {f"new_state_{layer}": own for layer, own in zip(self.graphs.recurrent, self._new_states, strict=True)}
        for name, value in {**results, **kept, **new}.items():
            binding.bind_output(name, "cpu", 0, value.dtype.type, value.shape, _address(value))
        self._bindings[count] = binding, list(results.values()), wanted  # a binding knows addresses only
        return self._bindings[count]


def _session(graph: bytes | str, threads: int, weights: Weights | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    options.enable_mem_pattern = False  # shapes change with every step
    options.add_session_config_entry("session.force_spinning_stop", "1")  # between runs the other graph's threads work
    if weights:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
        options.add_external_initializers(list(weights), values)
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])  # `ctypes.data` takes five times as long
