"""The engine of an export for CTranslate2. Needs ctranslate2.

`model.bin`, `config.json` and the vocabulary beside them are CTranslate2's own: all its tools read this folder, with
the pieces of `vocabulary.model` and a final </s> as tokens of a sentence.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

try:
    import ctranslate2
except ModuleNotFoundError:  # named when a model is opened
    ctranslate2 = None

from hat_ray.runtime.standalone.translate import LineTranslator, one_line, translate_stdin

KIND, FORMAT = "hat-ray export for CTranslate2", 2

_READ_BY_CTRANSLATE2 = (
    "model.bin",
    "config.json",
    "vmap.txt",
    *(f"{side}_vocabulary.{kind}" for side in ("shared", "source", "target") for kind in ("json", "txt")),
)


class ExportedTranslator(LineTranslator):
    """An exported model on CTranslate2."""

    kind, version = KIND, FORMAT

    def _open(self, place: Path, threads: int) -> Any:
        if ctranslate2 is None:
            raise ValueError(f"{place} needs the library ctranslate2: pip install ctranslate2")
        for name in _READ_BY_CTRANSLATE2:
            if os.path.lexists(place / name) and name not in self.manifest["files"]:
                raise ValueError(f"{place / name} is no part of this export: delete it, or export again")
        kind = self.manifest["compute_type"]
        try:
            return ctranslate2.Translator(
                str(place), device="cpu", compute_type=kind, intra_threads=threads, inter_threads=1
            )
        except Exception as error:  # the library's have no type in common
            raise ValueError(f"{place} cannot be run here ({one_line(error)}): export again") from error

    def _decode(self, sources: list[list[int]], search: Mapping[str, Any], max_length: int) -> list[list[int]]:
        try:
            found = self.engine.translate_batch(
                [self._pieces(source) for source in sources],
                beam_size=int(search["beam"]),
                length_penalty=search["length_penalty"],
                max_decoding_length=max_length,
                max_input_length=0,
                disable_unk=not self.manifest.get("unknown_words", True),
            )
        except RuntimeError as error:
            raise ValueError(
                f"CTranslate2 cannot translate with this export ({one_line(error)}): export the model again"
            ) from error
        return [[self.vocabulary.piece_to_id(piece) for piece in one.hypotheses[0]] for one in found]

    def _pieces(self, tokens: Sequence[int]) -> list[str]:
        return [str(self.vocabulary.id_to_piece(token)) for token in tokens]


if __name__ == "__main__":
    sys.exit(translate_stdin(ExportedTranslator, Path(__file__).parent))
