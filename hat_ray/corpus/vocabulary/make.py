"""The vocabularies of a corpus: opened from files, or learned from its text."""

import logging
import time
from collections.abc import Iterable, Mapping

import numpy as np

from hat_ray.corpus.config import CorpusConfig
from hat_ray.corpus.fairseq.data_bin import DataBin
from hat_ray.corpus.fairseq.vocabularies import data_bin_vocabularies
from hat_ray.corpus.protection.masking import knows_symbols
from hat_ray.corpus.protection.spans import SYMBOLS
from hat_ray.corpus.text.download import vocabulary_folder
from hat_ray.corpus.text.survey import Survey, side_lines, vocabulary_lines
from hat_ray.corpus.tokens import SentenceStore, TokenTable
from hat_ray.corpus.vocabulary.files import Vocabularies
from hat_ray.corpus.vocabulary.given import given_vocabularies
from hat_ray.corpus.vocabulary.learn import learn_vocabulary
from hat_ray.corpus.vocabulary.protocol import Vocabulary
from hat_ray.corpus.vocabulary.subwords import UNK
from hat_ray.errors import CorpusError

MOST_UNKNOWN = 0.2
"""Share of unknown sub-words above which a vocabulary is of another language or another text."""

log = logging.getLogger(__name__)


def make_vocabularies(found: Survey, config: CorpusConfig, seed: int) -> Vocabularies:
    """Open the vocabularies that a recipe names, or learn them from the training text."""
    if config.vocabulary.source:
        opened = opened_vocabularies(config)
        if unknown := [tag for tag in config.tags if UNK in opened.source.encode(tag)]:
            raise CorpusError(
                f"a vocabulary must know each tag, but {unknown[0]!r} is unknown to {config.vocabulary.source}: take a "
                "tag that it has, or leave corpus.vocabulary.source out"
            )
        if config.protect and not knows_symbols(set(opened.source.pieces()), set(opened.target.pieces())):
            raise CorpusError(
                f"corpus.protect needs a vocabulary with the symbols {' '.join(SYMBOLS)}, but "
                f"{config.vocabulary.source} lacks some: leave protect out, or vocabulary.source"
            )
        return opened
    started = time.monotonic()
    most = config.vocab_sample_lines
    if config.vocabulary.shared:
        made = Vocabularies.of_both(_learned(vocabulary_lines(found, most, seed), config))
    else:
        sides = (_learned(side_lines(found, side, max(most // 2, 1), seed), config) for side in ("source", "target"))
        made = Vocabularies(*sides)
    log.debug("learned vocabularies of %d and %d in %.0f s", *made.sizes, time.monotonic() - started)
    return made


def has_own(config: CorpusConfig) -> bool:
    """Return whether vocabularies exist already: files that a recipe names, or a data-bin's dictionaries."""
    return config.source == "fairseq" or bool(config.vocabulary.source)


def opened_vocabularies(config: CorpusConfig) -> Vocabularies:
    """Open the vocabularies that exist already."""
    languages = config.source_language, config.target_language
    if config.source == "fairseq" and config.fairseq is not None:
        return data_bin_vocabularies(DataBin.open(config.fairseq.folder, *languages), config)
    return given_vocabularies(config.vocabulary, languages, vocabulary_folder(config))


def expected_vocabularies(config: CorpusConfig) -> tuple[int, int]:
    """Return the entries of the source's and the target's vocabulary before the corpus is prepared."""
    return opened_vocabularies(config).sizes if has_own(config) else (config.vocab_size, config.vocab_size)


def require_known(tables: Mapping[str, TokenTable], config: CorpusConfig) -> None:
    """Raise CorpusError where vocabularies that were given do not know the validation and test text."""
    if not config.vocabulary.source:
        return
    for side, place in (
        ("source", config.vocabulary.source),
        ("target", config.vocabulary.target or config.vocabulary.source),
    ):
        share = _unknown([getattr(table, side) for table in tables.values()])
        if share > MOST_UNKNOWN:
            raise CorpusError(
                f"a vocabulary must know the text, but {share:.0%} of the {side}'s sub-words are unknown to {place}: "
                f"name the vocabulary, codes and pieces of this language in corpus.vocabulary"
            )


def _learned(lines: Iterable[str], config: CorpusConfig) -> Vocabulary:
    how = config.vocabulary.model_copy(update={"symbols": config.symbols})
    return learn_vocabulary(lines, config.vocab_size, byte_fallback=config.spells_bytes, how=how)


def _unknown(sides: list[SentenceStore]) -> float:
    """Return the share of unknown sub-words, ends of sentences not counted."""
    tokens = [side.gather(np.arange(len(side))) for side in sides if len(side)]
    count = sum(len(one) for one in tokens) - sum(len(side) for side in sides)
    return sum(int((one == UNK).sum()) for one in tokens) / count if count else 0.0
