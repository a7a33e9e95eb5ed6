"""Vocabularies: text to token ids and back, whatever kind the sub-words are of.

The ids of special tokens are the same in every vocabulary (`protocol.py`); a foreign vocabulary is brought into that
order when it is loaded. `Vocabularies` holds those of the source and of the target, which may be one.
"""

from hat_ray.corpus.vocabulary.files import Vocabularies
from hat_ray.corpus.vocabulary.protocol import Vocabulary
from hat_ray.corpus.vocabulary.subwords import BOS, EOS, MISSING, PAD, SPECIAL_IDS, UNK

__all__ = ["BOS", "EOS", "MISSING", "PAD", "SPECIAL_IDS", "UNK", "Vocabularies", "Vocabulary"]
