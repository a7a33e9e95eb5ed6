"""Translate with a model that hat-ray exported. Needs numpy, onnxruntime and sentencepiece, and nothing of hat-ray.

    python translate.py < source.txt > target.txt

    from translate import Translator
    Translator("folder").translate(["A dog runs."])

N sentences, R = N * beam rows (a sentence's rows stand together), P cached positions, Q query-key-value width,
V vocabulary.

Decisions
- The self-attention cache is written once and never reordered or copied: the beams of a sentence attend to the keys of
  all its beams, and a mask hides those that are not a beam's own ancestors. Reordering beams is reordering that mask.
- A step returns what is new of keys and values; the graph itself adds its own token's part to attention. So the cache
  goes in as a view of one buffer, which grows, and nothing comes out that was known before.
- Inputs and outputs are bound to their places once; a step binds again only what has grown.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import sentencepiece
from numpy.typing import NDArray

KIND, FORMAT = "hat-ray export", 1
MANIFEST = "manifest.json"
HIDDEN = -1e9
"""Added to a score that attention must not see; exp() of it is exactly 0."""

_FIRST_CAPACITY = 32
_BLOCKS = 64  # the best words are sought among the best of so many blocks

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class Graphs:
    """The encoder's and the decoder step's graph, ready to run on so many threads; 0: one for each core."""

    def __init__(self, encoder: bytes | str, decoder: bytes | str, threads: int = 1) -> None:
        self.encoder, self.decoder = _session(encoder, threads), _session(decoder, threads)
        inputs = {each.name: each.shape for each in self.decoder.get_inputs()}
        outputs = {each.name: each.shape for each in self.decoder.get_outputs()}
        self.num_layers = sum(name.startswith("past_keys_") for name in inputs)
        self.qkv_dim = int(inputs["past_keys_0"][2])
        self.vocab_size = int(outputs["logits"][1])

    def start(self, source: Ints, beam: int) -> "State":
        """Encode (N, S) and return the state in which each sentence has `beam` rows."""
        names = [each.name for each in self.encoder.get_outputs()]
        memory = self.encoder.run(None, {"source": np.ascontiguousarray(source, dtype=np.int64)})
        return State(self, dict(zip(names, memory, strict=True)), len(source), beam)


class State:
    """All that decoding has to remember between two steps."""

    def __init__(self, graphs: Graphs, memory: Mapping[str, Any], sentences: int, beam: int) -> None:
        self.graphs, self.beam = graphs, beam
        self.position = 0
        self._memory = memory
        # position 0 of the cache stands for nothing and is never seen: no graph ever gets an empty input
        self._cache: Floats = np.zeros((2 * graphs.num_layers, _FIRST_CAPACITY * beam, sentences, graphs.qkv_dim), "f4")
        self._spare: Floats = np.empty(0, np.float32)
        self._seen: Floats = np.full((sentences * beam, _FIRST_CAPACITY, beam), HIDDEN, "f4")
        self._place()

    @property
    def sentences(self) -> int:
        return int(self._cache.shape[2])

    def step(self, tokens: Ints) -> Floats:
        """Feed the next token of each row, (R,) -> logits (R, V), which the caller may change until the next step."""
        past = self.position + 1
        if past == self._seen.shape[1]:
            self._grow()
        self._tokens[:] = tokens.reshape(self._tokens.shape)
        self._number[0] = self.position
        shape = (past * self.beam, self.sentences, self.graphs.qkv_dim)
        for name, address in self._past:
            self._binding.bind_input(name, "cpu", 0, np.float32, shape, address)
        seen = np.ascontiguousarray(self._seen[:, :past]).reshape(self.sentences, 1, self.beam, -1)
        self._binding.bind_input("seen", "cpu", 0, np.float32, seen.shape, _address(seen))
        self.graphs.decoder.run_with_iobinding(self._binding)
        own = np.arange(len(self._seen))
        self._cache[:, past * self.beam : (past + 1) * self.beam] = self._new.swapaxes(1, 2)
        self._seen[own, past, own % self.beam] = 0.0
        self.position += 1
        return self._logits

    def reorder(self, rows: Ints) -> None:
        """Let row i go on from what row `rows[i]` holds; `rows` (R,) must stay within each sentence."""
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
        """Bind everything that keeps its shape from step to step, and note where the cache stands."""
        graphs, sentences = self.graphs, self.sentences
        self._tokens: Ints = np.zeros((sentences, self.beam), np.int64)
        self._number: Ints = np.zeros(1, np.int64)
        self._logits: Floats = np.empty((sentences * self.beam, graphs.vocab_size), "f4")
        self._new: Floats = np.empty((2 * graphs.num_layers, sentences, self.beam, graphs.qkv_dim), "f4")
        self._binding = graphs.decoder.io_binding()
        for name, value in {"tokens": self._tokens, "position": self._number, **self._memory}.items():
            self._binding.bind_input(name, "cpu", 0, value.dtype.type, value.shape, _address(value))
        self._binding.bind_output("logits", "cpu", 0, np.float32, self._logits.shape, _address(self._logits))
        names = [f"{kind}_{layer}" for layer in range(graphs.num_layers) for kind in ("keys", "values")]
        for name, new in zip(names, self._new, strict=True):
            self._binding.bind_output(f"new_{name}", "cpu", 0, np.float32, new.shape, _address(new))
        self._past = [(f"past_{name}", _address(cache)) for name, cache in zip(names, self._cache, strict=True)]


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
    graphs: Graphs, source: Ints, *, beam: int, length_penalty: float, max_length: int, pad: int, eos: int
) -> list[list[int]]:
    """Translate (N, S) source tokens; return the best hypothesis of each sentence, without its end of sentence.

    A score is log-probability / (length with eos) ** length_penalty. A sentence ends when `beam` hypotheses are
    finished. Of the 2 * beam best continuations an eos counts only among the first `beam`.
    """
    state = graphs.start(source, beam)
    finished: list[list[tuple[float, list[int]]]] = [[] for _ in source]
    still = np.arange(len(source))
    history: Ints = np.zeros((len(source) * beam, 0), np.int64)
    scores: Floats = np.full((len(source), beam), -np.inf, "f4")
    scores[:, 0] = 0.0  # at first all beams are alike: only one may speak
    tokens: Ints = np.full(len(source) * beam, eos)
    for position in range(max_length + 1):
        logits = state.step(tokens)
        normaliser = _log_sum_exp(logits)
        logits[:, pad] = -np.inf
        if position == 0:
            logits[:, eos] = -np.inf
        if position == max_length:  # only eos may follow
            logits[:, :eos] = logits[:, eos + 1 :] = -np.inf
        totals, words, beams = _best_continuations(logits, normaliser, scores)
        for index, rank in np.argwhere((words[:, :beam] == eos) & np.isfinite(totals[:, :beam])):
            if len(finished[still[index]]) < beam:
                score = float(totals[index, rank]) / (position + 1) ** length_penalty
                finished[still[index]].append((score, history[index * beam + beams[index, rank]].tolist()))
        kept = np.array([i for i, sentence in enumerate(still) if len(finished[sentence]) < beam], np.int64)
        if not len(kept) or position == max_length:
            break
        if len(kept) < len(still):
            still, totals, words, beams = still[kept], totals[kept], words[kept], beams[kept]
            history = history.reshape(-1, beam, position)[kept].reshape(-1, position)
            state.keep(kept)
        order = np.argsort(words == eos, axis=1, kind="stable")[:, :beam]
        scores, tokens = np.take_along_axis(totals, order, 1), np.take_along_axis(words, order, 1).ravel()
        rows = (np.arange(len(still))[:, None] * beam + np.take_along_axis(beams, order, 1)).ravel()
        state.reorder(rows)
        history = np.concatenate([history[rows], tokens[:, None]], axis=1)
    return [max(hypotheses, key=lambda each: each[0])[1] for hypotheses in finished]


def _best_continuations(logits: Floats, normaliser: Floats, scores: Floats) -> tuple[Floats, Ints, Ints]:
    """(R, V), (R, 1), (N, beam) -> total log-probability, token and beam, each (N, 2 * beam), best first."""
    sentences, beam = scores.shape
    values, words = top(logits, 2 * beam)
    totals = ((values - normaliser).reshape(sentences, beam, -1) + scores[:, :, None]).reshape(sentences, -1)
    order = np.argsort(-totals, axis=1, kind="stable")[:, : 2 * beam]
    words = np.take_along_axis(words.reshape(sentences, -1), order, 1)
    return np.take_along_axis(totals, order, 1), words, order // (2 * beam)


def top(logits: Floats, count: int) -> tuple[Floats, Ints]:
    """(R, V) -> the `count` largest of each row and where they stand, each (R, count), best first.

    They lie in the `count` blocks whose largest are largest; so the vocabulary is read once, and not sorted.
    """
    rows, vocab = logits.shape
    blocks = vocab // _BLOCKS
    if blocks <= count:
        places = np.broadcast_to(np.arange(vocab), (rows, vocab))
    else:
        whole = blocks * _BLOCKS
        largest = logits[:, :whole].reshape(rows, _BLOCKS, blocks).max(1)
        chosen = np.argpartition(-largest, count - 1, axis=1)[:, :count, None] + blocks * np.arange(_BLOCKS)
        rest = np.broadcast_to(np.arange(whole, vocab), (rows, vocab - whole))
        places = np.concatenate([chosen.reshape(rows, -1), rest], axis=1)
    values = np.take_along_axis(logits, places, 1)
    order = np.argsort(-values, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(values, order, 1), np.take_along_axis(places, order, 1)


def _log_sum_exp(logits: Floats) -> Floats:
    """(R, V) -> (R, 1)."""
    largest = logits.max(1, keepdims=True)
    total: Floats = np.log(np.exp(logits - largest).sum(1, keepdims=True)) + largest
    return total


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Read an exported folder's manifest and check every file in it; raises ValueError where something is wrong."""
    place = Path(folder)
    try:
        manifest: dict[str, Any] = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        if manifest["kind"] != KIND or manifest["format"] > FORMAT:
            raise ValueError(f"{place}/{MANIFEST} is not of an export that this loader reads (format {FORMAT})")
        for name, expected in manifest["files"].items():
            if _sha256(place / name) != expected:
                raise ValueError(f"{place}/{name} is damaged (its SHA-256 differs): export the model again")
    except (OSError, KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{place} is not a whole export of hat-ray ({error!r}): export the model again") from error
    return manifest


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def open_graphs(folder: str | Path, manifest: Mapping[str, Any], threads: int = 1) -> Graphs:
    """Load the two graphs of an exported folder."""
    place = Path(folder)
    encoder, decoder = (str(place / manifest["graphs"][part]) for part in ("encoder", "decoder"))
    return Graphs(encoder, decoder, threads)


class Translator:
    """An exported model: lines of text in, lines of text out."""

    def __init__(self, folder: str | Path, threads: int = 1) -> None:
        self.manifest = read_manifest(folder)
        self.graphs = open_graphs(folder, self.manifest, threads)
        model = (Path(folder) / self.manifest["vocabulary"]).read_bytes()
        self.vocabulary = sentencepiece.SentencePieceProcessor(model_proto=model)

    def translate(self, lines: Sequence[str], **settings: float) -> list[str]:
        """Return the translation of every line, in order; `settings` replace the manifest's beam defaults.

        An empty line stays empty; a line longer than `max_source_length` tokens is cut.
        """
        best = self.translate_tokens(lines, **settings)
        return [" ".join(str(self.vocabulary.decode(tokens)).split("\n")).strip() for tokens in best]

    def translate_tokens(self, lines: Sequence[str], **settings: float) -> list[list[int]]:
        """Return the tokens of every line's translation, without its end of sentence; none for an empty line."""
        search = {**self.manifest["search"], **settings}
        pad, eos = self.manifest["special_tokens"]["pad"], self.manifest["special_tokens"]["eos"]
        longest = int(search["max_source_length"])
        sources = {
            row: [*self.vocabulary.encode(line)[: longest - 1], eos] for row, line in enumerate(lines) if line.strip()
        }
        translations: list[list[int]] = [[] for _ in lines]
        for rows in _batches(sources, int(search["batch_tokens"])):
            length = max(len(sources[row]) for row in rows)
            most = int(search["max_length_factor"] * length + search["max_length_extra"])
            source = np.array([[pad] * (length - len(sources[row])) + sources[row] for row in rows], np.int64)
            best = beam_search(
                self.graphs,
                source,
                beam=int(search["beam"]),
                length_penalty=search["length_penalty"],
                max_length=min(most, self.manifest["max_positions"] - 1),
                pad=pad,
                eos=eos,
            )
            for row, tokens in zip(rows, best, strict=True):
                translations[row] = tokens
        return translations


def _batches(sources: Mapping[int, Sequence[int]], batch_tokens: int) -> Iterator[list[int]]:
    """Group rows of like length, so that rows * longest stays within `batch_tokens` (one row at least)."""
    batch: list[int] = []
    for row in sorted(sources, key=lambda row: -len(sources[row])):
        if batch and (len(batch) + 1) * len(sources[batch[0]]) > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _chunks(lines: Iterable[str], size: int) -> Iterator[list[str]]:
    chunk: list[str] = []
    for line in lines:
        chunk.append(line.rstrip("\n"))
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def main() -> None:
    parser = argparse.ArgumentParser(description="Translate lines from stdin to stdout, in order.")
    parser.add_argument("--folder", default=Path(__file__).parent, type=Path, help="the exported model")
    parser.add_argument("--threads", default=1, type=int)
    parser.add_argument("--beam", default=None, type=int, help="hypotheses kept; default: the manifest's")
    parser.add_argument("--chunk", default=256, type=int, help="lines translated together")
    options = parser.parse_args()
    try:
        translator = Translator(options.folder, options.threads)
    except ValueError as error:
        sys.exit(f"translate.py: error: {error}")
    settings = {} if options.beam is None else {"beam": options.beam}
    for chunk in _chunks(sys.stdin, options.chunk):
        sys.stdout.write("".join(f"{line}\n" for line in translator.translate(chunk, **settings)))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
