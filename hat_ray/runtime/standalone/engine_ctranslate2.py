"""Translate with a model that hat-ray exported for CTranslate2. Needs ctranslate2 and sentencepiece, no hat-ray.

    python translate.py < source.txt > target.txt

    from translate import ExportedTranslator
    ExportedTranslator("folder").translate(["A dog runs."])

`model.bin`, `config.json` and the vocabulary beside them are CTranslate2's own: all its tools read this folder, with
the pieces of `vocabulary.model` and a final </s> as tokens of a sentence.
"""

import sys

if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False):
    del sys.path[0]  # the exported folder, or the current one: what lies there is data, and is not to be imported

import signal

if __name__ == "__main__":  # Ctrl-C, and a reader that ends early, end it at once and quietly, as they end any filter
    for signal_name in {"SIGINT", "SIGPIPE"} & set(dir(signal)):
        signal.signal(getattr(signal, signal_name), signal.SIG_DFL)

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import sentencepiece

try:
    import ctranslate2
except ModuleNotFoundError:  # told when a model is opened
    ctranslate2 = None

from hat_ray.runtime.standalone.lines import translate_stdin
from hat_ray.runtime.standalone.manifest import read_manifest  # in an export that file's own text stands here

KIND, FORMAT = "hat-ray export for CTranslate2", 2

_READ_BY_CTRANSLATE2 = (
    "model.bin",
    "config.json",
    "vmap.txt",
    *(f"{side}_vocabulary.{kind}" for side in ("shared", "source", "target") for kind in ("json", "txt")),
)


class ExportedTranslator:
    """An exported model: lines of text in, lines of text out."""

    def __init__(self, folder: str | Path, threads: int = 1) -> None:
        """Load it; 0 threads: CTranslate2's own choice."""
        place = Path(folder)
        self.manifest = read_manifest(place, KIND, FORMAT)
        if ctranslate2 is None:
            raise ValueError(f"{place} needs the library ctranslate2: pip install ctranslate2")
        for name in _READ_BY_CTRANSLATE2:
            if os.path.lexists(place / name) and name not in self.manifest["files"]:
                raise ValueError(f"{place / name} is no part of this export: delete it, or export again")
        try:
            model = (place / self.manifest["vocabulary"]).read_bytes()
            self.vocabulary = sentencepiece.SentencePieceProcessor(model_proto=model)
            kind = self.manifest["compute_type"]
            self.engine = ctranslate2.Translator(
                str(place), device="cpu", compute_type=kind, intra_threads=threads, inter_threads=1
            )
            end = self.vocabulary.piece_to_id(self.manifest["end"])
        except Exception as error:  # of both libraries: they have no type in common
            why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise ValueError(f"{place} cannot be run here ({why}): export again") from error
        if end != self.manifest["special_tokens"]["eos"]:
            raise ValueError(f"{place} has a vocabulary of another model: export again")

    def translate(self, lines: Sequence[str], **settings: float) -> list[str]:
        """Return the translation of every line, in order; `settings` replace the manifest's beam defaults.

        An empty line stays empty; a line longer than `max_source_length` tokens is cut.
        """
        best = self.translate_tokens(lines, **settings)
        return [" ".join(str(self.vocabulary.decode(tokens)).split("\n")).strip() for tokens in best]

    def translate_tokens(self, lines: Sequence[str], **settings: float) -> list[list[int]]:
        """Return the tokens of every line's translation, without its end of sentence; none for an empty line."""
        search = {**self.manifest["search"], **settings}
        longest = int(search["max_source_length"])
        sources = {
            row: self.pieces(self.vocabulary.encode(line)[: longest - 1])
            for row, line in enumerate(lines)
            if line.strip()
        }
        translations: list[list[int]] = [[] for _ in lines]
        for rows in _batches(sources, int(search["batch_tokens"])):
            length = max(len(sources[row]) for row in rows)
            most = int(search["max_length_factor"] * length + search["max_length_extra"])
            best = self._best([sources[row] for row in rows], search, min(most, self.manifest["max_positions"] - 1))
            for row, found in zip(rows, best, strict=True):
                translations[row] = [self.vocabulary.piece_to_id(piece) for piece in found.hypotheses[0]]
        return translations

    def _best(self, sources: Sequence[Sequence[str]], search: Mapping[str, Any], max_length: int) -> list[Any]:
        """Return CTranslate2's results; raises ValueError for what it cannot do."""
        try:
            found: list[Any] = self.engine.translate_batch(
                sources,
                beam_size=int(search["beam"]),
                length_penalty=search["length_penalty"],
                max_decoding_length=max_length,
                max_input_length=0,
            )
        except RuntimeError as error:
            why = " ".join(str(error).split())[:300]
            raise ValueError(
                f"CTranslate2 cannot translate with this export ({why}): export the model again"
            ) from error
        return found

    def log_probabilities(self, source: Sequence[int], target: Sequence[int]) -> list[float]:
        """Return the logarithm of the probability of each word of a translation, its end of sentence included."""
        words = [str(self.vocabulary.id_to_piece(token)) for token in target]
        [scored] = self.engine.score_batch([self.pieces(source)], [words])
        return [float(value) for value in scored.log_probs]

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """Return what CTranslate2 reads: a sentence's pieces and its end."""
        return [*(str(self.vocabulary.id_to_piece(token)) for token in tokens), self.manifest["end"]]


def _batches(sources: Mapping[int, Sequence[str]], batch_tokens: int) -> Iterator[list[int]]:
    """Group rows of like length, so that rows * longest stays within `batch_tokens` (one row at least)."""
    batch: list[int] = []
    for row in sorted(sources, key=lambda row: -len(sources[row])):
        if batch and (len(batch) + 1) * len(sources[batch[0]]) > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


if __name__ == "__main__":
    sys.exit(translate_stdin(ExportedTranslator, Path(__file__).parent))
