"""Floors: the scores that need no model at all. A model is worth something only above them.

- *copy*: the source itself as its translation (names, numbers and punctuation score).
- *nearest*: the translation of the training source that overlaps most with the sentence (a test set that resembles
  its training data scores). Overlap is the Jaccard index of lowercased words; ties go to the earlier pair. Scripts
  without spaces, such as Japanese, count pairs of neighbouring characters instead of words.
  Of several similarities tried on Multi30k this one gives the highest floor (9.6 BLEU; TF-IDF cosine 7-8, words in
  common 5.6): the strictest floor is the honest one.

Corpus scores with sacreBLEU: always with the signature that makes a figure repeatable.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from scipy import sparse

from hat_ray.evaluate.comet.metric import CometText
from hat_ray.evaluate.metrics import MetricScore, require_parallel, score_by
from hat_ray.evaluate.tokenizers import tokenizer_of

CELLS_AT_ONCE = 10_000_000  # (test, train) similarities held in memory: 40 MB of float32


@dataclass(frozen=True)
class Floors:
    """BLEU and chrF of the two translations that need no model."""

    copy_bleu: float
    copy_chrf: float | None
    nearest_bleu: float
    nearest_chrf: float | None
    train_pairs: int
    """Training pairs that were searched for the nearest source."""


def floors(
    sources: Sequence[str],
    references: Sequence[Sequence[str]],
    train_sources: Sequence[str],
    train_targets: Sequence[str],
    *,
    tokenizer: str = "13a",
    chrf: bool = True,
) -> Floors:
    """Score copying and nearest-source translation against `references` (see `score_text`)."""
    copy = score_text(sources, references, tokenizer=tokenizer, chrf=chrf)
    translations = [train_targets[row] for row in nearest_sources(sources, train_sources)]
    nearest = score_text(translations, references, tokenizer=tokenizer, chrf=chrf)
    return Floors(copy.bleu, copy.chrf, nearest.bleu, nearest.chrf, len(train_sources))


def nearest_sources(sources: Sequence[str], train_sources: Sequence[str]) -> NDArray[np.intp]:
    """Return for each source the row of the training source with the highest Jaccard index of `units`."""
    words: dict[str, int] = {}
    train_bags = [sorted({words.setdefault(w, len(words)) for w in units(line)}) for line in train_sources]
    bags = [set(units(line)) for line in sources]
    known = [sorted(words[w] for w in bag if w in words) for bag in bags]
    train, test = _indicator(train_bags, len(words)).T.tocsc(), _indicator(known, len(words))
    train_sizes = np.array([len(bag) for bag in train_bags], dtype=np.float32)
    sizes = np.array([len(bag) for bag in bags], dtype=np.float32)
    step = max(1, CELLS_AT_ONCE // max(1, len(train_sources)))
    best: list[NDArray[np.intp]] = []
    for start in range(0, len(sources), step):
        shared = (test[start : start + step] @ train).toarray()  # (test rows, train rows)
        union = sizes[start : start + step, None] + train_sizes[None] - shared
        best.append(np.argmax(shared / np.maximum(union, 1), axis=1))
    return np.concatenate(best) if best else np.zeros(0, dtype=np.intp)


_NO_SPACES = re.compile(
    r"([\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    r"\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f\U00020000-\U0003ffff]+)"
)
"""Runs of scripts that put no spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, kana, Han."""


def units(line: str) -> list[str]:
    """Return what overlaps are counted in: lowercased words, and of scripts without spaces pairs of characters.

    >>> units("Two dogs"), units("\u72ac\u304c\u8d70\u308b")
    (['two', 'dogs'], ['\u72ac\u304c', '\u304c\u8d70', '\u8d70\u308b'])
    """
    words = line.lower().split()
    if line.isascii():
        return words
    found = []
    for word in words:
        for index, part in enumerate(_NO_SPACES.split(word)):
            if index % 2 and len(part) > 1:
                found += [part[place : place + 2] for place in range(len(part) - 1)]
            elif part:
                found.append(part)
    return found


def _indicator(bags: Sequence[Sequence[int]], num_words: int) -> sparse.csr_matrix:
    """(rows, words): 1 where the row holds the word."""
    starts = np.cumsum([0, *map(len, bags)])
    columns = np.fromiter(chain.from_iterable(bags), dtype=np.int32, count=int(starts[-1]))
    return sparse.csr_matrix((np.ones(len(columns), np.float32), columns, starts), shape=(len(bags), num_words))


@dataclass(frozen=True)
class TextScore:
    """Scores of a list of hypotheses, 0 to 100, higher is better."""

    bleu: float
    bleu_signature: str
    chrf: float | None
    chrf_signature: str | None
    brevity_penalty: float
    """1 when the hypotheses are at least as long as the references; below 1 they are short and BLEU pays for it."""
    others: tuple[MetricScore, ...] = ()
    """Scores of further metrics that were asked for."""


def score_text(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenizer: str = "13a",
    chrf: bool = True,
    others: Sequence[str] = (),
    comet: CometText | None = None,
) -> TextScore:
    """Score hypotheses against one or several references: `references[k][i]` is the k-th reference of sentence i.

    `others` names further metrics of `metrics.py`; `comet` is what COMET reads, if it is one of them.
    """
    require_parallel(hypotheses, references)
    streams = [list(stream) for stream in references]
    bleu_metric, chrf_metric = BLEU(tokenize=tokenizer_of(tokenizer)), CHRF()
    bleu = bleu_metric.corpus_score(list(hypotheses), streams)
    chrf_score = chrf_metric.corpus_score(list(hypotheses), streams) if chrf else None
    return TextScore(
        bleu=float(bleu.score),
        bleu_signature=str(bleu_metric.get_signature()),
        chrf=float(chrf_score.score) if chrf_score else None,
        chrf_signature=str(chrf_metric.get_signature()) if chrf_score else None,
        brevity_penalty=float(bleu.bp),
        others=score_by(others, hypotheses, references, tokenizer, comet),
    )


def bleu_signature(tokenizer: str) -> str:
    """Return sacreBLEU's signature of scores with one reference and a tokenizer."""
    return score_text(["a"], [["a"]], tokenizer=tokenizer, chrf=False).bleu_signature
