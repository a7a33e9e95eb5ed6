"""The engine of an export for ONNX Runtime. Needs numpy and onnxruntime.

N sentences, R = N * beam rows (a sentence's rows stand together), P cached positions, Q query-key-value width,
V vocabulary.

Decisions
- The self-attention cache is written once and never reordered or copied: the beams of a sentence attend to the keys of
  all its beams, and a mask hides those that are not a beam's own ancestors. Reordering beams is reordering that mask.
- A step returns the new keys and values; the graph itself adds its own token's part to attention. So the cache
  goes in as a view of one buffer, which grows, and nothing comes out that was known before.
- Inputs and outputs are bound to their places once; a step binds again only what has grown.
- The graph itself finds the best words: all logits, megabytes a step, are written only on request.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

try:
    import numpy as np
    import onnxruntime
    from numpy.typing import NDArray
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
from hat_ray.runtime.standalone.translate import LineTranslator, translate_stdin

KIND, FORMAT = "hat-ray export", 4
HIDDEN = -1e9
"""Added to a score that attention must not see; exp() of it is exactly 0."""

_FIRST_CAPACITY = 32
_WORTH_DROPPING = 0.7  # finished sentences are dropped when at most this share is left: it copies the whole cache
_ALL = 0  # in the place of a number of best words: all logits

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


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
    ) -> None:
        self.encoder, self.decoder = _session(encoder, threads), _session(decoder, threads)
        self.output = None if output is None else _session(output, threads)
        self.short_lists = short_lists
        inputs = {each.name: each.shape for each in self.decoder.get_inputs()}
        outputs = {each.name: each.shape for each in self.decoder.get_outputs()}
        self.num_layers = sum(name.startswith("past_keys_") for name in inputs)
        self.qkv_dim = int(inputs["past_keys_0"][2])
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
        self._cache: Floats = np.zeros((2 * graphs.num_layers, _FIRST_CAPACITY * beam, sentences, graphs.qkv_dim), "f4")
        self._spare: Floats = np.empty(0, np.float32)
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
        if past == self._seen.shape[1]:
            self._grow()
        binding, results, _ = self._bindings.get(count) or self._bind(count)
        self._tokens[:] = tokens.reshape(self._tokens.shape)
        self._number[0] = self.position
        shape = (past * self.beam, self.sentences, self.graphs.qkv_dim)
        for name, address in self._past:
            binding.bind_input(name, "cpu", 0, np.float32, shape, address)
        seen = np.ascontiguousarray(self._seen[:, :past]).reshape(self.sentences, 1, self.beam, -1)
        binding.bind_input("seen", "cpu", 0, np.float32, seen.shape, _address(seen))
        self.graphs.decoder.run_with_iobinding(binding)
        own = np.arange(len(self._seen))
        self._cache[:, past * self.beam : (past + 1) * self.beam] = self._new.swapaxes(1, 2)
        self._seen[own, past, own % self.beam] = 0.0
        self.position += 1
        return results

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
        if self.beam > 1:
            past = self.position + 1
            self._seen[:, :past] = self._seen[rows, :past]

    def keep(self, sentences: Ints) -> None:
        """Drop all sentences but those at the given indices (their rows stay together)."""
        rows = (sentences[:, None] * self.beam + np.arange(self.beam)).ravel()
        self._seen = self._seen[rows]
        layers, capacity, _, width = self._cache.shape
        filled = (self.position + 1) * self.beam
        size = layers * capacity * len(sentences) * width
        room = self._spare if len(self._spare) >= size else np.empty(size, np.float32)
        kept = room[:size].reshape(layers, capacity, len(sentences), width)
        np.take(self._cache[:, :filled], sentences, axis=2, out=kept[:, :filled], mode="clip")  # "raise" copies twice
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
        self._new: Floats = np.empty((2 * self.graphs.num_layers, self.sentences, self.beam, self.graphs.qkv_dim), "f4")
        self._names = [f"{kind}_{layer}" for layer in range(self.graphs.num_layers) for kind in ("keys", "values")]
        self._past = [(f"past_{name}", _address(cache)) for name, cache in zip(self._names, self._cache, strict=True)]
        self._bindings: dict[int, tuple[Any, list[Any], Ints]] = {}

    def _bind(self, count: int) -> tuple[Any, list[Any], Ints]:
        """Bind all that keeps its place, for steps that return `count` best words, or all logits."""
        rows, binding = self.sentences * self.beam, self.graphs.decoder.io_binding()
        wanted = np.array([count or 1], np.int64)
        fixed = {"tokens": self._tokens, "position": self._number, "count": wanted, **self._memory, **self._of_batch}
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
        for name, value in {**results, **kept, **new}.items():
            binding.bind_output(name, "cpu", 0, value.dtype.type, value.shape, _address(value))
        self._bindings[count] = binding, list(results.values()), wanted  # a binding knows addresses only
        return self._bindings[count]


def _session(graph: bytes | str, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    options.enable_mem_pattern = False  # shapes change with every step
    options.add_session_config_entry("session.force_spinning_stop", "1")  # between runs the other graph's threads work
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _address(array: NDArray[Any]) -> int:
    return int(array.ctypes.data)


def beam_search(
    graphs: Graphs,
    source: Ints,
    *,
    beam: int,
    length_penalty: float,
    max_length: int | Sequence[int],
    pad: int,
    eos: int,
) -> list[list[int]]:
    """Translate (N, S) source tokens; return the best hypothesis of each sentence, without its end of sentence.

    `max_length` is the most tokens of each sentence's translation, or of all.

    A score is log-probability / (length with eos) ** length_penalty. A sentence ends when `beam` hypotheses are
    finished. Of the 2 * beam best continuations an eos counts only among the first `beam`.
    """
    state = graphs.start(source, beam)
    finished: list[list[tuple[float, list[int]]]] = [[] for _ in source]
    still, limits = np.arange(len(source)), np.broadcast_to(np.asarray(max_length, np.int64), len(source))
    history: Ints = np.zeros((len(source) * beam, 0), np.int64)
    scores: Floats = np.full((len(source), beam), -np.inf, "f4")
    scores[:, 0] = 0.0  # at first all beams are alike: only one may speak
    tokens: Ints = np.full(len(source) * beam, eos)
    for position in range(int(limits.max()) + 1):
        values, words, ending = state.best(tokens, 2 * beam + 2)  # two of them may be ruled out
        late = np.repeat(limits[still] == position, beam)  # only eos may follow
        values[late] = -np.inf
        values[late, :1], words[late, 0] = ending[late], eos
        values[(words == pad) | (words == eos) & (position == 0)] = -np.inf
        totals, words, beams = _best_continuations(values, words, scores)
        for index, rank in np.argwhere((words[:, :beam] == eos) & np.isfinite(totals[:, :beam])):
            if len(finished[still[index]]) < beam:
                score = float(totals[index, rank]) / (position + 1) ** length_penalty
                finished[still[index]].append((score, history[index * beam + beams[index, rank]].tolist()))
        going = [len(finished[sentence]) < beam and position < limits[sentence] for sentence in still]
        kept = np.flatnonzero(going)
        if not len(kept):
            break
        if len(kept) <= _WORTH_DROPPING * len(still):
            still, totals, words, beams = still[kept], totals[kept], words[kept], beams[kept]
            history = history.reshape(-1, beam, position)[kept].reshape(-1, position)
            state.keep(kept)
        order = np.argsort(words == eos, axis=1, kind="stable")[:, :beam]
        scores, tokens = np.take_along_axis(totals, order, 1), np.take_along_axis(words, order, 1).ravel()
        rows = (np.arange(len(still))[:, None] * beam + np.take_along_axis(beams, order, 1)).ravel()
        state.reorder(rows)
        history = np.concatenate([history[rows], tokens[:, None]], axis=1)
    return [max(hypotheses, key=lambda each: each[0])[1] for hypotheses in finished]


def _best_continuations(values: Floats, words: Ints, scores: Floats) -> tuple[Floats, Ints, Ints]:
    """(R, C), (R, C), (N, beam) -> total log-probability, token and beam, each (N, 2 * beam), best first."""
    sentences, beam = scores.shape
    totals = (values.reshape(sentences, beam, -1) + scores[:, :, None]).reshape(sentences, -1)
    order = np.argsort(-totals, axis=1, kind="stable")[:, : 2 * beam]
    found = np.take_along_axis(words.reshape(sentences, -1), order, 1)
    return np.take_along_axis(totals, order, 1), found, order // words.shape[1]


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
