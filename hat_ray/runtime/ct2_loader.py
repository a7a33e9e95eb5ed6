"""Translate with a model that hat-ray exported for CTranslate2. Needs ctranslate2 and sentencepiece, no hat-ray.

    python translate.py < source.txt > target.txt

    from translate import Translator
    Translator("folder").translate(["A dog runs."])

`model.bin`, `config.json` and the vocabulary beside them are CTranslate2's own: all its tools read this folder, with
the pieces of `vocabulary.model` and a final </s> as tokens of a sentence.
"""

import sys

if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False):
    del sys.path[0]  # the exported folder, or the current one: what lies there is data, and is not to be imported

import argparse
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import sentencepiece

try:
    import ctranslate2
except ModuleNotFoundError:  # told when a model is opened
    ctranslate2 = None

KIND, FORMAT = "hat-ray export for CTranslate2", 1
MANIFEST = "manifest.json"


class Translator:
    """An exported model: lines of text in, lines of text out."""

    def __init__(self, folder: str | Path, threads: int = 1) -> None:
        """Load it; 0 threads: CTranslate2's own choice."""
        place = Path(folder)
        self.manifest = read_manifest(place)
        if ctranslate2 is None:
            raise ValueError(f"{place} needs the library ctranslate2: pip install ctranslate2")
        model = (place / self.manifest["vocabulary"]).read_bytes()
        self.vocabulary = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.engine = ctranslate2.Translator(
            str(place), device="cpu", compute_type=self.manifest["compute_type"], intra_threads=threads, inter_threads=1
        )

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
            best = self.engine.translate_batch(
                [sources[row] for row in rows],
                beam_size=int(search["beam"]),
                length_penalty=search["length_penalty"],
                max_decoding_length=min(most, self.manifest["max_positions"] - 1),
                max_input_length=0,
            )
            for row, found in zip(rows, best, strict=True):
                translations[row] = [self.vocabulary.piece_to_id(piece) for piece in found.hypotheses[0]]
        return translations

    def log_probabilities(self, source: Sequence[int], target: Sequence[int]) -> list[float]:
        """Return the logarithm of the probability of each word of a translation, its end of sentence included."""
        words = [str(self.vocabulary.id_to_piece(token)) for token in target]
        [scored] = self.engine.score_batch([self.pieces(source)], [words])
        return [float(value) for value in scored.log_probs]

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """Return what CTranslate2 reads: a sentence's pieces and its end."""
        return [*(str(self.vocabulary.id_to_piece(token)) for token in tokens), self.manifest["end"]]


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Read an exported folder's manifest and check every file in it; raises ValueError where something is wrong."""
    place = Path(folder)
    try:
        manifest: dict[str, Any] = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        if manifest["kind"] != KIND or manifest["format"] != FORMAT:
            raise ValueError(f"{place}/{MANIFEST} is not of an export that this loader reads (format {FORMAT})")
        for name, expected in manifest["files"].items():
            with (place / name).open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != expected:
                    raise ValueError(f"{place}/{name} is damaged (its SHA-256 differs): export the model again")
    except (OSError, KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{place} is not a whole export of hat-ray ({error!r}): export the model again") from error
    return manifest


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
