"""Vocabularies as other programs leave them, made from a few sentences."""

import io
import json
from pathlib import Path

import pytest
import sentencepiece

learn_bpe = pytest.importorskip("subword_nmt.learn_bpe", reason="needs hat-ray[vocabularies]").learn_bpe

ENGLISH = [
    "The old man doesn't see a well-known dog .",
    "She reads & writes letters, every morning.",
    "A dog sees the man; the man sees a cat!",
    "Older men were seen reading well-written letters.",
] * 3
GERMAN = [
    "Der alte Mann sieht keinen wohlbekannten Hund .",
    "Sie liest & schreibt Briefe, jeden Morgen.",
    "Ein Hund sieht den Mann; der Mann sieht eine Katze!",
    "Ältere Männer wurden beim Lesen schöner Briefe gesehen.",
] * 3


def sentencepiece_model(lines: list[str], size: int, **settings: object) -> bytes:
    """Return a model with SentencePiece's usual ids: <unk> 0, <s> 1, </s> 2, no <pad>; settings change them."""
    sink = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=sink, vocab_size=size, model_type="bpe", minloglevel=2, **settings
    )
    return sink.getvalue()


def bpe_codes(lines: list[str], merges: int) -> str:
    """Return subword-nmt's codes."""
    sink = io.StringIO()
    learn_bpe(io.StringIO("\n".join(lines) + "\n"), sink, merges)
    return sink.getvalue()


def write_dictionary(path: Path, tokenised: list[str]) -> list[str]:
    """Write fairseq's dictionary of lines of symbols; return the symbols by id."""
    counts: dict[str, int] = {}
    for line in tokenised:
        for symbol in line.split():
            counts[symbol] = counts.get(symbol, 0) + 1
    ranked = sorted(counts, key=lambda symbol: (-counts[symbol], symbol))
    path.write_text("".join(f"{symbol} {counts[symbol]}\n" for symbol in ranked), encoding="utf-8")
    return ["<s>", "<pad>", "</s>", "<unk>", *ranked]


def write_marian_yml(path: Path, model: bytes) -> list[str]:
    """Write Marian's list of a model's pieces, as `marian-vocab` does; return the pieces by id."""
    opened = sentencepiece.SentencePieceProcessor(model_proto=model)
    own = [opened.id_to_piece(one) for one in range(opened.get_piece_size())]
    pieces = ["</s>", "<unk>", *(piece for piece in own if piece not in ("<s>", "</s>", "<unk>"))]
    path.write_text("".join(f"{json.dumps(piece)}: {number}\n" for number, piece in enumerate(pieces)))
    return pieces
