"""Learn a vocabulary from text: a SentencePiece model with HAT's special ids.

Decisions
- Byte-pair encoding, as HAT uses: on 2,000 lines it trains ten times faster than SentencePiece's unigram model and
  allows five times the vocabulary.
- One thread, no shuffling, text taken as it is (no Unicode folding): the same lines give the same bytes.
- Every character of the training lines is covered. What training never showed is spelled in bytes (`byte_fallback`, 256
  entries) or becomes UNK.
"""

import io
import re
from collections.abc import Iterable

import sentencepiece

from hat_ray.corpus.vocabulary.protocol import BOS, EOS, PAD, UNK
from hat_ray.corpus.vocabulary.sentence_piece import SentencePieceVocabulary
from hat_ray.errors import CorpusError

_SILENT = 2  # SentencePiece's log level: errors only
_TOO_LARGE = re.compile(r"set it to a value <= (\d+)")
_TOO_SMALL = re.compile(r"smaller than required_chars\. \d+ vs (\d+)")


def learn_vocabulary(lines: Iterable[str], size: int, *, byte_fallback: bool) -> SentencePieceVocabulary:
    """Learn a vocabulary of exactly `size` entries, the special ones included."""
    sink = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=sink,
            model_type="bpe",
            vocab_size=size,
            bos_id=BOS,
            pad_id=PAD,
            eos_id=EOS,
            unk_id=UNK,
            character_coverage=1.0,
            normalization_rule_name="identity",
            byte_fallback=byte_fallback,
            shuffle_input_sentence=False,
            num_threads=1,
            minloglevel=_SILENT,
        )
    except RuntimeError as error:
        raise CorpusError(_explain(str(error), size, byte_fallback)) from error
    return SentencePieceVocabulary(sink.getvalue())


def _explain(message: str, size: int, byte_fallback: bool) -> str:
    """Turn SentencePiece's complaint into rule, value and remedy."""
    if found := _TOO_LARGE.search(message):
        return f"a vocabulary of {size} is larger than this corpus allows: set corpus.vocab_size to {found[1]} or less"
    if found := _TOO_SMALL.search(message):
        why = " and the 256 bytes of corpus.byte_fallback" if byte_fallback else ""
        return (
            f"a vocabulary of {size} cannot hold every character of this corpus{why}: "
            f"set corpus.vocab_size to {found[1]} or more"
        )
    return f"SentencePiece could not learn a vocabulary of {size}: {message.splitlines()[0]}"
