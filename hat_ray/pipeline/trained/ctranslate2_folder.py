"""A plain CTranslate2 folder as a translator: `model.bin`, its vocabulary, and SentencePiece models beside it.

OPUS-MT models that `ct2-transformers-converter` wrote are such folders, once `source.spm` and `target.spm` lie in them.
"""

import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import sentencepiece

from hat_ray.corpus.vocabulary.subwords import is_blank
from hat_ray.errors import RunError, in_one_line
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.distil import Translate
from hat_ray.model.hypotheses.lines import cut_overlong, plan_batches
from hat_ray.runtime.standalone.engine_ctranslate2 import translate_within
from hat_ray.storage.copies import copied_here
from hat_ray.storage.folder import Folder
from hat_ray.storage.places import is_uri
from hat_ray.storage.plain_file import expanded, read_text

_MODEL, CONFIG = "model.bin", "config.json"
_SUBWORDS = (("source.spm", "target.spm"), ("sentencepiece.model",) * 2, ("vocabulary.model",) * 2)
_EOS, _MOST_BYTES = "</s>", 1 << 28


def is_ctranslate2_folder(place: str) -> bool:
    """Report whether a place is a folder that CTranslate2 reads."""
    if not (is_uri(place) or expanded(place).is_dir()):
        return False
    folder = Folder.at(place)
    return all(folder.exists(name) for name in (_MODEL, CONFIG))


def open_ctranslate2_folder(place: str, beam: int | None) -> Translate:
    """Return a translator of lines by a folder's model, on one core; raise RunError where something is missing."""
    try:
        ctranslate2 = import_module("ctranslate2")
    except ModuleNotFoundError as error:
        raise RunError(f"{place} needs CTranslate2: pip install 'hat-ray[ctranslate2]'") from error
    with copied_here(place) as folder:
        return _opened(ctranslate2, folder, beam)


def _opened(ctranslate2: Any, folder: Path, beam: int | None) -> Translate:
    source, target = _subwords(folder)
    try:
        settings = json.loads(read_text(folder / CONFIG, "CTranslate2's configuration", RunError))
        model = ctranslate2.Translator(str(folder), device="cpu", intra_threads=1, inter_threads=1)
    except (RuntimeError, ValueError, RecursionError) as error:
        why = in_one_line(error)
        raise RunError(f"{folder} cannot be opened by CTranslate2 ({why}): convert the model again") from error
    adds_eos = bool(isinstance(settings, dict) and settings.get("add_source_eos"))
    config = EvaluateConfig() if beam is None else EvaluateConfig(beam=beam)

    def translate(lines: Sequence[str], /, *, first: int = 1) -> list[str]:
        full = [row for row, line in enumerate(lines) if not is_blank(line)]
        encoded = {row: [*source.encode(lines[row], out_type=str), _EOS] for row in full}
        pieces = cut_overlong(encoded, config.max_source_length, first)
        translations = [""] * len(lines)
        for rows in plan_batches({row: len(words) for row, words in pieces.items()}, config.batch_tokens):
            found = translate_within(
                model,
                [pieces[row][:-1] if adds_eos else pieces[row] for row in rows],
                [int(config.max_length_factor * len(pieces[row]) + config.max_length_extra) for row in rows],
                beam_size=config.beam,
                max_input_length=0,
            )
            for row, best in zip(rows, found, strict=True):
                translations[row] = str(target.decode([piece for piece in best if piece != _EOS]))
        return translations

    return translate


def _subwords(folder: Path) -> list[sentencepiece.SentencePieceProcessor]:
    names = next((pair for pair in _SUBWORDS if all((folder / name).is_file() for name in pair)), None)
    if names is None:
        raise RunError(f"{folder} holds no sub-words: put source.spm and target.spm, SentencePiece models, into it")
    opened = []
    for name in names:
        path = folder / name
        if path.stat().st_size > _MOST_BYTES:
            raise RunError(f"{path} has more than {_MOST_BYTES} bytes: name a SentencePiece model")
        try:
            opened.append(sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes()))
        except RuntimeError as error:
            raise RunError(f"{path} is no SentencePiece model: put the model's own into its place") from error
    return opened
